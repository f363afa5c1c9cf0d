//! The syntax of the option file, which is torrc's: `Key Value` lines, `#` comments, quoted
//! values with C escapes, and lines continued after a backslash. No I/O, and no word about
//! which options there are.

use core::net::SocketAddr;
use std::ops::Range;

use super::shown::shown;
use super::text::{QuoteError, c_string};

/// The longest configuration text, in octets.
pub const MAX_TEXT: usize = 1 << 20;

/// The most lines of a text that are neither empty nor mere comments. A line takes more memory
/// than it has octets; this bounds what a text made of short ones takes.
pub const MAX_LINES: usize = 10_000;

/// Something wrong with one line of a text, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The line, counted from 1.
    pub line: usize,
    /// One sentence without control octets.
    pub text: String,
}

impl Mistake {
    fn at(line: usize, text: impl Into<String>) -> Self {
        Self {
            line,
            text: text.into(),
        }
    }
}

/// One `Key Value` line of a text, with all it needs to be rewritten in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it begins, counted in lines from 1.
    pub number: usize,
    /// The key as it was spelled; `%include` is one too.
    pub key: Vec<u8>,
    /// The value with quoting, continuation and comment undone; empty when there is none.
    pub value: Vec<u8>,
    /// The octets of the text that are this line, its end and its continuations included.
    pub span: Range<usize>,
    /// The octets that another value would replace; empty right after the key when there
    /// is no value. A comment behind a value of one line is outside it.
    pub value_span: Range<usize>,
}

impl Line {
    /// Whether this line reads other files.
    pub fn is_include(&self) -> bool {
        self.key.eq_ignore_ascii_case(b"%include")
    }
}

/// Reads a configuration text. Never panics, whatever the octets.
///
/// Fails with all faults of the text at once: a NUL, more than [`MAX_TEXT`] octets or
/// [`MAX_LINES`] lines, a quote that is not closed, an escape that does not exist, a backslash at
/// the very end.
pub fn parse(text: &[u8]) -> Result<Vec<Line>, Vec<Mistake>> {
    let (lines, problems) = scan(text);
    if problems.is_empty() {
        Ok(lines)
    } else {
        Err(problems)
    }
}

/// As [`parse`], but also the good lines among bad ones, so that they are checked as well.
pub fn scan(text: &[u8]) -> (Vec<Line>, Vec<Mistake>) {
    if text.len() > MAX_TEXT {
        let what = format!("the text is longer than {MAX_TEXT} octets, the most that is read");
        return (Vec::new(), vec![Mistake::at(1, what)]);
    }
    if let Some(at) = memchr::memchr(0, text) {
        let line = 1 + memchr::memchr_iter(b'\n', &text[..at]).count();
        let what = "a NUL octet: this is no text file";
        return (Vec::new(), vec![Mistake::at(line, what)]);
    }
    let mut cursor = Cursor {
        text,
        at: 0,
        number: 1,
    };
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    while cursor.at < text.len() {
        let number = cursor.number;
        match cursor.line() {
            Ok(None) => {}
            _ if lines.len() + problems.len() == MAX_LINES => {
                let what = format!("more than {MAX_LINES} lines that are no comments");
                problems.push(Mistake::at(number, what));
                break;
            }
            Ok(Some(line)) => lines.push(line),
            Err(problem) => problems.push(problem),
        }
    }
    (lines, problems)
}

/// Where the reading of a text stands: always at the first octet of a line, and past one
/// line or more (continuations) after each step.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    number: usize,
}

