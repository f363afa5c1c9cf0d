//! The two dialects of the binary protocol, with the extension range for the bus that is the same
//! in both.
//!
//! ```text
//! Length [2 octets; big-endian]  Type [2 octets; big-endian]  Body [Length octets]
//! ```
//!
//! Types 0x0000 to 0x0007 mean the same in both, but most bodies and all error codes differ.

mod fragments;
mod of_tor;
mod tc;
mod v0;

use std::sync::Arc;

use super::event::{Event, Severity};
use super::message::{ControllerId, Message, UNSET};
use super::refusal::Refusal;
use super::reply::Reply;
use super::request::Request;
use crate::command::Verb;

pub use fragments::{Fragments, Gathered, MAX_MESSAGE};
pub use v0::encode_any_log;

/// Message types by the names of the specifications: TC draft 3, from `SAVECONF` on
/// control-spec-v0 3, and those of the extension range. Requests have theirs from the table of
/// [commands](crate::command).
pub mod kind {
    #![expect(missing_docs, reason = "the names are the specifications'")]
    use crate::command::Verb;

    const fn of(verb: Verb) -> u16 {
        verb.frame_type()
            .number()
            .expect("evaluated when this is compiled")
    }

    pub const ERROR: u16 = 0x0000;
    pub const DONE: u16 = 0x0001;
    pub const CONFVALUE: u16 = 0x0004;
    pub const EVENT: u16 = 0x0006;
    pub const INFOVALUE: u16 = 0x000C;
    pub const FRAGMENTHEADER: u16 = 0x0010;
    pub const FRAGMENT: u16 = 0x0011;
    pub const MESSAGES: u16 = 0xF005;
    pub const CONTROLLERS: u16 = 0xF006;

    pub const SETCONF: u16 = of(Verb::SetConf);
    pub const GETCONF: u16 = of(Verb::GetConf);
    pub const SETEVENTS: u16 = of(Verb::SetEvents);
    pub const AUTHENTICATE: u16 = of(Verb::Authenticate);
    pub const SAVECONF: u16 = of(Verb::SaveConf);
    pub const SIGNAL: u16 = of(Verb::Signal);
    pub const MAPADDRESS: u16 = of(Verb::MapAddress);
    pub const GETINFO: u16 = of(Verb::GetInfo);
    pub const EXTENDCIRCUIT: u16 = of(Verb::ExtendCircuit);
    pub const ATTACHSTREAM: u16 = of(Verb::AttachStream);
    pub const POSTDESCRIPTOR: u16 = of(Verb::PostDescriptor);
    pub const REDIRECTSTREAM: u16 = of(Verb::RedirectStream);
    pub const CLOSESTREAM: u16 = of(Verb::CloseStream);
    pub const CLOSECIRCUIT: u16 = of(Verb::CloseCircuit);
    pub const CONTROLLERNAME: u16 = of(Verb::ControllerName);
    pub const POSTMESSAGE: u16 = of(Verb::PostMessage);
    pub const RECENTMESSAGES: u16 = of(Verb::RecentMessages);
    pub const NEWMESSAGES: u16 = of(Verb::NewMessages);
    pub const LISTCONTROLLERS: u16 = of(Verb::ListControllers);
}

/// Event codes: TC draft 3.7, from `NEWDESC` on control-spec-v0 3.7, and that of the extension
/// range.
pub mod code {
    #![expect(missing_docs, reason = "the names are the specifications'")]
    pub const CIRCUIT: u16 = 0x0001;
    pub const STREAM: u16 = 0x0002;
    pub const OR_CONNECTION: u16 = 0x0003;
    pub const BANDWIDTH: u16 = 0x0004;
    /// In the draft warnings and errors, in v0 notices too.
    pub const WARNING: u16 = 0x0005;
    pub const NEWDESC: u16 = 0x0006;
    pub const DEBUG: u16 = 0x0007;
    pub const INFO: u16 = 0x0008;
    pub const NOTICE: u16 = 0x0009;
    pub const WARN: u16 = 0x000A;
    pub const ERR: u16 = 0x000B;
    pub const POSTMESSAGE: u16 = 0xF001;
}

/// Which of the two dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The TC draft of 2004.
    Tc,
    /// The last one, which Tor 0.1.0 spoke (control-spec-v0).
    V0,
}

/// The octets of length and type before a body.
const HEADER: usize = 4;

/// The longest body of one frame, in octets.
pub const MAX_BODY: usize = 0xFFFF;

/// One binary message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The type.
    pub kind: u16,
    /// The body.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// How many octets the whole frame has.
    #[must_use]
    pub const fn length(&self) -> usize {
        HEADER + self.body.len()
    }
}

