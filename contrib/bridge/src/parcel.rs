//! Parcels: messages of a bus as they lie in the stream.
//!
//! The subject says from which host and to whom, because NATS guards subjects: a host that may
//! publish only below its own name cannot speak for another. The text is the payload, octet by
//! octet; headers say the rest.

use onionbus::wire::ControllerId;
use thiserror::Error;

use crate::names::{self, Group, Host};

/// The header with the name of the sender; missing if it had none.
pub const SOURCE: &str = "Onionbus-Source";

/// The header by which NATS knows a message that it has already.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";

/// The most octets that a subject and the headers take beside the text.
pub const OVERHEAD: usize = 512;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Everybody in the group.
    All,
    /// The controller of this name on this host.
    One(Host, ControllerId),
}

/// A number that a bus chose at its start: `MessageID`s are compared within one run only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run(String);

/// A message on its way between two buses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// The host of its sender.
    pub from: Host,
    /// The name of its sender there; `None` is `unset`.
    pub source: Option<ControllerId>,
    /// The run of that bus.
    pub run: Run,
    /// Its `MessageID` there.
    pub id: u64,
    /// Whom it is for.
    pub to: Target,
    /// Its text.
    pub text: Vec<u8>,
}

/// What lies in the stream and is no message that a bridge would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// The subject.
    #[error("its subject is none of a message")]
    Subject,
    /// The header with the identifier.
    #[error("its {MESSAGE_ID} is not that of a message of its host")]
    MessageId,
    /// The header with the source.
    #[error("its {SOURCE} cannot be the name of a controller there")]
    Source,
    /// The payload.
    #[error("its text has NUL, CR or LF in it, or nothing")]
    Text,
}

impl Run {
    /// The first number of `GETINFO bus/chain`.
    #[must_use]
    pub fn parse(digits: &str) -> Option<Self> {
        let fine = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        fine.then(|| Self(digits.into()))
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Target {
    /// The subject of messages to it, from a host of a group.
    #[must_use]
    pub fn subject(&self, group: &Group, from: &Host) -> String {
        match self {
            Self::All => format!("onionbus.{group}.{from}.all"),
            Self::One(host, name) => format!("onionbus.{group}.{from}.to.{host}.{name}"),
        }
    }

    /// How it is written in the state: `all`, or host and name with a dot between.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::All => "all".into(),
            Self::One(host, name) => format!("{host}.{name}"),
        }
    }

    /// What [`key`](Self::key) has written.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        if key == "all" {
            return Some(Self::All);
        }
        let (host, name) = key.split_once('.')?;
        Some(Self::One(
            host.parse().ok()?,
            ControllerId::parse(name.as_bytes())?,
        ))
    }
}

impl Parcel {
    /// By what NATS, and a bridge that has been away, know it: host, run and `MessageID`.
    #[must_use]
    pub fn message_id(&self) -> String {
        message_id(&self.from, &self.run, self.id)
    }

    /// Reads what lies in the stream. Whatever is not as a bridge writes it is refused: a line end
    /// in a text would be a command to the bus.
    pub fn decode(
        group: &Group,
        subject: &str,
        message_id: Option<&str>,
        source: Option<&str>,
        text: &[u8],
    ) -> Result<Self, Malformed> {
        let (from, to) = read_subject(group, subject).ok_or(Malformed::Subject)?;
        let (host, run, id) = message_id
            .and_then(read_message_id)
            .ok_or(Malformed::MessageId)?;
        if host != from {
            return Err(Malformed::MessageId);
        }
        let source = match source {
            None => None,
            Some(name) => {
                let name = ControllerId::parse(name.as_bytes()).filter(names::is_shared);
                Some(name.ok_or(Malformed::Source)?)
            }
        };
        if text.is_empty() || text.iter().any(|octet| b"\0\r\n".contains(octet)) {
            return Err(Malformed::Text);
        }
        let text = text.to_vec();
        Ok(Self {
            from,
            source,
            run,
            id,
            to,
            text,
        })
    }

    /// Its sender, as a target: `unset` if it had no name.
    #[must_use]
    pub fn source_target(&self) -> Target {
        let unset = || ControllerId::parse(b"unset");
        let source = self.source.clone().or_else(unset);
        source.map_or(Target::All, |name| Target::One(self.from.clone(), name))
    }

    /// The name that it is posted under on another bus; `None` if it would be too long.
    #[must_use]
    pub fn local_source(&self) -> Option<ControllerId> {
        let source = self.source.as_ref().map_or("unset", ControllerId::as_str);
        names::local_name(source, &self.from)
    }
}

