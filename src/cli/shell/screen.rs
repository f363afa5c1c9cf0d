//! What the terminal shows: a prompt and a line at the bottom, and everything else above them.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::cli::terminal::for_terminal;

/// The rows that the prompt and the line take now.
#[derive(Debug, Default)]
pub struct Screen {
    /// The prompt and the line up to the cursor, as they are shown.
    shown: String,
}

/// A place below and right of where the prompt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    row: usize,
    column: usize,
}

impl Place {
    /// The place behind `text` that begins here. A terminal keeps the cursor in the last column
    /// until there is more; here it is in the next row then.
    fn behind(mut self, text: &str, columns: usize) -> Self {
        for character in text.chars() {
            let width = character.width().unwrap_or(0);
            if self.column + width > columns {
                self.row += 1;
                self.column = 0;
            }
            self.column += width;
        }
        if self.column >= columns {
            self.row += 1;
            self.column = 0;
        }
        self
    }
}

impl Screen {
    /// Appends the octets that take the prompt and the line away. The terminal may have other
    /// columns than when they were shown: then it has put them into other rows.
    pub fn erase(&mut self, columns: usize, out: &mut String) {
        let shown = std::mem::take(&mut self.shown);
        let cursor = Place { row: 0, column: 0 }.behind(&shown, columns.max(2));
        out.push('\r');
        if cursor.row > 0 {
            out.push_str(&up(cursor.row));
        }
        out.push_str("\x1b[J");
    }

    /// Appends the octets that show the prompt and the line, where nothing of both is shown.
    pub fn paint(&mut self, prompt: &str, line: (&str, &str), columns: usize, out: &mut String) {
        let columns = columns.max(2);
        let start = Place { row: 0, column: 0 };
        let (before, after) = line;
        self.shown = [prompt, before].concat();
        let cursor = start.behind(&self.shown, columns);
        let end = start.behind(&[prompt, before, after].concat(), columns);
        out.extend([prompt, before, after]);
        if end.column == 0 && end.row > 0 {
            out.push_str("\r\n");
        }
        if end.row > cursor.row {
            out.push_str(&up(end.row - cursor.row));
        }
        out.push('\r');
        if cursor.column > 0 {
            let right = format!("\x1b[{}C", cursor.column);
            out.push_str(&right);
        }
    }
}

fn up(rows: usize) -> String {
    format!("\x1b[{rows}A")
}

/// Appends octets of others, and a line end if they have none.
pub fn show(octets: &[u8], out: &mut String) {
    out.push_str(&for_terminal(octets));
    if !octets.ends_with(b"\n") {
        out.push('\n');
    }
}

/// Words in as many columns as there is room for, one below the other.
pub fn table(words: &[String], columns: usize) -> String {
    let width = words.iter().map(|word| word.width() + 2).max();
    let width = width.unwrap_or(2).max(2);
    let across = (columns / width).max(1);
    let rows = words.len().div_ceil(across);
    let mut table = String::new();
    for row in 0..rows {
        let cells = words.iter().skip(row).step_by(rows);
        let cells: Vec<_> = cells.map(|word| format!("{word:width$}")).collect();
        table.push_str(cells.concat().trim_end());
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(text: &str, columns: usize) -> (usize, usize) {
        let place = Place { row: 0, column: 0 }.behind(text, columns);
        (place.row, place.column)
    }

    #[test]
    fn a_line_ends_where_the_terminal_ends_it() {
        assert_eq!(behind("", 5), (0, 0));
        assert_eq!(behind("abcd", 5), (0, 4));
        assert_eq!(behind("abcde", 5), (1, 0));
        assert_eq!(behind("abcdef", 5), (1, 1));
        assert_eq!(behind("abcd\u{4e2d}", 5), (1, 2), "two columns do not fit");
        assert_eq!(behind("e\u{301}", 5), (0, 1));
    }

    #[test]
    fn a_line_is_erased_where_a_resized_terminal_has_put_it() {
        let mut screen = Screen::default();
        for (columns, erased) in [
            (20, "\r\x1b[J"),
            (10, "\r\x1b[1A\x1b[J"),
            (5, "\r\x1b[2A\x1b[J"),
        ] {
            screen.paint("> ", ("123456789", "0"), 10, &mut String::new());
            let mut out = String::new();
            screen.erase(columns, &mut out);
            assert_eq!(out, erased, "{columns} columns");
            out.clear();
            screen.erase(columns, &mut out);
            assert_eq!(out, "\r\x1b[J", "nothing is shown");
        }
    }

    #[test]
    fn words_stand_below_each_other() {
        let words = ["a", "bb", "c", "d", "e"].map(str::to_owned);
        assert_eq!(table(&words, 9), "a   d\nbb  e\nc\n");
        assert_eq!(table(&words, 1), "a\nbb\nc\nd\ne\n");
        assert_eq!(table(&[], 80), "");
    }
}
