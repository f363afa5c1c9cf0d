//! Tor's events, taken out of the octets on the daemon's own connection (control-spec 4.1).

use std::sync::Arc;

use crate::wire::event::EventKind;
use crate::wire::text::{Message, Reader, TooLong};

/// The most octets that one event may have; the longest are NEWCONSENSUS, a few megabytes.
const MAX_EVENT: usize = 64 << 20;

/// An event or a reply of Tor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// An event, whole and unchanged; `None` is a kind that is not known here.
    Event(Option<EventKind>, Arc<[u8]>),
    /// The last line of a reply.
    Reply(Vec<u8>),
}

/// Takes events and replies apart.
#[derive(Debug)]
pub struct Feed(Reader);

impl Default for Feed {
    fn default() -> Self {
        Self(Reader::new(MAX_EVENT))
    }
}

impl Feed {
    /// Takes the octets that have come next, and gives `each` the messages that are whole. Fails on
    /// an event longer than any Tor sends.
    pub fn take(&mut self, octets: &[u8], mut each: impl FnMut(Said)) -> Result<(), TooLong> {
        self.0.handle_octets(octets);
        while let Some(message) = self.0.poll_message()? {
            each(said(message));
        }
        Ok(())
    }
}

fn said(message: Message<'_>) -> Said {
    match message.event() {
        Some(name) => Said::Event(EventKind::parse(name), message.octets().into()),
        None => Said::Reply(message.last_line().to_vec()),
    }
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
