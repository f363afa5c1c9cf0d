//! Lines to commands: the lines of a command that begins with `+` belong together.

use onionbus::command::Verb;

use crate::cli::Stop;
use crate::cli::client::{self, MAX_COMMAND};

/// A whole command.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    /// The octets to send.
    pub octets: Vec<u8>,
    /// The daemon hangs up after it.
    pub is_last: bool,
}

/// The lines of a command that is not whole.
#[derive(Debug, Default)]
pub struct Lines {
    octets: Vec<u8>,
}

impl Lines {
    /// Takes the next line, without its end, and gives out the command that it completes. Lines of
    /// a body are sent as they are: a leading dot is for whoever types it to double.
    pub fn handle_line(&mut self, line: &[u8]) -> Result<Option<Command>, Stop> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_first = self.octets.is_empty();
        if is_first && line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let checked = client::one_line("the line", line)?;
        if (self.octets.len() + checked.len()) as u64 > MAX_COMMAND {
            return Err(Stop::Usage("the command is longer than 1 MiB".to_owned()));
        }
        self.octets.extend_from_slice(checked);
        self.octets.extend_from_slice(b"\r\n");
        let is_open = if is_first {
            line.starts_with(b"+")
        } else {
            line != b"."
        };
        if is_open {
            return Ok(None);
        }
        let octets = std::mem::take(&mut self.octets);
        let is_last = verb(&octets) == Some(Verb::Quit);
        Ok(Some(Command { octets, is_last }))
    }

    /// Whether a command has begun that is not whole.
    pub const fn is_inside(&self) -> bool {
        !self.octets.is_empty()
    }
}

/// The command of a line, if its first word is one.
pub fn verb(line: &[u8]) -> Option<Verb> {
    let mut words = line.split(u8::is_ascii_whitespace);
    words.next().and_then(Verb::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(octets: &[u8], is_last: bool) -> Command {
        Command {
            octets: octets.to_vec(),
            is_last,
        }
    }

    #[test]
    fn a_body_ends_with_a_dot() {
        let mut lines = Lines::default();
        let mut commands = Vec::new();
        for line in [
            &b"GETINFO version"[..],
            b"",
            b" ",
            b".\r",
            b"+LOADCONF\r",
            b"",
            b"..dot",
            b".",
            b"quit",
        ] {
            commands.extend(lines.handle_line(line).expect("it can be sent"));
        }
        let expected = [
            command(b"GETINFO version\r\n", false),
            command(b".\r\n", false),
            command(b"+LOADCONF\r\n\r\n..dot\r\n.\r\n", false),
            command(b"quit\r\n", true),
        ];
        assert_eq!(commands, expected);
        assert!(!lines.is_inside());
    }

    #[test]
    fn what_cannot_be_sent_is_no_line() {
        for line in [&b"a\rb"[..], b"a\0", &vec![b'a'; 1 << 20 | 1]] {
            let refused = Lines::default().handle_line(line);
            assert!(matches!(refused, Err(Stop::Usage(_))));
        }
    }
}
