//! Messages over 65535 octets (control-spec-v0 3.17, 3.18): one FRAGMENTHEADER with the type and
//! the length of the whole, then FRAGMENTs.

use super::{HEADER, MAX_BODY, header, kind};
use crate::wire::refusal::Refusal;

/// The longest message that is put together, in octets; as long as a command of the text protocol
/// can be.
pub const MAX_MESSAGE: usize = crate::wire::text::MAX_COMMAND;

/// The type and the length of the whole, in a FRAGMENTHEADER.
const PREFACE: usize = 6;

/// Puts the fragments of a message together. Octets stay where they are until all have come; only
/// how far they were looked at is kept, so that none is looked at twice.
#[derive(Debug, Default)]
pub struct Fragments {
    /// Octets at the beginning that are whole frames of one message.
    scanned: usize,
    /// Octets of the message in them.
    gathered: usize,
}

/// What the octets begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Gathered {
    /// No fragment.
    None,
    /// Fragments, the last of which has not come.
    Incomplete,
    /// A whole message.
    Message {
        /// How many octets its fragments had.
        length: usize,
        /// Its type.
        kind: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// Fragments that are no message.
    Broken {
        /// How many octets they had.
        length: usize,
        /// What is wrong with them.
        refusal: Refusal,
    },
}

impl Fragments {
    /// Nothing looked at.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            scanned: 0,
            gathered: 0,
        }
    }

    /// Looks at the octets that are not consumed yet. They must begin with the same ones until
    /// what they make is consumed.
    pub fn next(&mut self, octets: &[u8]) -> Gathered {
        let Some(first) = super::next(octets) else {
            return Gathered::None;
        };
        let (kind, total) = match first.kind {
            kind::FRAGMENTHEADER => match preface(first.body) {
                Ok(preface) => preface,
                Err(refusal) => return self.broken(first.length(), refusal),
            },
            kind::FRAGMENT => {
                let refusal = Refusal::Malformed("a FRAGMENT without its FRAGMENTHEADER");
                return self.broken(first.length(), refusal);
            }
            _ => return Gathered::None,
        };
        if self.scanned == 0 {
            self.scanned = first.length();
            self.gathered = first.body.len() - PREFACE;
        }
        while self.gathered < total {
            let rest = octets.get(self.scanned..).unwrap_or_default();
            // The header alone tells: jtorctl sends six octets of data too many before it, and what they
            // seem to announce never comes.
            if let Some(&[_, _, a, b]) = rest.first_chunk()
                && u16::from_be_bytes([a, b]) != kind::FRAGMENT
            {
                let refusal = Refusal::Malformed("not all FRAGMENTs followed a FRAGMENTHEADER");
                return self.broken(self.scanned, refusal);
            }
            let Some(frame) = super::next(rest) else {
                // Empty fragments would never come to an end.
                return if self.scanned > 2 * MAX_MESSAGE {
                    self.broken(octets.len(), Refusal::LineTooLong)
                } else {
                    Gathered::Incomplete
                };
            };
            self.scanned += frame.length();
            self.gathered += frame.body.len();
        }
        if self.gathered > total {
            let refusal = Refusal::Malformed("more in the FRAGMENTs than the FRAGMENTHEADER says");
            return self.broken(self.scanned, refusal);
        }
        Gathered::Message {
            length: self.scanned,
            kind,
            body: gather(octets.get(..self.scanned).unwrap_or_default(), total),
        }
    }

    /// What the octets began with is consumed.
    pub const fn consumed(&mut self) {
        *self = Self::new();
    }

    fn broken(&mut self, length: usize, refusal: Refusal) -> Gathered {
        self.consumed();
        Gathered::Broken { length, refusal }
    }
}

/// The type and the length of the whole.
fn preface(body: &[u8]) -> Result<(u16, usize), Refusal> {
    let Some((&[kind_high, kind_low, a, b, c, d], _)) = body.split_first_chunk() else {
        return Err(Refusal::Malformed(
            "a FRAGMENTHEADER has a type and a length",
        ));
    };
    let total = u32::from_be_bytes([a, b, c, d]) as usize;
    if total > MAX_MESSAGE {
        return Err(Refusal::LineTooLong);
    }
    Ok((u16::from_be_bytes([kind_high, kind_low]), total))
}

/// The body that whole fragments make.
fn gather(mut octets: &[u8], total: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(total);
    let mut skip = PREFACE;
    while let Some(frame) = super::next(octets) {
        body.extend_from_slice(frame.body.get(skip..).unwrap_or_default());
        skip = 0;
        octets = &octets[frame.length()..];
    }
    body
}

/// Makes the body that begins behind the header at `start` into fragments, as few as they can be.
pub(super) fn fragment(kind: u16, start: usize, out: &mut Vec<u8>) {
    let body = out.split_off(start + HEADER);
    out.truncate(start);
    let total = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let (first, rest) = body.split_at(body.len().min(MAX_BODY - PREFACE));
    out.extend_from_slice(&header(kind::FRAGMENTHEADER, PREFACE + first.len()));
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&total.to_be_bytes());
    out.extend_from_slice(first);
    for part in rest.chunks(MAX_BODY) {
        out.extend_from_slice(&header(kind::FRAGMENT, part.len()));
        out.extend_from_slice(part);
    }
}
