//! Replies and events to octets (control-spec 2.3 and 4).

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;

use super::data::write_data;
use super::quoted::write_c_string;
use crate::wire::event::{ControllerChange, Event};
use crate::wire::message::{ControllerId, Message, UNSET};
use crate::wire::refusal::Refusal;
use crate::wire::reply::{OptionValue, Reply, Value};

const END: &[u8] = b"\r\n";

/// Appends a reply.
pub fn encode_reply(reply: &Reply, out: &mut Vec<u8>) {
    match reply {
        // What only a binary dialect asks for has no form here.
        Reply::Done
        | Reply::DoneWith(_)
        | Reply::Posted(_)
        | Reply::Messages(_)
        | Reply::Controllers(_) => line(out, "250 ", b"OK"),
        Reply::Closing => line(out, "250 ", b"closing connection"),
        Reply::ProtocolInfo {
            cookie_file,
            password,
            version,
        } => {
            line(out, "250-", b"PROTOCOLINFO 1");
            out.extend_from_slice(match (cookie_file, password) {
                (None, false) => b"250-AUTH METHODS=NULL",
                (None, true) => b"250-AUTH METHODS=HASHEDPASSWORD",
                (Some(_), false) => b"250-AUTH METHODS=COOKIE,SAFECOOKIE",
                (Some(_), true) => b"250-AUTH METHODS=COOKIE,SAFECOOKIE,HASHEDPASSWORD",
            });
            if let Some(path) = cookie_file {
                out.extend_from_slice(b" COOKIEFILE=");
                write_c_string(path.as_os_str().as_bytes(), out);
            }
            out.extend_from_slice(END);
            line(out, "250-", format!("VERSION Tor=\"{version}\"").as_bytes());
            line(out, "250 ", b"OK");
        }
        Reply::Challenge {
            server_hash,
            server_nonce,
        } => {
            let hash = hex::encode_upper(server_hash);
            let nonce = hex::encode_upper(server_nonce);
            let text = format!("AUTHCHALLENGE SERVERHASH={hash} SERVERNONCE={nonce}");
            line(out, "250 ", text.as_bytes());
        }
        Reply::Info(pairs) => {
            for (key, value) in pairs {
                info(key, value, out);
            }
            line(out, "250 ", b"OK");
        }
        Reply::Conf(pairs) => conf(pairs, out),
    }
}

/// Appends the answer to a request that was refused.
pub fn encode_refusal(refusal: &Refusal, out: &mut Vec<u8>) {
    let status = refusal.status();
    let lines = refusal.lines();
    for (index, text) in lines.iter().enumerate() {
        let separator = if index + 1 < lines.len() { '-' } else { ' ' };
        line(out, &format!("{status}{separator}"), text);
    }
}

/// Appends an event.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Message(message) => encode_message(message, out),
        Event::Controller {
            change,
            session,
            name,
            uid,
            pid,
        } => {
            let (what, old) = match change {
                ControllerChange::Connected => ("CONNECTED", None),
                ControllerChange::Named => ("NAMED", None),
                ControllerChange::Renamed(old) => ("RENAMED", Some(old)),
                ControllerChange::Disconnected => ("DISCONNECTED", None),
            };
            let name = name.as_ref().map_or(UNSET, ControllerId::as_str);
            let old = old.map(|old| format!(" OLD={old}")).unwrap_or_default();
            let text = format!("CONTROLLER {what} {session} {name}{old} UID={uid} PID={pid}");
            line(out, "650 ", text.as_bytes());
        }
        Event::Bandwidth { read, written } => {
            line(out, "650 ", format!("BW {read} {written}").as_bytes());
        }
        Event::Log { severity, text } => {
            let text = format!("{} {text}", severity.name());
            line(out, "650 ", text.as_bytes());
        }
        Event::ConfChanged(changes) => {
            line(out, "650-", b"CONF_CHANGED");
            for (name, value) in changes.iter() {
                setting(out, '-', "650", name, value.as_deref());
            }
            line(out, "650 ", b"OK");
        }
        Event::TorReachable(up) => line(out, "650 ", if *up { b"TOR UP" } else { b"TOR DOWN" }),
        Event::PolicyChanged => line(out, "650 ", b"POLICY CHANGED"),
        Event::Leased(text) => line(out, "650 ", format!("LEASE {text}").as_bytes()),
        Event::Restored(text) => line(out, "650 ", format!("RESTORE {text}").as_bytes()),
        Event::Denied(text) => line(out, "650 ", format!("DENIED {text}").as_bytes()),
        Event::Action(text) => line(out, "650 ", format!("ACTION {text}").as_bytes()),
        Event::OfTor { line, .. } => out.extend_from_slice(line),
        Event::Signal(name) => line(out, "650 ", format!("SIGNAL {name}").as_bytes()),
    }
}

/// Octets that take formatted text.
struct Text<'a>(&'a mut Vec<u8>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// `"650" SP "POSTMESSAGE" SP MessageID SP SourceControllerID SP "@" DestControllerID SP LineItem`
fn encode_message(message: &Message, out: &mut Vec<u8>) {
    out.reserve(message.text.len() + 64);
    // Writing to a vector cannot fail.
    let _ = write!(
        Text(out),
        "650 POSTMESSAGE {} {} @{} ",
        message.id,
        message.source(),
        message.destination()
    );
    out.extend_from_slice(&message.text);
    out.extend_from_slice(END);
}

fn line(out: &mut Vec<u8>, start: &str, text: &[u8]) {
    out.extend_from_slice(start.as_bytes());
    out.extend_from_slice(text);
    out.extend_from_slice(END);
}

