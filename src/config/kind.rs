//! The kinds of values that keys have: how each is read, the error's text, and how it is shown.

use super::Mistake;
use super::context::Context;
use super::reader::{Section, list_of, quoted, show};
use super::settings::{Change, Lines};
use crate::time::{Micros, Millis};
use std::fmt::Display;
use std::time::Duration;
use toml::Value;

type Accepted = Box<dyn Fn(&Context<'_>) -> String>;
type Read<T> = Box<dyn Fn(&mut Section, &str, &mut Context<'_>) -> Result<Option<T>, Mistake>>;
type Show<T> = Box<dyn Fn(&T, &str, &mut Lines)>;

/// A key's values: from TOML and back.
pub(super) struct Kind<T> {
    accepted: Accepted,
    read: Read<T>,
    show: Show<T>,
    /// Where there is more than the key itself: the keys that stand below it or instead of it.
    keys: Keys,
}

/// What the reference says of a key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// Its name in the section.
    pub(super) name: String,
    /// Its values.
    pub(super) accepted: String,
    /// Its default as TOML, or that there is none.
    pub(super) default: String,
    /// When a change takes effect.
    pub(super) change: Change,
    /// What it is for.
    pub(super) doc: &'static str,
}

/// The keys of a kind.
enum Keys {
    Itself,
    Instead(Vec<Key>),
    Below(Vec<Key>),
    ItselfAndBelow(Vec<Key>),
}

impl<T> Kind<T> {
    /// Reads the key. If it is not written its default applies; without a default it is required.
    pub(super) fn read(
        &self,
        section: &mut Section,
        key: &str,
        default: Option<T>,
        context: &mut Context<'_>,
    ) -> Result<T, Mistake> {
        if let Some(found) = (self.read)(section, key, context)? {
            return Ok(found);
        }
        let first = match &self.keys {
            Keys::Instead(keys) => keys.first().map_or(key, |one| &one.name),
            _ => key,
        };
        default.ok_or_else(|| section.error(first, "nothing", &(self.accepted)(context)))
    }

    /// Reads the key, if it is written.
    pub(super) fn optional(
        &self,
        section: &mut Section,
        key: &str,
        context: &mut Context<'_>,
    ) -> Result<Option<T>, Mistake> {
        (self.read)(section, key, context)
    }

    /// The same kind, with its value converted by `there` and back.
    pub(super) fn map<U: 'static>(self, there: fn(T) -> U, back: fn(&U) -> T) -> Kind<U>
    where
        T: 'static,
    {
        let Kind { accepted, read, show, keys } = self;
        Kind {
            accepted,
            read: Box::new(
                move |section, key, context| Ok(read(section, key, context)?.map(there)),
            ),
            show: Box::new(move |value, key, to| show(&back(value), key, to)),
            keys,
        }
    }

    /// Shows a value as it can be read again.
    pub(super) fn show(&self, value: &T, key: &str, to: &mut Lines) {
        (self.show)(value, key, to)
    }

    /// What applies if it is not written and that follows from what was read before.
    pub(super) fn otherwise(self, holds: fn(&Context<'_>) -> Option<T>) -> Kind<T>
    where
        T: 'static,
    {
        let Kind { accepted, read, show, keys } = self;
        let read: Read<T> = Box::new(move |section, key, context| {
            Ok(read(section, key, context)?.or_else(|| holds(context)))
        });
        Kind { accepted, read, show, keys }
    }

    /// What the reference says.
    pub(super) fn keys(
        &self,
        key: &str,
        default: Option<&T>,
        change: Change,
        doc: &'static str,
    ) -> Vec<Key> {
        let mut lines = Lines::shown();
        if let Some(default) = default {
            self.show(default, key, &mut lines);
        }
        let shown = |name: &str| match (default, lines.value(name)) {
            (None, _) => "required".to_string(),
            (Some(_), Some(value)) => value,
            (Some(_), None) => "–".to_string(),
        };
        let accepted = (self.accepted)(&Context::default());
        let own = Key { name: key.to_string(), accepted, default: shown(key), change, doc };
        let below = |keys: &[Key]| -> Vec<Key> {
            let named = |one: &Key| Key { name: format!("{key}.{}", one.name), ..one.clone() };
            keys.iter().map(named).collect()
        };
        match &self.keys {
            Keys::Itself => vec![own],
            Keys::Instead(keys) => {
                let of = |one: &Key| Key {
                    default: lines.value(&one.name).unwrap_or_else(|| match one.default.as_str() {
                        "" => shown(&one.name),
                        of_its_own => of_its_own.to_string(),
                    }),
                    change,
                    doc: if one.doc.is_empty() { doc } else { one.doc },
                    ..one.clone()
                };
                keys.iter().map(of).collect()
            }
            Keys::Below(keys) => below(keys),
            Keys::ItselfAndBelow(keys) => {
                let on = |inside: &str| lines.value(&format!("{key}.{inside}")).is_some();
                let default = match keys.iter().any(|one| on(&one.name)) {
                    true => "true".to_string(),
                    false => own.default.clone(),
                };
                [vec![Key { default, ..own }], below(keys)].concat()
            }
        }
    }
}

/// A value that `parse` converts.
pub(super) fn value<T: 'static>(
    accepted: impl Fn(&Context<'_>) -> String + Clone + 'static,
    parse: impl Fn(&Value, &Context<'_>) -> Option<T> + 'static,
    written: impl Fn(&T) -> String + 'static,
) -> Kind<T> {
    let said = accepted.clone();
    Kind {
        accepted: Box::new(accepted),
        read: Box::new(move |section, key, context| {
            let Some(written) = section.take(key)? else { return Ok(None) };
            match parse(&written, context) {
                Some(found) => Ok(Some(found)),
                None => Err(section.error(key, &show(&written), &said(context))),
            }
        }),
        show: Box::new(move |value, key, to| to.raw(key, written(value))),
        keys: Keys::Itself,
    }
}

/// A text that does not depend on what was read before.
pub(super) fn always(text: &str) -> impl Fn(&Context<'_>) -> String + Clone + use<> {
    let text = text.to_string();
    move |_: &Context<'_>| text.clone()
}

/// A text that is parsed with regard to what was read before.
pub(super) fn parsed_in<T: Display + 'static>(
    accepted: impl Fn(&Context<'_>) -> String + Clone + 'static,
    parse: impl Fn(&str, &Context<'_>) -> Option<T> + 'static,
) -> Kind<T> {
    let parse = move |value: &Value, context: &Context<'_>| parse(value.as_str()?, context);
    value(accepted, parse, |one| quoted(&one.to_string()))
}

/// A text that is parsed.
pub(super) fn parsed<T: Display + 'static>(
    accepted: &str,
    parse: impl Fn(&str) -> Option<T> + 'static,
) -> Kind<T> {
    parsed_in(always(accepted), move |text, _| parse(text))
}

/// A text that `good` accepts.
pub(super) fn text(accepted: &str, good: impl Fn(&str) -> bool + 'static) -> Kind<String> {
    parsed(accepted, move |text| good(text).then(|| text.to_string()))
}

/// A list (a single value is accepted). An error shows the item that is not accepted.
pub(super) fn list_in<T: Display + 'static>(
    accepted: impl Fn(&Context<'_>) -> String + Clone + 'static,
    parse: impl Fn(&str, &Context<'_>) -> Option<T> + 'static,
) -> Kind<Vec<T>> {
    let said = accepted.clone();
    Kind {
        accepted: Box::new(accepted),
        read: Box::new(move |section, key, context| {
            let items = match section.take(key)? {
                None => return Ok(None),
                Some(Value::Array(list)) => list,
                Some(one) => vec![one],
            };
            let one = |item: &Value| {
                let found = item.as_str().and_then(|text| parse(text, context));
                found.ok_or_else(|| section.error(key, &show(item), &said(context)))
            };
            items.iter().map(one).collect::<Result<_, _>>().map(Some)
        }),
        show: Box::new(|list, key, to| to.raw(key, listed(list))),
        keys: Keys::Itself,
    }
}

/// The same, regardless of what was read before.
pub(super) fn list<T: Display + 'static>(
    accepted: &str,
    parse: impl Fn(&str) -> Option<T> + 'static,
) -> Kind<Vec<T>> {
    list_in(always(accepted), move |text, _| parse(text))
}

/// A list in TOML.
pub(super) fn listed(list: &[impl Display]) -> String {
    let items: Vec<String> = list.iter().map(|one| quoted(&one.to_string())).collect();
    format!("[{}]", items.join(", "))
}

/// One of a few words.
pub(super) fn word<T: Copy + PartialEq + 'static>(words: &'static [(&str, T)]) -> Kind<T> {
    let parse = |value: &Value, _: &Context<'_>| {
        let text = value.as_str()?;
        words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning)
    };
    value(always(&list_of(&all(words))), parse, |meaning| quoted(word_of(words, *meaning)))
}

/// A list of such words (a single one is accepted). An error shows the item that is not accepted.
pub(super) fn words<T: Copy + PartialEq + 'static>(words: &'static [(&str, T)]) -> Kind<Vec<T>> {
    let known = |text: &str| words.iter().find(|(word, _)| *word == text).map(|(word, _)| *word);
    let Kind { accepted, read, .. } = list(&format!("a list of {}", list_of(&all(words))), known);
    let meaning = |word: &str| words.iter().find(|(one, _)| *one == word).map(|(_, one)| *one);
    Kind {
        accepted,
        read: Box::new(move |section, key, context| {
            let found = read(section, key, context)?;
            Ok(found.map(|list| list.into_iter().filter_map(meaning).collect()))
        }),
        show: Box::new(|list, key, to| {
            let list: Vec<&str> = list.iter().map(|one| word_of(words, *one)).collect();
            to.raw(key, listed(&list));
        }),
        keys: Keys::Itself,
    }
}

