//! The court: the policy in force, what each controller may do by it, and what of Tor's is whose.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::accept::Ends;
use crate::bus::{SessionId, To};
use crate::options::Settings;
use crate::policy::{Behind, Delivery, Grants, Identity, Law, Ledger, Owner, Policy};
use crate::sys::policy as files;
use crate::tor::facts::Facts;
use crate::wire::event::{Event, EventKind, EventMask};
use crate::wire::text::encode_event;

/// The most identities of which it is kept what they may do.
const MOST_KNOWN: usize = 1024;

/// The most events that wait for the answer to an `ADD_ONION`; of more the oldest are dropped.
const MOST_WAITING: usize = 1024;

/// The policy in force.
pub(super) struct Court {
    policy: Policy,
    /// What identities may do, by all of them but the process.
    known: HashMap<Identity, Arc<Grants>>,
    pub(super) ledger: Ledger,
    pub(super) knowledge: Knowledge,
    /// Somebody may wait for the facts, or for their not coming.
    pub(super) has_news: bool,
    /// The daemon's own sockets, and Tor's as the daemon knows it.
    pub(super) sockets: Vec<Vec<u8>>,
    /// The daemon's own ports, and those of Tor's control listeners.
    pub(super) ports: Vec<u16>,
    pub(super) members: BTreeMap<SessionId, Member>,
    /// Somebody is or was judged by whose circuits and streams there are. It stays: what nobody
    /// watches for a while would be taken for what it was before, and who comes back would find
    /// nothing of its own.
    is_about_own: bool,
    /// The members that get some events of a kind only, by what they may do.
    pub(super) groups: HashMap<EventKind, Vec<Group>>,
    /// The groups that got the last event, and all who are in them.
    united: (Vec<Arc<[SessionId]>>, Arc<[SessionId]>),
    pub(super) waiting: VecDeque<(Event, Group)>,
}

/// What is known of the options and listeners of the Tor behind the bus.
pub(super) enum Knowledge {
    /// Nothing: it has not answered.
    None,
    /// Nothing: it, or whatever stands before it, does not tell.
    Refused,
    /// These.
    Facts(Facts),
}

impl Knowledge {
    const fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Facts(facts) => Some(facts),
            Self::None | Self::Refused => None,
        }
    }
}

/// A connection with a guard.
pub(super) struct Member {
    pub(super) grants: Arc<Grants>,
    /// The events of which it gets only some.
    pub(super) own: EventMask,
}

/// Those of one owner, or one profile, that get some events of a kind only.
#[derive(Clone)]
pub(super) struct Group {
    grants: Arc<Grants>,
    sessions: Arc<[SessionId]>,
}

fn path(octets: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(octets))
}

impl Court {
    /// The first policy; `missing` is all that the kernel does not say of who connects.
    pub(super) fn new(policy: Policy, own: &Ends, missing: &[&str]) -> Self {
        if !missing.is_empty() {
            log::info!("this kernel does not tell {}", missing.join(", "));
        }
        Self {
            policy,
            known: HashMap::new(),
            ledger: Ledger::default(),
            knowledge: Knowledge::None,
            has_news: false,
            sockets: own.paths.clone(),
            ports: own.ports.clone(),
            members: BTreeMap::new(),
            is_about_own: false,
            groups: HashMap::new(),
            united: (Vec::new(), [].into()),
            waiting: VecDeque::new(),
        }
    }

    /// Takes another policy, by which connections are to be judged anew.
    pub(super) fn replace(&mut self, policy: Policy) {
        self.policy = policy;
        self.known.clear();
    }

    /// What somebody may do.
    pub(super) fn grants(&mut self, identity: &Identity) -> Arc<Grants> {
        let key = Identity {
            pid: 0,
            ..identity.clone()
        };
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        let grants = Arc::new(Grants::unite(&self.policy, &key));
        self.known.insert(key, Arc::clone(&grants));
        grants
    }

    /// Whether onion services are kept for anybody.
    pub(super) fn keeps_onions(&self) -> bool {
        self.policy.keeps_onions()
    }

    /// What commands are judged by.
    pub(super) fn law<'a>(&'a self, settings: &'a Settings) -> Law<'a> {
        let facts = self.knowledge.facts();
        Law {
            ledger: &self.ledger,
            behind: Behind {
                options: facts.map(|facts| &facts.options),
                control_ports: &self.ports,
                control_paths: &self.sockets,
                ports: facts.map_or(&[], |facts| &facts.ports),
                protected: &settings.protected_ports,
                // Any host may be this one by another of its addresses.
                is_local: Some(&|_| true),
                is_safe: Some(&|octets| files::is_roots(path(octets))),
                id: Some(&|octets| files::id(path(octets))),
            },
        }
    }

    /// What a controller may do; none for one without a guard.
    pub(super) fn grants_of(&self, session: SessionId) -> Option<&Arc<Grants>> {
        self.members.get(&session).map(|member| &member.grants)
    }

