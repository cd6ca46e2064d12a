//! `[demo]`: what visitors from the server's own machine, and nobody else, may do for trying it
//! out.

use super::{Auth, Listen, Method, Mistake};
use std::net::SocketAddr;

/// Checks what `[demo]` needs, and what needs `[demo]`.
pub(super) fn check(enabled: bool, listen: &Listen, auth: &Auth) -> Result<(), Mistake> {
    if enabled {
        return only_loopback(listen);
    }
    if auth.methods.contains(&Method::Query) {
        let accepted = "a list without \"query\", which lets anyone act as any user, unless \
                        demo.enabled = true";
        return Err(Mistake::new("auth.methods", "\"query\"", accepted));
    }
    Ok(())
}

fn only_loopback(listen: &Listen) -> Result<(), Mistake> {
    let public = listen.addresses.iter().map(|address| ("address", *address));
    let api = listen.api_address.map(|address| ("api-address", address));
    for (key, address) in public.chain(api) {
        if !address.ip().to_canonical().is_loopback() {
            let key = format!("listen.{key}");
            return Err(Mistake::new(&key, &format!("\"{address}\""), &way_in(address)));
        }
    }
    Ok(())
}

/// How to reach a demo from another machine.
fn way_in(address: SocketAddr) -> String {
    let port = if address.port() == 0 { 8080 } else { address.port() };
    format!(
        "an address of this machine only, such as \"127.0.0.1:{port}\", with demo.enabled = true, \
         which lets anyone act as any user; to reach it from another machine, run there: ssh -L \
         {port}:127.0.0.1:{port} HOST"
    )
}

#[cfg(test)]
mod tests {
    use crate::config::Sources;

    fn refused(toml: &str) -> String {
        Sources::default().parse(toml, false).expect_err(toml).only().to_string()
    }

    #[test]
    fn a_demonstration_listens_on_loopback_only_and_says_how_to_reach_it() {
        let demo = "demo.enabled = true\n";
        for (key, address, port) in [
            ("address", "0.0.0.0:8080", 8080),
            ("address", "[::]:9000", 9000),
            ("address", "192.168.1.2:0", 8080),
            ("address", "[::ffff:10.0.0.1]:80", 80),
            ("api-address", "10.0.0.1:81", 81),
        ] {
            let error = refused(&format!("{demo}listen.{key} = '{address}'"));
            let begin = format!("listen.{key} = \"{address}\": accepted: an address of this ");
            assert!(error.starts_with(&begin), "{error}");
            assert!(error.contains("demo.enabled = true"), "{error}");
            assert!(error.ends_with(&format!("ssh -L {port}:127.0.0.1:{port} HOST")), "{error}");
        }
        let flags = vec![("--listen", "listen.address", "0.0.0.0:8080".to_string())];
        let embedded = Sources { flags, ..Sources::default() };
        let error = embedded.load().expect_err("beyond loopback").to_string();
        assert!(error.starts_with("--listen = \"0.0.0.0:8080\": accepted: an address"), "{error}");
        for address in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            let toml = format!("{demo}listen.address = '{address}'");
            assert!(Sources::default().parse(&toml, false).is_ok(), "{address}");
        }
        assert!(Sources::default().parse("listen.address = '0.0.0.0:8080'", false).is_ok());
    }

    #[test]
    fn query_identity_asks_for_the_demonstration() {
        let error = refused("auth.methods = ['query']");
        assert!(error.starts_with("auth.methods = \"query\": accepted: a list without"), "{error}");
        assert!(error.ends_with("unless demo.enabled = true"), "{error}");
        assert!(refused("auth.methods = ['header', 'query']\ndemo.enabled = false").len() > 40);
        let config = Sources::default().parse("auth.methods = 'query'\ndemo.enabled = true", false);
        assert!(config.expect("good").demo.enabled);
        assert!(!Sources::default().parse("", false).expect("good").demo.enabled);
        assert!(refused("demo.on = true").contains("only the keys \"enabled\""));
    }

    #[test]
    fn a_demonstration_makes_up_the_secret_that_nobody_set_and_keeps_it() {
        let callback = "[[callback]]\npath = '/c'\nid = '/id'\ndestination = '/topic/c'\n";
        let demo = format!("demo.enabled = true\n{callback}");
        let secret = |sources: &Sources, toml: &str| {
            let config = sources.parse(toml, false)?;
            Ok::<_, crate::config::ConfigError>(config.callbacks[0].secrets.clone())
        };
        let mut sources = Sources::default();
        assert!(secret(&sources, callback).is_err());
        let (one, two) = (secret(&sources, &demo), secret(&sources, &demo));
        assert!(one.expect("made up") != two.expect("made up"), "each time another one");
        sources.made_up = Some("kept over reloads by serve".to_string());
        assert_eq!(secret(&sources, &demo), secret(&sources, &demo));
        // A secret that is named has to be set.
        let named = format!("{demo}secret-env = 'RINGPUSH_CALLBACK_SECRET'");
        let error = secret(&sources, &named).expect_err("it is not set").only();
        assert_eq!(error.key, "callback[0].secret-env");
    }
}