fn all<'a, T>(words: &[(&'a str, T)]) -> Vec<&'a str> {
    words.iter().map(|(word, _)| *word).collect()
}

/// The word for a meaning.
pub(super) fn word_of<T: PartialEq>(words: &[(&'static str, T)], meaning: T) -> &'static str {
    words.iter().find(|(_, one)| *one == meaning).map_or("", |(word, _)| word)
}

/// `true` or `false`.
pub(super) fn flag() -> Kind<bool> {
    value(always("true or false"), |value, _| value.as_bool(), bool::to_string)
}

/// A whole number from `least` to `most`.
pub(super) fn number<T: TryFrom<u32> + Display + 'static>(least: u32, most: u32) -> Kind<T> {
    let parse = move |value: &Value, _: &Context<'_>| {
        let number = u32::try_from(value.as_integer()?).ok()?;
        (least..=most).contains(&number).then_some(())?;
        T::try_from(number).ok()
    };
    value(always(&format!("a whole number from {least} to {most}")), parse, |one: &T| {
        one.to_string()
    })
}

/// A duration, up to 49 days.
pub(super) fn span() -> Kind<Millis> {
    parsed("a duration with its unit, such as \"10s\", \"500ms\" or \"10m\"", millis)
}

/// A duration above zero.
pub(super) fn period() -> Kind<Millis> {
    let accepted = "a duration above zero, such as \"10s\"";
    parsed(accepted, |text| millis(text).filter(|span| span.0 > 0))
}

/// A duration in microseconds, from zero to `most`.
pub(super) fn short_span(most: Micros) -> Kind<Micros> {
    let accepted = format!("a duration from \"0us\" to \"{most}\", such as \"50us\" or \"20ms\"");
    parsed(&accepted, move |text| {
        let span: Duration = humantime::parse_duration(text).ok()?;
        let micros = Micros(u32::try_from(span.as_micros()).ok()?);
        let fits = micros <= most && (micros.0 > 0 || span.is_zero());
        fits.then_some(micros)
    })
}

/// Two durations.
pub(super) fn spans() -> Kind<[Millis; 2]> {
    let accepted = "two durations, [send, receive], such as [\"10s\", \"10s\"]";
    let parse = |value: &Value, _: &Context<'_>| match value.as_array()?.as_slice() {
        [send, receive] => Some([millis(send.as_str()?)?, millis(receive.as_str()?)?]),
        _ => None,
    };
    value(always(accepted), parse, |spans| listed(spans))
}