    /// The events that Tor must send for the policy's own sake.
    pub(super) fn interest(&self) -> EventMask {
        let mut events: EventMask = [EventKind::ConfChanged].into_iter().collect();
        if self.is_about_own {
            events = events.union([EventKind::Circ, EventKind::Stream].into_iter().collect());
        }
        events
    }

    /// Takes what a controller may do, by the policy as it is now.
    pub(super) fn enter(&mut self, session: SessionId, grants: Arc<Grants>) {
        let own = self.leave(session);
        self.is_about_own |= grants.is_about_own();
        self.members.insert(session, Member { grants, own });
    }

    /// Forgets a controller. Returns the events of which it got only some.
    pub(super) fn leave(&mut self, session: SessionId) -> EventMask {
        let Some(member) = self.members.remove(&session) else {
            return EventMask::NONE;
        };
        if !member.own.is_empty() {
            self.groups.clear();
        }
        member.own
    }

    /// Those that get some events of a kind only, by what they may do.
    fn groups(&mut self, kind: EventKind) -> Vec<Group> {
        if let Some(groups) = self.groups.get(&kind) {
            return groups.clone();
        }
        let mut by_grants: Vec<(Arc<Grants>, Vec<SessionId>)> = Vec::new();
        for (session, member) in &self.members {
            if !member.own.contains(kind) {
                continue;
            }
            let same = |(grants, _): &&mut (Arc<Grants>, _)| Arc::ptr_eq(grants, &member.grants);
            match by_grants.iter_mut().find(same) {
                Some((_, sessions)) => sessions.push(*session),
                None => by_grants.push((Arc::clone(&member.grants), vec![*session])),
            }
        }
        let group = |(grants, sessions): (_, Vec<_>)| Group {
            grants,
            sessions: sessions.into(),
        };
        let groups: Vec<_> = by_grants.into_iter().map(group).collect();
        self.groups.insert(kind, groups.clone());
        groups
    }
}

impl Court {
    /// Notes an event for those of its groups that get it; `by` is the owner of the command that an
    /// event of the bus's own is about.
    pub(super) fn tell(&mut self, event: &Event, by: Option<&Owner>, out: &mut Vec<(Event, To)>) {
        let groups = self.groups(event.kind());
        if groups.is_empty() {
            return;
        }
        let mut line = Vec::new();
        encode_event(event, &mut line);
        let mut those = Vec::with_capacity(groups.len());
        for group in groups {
            those.extend(self.judge(event, &line, group, by));
        }
        if !those.is_empty() {
            out.push((event.clone(), To::Many(self.unite(those))));
        }
    }

    /// Notes the events that waited for the answer to an `ADD_ONION`.
    pub(super) fn tell_waiting(&mut self, out: &mut Vec<(Event, To)>) {
        for (event, group) in std::mem::take(&mut self.waiting) {
            let mut line = Vec::new();
            encode_event(&event, &mut line);
            let those = self.judge(&event, &line, group, None);
            out.extend(those.map(|those| (event, To::Many(those))));
        }
    }

    /// Those of a group that get an event.
    fn judge(
        &mut self,
        event: &Event,
        line: &[u8],
        group: Group,
        by: Option<&Owner>,
    ) -> Option<Arc<[SessionId]>> {
        let now = Instant::now();
        let grants = &group.grants;
        if let Event::Message(message) = event {
            return grants.reads_message(message).then_some(group.sessions);
        }
        if event.kind() == EventKind::Controller {
            let is_told = |session: &SessionId| {
                self.ledger.deliver(grants, *session, line, None, now) == Delivery::Yes
            };
            let told: Vec<_> = group.sessions.iter().copied().filter(is_told).collect();
            return (!told.is_empty()).then(|| told.into());
        }
        match self.ledger.deliver(grants, 0, line, by, now) {
            Delivery::Yes => Some(group.sessions),
            Delivery::No => None,
            Delivery::Wait => {
                if self.waiting.len() >= MOST_WAITING {
                    self.waiting.pop_front();
                }
                self.waiting.push_back((event.clone(), group));
                None
            }
        }
    }

    /// All who are in these groups. Those of the last event are kept: the same list again is
    /// delivered to at the price of a broadcast.
    fn unite(&mut self, those: Vec<Arc<[SessionId]>>) -> Arc<[SessionId]> {
        if let [one] = &those[..] {
            return Arc::clone(one);
        }
        let (known, all) = &self.united;
        let is_same = known.len() == those.len()
            && known
                .iter()
                .zip(&those)
                .all(|(known, one)| Arc::ptr_eq(known, one));
        if is_same {
            return Arc::clone(all);
        }
        let all: Arc<[_]> = those.iter().flat_map(|one| one.iter().copied()).collect();
        self.united = (those, Arc::clone(&all));
        all
    }
}
