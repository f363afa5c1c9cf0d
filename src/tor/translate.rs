//! What binary controllers ask, as commands of today's Tor, and its answers back.

use super::identifiers::Identifiers;
use super::mixed::{self, parts};
use crate::wire::refusal::Refusal;
use crate::wire::reply::{OptionValue, Reply, Value};
use crate::wire::request::{Request, TorRequest};
use crate::wire::text::{MAX_COMMAND, read_c_string, write_c_string, write_data};

/// The keys of control-spec-v0 3.12 that have another name today, by how they begin.
const OLD_MAPPINGS: &[u8] = b"addr-mappings/";
const MAPPINGS: &[u8] = b"address-mappings/";

/// What an answer of Tor's is the answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// GETINFO of these keys, as they were asked for.
    Info(Vec<Vec<u8>>),
    /// GETCONF.
    Conf,
    /// MAPADDRESS.
    Map,
    /// EXTENDCIRCUIT.
    Extend,
    /// POSTDESCRIPTOR.
    Descriptor,
    /// What is only agreed to, or not.
    Plain,
}

impl Question {
    /// The question that a request is; none where the answer is never Tor's.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Option<Self> {
        match request {
            Request::GetInfo(keys) => {
                Some(Self::Info(keys.iter().map(|key| key.to_vec()).collect()))
            }
            Request::GetConf(_) => Some(Self::Conf),
            Request::SetConf(_) | Request::SaveConf { .. } | Request::Signal(_) => {
                Some(Self::Plain)
            }
            Request::Tor(request) => Some(match request {
                TorRequest::MapAddress(_) => Self::Map,
                TorRequest::ExtendCircuit { .. } => Self::Extend,
                TorRequest::PostDescriptor(_) => Self::Descriptor,
                TorRequest::AttachStream { .. }
                | TorRequest::RedirectStream { .. }
                | TorRequest::CloseStream { .. }
                | TorRequest::CloseCircuit { .. } => Self::Plain,
            }),
            _ => None,
        }
    }
}

