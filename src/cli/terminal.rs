//! Where a command prints: what others sent goes into a pipe as it came, and reaches no terminal
//! that it could command.

use std::io::{self, BufWriter, IsTerminal, Write};

use onionbus::wire::shown::escaped;

/// Standard output, which must be flushed at the end.
pub fn standard_output() -> Box<dyn Write> {
    let out = io::stdout().lock();
    if out.is_terminal() {
        Box::new(Escaping {
            out: BufWriter::new(out),
            line: Vec::new(),
        })
    } else {
        Box::new(BufWriter::new(out))
    }
}

/// A text of the program's and of others for standard error.
pub fn for_standard_error(text: &str) -> String {
    if io::stderr().is_terminal() {
        for_terminal(text.as_bytes())
    } else {
        text.to_owned()
    }
}

/// Octets of others as a terminal may have them. Line ends and tabs do no harm, and tables need
/// them.
pub fn for_terminal(octets: &[u8]) -> String {
    escaped(octets, |character| matches!(character, '\n' | '\t'))
}

/// Escapes control characters. A line is kept until it is whole, or flushed, so that no character
/// is cut.
struct Escaping<W: Write> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(octets);
        if let Some(last) = memchr::memrchr(b'\n', &self.line) {
            let rest = self.line.split_off(last + 1);
            let lines = std::mem::replace(&mut self.line, rest);
            self.out.write_all(for_terminal(&lines).as_bytes())?;
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.out.write_all(for_terminal(&line).as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cut_makes_a_control_octet_of_it() {
        let text = "a\x1b]0;b\x07\tgr\u{fc}n \u{9b}1m\r\n\x7f".as_bytes();
        let text = [text, b"\xff\x9b"].concat();
        for size in 1..text.len() {
            let mut out = Escaping {
                out: Vec::new(),
                line: Vec::new(),
            };
            for part in text.chunks(size) {
                out.write_all(part).unwrap();
            }
            out.flush().unwrap();
            let shown = String::from_utf8(out.out).unwrap();
            let expected = "a\\x1b]0;b\\x07\tgrün \\xc2\\x9b1m\\r\n\\x7f\\xff\\x9b";
            assert_eq!(shown, expected, "cut in {size}");
        }
    }
}