impl Cursor<'_> {
    /// The octets of the line that begins at `self.at`, without its end, and the step past it.
    fn advance(&mut self) -> Range<usize> {
        let start = self.at;
        let end = memchr::memchr(b'\n', &self.text[start..]).map(|n| start + n);
        self.at = end.map_or(self.text.len(), |end| end + 1);
        self.number += 1;
        let mut content = start..end.unwrap_or(self.text.len());
        if end.is_some() && self.text[content.clone()].ends_with(b"\r") {
            content.end -= 1;
        }
        content
    }

    /// Reads one line with its continuations: none for an empty one or a mere comment.
    fn line(&mut self) -> Result<Option<Line>, Mistake> {
        let (start, number) = (self.at, self.number);
        let content = self.advance();
        let text = self.text;
        let key_start = content.start + blanks(&text[content.clone()]);
        let body = &text[key_start..content.end];
        if body.is_empty() || body[0] == b'#' {
            return Ok(None);
        }
        let key_end = key_start
            + body
                .iter()
                .position(|&octet| is_blank(octet) || octet == b'#')
                .unwrap_or(body.len() - usize::from(body.ends_with(b"\\")));
        if key_end == key_start {
            let what = "a line with nothing but a backslash: it needs the name of an option";
            return Err(Mistake::at(number, what));
        }
        let value_start = key_end + blanks(&text[key_end..content.end]);
        let (value, value_span) = self
            .value(value_start..content.end)
            .map_err(|what| Mistake::at(number, what))?;
        Ok(Some(Line {
            number,
            key: text[key_start..key_end].to_vec(),
            value_span: if value.is_empty() && value_span.is_empty() {
                key_end..key_end
            } else {
                value_span
            },
            value,
            span: start..self.at,
        }))
    }

    /// Reads the value that begins at `rest.start`; `rest` ends where the first line does.
    fn value(&mut self, mut rest: Range<usize>) -> Result<(Vec<u8>, Range<usize>), String> {
        let text = self.text;
        let start = rest.start;
        let mut value = Vec::new();
        if text[rest.clone()].starts_with(b"\"") {
            let (unquoted, length) = unquote(&text[rest.clone()])?;
            let end = start + length;
            let after = end + blanks(&text[end..rest.end]);
            if after == rest.end || text[after] == b'#' {
                return Ok((unquoted, start..end));
            }
            // Something follows the quoted string: then the quotes are part of the value,
            // as in `BusSocket "/a b" Mode=0660`, and the option makes sense of them.
            value.extend_from_slice(&text[start..end]);
            rest.start = end;
        }
        let mut continued = false;
        loop {
            let piece = &text[rest.clone()];
            if let Some(comment) = memchr::memchr(b'#', piece) {
                // A line of only a comment within a continued value is passed over.
                if !(continued && blanks(piece) == comment) {
                    value.extend_from_slice(&piece[..comment]);
                    rest.end = if continued {
                        rest.end
                    } else {
                        rest.start + comment
                    };
                    break;
                }
            } else if let Some(piece) = piece.strip_suffix(b"\\") {
                value.extend_from_slice(piece);
                continued = true;
            } else {
                value.extend_from_slice(piece);
                break;
            }
            if self.at == text.len() {
                return Err("the last line ends in a backslash, but no line follows it".into());
            }
            rest = self.advance();
        }
        let value = value.trim_ascii().to_vec();
        let mut end = rest.end;
        while !continued && end > start && text[end - 1].is_ascii_whitespace() {
            end -= 1;
        }
        Ok((value, start..end))
    }
}

/// Undoes the quoting of a string that begins with `"`: its octets, and how many it is written
/// with, both quotes included. Fails with the reason.
pub fn unquote(text: &[u8]) -> Result<(Vec<u8>, usize), String> {
    const ESCAPES: &str =
        "there are \\n \\r \\t \\\" \\' \\\\, \\ooo (up to 377) and \\xhh, but not for NUL";
    match c_string(text) {
        Ok((octets, _)) if octets.contains(&0) => Err(format!(
            "an escape in a quoted value stands for NUL: {ESCAPES}"
        )),
        Ok(read) => Ok(read),
        Err(QuoteError::Escape(escape)) => {
            let seen = shown(escape.get(..3).unwrap_or(escape));
            Err(format!(
                "'\\{seen}' in a quoted value is no escape: {ESCAPES}"
            ))
        }
        Err(QuoteError::Open | QuoteError::Missing) => {
            Err("a value begins with '\"' but has no closing '\"'".into())
        }
    }
}

/// A value as a string in quotes: the reverse of [`unquote`] for whatever holds no NUL.
pub fn quote(value: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &octet in value {
        match octet {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 | 0x7f => out.extend_from_slice(format!("\\x{octet:02x}").as_bytes()),
            _ => out.push(octet),
        }
    }
    out.push(b'"');
    out
}

/// A value as it stands in a file: bare if it reads back as itself that way, else quoted.
pub fn written(value: &[u8]) -> Vec<u8> {
    let (lines, problems) = scan(&[b"K ", value].concat());
    match lines.as_slice() {
        [line] if problems.is_empty() && line.value == value => value.to_vec(),
        _ => quote(value),
    }
}

