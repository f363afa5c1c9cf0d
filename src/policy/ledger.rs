//! Whose is what: circuits, streams, onion services and client keys, kept up from events and from
//! the replies to commands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::grants::Grants;
use super::identity::Owner;
use super::table::Form;
use crate::wire::fields::{Onion, number};
use crate::wire::text::{changed_options, read_c_string};

/// The most descriptors that are known to have been fetched; of more the oldest go.
const MOST_FETCHED: usize = 1024;

/// The most commands that may explain an event at a time; of more the oldest go.
const MOST_CAUSES: usize = 1024;

/// The time for which a command explains an event, once it has been answered if it changes options.
/// A NEWNYM explains the next one, whenever.
const EXPLAINS: Duration = Duration::from_secs(1);

/// The streams that are a connection's own, by how they came to Tor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnSocks {
    /// Through a SOCKS listener on this Unix socket.
    Unix(Vec<u8>),
    /// With a user name that begins so. A convention among those who reach the same listener.
    User(Vec<u8>),
}

/// The delivery of an event to one controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Now.
    Yes,
    /// Never.
    No,
    /// Once the outstanding `ADD_ONION` are answered: one may be of this service.
    Wait,
}

#[derive(Debug, Default)]
struct Stream {
    source: Vec<u8>,
    user: Vec<u8>,
    circuit: u32,
}

#[derive(Debug, Default)]
struct Circuit {
    built_by: Option<Owner>,
    streams: BTreeSet<u64>,
}

/// A client key that Tor has.
#[derive(Debug)]
struct Key {
    /// None of one that was there before the daemon: it is another's for everybody.
    owner: Option<Owner>,
    is_permanent: bool,
    /// Tor has ended since, and has not said whether it still has the key.
    is_doubtful: bool,
}

/// What a command does that an event will tell.
#[derive(Debug)]
struct Cause {
    /// `SIGNAL NEWNYM`, or an option in lower case.
    what: Vec<u8>,
    owner: Owner,
    /// The time of the last command, or of its answer.
    at: Instant,
    /// The number of commands that are not answered: however long Tor takes, the event is theirs.
    open: usize,
}

/// What has ended and is still known while its event is delivered.
#[derive(Debug)]
enum Ended {
    Stream(u64),
    Circuit(u32),
    NewNym,
}

/// Whose everything is.
#[derive(Debug, Default)]
pub struct Ledger {
    /// With nobody for those who own nothing, whose services are counted all the same.
    onions: BTreeMap<Onion, Option<Owner>>,
    keys: BTreeMap<Onion, Key>,
    fetched: VecDeque<(Onion, Owner)>,
    circuits: BTreeMap<u32, Circuit>,
    streams: BTreeMap<u64, Stream>,
    causes: VecDeque<Cause>,
    /// The `ADD_ONION` that are not answered.
    outstanding: BTreeMap<Option<Owner>, usize>,
    ended: Option<Ended>,
}

impl Ledger {
    /// Forgets what a Tor had that has gone. It may have client keys on disk: whose they are is
    /// known until the next one [lists](Self::handle_keys) its own.
    pub fn clear(&mut self) {
        let mut keys = std::mem::take(&mut self.keys);
        for key in keys.values_mut() {
            key.is_doubtful = true;
        }
        *self = Self {
            keys,
            ..Self::default()
        };
    }

    /// Tor has said which client keys it has, and which of them are permanent; none if it does not
    /// say.
    pub fn handle_keys(&mut self, listed: Option<&BTreeMap<Onion, bool>>) {
        let Some(listed) = listed else {
            self.keys
                .retain(|_, key| !key.is_doubtful || key.is_permanent);
            return;
        };
        // One that was set since Tor was asked need not be among them.
        let is_there = |onion: &Onion, key: &mut Key| {
            let is_sure = !key.is_doubtful && key.owner.is_some();
            key.is_doubtful = false;
            is_sure || listed.contains_key(onion)
        };
        self.keys.retain(is_there);
        for (onion, is_permanent) in listed {
            self.keys.entry(onion.lower()).or_insert(Key {
                owner: None,
                is_permanent: *is_permanent,
                is_doubtful: false,
            });
        }
    }

