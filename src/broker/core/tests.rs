use super::*;
use crate::ids::{ConnId, SessionIndex, Slot};
use crate::limits::Limits;
use crate::mem::secret::HashKey;
use proptest::prelude::*;

const SHARDS: u8 = 3;
const USERS: [&str; 2] = ["seven", "eight"];
const NAMES: [&str; 3] = ["/topic/a", "/topic/b", "/topic/*"];

/// What commands are compared against.
struct World {
    homes: Homes,
    names: Names,
    rules: Rules,
    shares: Shares,
}

impl World {
    fn new() -> World {
        let names = Names {
            broker: vec!["/topic".into(), "/queue".into()],
            application: Vec::new(),
            user: "/user".into(),
            separator: '/',
        };
        World {
            homes: Homes::new(HashKey::known(5), SHARDS),
            rules: Rules::new(Vec::new(), &names),
            names,
            shares: Shares::new(16, HashKey::known(1)),
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            homes: &self.homes,
            names: &self.names,
            rules: &self.rules,
            rules_restrict_patterns: false,
            shares: &self.shares,
            share_least: 0,
        }
    }
}

fn core() -> Core {
    Core::new(ShardId(1), '/', &Limits::tiny(), 4, &mut Random::known(3))
}

fn message(user: Option<&str>, destination: &str) -> Arc<Message> {
    let mut message = Message::default();
    message.begin(user, destination);
    message.finish(b"x");
    Arc::new(message)
}

fn session(number: usize) -> SessionId {
    SessionId::new(ShardId((number % usize::from(SHARDS)) as u8), SessionIndex(number as u32), 0)
}

fn request(slot: u32) -> ReplyTo {
    ReplyTo::Request(ShardId(2), ConnId { slot: Slot(slot), generation: 0 })
}

/// A subscription as the naive model knows it.
#[derive(Clone, Debug, PartialEq)]
struct Subscription {
    session: usize,
    name: usize,
    of_user: bool,
}

/// Each session has one of two users, and joins when the model first meets it.
#[derive(Default)]
struct Model {
    joined: Vec<usize>,
    subscriptions: Vec<Subscription>,
    numbered: u64,
}

impl Model {
    fn hear<'a>(&'a self, name: &'a str, user: Option<usize>) -> impl Iterator<Item = usize> + 'a {
        let matches = move |s: &&Subscription| {
            let is_for = match user {
                None => !s.of_user,
                Some(user) => s.of_user && s.session % USERS.len() == user,
            };
            is_for && (NAMES[s.name] == name || NAMES[s.name] == "/topic/*")
        };
        self.subscriptions.iter().filter(matches).map(|s| s.session)
    }
}

/// One draw: what is done, by which session, with which name.
type Draw = (u8, usize, usize);

fn command(model: &mut Model, (what, by, name): Draw) -> Command {
    let user: Arc<str> = USERS[by % USERS.len()].into();
    let (id, key) = (session(by), (by * NAMES.len() + name) as u32);
    if !model.joined.contains(&by) {
        model.joined.push(by);
        return Command::Join { user, session: id };
    }
    let destination: Arc<str> = NAMES[name].into();
    let of_user = what % 2 == 0;
    let subscription = Subscription { session: by, name, of_user };
    let at = model.subscriptions.iter().position(|other| *other == subscription);
    match (what / 2, at) {
        (0, None) => {
            model.subscriptions.push(subscription);
            match of_user {
                true => Command::SubscribeUser { user, destination, session: id, key },
                false => Command::Subscribe { destination, session: id, key, owner: None },
            }
        }
        (1, Some(at)) => {
            model.subscriptions.remove(at);
            match of_user {
                true => Command::UnsubscribeUser { user, destination, session: id, key },
                false => Command::Unsubscribe { destination, session: id, key: Some(key) },
            }
        }
        _ => {
            let whose = of_user.then_some(&*user);
            let reply_to = ReplyTo::Frame(id, key);
            Command::publish(message(whose, NAMES[name % 2]), None, reply_to)
        }
    }
}

/// Effects of a command, none of which is of its class or an earlier one or too many of a class.
fn effects(core: &mut Core, class: Class) -> Vec<Effect> {
    let all: Vec<Effect> = core::iter::from_fn(|| core.next_effect()).collect();
    for shard in (0..SHARDS).map(ShardId) {
        let to = |effect: &&Effect| match effect {
            Effect::Command(to, _) | Effect::Event(to, _) => *to == shard,
        };
        let (mut home, mut event) = (0, 0);
        for effect in all.iter().filter(to) {
            assert!(effect.class() > class, "{effect:?}");
            match effect {
                Effect::Command(..) => home += 1,
                Effect::Event(..) => event += 1,
            }
        }
        let needs = class.needs();
        assert!(home <= needs.home && event <= needs.event, "{shard:?} of {all:?}");
    }
    all
}

