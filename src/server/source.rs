//! The sources of readiness, and the tokens that the poll knows them by.

use mio::Token;

/// Something that the loop hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The process's signals.
    Signals,
    /// Something was delivered that the loop waits for.
    Delivered,
    /// The directory of Tor's control socket.
    TorSocket,
    /// The files by which others find the daemon.
    Files,
    /// The daemon's own connection to Tor.
    Watcher,
    /// The keeper's connection to Tor.
    Keeper,
    /// The connection to Tor that the next controller gets.
    Spare,
    /// A socket that controllers connect to.
    Listener(usize),
    /// A controller.
    Controller(usize),
    /// A controller's connection to Tor.
    Leg(usize),
}

/// The number of kinds that a token can tell apart.
const KINDS: usize = 10;

impl From<Source> for Token {
    fn from(source: Source) -> Self {
        let (kind, place) = match source {
            Source::Signals => (0, 0),
            Source::Delivered => (1, 0),
            Source::TorSocket => (2, 0),
            Source::Watcher => (3, 0),
            Source::Spare => (4, 0),
            Source::Listener(place) => (5, place),
            Source::Controller(place) => (6, place),
            Source::Leg(place) => (7, place),
            Source::Files => (8, 0),
            Source::Keeper => (9, 0),
        };
        // Places are counted from 0, and memory ends long before a tenth of all numbers.
        Self(place * KINDS + kind)
    }
}

impl From<Token> for Source {
    fn from(token: Token) -> Self {
        let place = token.0 / KINDS;
        match token.0 % KINDS {
            0 => Self::Signals,
            1 => Self::Delivered,
            2 => Self::TorSocket,
            3 => Self::Watcher,
            4 => Self::Spare,
            5 => Self::Listener(place),
            6 => Self::Controller(place),
            7 => Self::Leg(place),
            8 => Self::Files,
            _ => Self::Keeper,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_source() {
        let mut seen = std::collections::HashSet::new();
        for place in [0, 1, 70_000] {
            for source in [
                Source::Listener(place),
                Source::Controller(place),
                Source::Leg(place),
            ] {
                assert_eq!(Source::from(Token::from(source)), source);
                assert!(seen.insert(Token::from(source)));
            }
        }
        for source in [
            Source::Signals,
            Source::Delivered,
            Source::TorSocket,
            Source::Files,
            Source::Keeper,
            Source::Watcher,
            Source::Spare,
        ] {
            assert_eq!(Source::from(Token::from(source)), source);
            assert!(seen.insert(Token::from(source)));
        }
    }
}
