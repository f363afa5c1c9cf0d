//! What follows a command that was judged: what is noted once it is sent and once it is answered,
//! and how much of the answer is shown.

use std::time::Instant;

use super::grants::Grants;
use super::judge::{Allowed, Views};
use super::ledger::Ledger;
use crate::wire::fields::{Fields, Flag, Onion, number};
use crate::wire::reply::{Reply, Value};
use crate::wire::request::Signal;
use crate::wire::text::{encode_reply, parts, write_info};

/// Something that the ledger is told of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    AddOnion {
        /// Its connection's end does not end the service.
        is_detached: bool,
    },
    DelOnion(Onion),
    AddKey {
        onion: Onion,
        is_permanent: bool,
    },
    RemoveKey(Onion),
    Fetch(Onion),
    Build,
    Signal(&'static str),
    Options(Vec<Vec<u8>>),
}

/// The sequel of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequel {
    note: Option<Note>,
    views: Views,
    /// The keys of GETINFO or the options of GETCONF, if some have an answer already.
    items: Vec<Vec<u8>>,
    is_conf: bool,
    /// Those of them that have one, by their places.
    answers: Vec<(usize, Vec<u8>)>,
}

/// A service that a connection has made, which ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The service is the connection's.
    Onion(Onion),
    /// It is no more.
    NoOnion(Onion),
}

impl Sequel {
    /// The sequel of a command that is done as its fields say; none if nothing follows.
    #[must_use]
    pub fn of(allowed: &Allowed) -> Option<Self> {
        let mut sequel = Self {
            note: note(&allowed.fields),
            views: allowed.views,
            ..Self::default()
        };
        if let (Fields::GetInfo(items) | Fields::GetConf(items), false) =
            (&allowed.fields, allowed.answers.is_empty())
        {
            sequel.is_conf = matches!(allowed.fields, Fields::GetConf(_));
            sequel.items.clone_from(items);
            sequel.answers.clone_from(&allowed.answers);
        }
        if allowed.views != Views::default() && sequel.items.is_empty() {
            match &allowed.fields {
                Fields::GetInfo(items) => sequel.items.clone_from(items),
                _ => sequel.items = vec![CLIENT.to_vec()],
            }
        }
        (sequel != Self::default()).then_some(sequel)
    }

