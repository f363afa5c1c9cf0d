//! The fields of `ADD_ONION` (control-spec 3.27, and what Tor 0.4.9 has more).

use core::net::{IpAddr, Ipv4Addr};
use std::collections::BTreeSet;
use std::fmt;

use zeroize::Zeroizing;

use super::onions::{flags, two_parts};
use super::{first_of, keywords, number, words, write_pair};
use crate::wire::refusal::Refusal;

/// The keywords of `ADD_ONION`. Tor 0.4.9 has `ClientAuth` too, and answers it with nothing.
const KEYWORDS: &[&[u8]] = &[
    b"Port",
    b"Flags",
    b"MaxStreams",
    b"ClientAuthV3",
    b"PoWDefensesEnabled",
    b"PoWQueueRate",
    b"PoWQueueBurst",
];

/// The letters and digits of a client's public key in base 32.
const CLIENT_LENGTH: usize = 52;

/// The fields of `ADD_ONION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddOnion {
    /// The key of the service.
    pub key: Key,
    /// Its ports, at least one.
    pub ports: Vec<Port>,
    /// How it is made.
    pub flags: BTreeSet<Flag>,
    /// The most streams of a client's circuit; 0 is any number.
    pub max_streams: Option<u16>,
    /// The public keys of the only clients that reach it, in base 32.
    pub clients: Vec<Vec<u8>>,
    /// `PoWDefensesEnabled`.
    pub pow: Option<bool>,
    /// `PoWQueueRate`.
    pub pow_rate: Option<u32>,
    /// `PoWQueueBurst`.
    pub pow_burst: Option<u32>,
}

/// The key of a service.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// A new one, of the kind that Tor prefers.
    NewBest,
    /// A new one of ED25519-V3.
    NewEd25519,
    /// This one of ED25519-V3, in base 64.
    Ed25519(Zeroizing<Vec<u8>>),
}

/// The key is nobody's to read.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NewBest => "NewBest",
            Self::NewEd25519 => "NewEd25519",
            Self::Ed25519(_) => "Ed25519(..)",
        })
    }
}

/// A flag of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words are Tor's")]
pub enum Flag {
    Detach,
    DiscardPK,
    MaxStreamsCloseCircuit,
    NonAnonymous,
    V3Auth,
}

impl Flag {
    /// Every flag, in the order in which they are written.
    pub const ALL: [Self; 5] = [
        Self::Detach,
        Self::DiscardPK,
        Self::MaxStreamsCloseCircuit,
        Self::NonAnonymous,
        Self::V3Auth,
    ];

    /// The flag's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detach => "Detach",
            Self::DiscardPK => "DiscardPK",
            Self::MaxStreamsCloseCircuit => "MaxStreamsCloseCircuit",
            Self::NonAnonymous => "NonAnonymous",
            Self::V3Auth => "V3Auth",
        }
    }

    /// The flag of this name, in any letter case.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        let is = |flag: &Self| flag.name().as_bytes().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is)
    }
}

/// A port of a service, and the place behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The port that clients ask for; not 0.
    pub virtual_port: u16,
    /// The place where the service is.
    pub target: Target,
}

/// The place where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address, which is a certain one, and a port that is not 0.
    Inet(IpAddr, u16),
    /// A socket's absolute path.
    Unix(Vec<u8>),
}

impl Port {
    /// Reads `VIRTPORT[,TARGET]`. Tor also takes names, which it looks up, addresses of fewer parts
    /// and numbers of other forms.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (port, target) = match memchr::memchr(b',', text) {
            Some(comma) => (&text[..comma], &text[comma + 1..]),
            None => (text, &[][..]),
        };
        let virtual_port = port_number(port)?;
        let target = if target.is_empty() {
            Target::Inet(Ipv4Addr::LOCALHOST.into(), virtual_port)
        } else if let Some(path) = target.strip_prefix(b"unix:") {
            Target::Unix(path.starts_with(b"/").then(|| path.to_vec())?)
        } else if let Some(port) = port_number(target) {
            Target::Inet(Ipv4Addr::LOCALHOST.into(), port)
        } else {
            Self::inet(target, virtual_port)?
        };
        Some(Self {
            virtual_port,
            target,
        })
    }

    /// Reads `HOST[:PORT]`; a name without a port is none for Tor.
    fn inet(target: &[u8], virtual_port: u16) -> Option<Target> {
        let target = str::from_utf8(target).ok()?;
        let (host, port): (IpAddr, &str) = match target.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (IpAddr::V6(host.parse().ok()?), port)
            }
            None => match target.find(':').map(|colon| target.split_at(colon)) {
                Some((host, port)) if host.eq_ignore_ascii_case("localhost") => {
                    (Ipv4Addr::LOCALHOST.into(), port)
                }
                Some((host, port)) => (IpAddr::V4(host.parse().ok()?), port),
                None => (IpAddr::V4(target.parse().ok()?), ""),
            },
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port_number(port.as_bytes())?,
            None if port.is_empty() => virtual_port,
            None => return None,
        };
        // To no address is to this machine.
        (!host.to_canonical().is_unspecified()).then_some(Target::Inet(host, port))
    }
}

/// A port in its plain form, which is not 0.
fn port_number(text: &[u8]) -> Option<u16> {
    number(text).filter(|&port| port != 0)
}

