//! Order and fan-out over real shards.

use super::browser::{Browser, Heard, Message};
use super::server::Server;
use super::{CROWD, alone};
use std::sync::{Arc, Barrier};
use std::thread;

/// Everybody may send anywhere, so that a browser can be the publisher.
const CONFIG: &str = r#"
[[endpoint]]
path = "/stomp"
protocol = "stomp"

[[allow]]
action = "send"
destination = "/topic/**"
users = "*"
"#;

const SHARDS: u32 = 2;
/// SENDs of one session.
const SENDS: u32 = 3_000;
/// Subscribers of each shard, at least.
const PER_SHARD: usize = 10;
const DESTINATIONS: [&str; 3] = ["/topic/a", "/topic/b", "/topic/c"];

/// A session and its shard, which the kernel has chosen.
fn session(server: &Server, versions: &str) -> (usize, Browser) {
    let mut browser = Browser::open(server.address, "/stomp");
    browser.connect(versions, "0,0");
    (browser.connected(), browser)
}

/// Opens sessions until every shard has `PER_SHARD` of them and one more, which is removed as the
/// shard's sender. The versions of STOMP alternate, so that there are several groups.
fn sessions(server: &Server) -> (Vec<Browser>, Vec<Browser>) {
    let mut by_shard: Vec<Vec<Browser>> = (0..SHARDS).map(|_| Vec::new()).collect();
    let mut versions = ["1.2", "1.1", "1.0"].into_iter().cycle();
    while by_shard.iter().any(|some| some.len() <= PER_SHARD) {
        let (shard, browser) = session(server, versions.next().expect("it has no end"));
        by_shard[shard].push(browser);
    }
    let counted = server.sessions();
    println!("sessions per shard: {counted:?}");
    let opened: Vec<u64> = by_shard.iter().map(|some| some.len() as u64).collect();
    assert_eq!(counted, opened, "/api/stats counts the opened sessions");
    let senders = by_shard.iter_mut().map(|some| some.pop().expect("more than ten")).collect();
    (senders, by_shard.into_iter().flatten().collect())
}

/// Numbered SENDs to the destinations, in irregular order, and the receipt of the last.
fn send_all(mut browser: Browser, name: usize) {
    for number in 0..SENDS {
        let destination = DESTINATIONS[(number * number / 5 % 3) as usize];
        let body = format!("{name} {number}");
        let receipt = [("receipt", "last")];
        let headers = if number + 1 == SENDS { &receipt[..] } else { &[] };
        browser.send(destination, headers, &body);
        if number % 16 == 15 {
            browser.flush();
        }
    }
    browser.flush();
    browser.receipt("last");
}

/// What a subscriber received: message-id, destination and body of every message.
fn listen(browser: &mut Browser, count: u32) -> Vec<[String; 3]> {
    let seen = |message: Message| {
        let (id, place) = (message.header("message-id"), message.header("destination"));
        let subscription = message.header("subscription");
        assert!(subscription == place || subscription == "any", "{message:?}");
        [id.to_owned(), place.to_owned(), message.body]
    };
    (0..count).map(|_| seen(browser.expect("MESSAGE"))).collect()
}

/// Subscribes to every destination by itself, with their names as ids.
fn subscribe_to_each(browser: &mut Browser) {
    for destination in DESTINATIONS {
        browser.subscribe(destination, destination);
    }
    browser.flush();
    DESTINATIONS.iter().for_each(|destination| browser.receipt(destination));
}

#[test]
fn a_senders_order_is_kept_across_destinations_on_every_shard() {
    let server = Server::start("order", SHARDS, CONFIG);
    let (senders, mut subscribers) = sessions(&server);
    subscribers.iter_mut().for_each(subscribe_to_each);
    // One subscribes to all of them by a pattern.
    let (_, mut any) = session(&server, "1.2");
    any.subscribe("any", "/topic/*");
    any.flush();
    any.receipt("any");
    subscribers.push(any);

    let count = SENDS * senders.len() as u32;
    let start = Arc::new(Barrier::new(subscribers.len() + senders.len()));
    let listeners: Vec<_> = subscribers
        .into_iter()
        .map(|mut browser| {
            let start = start.clone();
            thread::spawn(move || {
                start.wait();
                listen(&mut browser, count)
            })
        })
        .collect();
    let senders: Vec<_> = senders
        .into_iter()
        .enumerate()
        .map(|(name, browser)| {
            let start = start.clone();
            thread::spawn(move || {
                start.wait();
                send_all(browser, name);
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().expect("it sends all"));
    let mut heard = listeners.into_iter().map(|listener| listener.join().expect("it hears all"));

    let first = heard.next().expect("there are many");
    for name in 0..SHARDS {
        let of = format!("{name} ");
        let numbers = first.iter().filter_map(|[.., body]| body.strip_prefix(&of));
        let numbers: Vec<u32> = numbers.map(|text| text.parse().expect("a number")).collect();
        let sent: Vec<u32> = (0..SENDS).collect();
        assert!(numbers == sent, "the order of the sender on shard {name}");
    }
    for other in heard {
        assert!(other == first, "all receive the same messages in the same order");
    }
    server.terminate();
    server.ended();
}

#[test]
fn a_broadcast_reaches_ten_thousand_subscribers_exactly_once() {
    let _alone = alone();
    let server = Server::start("broadcast", SHARDS, CONFIG);
    let (_, mut sender) = session(&server, "1.2");
    // Each step begins for all sessions before any is waited for.
    let mut crowd: Vec<_> = (0..CROWD).map(|_| Browser::open(server.address, "/stomp")).collect();
    crowd.iter_mut().for_each(|browser| browser.connect("1.2", "0,0"));
    let mut shards = vec![0; SHARDS as usize];
    for browser in &mut crowd {
        shards[browser.connected()] += 1;
        browser.subscribe("sub-0", "/topic/all");
        browser.flush();
    }
    println!("subscribers per shard: {shards:?}");
    assert!(shards.iter().all(|&count| count >= CROWD / 10), "{shards:?}");
    crowd.iter_mut().for_each(|browser| browser.receipt("sub-0"));

    sender.send("/topic/all", &[], "once");
    sender.send("/topic/all", &[("receipt", "end")], "end");
    sender.flush();
    sender.receipt("end");
    for browser in &mut crowd {
        // A second copy would arrive before the end.
        for body in ["once", "end"] {
            assert_eq!(browser.expect("MESSAGE").body, body);
        }
    }
    server.terminate();
    for browser in &mut crowd {
        let last = browser.next();
        assert!(matches!(last, Heard::Close(1001)), "{last:?}");
    }
    drop(crowd);
    server.ended();
}
