//! Requests of binary controllers as commands of today's Tor, and Tor's answers back.

use super::identifiers::Identifiers;
use super::merge::{assignments, line};
use crate::command::Verb;
use crate::wire::refusal::Refusal;
use crate::wire::reply::{OptionValue, Reply, Value};
use crate::wire::request::{Request, TorRequest};
use crate::wire::text::{MAX_COMMAND, parts, read_c_string, unstuff, write_c_string, write_data};

/// The beginning of the keys of control-spec-v0 3.12 that have another name today.
const OLD_MAPPINGS: &[u8] = b"addr-mappings/";
const MAPPINGS: &[u8] = b"address-mappings/";

/// The question that an answer of Tor's belongs to.
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
    /// Anything that Tor only agrees to, or not.
    Plain,
}

impl Question {
    /// The octets of memory that it takes.
    #[must_use]
    pub fn held(&self) -> usize {
        match self {
            Self::Info(keys) => super::merge::held_by(keys),
            _ => 0,
        }
    }

    /// The question that a request is; none where the answer is never Tor's.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Option<Self> {
        match request {
            Request::GetInfo(keys) => {
                Some(Self::Info(keys.iter().map(|key| key.to_vec()).collect()))
            }
            Request::GetConf(_) => Some(Self::Conf),
            Request::SetConf(_)
            | Request::ResetConf(_)
            | Request::SaveConf { .. }
            | Request::Signal(_) => Some(Self::Plain),
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

/// Refuses a request that Tor no longer has, and words that are none: those would become another
/// command.
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
        Request::SetConf(settings) | Request::ResetConf(settings) => {
            match settings.iter().find(|one| !is_name(&one.name)) {
                Some(wrong) => {
                    let name = wrong.name.escape_ascii();
                    let text = format!("Unrecognized option: Unknown option '{name}'");
                    Err(Refusal::UnknownOption(text))
                }
                None => Ok(()),
            }
        }
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
        Request::GetInfo(keys) => line(Verb::GetInfo, keys),
        Request::GetConf(names) => line(Verb::GetConf, names),
        Request::SetConf(settings) => assignments(Verb::SetConf, settings),
        Request::ResetConf(settings) => assignments(Verb::ResetConf, settings),
        Request::Signal(signal) => line(Verb::Signal, &[signal.name().as_bytes()]),
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

fn of_tor(request: &TorRequest<&[u8]>, identifiers: &Identifiers) -> Result<Vec<u8>, Refusal> {
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
            // Tor would take `purpose=x` for an argument of its own, and choose a path itself.
            if !path.starts_with(b"$") && path.contains(&b'=') {
                return Err(Refusal::Malformed("a path is names of routers"));
            }
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
    Ok(line(request.verb(), &words))
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

/// The reply that Tor's answer is, or one made from Tor's and the bus's.
pub fn answer(
    question: &Question,
    reply: &[u8],
    identifiers: &mut Identifiers,
) -> Result<Reply, Refusal> {
    // The parts of one MAPADDRESS can fare differently.
    let parts = parts(reply);
    let refused: Vec<_> = parts
        .iter()
        .filter(|part| !part.starts_with(b"25"))
        .collect();
    if !refused.is_empty() || reply.is_empty() {
        let refused = refused.into_iter().copied().collect::<Vec<_>>().concat();
        let refused = refused.strip_suffix(b"\r\n").unwrap_or(&refused);
        return match question {
            Question::Info(keys) if is_unknown_router(keys, refused) => {
                let value = Value::Octets(Vec::new());
                Ok(Reply::Info(vec![(keys[0].clone(), value)]))
            }
            _ => Err(Refusal::OfTor(refused.to_vec())),
        };
    }
    Ok(match question {
        Question::Conf => Reply::Conf(
            pairs(&parts)
                .map(|(name, value)| option(name, value))
                .collect(),
        ),
        Question::Info(keys) => {
            let values = pairs(&parts).map(|(_, value)| value.unwrap_or_default());
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
            for (from, to) in pairs(&parts) {
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

/// Whether the one key asked for is the descriptor of a router that is not known; its value is
/// empty in v0 (control-spec-v0 3.12).
fn is_unknown_router(keys: &[Vec<u8>], refused: &[u8]) -> bool {
    let [key] = keys else { return false };
    (key.starts_with(b"desc/id/") || key.starts_with(b"desc/name/"))
        && refused == [b"552 Unrecognized key \"", &key[..], b"\""].concat()
}

/// The text behind the status of a reply of one line.
fn rest(reply: &[u8]) -> &[u8] {
    let line = reply.strip_suffix(b"\r\n").unwrap_or(reply);
    line.get(4..).unwrap_or_default()
}

/// The `key=value` parts of a reply; no value where no `=` stands.
fn pairs<'a>(parts: &[&'a [u8]]) -> impl Iterator<Item = (&'a [u8], Option<Vec<u8>>)> {
    parts.iter().map(|&part| {
        let end = memchr::memchr(b'\n', part).map_or(part.len(), |end| end + 1);
        let (first, data) = part.split_at(end);
        let text = rest(first);
        let (key, value) = match memchr::memchr(b'=', text) {
            Some(equals) => (&text[..equals], Some(&text[equals + 1..])),
            None => (text, None),
        };
        let value = value.map(|value| {
            if part.get(3) != Some(&b'+') {
                return value.to_vec();
            }
            let mut text = Vec::with_capacity(data.len());
            unstuff(data, &mut text);
            text
        });
        (key, value)
    })
}

fn option(name: &[u8], value: Option<Vec<u8>>) -> OptionValue {
    let name = String::from_utf8_lossy(name).into_owned();
    (
        name.into(),
        value.map(|value| unquoted(&value).unwrap_or(value)),
    )
}

/// The octets of a value that is, as a whole, a `CString` as Tor writes it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::{Setting, Signal};

    fn commanded(request: &Request<'_>) -> Result<String, Refusal> {
        check(request)?;
        let command = command(request, &Identifiers::default())?;
        Ok(String::from_utf8(command).expect("ASCII"))
    }

    #[test]
    fn requests_become_todays_commands() {
        let setting = |name: &str, value: Option<&str>| Setting {
            name: name.into(),
            value: value.map(Into::into),
        };
        let settings = vec![
            setting("ContactInfo", Some("a \"b\"\n")),
            setting("Log", None),
        ];
        for (request, expected) in [
            (
                Request::GetInfo(vec![b"version", b"ns/all"]),
                "GETINFO version ns/all\r\n",
            ),
            (Request::GetConf(vec![]), "GETCONF\r\n"),
            (
                Request::SetConf(settings),
                "SETCONF ContactInfo=\"a \\\"b\\\"\\n\" Log\r\n",
            ),
            (Request::Signal(Signal::Reload), "SIGNAL RELOAD\r\n"),
            (
                Request::Tor(TorRequest::MapAddress(vec![
                    (b"1.2.3.4", b"a.b"),
                    (b".", b"c.d"),
                ])),
                "MAPADDRESS 1.2.3.4=a.b .=c.d\r\n",
            ),
            (
                Request::Tor(TorRequest::ExtendCircuit {
                    circuit: 0,
                    path: b"a,$B",
                }),
                "EXTENDCIRCUIT 0 a,$B\r\n",
            ),
            (
                Request::Tor(TorRequest::AttachStream {
                    stream: 7,
                    circuit: 8,
                }),
                "ATTACHSTREAM 7 8\r\n",
            ),
            (
                Request::Tor(TorRequest::PostDescriptor(b"router x\n.y\nz")),
                "+POSTDESCRIPTOR\r\nrouter x\r\n..y\r\nz\r\n.\r\n",
            ),
            (
                Request::Tor(TorRequest::RedirectStream {
                    stream: 7,
                    address: b"a.b",
                }),
                "REDIRECTSTREAM 7 a.b\r\n",
            ),
            (
                Request::Tor(TorRequest::CloseStream {
                    stream: 7,
                    reason: 255,
                }),
                "CLOSESTREAM 7 255\r\n",
            ),
            (
                Request::Tor(TorRequest::CloseCircuit {
                    circuit: 7,
                    if_unused: true,
                }),
                "CLOSECIRCUIT 7 IfUnused\r\n",
            ),
            (
                Request::Tor(TorRequest::CloseCircuit {
                    circuit: 7,
                    if_unused: false,
                }),
                "CLOSECIRCUIT 7\r\n",
            ),
        ] {
            assert_eq!(commanded(&request).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn nothing_becomes_another_command() {
        let words: [&[u8]; 4] = [b"a b", b"a\r\nSIGNAL HALT", b"", b"a\0"];
        for word in words {
            let name = || word.to_vec();
            for request in [
                Request::GetInfo(vec![word]),
                Request::GetConf(vec![b"Log", word]),
                Request::SetConf(vec![Setting {
                    name: name(),
                    value: None,
                }]),
                Request::Tor(TorRequest::ExtendCircuit {
                    circuit: 0,
                    path: word,
                }),
                Request::Tor(TorRequest::RedirectStream {
                    stream: 0,
                    address: word,
                }),
                Request::Tor(TorRequest::MapAddress(vec![(b"a=b", word)])),
            ] {
                assert!(commanded(&request).is_err(), "{request:?}");
            }
        }
        let path = b"purpose=general";
        let option = Request::Tor(TorRequest::ExtendCircuit { circuit: 0, path });
        assert!(commanded(&option).is_err());
        let name = b"Log=x".to_vec();
        let assigned = Request::SetConf(vec![Setting { name, value: None }]);
        assert!(commanded(&assigned).is_err());
        let long = vec![b'x'; MAX_COMMAND];
        assert!(commanded(&Request::GetInfo(vec![&long])).is_err());
    }

    fn answered(question: &Question, reply: &str) -> Result<Reply, Refusal> {
        answer(question, reply.as_bytes(), &mut Identifiers::default())
    }

    #[test]
    fn answers_become_replies() {
        let keys = Question::Info(vec![b"a".to_vec(), b"addr-mappings/all".to_vec()]);
        let reply = "250-a=b=c\r\n250+address-mappings/all=\r\nx y NEVER\r\n..z w \"2026\"\r\n\
            .\r\n250 OK\r\n";
        let expected = vec![
            (b"a".to_vec(), Value::Octets(b"b=c".to_vec())),
            (
                b"addr-mappings/all".to_vec(),
                Value::Octets(b"x y\n.z w\n".to_vec()),
            ),
        ];
        assert_eq!(answered(&keys, reply), Ok(Reply::Info(expected)));

        let router = Question::Info(vec![b"desc/name/foo".to_vec()]);
        let expected = vec![(b"desc/name/foo".to_vec(), Value::Octets(vec![]))];
        assert_eq!(
            answered(&router, "552 Unrecognized key \"desc/name/foo\"\r\n"),
            Ok(Reply::Info(expected))
        );

        let reply = "250-Log=notice\r\n250-ContactInfo=\"a\\nb\"\r\n\
            250-Sock=\"/a b\" Mode=0660\r\n250 Nickname\r\n";
        let pair = |name: &'static str, value: &str| (name.into(), Some(value.into()));
        let expected = vec![
            pair("Log", "notice"),
            pair("ContactInfo", "a\nb"),
            pair("Sock", "\"/a b\" Mode=0660"),
            ("Nickname".into(), None),
        ];
        assert_eq!(answered(&Question::Conf, reply), Ok(Reply::Conf(expected)));
        assert_eq!(
            answered(&Question::Conf, "250 OK\r\n"),
            Ok(Reply::Conf(vec![]))
        );

        for (question, reply, body) in [
            (
                Question::Map,
                "250-1.2.3.4=a.b\r\n250 ::0=c\r\n",
                &b"1.2.3.4 a.b\n::0 c\n"[..],
            ),
            (Question::Extend, "250 EXTENDED 258\r\n", b"\0\0\x01\x02"),
            (Question::Descriptor, "251 Not new\r\n", b"Not new"),
        ] {
            assert_eq!(
                answered(&question, reply),
                Ok(Reply::DoneWith(body.to_vec()))
            );
        }
        for question in [Question::Plain, Question::Descriptor] {
            assert_eq!(answered(&question, "250 OK\r\n"), Ok(Reply::Done));
        }
    }

    #[test]
    fn a_refusal_has_all_that_tor_says() {
        let several = "552-Unrecognized key \"a\"\r\n552 Unrecognized key \"b\"";
        for (reply, said) in [
            ("552 Unknown stream \"7\"", "552 Unknown stream \"7\""),
            (several, several),
            ("250-1.2.3.4=a\r\n512 syntax error", "512 syntax error"),
            ("512-syntax error\r\n250 1.2.3.4=a", "512-syntax error"),
        ] {
            let refused = answered(&Question::Map, &format!("{reply}\r\n"));
            assert_eq!(refused, Err(Refusal::OfTor(said.into())));
        }
        assert!(answered(&Question::Plain, "").is_err());
    }
}