/// An optional value.
pub(super) fn maybe<T: 'static>(kind: Kind<T>) -> Kind<Option<T>> {
    let Kind { accepted, read, show, keys } = kind;
    Kind {
        accepted,
        read: Box::new(move |section, key, context| Ok(read(section, key, context)?.map(Some))),
        show: Box::new(move |value, key, to| {
            if let Some(value) = value {
                show(value, key, to);
            }
        }),
        keys,
    }
}

/// A section, or a table in one.
pub(super) trait Table: Sized {
    /// Reads all of it. Of several mistakes the last is returned, the others are noted.
    fn read(section: Section, context: &mut Context<'_>) -> Result<Self, Mistake>;
    /// Shows each key as it can be read again.
    fn show(&self, to: &mut Lines);
    /// Restores what only a restart changes.
    fn keep(&mut self, running: &Self);
    /// What the reference says.
    fn keys() -> Vec<Key>;
}

/// An optional table with keys of its own.
pub(super) fn table<T: Table + 'static>(accepted: &'static str) -> Kind<Option<T>> {
    Kind {
        accepted: Box::new(always(accepted)),
        read: Box::new(move |section, key, context| match section.take(key)? {
            None => Ok(None),
            Some(Value::Table(table)) => {
                let inside = Section::new(&section.name(key), table);
                T::read(inside, context).map(|found| Some(Some(found)))
            }
            Some(other) => Err(section.error(key, &show(&other), accepted)),
        }),
        show: Box::new(|value, key, to| {
            if let Some(value) = value {
                to.below(key, |to| value.show(to));
            }
        }),
        keys: Keys::Below(T::keys()),
    }
}

