//! The places where onion services lead to.

use core::net::IpAddr;
use std::collections::BTreeSet;

use super::pattern::is_match;
use super::table::numbers;
use crate::wire::fields::{Port, Target, number};

/// The least port of the loopback addresses that is a target by default.
const FIRST_PORT: u16 = 1024;

/// Tells of a path whether nobody but root can write to any of its directories.
type IsSafe<'a> = dyn Fn(&[u8]) -> bool + 'a;

/// Tells whether a path is itself a link.
type IsLink<'a> = dyn Fn(&[u8]) -> bool + 'a;

/// Tells the file or directory that a path leads to.
type IdOf<'a> = dyn Fn(&[u8]) -> Option<Id> + 'a;

/// A file or directory, whatever leads to it: its device and its number there.
pub type Id = (u64, u64);

/// A file, or the directory with a name in it, or a spelling alone.
type Place<'a> = (Option<Id>, &'a [u8]);

/// What is known of the machine and of the Tor behind the bus, for targets of onion services and
/// names of options.
#[derive(Clone, Copy, Default)]
pub struct Behind<'a> {
    /// Tor's options by `GETINFO config/names`, in lower case; without them any name is one, as for
    /// a check without Tor.
    pub options: Option<&'a BTreeSet<Vec<u8>>>,
    /// The ports of Tor's control listeners.
    pub control_ports: &'a [u16],
    /// The paths of Tor's control listeners and of the daemon's own sockets.
    pub control_paths: &'a [Vec<u8>],
    /// The ports of Tor's other listeners.
    pub ports: &'a [u16],
    /// `BusProtectedPorts`.
    pub protected: &'a [u16],
    /// Whether an address is this machine's.
    pub is_local: Option<&'a dyn Fn(IpAddr) -> bool>,
    /// Whether nobody but root can write to any directory of a path, links resolved; without it no
    /// path is safe.
    pub is_safe: Option<&'a IsSafe<'a>>,
    /// Whether a path is itself a link.
    pub is_link: Option<&'a IsLink<'a>>,
    /// The file or directory that a path leads to, links followed; without it paths are the same if
    /// they are spelled alike.
    pub id: Option<&'a IdOf<'a>>,
}

/// `BusProtectedPorts` unless somebody sets it: those of wallets that do what they are told.
pub const PROTECTED_PORTS: &[u16] = &[8332, 18332, 18443, 10009];

/// A range of ports.
pub(super) type Ports = (u16, u16);

/// A place that `target=` allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TargetRule {
    /// This machine, at ports that are nobody's else.
    Loopback,
    LoopbackPorts(Ports),
    Address(IpAddr, Ports),
    Unix(Vec<u8>),
}

impl TargetRule {
    /// Whether an Allow leads there.
    pub(super) fn allows(&self, target: &Target, behind: &Behind<'_>) -> bool {
        match (self, target) {
            (Self::Unix(glob), Target::Unix(path)) => {
                is_plain_path(path) && is_match(glob, path, true)
            }
            (Self::Loopback, Target::Inet(_, port)) => {
                *port >= FIRST_PORT
                    && !behind.ports.contains(port)
                    && !behind.protected.contains(port)
                    && self.has(target)
            }
            _ => self.has(target),
        }
    }

    /// Whether a Deny is about it: by whatever way it is reached, and `loopback` is all of it.
    pub(super) fn denies(&self, target: &Target, behind: &Behind<'_>) -> bool {
        match (self, target) {
            (Self::Unix(glob), Target::Unix(path)) => {
                !is_plain_path(path)
                    // Tor follows it, to wherever it leads then.
                    || behind.is_link.is_some_and(|is_link| is_link(path))
                    || is_there(glob, path, behind)
            }
            _ => self.has(target),
        }
    }

    /// Whether an address and its port are meant.
    fn has(&self, target: &Target) -> bool {
        let Target::Inet(host, port) = target else {
            return false;
        };
        let host = host.to_canonical();
        match self {
            Self::Loopback => host.is_loopback(),
            Self::LoopbackPorts(ports) => host.is_loopback() && is_within(*ports, *port),
            Self::Address(address, ports) => {
                host == address.to_canonical() && is_within(*ports, *port)
            }
            Self::Unix(_) => false,
        }
    }

    pub(super) fn word(&self) -> String {
        match self {
            Self::Loopback => "target=loopback".into(),
            Self::LoopbackPorts(ports) => format!("target=loopback:{}", written(*ports)),
            Self::Address(IpAddr::V4(host), ports) => format!("target={host}:{}", written(*ports)),
            Self::Address(IpAddr::V6(host), ports) => {
                format!("target=[{host}]:{}", written(*ports))
            }
            Self::Unix(glob) => format!("target=unix:{}", String::from_utf8_lossy(glob)),
        }
    }
}

