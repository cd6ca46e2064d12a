//! What a reload changes: the loaded configuration, with everything that needs a restart left as it
//! runs.

use crate::config::{Config, ConfigError, Difference, Sources};

/// The configuration to run from now on, and what the loaded one sets differently. A difference
/// that is not `reloadable` is not in it: it waits for a restart. It is an error if the loaded
/// values are not good together with those that wait.
pub fn merge(
    running: &Config,
    loaded: Config,
    sources: &Sources,
) -> Result<(Config, Vec<Difference>), ConfigError> {
    let differences = running.differences(&loaded);
    let mut merged = loaded;
    merged.keep(running);
    if differences.iter().any(|difference| !difference.reloadable) {
        sources.check(&merged)?;
    }
    Ok((merged, differences))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str) -> Config {
        Sources::default().parse(toml, false).expect("the test's TOML is good")
    }

    fn merge(running: &Config, loaded: Config) -> Result<(Config, Vec<Difference>), ConfigError> {
        super::merge(running, loaded, &Sources::default())
    }

    #[test]
    fn what_can_change_does_and_the_rest_stays_and_is_named() {
        let running = load(
            "listen.address = '127.0.0.1:1'\nengine.shards = 2\n\
             limits.send-buffer = 1000000\nlimits.segment-bytes = 10000000\n\
             [[endpoint]]\npath = '/a'\nprotocol = 'stomp'\n[[endpoint]]\npath = '/gone'",
        );
        let loaded = load(
            "listen.address = '127.0.0.1:2'\nengine.shards = 4\nbroker.separator = '.'\n\
             engine.spin = '50us'\nengine.batch-window = '2ms'\n\
             limits.send-buffer = 2000000\nlimits.segment-bytes = 20000000\n\
             limits.send-time = '3s'\nhooks.queue = 5\n\
             [[endpoint]]\npath = '/new'\n[[endpoint]]\npath = '/a'\nprotocol = 'stomp'\n\
             allowed-origins = '*'\n\
             [[allow]]\naction = 'send'\ndestination = '/topic/**'\nusers = '*'",
        );
        let (merged, differences) = merge(&running, loaded.clone()).expect("good together");
        let waiting: Vec<&str> = differences
            .iter()
            .filter(|found| !found.reloadable)
            .map(|found| found.key.as_str())
            .collect();
        for key in ["listen.address", "engine.shards", "broker.separator", "limits.segment-bytes"] {
            assert!(waiting.contains(&key), "{key} in {waiting:?}");
        }
        // What is left to be different is exactly what waits.
        let left: Vec<_> = merged.differences(&loaded).into_iter().map(|found| found.key).collect();
        assert_eq!(left, waiting);
        assert_eq!((merged.limits.send_buffer, merged.hooks.queue), (2_000_000, 5));
        assert_eq!((merged.engine.shards, merged.engine.spin), (2, loaded.engine.spin));
        assert_eq!(merged.engine.batch_window, loaded.engine.batch_window);
        assert_eq!(merged.allow, loaded.allow);
        assert_eq!(merged.endpoints[0].allowed_origins, ["*"]);
        assert_eq!(merged.endpoints[1].path, "/gone");
        assert_eq!(merged.limits.segment_bytes, 10_000_000);
    }

    #[test]
    fn a_demonstration_neither_begins_nor_ends_by_a_reload() {
        let (plain, demo) = (load(""), load("demo.enabled = true"));
        for (running, loaded) in [(&plain, &demo), (&demo, &plain)] {
            let (merged, differences) = merge(running, loaded.clone()).expect("good together");
            assert_eq!((merged.demo, &merged.listen), (running.demo, &running.listen));
            let found = differences.iter().find(|found| found.key == "demo.enabled");
            assert!(!found.expect("it differs").reloadable);
        }
    }

    // What runs, what is loaded, and the key that is bad where the former keeps what needs a
    // restart.
    const BAD_TOGETHER: &[[&str; 3]] = &[
        [
            "limits.mailbox = 2",
            "[[application]]\ndestination = '/a'\nreply = 'x'\n\
             to = ['/topic/1', '/topic/2', '/topic/3']",
            "limits.mailbox",
        ],
        ["", "limits = { send-bytes = 1000, send-buffer = 1000 }", "limits.send-buffer"],
        ["", "broker.prefixes = ['/news']\npresence.topic = '/news/online'", "presence.topic"],
        [
            "",
            "broker.user-prefix = '/me'\n[[slow]]\ndestination = '/me/queue/a'\npolicy = 'close'",
            "slow[0].destination",
        ],
        ["", "demo.enabled = true\nauth.methods = 'query'", "auth.methods"],
        [
            "[[endpoint]]\npath = '/a'",
            "demo.enabled = true\n[[callback]]\npath = '/a'\ndestination = '/topic/a'",
            "callback[0].secret-env",
        ],
        [
            "demo.enabled = true\n[[endpoint]]\npath = '/a'",
            "demo.enabled = true\n[[callback]]\npath = '/a'\ndestination = '/topic/a'",
            "callback[0].path",
        ],
    ];

    #[test]
    fn what_is_bad_together_with_what_needs_a_restart_is_refused() {
        for [running, loaded, key] in BAD_TOGETHER {
            let error = merge(&load(running), load(loaded)).expect_err(loaded);
            assert_eq!(error.mistakes[0].key, *key, "{error}");
        }
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let running = load("[[endpoint]]\npath = '/a'");
        let (merged, differences) = merge(&running, running.clone()).expect("good together");
        assert_eq!((merged, differences), (running, vec![]));
    }
}