    /// Whether later commands of the connection are judged by what this one is answered.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        matches!(
            self.note,
            Some(
                Note::AddOnion { .. }
                    | Note::DelOnion(_)
                    | Note::AddKey { .. }
                    | Note::RemoveKey(_)
                    | Note::Build
            )
        )
    }

    /// Whether Tor's answer is needed: to note it, or to show another.
    #[must_use]
    pub fn needs_answer(&self) -> bool {
        self.is_awaited() || matches!(self.note, Some(Note::Options(_))) || !self.items.is_empty()
    }

    /// The command has been sent.
    pub fn begin(&self, grants: &Grants, ledger: &mut Ledger, now: Instant) {
        match (&self.note, grants.owner()) {
            (Some(Note::AddOnion { .. }), owner) => ledger.handle_add_onion(owner),
            (Some(Note::Fetch(onion)), Some(owner)) => ledger.handle_fetch(onion, owner.clone()),
            (Some(Note::Signal(name)), Some(owner)) => {
                ledger.handle_signal(name, owner.clone(), now);
            }
            (Some(Note::Options(names)), Some(owner)) => {
                for name in names {
                    ledger.handle_option(name, owner.clone(), now);
                }
            }
            _ => {}
        }
    }

    /// The command has been answered, or will never be.
    pub fn end(
        &self,
        answer: Option<&[u8]>,
        grants: &Grants,
        ledger: &mut Ledger,
        now: Instant,
    ) -> Option<Change> {
        if let (Some(Note::Options(names)), Some(owner)) = (&self.note, grants.owner()) {
            for name in names {
                ledger.handle_option_answered(name, owner.clone(), now);
            }
        }
        let answer = answer.filter(|answer| answer.starts_with(b"25"));
        match (&self.note, grants.owner()) {
            (Some(Note::AddOnion { is_detached }), owner) => {
                let made = answer.and_then(service);
                ledger.handle_onion(owner, made.as_ref());
                return made.filter(|_| !is_detached).map(Change::Onion);
            }
            (Some(Note::DelOnion(onion)), _) if answer.is_some() => {
                ledger.remove_onion(onion);
                return Some(Change::NoOnion(onion.clone()));
            }
            (
                Some(Note::AddKey {
                    onion,
                    is_permanent,
                }),
                Some(owner),
            ) if answer.is_some() => ledger.handle_key(onion, owner.clone(), *is_permanent),
            // Of the same value as before no event tells.
            (Some(Note::Options(_)), _) if answer.is_some() => ledger.handle_configuration(),
            (Some(Note::RemoveKey(onion)), _) if answer.is_some() => ledger.remove_key(onion),
            (Some(Note::Build), Some(owner)) => {
                if let Some(circuit) = answer.and_then(circuit) {
                    ledger.handle_circuit(circuit, owner.clone());
                }
            }
            _ => {}
        }
        None
    }

    /// The reply to show, by the one that has come.
    #[must_use]
    pub fn shown(&self, reply: Vec<u8>, grants: &Grants, ledger: &Ledger) -> Vec<u8> {
        if self.items.is_empty() || !reply.starts_with(b"250") {
            return reply;
        }
        if self.views.own_keys {
            let mut shown = Vec::with_capacity(reply.len());
            for line in reply.split_inclusive(|&octet| octet == b'\n') {
                let client = line.get(4..).filter(|line| line.starts_with(CLIENT));
                if client.is_none_or(|client| ledger.is_own_line(CLIENT, client, grants)) {
                    shown.extend_from_slice(line);
                }
            }
            return shown;
        }
        if self.is_conf {
            return self.conf(&reply);
        }
        let mut came = parts(&reply).into_iter();
        let mut shown = Vec::with_capacity(reply.len());
        for (place, key) in self.items.iter().enumerate() {
            if let Some(text) = self.answer(place) {
                info(key, text.to_vec(), &mut shown);
                continue;
            }
            let part = came.next().unwrap_or_default();
            if self.is_own_only(key) {
                own_lines(key, part, grants, ledger, &mut shown);
            } else {
                shown.extend_from_slice(part);
            }
        }
        shown.extend_from_slice(b"250 OK\r\n");
        shown
    }

    /// The reply of which every item has an answer already; none if Tor must be asked.
    #[must_use]
    pub fn whole(&self) -> Option<Reply> {
        if self.answers.is_empty() || self.answers.len() < self.items.len() {
            return None;
        }
        let pairs = self.items.iter().zip(&self.answers);
        Some(if self.is_conf {
            let pair = |(name, (_, text)): (&Vec<u8>, &(usize, Vec<u8>))| {
                let name = String::from_utf8_lossy(name).into_owned();
                (name.into(), Some(text.clone()))
            };
            Reply::Conf(pairs.map(pair).collect())
        } else {
            let pair = |(key, (_, text)): (&Vec<u8>, &(usize, Vec<u8>))| {
                (key.clone(), Value::Octets(text.clone()))
            };
            Reply::Info(pairs.map(pair).collect())
        })
    }

    /// The bus's reply about the items that have no answer yet, with the answers in their places.
    #[must_use]
    pub fn with_answers(&self, reply: Reply) -> Reply {
        if self.answers.is_empty() {
            return reply;
        }
        match reply {
            Reply::Info(values) => {
                let mut came = values.into_iter();
                let items = self.items.iter().enumerate();
                let value = |(place, key): (usize, &Vec<u8>)| match self.answer(place) {
                    Some(text) => Some((key.clone(), Value::Octets(text.to_vec()))),
                    None => came.next(),
                };
                Reply::Info(items.filter_map(value).collect())
            }
            Reply::Conf(values) => {
                let mut came = values.into_iter().peekable();
                let mut pairs = Vec::new();
                for (place, name) in self.items.iter().enumerate() {
                    let is_same = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
                    if let Some(text) = self.answer(place) {
                        let name = String::from_utf8_lossy(name).into_owned();
                        pairs.push((name.into(), Some(text.to_vec())));
                    } else {
                        while let Some(pair) = came.next_if(|(other, _)| is_same(other)) {
                            pairs.push(pair);
                        }
                    }
                }
                Reply::Conf(pairs)
            }
            other => other,
        }
    }

    /// The items that have no answer yet.
    #[must_use]
    pub fn open_items(&self) -> Vec<Vec<u8>> {
        let open = |(place, _): &(usize, &Vec<u8>)| self.answer(*place).is_none();
        let items = self.items.iter().enumerate().filter(open);
        items.map(|(_, item)| item.clone()).collect()
    }

    /// All items, as they were asked for; none if nothing is shown otherwise than it comes.
    #[must_use]
    pub fn items(&self) -> &[Vec<u8>] {
        &self.items
    }

    /// Whether some items have an answer already.
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    fn answer(&self, place: usize) -> Option<&[u8]> {
        let found = self.answers.iter().find(|(known, _)| *known == place);
        found.map(|(_, text)| &text[..])
    }

    fn is_own_only(&self, key: &[u8]) -> bool {
        match key {
            b"circuit-status" => self.views.own_circuits,
            b"stream-status" => self.views.own_streams,
            b"onions/current" | b"onions/detached" => self.views.own_onions,
            _ => false,
        }
    }

    /// The reply to GETCONF, with each answer in its place. An option can have several lines.
    fn conf(&self, reply: &[u8]) -> Vec<u8> {
        let lines = reply.split_inclusive(|&octet| octet == b'\n');
        let mut came = lines.filter_map(|line| line.get(4..)).peekable();
        let is_of = |line: &[u8], name: &[u8]| {
            let rest = line.get(name.len()..).unwrap_or_default();
            let is_name = line
                .get(..name.len())
                .is_some_and(|n| n.eq_ignore_ascii_case(name));
            is_name && rest.first().is_none_or(|octet| b"=\r\n".contains(octet))
        };
        let mut shown: Vec<Vec<u8>> = Vec::new();
        for (place, name) in self.items.iter().enumerate() {
            if let Some(text) = self.answer(place) {
                shown.push([name, &b"="[..], text, b"\r\n"].concat());
                continue;
            }
            let mut has_line = false;
            while let Some(line) = came.next_if(|line| !has_line || is_of(line, name)) {
                shown.push(line.to_vec());
                has_line = true;
            }
        }
        let last = shown.len().saturating_sub(1);
        let start = |place| if place == last { &b"250 "[..] } else { b"250-" };
        let whole = shown.iter().enumerate();
        whole
            .flat_map(|(place, line)| [start(place), line].concat())
            .collect()
    }
}

