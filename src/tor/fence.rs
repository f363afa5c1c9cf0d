//! Fences: how to tell that Tor has answered everything.
//!
//! Tor does not answer one reply per command: `+HSPOST` can have none and `ONION_CLIENT_AUTH_ADD`
//! two. But Tor answers in order, and an unknown keyword with that keyword. One that nobody could
//! guess, sent behind such a command, comes back behind all that the command was answered with.

use memchr::memmem::Finder;

/// The beginning of every fence's keyword, of this bus and of others.
const PREFIX: &str = "ONIONBUS_FENCE_";

/// A keyword that nobody can guess, and Tor's answer to it.
#[derive(Clone, Debug)]
pub struct Fence {
    command: Vec<u8>,
    answer: Finder<'static>,
}

impl Fence {
    /// A fence made of 16 random octets.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        let keyword = format!("{PREFIX}{}", hex::encode_upper(random));
        let answer = format!("510 Unrecognized command \"{keyword}\"\r\n");
        Self {
            command: format!("{keyword}\r\n").into_bytes(),
            answer: Finder::new(&answer).into_owned(),
        }
    }

    /// The command to send.
    #[must_use]
    pub fn command(&self) -> &[u8] {
        &self.command
    }

    /// Tor's answer to the command.
    #[must_use]
    pub fn answer(&self) -> &[u8] {
        self.answer.needle()
    }

    /// Where the answer stands in `octets`.
    pub(super) fn find(&self, octets: &[u8]) -> Option<usize> {
        self.answer.find(octets)
    }

    /// The number of octets at the end of `octets` that may be the beginning of the answer.
    pub(super) fn beginning(&self, octets: &[u8]) -> usize {
        let answer = self.answer();
        (1..=octets.len().min(answer.len() - 1))
            .rev()
            .find(|&length| octets.ends_with(&answer[..length]))
            .unwrap_or(0)
    }
}

/// Whether a keyword is a fence's. A bus answers another bus's fence itself: it would be unknown to
/// its Tor too, and to ask would cost a connection.
#[must_use]
pub fn is_fence(keyword: &[u8]) -> bool {
    keyword.starts_with(PREFIX.as_bytes())
}
