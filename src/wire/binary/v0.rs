//! The last version of the binary protocol (control-spec-v0): bodies of lines, error codes of its
//! own, and most of what Tor could be asked for in 2005.

use super::{
    Frame, Version, code, empty, event_codes, event_frame, extension_error, string,
    unrecognized_event,
};
use crate::command::Verb;
use crate::wire::event::{Event, EventKind, EventMask, Severity};
use crate::wire::refusal::Refusal;
use crate::wire::reply::{OptionValue, Value};
use crate::wire::request::{Request, Setting, Signal, TorRequest};
use crate::wire::text::{encode_value, write_c_string};
use crate::wire::torrc;

pub(super) fn parse(verb: Verb, frame: Frame<'_>) -> Result<Request<'_>, Refusal> {
    let body = frame.body;
    match verb {
        Verb::SetConf => set_conf(body),
        Verb::GetConf => Ok(Request::GetConf(lines(body).collect())),
        Verb::SetEvents => set_events(body),
        Verb::Authenticate => Ok(Request::Authenticate(body.to_vec())),
        Verb::SaveConf => empty(body, Request::SaveConf { force: false }),
        Verb::Signal => signal(body),
        Verb::MapAddress => map_address(body),
        Verb::GetInfo => Ok(Request::GetInfo(lines(body).collect())),
        Verb::ExtendCircuit => {
            let (circuit, path) = number(body)?;
            let path = text(path)?;
            if path.is_empty() {
                // Today's Tor would choose one itself.
                return Err(Refusal::Malformed("a path is expected"));
            }
            Ok(Request::Tor(TorRequest::ExtendCircuit { circuit, path }))
        }
        Verb::AttachStream => {
            let (stream, rest) = number(body)?;
            let (circuit, rest) = number(rest)?;
            let request = TorRequest::AttachStream { stream, circuit };
            empty(rest, Request::Tor(request))
        }
        Verb::PostDescriptor => {
            text(body).map(|descriptor| Request::Tor(TorRequest::PostDescriptor(descriptor)))
        }
        Verb::RedirectStream => {
            let (stream, address) = number(body)?;
            let address = text(address)?;
            Ok(Request::Tor(TorRequest::RedirectStream { stream, address }))
        }
        Verb::CloseStream => {
            let (stream, rest) = number(body)?;
            // The flags are not used, and not every client sends them.
            let (&reason, _) = rest
                .split_first()
                .filter(|(_, flags)| flags.len() <= 1)
                .ok_or(Refusal::Malformed(
                    "a stream, a reason and flags are expected",
                ))?;
            Ok(Request::Tor(TorRequest::CloseStream { stream, reason }))
        }
        Verb::CloseCircuit => {
            let (circuit, rest) = number(body)?;
            let if_unused = match rest {
                [] => false,
                [flags] => flags & 1 != 0,
                _ => return Err(Refusal::Malformed("a circuit and flags are expected")),
            };
            Ok(Request::Tor(TorRequest::CloseCircuit {
                circuit,
                if_unused,
            }))
        }
        _ => Err(Refusal::UnrecognizedType(frame.kind)),
    }
}

/// The lines of a body. The last needs no end, and a NUL may stand for it.
fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    text_of(body)
        .split(|&octet| octet == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
}

/// A body, or the rest of one, up to the NUL that ends it; some clients leave that away.
fn text_of(body: &[u8]) -> &[u8] {
    body.strip_suffix(b"\0").unwrap_or(body)
}

/// The one string that a body, or the rest of one, is.
fn text(body: &[u8]) -> Result<&[u8], Refusal> {
    let text = text_of(body);
    if memchr::memchr(0, text).is_some() {
        return Err(Refusal::Malformed("something follows the NUL"));
    }
    Ok(text)
}

/// The four octets of an identifier, and what follows.
fn number(body: &[u8]) -> Result<(u32, &[u8]), Refusal> {
    let (octets, rest) = body
        .split_first_chunk()
        .ok_or(Refusal::Malformed("an identifier has four octets"))?;
    Ok((u32::from_be_bytes(*octets), rest))
}

/// Lines as in the option file; without a value, an option goes back to its default.
fn set_conf(body: &[u8]) -> Result<Request<'_>, Refusal> {
    let lines = torrc::parse(text_of(body))
        .map_err(|_| Refusal::Malformed("these are no lines of an option file"))?;
    let settings: Vec<_> = lines
        .into_iter()
        .map(|line| Setting {
            name: line.key,
            value: Some(line.value).filter(|value| !value.is_empty()),
        })
        .collect();
    // Without a value, today's SETCONF makes a number 0, or as little as it can be.
    Ok(if settings.iter().all(|setting| setting.value.is_some()) {
        Request::SetConf(settings)
    } else {
        Request::ResetConf(settings)
    })
}

fn set_events(body: &[u8]) -> Result<Request<'_>, Refusal> {
    let mut mask = EventMask::NONE;
    for code in event_codes(body)? {
        let kind = match code {
            code::CIRCUIT => EventKind::Circ,
            code::STREAM => EventKind::Stream,
            code::OR_CONNECTION => EventKind::OrConn,
            code::BANDWIDTH => EventKind::Bandwidth,
            code::WARNING => {
                mask = mask.union(EventMask::ANY_LOG);
                continue;
            }
            code::NEWDESC => EventKind::NewDesc,
            code::DEBUG => EventKind::Debug,
            code::INFO => EventKind::Info,
            code::NOTICE => EventKind::Notice,
            code::WARN => EventKind::Warn,
            code::ERR => EventKind::Err,
            code::POSTMESSAGE => EventKind::PostMessage,
            unknown => return Err(unrecognized_event(unknown)),
        };
        mask.insert(kind);
    }
    Ok(Request::SetEvents {
        events: mask,
        others: Vec::new(),
    })
}

