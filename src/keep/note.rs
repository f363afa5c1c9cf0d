//! Commands that the keeper only looks at: their answers say what Tor has now.

use super::item::{Item, What};
use crate::wire::fields::{ClientKey, Fields, Onion};
use crate::wire::message::SessionId;

/// A command whose answer changes what Tor has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// `ONION_CLIENT_AUTH_ADD`.
    AddKey(Box<ClientKey>),
    /// `ONION_CLIENT_AUTH_REMOVE`.
    RemoveKey(Onion),
    /// `MAPADDRESS`.
    Map,
    /// A change of the configuration, at which Tor drops temporary keys.
    Configuration,
    /// The same of this session, where leased options may have changed.
    Leased(SessionId),
    /// `GETINFO` of these keys, of which some list onion services.
    List(Vec<Vec<u8>>),
}

pub(super) enum Change {
    Set(What),
    Removed(Item),
    KeysLost,
    Leased(SessionId),
}

impl Note {
    pub(super) fn of(fields: &Fields) -> Option<Self> {
        match fields {
            Fields::ClientAuthAdd(key) => Some(Self::AddKey(Box::new(key.clone()))),
            Fields::ClientAuthRemove(onion) => Some(Self::RemoveKey(onion.clone())),
            Fields::MapAddress(_) => Some(Self::Map),
            // A key may be on its way that Tor has not taken yet.
            Fields::SetConf(_) | Fields::ResetConf(_) | Fields::LoadConf(_) => {
                Some(Self::Configuration)
            }
            Fields::GetInfo(keys) if keys.iter().any(|key| is_list(key).is_some()) => {
                Some(Self::List(keys.clone()))
            }
            _ => None,
        }
    }

    pub(super) fn changes(self, answer: &[u8]) -> Vec<Change> {
        let agreed = answer.starts_with(b"25");
        match self {
            Self::AddKey(key) if agreed => vec![Change::Set(What::Key(*key))],
            Self::RemoveKey(onion) if agreed => vec![Change::Removed(Item::Key(onion.lower()))],
            Self::Configuration if agreed => vec![Change::KeysLost],
            Self::Leased(session) => {
                let keys = agreed.then_some(Change::KeysLost);
                let leased = Change::Leased(session);
                keys.into_iter().chain([leased]).collect()
            }
            Self::Map => answer
                .split(|&octet| octet == b'\n')
                .filter_map(map)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// A line of the answer to `MAPADDRESS`, which names the address that Tor chose where it chose. An
/// address that is replaced by itself is not replaced any more.
fn map(line: &[u8]) -> Option<Change> {
    let line = line.strip_prefix(b"250")?.get(1..)?.trim_ascii_end();
    let equals = memchr::memchr(b'=', line)?;
    let (from, to) = (line.get(..equals)?, line.get(equals + 1..)?);
    Some(if from.eq_ignore_ascii_case(to) {
        Change::Removed(Item::Map(from.to_vec()))
    } else {
        Change::Set(What::Map(from.to_vec(), to.to_vec()))
    })
}

/// Whether a key of GETINFO lists onion services, and if it does, whether the detached ones.
#[must_use]
pub(super) fn is_list(key: &[u8]) -> Option<bool> {
    match key {
        b"onions/current" => Some(false),
        b"onions/detached" => Some(true),
        _ => None,
    }
}