/// The frame that `octets` begin with, if all of it is there.
#[must_use]
pub fn next(octets: &[u8]) -> Option<Frame<'_>> {
    let (&[length_high, length_low, kind_high, kind_low], rest) = octets.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    Some(Frame {
        kind: u16::from_be_bytes([kind_high, kind_low]),
        body: rest.get(..length)?,
    })
}

/// The command that a frame asks for. What only a server sends is as unknown as what nobody does.
pub fn verb(version: Version, frame: Frame<'_>) -> Result<Verb, Refusal> {
    Verb::of_frame(frame.kind, version == Version::V0).ok_or(Refusal::UnrecognizedType(frame.kind))
}

/// The request that a frame of this command makes.
pub fn parse(version: Version, verb: Verb, frame: Frame<'_>) -> Result<Request<'_>, Refusal> {
    match verb {
        Verb::ControllerName => strings(frame.body).map(|[name]| Request::ControllerName(name)),
        Verb::PostMessage => {
            let [destination, text] = strings(frame.body)?;
            if text.is_empty() {
                return Err(Refusal::Malformed("a message needs a text"));
            }
            if memchr::memchr2(b'\r', b'\n', text).is_some() {
                return Err(Refusal::Malformed("a text cannot contain CR or LF"));
            }
            Ok(Request::PostMessage { destination, text })
        }
        Verb::RecentMessages => empty(frame.body, Request::RecentMessages),
        Verb::NewMessages => empty(frame.body, Request::NewMessages),
        Verb::ListControllers => empty(frame.body, Request::ListControllers),
        _ => match version {
            Version::Tc => tc::parse(verb, frame),
            Version::V0 => v0::parse(verb, frame),
        },
    }
}

/// Exactly `N` strings, each ended by NUL, and nothing after them.
fn strings<const N: usize>(body: &[u8]) -> Result<[&[u8]; N], Refusal> {
    let body = body
        .strip_suffix(b"\0")
        .ok_or(Refusal::Malformed("a string must end with NUL"))?;
    let wrong_number = Refusal::Malformed("too few or too many strings");
    let mut strings = [&b""[..]; N];
    let mut rest = Some(body);
    for string in &mut strings {
        let Some(octets) = rest else {
            return Err(wrong_number);
        };
        let end = memchr::memchr(0, octets);
        *string = &octets[..end.unwrap_or(octets.len())];
        rest = end.map(|end| &octets[end + 1..]);
    }
    if rest.is_some() {
        return Err(wrong_number);
    }
    Ok(strings)
}

fn empty<'a>(body: &[u8], request: Request<'a>) -> Result<Request<'a>, Refusal> {
    if body.is_empty() {
        Ok(request)
    } else {
        Err(Refusal::Malformed("the body of this type is empty"))
    }
}

/// The event codes that a SETEVENTS body is made of.
fn event_codes(body: &[u8]) -> Result<impl Iterator<Item = u16>, Refusal> {
    let (codes, rest) = body.as_chunks();
    if !rest.is_empty() {
        return Err(Refusal::Malformed("event codes have two octets each"));
    }
    Ok(codes.iter().map(|&octets| u16::from_be_bytes(octets)))
}

fn unrecognized_event(code: u16) -> Refusal {
    Refusal::UnrecognizedEvent(format!("0x{code:04X}").into_bytes())
}

/// Appends a reply, and returns the number of octets that were cut off its body.
pub fn encode_reply(version: Version, reply: &Reply, out: &mut Vec<u8>) -> usize {
    match reply {
        Reply::Conf(pairs) => frame(version, out, kind::CONFVALUE, |out| match version {
            Version::Tc => tc::encode_conf(pairs, out),
            Version::V0 => v0::encode_conf(pairs, out),
        }),
        Reply::Posted(id) => frame(version, out, kind::DONE, |out| {
            out.extend_from_slice(&id.to_be_bytes());
        }),
        Reply::DoneWith(body) => frame(version, out, kind::DONE, |out| {
            out.extend_from_slice(body);
        }),
        Reply::Messages(messages) => encode_messages(version, messages, out),
        Reply::Controllers(names) => frame(version, out, kind::CONTROLLERS, |out| {
            for name in names {
                let name = name.as_ref().map_or(UNSET, ControllerId::as_str);
                string(out, name.as_bytes());
            }
        }),
        Reply::Info(pairs) => frame(version, out, kind::INFOVALUE, |out| {
            v0::encode_info(pairs, out);
        }),
        Reply::Done | Reply::Closing | Reply::ProtocolInfo { .. } | Reply::Challenge { .. } => {
            frame(version, out, kind::DONE, |_| ())
        }
    }
}

