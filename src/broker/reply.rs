#![forbid(unsafe_code)]
//! Which publications the reply of an application produces. The engine asks for fixed replies, the
//! control thread and its stand-in in the simulator for those of hooks.

use super::application::Applications;
use super::command::{Command, Event, ReplyTo};
use super::core::Effect;
use super::destination::{Names, Target};
use super::homes::Homes;
use super::message::Message;
use super::pattern::Budget;
use crate::ids::{SessionId, ShardId};
use std::borrow::Cow;
use std::sync::Arc;

/// Who hears a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To<'a> {
    /// The sender's sessions, or one of them. Also to one only it goes by way of his home, which
    /// keeps the order of what a user gets.
    User(&'a str, Option<SessionId>),
    /// The session that has asked, since it has no user.
    Session(SessionId),
    /// Subscribers of a broker destination.
    Everybody,
}

/// One message that a reply produces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// Who hears it.
    pub to: To<'a>,
    /// Its destination, without the user prefix, variables filled in.
    pub destination: Cow<'a, str>,
}

/// The publications of a reply to what `session` of `user` sent to the application of a number,
/// below its prefix to `rest`.
pub fn publications<'a>(
    applications: &'a Applications,
    application: usize,
    rest: &'a str,
    session: SessionId,
    user: Option<&'a str>,
) -> impl Iterator<Item = Publication<'a>> {
    let found = applications.at(application);
    let fill = move |template| applications.fill(application, rest, template);
    let own = found.to_user.as_deref().map(move |template| {
        let to = match user {
            Some(user) => To::User(user, (!found.broadcast).then_some(session)),
            None => To::Session(session),
        };
        Publication { to, destination: fill(template) }
    });
    let all = found.to.iter();
    let all =
        all.map(move |template| Publication { to: To::Everybody, destination: fill(template) });
    own.into_iter().chain(all)
}

/// The application of a destination with its prefix, and the destination without it.
pub fn application_of<'a>(
    names: &Names,
    applications: &Applications,
    destination: &'a str,
) -> Option<(usize, &'a str)> {
    let Target::Application(rest) = names.target(destination) else { return None };
    Some((applications.find(rest, &mut Budget::default())?, rest))
}

impl Publication<'_> {
    /// Where it is sequenced. None: it is not, the session's own shard delivers it.
    pub fn home(&self, homes: &Homes) -> Option<ShardId> {
        match self.to {
            To::User(user, _) => Some(homes.of_user(user)),
            To::Session(_) => None,
            To::Everybody => Some(homes.of_destination(&self.destination)),
        }
    }

    /// Writes its message.
    pub fn write(
        &self,
        names: &Names,
        content_type: Option<&[u8]>,
        body: &[u8],
        message: &mut Message,
    ) {
        let user = match self.to {
            To::User(user, _) => Some(user),
            To::Session(_) | To::Everybody => None,
        };
        message.begin(user, &self.destination);
        match self.to {
            To::Everybody => message.header(b"destination", self.destination.as_bytes()),
            _ => message.header(b"destination", &names.shown(&self.destination)),
        }
        if let Some(content_type) = content_type {
            message.header(b"content-type", content_type);
        }
        message.finish(body);
    }

    /// The effect that sends its message. `number` is that of a message which no home numbers.
    pub fn effect(
        &self,
        homes: &Homes,
        message: Arc<Message>,
        reply_to: ReplyTo,
        number: u64,
    ) -> Effect {
        match self.to {
            To::User(user, only) => {
                let command = Command::PublishUser { message, only, reply_to };
                Effect::Command(homes.of_user(user), command)
            }
            To::Session(session) => {
                let event = Event::DeliverSession { message, session, number };
                Effect::Event(session.shard(), event)
            }
            To::Everybody => {
                let home = homes.of_destination(&self.destination);
                Effect::Command(home, Command::Publish { message, reply_to })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::application::{Answer, Application};
    use super::*;
    use crate::ids::SessionIndex;

    fn application(to_user: Option<&str>, to: &[&str], broadcast: bool) -> Applications {
        let one = Application {
            destination: "/room/{id}".into(),
            answer: Answer::Hook(None),
            to_user: to_user.map(Into::into),
            to: to.iter().map(|to| (*to).into()).collect(),
            broadcast,
        };
        Applications::new(vec![one], '/')
    }

    #[test]
    fn a_reply_goes_to_the_sender_or_to_broker_destinations_with_variables_filled_in() {
        let session = SessionId::new(ShardId(2), SessionIndex(5), 1);
        let all = |applications: &Applications, user| -> Vec<(String, String)> {
            let list = publications(applications, 0, "/room/4", session, user);
            list.map(|one| (format!("{:?}", one.to), one.destination.into_owned())).collect()
        };
        let own = application(Some("/queue/{id}"), &[], true);
        let one = application(Some("/queue/sub"), &[], false);
        let both = application(None, &["/topic/room/{id}", "/queue/log"], true);
        let rows = [
            (all(&own, Some("7")), vec![("User(\"7\", None)".to_owned(), "/queue/4")]),
            (all(&one, Some("7")), vec![(format!("User(\"7\", Some({session:?}))"), "/queue/sub")]),
            (all(&own, None), vec![(format!("Session({session:?})"), "/queue/4")]),
            (
                all(&both, Some("7")),
                vec![
                    ("Everybody".to_owned(), "/topic/room/4"),
                    ("Everybody".to_owned(), "/queue/log"),
                ],
            ),
        ];
        for (found, expected) in rows {
            let expected: Vec<(String, String)> =
                expected.into_iter().map(|(to, name)| (to, name.to_owned())).collect();
            assert_eq!(found, expected);
        }
    }
}
