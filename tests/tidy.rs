//! Checks what the compiler does not check and a reviewer should not have to: sizes, which room may
//! name which, what a pure room may use, where `unsafe` is allowed, banned names.
//!
//! Every rule has its table here, with the reason; an exception is a line in a table. Each rule is
//! tried against a planted mistake at the bottom of this file.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/owners.rs"]
mod owners;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, mark_test_files, words};
use std::collections::BTreeSet;
use std::path::Path;

const COLUMNS_MAX: usize = 100;
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer: path, name, lines, reason. A ratchet: when one becomes shorter,
/// its number is lowered or its line removed.
const LONG_FUNCTIONS: &[(&str, &str, usize, &str)] = &[];

/// Files that may be longer: path, lines, reason. A ratchet too.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// The floor of each room (ARCHITECTURE.md): a room may name the rooms of lower floors only.
const FLOORS: &[(&str, u8)] = &[
    ("limits", 1),
    ("ids", 1),
    ("encoding", 1),
    ("time", 1),
    ("metrics", 1),
    ("transport", 1),
    ("http", 2),
    ("ws", 2),
    ("stomp", 2),
    ("sockjs", 2),
    ("mem", 2),
    ("config", 2),
    ("identity", 2),
    ("ring", 3),
    ("broker", 3),
    ("console", 3),
    ("sim", 6),
    ("callback", 4),
    ("load", 4),
    ("engine", 5),
    ("control", 6),
    ("serve", 7),
    ("main", 8),
    ("lib", 8),
];

/// Rooms that may name a neighbour on their own floor: who, whom, reason. No circles.
const NEIGHBOURS: &[(&str, &str, &str)] = &[
    ("limits", "time", "some bounds are spans of time, and Millis is their type"),
    ("identity", "config", "who somebody is follows the settings of [auth]"),
];

/// Rooms that use `core` alone: no allocation, no operating system.
const CORE_ONLY: &[&str] = &["src/ws/", "src/stomp/", "src/http/"];

/// Files of those rooms that may allocate, with the reason.
const CORE_ONLY_EXCEPT: &[(&str, &str)] = &[
    ("src/http/origin.rs", "patterns of origins are compiled once, from the configuration"),
    ("src/ws/deflate.rs", "a compressor has a window, and what it makes has no known length"),
];

/// Names that a room of `core` alone cannot use.
const ALLOCATING: &[&str] = &[
    "std::",
    "alloc::",
    "Vec",
    "String",
    "Box",
    "format!",
    "vec!",
    "to_string",
    "to_owned",
    "to_vec",
    "HashMap",
    "Rc",
    "Arc",
];

/// Where `unsafe` is allowed: system calls, and the two pools that the kernel reads and writes.
const UNSAFE_IN: &[&str] = &["src/ring/", "src/mem/region.rs"];

/// A banned name: the name, where it is allowed nevertheless, and the reason.
struct Ban(&'static str, &'static [&'static str], &'static str);

/// Bans on code in `src` outside tests. What is banned by its type stands in clippy.toml: clocks,
/// sleeping, sockets, tables without a key.
const BANNED: &[Ban] = &[
    Ban("io_uring::", &["src/ring/"], "system calls belong to ring"),
    Ban("tokio::", &["src/control/", "src/load/"], "the data plane has no async runtime"),
    Ban(
        "metrics.refuse(",
        &["src/engine/context.rs"],
        "a shard refuses by `Context::refuse_from`, which tells the log of it too",
    ),
    Ban("println!", PRINTERS, "the log is the control plane's; a shard never blocks on a terminal"),
    Ban(
        "eprintln!",
        PRINTERS,
        "the log is the control plane's; a shard never blocks on a terminal",
    ),
    Ban("print!", PRINTERS, "the log is the control plane's; a shard never blocks on a terminal"),
    Ban("dbg!", &[], "left over from looking for something"),
    Ban("todo!", &[], "finish it or leave it out"),
    Ban("unimplemented!", &[], "finish it or leave it out"),
    Ban(".unwrap()", &[], "an error, or `expect` with the proof as its text"),
    Ban("static mut", &[], "state lives in the shard"),
];

const PRINTERS: &[&str] = &["src/main.rs", "src/load/", "src/load.rs"];

/// Words that no file may contain, not even in a comment: unfinished work is an issue.
const UNFINISHED: &[&str] = &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];