fn read_subject(group: &Group, subject: &str) -> Option<(Host, Target)> {
    let mut parts = subject.split('.');
    let group = group.to_string();
    if parts.next() != Some("onionbus") || parts.next() != Some(&group[..]) {
        return None;
    }
    let from = parts.next()?.parse().ok()?;
    let to = match parts.next()? {
        "all" => Target::All,
        "to" => {
            let host = parts.next()?.parse().ok()?;
            let name = ControllerId::parse(parts.next()?.as_bytes())?;
            // To `unset` it is for whoever had no name: the bus will say that there is none.
            let is_possible = names::is_shared(&name) || name.as_str() == "unset";
            Target::One(host, is_possible.then_some(name)?)
        }
        _ => return None,
    };
    parts.next().is_none().then_some((from, to))
}

/// By what a message of this host is known.
#[must_use]
pub fn message_id(from: &Host, run: &Run, id: u64) -> String {
    format!("{from}.{}.{id}", run.as_str())
}

/// Reads what [`message_id`] writes.
#[must_use]
pub fn read_message_id(text: &str) -> Option<(Host, Run, u64)> {
    let mut parts = text.split('.');
    let host = parts.next()?.parse().ok()?;
    let run = Run::parse(parts.next()?)?;
    let id = parts.next()?.parse().ok()?;
    parts.next().is_none().then_some((host, run, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        "relays".parse().unwrap()
    }

    fn parcel(to: Target) -> Parcel {
        Parcel {
            from: "one".parse().unwrap(),
            source: ControllerId::parse(b"alice"),
            run: Run::parse("8A7B4C2E11D09F5A").unwrap(),
            id: 4711,
            to,
            text: b" \xFF\x01 8 bits ".to_vec(),
        }
    }

    fn decoded(parcel: &Parcel) -> Result<Parcel, Malformed> {
        Parcel::decode(
            &group(),
            &parcel.to.subject(&group(), &parcel.from),
            Some(&parcel.message_id()),
            parcel.source.as_ref().map(ControllerId::as_str),
            &parcel.text,
        )
    }

    #[test]
    fn what_one_bridge_writes_another_reads() {
        let bob = ControllerId::parse(b"bob").unwrap();
        for to in [Target::All, Target::One("two".parse().unwrap(), bob)] {
            assert_eq!(Target::of_key(&to.key()), Some(to.clone()));
            let mut parcel = parcel(to);
            assert_eq!(decoded(&parcel), Ok(parcel.clone()));
            assert_eq!(parcel.local_source().unwrap().as_str(), "alice_at_one");
            parcel.source = None;
            assert_eq!(decoded(&parcel), Ok(parcel.clone()));
            assert_eq!(parcel.local_source().unwrap().as_str(), "unset_at_one");
        }
    }

    #[test]
    fn whatever_else_lies_in_the_stream_is_refused() {
        let all = "onionbus.relays.one.all";
        let id = Some("one.8A7B4C2E11D09F5A.1");
        let decode = |subject, id, source, text: &[u8]| {
            Parcel::decode(&group(), subject, id, source, text).unwrap_err()
        };
        for subject in [
            "",
            "onionbus",
            "onionbus.relays.one",
            "onionbus.others.one.all",
            "onionbus.relays.o_n_e.all",
            "onionbus.relays.one.all.more",
            "onionbus.relays.one.any",
            "onionbus.relays.one.to.two",
            "onionbus.relays.one.to.two.all",
            "onionbus.relays.one.to.two.bob_at_three",
            "onionbus.relays.one.to.two.bob.more",
        ] {
            assert_eq!(
                decode(subject, id, None, b"x"),
                Malformed::Subject,
                "{subject}"
            );
        }
        for id in [
            None,
            Some(""),
            Some("one.8A7B4C2E11D09F5A"),
            Some("one.8A7B4C2E11D09F5A.x"),
            Some("one.8A7B.1"),
            Some("two.8A7B4C2E11D09F5A.1"),
        ] {
            assert_eq!(decode(all, id, None, b"x"), Malformed::MessageId, "{id:?}");
        }
        for source in ["", "a b", "all", "unset", "x_at_y", "a\r\nQUIT"] {
            assert_eq!(
                decode(all, id, Some(source), b"x"),
                Malformed::Source,
                "{source}"
            );
        }
        for text in [&b""[..], b"a\r\nSIGNAL HALT", b"\n", b"a\0b"] {
            assert_eq!(decode(all, id, None, text), Malformed::Text, "{text:?}");
        }
    }
}
