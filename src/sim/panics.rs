//! A panic within a run becomes a value: its text, where it was, and the calls that led there.

use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;

/// A panic that was caught.
#[derive(Debug, Default)]
pub(super) struct Caught {
    /// What it said.
    pub(super) text: String,
    /// Where, then this crate's functions that were running, the innermost first.
    pub(super) backtrace: Vec<String>,
}

thread_local! {
    /// Within [`caught`]: what the hook has seen.
    static SEEN: RefCell<Option<Caught>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs it. A panic on this thread is not printed, but returned.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Caught> {
    HOOK.call_once(|| {
        let other = take_hook();
        set_hook(Box::new(move |info| {
            let is_ours = SEEN.with_borrow_mut(|seen| match seen {
                Some(seen) => {
                    *seen = read(info);
                    true
                }
                None => false,
            });
            if !is_ours {
                other(info);
            }
        }));
    });
    SEEN.set(Some(Caught::default()));
    let result = catch_unwind(AssertUnwindSafe(run));
    let seen = SEEN.take().unwrap_or_default();
    result.map_err(|_| seen)
}

fn read(info: &PanicHookInfo<'_>) -> Caught {
    let text = info.payload_as_str().unwrap_or_default().to_owned();
    let place = info.location().map_or(String::new(), |place| format!("at {place}"));
    let mut backtrace = vec![place];
    let shown = Backtrace::force_capture().to_string();
    // Two lines a frame: `12: function`, and where it stands.
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    for frame in lines.windows(2).filter(|pair| pair[1].starts_with("at ")) {
        let function = frame[0].split_once(": ").map_or(frame[0], |(_, name)| name);
        let is_ours = function.starts_with("ringpush::") || function.starts_with("<ringpush::");
        if is_ours && !function.contains("::panics::caught") && !function.contains("::panics::read")
        {
            backtrace.push(format!("{function} {}", frame[1]));
        }
    }
    Caught { text, backtrace }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaks() {
        panic!("the reason");
    }

    #[test]
    fn a_panic_has_its_text_its_place_and_who_called() {
        assert_eq!(caught(|| 7).expect("no panic"), 7);
        let Caught { text, backtrace } = caught(breaks).expect_err("a panic");
        assert_eq!(text, "the reason");
        let here = "src/sim/panics.rs:";
        assert!(backtrace[0].starts_with("at ") && backtrace[0].contains(here), "{backtrace:?}");
        let caller = backtrace.iter().any(|line| line.contains("breaks") && line.contains(here));
        assert!(caller || cfg!(not(debug_assertions)), "{backtrace:?}");
    }
}