/// All complaints about a set of files.
fn complaints(files: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files {
        sizes(file, &mut found);
        unfinished(file, &mut found);
        if file.path.ends_with(".rs") && file.path.starts_with("src/") {
            functions(file, &mut found);
            floors(file, &mut found);
            core_only(file, &mut found);
            unsafe_code(file, &mut found);
            banned(file, &mut found);
            lints(file, &mut found);
            room_head(file, &mut found);
            kept_messages(file, &mut found);
        }
        if file.path.starts_with("tests/") && words(&file.code, "thread::sleep").next().is_some() {
            found.push(format!("{}: a test waits for its event with a deadline", file.path));
        }
        if file.path.ends_with("package-lock.json") && file.text.contains("\"resolved\"") {
            found.push(format!("{}: names the host of a registry", file.path));
        }
    }
    let whole = files.iter().any(|file| file.path == "src/lib.rs");
    circles::circles(files, whole, &mut found);
    owners::owners(files, whole, &mut found);
    exceptions(files, &mut found);
    found
}

fn sizes(file: &Source, found: &mut Vec<String>) {
    let ours =
        [".rs", ".js", ".css", ".html", ".py", ".mjs"].iter().any(|e| file.path.ends_with(e));
    if !ours {
        return;
    }
    for (at, line) in file.text.lines().enumerate() {
        // rustfmt does not break a string: a line that is one literal may be as long as it is.
        let literal = line.trim_start().starts_with('"');
        let columns = line.chars().count();
        if columns > COLUMNS_MAX && !literal {
            found.push(format!(
                "{}:{}: {columns} columns, {COLUMNS_MAX} allowed",
                file.path,
                at + 1
            ));
        }
    }
    let lines = file.text.lines().count();
    let excepted = LONG_FILES.iter().find(|(path, ..)| *path == file.path);
    let most = excepted.map_or(FILE_LINES_MAX, |(_, lines, _)| *lines);
    if file.path.starts_with("src/") && lines > most {
        found.push(format!("{}: {lines} lines, {most} allowed: split it", file.path));
    }
}

fn functions(file: &Source, found: &mut Vec<String>) {
    for (name, line, lines) in file.functions() {
        let excepted = LONG_FUNCTIONS.iter().find(|(p, n, ..)| *p == file.path && *n == name);
        let most = excepted.map_or(FUNCTION_LINES_MAX, |(_, _, lines, _)| *lines);
        if lines > most {
            found.push(format!("{}:{line}: fn {name}: {lines} lines, {most} allowed", file.path));
        }
    }
}

/// An exception that is no longer needed must be removed, and one that is too wide lowered.
fn exceptions(files: &[Source], found: &mut Vec<String>) {
    for (path, name, most, _) in LONG_FUNCTIONS {
        let all = files.iter().filter(|f| f.path == *path).flat_map(Source::functions);
        let longest = all.filter(|(n, ..)| n == name).map(|(_, _, lines)| lines).max();
        if longest.is_none_or(|lines| lines < *most) {
            found.push(format!("tests/tidy.rs: {path} fn {name} needs {longest:?}, not {most}"));
        }
    }
    for (path, most, _) in LONG_FILES {
        let lines = files.iter().find(|f| f.path == *path).map(|f| f.text.lines().count());
        if lines.is_none_or(|lines| lines < *most) {
            found.push(format!("tests/tidy.rs: {path} needs {lines:?}, not {most}"));
        }
    }
}

fn room_of(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

fn floor_of(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor)
}

/// Rooms that code names after a path to the top of the crate.
fn named_rooms(file: &Source) -> BTreeSet<(usize, String)> {
    // `super` leaves the room: from its mod.rs in one step, from its other files in two.
    let up = if file.path.ends_with("/mod.rs") { "super::" } else { "super::super::" };
    let mut found = BTreeSet::new();
    for root in ["crate::", "ringpush::", up] {
        for at in words(&file.code, root) {
            let line = file.line_of(at);
            let deeper = file.code[..at].ends_with("::");
            if deeper || file.test.get(line - 1).copied().unwrap_or(false) {
                continue;
            }
            for name in heads(&file.code[at + root.len()..]) {
                if floor_of(&name).is_some() {
                    found.insert((line, name));
                }
            }
        }
    }
    found
}

/// First names of a path or of a braced group of paths: `{a::b, c}` gives a and c.
fn heads(code: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = code.strip_prefix('{') else { return vec![name(code)] };
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                all.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    all
}

fn floors(file: &Source, found: &mut Vec<String>) {
    let room = room_of(&file.path);
    let Some(floor) = floor_of(room) else {
        found.push(format!("{}: say in tests/tidy.rs on which floor `{room}` stands", file.path));
        return;
    };
    for (line, named) in named_rooms(file) {
        let below = floor_of(&named).is_some_and(|other| other < floor);
        let neighbour = NEIGHBOURS.iter().any(|(who, whom, _)| *who == room && *whom == named);
        if named != room && !below && !neighbour {
            found.push(format!("{}:{line}: `{room}` may not name `{named}`", file.path));
        }
    }
}

