//! The position: up to where the stream is handed on to the bus, through every kind of end.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// How far the bridge has come in the stream.
///
/// It is written down before a batch is written to the bus, and again behind that. What the kernel
/// has taken the bus carries out, even if the bridge is killed. So after a kill only the batch that
/// was begun and is not known to be written is in doubt, and that is dropped and counted: nothing
/// is posted twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the stream was made, which tells it from one of the same name before or after.
    pub stream: i64,
    /// Everything up to this sequence is done with.
    pub done: u64,
    /// Up to here the kernel has taken what is for the bus.
    pub written: u64,
    /// Up to here it may have.
    pub begun: u64,
}

/// The end of a stream at some time: what it takes later lies behind that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct End {
    /// When the stream was made.
    pub stream: i64,
    /// Its last sequence.
    pub last: u64,
}

/// Where a message that the stream has delivered belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It was taken before.
    Again,
    /// It is next.
    Next,
    /// These come first: they are still to be delivered, or are gone from the stream.
    Behind(RangeInclusive<u64>),
}

impl Position {
    /// Everything up to `sequence` is done with.
    #[must_use]
    pub const fn at(stream: i64, sequence: u64) -> Self {
        Self {
            stream,
            done: sequence,
            written: sequence,
            begun: sequence,
        }
    }

    /// The message of `sequence`, where the last one that was taken is `taken`.
    #[must_use]
    pub fn place(taken: u64, sequence: u64) -> Place {
        if sequence <= taken {
            Place::Again
        } else if sequence == taken + 1 {
            Place::Next
        } else {
            Place::Behind(taken + 1..=sequence - 1)
        }
    }

    /// The stream ends at `last`. One that ends before `done` has lost what it had taken, as after
    /// a loss of power, and gives those sequences again; whether it is so.
    pub fn fit(&mut self, last: u64) -> bool {
        let is_behind = last < self.done;
        if is_behind {
            self.finish(last);
        }
        is_behind
    }

    /// A batch up to `sequence` is about to be written.
    pub fn begin(&mut self, sequence: u64) {
        self.begun = sequence;
    }

    /// The batch is written.
    pub fn write(&mut self) {
        self.written = self.begun;
    }

    /// The bus has answered, or there was nothing to ask.
    pub fn finish(&mut self, sequence: u64) {
        *self = Self::at(self.stream, sequence);
    }

    /// Resolves what a kill has left: how many were written and their answers not seen, and the
    /// range that is in doubt.
    pub fn recover(&mut self) -> (u64, u64) {
        let unanswered = self.written.saturating_sub(self.done);
        let in_doubt = self.begun.saturating_sub(self.written.max(self.done));
        self.finish(self.begun.max(self.done));
        (unanswered, in_doubt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_has_lost_its_end_gives_those_sequences_again() {
        let mut position = Position::at(5, 10);
        assert!(!position.fit(10) && !position.fit(12));
        assert_eq!(position, Position::at(5, 10));
        assert!(position.fit(8));
        assert_eq!(Position::place(position.done, 9), Place::Next);
    }

    #[test]
    fn the_order_of_the_stream_is_kept_whatever_it_delivers_again() {
        assert_eq!(Position::place(10, 11), Place::Next);
        assert_eq!(Position::place(10, 10), Place::Again);
        assert_eq!(Position::place(10, 3), Place::Again);
        assert_eq!(Position::place(10, 14), Place::Behind(11..=13));
    }

    #[test]
    fn a_kill_at_any_place_is_resolved() {
        let mut position = Position::at(1, 10);
        assert_eq!(position.clone().recover(), (0, 0));
        position.begin(15);
        let mut killed = position.clone();
        assert_eq!((killed.recover(), killed), ((0, 5), Position::at(1, 15)));
        position.write();
        let mut killed = position.clone();
        assert_eq!((killed.recover(), killed), ((5, 0), Position::at(1, 15)));
        position.finish(15);
        assert_eq!(position.clone().recover(), (0, 0));
        assert_eq!(position, Position::at(1, 15));
    }
}