fn setting(out: &mut Vec<u8>, separator: char, status: &str, name: &str, value: Option<&[u8]>) {
    out.extend_from_slice(format!("{status}{separator}{name}").as_bytes());
    if let Some(value) = value {
        out.push(b'=');
        if value.iter().any(u8::is_ascii_control) {
            write_c_string(value, out);
        } else {
            out.extend_from_slice(value);
        }
    }
    out.extend_from_slice(END);
}

/// Appends GETCONF's answer: the last pair is the last line, since no `250 OK` follows.
fn conf(pairs: &[OptionValue], out: &mut Vec<u8>) {
    let Some(last) = pairs.len().checked_sub(1) else {
        line(out, "250 ", b"OK");
        return;
    };
    for (index, (name, value)) in pairs.iter().enumerate() {
        let separator = if index == last { ' ' } else { '-' };
        setting(out, separator, "250", name, value.as_deref());
    }
}

/// The octets of a value. Its lines end with CRLF, or with LF where its maker has that.
#[must_use]
pub fn encode_value(value: &Value) -> Cow<'_, [u8]> {
    match value {
        Value::Octets(octets) => octets.into(),
        Value::Controllers(names) => controllers(names).into(),
        Value::Messages(messages) => {
            let mut written = Vec::new();
            for message in messages {
                encode_message(message, &mut written);
            }
            written.into()
        }
    }
}

fn info(key: &[u8], value: &Value, out: &mut Vec<u8>) {
    let octets = encode_value(value);
    let has_lines = octets.iter().any(|octet| matches!(octet, b'\n' | b'\r'));
    out.extend_from_slice(if has_lines { b"250+" } else { b"250-" });
    out.extend_from_slice(key);
    out.push(b'=');
    if has_lines {
        out.extend_from_slice(END);
        write_data(&octets, out);
    } else {
        out.extend_from_slice(&octets);
        out.extend_from_slice(END);
    }
}

fn controllers(names: &[Option<ControllerId>]) -> Vec<u8> {
    let names: Vec<_> = names
        .iter()
        .map(|name| name.as_ref().map_or(UNSET, ControllerId::as_str))
        .collect();
    names.join("\r\n").into_bytes()
}

/// Appends the part of a reply to GETINFO that these lines are, in the form that Tor has for so
/// many.
pub fn write_info(key: &[u8], lines: &[impl AsRef<[u8]>], out: &mut Vec<u8>) {
    match lines {
        [] => out.extend([b"250-", key, b"=\r\n"].concat()),
        [line] => out.extend([b"250-", key, b"=", line.as_ref(), b"\r\n"].concat()),
        lines => {
            out.extend([b"250+", key, b"=\r\n"].concat());
            for line in lines {
                out.extend_from_slice(line.as_ref());
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b".\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::wire::event::Severity;
    use crate::wire::message::Destination;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn message(id: u64, octets: &[u8]) -> Arc<Message> {
        Arc::new(Message {
            id,
            source: ControllerId::parse(b"alice"),
            destination: Destination::All,
            text: octets.into(),
        })
    }

    #[test]
    fn one_message_is_a_data_reply_and_none_is_a_line() {
        let reply =
            |messages| Reply::Info(vec![(b"new-messages".to_vec(), Value::Messages(messages))]);
        assert_eq!(
            text(|out| encode_reply(&reply(vec![message(7, b" hi ")]), out)),
            "250+new-messages=\r\n650 POSTMESSAGE 7 alice @all  hi \r\n.\r\n250 OK\r\n"
        );
        assert_eq!(
            text(|out| encode_reply(&reply(vec![]), out)),
            "250-new-messages=\r\n250 OK\r\n"
        );
    }

    #[test]
    fn data_is_dot_stuffed() {
        let value = Value::Octets(b".a\nb\r\n..".to_vec());
        assert_eq!(
            text(|out| encode_reply(&Reply::Info(vec![(b"k".to_vec(), value)]), out)),
            "250+k=\r\n..a\r\nb\r\n...\r\n.\r\n250 OK\r\n"
        );
    }

    #[test]
    fn no_value_can_break_a_line() {
        let changes = Arc::from([
            ("BusLog".into(), Some(b"a\r\n250 OK".to_vec())),
            ("BusHistory".into(), None),
        ]);
        assert_eq!(
            text(|out| encode_event(&Event::ConfChanged(changes), out)),
            "650-CONF_CHANGED\r\n650-BusLog=\"a\\r\\n250 OK\"\r\n650-BusHistory\r\n650 OK\r\n"
        );
    }

    #[test]
    fn several_bad_keys_are_several_lines() {
        let refusal = Refusal::UnrecognizedKeys(vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(
            text(|out| encode_refusal(&refusal, out)),
            "552-Unrecognized key \"a\"\r\n552 Unrecognized key \"b\"\r\n"
        );
    }

    #[test]
    fn the_daemons_own_events() {
        let renamed = Event::Controller {
            change: ControllerChange::Renamed(ControllerId::parse(b"a").unwrap()),
            session: 3,
            name: ControllerId::parse(b"b"),
            uid: 1000,
            pid: 42,
        };
        assert_eq!(
            text(|out| encode_event(&renamed, out)),
            "650 CONTROLLER RENAMED 3 b OLD=a UID=1000 PID=42\r\n"
        );
        let log = Event::Log {
            severity: Severity::Notice,
            text: "ready".into(),
        };
        assert_eq!(text(|out| encode_event(&log, out)), "650 NOTICE ready\r\n");
    }
}