fn signal(body: &[u8]) -> Result<Request<'_>, Refusal> {
    let &[number] = body else {
        return Err(Refusal::Malformed("a signal has one octet"));
    };
    Ok(Request::Signal(match number {
        1 => Signal::Reload,
        2 => Signal::Shutdown,
        10 => Signal::Dump,
        12 => Signal::Debug,
        15 => Signal::Halt,
        unknown => {
            let name = format!("0x{unknown:02X}");
            return Err(Refusal::UnrecognizedSignal(name.into_bytes()));
        }
    }))
}

fn map_address(body: &[u8]) -> Result<Request<'_>, Refusal> {
    let mappings = lines(body)
        .map(|line| {
            let blank = memchr::memchr(b' ', line);
            let blank = blank.ok_or(Refusal::Malformed("a mapping is two addresses"))?;
            Ok((&line[..blank], line[blank..].trim_ascii()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if mappings.is_empty() {
        return Err(Refusal::Malformed("a mapping is two addresses"));
    }
    Ok(Request::Tor(TorRequest::MapAddress(mappings)))
}

/// The error code of control-spec-v0 3.1, or of the extension range.
pub(super) fn error_code(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::CannotSave(_) | Refusal::Failed(_) => 0x0001,
        Refusal::UnrecognizedCommand(_) | Refusal::UnrecognizedType(_) => 0x0002,
        Refusal::Malformed(_) | Refusal::BadArguments(..) | Refusal::MessageTooLong => 0x0003,
        Refusal::UnknownOption(_)
        | Refusal::UnrecognizedOptions(_)
        | Refusal::UnrecognizedKeys(_) => 0x0004,
        Refusal::InvalidValue(_) | Refusal::Transition(_) => 0x0005,
        Refusal::UnrecognizedEvent(_) | Refusal::UnrecognizedSignal(_) => 0x0006,
        Refusal::AuthenticationRequired | Refusal::Unauthorized(_) => 0x0007,
        Refusal::AuthenticationFailed(_) => 0x0008,
        Refusal::LineTooLong | Refusal::TooManyControllers(_) => 0x0009,
        Refusal::InTorsWords(status, line) => of_tor(*status, line),
        Refusal::OfTor(line) => of_tor(refusal.status(), line.get(4..).unwrap_or_default()),
        other => extension_error(other).unwrap_or(0x0000),
    }
}

/// What Tor's status means here. Where one status means several things, its text tells.
fn of_tor(status: u16, text: &[u8]) -> u16 {
    match status {
        451 => 0x0009,
        510 => 0x0002,
        512 | 554 => 0x0003,
        513 | 553 => 0x0005,
        514 => 0x0007,
        515 => 0x0008,
        551 => 0x0001,
        552 if text.starts_with(b"Unknown stream") => 0x000A,
        552 if text.starts_with(b"Unknown circuit") => 0x000B,
        552 if text.starts_with(b"No such router") => 0x000C,
        552 if text.starts_with(b"Unrecognized event")
            || text.starts_with(b"Unrecognized signal") =>
        {
            0x0006
        }
        552 => 0x0004,
        _ => 0x0000,
    }
}

/// CONFVALUE (control-spec-v0 3.5): `Key Value` lines, as in the option file.
pub(super) fn encode_conf(pairs: &[OptionValue], out: &mut Vec<u8>) {
    for (name, value) in pairs {
        let value = value.as_deref().unwrap_or_default();
        out.extend_from_slice(name.as_bytes());
        out.push(b' ');
        if needs_quotes(value) {
            write_c_string(value, out);
        } else {
            out.extend_from_slice(value);
        }
        out.push(b'\n');
    }
}

/// Whether a line of an option file would say something else, or end, without quotes.
fn needs_quotes(value: &[u8]) -> bool {
    let is_special = |octet: &u8| *octet == b'#' || octet.is_ascii_control();
    value.starts_with(b"\"") || value.iter().any(is_special)
}

/// INFOVALUE (control-spec-v0 3.13): keys and values, each ended by NUL.
pub(super) fn encode_info(pairs: &[(Vec<u8>, Value)], out: &mut Vec<u8>) {
    for (key, value) in pairs {
        string(out, key);
        let value: Vec<_> = encode_value(value)
            .iter()
            .copied()
            .filter(|&octet| octet != b'\r')
            .collect();
        if key == b"version" {
            // It includes the name of the software.
            out.extend_from_slice(b"Tor ");
        }
        string(out, &value);
    }
}

pub(super) const fn log_code(severity: Severity) -> u16 {
    match severity {
        Severity::Debug => code::DEBUG,
        Severity::Info => code::INFO,
        Severity::Notice => code::NOTICE,
        Severity::Warn => code::WARN,
        Severity::Err => code::ERR,
    }
}

/// Appends a notice, warning or error under the one code that was theirs together before each had
/// its own; nothing for any other event.
pub fn encode_any_log(event: &Event, out: &mut Vec<u8>) {
    let text = match event {
        Event::Log { text, .. } => text.as_bytes(),
        Event::OfTor { kind, line, .. } => super::of_tor::arguments(*kind, line),
        _ => return,
    };
    if EventMask::ANY_LOG.kinds().any(|kind| kind == event.kind()) {
        event_frame(Version::V0, out, code::WARNING, |out| string(out, text));
    }
}
