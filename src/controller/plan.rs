//! The plan for a command: who carries it out, decided once, before anybody is asked.

use std::borrow::Cow;

use crate::command::{Owner, Replies, Verb, keys};
use crate::tor::fence::is_fence;
use crate::tor::identifiers::Identifiers;
use crate::tor::merge::{Merge, Query, Share};
use crate::tor::translate::{self, Question};
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;
use crate::wire::request::{Request, RequestOf, Signal};
use crate::wire::text::{Command, words};

/// The most keys of one GETINFO or GETCONF that Tor is asked for. Tor makes the whole reply before
/// it sends any of it, so one command could take all its memory.
pub const MOST_KEYS: usize = 1000;

/// The most keys of one GETINFO or GETCONF that the bus answers alone. Each takes many times its
/// octets while it is looked up.
const MOST_OWN_KEYS: usize = 10_000;

/// The octets of a command that count as one more long reply: Tor quotes what it does not know.
const QUOTED: usize = 1024;

/// The plan for one command.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan<'a> {
    /// The bus carries the request out, behind everything that Tor was asked before.
    Bus(RequestOf<Cow<'a, [u8]>>),
    /// Nobody does.
    Refuse(Refusal),
    /// Nobody needs to: this is the reply.
    Reply(Reply),
    /// Tor gets the command octet for octet.
    Relay {
        /// The number of replies, or parts of one, that may be long.
        weight: usize,
        /// The number of replies.
        replies: Replies,
        /// The command does nothing but ask.
        only_asks: bool,
    },
    /// Tor is asked, and the reply is made from its answer.
    Ask(Box<Query>),
}

/// Work that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// SAVECONF.
    Save {
        /// `SAVECONF FORCE`.
        force: bool,
    },
    /// The option file is read again.
    Reload,
    /// LOADCONF: a text that may be as long as a file.
    Load,
}

impl<'a> Plan<'a> {
    /// The work that the plan is, if it takes long.
    #[must_use]
    pub fn work(&self) -> Option<Work> {
        match self {
            Self::Bus(RequestOf::SaveConf { force }) => Some(Work::Save { force: *force }),
            Self::Bus(RequestOf::Signal(Signal::Reload | Signal::BusReload)) => Some(Work::Reload),
            Self::Bus(RequestOf::LoadConf(_)) => Some(Work::Load),
            Self::Ask(query) => match query.merge {
                Merge::Save { force, .. } => Some(Work::Save { force }),
                Merge::Load(_) => Some(Work::Load),
                _ => None,
            },
            _ => None,
        }
    }

    /// The plan where no Tor stands behind the bus, or where the controller is not logged in.
    #[must_use]
    pub fn for_bus(request: Result<Request<'a>, Refusal>) -> Self {
        match request {
            Ok(Request::GetInfo(keys) | Request::GetConf(keys)) if keys.len() > MOST_OWN_KEYS => {
                Self::Refuse(Refusal::Failed(format!(
                    "Too many keys: {MOST_OWN_KEYS} at a time at most"
                )))
            }
            Ok(request) => Self::Bus(request.map(Cow::Borrowed)),
            Err(refusal) => Self::Refuse(refusal),
        }
    }

    /// The plan for a command of the text protocol where a Tor stands behind the bus.
    #[must_use]
    pub fn for_text(command: &Command<'_>, request: Result<Request<'a>, Refusal>) -> Self {
        let verb = match &request {
            Ok(request) => Some(request.verb()),
            Err(_) => Verb::parse(command.keyword),
        };
        let Some(verb) = verb else {
            if is_fence(command.keyword) {
                return Self::for_bus(request);
            }
            // A newer Tor may know it, and have more than one reply to it.
            return Self::relay(command, &request, Replies::Any, false);
        };
        let share = match (verb.owner(), &request) {
            (Owner::Bus, _) | (Owner::Tor, Err(_)) => Share::Bus,
            // What is wrong with it, Tor says best.
            (Owner::Either, _) | (Owner::Tor, Ok(_)) | (Owner::Both, Err(_)) => Share::Tor,
            (Owner::Both, Ok(request)) => match share(request) {
                Ok(share) => share,
                Err(refusal) => return Self::Refuse(refusal),
            },
        };
        // Tor quotes what it does not know, and has a form for a line end in it that no last line
        // follows.
        let has_line_end = memchr::memchr(b'\r', command.arguments).is_some();
        let replies = if has_line_end {
            Replies::Any
        } else {
            verb.replies()
        };
        match share {
            Share::Bus => Self::for_bus(request),
            Share::Tor => Self::relay(command, &request, replies, verb.only_asks()),
            Share::Both(query) => Self::Ask(Box::new(Query { replies, ..query })),
        }
    }

