//! The fields of commands about onion services and the keys of their clients (control-spec 3.26 to
//! 3.32), but `ADD_ONION`.

use zeroize::Zeroizing;

use super::{Fields, first_of, keywords, words, words_of, write_pair};
use crate::command::Verb;
use crate::wire::refusal::Refusal;
use crate::wire::text::arguments::{self, pairs};
use crate::wire::text::parse::{CANNOT_PARSE, bad_arguments};

/// The octets of an address without `.onion`.
const LENGTH: usize = 56;

/// The most octets of a `ClientName`. Tor 0.4.9 replies twice to a longer one.
const MOST_NAME: usize = 16;

/// The address of an onion service, without `.onion`, in the letter case it came in: Tor knows its
/// services in lower case only. Whether its checksum is right, Tor knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Onion(Vec<u8>);

impl Onion {
    /// The address, if it has the form of one.
    #[must_use]
    pub fn parse(address: &[u8]) -> Option<Self> {
        let is_base32 = |octet: &u8| octet.is_ascii_alphabetic() || matches!(octet, b'2'..=b'7');
        let is_good = address.len() == LENGTH && address.iter().all(is_base32);
        is_good.then(|| Self(address.to_vec()))
    }

    /// The address as it came.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The address in lower case, which is the same service.
    #[must_use]
    pub fn lower(&self) -> Self {
        Self(self.0.to_ascii_lowercase())
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(b' ');
        out.extend_from_slice(&self.0);
    }
}

/// The fields of `+HSPOST`. Tor 0.4.9 does not answer one without an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsPost {
    /// The service that the descriptor is of.
    pub onion: Onion,
    /// The directories that get it, by fingerprint; those of the service without any.
    pub servers: Vec<Vec<u8>>,
    /// The descriptor.
    pub descriptor: Vec<u8>,
}

/// The fields of `ONION_CLIENT_AUTH_ADD`.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// The service that the key is for.
    pub onion: Onion,
    /// The private key, in base 64.
    pub key: Zeroizing<Vec<u8>>,
    /// The name that it is listed with.
    pub name: Option<Vec<u8>>,
    /// Whether it is kept on disk.
    pub permanent: bool,
}

/// The key is nobody's to read.
impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientKey")
            .field("onion", &self.onion)
            .finish_non_exhaustive()
    }
}

pub(super) fn parse(verb: Verb, keyword: &[u8], line: &[u8]) -> Result<Fields, Refusal> {
    match verb {
        Verb::HsFetch => {
            let (address, rest) = first_of(keyword, line)?;
            let pairs = keywords(keyword, rest, &[b"SERVER"])?;
            let onion = Onion::parse(address).ok_or_else(|| words::invalid_argument(address))?;
            let servers = pairs.iter().map(|(_, server)| server.to_vec()).collect();
            Ok(Fields::HsFetch { onion, servers })
        }
        Verb::DelOnion => {
            let [address] = words_of(keyword, line)?;
            let malformed = || words::refusal(512, "Malformed Onion Service id");
            Onion::parse(address)
                .map(Fields::DelOnion)
                .ok_or_else(malformed)
        }
        Verb::OnionClientAuthAdd => add(keyword, line).map(Fields::ClientAuthAdd),
        Verb::OnionClientAuthRemove => {
            let onion = optional(keyword, line)?.ok_or_else(|| {
                words::refusal(512, "Incomplete ONION_CLIENT_AUTH_REMOVE command")
            })?;
            Ok(Fields::ClientAuthRemove(onion))
        }
        _ => Ok(Fields::ClientAuthView(optional(keyword, line)?)),
    }
}

/// An address, if there is one. Tor takes any keywords behind it and does nothing with them.
fn optional(keyword: &[u8], line: &[u8]) -> Result<Option<Onion>, Refusal> {
    let (address, rest) = arguments::first_word(line);
    pairs(rest, false).ok_or_else(|| bad_arguments(keyword, CANNOT_PARSE))?;
    if address.is_empty() {
        return Ok(None);
    }
    let onion = Onion::parse(address).ok_or_else(|| words::invalid_address(address))?;
    Ok(Some(onion))
}