/// A table whose key `needs.0` may also be set elsewhere: the table exists if it `has` that key's
/// value. A table that is written must have it; `needs.1` says from where.
pub(super) fn table_with<T: Table + 'static>(
    has: fn(&T) -> bool,
    needs: (&'static str, String),
) -> Kind<Option<T>> {
    let Kind { accepted, show, keys, .. } = table::<T>("a table");
    let read: Read<Option<T>> = Box::new(move |section, key, context| {
        let is_written = section.peek(key).is_some();
        let found = T::read(section.below(key)?, context)?;
        if is_written && !has(&found) {
            return Err(section.error(&format!("{key}.{}", needs.0), "nothing", &needs.1));
        }
        if is_written {
            context.written.push(section.name(key));
        }
        Ok(Some(Some(found).filter(has)))
    });
    Kind { accepted, read, show, keys }
}

/// `true`, `false`, or a table with keys of its own.
pub(super) fn switch<T: Table + 'static>() -> Kind<Option<T>> {
    const ACCEPTED: &str = "true, false or a table";
    Kind {
        accepted: Box::new(always(ACCEPTED)),
        read: Box::new(move |section, key, context| {
            let table = match section.take(key)? {
                None => return Ok(None),
                Some(Value::Boolean(false)) => return Ok(Some(None)),
                Some(Value::Boolean(true)) => toml::Table::new(),
                Some(Value::Table(table)) => table,
                Some(other) => return Err(section.error(key, &show(&other), ACCEPTED)),
            };
            T::read(Section::new(&section.name(key), table), context).map(|found| Some(Some(found)))
        }),
        show: Box::new(move |value, key, to| match value {
            Some(value) => to.below(key, |to| value.show(to)),
            None => to.raw(key, "false".to_string()),
        }),
        keys: Keys::ItselfAndBelow(T::keys()),
    }
}

