//! The court: the policy in force, what each controller may do by it, and what of Tor's is whose.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::accept::Ends;
use super::policy::paths;
use crate::bus::{SessionId, To};
use crate::options::Settings;
use crate::policy::{Behind, Delivery, Grants, Identity, Law, Ledger, Owner, Policy};
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
    /// Events that wait for the answer to an `ADD_ONION`, with those that may get each.
    pub(super) waiting: VecDeque<(Event, Vec<Arc<[SessionId]>>)>,
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
            is_told: !matches!(self.knowledge, Knowledge::None),
            behind: Behind {
                options: facts.map(|facts| &facts.options),
                control_ports: &self.ports,
                control_paths: &self.sockets,
                ports: facts.map_or(&[], |facts| &facts.ports),
                protected: &settings.protected_ports,
                // Any host may be this one by another of its addresses.
                is_local: Some(&|_| true),
                ..paths()
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
        } else if self.ledger.has_built() {
            // To know when it ends.
            events.insert(EventKind::Circ);
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
        self.tell_groups(event, groups, by, out);
    }

    /// Notes the events that waited for the answer to an `ADD_ONION`, for those that have not ended
    /// their subscription since, by what they may do now.
    pub(super) fn tell_waiting(&mut self, out: &mut Vec<(Event, To)>) {
        for (event, those) in std::mem::take(&mut self.waiting) {
            let mut groups = self.groups(event.kind());
            for group in &mut groups {
                // Of each list the sessions ascend.
                let waits =
                    |one: &SessionId| those.iter().any(|all| all.binary_search(one).is_ok());
                let is_same = |one: &Arc<[SessionId]>| Arc::ptr_eq(one, &group.sessions);
                if !those.iter().any(is_same) {
                    group.sessions = group.sessions.iter().copied().filter(waits).collect();
                }
            }
            groups.retain(|group| !group.sessions.is_empty());
            self.tell_groups(&event, groups, None, out);
        }
    }

    fn tell_groups(
        &mut self,
        event: &Event,
        groups: Vec<Group>,
        by: Option<&Owner>,
        out: &mut Vec<(Event, To)>,
    ) {
        if groups.is_empty() {
            return;
        }
        let mut line = Vec::new();
        encode_event(event, &mut line);
        let mut those = Vec::with_capacity(groups.len());
        let mut waiting = Vec::new();
        for group in groups {
            those.extend(self.judge(event, &line, group, by, &mut waiting));
        }
        if !those.is_empty() {
            out.push((event.clone(), To::Many(self.unite(those))));
        }
        if !waiting.is_empty() {
            if self.waiting.len() >= MOST_WAITING {
                self.waiting.pop_front();
            }
            self.waiting.push_back((event.clone(), waiting));
        }
    }

    /// Those of a group that get an event; those for whom it waits are noted.
    fn judge(
        &self,
        event: &Event,
        line: &[u8],
        group: Group,
        by: Option<&Owner>,
        waiting: &mut Vec<Arc<[SessionId]>>,
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
                waiting.push(group.sessions);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Defaults, Options};
    use crate::wire::fields::Onion;

    const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";

    fn identity(uid: u32) -> Identity {
        Identity {
            uid,
            ..Identity::default()
        }
    }

    /// A controller is there, by the policy as it is now, and gets its own of these events.
    fn enters(court: &mut Court, session: SessionId, uid: u32, own: &[EventKind]) {
        let grants = court.grants(&identity(uid));
        court.enter(session, grants);
        court.members.get_mut(&session).unwrap().own = own.iter().copied().collect();
        court.groups.clear();
    }

    fn told(out: &[(Event, To)]) -> Vec<SessionId> {
        out.iter()
            .flat_map(|(_, to)| match to {
                To::Many(sessions) => sessions.to_vec(),
                to => panic!("{to:?}"),
            })
            .collect()
    }

    #[test]
    fn an_event_that_has_waited_is_for_those_who_still_may_have_it() {
        let defaults = Defaults {
            socket: "/run/bus".into(),
            state_directory: "/var/lib/bus".into(),
        };
        let options = Options::load(None, &[], defaults).unwrap();
        let lines = "Allow add_onion ports=80\nAllow events HS_DESC:own";
        let onion = Onion::parse(ONION.as_bytes()).unwrap();
        let line = format!("650 HS_DESC CREATED {ONION} UNKNOWN UNKNOWN x\r\n");
        let event = Event::OfTor {
            kind: EventKind::HsDesc,
            number: 0,
            line: line.as_bytes().into(),
        };
        let own = [EventKind::HsDesc];
        let ends = Ends::new(&[], options.settings());
        let mut court = Court::new(Policy::of_lines(lines), &ends, &[]);
        let [alice, bob] = [1000, 1001].map(|uid| identity(uid).owner().unwrap());
        for session in 1..=5 {
            enters(&mut court, session, 1000, &own);
        }
        enters(&mut court, 6, 1001, &own);
        let mut out = Vec::new();
        // This one has fetched it, and waits for nothing.
        court.ledger.handle_fetch(&onion, bob.clone());
        for owner in [&alice, &bob] {
            court.ledger.handle_add_onion(Some(owner));
        }
        court.tell(&event, None, &mut out);
        assert_eq!(told(&out), [6]);
        out.clear();
        // One unsubscribes, one leaves, one may have none any more, one comes.
        enters(&mut court, 1, 1000, &[]);
        court.leave(2);
        court.replace(Policy::of_lines("Allow add_onion ports=80"));
        enters(&mut court, 3, 1000, &own);
        court.replace(Policy::of_lines(lines));
        enters(&mut court, 7, 1000, &own);
        // Another's is answered first, and it waits on.
        court.ledger.handle_onion(Some(&bob), None);
        court.tell_waiting(&mut out);
        assert!(told(&out).is_empty());
        court.ledger.handle_onion(Some(&alice), Some(&onion));
        court.tell_waiting(&mut out);
        assert_eq!(told(&out), [4, 5]);
        out.clear();
        court.tell_waiting(&mut out);
        assert!(told(&out).is_empty(), "once");
        // Whoever is there now is told of what comes now.
        court.tell(&event, None, &mut out);
        let mut now = told(&out);
        now.sort_unstable();
        assert_eq!(now, [4, 5, 6, 7]);
    }
}
