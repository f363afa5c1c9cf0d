//! The examples in a document, as its reader sees them.

use std::fs;
use std::path::Path;

/// One example: a fenced block, a literal display, or a displayed line.
#[derive(Debug)]
pub struct Example {
    /// File and line, for whoever must correct it.
    pub place: String,
    /// What the fence (after `console`) or the comments before the display say about it.
    pub notes: Vec<String>,
    /// Its lines.
    pub lines: Vec<String>,
}

impl Example {
    /// What follows `start` in one of the notes.
    pub fn note(&self, start: &str) -> Option<&str> {
        self.notes.iter().find_map(|note| note.strip_prefix(start))
    }
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).expect("the document is there")
}

/// The fenced blocks of a Markdown file. Each must say that it is a `console`, so that none is
/// overlooked; the word after that names the terminal.
pub fn markdown(file: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut open = false;
    for (index, line) in read(file).lines().enumerate() {
        let place = format!("{file}:{}", index + 1);
        match line.strip_prefix("```") {
            Some(_) if open => open = false,
            Some(info) => {
                let mut words = info.split(' ');
                assert_eq!(words.next(), Some("console"), "{place}: who runs this?");
                let notes = words.map(|name| format!("terminal {name}")).collect();
                let lines = Vec::new();
                examples.push(Example {
                    place,
                    notes,
                    lines,
                });
                open = true;
            }
            None if open => examples.last_mut().unwrap().lines.push(line.to_owned()),
            None => assert!(!line.starts_with("    "), "{place}: who runs this?"),
        }
    }
    examples
}

/// The literal displays of a manual page, and those of its `.Dl` lines that begin with `$ `.
pub fn manual(file: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut notes = Vec::new();
    let mut open = false;
    for (index, line) in read(file).lines().enumerate() {
        let place = format!("{file}:{}", index + 1);
        if let Some(note) = line.strip_prefix(".\\\" Example: ") {
            notes.push(note.to_owned());
        } else if line.starts_with(".Bd") {
            assert!(line.starts_with(".Bd -literal"), "{place}: who runs this?");
            let (notes, lines) = (std::mem::take(&mut notes), Vec::new());
            examples.push(Example {
                place,
                notes,
                lines,
            });
            open = true;
        } else if line == ".Ed" {
            open = false;
        } else if open {
            assert!(!line.starts_with('.'), "{place}: a macro in a display");
            examples.last_mut().unwrap().lines.push(plain(line, &place));
        } else if let Some(line) = line.strip_prefix(".Dl $ ") {
            let lines = vec![format!("$ {}", plain(line, &place))];
            let notes = std::mem::take(&mut notes);
            examples.push(Example {
                place,
                notes,
                lines,
            });
        }
    }
    examples
}

/// A line of a display as it is shown.
fn plain(line: &str, place: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some((before, escape)) = rest.split_once('\\') {
        shown.push_str(before);
        let (character, after) = [
            ("e", "\\"),
            ("&", ""),
            ("-", "-"),
            ("(dq", "\""),
            ("(aq", "'"),
        ]
        .iter()
        .find_map(|(name, is)| Some((*is, escape.strip_prefix(name)?)))
        .unwrap_or_else(|| panic!("{place}: an escape that this test does not know"));
        shown.push_str(character);
        rest = after;
    }
    shown + rest
}
