//! What controllers see of what is kept.

use std::time::Instant;

use super::item::{Kept, Service};
use super::{Keeper, note};
use crate::policy::identity::Owner;
use crate::wire::message::SessionId;
use crate::wire::text::{parts, write_info};

impl Keeper {
    /// The services that a controller sees besides Tor's: those it has, or else those of its owner
    /// that are detached or wait.
    #[must_use]
    pub fn list(&self, session: SessionId, owner: &Owner, detached: bool) -> Vec<Vec<u8>> {
        let is_listed = |(kept, service): &(&Kept, &Service)| {
            let is_own = kept.owner == *owner && !kept.is_leaving;
            is_own
                && if detached {
                    service.holder.is_none()
                } else {
                    service.holder == Some(session)
                }
        };
        let listed = self.services().filter(is_listed);
        listed
            .map(|(_, service)| service.onion.as_bytes().to_vec())
            .collect()
    }

    /// A line of words about each service that `is_shown` by its owner.
    #[must_use]
    pub fn about(&self, now: Instant, is_shown: impl Fn(&Owner) -> bool) -> String {
        let shown = self.services().filter(|(kept, _)| is_shown(&kept.owner));
        let lines = shown.map(|(kept, service)| kept.about(service, now));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The controllers of one owner.
    pub fn sessions(&self, owner: &Owner) -> impl Iterator<Item = SessionId> {
        let is_of = move |(_, other): &(&SessionId, &Owner)| *other == owner;
        self.present
            .iter()
            .filter(is_of)
            .map(|(session, _)| *session)
    }

    /// Whether a controller has a service.
    #[must_use]
    pub fn has_service_of(&self, session: SessionId) -> bool {
        self.services()
            .any(|(_, service)| service.holder == Some(session))
    }

    /// The owner of what a controller makes.
    #[must_use]
    pub fn owner(&self, session: SessionId) -> Option<&Owner> {
        self.present.get(&session)
    }

    /// The reply to GETINFO of `keys`, with a controller's own services where Tor's are listed.
    #[must_use]
    pub fn with_own(
        &self,
        session: SessionId,
        owner: &Owner,
        keys: &[Vec<u8>],
        reply: Vec<u8>,
    ) -> Vec<u8> {
        if !reply.starts_with(b"250") {
            return reply;
        }
        let mut shown = Vec::with_capacity(reply.len());
        for part in parts(&reply) {
            let name = part.get(4..).unwrap_or_default();
            let name = name
                .split(|&octet| octet == b'=')
                .next()
                .unwrap_or_default();
            let detached = note::is_list(name).filter(|_| keys.iter().any(|key| key == name));
            let own = detached.map(|detached| self.list(session, owner, detached));
            match own.filter(|own| !own.is_empty()) {
                Some(own) => {
                    let mut all = list_of(part, name);
                    all.extend(own);
                    write_info(name, &all, &mut shown);
                }
                None => shown.extend_from_slice(part),
            }
        }
        shown.extend_from_slice(b"250 OK\r\n");
        shown
    }
}

/// The lines of a part of GETINFO's reply.
fn list_of(part: &[u8], name: &[u8]) -> Vec<Vec<u8>> {
    let value = part.get(4 + name.len() + 1..).unwrap_or_default();
    let lines = value.split(|&octet| octet == b'\n').map(<[u8]>::trim_ascii);
    let is_one = |line: &&[u8]| !line.is_empty() && *line != b".";
    lines.filter(is_one).map(<[u8]>::to_vec).collect()
}
