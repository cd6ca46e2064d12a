//! Owners: parts with private fields instead of one struct that everything can touch. A type stays
//! small enough to be read, nobody changes more than three parts at a time, and the engine has
//! floors of its own.

use super::heads;
use super::source::{Source, words};
use std::collections::{BTreeMap, BTreeSet};

/// Methods of one type, and files with its `impl`.
const METHODS_MAX: usize = 60;
const IMPL_FILES_MAX: usize = 3;
/// Fields of one struct, outside the rooms that are lists of settings and counters.
const FIELDS_MAX: usize = 20;
const LISTS: &[&str] = &["src/config/", "src/limits.rs", "src/metrics/"];

/// Types that may be larger: file or folder, type, methods, files, fields, reason. A ratchet.
const LARGE: &[(&str, &str, usize, usize, usize, &str)] = &[];

/// The parts of the engine, and the folder that owns the fields of each. A folder is one part.
const PARTS: &[(&str, &[&str])] = &[
    ("bus", &["Bus", "Mailbox"]),
    ("net", &["Net", "Input", "Accepts", "Crowd", "Transports", "Moves"]),
    ("delivery", &["Delivery", "Links", "Fanout"]),
    ("session", &["Stomp", "Sockets", "Revocation", "Sessions"]),
    ("web", &["Web", "Answers"]),
];

/// Structs of a part's folder that are only a group of owners: their fields are public.
const GROUPS: &[(&str, &str)] =
    &[("Delivery", "links and the fan-out to them, each an owner with private fields")];

/// Structs that carry `&mut` to parts nevertheless, with the reason.
const BUNDLES: &[(&str, &str)] =
    &[("Reply", "the one answer of a request: whoever answers gives it away")];

/// Parts that one function may change.
const PARTS_MAX: usize = 3;

/// The floors inside the engine, each name a file or folder of it: a lower one never names a higher
/// one. Files of one floor may name each other where they make no circle.
const FLOORS: &[(&str, u8)] = &[
    ("events", 1),
    ("moved", 0),
    ("reason", 1),
    ("shared", 1),
    ("context", 2),
    ("share", 3),
    ("bus", 3),
    ("net", 3),
    ("delivery", 4),
    ("session", 5),
    ("web", 6),
    ("dispatch", 7),
    ("reading", 8),
    ("standalone", 8),
    ("timers", 8),
    ("audit", 8),
    ("invariants", 8),
    ("shard", 9),
];

/// Lower parts that a part on the same floor may name, with the reason.
const BESIDE: &[(&str, &str, &str)] =
    &[("context", "bus", "what the log is told goes through the mailbox")];

/// The loop: it alone may change all parts at once.
const LOOP: &[&str] = &["shard", "dispatch", "reading", "standalone", "timers"];

/// All complaints about types, parts and floors.
pub fn owners(files: &[Source], whole: bool, found: &mut Vec<String>) {
    let product = |file: &&Source| {
        let is_test = !file.test.is_empty() && file.test.iter().all(|test| *test);
        file.path.starts_with("src/") && file.path.ends_with(".rs") && !is_test
    };
    let files: Vec<&Source> = files.iter().filter(product).collect();
    large_types(&files, whole, found);
    for file in files.iter().filter(|file| file.path.starts_with("src/engine/")) {
        floors(file, found);
        many_parts(file, found);
        bundles(file, found);
        open_fields(file, found);
    }
}

/// The folder below `src/`, or the file there, of a path.
fn room(path: &str) -> String {
    path.split('/').take(2).collect::<Vec<_>>().join("/").trim_end_matches(".rs").to_owned()
}

/// The file or folder of the engine that a path belongs to.
fn engine_node(path: &str) -> &str {
    let inner = path.strip_prefix("src/engine/").unwrap_or(path);
    inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
}

fn is_test(file: &Source, at: usize) -> bool {
    file.test.get(file.line_of(at) - 1).copied().unwrap_or(false)
}

/// Text between the brackets that open at or behind `from`, and where it begins.
fn block(code: &str, from: usize, open: char, close: char) -> Option<(usize, &str)> {
    let start = from + code[from..].find(open)? + 1;
    let mut depth = 1;
    for (at, c) in code[start..].char_indices() {
        depth += i32::from(c == open) - i32::from(c == close);
        if depth == 0 {
            return Some((start, &code[start..start + at]));
        }
    }
    None
}