pub(super) fn hs_post(keyword: &[u8], line: &[u8], descriptor: Vec<u8>) -> Result<Fields, Refusal> {
    let malformed = || words::refusal(512, "Malformed onion address");
    let mut onion = None;
    let mut servers = Vec::new();
    for (key, value) in keywords(keyword, line, &[b"SERVER", b"HSADDRESS"])? {
        if key.eq_ignore_ascii_case(b"SERVER") {
            servers.push(value.to_vec());
        } else {
            onion = Some(Onion::parse(value).ok_or_else(malformed)?);
        }
    }
    Ok(Fields::HsPost(HsPost {
        onion: onion.ok_or_else(malformed)?,
        servers,
        descriptor,
    }))
}

fn add(keyword: &[u8], line: &[u8]) -> Result<ClientKey, Refusal> {
    let (address, rest) = arguments::first_word(line);
    let (key, rest) = arguments::first_word(rest);
    let pairs = pairs(rest, false).ok_or_else(|| bad_arguments(keyword, CANNOT_PARSE))?;
    if key.is_empty() {
        let text = "Incomplete ONION_CLIENT_AUTH_ADD command";
        return Err(words::refusal(512, text));
    }
    let onion = Onion::parse(address).ok_or_else(|| words::invalid_address(address))?;
    let (kind, key) = two_parts(key).ok_or_else(|| words::refusal(512, "Invalid key type/blob"))?;
    if !kind.eq_ignore_ascii_case(b"x25519") {
        return Err(words::unknown_key_type(kind));
    }
    let (mut name, mut permanent) = (None, false);
    for (key, value) in pairs {
        let start = key.get(..5).unwrap_or_default();
        // Tor looks at the beginning of this keyword only.
        if start.eq_ignore_ascii_case(b"Flags") {
            for flag in flags(value)? {
                if !flag.eq_ignore_ascii_case(b"Permanent") {
                    return Err(words::unknown_flag(flag));
                }
                permanent = true;
            }
        }
        if key.eq_ignore_ascii_case(b"ClientName") {
            if value.len() > MOST_NAME {
                let text = format!("ClientName longer than {MOST_NAME} chars");
                return Err(words::refusal(512, &text));
            }
            name = Some(value.to_vec());
        }
    }
    let key = key.to_vec().into();
    Ok(ClientKey {
        onion,
        key,
        name,
        permanent,
    })
}

/// The two parts of `KIND:KEY`. Tor passes over parts that are empty.
pub(super) fn two_parts(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = key
        .split(|&octet| octet == b':')
        .filter(|part| !part.is_empty());
    match (parts.next(), parts.next(), parts.next()) {
        (Some(kind), Some(key), None) => Some((kind, key)),
        _ => None,
    }
}

/// The flags of a list that has at least one. Tor passes over those that are empty.
pub(super) fn flags(list: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    let flags = list
        .split(|&octet| octet == b',')
        .filter(|flag| !flag.is_empty());
    let flags: Vec<_> = flags.collect();
    if flags.is_empty() {
        return Err(words::refusal(512, "Invalid 'Flags' argument"));
    }
    Ok(flags)
}

impl HsPost {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for server in &self.servers {
            write_pair("SERVER", server, out);
        }
        write_pair("HSADDRESS", self.onion.as_bytes(), out);
    }
}

impl ClientKey {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.onion.write(out);
        out.extend_from_slice(b" x25519:");
        out.extend_from_slice(&self.key);
        if let Some(name) = &self.name {
            write_pair("ClientName", name, out);
        }
        if self.permanent {
            out.extend_from_slice(b" Flags=Permanent");
        }
    }
}
