//! The TC draft of 2004: bodies of strings that end with NUL, and its own error codes.

use super::{Frame, code, event_codes, extension_error, string, strings, unrecognized_event};
use crate::command::Verb;
use crate::wire::event::{EventKind, EventMask, Severity};
use crate::wire::refusal::Refusal;
use crate::wire::reply::OptionValue;
use crate::wire::request::{Request, Setting};

pub(super) fn parse(verb: Verb, frame: Frame<'_>) -> Result<Request<'_>, Refusal> {
    match verb {
        Verb::SetConf => {
            let [name, value] = strings(frame.body)?;
            let value = Some(value.to_vec()).filter(|value| !value.is_empty());
            let back_to_default = value.is_none();
            let name = name.to_vec();
            let settings = vec![Setting { name, value }];
            // Today's SETCONF of an empty value makes a number 0, or as little as it can be.
            Ok(if back_to_default {
                Request::ResetConf(settings)
            } else {
                Request::SetConf(settings)
            })
        }
        Verb::GetConf => strings(frame.body).map(|[name]| Request::GetConf(vec![name])),
        Verb::SetEvents => set_events(frame.body),
        Verb::Authenticate => Ok(Request::Authenticate(frame.body.to_vec())),
        _ => Err(Refusal::UnrecognizedType(frame.kind)),
    }
}

fn set_events(body: &[u8]) -> Result<Request<'_>, Refusal> {
    let mut mask = EventMask::NONE;
    for code in event_codes(body)? {
        let kinds: &[EventKind] = match code {
            code::CIRCUIT => &[EventKind::Circ],
            code::STREAM => &[EventKind::Stream],
            code::OR_CONNECTION => &[EventKind::OrConn],
            code::BANDWIDTH => &[EventKind::Bandwidth],
            code::WARNING => &[EventKind::Warn, EventKind::Err],
            code::POSTMESSAGE => &[EventKind::PostMessage],
            unknown => return Err(unrecognized_event(unknown)),
        };
        for &kind in kinds {
            mask.insert(kind);
        }
    }
    Ok(Request::SetEvents {
        events: mask,
        others: Vec::new(),
    })
}

/// The error code of TC draft 3.1, or of the extension range.
pub(super) fn error_code(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::UnrecognizedCommand(_) | Refusal::UnrecognizedType(_) => 0x0001,
        Refusal::UnknownOption(_) | Refusal::UnrecognizedOptions(_) => 0x0002,
        Refusal::InvalidValue(_) => 0x0003,
        Refusal::UnrecognizedEvent(_) => 0x0004,
        Refusal::AuthenticationRequired | Refusal::Unauthorized(_) => 0x0005,
        Refusal::AuthenticationFailed(_) => 0x0006,
        Refusal::OfTor(_) if refusal.is_unrecognized_event() => 0x0004,
        Refusal::OfTor(_) | Refusal::InTorsWords(..) => match refusal.status() {
            552 => 0x0002,
            513 => 0x0003,
            _ => 0x0000,
        },
        other => extension_error(other).unwrap_or(0x0000),
    }
}

/// CONFVALUE (TC draft 3.5): several values are one, joined by newline.
pub(super) fn encode_conf(pairs: &[OptionValue], out: &mut Vec<u8>) {
    let name = pairs.first().map_or("", |(name, _)| name);
    string(out, name.as_bytes());
    let values: Vec<_> = pairs
        .iter()
        .filter_map(|(_, value)| value.as_deref())
        .collect();
    string(out, &values.join(&b'\n'));
}

/// The draft has one code for warnings and errors, and none for less.
pub(super) const fn log_code(severity: Severity) -> Option<u16> {
    match severity {
        Severity::Warn | Severity::Err => Some(code::WARNING),
        Severity::Debug | Severity::Info | Severity::Notice => None,
    }
}