/// `impl` blocks of a file: the type's name, and what is between the braces.
fn impls(file: &Source) -> Vec<(String, usize, &str)> {
    let mut all = Vec::new();
    for at in words(&file.code, "impl").filter(|at| !is_test(file, *at)) {
        let line_start = file.code[..at].rfind('\n').map_or(0, |end| end + 1);
        if !file.code[line_start..at].trim().is_empty() {
            continue;
        }
        let Some((start, body)) = block(&file.code, at, '{', '}') else { continue };
        let mut head = file.code[at + 4..start - 1].trim();
        if head.starts_with('<') {
            let end = closing_angle(head);
            head = head[end..].trim();
        }
        if words(head, "for").next().is_some() {
            continue;
        }
        let name: String = head.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        all.push((name, start, body));
    }
    all
}

fn closing_angle(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        depth += i32::from(c == '<') - i32::from(c == '>' && !text[..at].ends_with('-'));
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

/// Structs with named fields: name, and the text of their fields.
fn structs(file: &Source) -> Vec<(String, &str)> {
    let mut all = Vec::new();
    for at in words(&file.code, "struct").filter(|at| !is_test(file, *at)) {
        let rest = &file.code[at + 6..];
        let name: String =
            rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = rest.find(['{', ';', '(']).unwrap_or(0);
        if name.is_empty() || !rest[end..].starts_with('{') {
            continue;
        }
        if let Some((_, fields)) = block(&file.code, at, '{', '}') {
            all.push((name, fields));
        }
    }
    all
}

/// The fields of a struct, one text each.
fn fields(text: &str) -> Vec<String> {
    let (mut depth, mut all) = (0, vec![String::new()]);
    for c in text.chars() {
        depth += i32::from("([{<".contains(c)) - i32::from(")]}>".contains(c));
        if c == ',' && depth == 0 {
            all.push(String::new());
        } else if let Some(last) = all.last_mut() {
            last.push(c);
        }
    }
    let code = |field: String| -> String {
        let lines = field.lines().filter(|line| !line.trim_start().starts_with('#'));
        lines.collect::<Vec<_>>().join(" ").trim().to_owned()
    };
    all.into_iter().map(code).filter(|field| field.contains(':')).collect()
}

fn large_types(files: &[&Source], whole: bool, found: &mut Vec<String>) {
    let mut methods: BTreeMap<(String, String), (usize, BTreeSet<&str>)> = BTreeMap::new();
    for file in files {
        for (name, start, body) in impls(file) {
            let count = words(body, "fn")
                .filter(|&at| !is_test(file, start + at) && body[at + 2..].starts_with(' '));
            let entry = methods.entry((room(&file.path), name)).or_default();
            entry.0 += count.count();
            entry.1.insert(&file.path);
        }
    }
    let allowed = |room: &str, name: &str| {
        let row = LARGE.iter().find(|row| row.0 == room && row.1 == name);
        row.map_or((METHODS_MAX, IMPL_FILES_MAX, FIELDS_MAX), |row| {
            (row.2.max(METHODS_MAX), row.3.max(IMPL_FILES_MAX), row.4.max(FIELDS_MAX))
        })
    };
    let mut largest: BTreeMap<(String, String), [usize; 3]> = BTreeMap::new();
    for ((room, name), (count, places)) in &methods {
        let (most, most_files, _) = allowed(room, name);
        if *count > most {
            found.push(format!("{room}: {name} has {count} methods, {most} allowed"));
        }
        if places.len() > most_files {
            let places = places.len();
            found.push(format!("{room}: {name} has impl in {places} files, {most_files} allowed"));
        }
        let entry = largest.entry((room.clone(), name.clone())).or_default();
        (entry[0], entry[1]) = (*count, places.len());
    }
    for file in files.iter().filter(|file| !LISTS.iter().any(|list| file.path.starts_with(list))) {
        for (name, text) in structs(file) {
            let (room, count) = (room(&file.path), fields(text).len());
            let (_, _, most) = allowed(&room, &name);
            if count > most {
                found.push(format!("{}: {name} has {count} fields, {most} allowed", file.path));
            }
            let entry = largest.entry((room, name)).or_default();
            entry[2] = entry[2].max(count);
        }
    }
    for (room, name, methods, places, fields, _) in LARGE.iter().filter(|_| whole) {
        let key = ((*room).to_owned(), (*name).to_owned());
        let has = largest.get(&key).copied().unwrap_or_default();
        let rows = [(*methods, has[0]), (*places, has[1]), (*fields, has[2])];
        if rows.iter().any(|(allowed, has)| *allowed > 0 && has != allowed) {
            found
                .push(format!("tests/tidy/owners.rs: {room} {name} has {has:?}: the row is wider"));
        }
    }
}

fn floor_of(node: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == node).map(|(_, floor)| *floor)
}

