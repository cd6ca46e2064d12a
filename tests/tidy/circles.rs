//! Circles of files: in a folder each file or folder may name others of it, but not so that two
//! need each other. The folder's `mod.rs` stands aside: it lists the files and says what is public;
//! what it hands on counts as named in the file that has it.

use super::heads;
use super::source::{Source, words};
use std::collections::{BTreeMap, BTreeSet};

/// Folders that still have a circle: folder, files of the largest one, reason. A ratchet: a smaller
/// circle lowers its number, and none strikes it out.
const CIRCLES: &[(&str, usize, &str)] = &[];

type Edges = BTreeMap<String, BTreeSet<String>>;

/// What stands below a folder: its nodes are files and folders, named as modules.
struct Folder<'a> {
    path: &'a str,
    /// Node, file, and how often `super::` leads from the file to the folder.
    files: Vec<(String, &'a Source, usize)>,
    /// Names that `mod.rs` hands on, and the node that has them.
    handed_on: BTreeMap<String, String>,
}

impl<'a> Folder<'a> {
    fn new(path: &'a str, all: &'a [Source]) -> Folder<'a> {
        let (mut files, mut head) = (Vec::new(), None);
        for file in all {
            let is_test = !file.test.is_empty() && file.test.iter().all(|test| *test);
            let below = file.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'));
            let Some(below) = below.filter(|below| below.ends_with(".rs") && !is_test) else {
                continue;
            };
            if below == "mod.rs" {
                head = Some(file);
                continue;
            }
            let node = below.split('/').next().unwrap_or(below).trim_end_matches(".rs");
            let ups = below.split('/').count() - usize::from(below.ends_with("/mod.rs"));
            files.push((node.to_owned(), file, ups));
        }
        let mut handed_on = BTreeMap::new();
        for (node, ..) in &files {
            let code = head.map_or("", |file| file.code.as_str());
            for at in words(code, &format!("{node}::")) {
                let is_use = ["use ", "use self::"].iter().any(|use_| code[..at].ends_with(use_));
                let names = heads(&code[at + node.len() + 2..]);
                handed_on.extend(names.into_iter().filter(|_| is_use).map(|n| (n, node.clone())));
            }
        }
        Folder { path, files, handed_on }
    }

    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        let own = format!("{}::", self.path.replacen("src", "crate", 1).replace('/', "::"));
        for (node, file, ups) in &self.files {
            let found = edges.entry(node.clone()).or_default();
            for root in ["super::".repeat(*ups), own.clone()] {
                for at in words(&file.code, &root) {
                    let line = file.line_of(at);
                    let is_test = file.test.get(line - 1).copied().unwrap_or(false);
                    if is_test || file.code[..at].ends_with("::") {
                        continue;
                    }
                    found.extend(heads(&file.code[at + root.len()..]));
                }
            }
        }
        let nodes: BTreeSet<String> = edges.keys().cloned().collect();
        let node_of = |name: &String| match nodes.contains(name) {
            true => Some(name.clone()),
            false => self.handed_on.get(name).cloned(),
        };
        let known = |(node, names): (&String, &BTreeSet<String>)| {
            let named = names.iter().filter_map(node_of).filter(|other| other != node);
            (node.clone(), named.collect())
        };
        edges.iter().map(known).collect()
    }
}

/// The largest set of nodes that all reach each other.
fn largest(edges: &Edges) -> Vec<String> {
    let reached = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(node) = open.pop() {
            for next in edges.get(node).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let all: Edges = edges.keys().map(|node| (node.clone(), reached(node))).collect();
    let circle = |node: &String| -> Vec<String> {
        let back = |other: &&String| all.get(*other).is_some_and(|r| r.contains(node));
        all[node].iter().filter(back).cloned().collect()
    };
    edges.keys().map(circle).max_by_key(Vec::len).unwrap_or_default()
}

/// Complains about circles that are larger than they may be; of `whole` also about exceptions that
/// are wider than needed.
pub fn circles(files: &[Source], whole: bool, found: &mut Vec<String>) {
    let mut folders: BTreeSet<&str> = BTreeSet::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/")) {
        folders.extend(file.path.match_indices('/').map(|(at, _)| &file.path[..at]).skip(1));
    }
    for path in folders {
        let circle = largest(&Folder::new(path, files).edges());
        let excepted = CIRCLES.iter().find(|(folder, ..)| *folder == path);
        let (count, most) = (circle.len(), excepted.map_or(0, |(_, files, _)| *files));
        if count > most {
            found.push(format!("{path}: a circle of {count} files, {most} allowed: {circle:?}"));
        } else if count < most && whole {
            found.push(format!("tests/tidy/circles.rs: {path} needs {count}, not {most}"));
        }
    }
}