/// Appends an ERROR: the code, and the text that a person reads. Returns the number of octets that
/// were cut off its body.
pub fn encode_refusal(version: Version, refusal: &Refusal, out: &mut Vec<u8>) -> usize {
    let code = match version {
        Version::Tc => tc::error_code(refusal),
        Version::V0 => v0::error_code(refusal),
    };
    frame(version, out, kind::ERROR, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        let text = refusal.lines().join(&b'\n');
        out.extend(text.into_iter().filter(|&octet| octet != 0));
    })
}

/// The error codes of the extension range.
const fn extension_error(refusal: &Refusal) -> Option<u16> {
    match refusal {
        Refusal::NameInUse => Some(0xF001),
        Refusal::NoSuchDestination => Some(0xF002),
        Refusal::BadControllerId => Some(0xF003),
        _ => None,
    }
}

/// Appends an EVENT, if the dialect has a code for it. Returns the number of octets that were cut
/// off its body.
pub fn encode_event(version: Version, event: &Event, out: &mut Vec<u8>) -> usize {
    match event {
        Event::Message(message) => event_frame(version, out, code::POSTMESSAGE, |out| {
            encode_message(message, out);
        }),
        Event::Bandwidth { read, written } => encode_bandwidth(version, *read, *written, out),
        Event::Log { severity, text } => encode_log(version, *severity, text.as_bytes(), out),
        Event::OfTor { kind, number, line } => of_tor::encode(version, *kind, *number, line, out),
        Event::Controller { .. }
        | Event::ConfChanged(_)
        | Event::TorReachable(_)
        | Event::PolicyChanged
        | Event::Denied(_)
        | Event::Restored(_)
        | Event::Leased(_)
        | Event::Action(_)
        | Event::Signal(_) => 0,
    }
}

fn encode_bandwidth(version: Version, read: u64, written: u64, out: &mut Vec<u8>) -> usize {
    event_frame(version, out, code::BANDWIDTH, |out| {
        for count in [read, written] {
            let saturated = u32::try_from(count).unwrap_or(u32::MAX);
            out.extend_from_slice(&saturated.to_be_bytes());
        }
    })
}

fn encode_log(version: Version, severity: Severity, text: &[u8], out: &mut Vec<u8>) -> usize {
    let code = match version {
        Version::Tc => tc::log_code(severity),
        Version::V0 => Some(v0::log_code(severity)),
    };
    match code {
        Some(code) => event_frame(version, out, code, |out| string(out, text)),
        None => 0,
    }
}

fn event_frame(
    version: Version,
    out: &mut Vec<u8>,
    code: u16,
    write: impl FnOnce(&mut Vec<u8>),
) -> usize {
    frame(version, out, kind::EVENT, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        write(out);
    })
}

/// The newest of `messages`, as many as `room` octets of a body hold; the last is always there.
#[must_use]
pub fn newest(messages: &[Arc<Message>], mut room: usize) -> &[Arc<Message>] {
    let fitting = messages
        .iter()
        .rev()
        .take_while(|message| {
            let left = room.checked_sub(size(message));
            room = left.unwrap_or(0);
            left.is_some()
        })
        .count()
        .max(messages.len().min(1));
    messages.get(messages.len() - fitting..).unwrap_or_default()
}

/// MESSAGES (0xF005): each as in the POSTMESSAGE event. Where a message cannot be fragmented, only
/// those that fit one frame.
fn encode_messages(version: Version, messages: &[Arc<Message>], out: &mut Vec<u8>) -> usize {
    let fitting = match version {
        Version::Tc => newest(messages, MAX_BODY),
        Version::V0 => messages,
    };
    let all: usize = messages.iter().map(|message| size(message)).sum();
    let fit: usize = fitting.iter().map(|message| size(message)).sum();
    let cut = frame(version, out, kind::MESSAGES, |out| {
        for message in fitting {
            encode_message(message, out);
        }
    });
    cut + all - fit
}

/// The octets of a message in a body: `MessageID`, source, destination, text.
fn size(message: &Message) -> usize {
    8 + message.source().len() + message.destination().len() + message.text.len() + 3
}

fn encode_message(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(&message.id.to_be_bytes());
    string(out, message.source().as_bytes());
    string(out, message.destination().as_bytes());
    string(out, &message.text);
}