/// One of several keys, of which one sets a field.
pub(super) struct Variant<E> {
    key: Key,
    read: Read<E>,
    show: Show<E>,
}

/// A key whose value becomes the field's value by `make`; `of` is the way back.
pub(super) fn variant<E: 'static, T: 'static>(
    key: &'static str,
    kind: Kind<T>,
    make: fn(T) -> E,
    of: fn(&E) -> Option<&T>,
    doc: &'static str,
) -> Variant<E> {
    let Kind { accepted, read, show, .. } = kind;
    let accepted = accepted(&Context::default());
    let (name, default) = (key.to_string(), String::new());
    Variant {
        key: Key { name, accepted, default, change: Change::Reload, doc },
        read: Box::new(move |section, key, context| Ok(read(section, key, context)?.map(make))),
        show: Box::new(move |value, key, to| {
            if let Some(value) = of(value) {
                show(value, key, to);
            }
        }),
    }
}

/// A field that one of several keys sets.
pub(super) fn one_of<E: 'static>(variants: impl Into<Vec<Variant<E>>>) -> Kind<E> {
    let variants = std::rc::Rc::new(variants.into());
    let keys: Vec<Key> = variants.iter().map(|one: &Variant<E>| one.key.clone()).collect();
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    let accepted = format!("one of {}", list_of(&names).replace(" or ", " and "));
    let said = accepted.clone();
    let shown = variants.clone();
    Kind {
        accepted: Box::new(always(&accepted)),
        read: Box::new(move |section, _, context| {
            let mut found: Option<(&str, E)> = None;
            // All are read, so that none is taken for an unknown key because of another.
            let read = variants.iter().map(|one| (one.read)(section, &one.key.name, context));
            let read: Vec<Result<Option<E>, Mistake>> = read.collect();
            for (variant, value) in variants.iter().zip(read) {
                let name = variant.key.name.as_str();
                let Some(value) = value? else { continue };
                if let Some((first, _)) = found {
                    let mut lines = Lines::shown();
                    (variant.show)(&value, name, &mut lines);
                    let value = lines.value(name).unwrap_or_default();
                    return Err(section.error(
                        name,
                        &value,
                        &format!("{said}, and {first} is set"),
                    ));
                }
                found = Some((name, value));
            }
            Ok(found.map(|(_, value)| value))
        }),
        show: Box::new(move |value, _, to| {
            for variant in shown.iter() {
                (variant.show)(value, &variant.key.name, to);
            }
        }),
        keys: Keys::Instead(keys),
    }
}

/// A value in TOML, for errors.
pub(super) fn of_value<T>(kind: &Kind<T>, value: &T) -> String {
    let mut lines = Lines::shown();
    kind.show(value, "", &mut lines);
    lines.into_settings().pop().map_or(String::new(), |setting| setting.value)
}

/// A kind with keys, reading and showing of its own.
pub(super) fn by_hand<T>(
    accepted: impl Fn(&Context<'_>) -> String + 'static,
    read: impl Fn(&mut Section, &str, &mut Context<'_>) -> Result<Option<T>, Mistake> + 'static,
    show: impl Fn(&T, &str, &mut Lines) + 'static,
    keys: Vec<Key>,
) -> Kind<T> {
    let keys = Keys::Instead(keys);
    Kind { accepted: Box::new(accepted), read: Box::new(read), show: Box::new(show), keys }
}

fn millis(text: &str) -> Option<Millis> {
    let span: Duration = humantime::parse_duration(text).ok()?;
    let millis = u32::try_from(span.as_millis()).ok()?;
    // Durations are kept in milliseconds. A shorter one would become zero, which must be written.
    (millis > 0 || span.is_zero()).then_some(Millis(millis))
}