/// Whether an octet separates words of a line.
pub fn is_blank(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

/// The IP address and port that a text is, where `localhost` is 127.0.0.1.
pub fn port(text: &[u8]) -> Option<SocketAddr> {
    let text = str::from_utf8(text).ok()?;
    let named = text.strip_prefix("localhost:");
    let named = named.map(|port| format!("127.0.0.1:{port}"));
    named.as_deref().unwrap_or(text).parse().ok()
}

/// The address of a `BusSocket` line in the one spelling by which it is known.
pub fn socket(text: &[u8]) -> Vec<u8> {
    port(text).map_or_else(|| text.to_vec(), |port| port.to_string().into_bytes())
}

/// How many blanks a text begins with.
fn blanks(text: &[u8]) -> usize {
    text.iter().take_while(|&&octet| is_blank(octet)).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys and values of a text that is well.
    fn pairs(text: &str) -> Vec<(String, String)> {
        let owned = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        let lines = parse(text.as_bytes()).unwrap();
        let pairs = lines
            .iter()
            .map(|line| (owned(&line.key), owned(&line.value)));
        pairs.collect()
    }

    #[track_caller]
    fn reads(text: &str, expected: &[(&str, &str)]) {
        let pairs = pairs(text);
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (&k[..], &v[..])).collect();
        assert_eq!(pairs, expected, "{text:?}");
    }

    #[track_caller]
    fn fails(text: &[u8], line: usize, part: &str) {
        let problems = parse(text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].line, line);
        assert!(problems[0].text.contains(part), "{:?}", problems[0]);
    }

    #[test]
    fn a_line_has_a_key_or_is_refused() {
        for text in [&b"\\\n\x0c"[..], b"\\\nX\n", b"\\", b"BusLog warn\n\\\n"] {
            let line = if text.starts_with(b"Bus") { 2 } else { 1 };
            let problems = parse(text).unwrap_err();
            assert_eq!(problems[0].line, line, "{text:?}: {problems:?}");
        }
    }

    #[test]
    fn keys_and_values() {
        reads("", &[]);
        reads("\n\r\n  \n\t\n", &[]);
        reads("A b", &[("A", "b")]);
        reads("A b\nC d\n", &[("A", "b"), ("C", "d")]);
        reads("  A \t b  c \t\r\nD\r\n", &[("A", "b  c"), ("D", "")]);
        reads("A\nB   \n", &[("A", ""), ("B", "")]);
        reads("%include /x", &[("%include", "/x")]);
    }

    #[test]
    fn comments_end_with_their_line() {
        reads(
            "# A b\n  # c\nD e # f\nG#h\nI j#k\n",
            &[("D", "e"), ("G", ""), ("I", "j")],
        );
        reads("# no continuation \\\nA b", &[("A", "b")]);
    }

    #[test]
    fn quotes_hold_what_would_end_a_value() {
        reads(r#"A " b # c " # d"#, &[("A", " b # c ")]);
        reads(r#"A """#, &[("A", "")]);
        reads(
            r#"A "\n\t\r\"\\\'\101\x4a\x4A\7""#,
            &[("A", "\n\t\r\"\\'AJJ\u{7}")],
        );
        reads("A \"b\"\r\n", &[("A", "b")]);
    }

    #[test]
    fn quotes_with_more_behind_them_are_the_options_own() {
        reads(
            "A \"/b # c\" Mode=0660 # d\n",
            &[("A", "\"/b # c\" Mode=0660")],
        );
        reads("A \"b\" \\\n c", &[("A", "\"b\"  c")]);
    }

    #[test]
    fn a_backslash_continues_a_value() {
        reads("A b \\\n  c\\\r\nd\nE f", &[("A", "b   cd"), ("E", "f")]);
        reads("A \\\nb", &[("A", "b")]);
        reads("A\\\nb", &[("A", "b")]);
        reads("A b\\c", &[("A", "b\\c")]);
        reads("A b \\\n\nC d", &[("A", "b"), ("C", "d")]);
    }

    #[test]
    fn a_comment_between_continued_lines_is_passed_over_one_behind_a_value_ends_it() {
        reads("A b \\\n # x\n  c\nD e", &[("A", "b   c"), ("D", "e")]);
        reads("A b \\\n c # x\nD e", &[("A", "b  c"), ("D", "e")]);
        reads("A # x \\\nD e", &[("A", ""), ("D", "e")]);
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        fails(b"A b\nC \"d\nE f", 2, "no closing");
        fails(b"A \"\\", 1, "is no escape");
        fails(b"A \"\\q\"", 1, "'\\q\"' in a quoted value is no escape");
        fails(b"A \"\\x4\"", 1, "is no escape");
        fails(b"A \"\\400\"", 1, "is no escape");
        fails(b"A \"\\0\"", 1, "not for NUL");
        fails(b"A \"\\x00\"", 1, "not for NUL");
        fails(b"A b\n\nC\0", 3, "a NUL octet");
        fails(b"A b\nC d\\", 2, "no line follows");
        fails(b"A b\nC d\\\n", 2, "no line follows");
        fails(b"A b\nC d\\\n # e", 2, "no line follows");
        fails(&vec![b'\n'; MAX_TEXT + 1], 1, "longer than");
        assert!(parse(&vec![b'\n'; MAX_TEXT]).is_ok());
        let mut many = b"#\nA\n".repeat(MAX_LINES);
        assert_eq!(parse(&many).unwrap().len(), MAX_LINES);
        many.extend_from_slice(b"\nA");
        fails(&many, 2 * MAX_LINES + 2, "more than 10000 lines");
    }

    #[test]
    fn all_that_is_wrong_is_told_and_the_rest_is_read() {
        let (lines, problems) = scan(b"A \"b\nC d\nE \"\\z\"\nF g");
        assert_eq!(lines.len(), 2);
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 3]);
    }

    #[test]
    fn spans_say_what_to_replace() {
        let text = "# x\n  A  b c  # d\r\nE\nF \"g\"# h\nI j\\\n k # l\nM";
        let lines = parse(text.as_bytes()).unwrap();
        let spans: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line.number,
                    &text[line.span.clone()],
                    &text[line.value_span.clone()],
                )
            })
            .collect();
        assert_eq!(
            spans,
            [
                (2, "  A  b c  # d\r\n", "b c"),
                (3, "E\n", ""),
                (4, "F \"g\"# h\n", "\"g\""),
                (5, "I j\\\n k # l\n", "j\\\n k # l"),
                (7, "M", ""),
            ]
        );
        assert_eq!(lines[1].value_span.start, text.find("E\n").unwrap() + 1);
    }

    #[test]
    fn a_value_is_quoted_only_if_it_must_be() {
        assert_eq!(written(b"100"), b"100");
        assert_eq!(written(b"\"/a b\" Mode=0660"), b"\"/a b\" Mode=0660");
        assert_eq!(written(b"a#b"), b"\"a#b\"");
        assert_eq!(written(b"a\\"), b"\"a\\\\\"");
        assert_eq!(written(b" a"), b"\" a\"");
        assert_eq!(written(b"\"a\""), b"\"\\\"a\\\"\"");
        assert_eq!(written(b"a\nB c\x01"), b"\"a\\nB c\\x01\"");
    }

    /// Texts made of what the syntax is made of.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&[u8]> = vec![
            b"\n", b"\r\n", b"\\\n", b"\\\r\n", b"\\", b"\"", b"#", b" ", b"\t", b"Key", b"\xff",
            b"\\x41", b"\\101", b"\r",
        ];
        proptest::collection::vec(proptest::sample::select(pieces), 0..40)
            .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_value_that_is_written_reads_back(value: Vec<u8>, comment: bool) {
            let value: Vec<u8> = value.into_iter().filter(|&octet| octet != 0).collect();
            let mut text = [b"Key ", &written(&value)[..]].concat();
            text.extend_from_slice(if comment { b" # why\n" } else { b"\r\n" });
            let lines = parse(&text).unwrap();
            prop_assert_eq!(lines.len(), 1);
            prop_assert_eq!(&lines[0].value, &value);
        }

        #[test]
        fn spans_are_in_order_and_apart(text in texts()) {
            let (lines, _) = scan(&text);
            let mut last = 0;
            for line in &lines {
                prop_assert!(last <= line.span.start);
                prop_assert!(line.span.start <= line.value_span.start);
                prop_assert!(line.value_span.start <= line.value_span.end);
                prop_assert!(line.value_span.end <= line.span.end);
                // A line alone says the same as among the others.
                let (alone, problems) = scan(&text[line.span.clone()]);
                prop_assert!(problems.is_empty());
                prop_assert_eq!(&alone[0].value, &line.value);
                last = line.span.end;
            }
            prop_assert!(last <= text.len());
        }

        #[test]
        fn no_octets_make_it_panic(text: Vec<u8>) {
            let _ = parse(&text);
        }
    }
}