/// Refuses what Tor no longer has, and what is no word: it would become another command.
pub fn check(request: &Request<'_>) -> Result<(), Refusal> {
    let wrong = |words: &[&[u8]]| -> Vec<Vec<u8>> {
        let wrong = words.iter().filter(|word| !is_word(word));
        wrong.map(|word| word.to_vec()).collect()
    };
    match request {
        Request::GetInfo(keys) if keys.contains(&&b"network-status"[..]) => {
            Err(Refusal::NoLonger("network-status: ask for ns/all"))
        }
        Request::GetInfo(keys) if !keys.iter().all(|key| is_word(key)) => {
            Err(Refusal::UnrecognizedKeys(wrong(keys)))
        }
        Request::GetConf(names) if !names.iter().all(|name| is_word(name)) => {
            Err(Refusal::UnrecognizedOptions(wrong(names)))
        }
        Request::SetConf(settings) => match settings.iter().find(|one| !is_name(&one.name)) {
            Some(wrong) => {
                let name = wrong.name.escape_ascii();
                let text = format!("Unrecognized option: Unknown option '{name}'");
                Err(Refusal::UnknownOption(text))
            }
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Whether SETCONF takes these octets for the name of an option.
fn is_name(octets: &[u8]) -> bool {
    is_word(octets) && !octets.iter().any(|octet| b"=\"'".contains(octet))
}

/// Today's names of the keys of a GETINFO.
#[must_use]
pub fn modern_keys(keys: &[&[u8]]) -> Vec<Vec<u8>> {
    keys.iter().map(|key| modern_key(key)).collect()
}

fn modern_key(key: &[u8]) -> Vec<u8> {
    match key.strip_prefix(OLD_MAPPINGS) {
        Some(rest) => [MAPPINGS, rest].concat(),
        None => key.to_vec(),
    }
}

/// Today's command for a request that is all Tor's.
pub fn command(request: &Request<'_>, identifiers: &Identifiers) -> Result<Vec<u8>, Refusal> {
    let command = match request {
        Request::GetInfo(keys) => line("GETINFO", keys),
        Request::GetConf(names) => line("GETCONF", names),
        Request::SetConf(settings) => mixed::assignments(b"SETCONF", settings),
        Request::Signal(signal) => line("SIGNAL", &[signal.name().as_bytes()]),
        Request::Tor(request) => of_tor(request, identifiers)?,
        _ => {
            return Err(Refusal::Failed(
                "This is nothing that Tor can be asked for".into(),
            ));
        }
    };
    if command.len() >= MAX_COMMAND {
        return Err(Refusal::Failed(
            "Tor takes no command of 1 MiB or more".into(),
        ));
    }
    Ok(command)
}

fn of_tor(request: &TorRequest<'_>, identifiers: &Identifiers) -> Result<Vec<u8>, Refusal> {
    let words = match request {
        TorRequest::MapAddress(mappings) => {
            let word = |(from, to): &(&[u8], &[u8])| {
                let word = [from, &b"="[..], to].concat();
                let equals = memchr::memchr_iter(b'=', &word).count();
                (is_word(&word) && equals == 1).then_some(word)
            };
            let words: Option<Vec<_>> = mappings.iter().map(word).collect();
            words.ok_or(Refusal::Malformed("a mapping is two addresses"))?
        }
        TorRequest::ExtendCircuit { circuit, path } => {
            vec![identifiers.name(*circuit), checked(path)?]
        }
        TorRequest::AttachStream { stream, circuit } => {
            vec![identifiers.name(*stream), identifiers.name(*circuit)]
        }
        TorRequest::PostDescriptor(descriptor) => {
            let mut command = b"+POSTDESCRIPTOR\r\n".to_vec();
            write_data(descriptor, &mut command);
            return Ok(command);
        }
        TorRequest::RedirectStream { stream, address } => {
            vec![identifiers.name(*stream), checked(address)?]
        }
        TorRequest::CloseStream { stream, reason } => {
            vec![identifiers.name(*stream), reason.to_string().into_bytes()]
        }
        TorRequest::CloseCircuit { circuit, if_unused } => {
            let flag = if_unused.then(|| b"IfUnused".to_vec());
            [Some(identifiers.name(*circuit)), flag]
                .into_iter()
                .flatten()
                .collect()
        }
    };
    let words: Vec<_> = words.iter().map(|word| &word[..]).collect();
    Ok(line(request.keyword(), &words))
}

fn checked(word: &[u8]) -> Result<Vec<u8>, Refusal> {
    let why = "blanks and control characters cannot stand in it";
    is_word(word)
        .then(|| word.to_vec())
        .ok_or(Refusal::Malformed(why))
}

/// Whether the text protocol takes these octets for one word.
fn is_word(octets: &[u8]) -> bool {
    !octets.is_empty() && !octets.iter().any(|&octet| octet <= b' ' || octet == 0x7F)
}

fn line(keyword: &str, words: &[&[u8]]) -> Vec<u8> {
    let mut line = keyword.as_bytes().to_vec();
    for word in words {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// The reply that Tor's answer is, or one made from Tor's and the bus's.
pub fn answer(
    question: &Question,
    reply: &[u8],
    identifiers: &mut Identifiers,
) -> Result<Reply, Refusal> {
    if !agrees(reply) {
        let reply = reply.strip_suffix(b"\r\n").unwrap_or(reply);
        return Err(Refusal::OfTor(reply.to_vec()));
    }
    Ok(match question {
        Question::Conf => Reply::Conf(
            pairs(reply)
                .map(|(name, value)| option(name, value))
                .collect(),
        ),
        Question::Info(keys) => {
            let values = pairs(reply).map(|(_, value)| value.unwrap_or_default());
            let of_key = |(key, value): (&Vec<u8>, Vec<u8>)| {
                let is_mapping = key.starts_with(OLD_MAPPINGS);
                let value = if is_mapping {
                    old_mappings(&value)
                } else {
                    value
                };
                (key.clone(), Value::Octets(value))
            };
            Reply::Info(keys.iter().zip(values).map(of_key).collect())
        }
        Question::Map => {
            let mut mapped = Vec::new();
            for (from, to) in pairs(reply) {
                mapped.extend_from_slice(from);
                mapped.push(b' ');
                mapped.extend_from_slice(&to.unwrap_or_default());
                mapped.push(b'\n');
            }
            Reply::DoneWith(mapped)
        }
        Question::Extend => {
            let identifier = rest(reply).strip_prefix(b"EXTENDED ").unwrap_or_default();
            Reply::DoneWith(identifiers.number(identifier).to_be_bytes().to_vec())
        }
        Question::Descriptor if reply.starts_with(b"251") => Reply::DoneWith(rest(reply).to_vec()),
        Question::Plain | Question::Descriptor => Reply::Done,
    })
}

/// Whether every line of a reply agrees: the parts of one MAPADDRESS can fare differently.
fn agrees(reply: &[u8]) -> bool {
    !reply.is_empty() && parts(reply).iter().all(|part| part.starts_with(b"25"))
}

/// What follows the status of a reply of one line.
fn rest(reply: &[u8]) -> &[u8] {
    let line = reply.strip_suffix(b"\r\n").unwrap_or(reply);
    line.get(4..).unwrap_or_default()
}

/// The `key=value` lines of a reply; no value where no `=` stands.
fn pairs(reply: &[u8]) -> impl Iterator<Item = (&[u8], Option<Vec<u8>>)> {
    parts(reply).into_iter().map(|part| {
        let end = memchr::memchr(b'\n', part).map_or(part.len(), |end| end + 1);
        let (first, data) = part.split_at(end);
        let text = rest(first);
        let (key, value) = match memchr::memchr(b'=', text) {
            Some(equals) => (&text[..equals], Some(&text[equals + 1..])),
            None => (text, None),
        };
        let value = value.map(|value| match part.get(3) {
            Some(b'+') => unstuffed(data),
            _ => value.to_vec(),
        });
        (key, value)
    })
}

/// Data lines, each ended by a newline alone, without the dot that closes them.
fn unstuffed(data: &[u8]) -> Vec<u8> {
    let data = data.strip_suffix(b".\r\n").unwrap_or(data);
    let mut lines = Vec::with_capacity(data.len());
    for line in data.split_inclusive(|&octet| octet == b'\n') {
        let line = line.strip_prefix(b".").unwrap_or(line);
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        lines.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        lines.push(b'\n');
    }
    lines
}

fn option(name: &[u8], value: Option<Vec<u8>>) -> OptionValue {
    let name = String::from_utf8_lossy(name).into_owned();
    (
        name.into(),
        value.map(|value| unquoted(&value).unwrap_or(value)),
    )
}

/// What a value says that Tor had to write as a `CString`, all of it.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let octets = read_c_string(value)?;
    let mut written = Vec::with_capacity(value.len());
    write_c_string(&octets, &mut written);
    (written == value).then_some(octets)
}

/// Mappings without the time when each ends.
fn old_mappings(value: &[u8]) -> Vec<u8> {
    let mut old = Vec::with_capacity(value.len());
    for line in value
        .split(|&octet| octet == b'\n')
        .filter(|line| !line.is_empty())
    {
        let words: Vec<_> = line.splitn(3, |&octet| octet == b' ').take(2).collect();
        old.extend_from_slice(&words.join(&b' '));
        old.push(b'\n');
    }
    old
}
