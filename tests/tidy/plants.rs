//! Each rule against a planted mistake, and against similar code that is correct.

use super::source::{Source, blank, mark_test_files};
use super::{FLOORS, FUNCTION_LINES_MAX, NEIGHBOURS, complaints};

const HEAD: &str = "#![forbid(unsafe_code)]\n//! A\n//! B\n//! C\n//! D\n//! E\n";

/// Complaints about one file.
fn about(path: &str, text: &str) -> Vec<String> {
    complaints(&[Source::new(path, text)])
}

#[track_caller]
fn bad(path: &str, text: &str, word: &str) {
    let found = about(path, text);
    assert!(found.iter().any(|line| line.contains(word)), "{path}: no `{word}` in {found:?}");
}

#[track_caller]
fn good(path: &str, text: &str) {
    assert_eq!(about(path, text), Vec::<String>::new(), "{path}: {text}");
}

#[test]
fn sizes() {
    bad("src/ws/a.rs", &"x".repeat(101), "columns");
    good("src/ws/a.rs", &"ü".repeat(100));
    good("src/ws/a.rs", &format!("    \"{}\"", "x".repeat(120)));
    bad("src/ws/a.rs", &"\n".repeat(601), "split it");
    good("src/ws/a.rs", &"\n".repeat(600));
    let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    1;\n".repeat(lines - 2));
    bad("src/ws/a.rs", &function(FUNCTION_LINES_MAX + 1), "fn f: 71 lines");
    good("src/ws/a.rs", &function(FUNCTION_LINES_MAX));
    let array = function(FUNCTION_LINES_MAX + 1).replace("()", "(a: [u8; 4]) -> [u8; 2]");
    bad("src/ws/a.rs", &array, "fn f: 71 lines");
    good("src/ws/a.rs", &format!("fn f();\nenum A {{\n{}}}\n", "    A,\n".repeat(90)));
}

#[test]
fn floors() {
    bad("src/ws/a.rs", "use crate::broker::Broker;", "`ws` may not name `broker`");
    bad("src/ws/a.rs", "use crate::http;", "`ws` may not name `http`");
    bad("src/broker/a.rs", "use crate::{ids::X, engine::{Y, Z}};", "may not name `engine`");
    bad("src/broker/a.rs", "fn f() { crate::ring::x() }", "may not name `ring`");
    bad("src/ws/mod.rs", &format!("{HEAD}use super::engine;\n"), "may not name `engine`");
    bad("src/ws/a.rs", "use super::super::engine;\n", "may not name `engine`");
    bad("src/kitchen/a.rs", "fn f() {}", "on which floor");
    good("src/broker/a.rs", "use crate::{ids::X, ws::{Y, engine}, broker::Z};");
    good("src/broker/a.rs", "use crate::config::Rules; use super::engine;");
    good("src/engine/dispatch.rs", "use crate::{broker, ring, callback, console};");
    bad("src/engine/a.rs", "use crate::sim;", "may not name `sim`");
    good("src/ws/a.rs", "// crate::broker\nconst A: &str = \"crate::broker\";");
    good("src/ws/a.rs", "#[cfg(test)]\nmod tests {\n    use crate::engine;\n}\n");
}

#[test]
fn circles() {
    let about = |files: &[(&str, &str)]| {
        let list: Vec<Source> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
        complaints(&list)
    };
    let there = ("src/ws/a.rs", "use super::b::B;\nuse super::{d, e::E};");
    let back = ("src/ws/b.rs", "fn f() { crate::ws::c::g() }");
    let round = ("src/ws/c.rs", "use super::{x, a::A};");
    let found = about(&[there, back, round]);
    assert_eq!(found, ["src/ws: a circle of 3 files, 0 allowed: [\"a\", \"b\", \"c\"]"]);
    let none: [&str; 0] = [];
    assert_eq!(about(&[there, back, ("src/ws/c.rs", "use super::super::ids;")]), none);
    let in_tests = "#[cfg(test)]\nmod tests {\n    use super::a::A;\n}\n";
    assert_eq!(about(&[there, back, ("src/ws/c.rs", in_tests)]), none);
    // By way of what the head hands on, and by way of a folder.
    let head = format!("{HEAD}mod a;\nmod b;\npub use a::{{A, Z}};\n");
    let by_head = ("src/ws/b.rs", "use super::Z;");
    let named = ("src/ws/a.rs", "use super::b::B;");
    let found = about(&[("src/ws/mod.rs", &head), named, by_head]);
    assert_eq!(found, ["src/ws: a circle of 2 files, 0 allowed: [\"a\", \"b\"]"]);
    let deep = ("src/ws/net/flush.rs", "use super::super::a::A;\nuse super::wheel::W;");
    let found = about(&[("src/ws/a.rs", "use super::net::N;"), deep]);
    assert_eq!(found, ["src/ws: a circle of 2 files, 0 allowed: [\"a\", \"net\"]"]);
    let inner = ("src/ws/net/wheel.rs", "use crate::ws::net::flush::F;");
    let found = about(&[deep, inner]);
    assert_eq!(found, ["src/ws/net: a circle of 2 files, 0 allowed: [\"flush\", \"wheel\"]"]);
    // Files of other rooms with the same names, and the room's own head.
    assert_eq!(about(&[there, back, ("src/stomp/c.rs", "use super::a::A;")]), none);
}

