//! Tor's events, taken out of what it says on the daemon's own connection (control-spec 4.1).

use std::sync::Arc;

use crate::wire::event::EventKind;

/// The most octets that one event may have; the longest are NEWCONSENSUS, a few megabytes.
const MAX_EVENT: usize = 64 << 20;

/// What Tor has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An event, whole and unchanged; `None` is a kind that is not known here.
    Event(Option<EventKind>, Arc<[u8]>),
    /// The last line of a reply.
    Reply(Vec<u8>),
}

/// Takes events and replies apart.
#[derive(Debug, Default)]
pub struct Feed {
    received: Vec<u8>,
    /// Where the line begins that is not whole yet.
    line: usize,
    scanned: usize,
    data: bool,
}

impl Feed {
    /// Takes what has come next, and gives `each` what is whole. Fails if that is no event that
    /// any Tor sends.
    pub fn take(&mut self, octets: &[u8], mut each: impl FnMut(Said)) -> Result<(), TooLong> {
        self.received.extend_from_slice(octets);
        let mut start = 0;
        while let Some(found) = memchr::memchr(b'\n', &self.received[self.scanned..]) {
            let end = self.scanned + found + 1;
            let last = self.end_line(end);
            self.line = end;
            self.scanned = end;
            if last {
                each(said(&self.received[start..end]));
                start = end;
            }
        }
        self.received.drain(..start);
        self.line -= start;
        self.scanned = self.received.len();
        if self.received.is_empty() {
            self.received.shrink_to(64 * 1024);
        }
        if self.received.len() > MAX_EVENT {
            return Err(TooLong);
        }
        Ok(())
    }

    /// Judges the line that ends here; `true` if it is the last of an event or reply.
    fn end_line(&mut self, end: usize) -> bool {
        let line = &self.received[self.line..end];
        if self.data {
            self.data = !matches!(line, b".\r\n" | b".\n");
            return false;
        }
        match line.get(3) {
            Some(b'+') => {
                self.data = true;
                false
            }
            Some(b'-') => false,
            _ => true,
        }
    }
}

/// More than any event of a Tor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

fn said(octets: &[u8]) -> Said {
    if !octets.starts_with(b"650") {
        let last = octets.strip_suffix(b"\r\n").unwrap_or(octets);
        let start = memchr::memrchr(b'\n', last).map_or(0, |found| found + 1);
        return Said::Reply(last[start..].to_vec());
    }
    let rest = octets.get(4..).unwrap_or_default();
    let end = rest
        .iter()
        .position(u8::is_ascii_whitespace)
        .unwrap_or(rest.len());
    Said::Event(EventKind::parse(&rest[..end]), octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_and_unchanged() {
        let parts: [&[u8]; 5] = [
            b"650 BW 1 2\r\n",
            b"650-CONF_CHANGED\r\n650-A=b\r\n650 OK\r\n",
            b"650+NS\r\nr x\r\n..\r\n650 OK\r\n.\r\n650 OK\r\n",
            b"250 OK\r\n",
            b"650 FUTURE x\r\n",
        ];
        let all = parts.concat();
        for size in 1..=all.len() {
            let mut feed = Feed::default();
            let mut said = Vec::new();
            for part in all.chunks(size) {
                feed.take(part, |one| said.push(one)).unwrap();
            }
            assert_eq!(
                said,
                [
                    Said::Event(Some(EventKind::Bandwidth), parts[0].into()),
                    Said::Event(Some(EventKind::ConfChanged), parts[1].into()),
                    Said::Event(Some(EventKind::Ns), parts[2].into()),
                    Said::Reply(b"250 OK".to_vec()),
                    Said::Event(None, parts[4].into()),
                ]
            );
        }
    }
}
