//! What one connection may do: all blocks that match it, united.

use std::collections::{BTreeMap, BTreeSet};

use super::add_onion;
use super::file::Policy;
use super::identity::{Identity, Owner};
use super::ledger::OwnSocks;
use super::table::{Form, Table, Values, What};
use super::target::Behind;
use crate::command::{is_own_option, keys};
use crate::wire::fields::AddOnion;
use crate::wire::message::{ControllerId, Message};

/// The keys of GETINFO that only their own name grants, never `*`, and with their `*` those of
/// which each is a secret.
const SECRET_KEYS: &[&[u8]] = &[b"config-text", b"address", b"address/v4", b"address/v6"];
const SECRET_PREFIXES: &[&[u8]] = &[b"hs/service/desc/id/", b"hs/client/desc/id/"];

/// The ends of the names of options that are secret, in lower case.
const SECRET_ENDS: &[&[u8]] = &[b"password", b"authenticator"];

/// The keys of GETINFO that everybody has.
/// Without `bus/chain` a bus behind itself would not find that out.
const FREE_KEYS: &[&[u8]] = &[b"whoami", b"policy", b"posted-message", b"bus/chain"];

/// What a connection may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub(super) owner: Option<Owner>,
    pub(super) profiles: Vec<String>,
    pub(super) allow: Table,
    pub(super) deny: Table,
    pub(super) answers: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) keep: Option<u64>,
    pub(super) own_socks: BTreeSet<OwnSocks>,
    pub(super) complain: bool,
    pub(super) has_denies: bool,
}

impl Grants {
    /// Unites all blocks that match. Whoever matches none may do what everybody may.
    #[must_use]
    pub fn unite(policy: &Policy, identity: &Identity) -> Self {
        let profiles = policy.matching(identity);
        let mut grants = Self {
            owner: identity.owner(),
            complain: !profiles.is_empty() && profiles.iter().all(|name| policy.complains(name)),
            ..Self::default()
        };
        let is_plain = |name: &&String| {
            name.bytes()
                .all(|o| o.is_ascii_alphanumeric() || b"_.-@".contains(&o))
        };
        let user = policy.users.get(&identity.uid).filter(is_plain);
        let user = user.map(String::as_str);
        for block in policy.with_used(&profiles).into_values() {
            for rule in &block.rules {
                let table = if rule.is_deny {
                    &mut grants.deny
                } else {
                    &mut grants.allow
                };
                if let Some(words) = rule.words_for(user, identity.uid) {
                    // It was read when the files were, and a name changes no more than a word.
                    let read = table.add(&words, rule.is_deny);
                    debug_assert_eq!(read, Ok(()));
                }
            }
            for (key, text) in &block.answers {
                grants
                    .answers
                    .entry(key.clone())
                    .or_insert_with(|| text.clone());
            }
            grants.keep = grants.keep.max(block.keep);
            grants.own_socks.extend(block.own_socks.iter().cloned());
        }
        grants.has_denies = grants.deny != Table::default();
        grants.profiles = profiles;
        grants
    }

    /// The names of the blocks that matched, in order.
    #[must_use]
    pub fn profiles(&self) -> &[String] {
        &self.profiles
    }

