//! The line that is being typed, and the lines of before.

use super::keys::Key;

/// The most lines of before that are at hand.
pub const MOST: usize = 1000;

/// A line and the cursor in it.
#[derive(Debug, Default)]
pub struct Edit {
    text: Vec<char>,
    /// The characters in front of the cursor, no more than there are.
    cursor: usize,
    /// The lines of before, the oldest first.
    past: Vec<String>,
    /// The place in `past` that is shown, and the beginning that was typed before it was.
    shown: Option<(usize, Vec<char>)>,
}

impl Edit {
    /// An empty line with these lines of before.
    pub fn new(past: Vec<String>) -> Self {
        Self {
            past,
            ..Self::default()
        }
    }

    /// The text in front of the cursor and the text behind it.
    pub fn halves(&self) -> (String, String) {
        let (before, after) = self.text.split_at(self.cursor);
        (before.iter().collect(), after.iter().collect())
    }

    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Takes the line out and begins a new one.
    pub fn take(&mut self) -> String {
        self.shown = None;
        self.cursor = 0;
        self.text.drain(..).collect()
    }

    /// Keeps a line for [`Key::Up`].
    pub fn remember(&mut self, line: &str) {
        if self.past.last().is_none_or(|last| last != line) {
            self.past.push(line.to_owned());
        }
        if self.past.len() > MOST {
            self.past.remove(0);
        }
    }

    /// Puts `text` in place of the `count` characters in front of the cursor.
    pub fn replace(&mut self, count: usize, text: &str) {
        let start = self.cursor.saturating_sub(count);
        self.text.splice(start..self.cursor, text.chars());
        self.cursor = start + text.chars().count();
        self.shown = None;
    }

    /// Does what a key means within a line; other keys do nothing.
    pub fn handle_key(&mut self, key: Key) {
        let end = self.text.len();
        match key {
            Key::Char(character) => {
                let mut octets = [0; 4];
                self.replace(0, character.encode_utf8(&mut octets));
            }
            Key::Backspace => self.replace(1, ""),
            Key::Delete => self.kill(self.cursor, (self.cursor + 1).min(end)),
            Key::KillToEnd => self.kill(self.cursor, end),
            Key::KillToStart => self.kill(0, self.cursor),
            Key::KillWord => self.kill(self.word_left(), self.cursor),
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(end),
            Key::WordLeft => self.cursor = self.word_left(),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = end,
            Key::Up => self.show_past(true),
            Key::Down => self.show_past(false),
            _ => {}
        }
    }

    fn kill(&mut self, start: usize, end: usize) {
        self.text.drain(start..end);
        self.cursor = start;
        self.shown = None;
    }

    fn word_left(&self) -> usize {
        let before = self.text.get(..self.cursor).unwrap_or_default();
        let word = before.iter().rposition(|c| *c != ' ').unwrap_or(0);
        let blank = before.iter().take(word).rposition(|c| *c == ' ');
        blank.map_or(0, |blank| blank + 1)
    }

    fn word_right(&self) -> usize {
        let mut rest = self.text.iter().skip(self.cursor);
        let blanks = rest.by_ref().take_while(|c| **c == ' ').count();
        let first = usize::from(self.cursor + blanks < self.text.len());
        self.cursor + blanks + first + rest.take_while(|c| **c != ' ').count()
    }

    /// Shows the next older or newer line that begins with what was typed.
    fn show_past(&mut self, is_older: bool) {
        let (place, typed) = match self.shown.take() {
            Some(shown) => shown,
            None => (self.past.len(), self.text.clone()),
        };
        let start: String = typed.iter().collect();
        let begins = |place: &usize| {
            let line = self.past.get(*place);
            line.is_some_and(|line| line.starts_with(&start))
        };
        let found = if is_older {
            (0..place).rev().find(begins).or(Some(place))
        } else {
            (place + 1..self.past.len()).find(begins)
        };
        let line = found.and_then(|place| self.past.get(place));
        self.text = line.map_or_else(|| typed.clone(), |line| line.chars().collect());
        self.cursor = self.text.len();
        let place = found.unwrap_or(self.past.len());
        self.shown = Some((place, typed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(edit: &mut Edit, text: &str) {
        for character in text.chars() {
            edit.handle_key(Key::Char(character));
        }
    }

    #[track_caller]
    fn is(edit: &Edit, before: &str, after: &str) {
        assert_eq!(edit.halves(), (before.to_owned(), after.to_owned()));
    }

    #[test]
    fn a_line_is_changed_where_the_cursor_is() {
        let mut edit = Edit::default();
        typed(&mut edit, "GETINFO  vrsion");
        edit.handle_key(Key::WordLeft);
        edit.handle_key(Key::Right);
        typed(&mut edit, "e");
        is(&edit, "GETINFO  ve", "rsion");
        edit.handle_key(Key::KillWord);
        is(&edit, "GETINFO  ", "rsion");
        edit.handle_key(Key::Home);
        edit.handle_key(Key::WordRight);
        is(&edit, "GETINFO", "  rsion");
        edit.handle_key(Key::WordRight);
        is(&edit, "GETINFO  rsion", "");
        edit.handle_key(Key::WordRight);
        edit.handle_key(Key::Delete);
        edit.handle_key(Key::Backspace);
        is(&edit, "GETINFO  rsio", "");
        edit.handle_key(Key::WordLeft);
        edit.handle_key(Key::KillToEnd);
        is(&edit, "GETINFO  ", "");
        edit.handle_key(Key::KillWord);
        is(&edit, "", "");
        for key in [Key::KillWord, Key::Backspace, Key::Delete, Key::WordLeft] {
            edit.handle_key(key);
            is(&edit, "", "");
        }
        typed(&mut edit, "gr\u{fc}n");
        edit.replace(2, "u\u{308}n");
        is(&edit, "gru\u{308}n", "");
        edit.handle_key(Key::Left);
        edit.handle_key(Key::KillToStart);
        assert_eq!(edit.take(), "n");
        assert!(edit.is_empty());
    }

    #[test]
    fn lines_of_before_are_found_by_their_beginning() {
        let mut edit = Edit::new(vec!["GETINFO a".into(), "SIGNAL b".into()]);
        edit.remember("GETINFO c");
        edit.remember("GETINFO c");
        typed(&mut edit, "GET");
        for (key, line) in [
            (Key::Up, "GETINFO c"),
            (Key::Up, "GETINFO a"),
            (Key::Up, "GETINFO a"),
            (Key::Down, "GETINFO c"),
            (Key::Down, "GET"),
            (Key::Down, "GET"),
            (Key::Up, "GETINFO c"),
        ] {
            edit.handle_key(key);
            is(&edit, line, "");
        }
        edit.handle_key(Key::Backspace);
        edit.handle_key(Key::Down);
        is(&edit, "GETINFO ", "");
        edit.take();
        edit.handle_key(Key::Up);
        edit.handle_key(Key::Up);
        is(&edit, "SIGNAL b", "");
    }
}
