//! A message on the bus and who it is from and to (proposal 197).

use std::fmt;
use std::sync::Arc;

/// The number of a session: 1 for the daemon's first connection, never used twice.
pub type SessionId = u64;

/// The name of a controller: 1 to 64 octets of ASCII letters, digits and `_`, compared exactly.
///
/// Cloning shares the name; a message that names its sender costs no copy of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ControllerId(Arc<str>);

impl ControllerId {
    /// The longest `ControllerID`, in octets.
    pub const MAX: usize = 64;

    /// Takes `octets` as a `ControllerID` if they have its form. Whether it may be registered is
    /// for the bus to say: `all` and `unset` have the form.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let well_formed = (1..=Self::MAX).contains(&octets.len())
            && octets
                .iter()
                .all(|octet| octet.is_ascii_alphanumeric() || *octet == b'_');
        if !well_formed {
            return None;
        }
        std::str::from_utf8(octets)
            .ok()
            .map(|name| Self(Arc::from(name)))
    }

    /// The name for a program with this name: every octet that a `ControllerID` cannot have is a
    /// `_` in it.
    #[must_use]
    pub fn of_program(program: &[u8]) -> Option<Self> {
        let legal = |octet: &u8| match octet {
            octet if octet.is_ascii_alphanumeric() => *octet,
            _ => b'_',
        };
        Self::parse(&program.iter().map(legal).collect::<Vec<_>>())
    }

    /// `all` and `unset`, in any letter case, mean something else than a controller.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.0.eq_ignore_ascii_case("all") || self.0.eq_ignore_ascii_case("unset")
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ControllerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for ControllerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// How a controller without a name is written where a `SourceControllerID` or a line of
/// `list-controllers` is due.
pub const UNSET: &str = "unset";

/// The destination that means every controller.
pub const ALL: &str = "all";

/// A `DestControllerID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `@all`.
    All,
    /// The controller of this name when the message was posted.
    Name(ControllerId),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str(ALL),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A message that was posted: it has its `MessageID` and its place in the order.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The `MessageID`; one counter for the daemon, never used twice.
    pub id: u64,
    /// The `SourceControllerID`; `None` is `unset`.
    pub source: Option<ControllerId>,
    /// The `DestControllerID`.
    pub destination: Destination,
    /// The `LineItem`: 1 or more octets, none of them NUL, CR or LF.
    pub text: Box<[u8]>,
}

impl Message {
    /// The `SourceControllerID` as it is written.
    #[must_use]
    pub fn source(&self) -> &str {
        self.source.as_ref().map_or(UNSET, ControllerId::as_str)
    }

    /// The `DestControllerID` as it is written, without the `@`.
    #[must_use]
    pub fn destination(&self) -> &str {
        match &self.destination {
            Destination::All => ALL,
            Destination::Name(name) => name.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_id_is_1_to_64_letters_digits_and_underscores() {
        for good in [&b"a"[..], b"A_9", &[b'x'; 64], b"all", b"UnSet"] {
            assert!(ControllerId::parse(good).is_some(), "{good:?}");
        }
        for bad in [
            &b""[..],
            &[b'x'; 65],
            b"a-b",
            b"a b",
            b"@a",
            b"\xE9",
            b"a\0",
        ] {
            assert!(ControllerId::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn all_and_unset_are_reserved_in_any_letter_case() {
        for name in ["all", "ALL", "Unset", "uNSET"] {
            assert!(ControllerId::parse(name.as_bytes()).unwrap().is_reserved());
        }
        for name in ["alle", "unset_", "_all"] {
            assert!(!ControllerId::parse(name.as_bytes()).unwrap().is_reserved());
        }
    }
}