pub(super) fn parse(keyword: &[u8], line: &[u8]) -> Result<AddOnion, Refusal> {
    let invalid = |what: &str| words::refusal(512, &format!("Invalid {what}"));
    let (key_text, rest) = first_of(keyword, line)?;
    let mut fields = AddOnion {
        key: Key::NewBest,
        ports: Vec::new(),
        flags: BTreeSet::new(),
        max_streams: None,
        clients: Vec::new(),
        pow: None,
        pow_rate: None,
        pow_burst: None,
    };
    for (key, value) in keywords(keyword, rest, KEYWORDS)? {
        match &key.to_ascii_lowercase()[..] {
            b"port" => {
                let port = Port::parse(value).ok_or_else(|| invalid("VIRTPORT/TARGET"))?;
                fields.ports.push(port);
            }
            b"flags" => {
                for flag in flags(value)? {
                    let flag = Flag::parse(flag).ok_or_else(|| words::unknown_flag(flag))?;
                    fields.flags.insert(flag);
                }
            }
            b"maxstreams" => {
                fields.max_streams = Some(number(value).ok_or_else(|| invalid("MaxStreams"))?);
            }
            b"clientauthv3" => {
                let is_base32 =
                    |octet: &u8| octet.is_ascii_alphabetic() || matches!(octet, b'2'..=b'7');
                if value.len() != CLIENT_LENGTH || !value.iter().all(is_base32) {
                    return Err(words::refusal(512, "Cannot decode v3 client auth key"));
                }
                fields.clients.push(value.to_vec());
            }
            b"powdefensesenabled" => {
                fields.pow = Some(match value {
                    b"0" => false,
                    b"1" => true,
                    _ => return Err(invalid("PoWDefensesEnabled")),
                });
            }
            b"powqueuerate" => {
                fields.pow_rate = Some(int32(value).ok_or_else(|| invalid("PoWQueueRate"))?);
            }
            _ => {
                fields.pow_burst = Some(int32(value).ok_or_else(|| invalid("PoWQueueBurst"))?);
            }
        }
    }
    let has_auth = fields.flags.contains(&Flag::V3Auth);
    if fields.ports.is_empty() {
        return Err(words::refusal(512, "Missing 'Port' argument"));
    }
    if has_auth && fields.clients.is_empty() {
        return Err(words::refusal(512, "No auth clients specified"));
    }
    if !has_auth && !fields.clients.is_empty() {
        return Err(words::refusal(512, "No auth type specified"));
    }
    fields.key = key_of(key_text)?;
    Ok(fields)
}

/// A number that Tor can hold.
fn int32(text: &[u8]) -> Option<u32> {
    number(text).filter(|&number| i32::try_from(number).is_ok())
}

fn key_of(text: &[u8]) -> Result<Key, Refusal> {
    let (kind, key) =
        two_parts(text).ok_or_else(|| words::refusal(512, "Invalid key type/blob"))?;
    if kind.eq_ignore_ascii_case(b"ED25519-V3") {
        return Ok(Key::Ed25519(key.to_vec().into()));
    }
    if kind.eq_ignore_ascii_case(b"NEW") && key.eq_ignore_ascii_case(b"BEST") {
        return Ok(Key::NewBest);
    }
    if kind.eq_ignore_ascii_case(b"NEW") && key.eq_ignore_ascii_case(b"ED25519-V3") {
        return Ok(Key::NewEd25519);
    }
    Err(words::refusal(513, "Invalid key type"))
}

impl Target {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Inet(IpAddr::V4(host), port) => {
                out.extend_from_slice(format!("{host}:{port}").as_bytes());
            }
            Self::Inet(IpAddr::V6(host), port) => {
                out.extend_from_slice(format!("[{host}]:{port}").as_bytes());
            }
            Self::Unix(path) => {
                out.extend_from_slice(b"unix:");
                out.extend_from_slice(path);
            }
        }
    }
}

impl AddOnion {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match &self.key {
            Key::NewBest => out.extend_from_slice(b" NEW:BEST"),
            Key::NewEd25519 => out.extend_from_slice(b" NEW:ED25519-V3"),
            Key::Ed25519(key) => {
                out.extend_from_slice(b" ED25519-V3:");
                out.extend_from_slice(key);
            }
        }
        let names: Vec<_> = self.flags.iter().map(|flag| flag.name()).collect();
        if !names.is_empty() {
            write_pair("Flags", names.join(",").as_bytes(), out);
        }
        if let Some(most) = self.max_streams {
            write_pair("MaxStreams", most.to_string().as_bytes(), out);
        }
        for port in &self.ports {
            write_pair("Port", format!("{},", port.virtual_port).as_bytes(), out);
            port.target.write(out);
        }
        for client in &self.clients {
            write_pair("ClientAuthV3", client, out);
        }
        if let Some(is_on) = self.pow {
            write_pair("PoWDefensesEnabled", if is_on { b"1" } else { b"0" }, out);
        }
        for (key, value) in [
            ("PoWQueueRate", self.pow_rate),
            ("PoWQueueBurst", self.pow_burst),
        ] {
            if let Some(value) = value {
                write_pair(key, value.to_string().as_bytes(), out);
            }
        }
    }
}
