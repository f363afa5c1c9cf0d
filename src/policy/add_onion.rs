//! Grants of `ADD_ONION`, by its fields.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::target::{Behind, Ports, TargetRule, is_within, ports, range, target_rule, written};
use crate::wire::fields::{AddOnion, Flag, Key, Port, Target, number};
use crate::wire::shown::shown;

/// The most onion services of one owner at a time, by default.
const MOST_ONIONS: usize = 8;

/// `80`, `8333=8334`, `443=17600-17659` or `*` of `ports=`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct PortRule {
    virtual_ports: Ports,
    target: Option<Ports>,
}

/// One line `add_onion`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnionGrant {
    force: BTreeSet<Flag>,
    strip: BTreeSet<Flag>,
    ports: BTreeSet<PortRule>,
    targets: BTreeSet<TargetRule>,
    allows_new: bool,
    allows_stored: bool,
    flags: Option<BTreeSet<Flag>>,
    clients: usize,
    max_streams: Option<(u16, u16)>,
    max: usize,
}

const ALL_PORTS: Ports = (1, u16::MAX);

impl OnionGrant {
    /// What a Deny without words covers.
    pub fn everything() -> Self {
        Self {
            force: BTreeSet::new(),
            strip: BTreeSet::new(),
            ports: [PortRule {
                virtual_ports: ALL_PORTS,
                target: None,
            }]
            .into(),
            targets: BTreeSet::new(),
            allows_new: true,
            allows_stored: true,
            flags: None,
            clients: usize::MAX,
            max_streams: None,
            max: usize::MAX,
        }
    }

    /// The grant that covers a command and little more, and the ports of its targets at addresses
    /// of other machines, of which a grant would have to name the address. Of a socket it has only
    /// how deep its path is.
    pub fn of(fields: &AddOnion) -> (Self, BTreeSet<u16>) {
        let mut grant = Self::everything();
        let mut others = BTreeSet::new();
        grant.ports.clear();
        for port in &fields.ports {
            let target = match &port.target {
                Target::Inet(host, at) if host.to_canonical().is_loopback() => {
                    grant.targets.insert(TargetRule::LoopbackPorts((*at, *at)));
                    Some((*at, *at))
                }
                Target::Inet(_, at) => {
                    others.insert(*at);
                    Some((*at, *at))
                }
                Target::Unix(path) => {
                    let depth = memchr::memchr_iter(b'/', path).count();
                    grant.targets.insert(TargetRule::Unix(b"/*".repeat(depth)));
                    None
                }
            };
            grant.ports.insert(PortRule {
                virtual_ports: (port.virtual_port, port.virtual_port),
                target,
            });
        }
        let is_stored = matches!(fields.key, Key::Ed25519(_));
        (grant.allows_new, grant.allows_stored) = (!is_stored, is_stored);
        grant.flags = Some(fields.flags.clone());
        grant.clients = fields.clients.len();
        grant.max_streams = fields.max_streams.map(|streams| (streams, streams));
        grant.max = MOST_ONIONS;
        (grant, others)
    }

    /// The same grants, with one for all that differ in numbers only; of `count` services, if these
    /// are more than everybody may have.
    pub fn merged(grants: Vec<Self>, count: usize) -> Vec<Self> {
        let mut merged: Vec<Self> = Vec::new();
        for grant in grants {
            if !merged.iter_mut().any(|known| known.absorb(&grant)) {
                merged.push(grant);
            }
        }
        for grant in &mut merged {
            grant.max = grant.max.max(count);
        }
        merged
    }

    /// Takes another grant in, if it differs from this one in numbers only.
    fn absorb(&mut self, other: &Self) -> bool {
        let union = |one: Ports, other: Ports| (one.0.min(other.0), one.1.max(other.1));
        let of_ports = |(one, other): (&PortRule, &PortRule)| {
            let is_same = one.virtual_ports == other.virtual_ports;
            let target = match (one.target, other.target) {
                (Some(one), Some(other)) => Some(union(one, other)),
                (None, None) => None,
                _ => return None,
            };
            let virtual_ports = one.virtual_ports;
            is_same.then_some(PortRule {
                virtual_ports,
                target,
            })
        };
        let of_targets = |(one, other): (&TargetRule, &TargetRule)| match (one, other) {
            (TargetRule::LoopbackPorts(one), TargetRule::LoopbackPorts(other)) => {
                Some(TargetRule::LoopbackPorts(union(*one, *other)))
            }
            (one, other) => (one == other).then(|| one.clone()),
        };
        let is_alike = self.allows_new == other.allows_new
            && self.flags == other.flags
            && self.ports.len() == other.ports.len()
            && self.targets.len() == other.targets.len();
        let ports = self.ports.iter().zip(&other.ports).map(of_ports).collect();
        let targets = self
            .targets
            .iter()
            .zip(&other.targets)
            .map(of_targets)
            .collect();
        let (true, Some(ports), Some(targets)) = (is_alike, ports, targets) else {
            return false;
        };
        (self.ports, self.targets) = (ports, targets);
        self.clients = self.clients.max(other.clients);
        self.max_streams = match (self.max_streams, other.max_streams) {
            (Some(one), Some(other)) => Some(union(one, other)),
            _ => None,
        };
        true
    }

