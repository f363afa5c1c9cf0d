//! The fields of each command, and each command written anew from them.
//!
//! [`parse`] takes no more than Tor does, and refuses in Tor's words; [`Fields::write`] has one
//! form for whatever means the same. So a command that is judged by its fields and sent as they are
//! written is the command that was judged, whatever its letter case, order, quoting or white space.
//!
//! Where Tor takes several spellings of a number or an address, this takes the plain one: decimal
//! without sign or leading zero, four decimal parts. Forms that Tor 0.4.9 answers twice, not at all
//! or not with one reply are refused too.

mod add_onion;
mod circuits;
mod onions;
#[cfg(test)]
mod tests;
pub mod words;

use std::str::FromStr;

pub use add_onion::{AddOnion, Flag, Key, Port, Target};
pub use circuits::{AttachStream, ExtendCircuit, RedirectStream};
pub use onions::{ClientKey, HsPost, Onion};

use super::event::EventKind;
use super::refusal::Refusal;
use super::request::{Request, Setting, Signal};
use super::text::arguments::{self, Pairs, pairs};
use super::text::parse::{self as text, CANNOT_PARSE, bad_arguments};
use super::text::{Command, unstuff, write_c_string, write_data};
use crate::command::Verb;

/// One command, by its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are what the command's grammar names")]
pub enum Fields {
    GetInfo(Vec<Vec<u8>>),
    GetConf(Vec<Vec<u8>>),
    SetConf(Vec<Setting>),
    ResetConf(Vec<Setting>),
    LoadConf(Vec<u8>),
    SaveConf {
        force: bool,
    },
    SetEvents(Vec<Vec<u8>>),
    /// The signal's name, as it was spelled; [`Signal::parse`] knows it.
    Signal(Vec<u8>),
    UseFeature(Vec<Vec<u8>>),
    TakeOwnership,
    DropOwnership,
    /// Each address with what replaces it.
    MapAddress(Vec<(Vec<u8>, Vec<u8>)>),
    ExtendCircuit(ExtendCircuit),
    SetCircuitPurpose {
        circuit: u32,
        purpose: Option<Vec<u8>>,
    },
    AttachStream(AttachStream),
    RedirectStream(RedirectStream),
    CloseStream {
        stream: u64,
        reason: u8,
    },
    CloseCircuit {
        circuit: u32,
        if_unused: bool,
    },
    PostDescriptor {
        /// `purpose` and `cache`, as they came.
        options: Vec<(Vec<u8>, Vec<u8>)>,
        descriptor: Vec<u8>,
    },
    Resolve {
        addresses: Vec<Vec<u8>>,
        reverse: bool,
    },
    HsFetch {
        onion: Onion,
        servers: Vec<Vec<u8>>,
    },
    HsPost(HsPost),
    AddOnion(AddOnion),
    DelOnion(Onion),
    ClientAuthAdd(ClientKey),
    ClientAuthRemove(Onion),
    ClientAuthView(Option<Onion>),
    DropGuards,
    DropTimeouts,
    ControllerName(Vec<u8>),
    PostMessage {
        destination: Vec<u8>,
        text: Vec<u8>,
    },
    /// A command of the login and its like, which the bus answers itself.
    Session(Verb),
}

