//! The binary protocol of the TC draft of 2004, with its extension range for the bus.
//!
//! ```text
//! Length [2 octets; big-endian]  Type [2 octets; big-endian]  Body [Length octets]
//! ```

use std::sync::Arc;

use super::event::{Event, EventKind, EventMask, Severity};
use super::message::{ControllerId, Message, UNSET};
use super::refusal::Refusal;
use super::reply::{Reply, Value};
use super::request::{Request, Setting, Verb};

/// Message types (TC draft 3) and those of the extension range.
pub mod kind {
    #![expect(missing_docs, reason = "the names are the draft's")]
    pub const ERROR: u16 = 0x0000;
    pub const DONE: u16 = 0x0001;
    pub const SETCONF: u16 = 0x0002;
    pub const GETCONF: u16 = 0x0003;
    pub const CONFVALUE: u16 = 0x0004;
    pub const SETEVENTS: u16 = 0x0005;
    pub const EVENT: u16 = 0x0006;
    pub const AUTHENTICATE: u16 = 0x0007;
    pub const CONTROLLERNAME: u16 = 0xF000;
    pub const POSTMESSAGE: u16 = 0xF001;
    pub const RECENTMESSAGES: u16 = 0xF002;
    pub const NEWMESSAGES: u16 = 0xF003;
    pub const LISTCONTROLLERS: u16 = 0xF004;
    pub const MESSAGES: u16 = 0xF005;
    pub const CONTROLLERS: u16 = 0xF006;
}

/// Event codes (TC draft 3.7) and those of the extension range.
pub mod code {
    #![expect(missing_docs, reason = "the names are the draft's")]
    pub const CIRCUIT: u16 = 0x0001;
    pub const STREAM: u16 = 0x0002;
    pub const OR_CONNECTION: u16 = 0x0003;
    pub const BANDWIDTH: u16 = 0x0004;
    pub const WARNING: u16 = 0x0005;
    pub const POSTMESSAGE: u16 = 0xF001;
}

/// The octets of length and type before a body.
const HEADER: usize = 4;

/// The longest body, in octets.
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

/// The verb of a message type. What a server sends is as unknown as what nobody does.
pub fn verb(kind: u16) -> Result<Verb, Refusal> {
    match kind {
        kind::SETCONF => Ok(Verb::SetConf),
        kind::GETCONF => Ok(Verb::GetConf),
        kind::SETEVENTS => Ok(Verb::SetEvents),
        kind::AUTHENTICATE => Ok(Verb::Authenticate),
        kind::CONTROLLERNAME => Ok(Verb::ControllerName),
        kind::POSTMESSAGE => Ok(Verb::PostMessage),
        kind::RECENTMESSAGES | kind::NEWMESSAGES | kind::LISTCONTROLLERS => Ok(Verb::GetInfo),
        unknown => Err(Refusal::UnrecognizedType(unknown)),
    }
}

/// The request that a frame makes.
pub fn parse(frame: Frame<'_>) -> Result<Request<'_>, Refusal> {
    match frame.kind {
        kind::SETCONF => {
            let [name, value] = strings(frame.body)?;
            Ok(Request::SetConf(vec![Setting {
                name: name.to_vec(),
                value: Some(value.to_vec()),
            }]))
        }
        kind::GETCONF => strings(frame.body).map(|[name]| Request::GetConf(vec![name])),
        kind::SETEVENTS => set_events(frame.body),
        kind::AUTHENTICATE => Ok(Request::Authenticate(frame.body.to_vec())),
        kind::CONTROLLERNAME => strings(frame.body).map(|[name]| Request::ControllerName(name)),
        kind::POSTMESSAGE => {
            let [destination, text] = strings(frame.body)?;
            if text.is_empty() {
                return Err(Refusal::Malformed("a message needs a text"));
            }
            if memchr::memchr2(b'\r', b'\n', text).is_some() {
                return Err(Refusal::Malformed("a text cannot contain CR or LF"));
            }
            Ok(Request::PostMessage { destination, text })
        }
        kind::RECENTMESSAGES => empty(frame.body, Request::RecentMessages),
        kind::NEWMESSAGES => empty(frame.body, Request::NewMessages),
        kind::LISTCONTROLLERS => empty(frame.body, Request::ListControllers),
        unknown => Err(Refusal::UnrecognizedType(unknown)),
    }
}

/// Exactly `N` strings, each ended by NUL, and nothing after them.
fn strings<const N: usize>(body: &[u8]) -> Result<[&[u8]; N], Refusal> {
    let body = body
        .strip_suffix(b"\0")
        .ok_or(Refusal::Malformed("a string must end with NUL"))?;
    body.split(|&octet| octet == 0)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| Refusal::Malformed("too few or too many strings"))
}

