//! The kinds of keys that name secrets, which are read from the environment or a file.

use super::Mistake;
use super::context::Context;
use super::kind::{Key, Kind, by_hand, list, listed};
use super::reader::{Section, quoted};
use super::secret::{Secret, Secrets, Source};
use super::settings::{Change, Lines};
use super::syntax::is_token;
use crate::limits::{SECRET_MAX, SECRET_MIN};

/// The secrets that `{stem}-env` or `{stem}-file` name, at most `most` of them (several while
/// one replaces another). Without either key, the secret in the variable `default`, if it is
/// set.
fn find(
    secrets: &Secrets<'_>,
    section: &mut Section,
    [stem, default]: [&str; 2],
    most: usize,
) -> Result<Vec<Secret>, Mistake> {
    let context = &mut Context::default();
    let (env_key, file_key) = (format!("{stem}-env"), format!("{stem}-file"));
    let names = names().optional(section, &env_key, context);
    let files = files().optional(section, &file_key, context);
    let (names, files) = (names?, files?);
    for (key, list) in [(&env_key, &names), (&file_key, &files)] {
        if list.as_ref().is_some_and(|list| list.is_empty() || list.len() > most) {
            let accepted = match most {
                1 => "one name".to_string(),
                _ => format!("one name, or a list of 1 to {most}"),
            };
            return Err(section.error(key, "a list", &accepted));
        }
    }
    match (names, files) {
        (Some(names), Some(_)) => {
            let accepted = format!("one of {env_key} and {file_key}, not both");
            Err(section.error(&env_key, &quoted(&names[0]), &accepted))
        }
        (Some(names), None) => {
            names.iter().map(|name| named(secrets, section, &env_key, name)).collect()
        }
        (None, Some(files)) => files.iter().map(|file| of_file(section, &file_key, file)).collect(),
        (None, None) => match secrets.variable(default) {
            Some(secret) => Ok(vec![long_enough(section, &env_key, default, secret)?]),
            None => Ok(secrets.made_up(default).into_iter().collect()),
        },
    }
}

fn named(
    secrets: &Secrets<'_>,
    section: &Section,
    key: &str,
    name: &str,
) -> Result<Secret, Mistake> {
    let accepted =
        format!("a variable that is set; {name} is not, or it is empty, in the environment");
    let secret = secrets.variable(name);
    let secret = secret.ok_or_else(|| section.error(key, &quoted(name), &accepted))?;
    long_enough(section, key, name, secret)
}

/// Refuses a secret that is too short. The error shows where it is from, not what it is.
fn long_enough(
    section: &Section,
    key: &str,
    source: &str,
    secret: Secret,
) -> Result<Secret, Mistake> {
    if secret.expose().len() >= SECRET_MIN {
        return Ok(secret);
    }
    let accepted =
        format!("a secret of at least {SECRET_MIN} bytes; the one of {source} is shorter");
    Err(section.error(key, &quoted(source), &accepted))
}

fn of_file(section: &Section, key: &str, file: &str) -> Result<Secret, Mistake> {
    let secret = Secret::of_file(file).map_err(|why| {
        let accepted = format!("a readable file of at most {SECRET_MAX} bytes ({why})");
        section.error(key, &quoted(file), &accepted)
    })?;
    long_enough(section, key, file, secret)
}

fn names() -> Kind<Vec<String>> {
    list("the name of an environment variable", |text| is_token(text).then(|| text.to_string()))
}

fn files() -> Kind<Vec<String>> {
    list("the name of a file", |text| (!text.is_empty()).then(|| text.to_string()))
}

/// Secrets as [`find`] finds them: at least one, at most `most`.
pub(super) fn secrets(stem: &'static str, default: &'static str, most: usize) -> Kind<Vec<Secret>> {
    let accepted = move |_: &Context<'_>| {
        format!("the name of a variable that is set, or {stem}-file; {default} is not set either")
    };
    let read = move |section: &mut Section, _: &str, context: &mut Context<'_>| {
        let found = find(&context.secrets, section, [stem, default], most)?;
        Ok(Some(found).filter(|list| !list.is_empty()))
    };
    let several = if most == 1 { "" } else { ", or a list of such while one replaces another" };
    let key = |way: &str, accepted: &str, default: String, doc| Key {
        name: format!("{stem}-{way}"),
        accepted: format!("{accepted}{several}"),
        default,
        change: Change::Reload,
        doc,
    };
    let named = key("env", "the name of an environment variable", quoted(default), "");
    let file = "the same from a file, which SIGHUP reads again; line breaks at its end are ignored";
    let file = key("file", "the name of a file", "–".to_string(), file);
    by_hand(accepted, read, move |list, _, to| show(list, stem, to), vec![named, file])
}