    /// The plan for a GETINFO whose values are all Tor's; none for any other command. It is that of
    /// [`Self::for_text`], without a parsed request: programs ask such questions again and again, many
    /// at a time.
    #[must_use]
    pub fn for_getinfo(command: &Command<'_>) -> Option<Self> {
        let keyword = Verb::GetInfo.keyword().as_bytes();
        // A NUL ends what Tor sees of the line; with a CR in it Tor's replies cannot be counted.
        if !command.keyword.eq_ignore_ascii_case(keyword)
            || memchr::memchr2(0, b'\r', command.arguments).is_some()
        {
            return None;
        }
        let (mut keys, mut weight) = (0, command.length / QUOTED);
        for key in words(command.arguments) {
            keys += 1;
            if keys > MOST_KEYS {
                return None;
            }
            weight += usize::from(!keys::is_short_of_tor(key)?);
        }
        Some(Self::Relay {
            weight,
            replies: Verb::GetInfo.replies(),
            only_asks: Verb::GetInfo.only_asks(),
        })
    }

    fn relay(
        command: &Command<'_>,
        request: &Result<Request<'_>, Refusal>,
        replies: Replies,
        only_asks: bool,
    ) -> Self {
        let long = match request {
            Ok(Request::GetInfo(keys)) => {
                let is_short = |key: &&&[u8]| keys::is_short_of_tor(key) == Some(true);
                keys.len() - keys.iter().filter(is_short).count()
            }
            Ok(Request::GetConf(names)) => names.len(),
            _ => 1,
        };
        Self::Relay {
            weight: long + command.length / QUOTED,
            replies,
            only_asks,
        }
    }

    /// Whether the command does nothing but ask, so that without its reply it is of no use.
    #[must_use]
    pub fn only_asks(&self) -> bool {
        match self {
            Self::Bus(request) => request.verb().only_asks(),
            Self::Refuse(_) | Self::Reply(_) => true,
            Self::Relay { only_asks, .. } => *only_asks,
            Self::Ask(query) => matches!(query.merge, Merge::Info(_) | Merge::Conf(_)),
        }
    }

    /// The plan for a message of a binary dialect where a Tor stands behind the bus.
    #[must_use]
    pub fn for_frame(request: Result<Request<'a>, Refusal>, identifiers: &Identifiers) -> Self {
        let Ok(asked) = &request else {
            return Self::for_bus(request);
        };
        let Some(question) = Question::of(asked) else {
            return Self::for_bus(request);
        };
        match query(asked, question, identifiers) {
            Ok(Some(query)) => Self::Ask(Box::new(query)),
            Ok(None) => Self::for_bus(request),
            Err(refusal) => Self::Refuse(refusal),
        }
    }

    /// Whether the command is the bus's, whatever Tor is asked.
    #[must_use]
    pub fn is_for_bus_alone(&self) -> bool {
        match self {
            Self::Bus(request) => request.verb().owner() == Owner::Bus,
            Self::Refuse(_) | Self::Reply(_) => true,
            Self::Relay { .. } | Self::Ask(_) => false,
        }
    }

    /// The same plan, which owns its octets.
    #[must_use]
    pub fn into_owned(self) -> Plan<'static> {
        match self {
            Self::Bus(request) => Plan::Bus(request.map(|octets| Cow::Owned(octets.into_owned()))),
            Self::Refuse(refusal) => Plan::Refuse(refusal),
            Self::Reply(reply) => Plan::Reply(reply),
            Self::Relay {
                weight,
                replies,
                only_asks,
            } => Plan::Relay {
                weight,
                replies,
                only_asks,
            },
            Self::Ask(query) => Plan::Ask(query),
        }
    }
}

