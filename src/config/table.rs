//! One table per section. A row has everything about a key.
//!
//! A row gives the key's field, its name, its type, its default (without one the key must be
//! written), its [kind](super::kind), whether a change takes effect at a reload, and a sentence for
//! the reference: units, bounds, what happens at it. Reading, `ringpush check`, what differs at a
//! reload, what a reload keeps and `docs/configuration.md` are made from it.

use super::Mistake;
use super::context::Context;
use super::kind::{Key, Table};
use super::reader::Section;
use super::settings::Lines;

/// A table of which nothing is written: all its keys have defaults.
pub(super) fn of_nothing<T: Table>() -> T {
    let nothing = Section::new("", toml::Table::new());
    T::read(nothing, &mut Context::default()).expect("the defaults fit")
}

/// A table that may be written several times.
pub(super) trait Entry: Table + Clone {
    /// Only a restart adds or removes one.
    const STAYS: bool = false;
    /// What identifies an entry; if this is None, its number does.
    fn name(&self) -> Option<&str> {
        None
    }
}

/// A section of the document: one table, or all entries of one name.
pub(super) trait Part: Sized {
    /// It is written `[[name]]`.
    const REPEATED: bool;
    /// Reads it from the document.
    fn read(document: &mut Section, name: &str, context: &mut Context<'_>)
    -> Result<Self, Mistake>;
    /// Shows it.
    fn show(&self, name: &'static str, to: &mut Lines);
    /// Restores what only a restart changes.
    fn keep(&mut self, running: &Self);
    /// What the reference says.
    fn keys() -> Vec<Key>;
}

impl<T: Table> Part for T {
    const REPEATED: bool = false;

    fn read(document: &mut Section, name: &str, context: &mut Context<'_>) -> Result<T, Mistake> {
        Table::read(document.below(name)?, context)
    }

    fn show(&self, name: &'static str, to: &mut Lines) {
        to.enter(name, None, false);
        Table::show(self, to);
    }

    fn keep(&mut self, running: &T) {
        Table::keep(self, running);
    }

    fn keys() -> Vec<Key> {
        <T as Table>::keys()
    }
}

impl<T: Entry> Part for Vec<T> {
    const REPEATED: bool = true;

    fn read(
        document: &mut Section,
        name: &str,
        context: &mut Context<'_>,
    ) -> Result<Vec<T>, Mistake> {
        let before = context.mistakes.len();
        let mut list = Vec::new();
        for section in document.entries(name)? {
            let found = Table::read(section, context);
            list.extend(context.note(found));
        }
        context.unless_noted(Some(list), before)
    }

    fn show(&self, name: &'static str, to: &mut Lines) {
        for (at, entry) in self.iter().enumerate() {
            let known_by = entry.name().map_or_else(|| at.to_string(), str::to_string);
            to.enter(name, Some(known_by), T::STAYS);
            Table::show(entry, to);
        }
    }

    fn keep(&mut self, running: &Vec<T>) {
        if !T::STAYS {
            return;
        }
        let loaded = core::mem::replace(self, running.clone());
        for entry in self {
            let new = loaded.iter().find(|new| new.name() == entry.name());
            if let Some(mut new) = new.cloned() {
                Table::keep(&mut new, entry);
                *entry = new;
            }
        }
    }

    fn keys() -> Vec<Key> {
        <T as Table>::keys()
    }
}

/// Declares a section: each row is a field, its key and type, its default (none: the key must be
/// written), its kind, when a change takes effect, and its sentence. `checked by` names the
/// function that checks the keys against each other; fields that are not keys follow in `beside`.
macro_rules! table {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $(checked by $check:path)? {
            $($field:ident $key:literal: $type:ty $(= $default:expr)?,
                $kind:expr, $change:ident; $doc:literal)*
        }
        $(beside { $($(#[$more_meta:meta])* $more:ident: $more_type:ty = $more_value:expr,)* })?
    ) => {
        $(#[$meta])*
        pub struct $name {
            $(#[doc = $doc] pub $field: $type,)*
            $($($(#[$more_meta])* pub $more: $more_type,)*)?
        }

        impl $crate::config::kind::Table for $name {
            fn read(
                mut section: $crate::config::reader::Section,
                context: &mut $crate::config::context::Context<'_>,
            ) -> Result<$name, $crate::config::Mistake> {
                let before = context.mistakes.len();
                let read = ($({
                    let kind: $crate::config::kind::Kind<$type> = $kind;
                    let default = $crate::config::table::default!($($default)?);
                    let found = kind.read(&mut section, $key, default, context);
                    context.note(found)
                },)*);
                section.finish(context);
                let found = match read {
                    ($(Some($field),)*) => {
                        Some($name { $($field,)* $($($more: $more_value,)*)? })
                    }
                    _ => None,
                };
                let found = context.unless_noted(found, before)?;
                $(
                    let mut found = found;
                    $check(&mut found, section.path(), context)?;
                )?
                Ok(found)
            }

            fn show(&self, to: &mut $crate::config::settings::Lines) {
                $(
                    let kind: $crate::config::kind::Kind<$type> = $kind;
                    to.row($crate::config::settings::Change::$change);
                    kind.show(&self.$field, $key, to);
                )*
            }

            fn keep(&mut self, running: &$name) {
                $(
                    if $crate::config::settings::Change::$change.waits() {
                        self.$field.clone_from(&running.$field);
                    }
                )*
                $($(self.$more.clone_from(&running.$more);)*)?
            }

            fn keys() -> Vec<$crate::config::kind::Key> {
                let mut keys = Vec::new();
                $({
                    let kind: $crate::config::kind::Kind<$type> = $kind;
                    let default: Option<$type> = $crate::config::table::default!($($default)?);
                    let change = $crate::config::settings::Change::$change;
                    keys.extend(kind.keys($key, default.as_ref(), change, $doc));
                })*
                keys
            }
        }
    };
}

/// A row's default, if it has one.
macro_rules! default {
    () => {
        None
    };
    ($default:expr) => {
        Some($default)
    };
}

pub(super) use {default, table};
