//! A source file as the tidy rules see it: code without comments and strings, and which lines are
//! test code.

/// A file with its lines seen three ways.
pub struct Source {
    /// Path from the top of the repository.
    pub path: String,
    /// The unchanged text.
    pub text: String,
    /// Rust only: the same text with comments and the insides of literals blanked out.
    pub code: String,
    /// Whether a line (from 0) belongs to a unit test module or another `cfg(test)` item.
    pub test: Vec<bool>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { blank(text) } else { text.to_string() };
        let test = test_lines(path, &code);
        Source { path: path.to_string(), text: text.to_string(), code, test }
    }

    /// Lines of code outside tests: number from 1, code.
    pub fn product(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().filter(|(at, _)| !self.test[*at]).map(|(at, l)| (at + 1, l))
    }

    /// Line number (from 1) of a byte of the text.
    pub fn line_of(&self, at: usize) -> usize {
        self.code[..at].matches('\n').count() + 1
    }

    /// Functions with a body: name, first line, count of lines.
    pub fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        for at in words(&self.code, "fn") {
            let rest = &self.code[at + 2..];
            let name: String = rest
                .trim_start()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let Some(open) = rest.find(['{', ';']) else { continue };
            // A pointer type `fn(u8)` has no name; a declaration ends in `;` without a body. An
            // array type `[u8; 4]` in the signature contains a `;` too: skip brackets.
            let open = body_start(rest).unwrap_or(open);
            if name.is_empty() || !rest[open..].starts_with('{') {
                continue;
            }
            let end = at + 2 + open + block_len(&rest[open..]);
            let first = self.line_of(at);
            found.push((name, first, self.line_of(end - 1) - first + 1));
        }
        found
    }

    /// Structs and enums outside tests that name a type in their fields: each with its line.
    pub fn types_with(&self, named: &str) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        for at in words(&self.code, "struct").chain(words(&self.code, "enum")) {
            let line = self.line_of(at);
            let rest = self.code[at..].split_once(' ').map_or("", |(_, rest)| rest);
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next();
            let Some(open) = rest.find(['{', ';', '(']) else { continue };
            let fields = match rest[open..].starts_with('{') {
                true => &rest[open..open + block_len(&rest[open..])],
                false => rest[open..].split(';').next().unwrap_or_default(),
            };
            let is_test = self.test.get(line - 1).copied().unwrap_or(false);
            if !is_test && words(fields, named).next().is_some() {
                found.push((name.unwrap_or_default().to_string(), line));
            }
        }
        found
    }
}

/// Marks files as tests that their parent declares under `cfg(test)`: `#[cfg(test)] mod oracle;`.
pub fn mark_test_files(files: &mut [Source]) {
    let mut declared = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/")) {
        let stem = file.path.trim_end_matches(".rs");
        let folder = ["/mod", "/lib", "/main"].iter().find_map(|end| stem.strip_suffix(end));
        let folder = folder.unwrap_or(stem);
        for (_, code) in file.code.lines().enumerate().filter(|(at, _)| file.test[*at]) {
            let Some(at) = words(code, "mod").next() else { continue };
            let Some(name) = code[at + 3..].trim().strip_suffix(';') else { continue };
            declared.push(format!("{folder}/{name}.rs"));
            declared.push(format!("{folder}/{name}/mod.rs"));
        }
    }
    for file in files.iter_mut().filter(|file| declared.contains(&file.path)) {
        file.test.fill(true);
    }
}

/// Offset of the first `{` or `;` outside parentheses and brackets.
fn body_start(code: &str) -> Option<usize> {
    let mut depth = 0i32;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' | ';' if depth == 0 => return Some(at),
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    None
}

/// Bytes of the block that starts at the beginning of `code`, braces included.
fn block_len(code: &str) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Offsets of `word` where it is not part of a longer name.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let starts = word.starts_with(name) && code[..at].ends_with(name);
        let ends = word.ends_with(name) && code[at + word.len()..].starts_with(name);
        !starts && !ends
    })
}

fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let count = code.lines().count();
    if path.ends_with("/tests.rs") || path.contains("/tests/") || !path.starts_with("src/") {
        return vec![true; count];
    }
    let mut test = vec![false; count];
    for (at, _) in code.match_indices("#[cfg(") {
        let attribute = &code[at..at + code[at..].find(']').unwrap_or(0)];
        if words(attribute, "test").next().is_none() || attribute.contains("not(test") {
            continue;
        }
        // The item that the attribute is on: up to the end of its block, or its semicolon.
        let rest = at + attribute.len() + 1;
        let Some(open) = body_start(&code[rest..]).map(|o| rest + o) else { continue };
        let end =
            if code[open..].starts_with('{') { open + block_len(&code[open..]) } else { open };
        let first = code[..at].matches('\n').count();
        let last = first + code[at..end].matches('\n').count();
        test[first..=last].fill(true);
    }
    test
}

/// Blanks comments and the insides of string and character literals, keeping every line break
/// and every offset.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let len = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                text[at..].find('\n').unwrap_or(text.len() - at)
            }
            b'/' if bytes[at..].starts_with(b"/*") => comment_len(&bytes[at..]),
            b'"' => string_len(&bytes[at..]),
            b'r' if !in_name(bytes, at) => raw_string_len(&bytes[at..]),
            b'\'' => char_len(&text[at..]),
            _ => 0,
        };
        for byte in &mut out[at..at + len] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += len.max(1);
    }
    String::from_utf8(out).expect("only whole literals and comments are blanked")
}

/// Whether the `r` at `at` is the middle of a name; `br"…"` is not.
fn in_name(bytes: &[u8], at: usize) -> bool {
    let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match bytes[..at] {
        [.., before, b'b'] => name(before),
        [b'b'] => false,
        [.., before] => name(before),
        [] => false,
    }
}

fn comment_len(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_len(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Bytes of `r"…"`, `r#"…"#`, …; 0 for anything else that starts with `r`.
fn raw_string_len(bytes: &[u8]) -> usize {
    let hashes = bytes[1..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let close: Vec<u8> = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = 2 + hashes;
    let end = bytes[body..].windows(close.len()).position(|window| window == close);
    end.map_or(bytes.len(), |end| body + end + close.len())
}

/// Bytes of a character literal; 0 for a lifetime.
fn char_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[3.min(text.len())..].find('\'').map_or(0, |end| end + 4),
        Some(_) => match chars.next() {
            Some((end, '\'')) => end + 1,
            _ => 0,
        },
        None => 0,
    }
}