/// Appends a string and its NUL. What holds a NUL itself ends there, as it would for its reader.
fn string(out: &mut Vec<u8>, octets: &[u8]) {
    let end = memchr::memchr(0, octets).unwrap_or(octets.len());
    out.extend_from_slice(&octets[..end]);
    out.push(0);
}

/// Appends a message whose body `write` appends. A body that does not fit one frame is cut in the
/// draft, where what ended with NUL still does, and fragmented in v0. Returns the number of octets
/// that were cut off.
fn frame(
    version: Version,
    out: &mut Vec<u8>,
    kind: u16,
    write: impl FnOnce(&mut Vec<u8>),
) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let body = start + HEADER;
    let length = out.len() - body;
    if length > MAX_BODY {
        if version == Version::V0 {
            fragments::fragment(kind, start, out);
            return 0;
        }
        let last = out.last().copied();
        out.truncate(body + MAX_BODY);
        if last == Some(0) {
            out[body + MAX_BODY - 1] = 0;
        }
    }
    let header = header(kind, out.len() - body);
    out[start..body].copy_from_slice(&header);
    length.saturating_sub(MAX_BODY)
}

/// The header of a frame with a body of at most [`MAX_BODY`] octets.
fn header(kind: u16, length: usize) -> [u8; HEADER] {
    let [length_high, length_low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let [kind_high, kind_low] = kind.to_be_bytes();
    [length_high, length_low, kind_high, kind_low]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Destination;

    fn octets(write: impl FnOnce(&mut Vec<u8>) -> usize) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    fn message(id: u64, length: usize) -> Arc<Message> {
        Arc::new(Message {
            id,
            source: None,
            destination: Destination::All,
            text: vec![b'x'; length].into(),
        })
    }

    #[test]
    fn a_frame_is_there_only_when_all_of_it_is() {
        let whole = b"\0\x03\0\x07abcREST";
        for end in 0..7 {
            assert_eq!(next(&whole[..end]), None);
        }
        let frame = next(whole).unwrap();
        assert_eq!(
            (frame.kind, frame.body, frame.length()),
            (7, &b"abc"[..], 7)
        );
    }

    #[test]
    fn malformed_bodies() {
        for (kind, body) in [
            (0x0002, &b"BusHistory\0"[..]),
            (0x0002, b"BusHistory\x005"),
            (0x0002, b"a\0b\0c\0"),
            (0x0002, b""),
            (0x0003, b"BusHistory"),
            (0x0003, b"a\0b\0"),
            (0x0005, b"\0"),
            (0xF000, b"a"),
            (0xF001, b"all\0"),
            (0xF001, b"all\0\0"),
            (0xF001, b"all\0a\nb\0"),
            (0xF003, b"x"),
        ] {
            let frame = Frame { kind, body };
            let request = verb(Version::Tc, frame).and_then(|verb| parse(Version::Tc, verb, frame));
            let refusal = request.unwrap_err();
            assert_eq!(tc::error_code(&refusal), 0x0000, "{kind:04x} {body:?}");
        }
    }

    #[test]
    fn a_list_is_joined_by_newline() {
        let reply = Reply::Conf(vec![
            ("BusSocket".into(), Some(b"/a".to_vec())),
            ("BusSocket".into(), Some(b"/b".to_vec())),
        ]);
        assert_eq!(
            octets(|out| encode_reply(Version::Tc, &reply, out)),
            b"\0\x10\0\x04BusSocket\0/a\n/b\0"
        );
    }

    #[test]
    fn counters_saturate() {
        let event = Event::Bandwidth {
            read: 1 << 40,
            written: 2,
        };
        assert_eq!(
            octets(|out| encode_event(Version::Tc, &event, out)),
            b"\0\x0a\0\x06\0\x04\xff\xff\xff\xff\0\0\0\x02"
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_and_still_ends_with_nul() {
        let long = octets(|out| encode_event(Version::Tc, &Event::Message(message(1, 65536)), out));
        let frame = next(&long).unwrap();
        assert_eq!(frame.length(), long.len());
        assert_eq!(frame.body.len(), MAX_BODY);
        assert_eq!(frame.body.last(), Some(&0));
    }

    #[test]
    fn the_newest_messages_that_fit_are_sent() {
        let messages = [message(1, 30000), message(2, 30000), message(3, 30000)];
        let out = octets(|out| encode_messages(Version::Tc, &messages, out));
        let body = next(&out).unwrap().body;
        assert_eq!(body.len(), size(&messages[1]) + size(&messages[2]));
        assert_eq!(body[..8], 2u64.to_be_bytes());
        let out = octets(|out| encode_messages(Version::Tc, &[], out));
        assert_eq!(out, b"\0\0\xF0\x05");
    }
}