    /// The `ADD_ONION` that are not answered.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.values().sum()
    }

    /// An `ADD_ONION` has been sent.
    pub fn handle_add_onion(&mut self, owner: Option<&Owner>) {
        *self.outstanding.entry(owner.cloned()).or_default() += 1;
    }

    /// An `ADD_ONION` has been answered, with the service if it was made.
    pub fn handle_onion(&mut self, owner: Option<&Owner>, made: Option<&Onion>) {
        let owner = owner.cloned();
        if let Some(count) = self.outstanding.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.outstanding.remove(&owner);
            }
        }
        if let Some(onion) = made {
            self.onions.insert(onion.lower(), owner);
        }
    }

    /// A service is there that is kept for an owner.
    pub fn handle_kept(&mut self, onion: &Onion, owner: Owner) {
        self.onions.insert(onion.lower(), Some(owner));
    }

    /// A service is no more: deleted, or its connection has ended.
    pub fn remove_onion(&mut self, onion: &Onion) {
        self.onions.remove(&onion.lower());
    }

    /// A client key has been set.
    pub fn handle_key(&mut self, onion: &Onion, owner: Owner, is_permanent: bool) {
        let key = Key {
            owner: Some(owner),
            is_permanent,
            is_doubtful: false,
        };
        self.keys.insert(onion.lower(), key);
    }

    /// The configuration has changed, at which Tor drops keys that are not permanent: they are
    /// nobody's any more, and everybody may set another.
    pub fn handle_configuration(&mut self) {
        self.keys.retain(|_, key| key.is_permanent);
    }

    /// A client key has been removed.
    pub fn remove_key(&mut self, onion: &Onion) {
        self.keys.remove(&onion.lower());
    }

    /// A descriptor has been asked for by HSFETCH.
    pub fn handle_fetch(&mut self, onion: &Onion, owner: Owner) {
        if self.fetched.len() >= MOST_FETCHED {
            self.fetched.pop_front();
        }
        self.fetched.push_back((onion.lower(), owner));
    }

    /// A circuit has been built by EXTENDCIRCUIT.
    pub fn handle_circuit(&mut self, circuit: u32, owner: Owner) {
        self.circuits.entry(circuit).or_default().built_by = Some(owner);
    }

    /// Whether a circuit is there that a controller has built.
    #[must_use]
    pub fn has_built(&self) -> bool {
        let mut circuits = self.circuits.values();
        circuits.any(|circuit| circuit.built_by.is_some())
    }

    /// A signal, by its long name, has been sent.
    pub fn handle_signal(&mut self, name: &str, owner: Owner, now: Instant) {
        self.cause(format!("SIGNAL {name}").into_bytes(), owner, now, 0);
    }

    /// A command that changes an option has been sent.
    pub fn handle_option(&mut self, name: &[u8], owner: Owner, now: Instant) {
        self.cause(name.to_ascii_lowercase(), owner, now, 1);
    }

    /// The command has been answered, or will never be.
    pub fn handle_option_answered(&mut self, name: &[u8], owner: Owner, now: Instant) {
        self.cause(name.to_ascii_lowercase(), owner, now, -1);
    }

    /// Notes a cause as of now, with so many more or less open commands.
    fn cause(&mut self, what: Vec<u8>, owner: Owner, at: Instant, change: isize) {
        let is_same = |cause: &Cause| cause.what == what && cause.owner == owner;
        let known = self.causes.iter().position(is_same);
        let known = known.and_then(|place| self.causes.remove(place));
        let open = known.map_or(0, |cause| cause.open);
        let open = open.saturating_add_signed(change);
        self.causes.retain(|cause| cause.explains(at));
        if self.causes.len() >= MOST_CAUSES {
            self.causes.pop_front();
        }
        self.causes.push_back(Cause {
            what,
            owner,
            at,
            open,
        });
    }

    /// Takes in an event of Tor's, before it is delivered to anybody.
    pub fn handle_event(&mut self, event: &[u8]) {
        match self.ended.take() {
            Some(Ended::Stream(stream)) => self.remove_stream(stream),
            Some(Ended::Circuit(circuit)) => {
                self.circuits.remove(&circuit);
            }
            Some(Ended::NewNym) => self.causes.retain(|cause| cause.what != NEWNYM),
            None => {}
        }
        let mut words = words(event);
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(b"STREAM"), Some(id), Some(state), Some(circuit)) => {
                if let (Some(id), Some(circuit)) = (number(id), number(circuit)) {
                    self.stream(id, state, circuit, event);
                }
            }
            (Some(b"CIRC"), Some(id), Some(b"CLOSED" | b"FAILED"), _) => {
                self.ended = number(id).map(Ended::Circuit);
            }
            (Some(b"SIGNAL"), Some(b"NEWNYM"), ..) => self.ended = Some(Ended::NewNym),
            (Some(b"SIGNAL"), Some(b"RELOAD"), ..) => self.handle_configuration(),
            _ if event
                .get(3..)
                .is_some_and(|line| line.starts_with(b"-CONF_CHANGED")) =>
            {
                self.handle_configuration();
            }
            _ => {}
        }
    }

    fn stream(&mut self, id: u64, state: &[u8], circuit: u32, event: &[u8]) {
        if matches!(state, b"NEW" | b"NEWRESOLVE") {
            self.remove_stream(id);
            let source = keyword(event, b"SOURCE_ADDR").unwrap_or_default();
            let user = keyword(event, b"SOCKS_USERNAME").unwrap_or_default();
            let circuit = 0;
            self.streams.insert(
                id,
                Stream {
                    source,
                    user,
                    circuit,
                },
            );
        }
        if matches!(state, b"CLOSED" | b"FAILED") {
            self.ended = Some(Ended::Stream(id));
        }
        // A stream whose beginning was not seen is nobody's, and so is the circuit it is on.
        let stream = self.streams.entry(id).or_default();
        let circuit = if state == b"DETACHED" { 0 } else { circuit };
        let before = std::mem::replace(&mut stream.circuit, circuit);
        if before != circuit {
            self.detach(before, id);
        }
        if circuit != 0 {
            self.circuits.entry(circuit).or_default().streams.insert(id);
        }
    }

    fn remove_stream(&mut self, id: u64) {
        if let Some(stream) = self.streams.remove(&id) {
            self.detach(stream.circuit, id);
        }
    }

    /// Takes a stream off a circuit, and forgets one that nobody built and that carries none.
    fn detach(&mut self, circuit: u32, stream: u64) {
        if let Some(left) = self.circuits.get_mut(&circuit) {
            left.streams.remove(&stream);
            if left.built_by.is_none() && left.streams.is_empty() {
                self.circuits.remove(&circuit);
            }
        }
    }

    /// Whether a stream is a connection's own. What cannot be told is not.
    #[must_use]
    pub fn is_own_stream(&self, id: u64, grants: &Grants) -> bool {
        self.streams.get(&id).is_some_and(|stream| {
            grants.own_socks.iter().any(|own| match own {
                OwnSocks::Unix(path) => stream.is_from(path),
                OwnSocks::User(prefix) => stream.user.starts_with(prefix),
            })
        })
    }

    /// Whether a circuit was built by the connection's owner, or carries its own streams only.
    #[must_use]
    pub fn is_own_circuit(&self, id: u32, grants: &Grants) -> bool {
        self.circuits.get(&id).is_some_and(|circuit| {
            let is_built = grants.owner().is_some() && circuit.built_by.as_ref() == grants.owner();
            let streams = &circuit.streams;
            let is_used = !streams.is_empty()
                && streams
                    .iter()
                    .all(|stream| self.is_own_stream(*stream, grants));
            is_built || is_used
        })
    }

    /// Whether a service, by its address as Tor writes it, is this owner's.
    #[must_use]
    pub fn owns_onion(&self, onion: &Onion, owner: Option<&Owner>) -> bool {
        owner.is_some() && self.onions.get(onion).map(Option::as_ref) == Some(owner)
    }

    /// Whether a client key is this owner's.
    #[must_use]
    pub fn owns_key(&self, onion: &Onion, owner: Option<&Owner>) -> bool {
        let key = self.keys.get(&onion.lower());
        owner.is_some() && key.is_some_and(|key| key.owner.as_ref() == owner)
    }

    /// Whether a client key is another owner's.
    #[must_use]
    pub fn has_foreign_key(&self, onion: &Onion, owner: Option<&Owner>) -> bool {
        let key = self.keys.get(&onion.lower());
        owner.is_none() || key.is_some_and(|key| key.owner.as_ref() != owner)
    }

    /// The number of an owner's services, those included that are being made.
    #[must_use]
    pub fn count_onions(&self, owner: Option<&Owner>) -> usize {
        let is_of = |known: &&Option<Owner>| known.as_ref() == owner;
        let outstanding = self.outstanding.get(&owner.cloned()).copied();
        self.onions.values().filter(is_of).count() + outstanding.unwrap_or(0)
    }

    /// Whether a line of Tor's answer is about what is a connection's own; `key` is the key of
    /// GETINFO, or `CLIENT` for a line of `ONION_CLIENT_AUTH_VIEW`.
    #[must_use]
    pub fn is_own_line(&self, key: &[u8], line: &[u8], grants: &Grants) -> bool {
        let mut words = line.split(|&octet| octet == b' ');
        let first = words.next().unwrap_or_default();
        let onion = |address: &[u8]| Onion::parse(address.trim_ascii());
        match key {
            b"circuit-status" => number(first).is_some_and(|id| self.is_own_circuit(id, grants)),
            b"stream-status" => number(first).is_some_and(|id| self.is_own_stream(id, grants)),
            b"onions/current" | b"onions/detached" => {
                onion(first).is_some_and(|onion| self.owns_onion(&onion, grants.owner()))
            }
            b"CLIENT" => {
                let address = words.next().unwrap_or_default();
                onion(address).is_some_and(|onion| self.owns_key(&onion, grants.owner()))
            }
            _ => false,
        }
    }

    /// Whether an event goes to a controller. `session` is the controller's number; `by` is the
    /// owner of the command that an event of the bus's own is about.
    #[must_use]
    pub fn deliver(
        &self,
        grants: &Grants,
        session: u64,
        event: &[u8],
        by: Option<&Owner>,
        now: Instant,
    ) -> Delivery {
        let mut words = words(event);
        let Some(name) = words.next() else {
            return Delivery::No;
        };
        match grants.event(name) {
            Some(Form::Plain) => return Delivery::Yes,
            Some(Form::Own) => {}
            Some(Form::Quiet) | None => return Delivery::No,
        }
        let first = words.next().unwrap_or_default();
        let owner = grants.owner();
        let is_own = match name {
            b"STREAM" => number(first).is_some_and(|id| self.is_own_stream(id, grants)),
            b"CIRC" | b"CIRC_MINOR" => {
                number(first).is_some_and(|id| self.is_own_circuit(id, grants))
            }
            b"CIRC_BW" => {
                let id = keyword(event, b"ID").and_then(|id| number(&id));
                id.is_some_and(|id| self.is_own_circuit(id, grants))
            }
            b"HS_DESC" => return self.deliver_descriptor(words.next().unwrap_or_default(), owner),
            b"HS_DESC_CONTENT" => return self.deliver_descriptor(first, owner),
            b"SIGNAL" => self.is_caused(&[b"SIGNAL ", first].concat(), owner, now),
            b"CONF_CHANGED" => {
                let mut options = changed_options(event).peekable();
                options.peek().is_some()
                    && options.all(|name| self.is_caused(&name.to_ascii_lowercase(), owner, now))
            }
            b"ACTION" => by.is_some() && by == owner,
            b"CONTROLLER" => words.next().and_then(number) == Some(session),
            _ => false,
        };
        if is_own { Delivery::Yes } else { Delivery::No }
    }

    fn deliver_descriptor(&self, address: &[u8], owner: Option<&Owner>) -> Delivery {
        let (Some(onion), Some(owner)) = (Onion::parse(address), owner) else {
            return Delivery::No;
        };
        let onion = onion.lower();
        let is_fetched = self
            .fetched
            .iter()
            .any(|(o, by)| *o == onion && by == owner);
        match self.onions.get(&onion) {
            _ if is_fetched => Delivery::Yes,
            Some(Some(known)) if known == owner => Delivery::Yes,
            None if !self.outstanding.is_empty() => Delivery::Wait,
            _ => Delivery::No,
        }
    }

    fn is_caused(&self, what: &[u8], owner: Option<&Owner>, now: Instant) -> bool {
        self.causes
            .iter()
            .any(|cause| cause.what == what && Some(&cause.owner) == owner && cause.explains(now))
    }
}

