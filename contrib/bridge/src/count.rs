//! Counters: every message that is dropped, by its reason.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Messages that were dropped since the state directory was made, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropped([u64; Reason::ALL.len()]);

/// Why a message is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody has its destination's name here.
    Gone,
    /// It is longer than `BusMaxMessageLength` here.
    TooLong,
    /// The bus refused it, or its sender's name, for another reason.
    Refused,
    /// Its sender's name, with its host, is too long for a `ControllerID` or taken by another.
    NoName,
    /// It is none that a bridge writes.
    Malformed,
    /// The limits of the stream removed it before it was read.
    Removed,
    /// The bridge was killed, or the bus ended, while it was being posted; or the stream had
    /// removed whatever would tell whether it had taken it.
    InDoubt,
    /// The bus was given it, and the bridge was killed before the answer came.
    Unanswered,
    /// It was out of the bus's history before it was read.
    Missed,
    /// NATS takes no message as long.
    TooLongForNats,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 10] = [
        Self::Gone,
        Self::TooLong,
        Self::Refused,
        Self::NoName,
        Self::Malformed,
        Self::Removed,
        Self::InDoubt,
        Self::Unanswered,
        Self::Missed,
        Self::TooLongForNats,
    ];

    /// The reason in a word, for the figures.
    const fn word(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::TooLong => "too-long",
            Self::Refused => "refused",
            Self::NoName => "no-name",
            Self::Malformed => "malformed",
            Self::Removed => "removed",
            Self::InDoubt => "in-doubt",
            Self::Unanswered => "unanswered",
            Self::Missed => "missed",
            Self::TooLongForNats => "too-long-for-nats",
        }
    }

    /// The reason as a sentence goes on.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Gone => "for names that nobody has on this bus",
            Self::TooLong => "longer than BusMaxMessageLength of this bus",
            Self::Refused => "that this bus refused",
            Self::NoName => "whose sender cannot have its name on this bus",
            Self::Malformed => "that no bridge has written",
            Self::Removed => {
                "or fewer, which the limits of the stream removed before they were read"
            }
            Self::InDoubt => "which may have arrived: nobody can tell any more",
            Self::Unanswered => {
                "or fewer, which the bus was given, and refused or lost if it ended too"
            }
            Self::Missed => "or fewer, which had left the history of the bus before they were read",
            Self::TooLongForNats => "longer than NATS takes",
        }
    }
}

impl Dropped {
    /// Counts `count` more.
    pub fn add(&mut self, reason: Reason, count: u64) {
        if let Some(counter) = self.0.get_mut(reason as usize) {
            *counter = counter.saturating_add(count);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{}={}", reason.word(), self.of(reason))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let mut dropped = Dropped::default();
        for (index, reason) in (1..).zip(Reason::ALL) {
            dropped.add(reason, index);
        }
        for (index, reason) in (1..).zip(Reason::ALL) {
            assert_eq!(dropped.of(reason), index);
        }
        let shown = dropped.to_string();
        assert!(shown.starts_with("gone=1 too-long=2 "), "{shown}");
    }
}