/// A subscription's session, and nobody else, hears that it has begun or ended; other commands are
/// not answered.
fn check_answer(command: &Command, effects: &[Effect]) {
    let (begun, session, key) = match command {
        Command::Subscribe { session, key, .. } | Command::SubscribeUser { session, key, .. } => {
            (true, *session, *key)
        }
        Command::Unsubscribe { session, key: Some(key), .. }
        | Command::UnsubscribeUser { session, key, .. } => (false, *session, *key),
        _ => return assert_eq!(effects.len(), 0, "{command:?}: {effects:?}"),
    };
    let [Effect::Event(shard, event)] = effects else { panic!("{command:?}: {effects:?}") };
    let said = match event {
        Event::Begun { session, key, .. } => (true, *session, *key),
        Event::Ended { session, key } => (false, *session, *key),
        event => panic!("{command:?}: {event:?}"),
    };
    assert_eq!((*shard, said), (session.shard(), (begun, session, key)));
}

/// Who hears a publish is who has subscribed, each shard once, and the answer comes last.
fn check_publish(model: &mut Model, command: &Command, effects: &[Effect]) {
    let (message, reply_to) = match command {
        Command::Publish { message, reply_to } | Command::PublishUser { message, reply_to, .. } => {
            (message, *reply_to)
        }
        _ => return check_answer(command, effects),
    };
    let user = USERS.iter().position(|user| *user == message.user());
    model.numbered += 1;
    let expected = model.numbered * HOMES_MAX as u64 + 1;
    let hear: Vec<usize> = model.hear(message.destination(), user).collect();
    let mut hear_sessions = hear.clone();
    hear_sessions.sort_unstable();
    hear_sessions.dedup();
    let mut shards: Vec<ShardId> = hear.iter().map(|s| session(*s).shard()).collect();
    shards.sort_unstable();
    shards.dedup();
    let (last, messages) = effects.split_last().expect("the answer at least");
    let mut reached = Vec::new();
    for effect in messages {
        match effect {
            Effect::Event(
                shard,
                Event::Deliver { number, .. } | Event::DeliverUser { number, .. },
            ) => {
                assert_eq!(*number, expected);
                reached.push(*shard);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reached, shards);
    // A user's session hears a message once, however many of its subscriptions match.
    let heard = if user.is_some() { hear_sessions.len() } else { hear.len() };
    match last {
        Effect::Event(shard, Event::Sequenced { reply_to: to, heard: count }) => {
            assert_eq!((*to, *count), (reply_to, heard as u32));
            assert_eq!(reply_to.shard(), Some(*shard));
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_command_produces_later_classes_only_and_reaches_who_has_subscribed(
        draws in prop::collection::vec((0..8u8, 0..6usize, 0..NAMES.len()), 1..200),
    ) {
        let world = World::new();
        let (mut core, mut model) = (core(), Model::default());
        for draw in draws {
            let command = command(&mut model, draw);
            let work = core.on(command.clone(), world.context());
            let effects = effects(&mut core, Class::Home);
            check_publish(&mut model, &command, &effects);
            let is_publish =
                matches!(command, Command::Publish { .. } | Command::PublishUser { .. });
            prop_assert_eq!(work.published, u32::from(is_publish));
        }
        let mut online: Vec<usize> = model.joined.iter().map(|s| s % USERS.len()).collect();
        online.sort_unstable();
        online.dedup();
        prop_assert_eq!(core.users().online(), online.len());
    }
}

#[test]
fn a_fresh_callback_goes_on_to_the_home_of_its_user_and_a_repeated_one_is_answered() {
    let world = World::new();
    let mut core = core();
    for (slot, user) in [(1, Some("seven")), (2, None)] {
        let message = message(user, "/topic/a");
        let home = world.homes.of_message(&message);
        let callback = |slot: u32| Callback {
            key: [7, slot.into()],
            until_millis: 100,
            message: message.clone(),
            reply_to: request(slot),
        };
        core.on_callback(callback(slot), 0, &world.homes);
        let fresh = effects(&mut core, Class::Dedupe);
        let [Effect::Command(to, command)] = &fresh[..] else { panic!("{fresh:?}") };
        let (Command::Publish { reply_to, .. } | Command::PublishUser { reply_to, .. }) = command
        else {
            panic!("{command:?}");
        };
        assert_eq!((*to, *reply_to), (home, request(slot)));
        assert_eq!(matches!(command, Command::PublishUser { .. }), user.is_some());

        core.on_callback(Callback { reply_to: request(9), ..callback(slot) }, 99, &world.homes);
        let again = effects(&mut core, Class::Dedupe);
        let [Effect::Event(ShardId(2), Event::Duplicate { reply_to })] = &again[..] else {
            panic!("{again:?}");
        };
        assert_eq!(*reply_to, request(9), "who asks again is answered");
        core.on_callback(callback(slot), 100, &world.homes);
        let later = effects(&mut core, Class::Dedupe);
        assert!(matches!(later[..], [Effect::Command(..)]), "it is forgotten by then: {later:?}");
    }
}

#[test]
fn every_class_produces_later_ones_only() {
    for class in Class::ALL {
        let Needs { home, event } = class.needs();
        assert!(home == 0 || class < Class::Home, "{class:?}");
        assert!(event == 0 || class < Class::Event, "{class:?}");
        assert!(home <= 2 && event <= 2, "two a thread, so that a queue of two makes progress");
    }
}

#[test]
#[should_panic(expected = "before the next")]
fn effects_that_are_left_behind_are_noticed() {
    let world = World::new();
    let mut core = core();
    for _ in 0..2 {
        let reply_to = request(1);
        core.on(Command::Publish { message: message(None, "/topic/a"), reply_to }, world.context());
    }
}
