//! The guard of one connection: who it is, and what it may do.

use std::sync::Arc;

use super::grants::Grants;
use super::identity::Identity;
use super::ledger::Ledger;
use super::target::Behind;
use crate::wire::message::SessionId;

/// What is known of one connection where a policy is in force.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The connection's number.
    pub session: SessionId,
    /// The name that it has registered.
    pub name: String,
    /// What the kernel says of it.
    pub identity: Arc<Identity>,
    /// What it may do.
    pub grants: Arc<Grants>,
}

/// What commands are judged by besides the grants.
#[derive(Clone, Copy)]
pub struct Law<'a> {
    /// Whose is what.
    pub ledger: &'a Ledger,
    /// What is known of Tor and of the machine.
    pub behind: Behind<'a>,
    /// Tor has said what there is, or will not say it: no more is to come.
    pub is_told: bool,
}

impl Guard {
    /// The value of `GETINFO whoami`.
    #[must_use]
    pub fn whoami(&self) -> Vec<u8> {
        let profiles = self.grants.profiles();
        self.identity.whoami(self.session, &self.name, profiles)
    }

    /// The value of `GETINFO policy`.
    #[must_use]
    pub fn policy(&self) -> Vec<u8> {
        let lines = self.grants.list().into_iter().map(|line| line + "\n");
        lines.collect::<String>().into_bytes()
    }

    /// Whether commands pass as they came: everything is allowed, or what is not is only told.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.grants.is_everything() || self.grants.complains()
    }
}
