//! The rooms of the source: which may name which, and which know neither system nor clock.
//!
//! The source is read as text, without comments, literals and what is compiled for tests only. A
//! room is a directory or a file right below `src/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Any room.
const ALL: &[&str] = &["*"];

/// Each room, and what it may name besides itself: a room, or a module of one.
const ROOMS: &[(&str, &[&str])] = &[
    ("account", &[]),
    ("audit", &["command", "wire", "policy"]),
    ("auth", &["command", "wire"]),
    (
        "bus",
        &["command", "wire", "outbox", "account", "sys::pages"],
    ),
    (
        "cli",
        &[
            "command", "wire", "audit", "auth", "options", "policy", "sys", "server", "logging",
        ],
    ),
    ("command", &[]),
    (
        "controller",
        &[
            "command",
            "wire",
            "auth",
            "policy",
            "audit",
            "tor",
            "sys::peer",
            "account",
            "keep",
        ],
    ),
    ("keep", &["command", "wire", "policy::identity", "tor"]),
    ("lib", &[]),
    ("logging", &["command", "wire", "sys::process"]),
    ("main", &["cli"]),
    ("options", &["command", "wire", "auth", "sys"]),
    ("outbox", &["command", "sys", "account"]),
    ("policy", &["command", "wire"]),
    ("server", ALL),
    ("sys", &[]),
    ("tor", &["command", "wire", "auth", "account"]),
    ("wire", &["command"]),
];

/// The rooms without I/O: octets and the time come in as arguments, and octets go out.
const PURE: &[&str] = &[
    "account",
    "audit",
    "auth",
    "command",
    "controller",
    "keep",
    "policy",
    "tor",
    "wire",
];

/// Names that no pure room has.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::time::SystemTime",
    "Instant::now",
    "log",
    "mio",
    "nix",
];

/// A file of the source.
struct File {
    path: PathBuf,
    /// The module that it is: the room, and the modules in it.
    module: Vec<String>,
    tokens: Vec<Token>,
}

impl File {
    fn room(&self) -> &str {
        &self.module[0]
    }
}

/// A word, or one other character.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// A path of the source, as `crate::wire::text` or `std::io`, and its line.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    path: Vec<String>,
    line: usize,
}

/// The tokens without comments, and literals as one `"` each.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let is_word = |octet: char| octet.is_alphanumeric() || octet == '_';
        let raw = rest.trim_start_matches(['b', 'r']).trim_start_matches('#');
        let hashes = rest.len() - rest.trim_start_matches(['b', 'r']).len();
        let (length, text) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), "")
        } else if rest.starts_with("/*") {
            (rest.find("*/").map_or(rest.len(), |at| at + 2), "")
        } else if raw.starts_with('"') && is_raw(rest) {
            let marks = "#".repeat(rest.len() - raw.len() - hashes);
            let begun = rest.len() - raw.len() + 1;
            let end = rest[begun..].find(&format!("\"{marks}"));
            let end = end.map_or(rest.len(), |at| begun + at + 1 + marks.len());
            (end, "\"")
        } else if let Some(begun) = ["\"", "b\"", "c\""].iter().find(|s| rest.starts_with(**s)) {
            (begun.len() + quoted(&rest[begun.len()..], '"'), "\"")
        } else if let Some(behind) = rest.strip_prefix('\'') {
            // A lifetime has no quote behind its first character.
            let mut two = behind.chars();
            let is_char = two.next() == Some('\\') || two.next() == Some('\'');
            let length = if is_char { quoted(behind, '\'') } else { 0 };
            (1 + length, "\"")
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (length, &rest[..length])
        } else {
            let length = first.len_utf8();
            (length, rest[..length].trim())
        };
        if !text.is_empty() {
            let text = text.to_owned();
            tokens.push(Token { text, line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

fn is_raw(text: &str) -> bool {
    ["r\"", "r#", "br\"", "br#"]
        .iter()
        .any(|start| text.starts_with(start))
}

/// Octets of a literal behind its first quote, the last quote included.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    let end = text.find(|character| {
        let is_end = character == quote && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |at| at + 1)
}

/// Whether these tokens come next.
fn come(tokens: &[Token], expected: &[&str]) -> bool {
    tokens.len() >= expected.len()
        && tokens
            .iter()
            .zip(expected)
            .all(|(token, text)| token.text == *text)
}

/// The tokens without items for tests only, and the modules for tests that are files.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    const ONLY: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        if !come(&tokens[at..], &ONLY) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += ONLY.len();
        let (begun, mut depth) = (at, 0_usize);
        while let Some(token) = tokens.get(at) {
            at += 1;
            match &*token.text {
                "{" | "(" | "[" => depth += 1,
                "}" if depth == 1 => break,
                "}" | ")" | "]" => depth = depth.saturating_sub(1),
                ";" if depth == 0 => {
                    if tokens[begun].text == "mod" {
                        modules.push(tokens[begun + 1].text.clone());
                    }
                    break;
                }
                _ => {}
            }
        }
    }
    (kept, modules)
}

/// Every path of at least two words, those of `use` trees one by one.
fn names(tokens: &[Token]) -> Vec<Name> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_path = is_word(&tokens[at]) && come(&tokens[at + 1..], &[":", ":"]);
        at = if is_path {
            tree(tokens, at, &[], &mut names)
        } else {
            at + 1
        };
    }
    names
}

fn is_word(token: &Token) -> bool {
    let first = token.text.chars().next();
    first.is_some_and(|first| first.is_alphabetic() || first == '_')
}