/// One secret.
pub(super) fn one_secret(stem: &'static str, default: &'static str) -> Kind<Secret> {
    secrets(stem, default, 1).map(|mut list| list.swap_remove(0), |one| vec![one.clone()])
}

/// Shows secrets by the names of their variables or files, which can be read again. Only a
/// comparison that nobody sees has the bytes. A secret that was made up has no name.
fn show(list: &[Secret], stem: &'static str, to: &mut Lines) {
    if to.spelled_out() {
        let exposed: Vec<&[u8]> = list.iter().map(Secret::expose).collect();
        return to.raw(stem, format!("{exposed:?}"));
    }
    let of = |name: fn(&Source) -> Option<&String>| -> Vec<&String> {
        list.iter().filter_map(|secret| name(secret.source())).collect()
    };
    let variables = of(|source| match source {
        Source::Variable(name) => Some(name),
        Source::File(_) | Source::MadeUp => None,
    });
    let files = of(|source| match source {
        Source::File(name) => Some(name),
        Source::Variable(_) | Source::MadeUp => None,
    });
    for (key, names) in [(format!("{stem}-env"), variables), (format!("{stem}-file"), files)] {
        match names.as_slice() {
            [] => {}
            [one] => to.raw(&key, quoted(one)),
            _ => to.raw(&key, listed(&names)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As short as it may be.
    const GOOD: &str = "sixteen bytes -1";

    fn several(
        secrets: Secrets<'_>,
        table: toml::Table,
        most: usize,
    ) -> Result<Vec<Secret>, Mistake> {
        super::find(&secrets, &mut Section::new("x", table), ["secret", "B"], most)
    }

    fn find(toml: &str) -> Result<Option<Secret>, Mistake> {
        let environment = [("A", GOOD), ("E", ""), ("S", &GOOD[1..])];
        let environment = environment.map(|(name, value)| (name.to_string(), value.to_string()));
        let table = toml.parse().expect("the test's TOML is good");
        let mut found = several(Secrets::new(&environment, None), table, 1)?;
        Ok(found.pop())
    }

    #[test]
    fn a_named_secret_must_be_set() {
        assert_eq!(find("secret-env = 'A'"), Ok(Some(Secret::new(GOOD))));
        assert_eq!(find(""), Ok(None));
        for name in ["B", "E"] {
            let error = find(&format!("secret-env = '{name}'")).expect_err("not set");
            assert_eq!(
                (error.key.clone(), error.value.clone()),
                ("x.secret-env".to_string(), format!("\"{name}\""))
            );
            assert!(error.accepted.contains("a variable that is set"), "{error}");
        }
        let error = find("secret-env = 'A'\nsecret-file = 'f'").expect_err("both");
        assert_eq!(error.accepted, "one of secret-env and secret-file, not both");
        let error = find("secret-file = '/nowhere/at/all'").expect_err("no such file");
        assert_eq!(error.key, "x.secret-file");
    }

    #[test]
    fn a_short_secret_is_refused_by_name_and_not_shown() {
        let error = find("secret-env = 'S'").expect_err("15 bytes");
        let expected = "x.secret-env = \"S\": accepted: a secret of at least 16 bytes; the one \
                        of S is shorter";
        assert_eq!(error.to_string(), expected);
        let file = std::env::temp_dir().join(format!("ringpush-secret-{}", std::process::id()));
        std::fs::write(&file, format!("{}\n\n", &GOOD[1..])).expect("writable");
        let error = find(&format!("secret-file = '{}'", file.display())).expect_err("15 bytes");
        assert!(error.key == "x.secret-file" && error.accepted.contains("16 bytes"), "{error}");
        std::fs::remove_file(file).expect("it is ours");
        // Also one that no key names.
        let environment = [("B".to_string(), "short".to_string())];
        let error = several(Secrets::new(&environment, None), toml::Table::new(), 1);
        let error = error.expect_err("5 bytes");
        assert_eq!((error.key.as_str(), error.value.as_str()), ("x.secret-env", "\"B\""));
    }

    #[test]
    fn several_secrets_stand_side_by_side_where_a_list_may() {
        let find = |toml: &str, most| {
            let environment = [("A".to_string(), GOOD.to_string()), ("O".into(), GOOD.repeat(2))];
            let table = toml.parse().expect("good TOML");
            several(Secrets::new(&environment, None), table, most)
        };
        let both = vec![Secret::new(GOOD), Secret::new(GOOD.repeat(2))];
        assert_eq!(find("secret-env = ['A', 'O']", 2), Ok(both));
        assert_eq!(find("secret-env = 'A'", 2), Ok(vec![Secret::new(GOOD)]));
        for (toml, most) in [("['A', 'O']", 1), ("[]", 2), ("['A', 'N']", 2), ("['A', 1]", 2)] {
            assert!(find(&format!("secret-env = {toml}"), most).is_err(), "{toml}");
        }
    }
}