fn empty<'a>(body: &[u8], request: Request<'a>) -> Result<Request<'a>, Refusal> {
    if body.is_empty() {
        Ok(request)
    } else {
        Err(Refusal::Malformed("the body of this type is empty"))
    }
}

fn set_events(body: &[u8]) -> Result<Request<'_>, Refusal> {
    let (codes, rest) = body.as_chunks();
    if !rest.is_empty() {
        return Err(Refusal::Malformed("event codes have two octets each"));
    }
    let mut mask = EventMask::NONE;
    for &octets in codes {
        let kinds: &[EventKind] = match u16::from_be_bytes(octets) {
            code::CIRCUIT => &[EventKind::Circ],
            code::STREAM => &[EventKind::Stream],
            code::OR_CONNECTION => &[EventKind::OrConn],
            code::BANDWIDTH => &[EventKind::Bandwidth],
            code::WARNING => &[EventKind::Warn, EventKind::Err],
            code::POSTMESSAGE => &[EventKind::PostMessage],
            unknown => {
                let name = format!("0x{unknown:04X}");
                return Err(Refusal::UnrecognizedEvent(name.into_bytes()));
            }
        };
        for &kind in kinds {
            mask.insert(kind);
        }
    }
    Ok(Request::SetEvents(mask))
}

/// Appends a reply.
pub fn encode_reply(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        Reply::Conf(pairs) => frame(out, kind::CONFVALUE, |out| {
            let name = pairs.first().map_or("", |(name, _)| name);
            string(out, name.as_bytes());
            let values: Vec<_> = pairs
                .iter()
                .filter_map(|(_, value)| value.as_deref())
                .collect();
            string(out, &values.join(&b'\n'));
        }),
        Reply::Posted(id) => frame(out, kind::DONE, |out| {
            out.extend_from_slice(&id.to_be_bytes());
        }),
        Reply::Info(pairs) => {
            for (_, value) in pairs {
                match value {
                    Value::Messages(messages) => encode_messages(messages, out),
                    Value::Controllers(names) => frame(out, kind::CONTROLLERS, |out| {
                        for name in names {
                            let name = name.as_ref().map_or(UNSET, ControllerId::as_str);
                            string(out, name.as_bytes());
                        }
                    }),
                    // Nothing in this dialect asks for one.
                    Value::Octets(_) => {}
                }
            }
        }
        Reply::Done | Reply::Closing | Reply::ProtocolInfo { .. } | Reply::Challenge { .. } => {
            frame(out, kind::DONE, |_| ());
        }
    }
}

/// Appends an ERROR: the code, and the text that a person reads.
pub fn encode_refusal(refusal: &Refusal, out: &mut Vec<u8>) {
    frame(out, kind::ERROR, |out| {
        out.extend_from_slice(&refusal.code().to_be_bytes());
        let text = refusal.lines().join(&b'\n');
        out.extend(text.into_iter().filter(|&octet| octet != 0));
    });
}

/// Appends an EVENT, if the draft has a code for it.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Message(message) => event_frame(out, code::POSTMESSAGE, |out| {
            encode_message(message, out);
        }),
        Event::Bandwidth { read, written } => bandwidth(*read, *written, out),
        Event::Log {
            severity: Severity::Warn | Severity::Err,
            text,
        } => event_frame(out, code::WARNING, |out| string(out, text.as_bytes())),
        Event::OfTor(kind, octets) => encode_of_tor(*kind, octets, out),
        Event::Log { .. }
        | Event::Controller { .. }
        | Event::ConfChanged(_)
        | Event::TorReachable(_)
        | Event::Signal(_) => {}
    }
}

/// Translates an event of the Tor behind the bus.
fn encode_of_tor(kind: EventKind, octets: &[u8], out: &mut Vec<u8>) {
    let line = octets.strip_suffix(b"\r\n").unwrap_or(octets);
    let rest = line.get(b"650 ".len() + kind.name().len() + 1..);
    let rest = rest.unwrap_or_default();
    match kind {
        EventKind::Warn | EventKind::Err => {
            event_frame(out, code::WARNING, |out| string(out, rest));
        }
        EventKind::Bandwidth => {
            let mut counts = rest
                .split(|&octet| octet == b' ')
                .filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok());
            if let (Some(read), Some(written)) = (counts.next(), counts.next()) {
                bandwidth(read, written, out);
            }
        }
        _ => {}
    }
}