fn core_only(file: &Source, found: &mut Vec<String>) {
    let pure = CORE_ONLY.iter().any(|room| file.path.starts_with(room));
    if !pure || CORE_ONLY_EXCEPT.iter().any(|(path, _)| *path == file.path) {
        return;
    }
    for (line, code) in file.product() {
        for name in ALLOCATING.iter().filter(|name| words(code, name).next().is_some()) {
            found.push(format!("{}:{line}: `{name}` in a room of core alone", file.path));
        }
    }
}

fn unsafe_code(file: &Source, found: &mut Vec<String>) {
    if UNSAFE_IN.iter().any(|place| file.path.starts_with(place)) {
        return;
    }
    for at in words(&file.code, "unsafe") {
        let line = file.line_of(at);
        found.push(format!("{}:{line}: unsafe stands only in {UNSAFE_IN:?}", file.path));
    }
}

fn banned(file: &Source, found: &mut Vec<String>) {
    for Ban(name, allowed, reason) in BANNED {
        if allowed.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        for (line, code) in file.product() {
            if words(code, name).next().is_some() {
                found.push(format!("{}:{line}: `{name}` is banned: {reason}", file.path));
            }
        }
    }
}

/// Types of homes that hold messages: what is said to them and what they say, which goes within the
/// turn. Whatever else a home keeps of a message is a copy in a store of its own: a block that is
/// kept never comes home to its publisher, and when all are kept nobody can send.
const SAYINGS: &[&str] = &["Command", "Event", "Callback"];

/// A home keeps no block of a publisher.
fn kept_messages(file: &Source, found: &mut Vec<String>) {
    if !file.path.starts_with("src/broker/") || file.path == "src/broker/message.rs" {
        return;
    }
    for (name, line) in file.types_with("Message") {
        if !SAYINGS.contains(&name.as_str()) {
            let at = format!("{}:{line}", file.path);
            found.push(format!("{at}: {name} holds a message: a home copies what it keeps"));
        }
    }
}

/// No lint is switched off and no test is skipped.
fn lints(file: &Source, found: &mut Vec<String>) {
    for (at, line) in file.code.lines().enumerate() {
        let off = line.contains("#[allow(") || line.contains("#![allow(");
        if off && !line.contains("unsafe_code") {
            found.push(format!("{}:{}: a lint is switched off", file.path, at + 1));
        }
        if line.contains("#[ignore") {
            found.push(format!("{}:{}: a test is skipped", file.path, at + 1));
        }
    }
}

/// Each room has a description, and forbids `unsafe` unless it is one of the two that use it.
fn room_head(file: &Source, found: &mut Vec<String>) {
    let parts = file.path.split('/').count();
    let empty = file.code.trim().is_empty();
    if parts != 3 || !file.path.ends_with("/mod.rs") || empty {
        return;
    }
    let head = file.text.lines().filter(|line| line.starts_with("//!")).count();
    if head < 5 {
        found.push(format!("{}: the room's head says too little", file.path));
    }
    let first = file.text.lines().find(|line| !line.is_empty() && !line.starts_with("#!["));
    if !first.is_some_and(|line| line.starts_with("//!")) {
        found.push(format!("{}: the room's head comes first", file.path));
    }
    let excused = ["ring", "mem"].contains(&room_of(&file.path));
    if !excused && !file.code.contains("#![forbid(unsafe_code)]") {
        found.push(format!("{}: #![forbid(unsafe_code)] is missing", file.path));
    }
}

fn unfinished(file: &Source, found: &mut Vec<String>) {
    for (at, line) in file.text.lines().enumerate() {
        for word in UNFINISHED.iter().filter(|word| words(line, word).next().is_some()) {
            found.push(format!("{}:{}: {word}", file.path, at + 1));
        }
    }
}

/// Files below a folder, without what tools leave there.
fn walk(folder: &Path, files: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.map(|entry| entry.expect("a readable folder")) {
        let (path, name) = (entry.path(), entry.file_name());
        if ["target", "node_modules", ".work", "corpus", "artifacts"].iter().any(|n| name == *n) {
            continue;
        }
        if path.is_dir() {
            walk(&path, files);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let top = Path::new(env!("CARGO_MANIFEST_DIR"));
            let short = path.strip_prefix(top).expect("below the top").to_string_lossy();
            files.push(Source::new(&short, &text));
        }
    }
}

fn house() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "fuzz"] {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    mark_test_files(&mut files);
    files
}

#[test]
fn the_house_is_tidy() {
    let files = house();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the house was not found");
    let found = complaints(&files);
    assert!(found.is_empty(), "{} complaints:\n{}", found.len(), found.join("\n"));
}

#[path = "tidy/plants.rs"]
mod plants;