/// The fields of a command.
pub fn parse(verb: Verb, command: &Command<'_>) -> Result<Fields, Refusal> {
    // Tor holds arguments in a C string, so a NUL ends them.
    let line = until_nul(command.arguments);
    let keyword = command.keyword;
    let bad = |why| bad_arguments(keyword, why);
    let words = || arguments::words(line).map(<[u8]>::to_vec).collect();
    let none = |fields| match arguments::words(line).next() {
        None => Ok(fields),
        Some(_) => Err(bad("Cannot accept more than 0 argument(s)")),
    };
    match verb {
        Verb::GetInfo => keys(keyword, line).map(Fields::GetInfo),
        Verb::GetConf => keys(keyword, line).map(Fields::GetConf),
        Verb::SetConf => Ok(Fields::SetConf(settings(keyword, line)?)),
        Verb::ResetConf => Ok(Fields::ResetConf(settings(keyword, line)?)),
        Verb::LoadConf => {
            let data = data(keyword, command)?;
            text::load_conf(keyword, line, &data)?;
            Ok(Fields::LoadConf(data))
        }
        Verb::SaveConf => {
            let words = pairs(line, true).ok_or_else(|| bad(CANNOT_PARSE))?;
            let force = has_flag(&words, b"FORCE");
            Ok(Fields::SaveConf { force })
        }
        Verb::SetEvents => Ok(Fields::SetEvents(words())),
        Verb::Signal => signal(keyword, line),
        Verb::UseFeature => text::use_feature(line).map(|_| Fields::UseFeature(words())),
        Verb::TakeOwnership => Ok(Fields::TakeOwnership),
        Verb::DropOwnership => Ok(Fields::DropOwnership),
        Verb::MapAddress => {
            let pairs = pairs(line, false).ok_or_else(|| bad(CANNOT_PARSE))?;
            if pairs.is_empty() {
                let text = "syntax error: not enough arguments to mapaddress.";
                return Err(words::refusal(512, text));
            }
            Ok(Fields::MapAddress(owned(&pairs)))
        }
        Verb::SetRouterPurpose => Err(words::refusal(511, "SETROUTERPURPOSE is obsolete.")),
        Verb::ExtendCircuit
        | Verb::SetCircuitPurpose
        | Verb::AttachStream
        | Verb::RedirectStream
        | Verb::CloseStream
        | Verb::CloseCircuit => circuits::parse(verb, keyword, line),
        Verb::PostDescriptor => {
            let descriptor = data(keyword, command)?;
            let pairs = keywords(keyword, line, &[b"cache", b"purpose"])?;
            let options = owned(&pairs);
            Ok(Fields::PostDescriptor {
                options,
                descriptor,
            })
        }
        Verb::Resolve => {
            let words = pairs(line, true).ok_or_else(|| bad(CANNOT_PARSE))?;
            let reverse =
                find(&words, b"mode").is_some_and(|mode| mode.eq_ignore_ascii_case(b"reverse"));
            let addresses = words.iter().filter(|(_, value)| value.is_empty());
            let addresses = addresses.map(|(address, _)| address.to_vec()).collect();
            Ok(Fields::Resolve { addresses, reverse })
        }
        Verb::HsPost => onions::hs_post(keyword, line, data(keyword, command)?),
        Verb::HsFetch
        | Verb::DelOnion
        | Verb::OnionClientAuthAdd
        | Verb::OnionClientAuthRemove
        | Verb::OnionClientAuthView => onions::parse(verb, keyword, line),
        Verb::AddOnion => add_onion::parse(keyword, line).map(Fields::AddOnion),
        Verb::DropGuards => none(Fields::DropGuards),
        Verb::DropTimeouts => none(Fields::DropTimeouts),
        Verb::PostMessage => match text::post_message(keyword, command.arguments)? {
            Request::PostMessage { destination, text } => Ok(Fields::PostMessage {
                destination: destination.to_vec(),
                text: text.to_vec(),
            }),
            _ => Ok(Fields::Session(verb)),
        },
        Verb::ControllerName => match text::controller_name(command.arguments)? {
            Request::ControllerName(name) => Ok(Fields::ControllerName(name.to_vec())),
            _ => Ok(Fields::Session(verb)),
        },
        Verb::RecentMessages => Ok(Fields::GetInfo(vec![b"recent-messages".to_vec()])),
        Verb::NewMessages => Ok(Fields::GetInfo(vec![b"new-messages".to_vec()])),
        Verb::ListControllers => Ok(Fields::GetInfo(vec![b"list-controllers".to_vec()])),
        Verb::Authenticate | Verb::AuthChallenge | Verb::ProtocolInfo | Verb::Quit => {
            Ok(Fields::Session(verb))
        }
    }
}

/// The octets up to a NUL.
fn until_nul(octets: &[u8]) -> &[u8] {
    let end = memchr::memchr(0, octets).unwrap_or(octets.len());
    &octets[..end]
}

