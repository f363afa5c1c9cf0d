//! Fences: how to tell that Tor has answered everything.
//!
//! Tor does not answer one reply per command: `+HSPOST` can have none and `ONION_CLIENT_AUTH_ADD`
//! two. But it answers in order, and an unknown keyword with that keyword. One that nobody could
//! guess, sent behind a controller's commands, comes back behind all they were answered with.

use memchr::memmem::Finder;

/// A keyword that nobody can guess, and what Tor says of it.
#[derive(Clone, Debug)]
pub struct Fence {
    command: Vec<u8>,
    answer: Finder<'static>,
}

impl Fence {
    /// A fence made of 16 random octets.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        let keyword = format!("ONIONBUS_FENCE_{}", hex::encode_upper(random));
        let answer = format!("510 Unrecognized command \"{keyword}\"\r\n");
        Self {
            command: format!("{keyword}\r\n").into_bytes(),
            answer: Finder::new(&answer).into_owned(),
        }
    }

    /// What to send.
    #[must_use]
    pub fn command(&self) -> &[u8] {
        &self.command
    }
}

/// Takes the answers to fences out of what Tor says.
#[derive(Debug, Default)]
pub struct Gate {
    /// Fences that were sent and have not come back.
    sent: usize,
    /// The beginning of what may be an answer.
    kept: Vec<u8>,
}

impl Gate {
    /// A fence was sent.
    pub const fn sent(&mut self) {
        self.sent += 1;
    }

    /// How many fences have not come back.
    #[must_use]
    pub const fn outstanding(&self) -> usize {
        self.sent
    }

    /// Appends to `out` what is not a fence's answer. What may be the beginning of one is kept
    /// until more comes.
    pub fn take(&mut self, octets: &[u8], fence: &Fence, out: &mut Vec<u8>) {
        if self.sent == 0 {
            out.extend_from_slice(octets);
            return;
        }
        let mut all = std::mem::take(&mut self.kept);
        all.extend_from_slice(octets);
        let mut rest = &all[..];
        while self.sent > 0
            && let Some(found) = fence.answer.find(rest)
        {
            out.extend_from_slice(&rest[..found]);
            rest = &rest[found + fence.answer.needle().len()..];
            self.sent -= 1;
        }
        let keep = if self.sent > 0 {
            beginning(rest, fence.answer.needle())
        } else {
            0
        };
        let (through, kept) = rest.split_at(rest.len() - keep);
        out.extend_from_slice(through);
        self.kept = kept.to_vec();
    }
}

/// How many octets at the end of `octets` are the beginning of `answer`.
fn beginning(octets: &[u8], answer: &[u8]) -> usize {
    let most = octets.len().min(answer.len() - 1);
    (1..=most)
        .rev()
        .find(|&length| octets.ends_with(&answer[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_out_wherever_they_are_cut() {
        let fence = Fence::new([0xAB; 16]);
        let answer = fence.answer.needle();
        let octets = [
            b"250 OK\r\n5",
            answer,
            b"510 Unrecognized",
            answer,
            b"510 U",
        ]
        .concat();
        for size in 1..=octets.len() {
            let mut gate = Gate::default();
            gate.sent();
            gate.sent();
            let mut out = Vec::new();
            for part in octets.chunks(size) {
                gate.take(part, &fence, &mut out);
            }
            assert_eq!(out, b"250 OK\r\n5510 Unrecognized510 U", "cut in {size}");
            assert_eq!(gate.outstanding(), 0);
        }
    }

    #[test]
    fn what_is_no_answer_goes_through_at_once() {
        let fence = Fence::new([1; 16]);
        let mut gate = Gate::default();
        gate.sent();
        let mut out = Vec::new();
        gate.take(b"250 OK\r\n", &fence, &mut out);
        assert_eq!(out, b"250 OK\r\n");
        gate.take(b"510 Unrec", &fence, &mut out);
        assert_eq!(out, b"250 OK\r\n");
        gate.take(b"overed\r\n", &fence, &mut out);
        assert_eq!(out, b"250 OK\r\n510 Unrecovered\r\n");
        assert_eq!(gate.outstanding(), 1);
    }
}