/// Reads one tree below `above`, which begins at `at`, and returns where it ends.
fn tree(tokens: &[Token], mut at: usize, above: &[String], names: &mut Vec<Name>) -> usize {
    let mut path = above.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        if token.text == "{" {
            at += 1;
            while let Some(token) = tokens.get(at).filter(|token| token.text != "}") {
                let is_tree = is_word(token);
                at = if is_tree {
                    tree(tokens, at, &path, names)
                } else {
                    at + 1
                };
            }
            return at + 1;
        }
        if !is_word(token) {
            break;
        }
        path.push(token.text.clone());
        at += 1;
        if !come(&tokens[at..], &[":", ":"]) {
            break;
        }
        at += 2;
    }
    names.push(Name { path, line });
    at
}

/// The path from the crate on, if it is one of this crate.
fn of_crate(file: &File, name: &Name) -> Option<Vec<String>> {
    let first = name.path.first()?;
    if first == "crate" || first == "onionbus" {
        return Some(name.path[1..].to_vec());
    }
    let ups = name.path.iter().take_while(|word| *word == "super").count();
    let above = file.module.len().checked_sub(ups).filter(|_| ups > 0)?;
    Some([&file.module[..above], &name.path[ups..]].concat())
}

fn collect(directory: &Path, module: &[String], files: &mut Vec<(PathBuf, Vec<String>)>) {
    for entry in fs::read_dir(directory).expect("a directory of the source") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().expect("a name").to_string_lossy();
        let mut below = module.to_vec();
        if stem != "mod" {
            below.push(stem.into_owned());
        }
        if path.is_dir() {
            collect(&path, &below, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push((path, below));
        }
    }
}

/// The source, without what is for tests.
fn source() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join("src"), &[], &mut paths);
    paths.sort();
    let mut files = Vec::new();
    let mut for_tests = BTreeSet::new();
    for (path, module) in paths {
        let text = fs::read_to_string(&path).expect("a file of the source");
        let (tokens, modules) = without_tests(&tokens(&text));
        for name in modules {
            for_tests.insert([&module[..], &[name]].concat());
        }
        let path = path.strip_prefix(root).expect("it is below").to_owned();
        files.push(File {
            path,
            module,
            tokens,
        });
    }
    files.retain(|file| {
        !for_tests
            .iter()
            .any(|module| file.module.starts_with(module))
    });
    assert!(files.len() > 50, "the source is not found");
    files
}

/// Fails if there are violations, and shows all.
#[track_caller]
fn none(mut violations: Vec<String>) {
    violations.dedup();
    let count = violations.len();
    assert!(count == 0, "{count} violations:\n{}", violations.join("\n"));
}

#[test]
fn each_room_names_only_those_below_it() {
    let mut violations = Vec::new();
    for file in source() {
        let Some((room, may)) = ROOMS.iter().find(|(room, _)| *room == file.room()) else {
            violations.push(format!("{}: no such room", file.path.display()));
            continue;
        };
        for name in names(&file.tokens) {
            let Some(path) = of_crate(&file, &name) else {
                continue;
            };
            let Some(other) = path.first().filter(|other| other != room) else {
                continue;
            };
            let path = path.join("::");
            let is_allowed = may.iter().any(|one| {
                let behind = path.strip_prefix(one);
                *one == "*" || behind.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            });
            // A word that is no room is an item of the crate's root, or a module here.
            if ROOMS.iter().any(|(room, _)| room == other) && !is_allowed {
                let place = format!("{}:{}", file.path.display(), name.line);
                violations.push(format!("{place}: {room} names {path}"));
            }
        }
    }
    none(violations);
}

#[test]
fn pure_rooms_know_neither_system_nor_clock() {
    let mut violations = Vec::new();
    for file in source() {
        if !PURE.contains(&file.room()) {
            continue;
        }
        for name in names(&file.tokens) {
            let path = format!("::{}::", name.path.join("::"));
            for impure in IMPURE {
                let found = if *impure == "Instant::now" {
                    path.ends_with("::Instant::now::")
                } else {
                    path.starts_with(&format!("::{impure}::"))
                };
                if found {
                    let place = format!("{}:{}", file.path.display(), name.line);
                    violations.push(format!("{place}: {} names {impure}", file.room()));
                }
            }
        }
    }
    none(violations);
}

#[test]
fn names_are_found_wherever_they_stand() {
    let text = r##"
        //! crate::comment
        use crate::{bus::{self, Bus}, wire};
        use std::{fmt, io::{Read, Write}};
        use super::super::sys;
        /* crate::comment */
        fn f<'a>(x: &'a str) -> char {
            let _ = ("crate::text", b"\"crate::text", r#"crate::"text"#, '\'', '"');
            log::warn!("{}", crate::outbox::MOST);
            std::time::Instant::now()
        }
        #[cfg(test)]
        mod tests {
            use crate::server;
            fn f() { {} }
        }
        #[cfg(test)]
        mod more;
        use crate::options;
    "##;
    let (tokens, modules) = without_tests(&tokens(text));
    assert_eq!(modules, ["more"]);
    let found: Vec<_> = names(&tokens)
        .into_iter()
        .map(|name| format!("{}:{}", name.line, name.path.join("::")))
        .collect();
    let expected = [
        "3:crate::bus::self",
        "3:crate::bus::Bus",
        "3:crate::wire",
        "4:std::fmt",
        "4:std::io::Read",
        "4:std::io::Write",
        "5:super::super::sys",
        "9:log::warn",
        "9:crate::outbox::MOST",
        "10:std::time::Instant::now",
        "19:crate::options",
    ];
    assert_eq!(found, expected);
    let file = File {
        path: PathBuf::new(),
        module: vec!["tor".into(), "leg".into()],
        tokens,
    };
    let name = Name {
        path: ["super", "super", "sys"].map(str::to_owned).into(),
        line: 5,
    };
    assert_eq!(of_crate(&file, &name), Some(vec!["sys".to_owned()]));
}