/// The body of a `+` command, unstuffed, up to a NUL as for Tor.
fn data(keyword: &[u8], command: &Command<'_>) -> Result<Vec<u8>, Refusal> {
    let stuffed = command.data.unwrap_or_default();
    if stuffed.is_empty() {
        return Err(bad_arguments(keyword, "Empty body"));
    }
    let mut data = Vec::with_capacity(stuffed.len());
    unstuff(stuffed, &mut data);
    data.truncate(until_nul(&data).len());
    // A body is written in lines, and of these there must be one.
    if !data.ends_with(b"\n") {
        data.push(b'\n');
    }
    Ok(data)
}

/// The keys of GETINFO or the names of GETCONF. Tor quotes an unknown one, and has a form for a line
/// end in it that no last line follows.
fn keys(keyword: &[u8], line: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let keys: Vec<_> = arguments::words(line).map(<[u8]>::to_vec).collect();
    if keys.iter().any(|key| key.contains(&b'\r')) {
        return Err(bad_arguments(keyword, CANNOT_PARSE));
    }
    Ok(keys)
}

/// The settings of SETCONF or RESETCONF.
fn settings(keyword: &[u8], line: &[u8]) -> Result<Vec<Setting>, Refusal> {
    let settings = text::settings(keyword, line)?;
    check_values(keyword, &settings)?;
    Ok(settings)
}

/// Refuses values with a line end, which Tor quotes raw, so that a reply would have more lines than
/// it has; and those with a NUL, which is none of an option's.
pub fn check_values(keyword: &[u8], settings: &[Setting]) -> Result<(), Refusal> {
    let has_control = |setting: &Setting| {
        let value = setting.value.as_deref().unwrap_or_default();
        value.iter().any(|octet| matches!(octet, 0 | b'\r' | b'\n'))
    };
    if settings.iter().any(has_control) {
        return Err(bad_arguments(keyword, CANNOT_PARSE));
    }
    Ok(())
}

fn signal(keyword: &[u8], line: &[u8]) -> Result<Fields, Refusal> {
    let [name] = words_of(keyword, line)?;
    match Signal::parse(name) {
        Some(_) => Ok(Fields::Signal(name.to_vec())),
        None => Err(Refusal::UnrecognizedSignal(name.to_vec())),
    }
}

/// Exactly as many words.
fn words_of<'a, const N: usize>(keyword: &[u8], line: &'a [u8]) -> Result<[&'a [u8]; N], Refusal> {
    let words: Vec<_> = arguments::words(line).collect();
    let why = if words.len() < N {
        "Need at least 1 argument(s)"
    } else {
        "Cannot accept more than 1 argument(s)"
    };
    words.try_into().map_err(|_| bad_arguments(keyword, why))
}

/// The first word of a line that needs one, and the rest behind the word.
fn first_of<'a>(keyword: &[u8], line: &'a [u8]) -> Result<(&'a [u8], &'a [u8]), Refusal> {
    let (first, rest) = arguments::first_word(line);
    if first.is_empty() {
        return Err(bad_arguments(keyword, "Need at least 1 argument(s)"));
    }
    Ok((first, rest))
}

/// `KEY=VALUE` with these keys only, in any letter case.
fn keywords<'a>(command: &[u8], line: &'a [u8], known: &[&[u8]]) -> Result<Pairs<'a>, Refusal> {
    let pairs = pairs(line, false).ok_or_else(|| bad_arguments(command, CANNOT_PARSE))?;
    let unknown = |(key, _): &&(&[u8], &[u8])| !known.iter().any(|k| k.eq_ignore_ascii_case(key));
    match pairs.iter().find(unknown) {
        Some((key, _)) => Err(words::unknown_keyword(command, key)),
        None => Ok(pairs),
    }
}

/// The value of the first pair with this key, in any letter case.
fn find<'a>(pairs: &[(&[u8], &'a [u8])], key: &[u8]) -> Option<&'a [u8]> {
    let pair = pairs.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
    pair.map(|(_, value)| *value)
}

/// Whether the first pair with this key has no value, which makes it a flag.
fn has_flag(pairs: &[(&[u8], &[u8])], key: &[u8]) -> bool {
    find(pairs, key).is_some_and(<[u8]>::is_empty)
}

