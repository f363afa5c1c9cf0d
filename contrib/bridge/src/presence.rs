//! Presence: which controllers are on the other hosts, by their leases, on a time of the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use onionbus::wire::ControllerId;
use serde::{Deserialize, Serialize};

use crate::names::{self, Host};
use crate::parcel::Target;

/// The time that a lease holds. With a refresh lost and some delay a dead host is gone in 10 s.
pub const LEASE: Duration = Duration::from_secs(8);

/// The time between two refreshes of a lease.
pub const REFRESH: Duration = Duration::from_secs(2);

/// The most octets of a lease that are read.
const MAX_LEASE: usize = 1 << 20;

/// Which of two bridges with the same host was first: the time of its start, and a random number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance(pub u64, pub u64);

/// A host's lease: it lives, and has these controllers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The bridge that has written it.
    pub instance: Instance,
    /// The names of the controllers there.
    pub names: BTreeSet<String>,
}

/// The leases that were heard of, and when.
#[derive(Debug)]
pub struct Presence {
    own: Host,
    instance: Instance,
    /// The most controllers of others that are shown.
    most: usize,
    hosts: BTreeMap<Host, (Instant, BTreeSet<ControllerId>)>,
    /// Controllers of the last life, kept until the leases have had time to say more.
    remembered: (Instant, BTreeSet<Target>),
}

/// What a lease was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It says who is there.
    Lease,
    /// It cannot be read, is of no host, or of one too many.
    Nothing,
    /// Another bridge says to be this host, and was there first.
    Elder,
}

impl Presence {
    /// What `own` knows of others at its start: those that it has `remembered` are there until
    /// their lease would have ended.
    #[must_use]
    pub fn new(
        own: Host,
        instance: Instance,
        most: usize,
        remembered: BTreeSet<Target>,
        now: Instant,
    ) -> Self {
        Self {
            own,
            instance,
            most,
            hosts: BTreeMap::new(),
            remembered: (now, remembered),
        }
    }

    /// A host's lease, as it lies in the bucket.
    pub fn handle_lease(&mut self, host: &str, octets: &[u8], now: Instant) -> Heard {
        let lease = (octets.len() <= MAX_LEASE)
            .then(|| serde_json::from_slice::<Lease>(octets).ok())
            .flatten();
        let (Ok(host), Some(lease)) = (host.parse::<Host>(), lease) else {
            return Heard::Nothing;
        };
        if host == self.own {
            return if lease.instance < self.instance {
                Heard::Elder
            } else {
                Heard::Lease
            };
        }
        if !self.hosts.contains_key(&host) && self.hosts.len() >= self.most {
            return Heard::Nothing;
        }
        let shared = lease.names.iter().filter_map(|name| {
            let name = ControllerId::parse(name.as_bytes()).filter(names::is_shared)?;
            names::local_name(name.as_str(), &host).map(|_| name)
        });
        let names = shared.take(self.most).collect();
        self.hosts.insert(host, (now, names));
        Heard::Lease
    }

