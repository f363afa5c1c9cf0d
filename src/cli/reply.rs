//! What the daemon sends: replies and events, as control-spec 2.3 frames them.

use std::io::{self, BufRead};

/// One whole reply or event, with every line end written as LF.
#[derive(Debug)]
pub struct Message {
    raw: Vec<u8>,
}

/// One line of a [`Message`] without its status, and the data that follows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// What stands behind the status and its separator.
    pub text: Vec<u8>,
    /// The data of a `250+` line: unstuffed, each line ended by LF, without the final `.`.
    pub data: Option<Vec<u8>>,
}

impl Message {
    /// Reads up to the end of the next message; a peer that speaks something else, or ends before
    /// that, is an error of kind `InvalidData` or `UnexpectedEof`.
    pub fn read(peer: &mut impl BufRead) -> io::Result<Self> {
        let mut raw = Vec::new();
        loop {
            let start = raw.len();
            read_line(peer, &mut raw)?;
            match raw[start..] {
                [b'0'..=b'9', b'0'..=b'9', b'0'..=b'9', separator, ..] => match separator {
                    b' ' => return Ok(Self { raw }),
                    b'-' => {}
                    b'+' => while read_line(peer, &mut raw)? != b".\n" {},
                    _ => return Err(malformed(&raw[start..])),
                },
                _ => return Err(malformed(&raw[start..])),
            }
        }
    }

    /// The message as it came, but for the CRs.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whether it is an event, which nobody asked for at this moment, and no reply.
    pub fn is_event(&self) -> bool {
        self.raw.starts_with(b"6")
    }

    /// Whether the daemon did what it was asked to: its last line has a status of 2xx.
    pub fn is_success(&self) -> bool {
        let last = self.raw[..self.raw.len() - 1].rsplit(|&octet| octet == b'\n');
        last.take(1).any(|line| line.starts_with(b"2"))
    }

    /// All its lines, the last one too unless it is a mere `OK`.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut lines = self.raw.split_inclusive(|&octet| octet == b'\n');
        while let Some(line) = lines.next() {
            let text = line[4..line.len() - 1].to_vec();
            let data = (line[3] == b'+').then(|| {
                let body = lines.by_ref().take_while(|line| *line != b".\n");
                body.flat_map(|line| line.strip_prefix(b".").unwrap_or(line))
                    .copied()
                    .collect()
            });
            if line[3] != b' ' || text != b"OK" {
                entries.push(Entry { text, data });
            }
        }
        entries
    }
}

/// Appends one line to `raw`, ended by LF, and returns it.
fn read_line<'a>(peer: &mut impl BufRead, raw: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
    let start = raw.len();
    peer.read_until(b'\n', raw)?;
    if !raw[start..].ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if raw[start..].ends_with(b"\r\n") {
        raw.truncate(raw.len() - 2);
        raw.push(b'\n');
    }
    Ok(&raw[start..])
}

fn malformed(line: &[u8]) -> io::Error {
    let line = &line[..line.len().min(80)];
    let text = format!(
        "this is no reply: \"{}\"",
        line.trim_ascii_end().escape_ascii()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
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

    #[test]
    fn a_reply_ends_with_its_final_line() {
        let mut peer = &b"250-a=1\r\n250+b=\r\n..x\r\n250 no\r\n\r\n.\r\n250 OK\r\n650 X\r\n"[..];
        let reply = Message::read(&mut peer).expect("whole");
        assert_eq!(peer, b"650 X\r\n");
        assert!(reply.is_success() && !reply.is_event());
        assert_eq!(reply.raw(), b"250-a=1\n250+b=\n..x\n250 no\n\n.\n250 OK\n");
        assert_eq!(
            reply.entries(),
            [entry(b"a=1", None), entry(b"b=", Some(b".x\n250 no\n\n"))]
        );
        assert!(Message::read(&mut peer).expect("whole").is_event());
    }

    #[test]
    fn the_last_line_decides() {
        for (octets, success) in [
            (&b"250 OK\r\n"[..], true),
            (b"552 no\n", false),
            (b"250-x\r\n512 no\r\n", false),
            (b"512-x\r\n250 \xff\r\n", true),
        ] {
            let reply = Message::read(&mut &octets[..]).expect("whole");
            assert_eq!(reply.is_success(), success, "{}", octets.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for octets in [
            &b""[..],
            b"\r\n",
            b"250",
            b"250\r\n",
            b"250 OK",
            b"250-OK\r\n",
            b"250+x=\r\n250 OK\r\n",
            b"HTTP/1.0 501 No\r\n",
            b"250*OK\r\n",
        ] {
            let read = Message::read(&mut &octets[..]);
            assert!(read.is_err(), "{}", octets.escape_ascii());
        }
    }
}