    /// The owner of what the connection makes.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    /// Whether everything is allowed and nothing denied: then commands pass untouched.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.has_all() && !self.has_denies
    }

    /// Whether refusals are only told.
    #[must_use]
    pub fn complains(&self) -> bool {
        self.complain
    }

    /// Whether anything of it depends on whose circuits and streams there are.
    #[must_use]
    pub fn is_about_own(&self) -> bool {
        let is_of = |(what, _): &(What, &str)| matches!(what, What::Circuits | What::Streams);
        !self.own_socks.is_empty()
            || [&self.allow, &self.deny].iter().any(|table| {
                table.scopes.keys().any(is_of)
                    || table.events.values().any(|form| *form == Form::Own)
            })
    }

    /// The seconds for which onion services are kept, if they are.
    #[must_use]
    pub fn keep_onions(&self) -> Option<u64> {
        self.keep
    }

    pub(super) fn has_all(&self) -> bool {
        self.allow.plain.contains(&What::All)
    }

    pub(super) fn denies_all(&self) -> bool {
        self.deny.plain.contains(&What::All)
    }

    /// Whether what has no words of its own is allowed.
    pub(super) fn has_plain(&self, what: What) -> bool {
        let is_denied = self.denies_all() || self.deny.plain.contains(&what);
        !is_denied && (self.has_all() || self.allow.plain.contains(&what))
    }

    /// Whether a word is allowed that is no secret.
    pub(super) fn has_word(&self, what: What, word: &[u8]) -> bool {
        let is_denied = self.denies_all() || self.deny.covers_word(what, word);
        !is_denied && (self.has_all() || self.allow.covers_word(what, word))
    }

    /// Whether something of this owner, or of another, is allowed.
    pub(super) fn has_scope(&self, what: What, verb: &'static str, is_own: bool) -> bool {
        let is_denied = self.denies_all() || self.deny.covers_scope(what, verb, is_own);
        !is_denied && (self.has_all() || self.allow.covers_scope(what, verb, is_own))
    }

    /// Whether any line allows the verb.
    pub(super) fn speaks_of(&self, what: What, verb: &'static str) -> bool {
        self.has_scope(what, verb, true) || self.has_scope(what, verb, false)
    }

    /// Whether a key of GETINFO may be asked, whatever answers it.
    pub(super) fn has_key(&self, key: &[u8]) -> bool {
        if FREE_KEYS.contains(&key) {
            return true;
        }
        if self.denies_all() || self.deny.covers_word(What::GetInfo, key) {
            return false;
        }
        match key {
            b"list-controllers" => return self.has_plain(What::List),
            b"new-messages" | b"recent-messages" => return self.may_read(),
            b"onions/current" | b"onions/detached" if self.denies_onions() => return false,
            b"onions/current" | b"onions/detached" if self.shows_onions() => return true,
            _ => {}
        }
        if self.has_all() {
            return true;
        }
        let Some(words) = self.allow.words.get(&What::GetInfo) else {
            return false;
        };
        let is_secret = SECRET_KEYS.contains(&key);
        let secret_prefix = SECRET_PREFIXES
            .iter()
            .find(|prefix| key.starts_with(prefix));
        match secret_prefix {
            _ if words.exact.contains(key) => true,
            Some(prefix) => words.prefixes.contains(*prefix),
            None => !is_secret && !keys::is_own(key) && words.covers(key),
        }
    }

    /// Whether the lists of onion services may be asked for.
    fn shows_onions(&self) -> bool {
        self.speaks_of(What::Onions, "") || !self.allow.onions.is_empty()
    }

    fn denies_onions(&self) -> bool {
        self.deny.covers_scope(What::Onions, "", true)
    }

    /// Whether the lists of onion services show those of all.
    pub(super) fn shows_all_onions(&self) -> bool {
        self.has_scope(What::Onions, "", false)
    }

    /// Whether any message may be read.
    fn may_read(&self) -> bool {
        let denies = self
            .deny
            .words
            .get(&What::Read)
            .is_some_and(|words| words.all);
        let allows = self
            .allow
            .words
            .get(&What::Read)
            .is_some_and(|words| !words.is_empty());
        !denies && !self.denies_all() && (allows || self.has_all())
    }

    /// Whether a controller may have this name.
    #[must_use]
    pub fn may_be_named(&self, name: &ControllerId) -> bool {
        self.complain || self.has_word(What::Name, name.as_str().as_bytes())
    }

    /// Whether messages to `@all`, or to a name with its `@`, may be read.
    #[must_use]
    pub fn reads(&self, destination: &[u8]) -> bool {
        self.complain || self.has_word(What::Read, destination)
    }

    /// Whether a message may be read.
    #[must_use]
    pub fn reads_message(&self, message: &Message) -> bool {
        self.reads(format!("@{}", message.destination).as_bytes())
    }

    /// Whether an option may be read, or set to its default, by its whole name in lower case.
    pub(super) fn has_option(&self, what: What, name: &[u8], behind: &Behind<'_>) -> bool {
        if is_own_option(name) {
            return match what {
                What::GetConf => self.has_word(What::BusConf, name),
                _ => self.has_bus_set(name),
            };
        }
        let is_secret = SECRET_ENDS.iter().any(|end| name.ends_with(end));
        let is_exact = || {
            let words = self.allow.words.get(&what);
            words.is_some_and(|words| words.exact.contains(name))
        };
        is_option(name, behind)
            && self.has_word(what, name)
            && (!is_secret || self.has_all() || is_exact())
    }

    fn has_bus_set(&self, name: &[u8]) -> bool {
        let is_denied = self.denies_all() || self.deny.bus_set.covers(name);
        !is_denied && (self.has_all() || self.allow.bus_set.covers(name))
    }

    /// Whether every option of the bus may be set, as a text of them does.
    pub(super) fn sets_all_of_bus(&self) -> bool {
        let denies = self.denies_all() || !self.deny.bus_set.is_empty();
        !denies && (self.has_all() || self.allow.bus_set.all)
    }

    /// Whether an option, by its whole name in lower case, may be set at all.
    pub(super) fn has_setting(&self, name: &[u8], behind: &Behind<'_>) -> bool {
        if is_own_option(name) {
            return self.has_bus_set(name);
        }
        let is_denied = self.denies_all() || self.deny.setconf_all;
        let is_denied = is_denied || self.deny.setconf.get(name) == Some(&Values::Any);
        let is_allowed = self.has_all() || self.allow.setconf.contains_key(name);
        is_option(name, behind) && is_allowed && !is_denied
    }

    /// Whether an option that may be set may be set to this value, or to none.
    pub(super) fn has_value(&self, name: &[u8], value: Option<&[u8]>) -> bool {
        if self
            .deny
            .setconf
            .get(name)
            .is_some_and(|values| value.is_none() || values.covers(value))
        {
            return false;
        }
        let allows = |values: &Values| values.covers(value);
        self.has_all() || is_own_option(name) || self.allow.setconf.get(name).is_some_and(allows)
    }

    /// Whether any Deny is about setting options: then no text of options can be loaded.
    pub(super) fn denies_settings(&self) -> bool {
        let resets = self.deny.words.get(&What::ResetConf);
        self.deny.setconf_all
            || !self.deny.setconf.is_empty()
            || !self.deny.bus_set.is_empty()
            || resets.is_some_and(|words| !words.is_empty())
    }

    /// How an event, in upper case, is granted.
    #[must_use]
    pub fn event(&self, name: &[u8]) -> Option<Form> {
        match name {
            b"POLICY" | b"TOR" | b"RESTORE" => return Some(Form::Plain),
            b"POSTMESSAGE" => return self.may_read().then_some(Form::Plain),
            _ => {}
        }
        // That of the bus's controllers has a line of its own.
        let is_list = name == b"CONTROLLER";
        let lists = |table: &Table| is_list && table.plain.contains(&What::List);
        let denies = |name: &[u8]| self.deny.events.contains_key(name);
        if self.denies_all() || denies(name) || denies(b"*") || lists(&self.deny) {
            return None;
        }
        if self.has_all() || lists(&self.allow) {
            return Some(Form::Plain);
        }
        let star = self.allow.events.get(&b"*"[..]).filter(|_| !is_list);
        self.allow.events.get(name).max(star).copied()
    }

    /// Whether everybody's circuits, or streams, are shown.
    pub(super) fn sees_all(&self, event: &[u8]) -> bool {
        self.event(event) == Some(Form::Plain)
    }

    /// The lines of `add_onion` that cover a command, the one that forces least first; or the
    /// keyword that the one which covers most does not.
    pub(super) fn onion_lines<'a>(
        &'a self,
        fields: &AddOnion,
        behind: &Behind<'_>,
    ) -> Result<Vec<&'a add_onion::OnionGrant>, &'static str> {
        const ORDER: [&str; 5] = ["KeyType", "Port", "Flags", "ClientAuthV3", "MaxStreams"];
        let place = |keyword: &str| ORDER.iter().position(|known| *known == keyword);
        let mut lines = Vec::new();
        let mut farthest = None;
        for grant in &self.allow.onions {
            match grant.uncovered(fields, behind) {
                None => lines.push(grant),
                Some(keyword) => farthest = farthest.max(place(keyword)),
            }
        }
        if lines.is_empty() {
            let keyword = farthest.and_then(|place| ORDER.get(place));
            return Err(keyword.copied().unwrap_or("Port"));
        }
        lines.sort_by(|one, other| one.by_force(other));
        Ok(lines)
    }
}

/// Whether Tor has an option of this whole name, in lower case.
fn is_option(name: &[u8], behind: &Behind<'_>) -> bool {
    behind.options.is_none_or(|options| options.contains(name))
}