    /// Who is there at this time, no more of them than are shown, and how many are left out.
    pub fn poll_targets(&mut self, now: Instant) -> (BTreeSet<Target>, usize) {
        let holds = |heard: Instant| now.saturating_duration_since(heard) < LEASE;
        self.hosts.retain(|_, (heard, _)| holds(*heard));
        if !holds(self.remembered.0) {
            self.remembered.1.clear();
        }
        let told = self.hosts.iter().flat_map(|(host, (_, names))| {
            let target = |name: &ControllerId| Target::One(host.clone(), name.clone());
            names.iter().map(target)
        });
        let remembered = self.remembered.1.iter().filter(|target| match target {
            Target::One(host, _) => !self.hosts.contains_key(host),
            Target::All => false,
        });
        let mut targets: BTreeSet<_> = told.chain(remembered.cloned()).collect();
        let left_out = targets.len().saturating_sub(self.most);
        while targets.len() > self.most {
            targets.pop_last();
        }
        (targets, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Instance = Instance(5, 1);

    fn presence(remembered: &[&str], now: Instant) -> Presence {
        let remembered = remembered.iter().filter_map(|key| Target::of_key(key));
        Presence::new("own".parse().unwrap(), ONE, 3, remembered.collect(), now)
    }

    fn lease(names: &[&str]) -> Vec<u8> {
        let names = names.iter().map(ToString::to_string).collect();
        let instance = Instance(7, 7);
        serde_json::to_vec(&Lease { instance, names }).unwrap()
    }

    fn there(presence: &mut Presence, now: Instant) -> Vec<String> {
        let (targets, _) = presence.poll_targets(now);
        targets.iter().map(Target::key).collect()
    }

    #[test]
    fn a_controller_is_there_as_long_as_its_host_says_so() {
        let start = Instant::now();
        let mut all = presence(&[], start);
        all.handle_lease("two", &lease(&["alice", "bob"]), start);
        all.handle_lease("three", &lease(&["carol"]), start);
        let now = start + Duration::from_secs(1);
        assert_eq!(
            there(&mut all, now),
            ["three.carol", "two.alice", "two.bob"]
        );
        all.handle_lease("two", &lease(&["bob"]), now);
        assert_eq!(there(&mut all, now), ["three.carol", "two.bob"]);
    }

    #[test]
    fn a_dead_host_goes_when_its_lease_ends() {
        let start = Instant::now();
        let mut all = presence(&[], start);
        all.handle_lease("two", &lease(&["alice"]), start);
        all.handle_lease("three", &lease(&["carol"]), start + REFRESH);
        let end = start + LEASE;
        let just_before = end.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(there(&mut all, just_before).len(), 2);
        assert_eq!(there(&mut all, end), ["three.carol"]);
        assert!(LEASE + REFRESH <= Duration::from_secs(10));
    }

    #[test]
    fn those_of_the_last_life_stay_until_their_host_has_spoken() {
        let start = Instant::now();
        let mut all = presence(&["two.alice", "three.carol", "all"], start);
        assert_eq!(there(&mut all, start), ["three.carol", "two.alice"]);
        all.handle_lease("two", &lease(&["bob"]), start);
        assert_eq!(there(&mut all, start), ["three.carol", "two.bob"]);
        all.handle_lease("two", &lease(&["bob"]), start + REFRESH);
        assert_eq!(there(&mut all, start + LEASE), ["two.bob"]);
    }

    #[test]
    fn nobody_takes_more_places_than_there_are() {
        let start = Instant::now();
        let mut all = presence(&[], start);
        all.handle_lease("two", &lease(&["a", "b", "c", "d", "e"]), start);
        all.handle_lease("three", &lease(&["a"]), start);
        let (targets, left_out) = all.poll_targets(start);
        assert_eq!((targets.len(), left_out), (3, 1));
        assert_eq!(all.handle_lease("four", &lease(&[]), start), Heard::Lease);
        assert_eq!(all.handle_lease("five", &lease(&[]), start), Heard::Nothing);
    }

    #[test]
    fn names_that_nobody_can_have_here_are_passed_over() {
        let start = Instant::now();
        let mut all = presence(&[], start);
        let long = "x".repeat(60);
        let names = [
            "all", "a b", "x_at_y", "a
QUIT", "", &long, "fine",
        ];
        all.handle_lease("two", &lease(&names), start);
        assert_eq!(there(&mut all, start), ["two.fine"]);
        for (host, octets) in [
            ("t_o", &lease(&["a"])[..]),
            ("two", b""),
            ("two", b"{}"),
            ("two", b"[1]"),
            ("two", &vec![b' '; MAX_LEASE + 1]),
        ] {
            assert_eq!(all.handle_lease(host, octets, start), Heard::Nothing);
        }
    }

    #[test]
    fn of_two_bridges_with_one_host_the_younger_goes() {
        let start = Instant::now();
        let of = |instance| {
            let names = BTreeSet::new();
            serde_json::to_vec(&Lease { instance, names }).unwrap()
        };
        let mut all = presence(&[], start);
        assert_eq!(all.handle_lease("own", &of(ONE), start), Heard::Lease);
        assert_eq!(
            all.handle_lease("own", &of(Instance(4, 9)), start),
            Heard::Elder
        );
        assert_eq!(
            all.handle_lease("own", &of(Instance(6, 0)), start),
            Heard::Lease
        );
        assert!(there(&mut all, start).is_empty());
    }
}