const NEWNYM: &[u8] = b"SIGNAL NEWNYM";

impl Cause {
    fn explains(&self, now: Instant) -> bool {
        self.what == NEWNYM || self.open > 0 || now.saturating_duration_since(self.at) <= EXPLAINS
    }
}

impl Stream {
    /// Whether the stream came through a listener on this path; Tor writes the path as the address,
    /// without quotes, and 0 as its port. Without that the path goes on behind a blank, and is
    /// another.
    fn is_from(&self, path: &[u8]) -> bool {
        self.source.strip_suffix(b":0") == Some(path)
    }
}

/// The words of an event's first line, its name first.
fn words(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let line = event
        .split(|&octet| octet == b'\n')
        .next()
        .unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line
        .get(4..)
        .filter(|_| line.starts_with(b"650"))
        .unwrap_or_default();
    line.split(|&octet| octet == b' ')
        .filter(|word| !word.is_empty())
}

/// The value of a keyword in an event's first line, unquoted; quotes of other values are passed
/// over, so that nobody's value can hold a keyword.
fn keyword(event: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let line = event.split(|&octet| octet == b'\n').next()?;
    let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
    while !rest.is_empty() {
        // A blank in quotes is none, and an escaped quote does not end them.
        let (mut quoted, mut escaped) = (false, false);
        let end = rest.iter().position(|&octet| {
            let is_end = octet == b' ' && !quoted;
            quoted ^= octet == b'"' && !escaped;
            escaped = octet == b'\\' && !escaped;
            is_end
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        if let Some(value) = word
            .strip_prefix(key)
            .and_then(|word| word.strip_prefix(b"="))
        {
            return Some(read_c_string(value).unwrap_or_else(|| value.to_vec()));
        }
        rest = after.get(1..).unwrap_or_default();
    }
    None
}
