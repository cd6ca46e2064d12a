//! A session that a reload ends gets its outstanding RECEIPTs before the ERROR. A client cannot
//! know which of its frames the server had read by then; but if any client has received a message,
//! the server has read it.

use super::history::History;
use super::violation::{Oracle, Violation};

/// A message that was received took effect before its sender's ERROR, so its RECEIPT came first.
pub(super) fn validate(history: &History) -> Result<(), Violation> {
    let mut all = history.publications.iter();
    match all.find(|publication| publication.overtaken && publication.number.is_some()) {
        None => Ok(()),
        Some(heard) => {
            let text = format!("ERROR before the RECEIPT of {heard:?}");
            Err(Violation::new(Oracle::Order, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Content;
    use super::super::target::Target;
    use super::*;

    #[test]
    fn what_was_received_has_taken_effect() {
        let mut history = History::default();
        let sent = history.publish(Some((0, 0)), Target::Broker("/topic/a"));
        let s = history.subscribe(1, None, "/topic/*", false, true);
        history.publications[sent].overtaken = true;
        assert!(validate(&history).is_ok());
        history.receive(s, "b-64", Content::Publication(sent)).expect("it was sent");
        assert_eq!(validate(&history).expect_err("it was heard").oracle, Oracle::Order);
    }
}