#[test]
fn pure_rooms() {
    for text in
        ["let a: Vec<u8>;", "use std::fmt;", "format!(\"\")", "a.to_string()", "Box::new(1)"]
    {
        bad("src/stomp/a.rs", text, "core alone");
        good("src/stomp/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{text}\n}}\n"));
        good("src/broker/a.rs", text);
    }
    good("src/http/origin.rs", "let a: Vec<u8>;");
    good("src/ws/a.rs", "//! Vec\nuse core::str; struct VecLike; const A: &str = \"String\";");
    bad("src/ws/a.rs", "#[cfg(not(test))]\nfn f(a: Vec<u8>) {}\n", "core alone");
    bad("src/ws/a.rs", "#[cfg(test)]\nmod tests {\n}\nfn f(a: Vec<u8>) {}\n", "core alone");
    good("src/ws/tests.rs", "fn f(a: Vec<u8>) {}");
}

#[test]
fn homes_keep_no_messages() {
    let says = "holds a message";
    bad("src/broker/home.rs", "struct Home {\n    last: Option<Arc<Message>>,\n}", says);
    bad("src/broker/core.rs", "pub struct Kept(Vec<Arc<Message>>);", says);
    bad("src/broker/user.rs", "enum Row<T> {\n    A(T),\n    B { message: Message },\n}", says);
    good("src/broker/command.rs", "pub enum Event {\n    Deliver { message: Arc<Message> },\n}");
    good("src/broker/a.rs", "struct A {\n    b: u8,\n}\nfn f(message: &Message) {}");
    good("src/broker/message.rs", "pub struct Pool {\n    free: Vec<Arc<Message>>,\n}");
    good("src/engine/web/a.rs", "struct Waits {\n    message: Arc<Message>,\n}");
}

#[test]
fn unsafe_and_bans() {
    bad("src/mem/slab.rs", "fn f() { unsafe { } }", "unsafe stands only");
    bad("src/engine/a.rs", "#[cfg(test)]\nmod tests {\nunsafe fn f() {}\n}", "unsafe stands only");
    good("src/mem/region.rs", "fn f() { unsafe { } }");
    good("src/ring/uring.rs", "unsafe fn f() {}");
    good("src/broker/a.rs", "// unsafe\n#![forbid(unsafe_code)]");
    bad("tests/a.rs", "fn f() { std::thread::sleep(d) }", "with a deadline");
    good("tests/a.rs", "// thread::sleep\nfn f() { a.recv_timeout(d) }");
    bad("src/broker/a.rs", "a.b().unwrap();", "the proof");
    good("src/broker/a.rs", "a.unwrap_or(1); a.expect(\"unwrap()\");");
    good("src/broker/a.rs", "#[cfg(all(test, not(loom)))]\nmod tests {\na.unwrap();\n}\n");
    bad("src/engine/a.rs", "println!(\"a\");", "terminal");
    good("src/main.rs", "println!(\"a\");");
    bad("src/engine/a.rs", concat!("tod", "o!()"), "finish it");
    bad("tests/a.py", concat!("# FIX", "ME later"), concat!("FIX", "ME"));
    bad("src/ws/a.rs", "#[allow(dead_code)]\nfn f() {}", "switched off");
    bad("src/ws/a.rs", "#[ignore = \"slow\"]\nfn f() {}", "skipped");
    bad("tests/clients/package-lock.json", "{\"resolved\": \"x\"}", "registry");
}

#[test]
fn heads() {
    good("src/ws/mod.rs", &format!("{HEAD}pub mod a;\n"));
    good("src/ws/mod.rs", "//! Nothing here yet.\n");
    bad("src/ws/mod.rs", "//! Short.\npub mod a;\n", "too little");
    bad("src/ws/mod.rs", &format!("use core::fmt;\n{HEAD}pub mod a;\n"), "comes first");
    bad("src/ws/mod.rs", &HEAD.replace("#![forbid(unsafe_code)]", "use a;"), "is missing");
}

