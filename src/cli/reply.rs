//! Replies and events of the daemon, as the commands print them.

use onionbus::wire::text::{self, parts, unstuff};

/// One whole reply or event.
#[derive(Debug)]
pub struct Message {
    octets: Vec<u8>,
    is_event: bool,
    is_success: bool,
}

/// One line of a [`Message`] without its status, and the data that follows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The text behind the status and its separator.
    pub text: Vec<u8>,
    /// The data of a `250+` line: unstuffed, each line ended by LF, without the final `.`.
    pub data: Option<Vec<u8>>,
}

impl Entry {
    /// The data, or the text behind the `=`.
    pub fn value(&self) -> &[u8] {
        let equals = self.text.iter().position(|&octet| octet == b'=');
        let text = self.text.get(equals.map_or(0, |equals| equals + 1)..);
        self.data.as_deref().or(text).unwrap_or_default()
    }
}

impl Message {
    /// Takes over a message of the reader's; says why if it is none of the control protocol.
    pub fn new(message: text::Message<'_>) -> Result<Self, String> {
        let Some(status) = message.status() else {
            let line = message.last_line();
            let line = line.get(..80).unwrap_or(line).escape_ascii();
            return Err(format!("this is no reply: \"{line}\""));
        };
        Ok(Self {
            octets: message.octets().to_vec(),
            is_event: message.event().is_some(),
            is_success: (200..300).contains(&status),
        })
    }

    /// The message as it came, but for the CRs at the ends of its lines.
    pub fn raw(&self) -> Vec<u8> {
        let mut raw = Vec::with_capacity(self.octets.len());
        for line in self.octets.split_inclusive(|&octet| octet == b'\n') {
            raw.extend_from_slice(without_end(line));
            raw.push(b'\n');
        }
        raw
    }

    /// Whether this is an event, which nobody asked for at this moment, and no reply.
    pub const fn is_event(&self) -> bool {
        self.is_event
    }

    /// Whether the daemon did its task: the last line has a status of 2xx.
    pub const fn is_success(&self) -> bool {
        self.is_success
    }

    /// All lines, the last one too unless it is a mere `OK`.
    pub fn entries(&self) -> Vec<Entry> {
        parts(&self.octets).into_iter().map(entry).collect()
    }
}

impl Entry {
    /// Reads one line of a reply or an event.
    pub fn of_line(line: &[u8]) -> Self {
        let text = without_end(line).get(4..).unwrap_or_default().to_vec();
        Self { text, data: None }
    }
}

fn entry(part: &[u8]) -> Entry {
    let end = part.iter().position(|&octet| octet == b'\n');
    let (line, data) = part.split_at(end.map_or(part.len(), |newline| newline + 1));
    let data = (line.get(3) == Some(&b'+')).then(|| {
        let mut text = Vec::with_capacity(data.len());
        unstuff(data, &mut text);
        text
    });
    Entry {
        data,
        ..Entry::of_line(line)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &[u8], data: Option<&[u8]>) -> Entry {
        Entry {
            text: text.to_vec(),
            data: data.map(<[u8]>::to_vec),
        }
    }

    fn message(octets: &[u8]) -> Result<Message, String> {
        let mut reader = text::Reader::new(1000);
        reader.handle_octets(octets);
        let message = reader.poll_message().expect("it is short");
        Message::new(message.expect("it is whole"))
    }

    #[test]
    fn a_reply_is_printed_by_its_entries_or_raw() {
        let octets = b"250-a=1\r\n250+b=\r\n..x\r\n250 no\r\n\r\n.\r\n250 OK\r\n";
        let reply = message(octets).expect("a reply");
        assert!(reply.is_success() && !reply.is_event());
        assert_eq!(reply.raw(), b"250-a=1\n250+b=\n..x\n250 no\n\n.\n250 OK\n");
        assert_eq!(
            reply.entries(),
            [entry(b"a=1", None), entry(b"b=", Some(b".x\n250 no\n\n"))]
        );
        let last = message(b"250-a=1\n250 b=2\n").expect("a reply");
        assert_eq!(last.entries(), [entry(b"a=1", None), entry(b"b=2", None)]);
        assert!(message(b"650 X\r\n").expect("an event").is_event());
    }

    #[test]
    fn the_last_line_decides() {
        for (octets, success) in [
            (&b"250 OK\r\n"[..], true),
            (b"552 no\n", false),
            (b"250-x\r\n512 no\r\n", false),
            (b"512-x\r\n250 \xff\r\n", true),
        ] {
            let reply = message(octets).expect("a reply");
            assert_eq!(reply.is_success(), success, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for octets in [
            &b"\r\n"[..],
            b"250\r\n",
            b"HTTP/1.0 501 No\r\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            b"250*OK\r\n",
            b"250-OK\r\nno\r\n",
        ] {
            assert!(message(octets).is_err(), "{}", octets.escape_ascii());
        }
    }
}