/// The key under which the lines of `ONION_CLIENT_AUTH_VIEW` are looked at.
const CLIENT: &[u8] = b"CLIENT";

fn note(fields: &Fields) -> Option<Note> {
    let names = |settings: &[crate::wire::request::Setting]| {
        let names = settings.iter().map(|setting| setting.name.clone());
        Some(Note::Options(names.collect()))
    };
    match fields {
        Fields::AddOnion(onion) => Some(Note::AddOnion {
            is_detached: onion.flags.contains(&Flag::Detach),
        }),
        Fields::DelOnion(onion) => Some(Note::DelOnion(onion.clone())),
        Fields::ClientAuthAdd(key) => Some(Note::AddKey {
            onion: key.onion.clone(),
            is_permanent: key.permanent,
        }),
        Fields::ClientAuthRemove(onion) => Some(Note::RemoveKey(onion.clone())),
        Fields::HsFetch { onion, .. } => Some(Note::Fetch(onion.clone())),
        Fields::HsPost(post) => Some(Note::Fetch(post.onion.clone())),
        Fields::ExtendCircuit(extend) if extend.circuit == 0 => Some(Note::Build),
        Fields::Signal(name) => Signal::parse(name).map(|signal| Note::Signal(signal.name())),
        Fields::SetConf(settings) | Fields::ResetConf(settings) => names(settings),
        _ => None,
    }
}

/// The service of `250-ServiceID=...`.
fn service(answer: &[u8]) -> Option<Onion> {
    let mut lines = answer.split(|&octet| octet == b'\n');
    let id = lines.find_map(|line| line.strip_prefix(b"250-ServiceID="))?;
    Onion::parse(id.trim_ascii())
}

/// The circuit of `250 EXTENDED 7`.
fn circuit(answer: &[u8]) -> Option<u32> {
    number(answer.strip_prefix(b"250 EXTENDED ")?.trim_ascii())
}

/// Appends the part of a reply to GETINFO that one value is.
fn info(key: &[u8], value: Vec<u8>, out: &mut Vec<u8>) {
    let start = out.len();
    encode_reply(
        &Reply::Info(vec![(key.to_vec(), Value::Octets(value))]),
        out,
    );
    let end = b"250 OK\r\n";
    if out.get(start..).is_some_and(|made| made.ends_with(end)) {
        out.truncate(out.len() - end.len());
    }
}

/// Appends a part of a reply with those of its lines that are one's own.
fn own_lines(key: &[u8], part: &[u8], grants: &Grants, ledger: &Ledger, out: &mut Vec<u8>) {
    let lines = part.split(|&octet| octet == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut own = Vec::new();
    for (place, line) in lines.enumerate() {
        // Of the first line what stands behind `250-KEY=`, which may be all of the value.
        let line = match place {
            0 => line.get(key.len() + 5..).unwrap_or_default(),
            _ => line,
        };
        if !line.is_empty() && line != b"." && ledger.is_own_line(key, line, grants) {
            own.push(line);
        }
    }
    write_info(key, &own, out);
}
