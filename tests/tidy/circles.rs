//! Circles of files: in a room each file may name others of it, but not so that two need each
//! other. `mod.rs` stands aside: it lists the room's files and says what is public.

use super::source::{Source, words};
use super::{heads, room_of};
use std::collections::{BTreeMap, BTreeSet};

/// Rooms that still have a circle: room, files of the largest one, reason. A ratchet: whoever makes
/// it smaller lowers its number or strikes it out.
const CIRCLES: &[(&str, usize, &str)] = &[
    ("engine", 19, "methods of one struct; parts with private fields are to replace it"),
    ("sim", 7, "clients and what they did name each other"),
    ("config", 4, "kinds of values are written in terms of the tables that they stand in"),
];

/// Which files of one room a file names.
fn named(file: &Source, stems: &BTreeSet<&str>) -> BTreeSet<String> {
    let own = format!("crate::{}::", room_of(&file.path));
    let mut found = BTreeSet::new();
    for root in ["super::", own.as_str()] {
        for at in words(&file.code, root) {
            let line = file.line_of(at);
            let is_test = file.test.get(line - 1).copied().unwrap_or(false);
            if is_test || file.code[..at].ends_with("::") {
                continue;
            }
            let names = heads(&file.code[at + root.len()..]);
            found.extend(names.into_iter().filter(|name| stems.contains(name.as_str())));
        }
    }
    found
}

/// The largest set of files that all reach each other.
fn largest(edges: &BTreeMap<&str, BTreeSet<String>>) -> Vec<String> {
    let reached = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = open.pop() {
            for next in edges.get(file.as_str()).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<&str, BTreeSet<String>> =
        edges.keys().map(|file| (*file, reached(file))).collect();
    let circle = |file: &str| -> Vec<String> {
        let back = |other: &&String| all.get(other.as_str()).is_some_and(|r| r.contains(file));
        all[file].iter().filter(back).cloned().collect()
    };
    edges.keys().map(|file| circle(file)).max_by_key(Vec::len).unwrap_or_default()
}

/// Complains about circles that are larger than they may be, and about exceptions that are too
/// wide.
pub fn circles(files: &[Source], found: &mut Vec<String>) {
    let mut rooms: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/")) {
        let is_test = !file.test.is_empty() && file.test.iter().all(|test| *test);
        if file.path.split('/').count() == 3 && !file.path.ends_with("/mod.rs") && !is_test {
            rooms.entry(room_of(&file.path)).or_default().push(file);
        }
    }
    for (room, list) in rooms {
        let stem = |file: &Source| {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            name.strip_suffix(".rs").map(str::to_owned)
        };
        let stems: Vec<String> = list.iter().filter_map(|file| stem(file)).collect();
        let known: BTreeSet<&str> = stems.iter().map(String::as_str).collect();
        let edges: BTreeMap<&str, BTreeSet<String>> = list
            .iter()
            .zip(&stems)
            .map(|(file, stem)| {
                let mut names = named(file, &known);
                names.remove(stem);
                (stem.as_str(), names)
            })
            .collect();
        let circle = largest(&edges);
        let excepted = CIRCLES.iter().find(|(name, ..)| *name == room);
        let most = excepted.map_or(0, |(_, files, _)| *files);
        if circle.len() > most {
            let count = circle.len();
            found
                .push(format!("src/{room}: a circle of {count} files, {most} allowed: {circle:?}"));
        } else if circle.len() < most && files.len() > 100 {
            let count = circle.len();
            found.push(format!("tests/tidy/circles.rs: {room} needs {count}, not {most}"));
        }
    }
}