#[test]
fn blanking() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a\"{", 'x', '\'', b"y")"#, "f(      ,    ,     , b   )"),
        ("r#\"{\"}\"# x", "         x"),
        ("br\"{\" x r y", "b     x r y"),
        ("fn f<'a>(a: &'a str) {'{'}", "fn f<'a>(a: &'a str) {   }"),
        ("'\\u{41}' \"ü\"", "             "),
    ];
    for (text, code) in cases {
        assert_eq!(blank(text), code, "{text}");
        assert_eq!(blank(text).len(), text.len());
    }
}

#[test]
fn files_declared_as_tests() {
    let room = format!("{HEAD}#[cfg(test)]\nmod oracle;\nmod frame;\n");
    let code = "fn f() { a.unwrap(); }";
    let read = |paths: [&str; 2]| {
        let mut files = vec![Source::new("src/ws/mod.rs", &room)];
        files.extend(paths.map(|path| Source::new(path, code)));
        mark_test_files(&mut files);
        complaints(&files)
    };
    assert_eq!(read(["src/ws/oracle.rs", "src/ws/oracle/mod.rs"]), Vec::<String>::new());
    assert_eq!(read(["src/ws/frame.rs", "src/http/oracle.rs"]).len(), 2);
}

#[test]
fn neighbours_make_no_circles() {
    let floor = |room: &str| FLOORS.iter().find(|(name, _)| *name == room).map(|(_, at)| *at);
    for (who, whom, _) in NEIGHBOURS {
        assert_eq!(floor(who), floor(whom), "{who} and {whom} live on one floor");
        let back = NEIGHBOURS.iter().any(|(a, b, _)| a == whom && b == who);
        assert!(!back, "{who} and {whom} name each other");
    }
}

#[test]
fn owners() {
    let methods = |count: usize| format!("impl<T> A<T> {{\n{}}}\n", "    fn f();\n".repeat(count));
    bad("src/ws/a.rs", &methods(61), "A has 61 methods");
    good("src/ws/a.rs", &methods(60));
    good("src/ws/a.rs", &methods(61).replace("A<T> {", "From<u8> for A<T> {"));
    let fields = |count: usize| format!("struct A {{\n{}}}\n", "    a: B<u8, u8>,\n".repeat(count));
    bad("src/ws/a.rs", &fields(21), "A has 21 fields");
    good("src/ws/a.rs", &fields(20));
    good("src/config/a.rs", &fields(21));
    let four = ["a", "b", "c", "d"]
        .map(|file| Source::new(&format!("src/ws/{file}.rs"), "impl A {\n    fn f(&self) {}\n}\n"));
    let found = complaints(&four);
    assert!(found.iter().any(|line| line.contains("impl in 4 files")), "{found:?}");
    assert!(complaints(&four[..3]).is_empty());

    let net = "src/engine/net/a.rs";
    bad(net, "use crate::engine::session::Stomp;", "`net` may not name `session`");
    bad(net, "use super::super::delivery::Links;", "`net` may not name `delivery`");
    bad("src/engine/kitchen.rs", "fn f() {}", "on which floor it stands");
    good("src/engine/web/a.rs", "use crate::engine::session::Sockets;");
    good(net, "use super::super::context::Context;");

    let web = "src/engine/web/a.rs";
    let three = "fn f(a: &mut Links, b: &mut Bus, c: &mut Net, d: &Stomp, e: &mut Vec<u8>) {}";
    good(web, three);
    bad(web, &three.replace("&Stomp", "&mut Stomp"), "changes 4 parts");
    good(web, &three.replace("Vec<u8>", "Fanout"));
    bad(
        web,
        &format!("impl Web {{\n    {}\n}}\n", three.replace("(a", "(&mut self, a")),
        "4 parts",
    );
    bad(web, "struct A<'a> {\n    a: &'a mut Links,\n}\n", "A carries `&mut`");
    bad(web, "fn f<R>(shard: &mut Shard<R>) {}", "only the loop");
    good("src/engine/timers.rs", "fn f(parts: &mut Dispatch) {}");
    bad(net, "pub struct Net {\n    a: u8,\n    pub b: u8,\n}\n", "field `pub b` is not private");
    good(net, "pub struct Net {\n    a: u8,\n    pub(super) b: u8,\n}\n");
}