fn owned(pairs: &[(&[u8], &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let owned = |(key, value): &(&[u8], &[u8])| (key.to_vec(), value.to_vec());
    pairs.iter().map(owned).collect()
}

/// A number in its one plain form: decimal, without sign or leading zero.
#[must_use]
pub fn number<N: FromStr>(text: &[u8]) -> Option<N> {
    let is_plain = match text {
        [] | [b'0', _, ..] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    let text = str::from_utf8(text).ok().filter(|_| is_plain)?;
    text.parse().ok()
}

/// Appends `KEY=VALUE` behind a blank.
fn write_pair(key: &str, value: &[u8], out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value);
}

fn write_words<'a>(words: impl IntoIterator<Item = &'a Vec<u8>>, out: &mut Vec<u8>) {
    for word in words {
        out.push(b' ');
        out.extend_from_slice(word);
    }
}

fn write_settings(settings: &[Setting], out: &mut Vec<u8>) {
    for setting in settings {
        out.push(b' ');
        out.extend_from_slice(&setting.name);
        if let Some(value) = &setting.value {
            out.push(b'=');
            write_c_string(value, out);
        }
    }
}

impl Fields {
    /// The fields of a request, as frames ask. None for what only a Tor can take apart, which has
    /// the form of a command on its way there.
    #[must_use]
    pub fn of_request(request: &Request<'_>) -> Option<Self> {
        let own = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
        let key = |name: &[u8]| Self::GetInfo(vec![name.to_vec()]);
        Some(match request {
            Request::ControllerName(name) => Self::ControllerName(name.to_vec()),
            Request::PostMessage { destination, text } => Self::PostMessage {
                destination: destination.to_vec(),
                text: text.to_vec(),
            },
            Request::SetEvents { events, others } => {
                let names = events.kinds().filter_map(EventKind::name);
                let names = names.map(|name| name.as_bytes().to_vec());
                Self::SetEvents(
                    names
                        .chain(others.iter().map(|name| name.to_vec()))
                        .collect(),
                )
            }
            Request::GetInfo(keys) => Self::GetInfo(own(keys)),
            Request::GetConf(names) => Self::GetConf(own(names)),
            Request::SetConf(settings) => Self::SetConf(settings.clone()),
            Request::ResetConf(settings) => Self::ResetConf(settings.clone()),
            Request::LoadConf(text) => Self::LoadConf(text.clone()),
            Request::SaveConf { force } => Self::SaveConf { force: *force },
            Request::Signal(signal) => Self::Signal(signal.name().as_bytes().to_vec()),
            Request::UseFeature => Self::UseFeature(Vec::new()),
            Request::TakeOwnership => Self::TakeOwnership,
            Request::DropOwnership => Self::DropOwnership,
            Request::RecentMessages => key(b"recent-messages"),
            Request::NewMessages => key(b"new-messages"),
            Request::ListControllers => key(b"list-controllers"),
            Request::ProtocolInfo
            | Request::AuthChallenge(_)
            | Request::Authenticate(_)
            | Request::Quit => Self::Session(request.verb()),
            Request::Relayed(_) | Request::Tor(_) => return None,
        })
    }

    /// The command that the fields are of.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            Self::GetInfo(_) => Verb::GetInfo,
            Self::GetConf(_) => Verb::GetConf,
            Self::SetConf(_) => Verb::SetConf,
            Self::ResetConf(_) => Verb::ResetConf,
            Self::LoadConf(_) => Verb::LoadConf,
            Self::SaveConf { .. } => Verb::SaveConf,
            Self::SetEvents(_) => Verb::SetEvents,
            Self::Signal(_) => Verb::Signal,
            Self::UseFeature(_) => Verb::UseFeature,
            Self::TakeOwnership => Verb::TakeOwnership,
            Self::DropOwnership => Verb::DropOwnership,
            Self::MapAddress(_) => Verb::MapAddress,
            Self::ExtendCircuit(_) => Verb::ExtendCircuit,
            Self::SetCircuitPurpose { .. } => Verb::SetCircuitPurpose,
            Self::AttachStream(_) => Verb::AttachStream,
            Self::RedirectStream(_) => Verb::RedirectStream,
            Self::CloseStream { .. } => Verb::CloseStream,
            Self::CloseCircuit { .. } => Verb::CloseCircuit,
            Self::PostDescriptor { .. } => Verb::PostDescriptor,
            Self::Resolve { .. } => Verb::Resolve,
            Self::HsFetch { .. } => Verb::HsFetch,
            Self::HsPost(_) => Verb::HsPost,
            Self::AddOnion(_) => Verb::AddOnion,
            Self::DelOnion(_) => Verb::DelOnion,
            Self::ClientAuthAdd(_) => Verb::OnionClientAuthAdd,
            Self::ClientAuthRemove(_) => Verb::OnionClientAuthRemove,
            Self::ClientAuthView(_) => Verb::OnionClientAuthView,
            Self::DropGuards => Verb::DropGuards,
            Self::DropTimeouts => Verb::DropTimeouts,
            Self::ControllerName(_) => Verb::ControllerName,
            Self::PostMessage { .. } => Verb::PostMessage,
            Self::Session(verb) => *verb,
        }
    }

    /// Appends the command in its one form, line ends and body included.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.verb().keyword().as_bytes());
        let mut body = None;
        match self {
            Self::GetInfo(words)
            | Self::GetConf(words)
            | Self::SetEvents(words)
            | Self::UseFeature(words) => write_words(words, out),
            Self::Signal(name) | Self::ControllerName(name) => write_words([name], out),
            Self::SetConf(settings) | Self::ResetConf(settings) => write_settings(settings, out),
            Self::LoadConf(text) => body = Some(text),
            Self::SaveConf { force } => {
                if *force {
                    out.extend_from_slice(b" FORCE");
                }
            }
            Self::MapAddress(pairs) => {
                for (from, to) in pairs {
                    out.push(b' ');
                    out.extend_from_slice(from);
                    out.push(b'=');
                    out.extend_from_slice(to);
                }
            }
            Self::ExtendCircuit(fields) => fields.write(out),
            Self::SetCircuitPurpose { circuit, purpose } => {
                out.extend_from_slice(format!(" {circuit}").as_bytes());
                if let Some(purpose) = purpose {
                    write_pair("purpose", purpose, out);
                }
            }
            Self::AttachStream(fields) => fields.write(out),
            Self::RedirectStream(fields) => fields.write(out),
            Self::CloseStream { stream, reason } => {
                out.extend_from_slice(format!(" {stream} {reason}").as_bytes());
            }
            Self::CloseCircuit { circuit, if_unused } => {
                let flag = if *if_unused { " IfUnused" } else { "" };
                out.extend_from_slice(format!(" {circuit}{flag}").as_bytes());
            }
            Self::PostDescriptor {
                options,
                descriptor,
            } => {
                for (key, value) in options {
                    out.push(b' ');
                    out.extend_from_slice(key);
                    out.push(b'=');
                    out.extend_from_slice(value);
                }
                body = Some(descriptor);
            }
            Self::Resolve { addresses, reverse } => {
                if *reverse {
                    write_pair("mode", b"reverse", out);
                }
                write_words(addresses, out);
            }
            Self::HsFetch { onion, servers } => {
                onion.write(out);
                for server in servers {
                    write_pair("SERVER", server, out);
                }
            }
            Self::HsPost(fields) => {
                fields.write(out);
                body = Some(&fields.descriptor);
            }
            Self::AddOnion(fields) => fields.write(out),
            Self::DelOnion(onion) | Self::ClientAuthRemove(onion) => onion.write(out),
            Self::ClientAuthAdd(key) => key.write(out),
            Self::ClientAuthView(onion) => {
                if let Some(onion) = onion {
                    onion.write(out);
                }
            }
            Self::PostMessage { destination, text } => {
                out.extend_from_slice(b" @");
                out.extend_from_slice(destination);
                out.push(b' ');
                out.extend_from_slice(text);
            }
            Self::TakeOwnership
            | Self::DropOwnership
            | Self::DropGuards
            | Self::DropTimeouts
            | Self::Session(_) => {}
        }
        out.extend_from_slice(b"\r\n");
        if let Some(body) = body {
            write_data(body, out);
        }
    }
}
