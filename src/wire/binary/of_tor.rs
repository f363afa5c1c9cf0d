//! Events of the Tor behind the bus, from its text (control-spec 4.1) to EVENT messages.

use super::{Version, code, encode_bandwidth, encode_log, event_frame, string};
use crate::wire::event::{EventKind, Severity};

/// Appends the EVENT for an event as it came, if the dialect has a code for it. `number` is what
/// stands for the circuit's or stream's identifier.
pub(super) fn encode(
    version: Version,
    kind: EventKind,
    number: u32,
    line: &[u8],
    out: &mut Vec<u8>,
) -> usize {
    let arguments = arguments(kind, line);
    let log = match kind {
        EventKind::Debug => Severity::Debug,
        EventKind::Info => Severity::Info,
        EventKind::Notice => Severity::Notice,
        EventKind::Warn => Severity::Warn,
        EventKind::Err => Severity::Err,
        _ => return encode_status(version, kind, number, arguments, out),
    };
    encode_log(version, log, arguments, out)
}

/// What follows `650 KEYWORD ` in the first line of an event. None that a binary dialect has a code
/// for has more lines.
pub(super) fn arguments(kind: EventKind, event: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'\r', b'\n', event).unwrap_or(event.len());
    let line = &event[..end];
    let start = "650 ".len() + kind.name().map_or(0, str::len) + 1;
    line.get(start..).unwrap_or_default()
}

fn encode_status(
    version: Version,
    kind: EventKind,
    number: u32,
    arguments: &[u8],
    out: &mut Vec<u8>,
) -> usize {
    let mut words = arguments.split(|&octet| octet == b' ');
    let mut word = || words.next().unwrap_or_default();
    match kind {
        EventKind::Circ => {
            // CircuitID CircStatus [Path] [KEY=VALUE]...
            let (_, status, path) = (word(), word(), word());
            let path = if is_keyword(path) { b"" } else { path };
            circuit_status(status).map_or(0, |status| {
                identified(version, code::CIRCUIT, status, number, path, out)
            })
        }
        EventKind::Stream => {
            // StreamID StreamStatus CircuitID Target [KEY=VALUE]...
            let (_, status, _, target) = (word(), word(), word(), word());
            stream_status(version, status).map_or(0, |status| {
                identified(version, code::STREAM, status, number, target, out)
            })
        }
        EventKind::OrConn => {
            // Target ORStatus [KEY=VALUE]...
            let (target, status) = (word(), word());
            or_status(status).map_or(0, |status| {
                event_frame(version, out, code::OR_CONNECTION, |out| {
                    out.push(status);
                    string(out, target);
                })
            })
        }
        EventKind::Bandwidth => {
            let mut count = || std::str::from_utf8(word()).ok()?.parse().ok();
            match (count(), count()) {
                (Some(read), Some(written)) => encode_bandwidth(version, read, written, out),
                _ => 0,
            }
        }
        EventKind::NewDesc if version == Version::V0 => {
            event_frame(version, out, code::NEWDESC, |out| {
                let identities: Vec<_> = words.map(identity).collect();
                string(out, &identities.join(&b','));
            })
        }
        _ => 0,
    }
}

fn identified(
    version: Version,
    code: u16,
    status: u8,
    number: u32,
    text: &[u8],
    out: &mut Vec<u8>,
) -> usize {
    event_frame(version, out, code, |out| {
        out.push(status);
        out.extend_from_slice(&number.to_be_bytes());
        string(out, text);
    })
}

/// Whether a word is `KEY=VALUE`. A path can have an `=` too, but begins with `$` then.
fn is_keyword(word: &[u8]) -> bool {
    !word.starts_with(b"$") && memchr::memchr(b'=', word).is_some()
}

/// `$FINGERPRINT~Nickname` as the fingerprint alone (control-spec-v0 2.1).
fn identity(name: &[u8]) -> &[u8] {
    let name = name.strip_prefix(b"$").unwrap_or(name);
    let end = memchr::memchr2(b'~', b'=', name).unwrap_or(name.len());
    &name[..end]
}

fn circuit_status(status: &[u8]) -> Option<u8> {
    match status {
        b"LAUNCHED" => Some(0),
        b"BUILT" => Some(1),
        b"EXTENDED" => Some(2),
        b"FAILED" => Some(3),
        b"CLOSED" => Some(4),
        _ => None,
    }
}

fn stream_status(version: Version, status: &[u8]) -> Option<u8> {
    match (status, version) {
        (b"SENTCONNECT", _) => Some(0),
        (b"SENTRESOLVE", _) => Some(1),
        (b"SUCCEEDED", _) => Some(2),
        (b"FAILED", _) => Some(3),
        (b"CLOSED", _) => Some(4),
        (b"NEW", Version::V0) => Some(5),
        (b"NEWRESOLVE", Version::V0) => Some(6),
        (b"DETACHED", Version::V0) => Some(7),
        _ => None,
    }
}

fn or_status(status: &[u8]) -> Option<u8> {
    match status {
        b"LAUNCHED" => Some(0),
        b"CONNECTED" => Some(1),
        b"FAILED" => Some(2),
        b"CLOSED" => Some(3),
        _ => None,
    }
}
