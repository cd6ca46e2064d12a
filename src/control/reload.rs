//! What a reload changes: the loaded configuration, with everything that needs a restart left as it
//! runs. Pure.

use crate::config::{Config, Difference};

/// The configuration to run from now on, and what the loaded one sets differently. A difference
/// that is not `reloadable` is not in it: it waits for a restart.
pub fn merge(running: &Config, loaded: Config) -> (Config, Vec<Difference>) {
    let differences = running.differences(&loaded);
    let mut merged = loaded;
    merged.keep(running);
    (merged, differences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn load(toml: &str) -> Config {
        Sources::default().parse(toml, false).expect("the test's TOML is good")
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
        let (merged, differences) = merge(&running, loaded.clone());
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
        let (plain, demo) = (load(""), load("demo.enabled = true\nauth.methods = 'query'"));
        for (running, loaded) in [(&plain, &demo), (&demo, &plain)] {
            let (merged, differences) = merge(running, loaded.clone());
            assert_eq!((merged.demo, &merged.listen), (running.demo, &running.listen));
            let found = differences.iter().find(|found| found.key == "demo.enabled");
            assert!(!found.expect("it differs").reloadable);
        }
    }

    #[test]
    fn the_same_again_changes_nothing() {
        let running = load("[[endpoint]]\npath = '/a'");
        let (merged, differences) = merge(&running, running.clone());
        assert_eq!((merged, differences), (running, vec![]));
    }
}