/// Whether a target is one that no grant but `Allow all` reaches.
pub(super) fn has_forbidden(ports: &[Port], behind: &Behind<'_>) -> bool {
    let has_path = ports
        .iter()
        .any(|port| matches!(port.target, Target::Unix(_)));
    // Asked once, however many ports there are.
    let known: BTreeSet<_> = if has_path {
        let paths = behind.control_paths.iter();
        paths.flat_map(|path| places(path, behind)).collect()
    } else {
        BTreeSet::new()
    };
    ports.iter().any(|port| match &port.target {
        Target::Inet(host, port) => {
            let host = host.to_canonical();
            let is_local = host.is_loopback() || behind.is_local.is_some_and(|local| local(host));
            is_local && behind.control_ports.contains(port)
        }
        Target::Unix(path) => {
            !is_plain_path(path)
                || !behind.is_safe.is_some_and(|is_safe| is_safe(path))
                || places(path, behind).any(|place| known.contains(&place))
        }
    })
}

/// All that a path is known by: how it is spelled, the file that it leads to, and its name in the
/// directory that it leads through, for a socket that is not there yet.
fn places<'a>(path: &'a [u8], behind: &Behind<'_>) -> impl Iterator<Item = Place<'a>> {
    let id = |path| behind.id.and_then(|id| id(path));
    let (directory, name) = split(path).unwrap_or_default();
    let spelled = Some((None, path));
    let file = id(path).map(|file| (Some(file), &b""[..]));
    let entry = id(directory).map(|directory| (Some(directory), name));
    [spelled, file, entry].into_iter().flatten()
}

pub(super) fn is_within((low, high): Ports, port: u16) -> bool {
    (low..=high).contains(&port)
}

/// Whether a path leads to a place that `glob` means, by whatever links. A socket that is not there
/// yet is known by its directory.
fn is_there(glob: &[u8], path: &[u8], behind: &Behind<'_>) -> bool {
    if is_match(glob, path, true) {
        return true;
    }
    let id = |path| behind.id.and_then(|id| id(path));
    let (mut glob, mut path) = (glob, path);
    loop {
        if !glob.contains(&b'*') && id(glob).is_some_and(|there| id(path) == Some(there)) {
            return true;
        }
        let (Some((above, name)), Some((directory, of_path))) = (split(glob), split(path)) else {
            return false;
        };
        if !is_match(name, of_path, true) {
            return false;
        }
        (glob, path) = (above, directory);
    }
}

/// The directory of a path, and the name in it; none for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = memchr::memrchr(b'/', path)?;
    let name = path.get(slash + 1..).filter(|name| !name.is_empty())?;
    Some((path.get(..slash.max(1))?, name))
}

/// Whether a path leads down only.
fn is_plain_path(path: &[u8]) -> bool {
    path.split(|&octet| octet == b'/')
        .skip(1)
        .all(|name| !matches!(name, b"" | b"." | b".."))
}

pub(super) fn target_rule(value: &[u8]) -> Option<TargetRule> {
    if let Some(glob) = value.strip_prefix(b"unix:") {
        return glob
            .starts_with(b"/")
            .then(|| TargetRule::Unix(glob.to_vec()));
    }
    if value == b"loopback" {
        return Some(TargetRule::Loopback);
    }
    let colon = memchr::memrchr(b':', value)?;
    let (host, range) = (
        str::from_utf8(&value[..colon]).ok()?,
        ports(&value[colon + 1..])?,
    );
    if host == "loopback" {
        return Some(TargetRule::LoopbackPorts(range));
    }
    let address = match host.strip_prefix('[') {
        Some(host) => IpAddr::V6(host.strip_suffix(']')?.parse().ok()?),
        None => IpAddr::V4(host.parse().ok()?),
    };
    Some(TargetRule::Address(address, range))
}

/// `N` or `N-M`.
pub(super) fn range(text: &[u8]) -> Option<(u16, u16)> {
    if let Some(one) = number::<u16>(text) {
        return Some((one, one));
    }
    let (low, high) = numbers(text)?;
    Some((u16::try_from(low).ok()?, u16::try_from(high).ok()?))
}

pub(super) fn ports(text: &[u8]) -> Option<Ports> {
    range(text).filter(|(low, _)| *low > 0)
}

pub(super) fn written((low, high): Ports) -> String {
    if low == high {
        low.to_string()
    } else {
        format!("{low}-{high}")
    }
}