    /// Reads the words of a line, or says what is wrong.
    pub fn parse(words: &[Vec<u8>], is_deny: bool) -> Result<Self, String> {
        let mut grant = Self::everything();
        if !is_deny {
            grant.ports.clear();
            grant.targets.insert(TargetRule::Loopback);
            grant.flags = Some([Flag::DiscardPK].into());
            grant.clients = 0;
            grant.max = MOST_ONIONS;
        }
        let mut seen = BTreeSet::new();
        for word in words {
            let text = shown(word);
            let (key, value) = memchr::memchr(b'=', word)
                .map(|equals| (word[..equals].to_ascii_lowercase(), &word[equals + 1..]))
                .ok_or_else(|| format!("'{text}': add_onion takes KEY=VALUE"))?;
            let is_first = seen.insert(key.clone());
            if !is_first && key != b"target" {
                return Err(format!("'{text}': add_onion has this key twice"));
            }
            let bad = |why: &str| format!("'{text}': {why}");
            match &key[..] {
                b"ports" => {
                    let why = "ports are 80, 80=8080, 443=17600-17659 or *, between commas";
                    grant.ports = port_rules(value).ok_or_else(|| bad(why))?;
                }
                b"key" => match &value.to_ascii_lowercase()[..] {
                    b"new" => grant.allows_stored = false,
                    b"stored" => grant.allows_new = false,
                    _ => return Err(bad("a key is new or stored")),
                },
                b"target" => {
                    if is_first {
                        grant.targets.clear();
                    }
                    grant.targets.insert(target_rule(value).ok_or_else(|| {
                        bad("a target is loopback, loopback:N-M, ADDRESS:N-M or unix:GLOB")
                    })?);
                }
                b"flags" => grant.flags = Some(flags(value).map_err(|why| bad(&why))?),
                b"maxstreams" => {
                    let range = range(value).ok_or_else(|| bad("maxstreams is N or N-M"))?;
                    grant.max_streams = Some(range);
                }
                b"force" | b"strip" | b"clientauth" | b"max" if is_deny => {
                    return Err(bad("this says nothing in a Deny"));
                }
                b"force" => grant.force = flags(value).map_err(|why| bad(&why))?,
                b"strip" => grant.strip = flags(value).map_err(|why| bad(&why))?,
                b"clientauth" => {
                    grant.clients = number(value).ok_or_else(|| bad("this is a number"))?;
                }
                b"max" => grant.max = number(value).ok_or_else(|| bad("this is a number"))?,
                _ => return Err(bad("add_onion has no such key")),
            }
        }
        if grant.ports.is_empty() {
            return Err("add_onion needs ports=".into());
        }
        Ok(grant)
    }

