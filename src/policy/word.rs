//! The words of a Match line: which connections a block is for.

use super::file::Names;
use super::identity::{Identity, NOBODY, UNMAPPED};
use super::pattern::is_match;
use super::table::numbers;
use crate::wire::fields::number;
use crate::wire::shown::shown;
use crate::wire::torrc::socket;

/// A word of a Match line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Any,
    User(u32, u32),
    Group(u32, u32),
    Label(Vec<u8>),
    Unit(Vec<u8>),
    Socket(Vec<u8>),
}

impl Word {
    /// Whether it is true of a connection.
    pub(super) fn holds(&self, identity: &Identity) -> bool {
        let is_known = |id| id != UNMAPPED && id != NOBODY;
        let is_within = |id: u32, low, high| is_known(id) && (low..=high).contains(&id);
        match self {
            Self::Any => true,
            Self::User(low, high) => is_within(identity.uid, *low, *high),
            Self::Group(low, high) => {
                let groups = identity.groups.iter().chain([&identity.gid]);
                groups.copied().any(|gid| is_within(gid, *low, *high))
            }
            Self::Label(glob) => {
                !identity.label.is_empty() && is_match(glob, &identity.label, false)
            }
            Self::Unit(glob) => !identity.unit.is_empty() && is_match(glob, &identity.unit, false),
            Self::Socket(socket) => *socket == identity.socket || *socket == identity.passed,
        }
    }

    /// The user that it names, if it is one.
    pub(super) fn one_user(&self) -> Option<u32> {
        match self {
            Self::User(low, high) if low == high => Some(*low),
            _ => None,
        }
    }

    /// Reads one; users and groups are looked up. Fails with what would be right.
    pub(super) fn parse(word: &[u8], names: &Names<'_>) -> Result<Self, String> {
        let text = shown(word);
        if word.windows(6).any(|part| part == b"{user}")
            || word.windows(5).any(|part| part == b"{uid}")
        {
            return Err(format!(
                "'{text}': nobody has a name before Match has told who it is"
            ));
        }
        if word.eq_ignore_ascii_case(b"any") {
            return Ok(Self::Any);
        }
        let (key, value) = memchr::memchr(b'=', word)
            .map(|equals| (word[..equals].to_ascii_lowercase(), &word[equals + 1..]))
            .unwrap_or_default();
        if value.is_empty() {
            return Err(format!(
                "'{text}': Match takes user=, group=, label=, unit=, socket= or any"
            ));
        }
        let ids = |lookup: &dyn Fn(&str) -> Option<u32>, what: &str| {
            if let Some(id) = number::<u32>(value) {
                return Ok((id, id));
            }
            let narrow = |(low, high)| Some((u32::try_from(low).ok()?, u32::try_from(high).ok()?));
            if let Some(range) = numbers(value).and_then(narrow) {
                return Ok(range);
            }
            let id = str::from_utf8(value).ok().and_then(lookup);
            id.map(|id| (id, id))
                .ok_or_else(|| format!("there is no {what} '{}'", shown(value)))
        };
        let value_of = || value.to_vec();
        match &key[..] {
            b"user" => ids(names.user, "user").map(|(low, high)| Self::User(low, high)),
            b"group" => ids(names.group, "group").map(|(low, high)| Self::Group(low, high)),
            b"label" => Ok(Self::Label(value_of())),
            b"unit" => Ok(Self::Unit(value_of())),
            b"socket" => Ok(Self::Socket(socket(value))),
            _ => Err(format!(
                "'{text}': Match takes user=, group=, label=, unit=, socket= or any"
            )),
        }
    }
}