/// A lower part of the engine never names a higher one.
fn floors(file: &Source, found: &mut Vec<String>) {
    if file.path == "src/engine/mod.rs" {
        return;
    }
    let node = engine_node(&file.path);
    let Some(floor) = floor_of(node) else {
        found.push(format!("{}: say in tests/tidy/owners.rs on which floor it stands", file.path));
        return;
    };
    let below = file.path["src/engine/".len()..].split('/').count();
    let ups = below - usize::from(file.path.ends_with("/mod.rs"));
    for root in ["crate::engine::".to_owned(), "super::".repeat(ups.max(1))] {
        for at in words(&file.code, &root).filter(|at| !is_test(file, *at)) {
            if file.code[..at].ends_with("::") {
                continue;
            }
            for named in heads(&file.code[at + root.len()..]) {
                let named = if named == "mailbox" { "bus".to_owned() } else { named };
                let Some(other) = floor_of(&named).filter(|_| named != node) else { continue };
                let beside = BESIDE.iter().any(|(low, high, _)| *low == named && *high == node);
                if other > floor || other == floor && !beside && floor < 8 {
                    let line = file.line_of(at);
                    found.push(format!("{}:{line}: `{node}` may not name `{named}`", file.path));
                }
            }
        }
    }
}

/// The parts that a signature or a struct changes, by their folders.
fn changed(text: &str) -> BTreeSet<&'static str> {
    let mut all = BTreeSet::new();
    for (folder, types) in PARTS {
        let is_named = |name: &&str| {
            words(text, name).any(|at| {
                let before = text[..at].trim_end();
                let before = before.rsplit_once("super::").map_or(before, |(rest, _)| rest);
                let mutable = before.trim_end().ends_with("mut");
                mutable && text[..at].contains('&')
            })
        };
        if types.iter().any(is_named) {
            all.insert(*folder);
        }
    }
    all
}

/// No function changes more than three parts, and none but the loop changes them by the loop's own
/// struct.
fn many_parts(file: &Source, found: &mut Vec<String>) {
    let node = engine_node(&file.path);
    let owners = impls(file);
    for at in words(&file.code, "fn").filter(|at| !is_test(file, *at)) {
        let Some((start, parameters)) = block(&file.code, at, '(', ')') else { continue };
        if file.code[at..start].contains(['{', ';']) {
            continue;
        }
        let mut parts = changed(parameters);
        let owner = owners.iter().find(|(_, from, body)| (*from..from + body.len()).contains(&at));
        if parameters.trim_start().starts_with("&mut self")
            && let Some((name, ..)) = owner
        {
            let own = PARTS.iter().find(|(_, types)| types.contains(&name.as_str()));
            parts.extend(own.map(|(folder, _)| *folder));
        }
        let line = file.line_of(at);
        if parts.len() > PARTS_MAX {
            let text = format!("a function changes {} parts, {PARTS_MAX} allowed", parts.len());
            found.push(format!("{}:{line}: {text}: {parts:?}", file.path));
        }
        let by_loop = ["Shard", "Dispatch"].iter().any(|name| {
            words(parameters, name).any(|at| parameters[..at].trim_end().ends_with("mut"))
        });
        if by_loop && !LOOP.contains(&node) {
            found.push(format!("{}:{line}: only the loop changes all parts", file.path));
        }
    }
}

/// A struct of references to parts would be a way around the signatures.
fn bundles(file: &Source, found: &mut Vec<String>) {
    for (name, text) in structs(file) {
        let held = fields(text).into_iter().filter(|field| field.contains("&'"));
        let parts: BTreeSet<_> = held.flat_map(|field| changed(&field)).collect();
        let is_known = BUNDLES.iter().any(|(bundle, _)| *bundle == name);
        if !parts.is_empty() && !is_known {
            found.push(format!("{}: {name} carries `&mut` to parts: {parts:?}", file.path));
        }
    }
}

/// Fields of a part are private to its folder.
fn open_fields(file: &Source, found: &mut Vec<String>) {
    let node = engine_node(&file.path);
    let Some((_, types)) = PARTS.iter().find(|(folder, _)| *folder == node) else { return };
    let is_group = |name: &str| GROUPS.iter().any(|(group, _)| *group == name);
    let own = structs(file).into_iter();
    for (name, text) in own.filter(|(name, _)| types.contains(&name.as_str()) && !is_group(name)) {
        for field in fields(text).iter().filter(|field| is_open(field)) {
            let field = field.split(':').next().unwrap_or_default();
            found.push(format!("{}: {name}: the field `{field}` is not private", file.path));
        }
    }
}

fn is_open(field: &str) -> bool {
    field.starts_with("pub ") || field.starts_with("pub(crate)") || field.starts_with("pub(in")
}