fn bandwidth(read: u64, written: u64, out: &mut Vec<u8>) {
    event_frame(out, code::BANDWIDTH, |out| {
        for count in [read, written] {
            let saturated = u32::try_from(count).unwrap_or(u32::MAX);
            out.extend_from_slice(&saturated.to_be_bytes());
        }
    });
}

fn event_frame(out: &mut Vec<u8>, code: u16, write: impl FnOnce(&mut Vec<u8>)) {
    frame(out, kind::EVENT, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        write(out);
    });
}

/// MESSAGES (0xF005): each as in the POSTMESSAGE event. The oldest are left out until the rest
/// fits; the newest is always there.
fn encode_messages(messages: &[Arc<Message>], out: &mut Vec<u8>) {
    let mut room = MAX_BODY;
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
    if fitting < messages.len() {
        log::warn!(
            "the oldest {} of {} messages do not fit into a MESSAGES frame and are left out",
            messages.len() - fitting,
            messages.len()
        );
    }
    frame(out, kind::MESSAGES, |out| {
        for message in &messages[messages.len() - fitting..] {
            encode_message(message, out);
        }
    });
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

/// Appends a frame whose body `write` appends. A body that does not fit is cut; what ended with
/// NUL still does.
fn frame(out: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    write(out);
    let body = start + HEADER;
    let length = out.len() - body;
    if length > MAX_BODY {
        log::warn!("a message of type 0x{kind:04X} is cut from {length} to {MAX_BODY} octets");
        let last = out.last().copied();
        out.truncate(body + MAX_BODY);
        if last == Some(0) {
            out[body + MAX_BODY - 1] = 0;
        }
    }
    let length = u16::try_from(out.len() - body).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&length.to_be_bytes());
    out[start + 2..body].copy_from_slice(&kind.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Destination;

    fn octets(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
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
            (kind::SETCONF, &b"BusHistory\0"[..]),
            (kind::SETCONF, b"BusHistory\x005"),
            (kind::SETCONF, b"a\0b\0c\0"),
            (kind::SETCONF, b""),
            (kind::GETCONF, b"BusHistory"),
            (kind::GETCONF, b"a\0b\0"),
            (kind::SETEVENTS, b"\0"),
            (kind::CONTROLLERNAME, b"a"),
            (kind::POSTMESSAGE, b"all\0"),
            (kind::POSTMESSAGE, b"all\0\0"),
            (kind::POSTMESSAGE, b"all\0a\nb\0"),
            (kind::NEWMESSAGES, b"x"),
        ] {
            let refusal = parse(Frame { kind, body }).unwrap_err();
            assert_eq!(refusal.code(), 0x0000, "{kind:04x} {body:?}");
        }
    }

    #[test]
    fn a_list_is_joined_by_newline() {
        let reply = Reply::Conf(vec![
            ("BusSocket", Some(b"/a".to_vec())),
            ("BusSocket", Some(b"/b".to_vec())),
        ]);
        assert_eq!(
            octets(|out| encode_reply(&reply, out)),
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
            octets(|out| encode_event(&event, out)),
            b"\0\x0a\0\x06\0\x04\xff\xff\xff\xff\0\0\0\x02"
        );
    }

    #[test]
    fn what_does_not_fit_is_cut_and_still_ends_with_nul() {
        let long = octets(|out| encode_event(&Event::Message(message(1, 65536)), out));
        let frame = next(&long).unwrap();
        assert_eq!(frame.length(), long.len());
        assert_eq!(frame.body.len(), MAX_BODY);
        assert_eq!(frame.body.last(), Some(&0));
    }

    #[test]
    fn the_newest_messages_that_fit_are_sent() {
        let messages = [message(1, 30000), message(2, 30000), message(3, 30000)];
        let out = octets(|out| encode_messages(&messages, out));
        let body = next(&out).unwrap().body;
        assert_eq!(body.len(), size(&messages[1]) + size(&messages[2]));
        assert_eq!(body[..8], 2u64.to_be_bytes());
        let out = octets(|out| encode_messages(&[], out));
        assert_eq!(out, b"\0\0\xF0\x05");
    }
}