/// Whose a request is that can be Tor's.
fn share(request: &Request<'_>) -> Result<Share, Refusal> {
    match request {
        Request::GetInfo(keys) | Request::GetConf(keys) if keys.len() > MOST_KEYS => {
            Err(Refusal::Failed(format!(
                "Too many keys: Tor is asked for {MOST_KEYS} at a time at most"
            )))
        }
        request => Ok(Share::of(request)),
    }
}

/// The query that a binary controller's request becomes; none if the bus answers it.
fn query(
    request: &Request<'_>,
    question: Question,
    identifiers: &Identifiers,
) -> Result<Option<Query>, Refusal> {
    translate::check(request)?;
    let keys = match request {
        Request::GetInfo(keys) => translate::modern_keys(keys),
        _ => Vec::new(),
    };
    let modern = match request {
        Request::GetInfo(_) => &Request::GetInfo(keys.iter().map(|key| &key[..]).collect()),
        other => other,
    };
    let mut query = match share(modern)? {
        Share::Bus => return Ok(None),
        Share::Both(query) => query,
        Share::Tor => Query {
            command: translate::command(modern, identifiers)?,
            replies: modern.verb().replies(),
            merge: Merge::Reply,
            question: None,
            is_judged: false,
            is_noted: false,
        },
    };
    query.question = Some(question);
    Ok(Some(query))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::keys::Key;
    use crate::wire::text::{self, Framed, Framer};

    fn plan(line: &[u8]) -> Plan<'_> {
        let Framed::Command(command) = Framer::default().next(line) else {
            panic!("{line:?}")
        };
        let request = text::verb(command.keyword).and_then(|verb| text::parse(verb, &command));
        Plan::for_text(&command, request)
    }

    #[test]
    fn the_bus_keeps_what_is_its_own_and_tor_gets_the_rest() {
        for line in [
            &b"POSTMESSAGE @all x\r\n"[..],
            b"SETEVENTS BW\r\n",
            b"GETINFO new-messages list-controllers\r\n",
            b"GETCONF BusHistory\r\n",
            b"setconf bushistory=4\r\n",
            b"SIGNAL BUSRELOAD\r\n",
            b"QUIT x\r\n",
        ] {
            assert!(matches!(plan(line), Plan::Bus(_)), "{line:?}");
        }
        for line in [
            &b"POSTMESSAGE\r\n"[..],
            b"SETCIRCUITPURPOSE \x0B\r\n",
            b"ONIONBUS_FENCE_X\r\n",
        ] {
            assert!(matches!(plan(line), Plan::Refuse(_)), "{line:?}");
        }
        for line in [
            &b"GETINFO version\r\n"[..],
            b"GETINFO\r\n",
            b"FOO\r\n",
            b"\r\n",
            b"ADD_ONION NEW:BEST\r\n",
            b"SIGNAL HUP\r\n",
            b"SIGNAL\r\n",
            b"TAKEOWNERSHIP\r\n",
            b"SETCONF ContactInfo=\"x\r\n",
            b"SETCIRCUITPURPOSE 1\r\n",
            b"+LOADCONF\r\nContactInfo x\r\n.\r\n",
        ] {
            assert!(matches!(plan(line), Plan::Relay { .. }), "{line:?}");
        }
        for line in [
            &b"GETINFO version info/names\r\n"[..],
            b"GETCONF BusHistory Log\r\n",
            b"SAVECONF\r\n",
        ] {
            assert!(matches!(plan(line), Plan::Ask(_)), "{line:?}");
        }
    }

    #[test]
    fn a_getinfo_of_tors_has_the_plan_that_it_would_have_if_it_were_parsed() {
        let of_key = |key: &Key| (format!("GETINFO {}\r\n", key.name()), !key.concerns_bus());
        let of_keys = |count| format!("GETINFO{}\r\n", " version".repeat(count));
        let mut samples: Vec<_> = Key::ALL.iter().map(of_key).collect();
        samples.extend([
            (of_keys(MOST_KEYS), true),
            (of_keys(MOST_KEYS + 1), false),
            (format!("GETINFO version {}\r\n", "x".repeat(5000)), true),
        ]);
        let others = [
            ("getInfo\t version  uptime ns/all\n", true),
            ("GETINFO\r\n", true),
            ("GETINFO\0x version\r\n", true),
            ("GETINFO dormant address \x0B\r\n", true),
            ("GETINFO List-Controllers\r\n", true),
            ("GETINFO\rversion\r\n", false),
            ("GETINFO \x0Blist-controllers\r\n", false),
            ("GETINFO version info/names\r\n", false),
            ("GETINFO list-controllers\0\r\n", false),
            ("GETINFO version\0 x\r\n", false),
            ("GETINFO a\rb\r\n", false),
            ("GETINFOS version\r\n", false),
            ("+GETINFO version\r\n.\r\n", false),
            ("GETCONF Log\r\n", false),
            (" GETINFO version\r\n", false),
        ];
        samples.extend(others.map(|(line, is_of_tor)| (line.to_owned(), is_of_tor)));
        for (line, is_of_tor) in &samples {
            let Framed::Command(command) = Framer::default().next(line.as_bytes()) else {
                panic!("{line}")
            };
            let found = Plan::for_getinfo(&command);
            assert_eq!(found.is_some(), *is_of_tor, "{line:.40?}");
            if let Some(found) = found {
                assert_eq!(found, plan(line.as_bytes()), "{line:.40?}");
            }
        }
    }

    #[test]
    fn no_command_of_the_bus_falls_through_to_tor() {
        for &verb in Verb::ALL {
            let line = format!("{}\r\n{}", verb.keyword(), ".\r\n");
            let is_bus = matches!(plan(line.as_bytes()), Plan::Bus(_) | Plan::Refuse(_));
            if verb.owner() == Owner::Bus && !verb.keyword().is_empty() {
                assert!(is_bus, "{verb:?}");
            }
        }
    }

    #[test]
    fn only_what_is_known_to_be_short_weighs_nothing() {
        let many = format!("GETINFO{}\r\n", " config-text".repeat(1000));
        let long = format!("FOO {}\r\n", "x".repeat(10_000));
        for (line, expected, counted) in [
            ("GETINFO version uptime\r\n", 0, Replies::One),
            ("GETINFO\r\n", 0, Replies::One),
            ("GETINFO version ns/all\r\n", 1, Replies::One),
            ("GETCONF Log ContactInfo\r\n", 2, Replies::One),
            ("SIGNAL NEWNYM\r\n", 1, Replies::One),
            ("SETCONF Log=x\r\n", 1, Replies::Any),
            // Tor quotes the key in a form that has no last line.
            ("GETINFO a\rb\r\n", 1, Replies::Any),
            ("GETCONF a\rb\r\n", 1, Replies::Any),
            ("FOO\r\n", 1, Replies::Any),
            (&many, 1011, Replies::One),
            (&long, 10, Replies::Any),
        ] {
            let Plan::Relay {
                weight, replies, ..
            } = plan(line.as_bytes())
            else {
                panic!("{line}")
            };
            assert_eq!((weight, replies), (expected, counted), "{line:.40}");
        }
    }

    #[test]
    fn tor_makes_no_reply_to_more_keys_than_it_may() {
        for (keyword, key) in [("GETINFO", "version"), ("GETCONF", "Log")] {
            let line = |count| format!("{keyword}{}\r\n", format!(" {key}").repeat(count));
            let allowed = line(MOST_KEYS);
            assert!(matches!(plan(allowed.as_bytes()), Plan::Relay { .. }));
            let refused = line(MOST_KEYS + 1);
            assert!(matches!(plan(refused.as_bytes()), Plan::Refuse(_)));
        }
    }

    #[test]
    fn a_line_end_in_a_key_is_fenced_where_the_bus_has_a_part_too() {
        for (line, expected) in [
            (&b"GETINFO info/names a\rb\r\n"[..], Replies::Any),
            (b"GETCONF BusHistory a\rb\r\n", Replies::Any),
            (b"GETINFO info/names version\r\n", Replies::One),
        ] {
            let Plan::Ask(query) = plan(line) else {
                panic!("{line:?}")
            };
            assert_eq!(query.replies, expected, "{line:?}");
        }
    }
}