    /// The first keyword of a command that the grant does not cover.
    pub fn uncovered(&self, fields: &AddOnion, behind: &Behind<'_>) -> Option<&'static str> {
        let is_new = !matches!(fields.key, Key::Ed25519(_));
        if !(if is_new {
            self.allows_new
        } else {
            self.allows_stored
        }) {
            return Some("KeyType");
        }
        let leads = |rule: &TargetRule, target: &Target| rule.allows(target, behind);
        if !fields.ports.iter().all(|port| self.covers(port, leads)) {
            return Some("Port");
        }
        let is_fine = |flag: &Flag| {
            let listed = self.flags.as_ref().is_none_or(|flags| flags.contains(flag));
            let for_clients = *flag == Flag::V3Auth && self.clients > 0;
            listed || for_clients || self.strip.contains(flag) || self.force.contains(flag)
        };
        if !fields.flags.iter().all(is_fine) {
            return Some("Flags");
        }
        if fields.clients.len() > self.clients {
            return Some("ClientAuthV3");
        }
        let streams = fields.max_streams.unwrap_or(0);
        let has_streams = self
            .max_streams
            .is_none_or(|(low, high)| (low..=high).contains(&streams));
        (!has_streams).then_some("MaxStreams")
    }

    /// Whether the line's ports have this one, and one of its targets leads where it does.
    fn covers(&self, port: &Port, leads: impl Fn(&TargetRule, &Target) -> bool) -> bool {
        let fits = |rule: &PortRule| {
            is_within(rule.virtual_ports, port.virtual_port)
                && match (rule.target, &port.target) {
                    (None, _) => true,
                    (Some(ports), Target::Inet(_, port)) => is_within(ports, *port),
                    (Some(_), Target::Unix(_)) => false,
                }
        };
        let is_there = |rule: &TargetRule| leads(rule, &port.target);
        self.ports.iter().any(fits)
            && (self.targets.is_empty() || self.targets.iter().any(is_there))
    }

    /// Whether a Deny with these words covers anything of a command.
    pub fn touches(&self, fields: &AddOnion, behind: &Behind<'_>) -> bool {
        let is_new = !matches!(fields.key, Key::Ed25519(_));
        let streams = fields.max_streams.unwrap_or(0);
        let flags = self.flags.as_ref();
        let leads = |rule: &TargetRule, target: &Target| rule.denies(target, behind);
        (if is_new {
            self.allows_new
        } else {
            self.allows_stored
        }) && fields.ports.iter().any(|port| self.covers(port, leads))
            && flags.is_none_or(|flags| !flags.is_disjoint(&fields.flags))
            && self
                .max_streams
                .is_none_or(|(low, high)| (low..=high).contains(&streams))
    }

    /// The flags of a command as the grant makes them.
    pub fn flags(&self, fields: &AddOnion) -> BTreeSet<Flag> {
        let kept = fields.flags.difference(&self.strip);
        kept.chain(&self.force).copied().collect()
    }

    /// Whether an owner of `count` services may have one more.
    pub fn has_room(&self, count: usize) -> bool {
        count < self.max
    }

    /// Which of two lines forces less; of equal ones the order is that of their words.
    pub fn by_force(&self, other: &Self) -> Ordering {
        let weight = |grant: &Self| grant.force.len() + grant.strip.len();
        weight(self)
            .cmp(&weight(other))
            .then_with(|| self.cmp(other))
    }

    /// The line's words, in one order.
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        let ports: Vec<_> = self.ports.iter().map(PortRule::word).collect();
        words.push(format!("ports={}", ports.join(",")));
        match (self.allows_new, self.allows_stored) {
            (true, false) => words.push("key=new".into()),
            (false, true) => words.push("key=stored".into()),
            _ => {}
        }
        words.extend(self.targets.iter().map(TargetRule::word));
        let names = |flags: &BTreeSet<Flag>| {
            flags
                .iter()
                .map(|flag| flag.name())
                .collect::<Vec<_>>()
                .join(",")
        };
        words.extend(
            self.flags
                .iter()
                .map(|flags| format!("flags={}", names(flags))),
        );
        for (key, flags) in [("force", &self.force), ("strip", &self.strip)] {
            if !flags.is_empty() {
                words.push(format!("{key}={}", names(flags)));
            }
        }
        if (1..usize::MAX).contains(&self.clients) {
            words.push(format!("clientauth={}", self.clients));
        }
        words.extend(
            self.max_streams
                .map(|(low, high)| format!("maxstreams={low}-{high}")),
        );
        if self.max < usize::MAX {
            words.push(format!("max={}", self.max));
        }
        words.join(" ")
    }
}

fn port_rules(list: &[u8]) -> Option<BTreeSet<PortRule>> {
    list.split(|&octet| octet == b',')
        .map(|rule| {
            let equals = memchr::memchr(b'=', rule);
            let from = &rule[..equals.unwrap_or(rule.len())];
            let virtual_ports = if from == b"*" {
                ALL_PORTS
            } else {
                ports(from)?
            };
            let target = match equals {
                Some(equals) => Some(ports(&rule[equals + 1..])?),
                None => None,
            };
            Some(PortRule {
                virtual_ports,
                target,
            })
        })
        .collect()
}

fn flags(list: &[u8]) -> Result<BTreeSet<Flag>, String> {
    if list.is_empty() {
        return Ok(BTreeSet::new());
    }
    list.split(|&octet| octet == b',')
        .map(|name| {
            let all = Flag::ALL.map(Flag::name).join(", ");
            Flag::parse(name).ok_or_else(|| format!("'{}' is no flag; {all}", shown(name)))
        })
        .collect()
}

impl PortRule {
    fn word(&self) -> String {
        let from = if self.virtual_ports == ALL_PORTS {
            "*".to_owned()
        } else {
            written(self.virtual_ports)
        };
        match self.target {
            Some(target) => format!("{from}={}", written(target)),
            None => from,
        }
    }
}
