//! Commands that concern both Tor and the bus: what Tor is asked, and the reply made from its answer
//! and the bus's own.

use super::translate::Question;
use crate::account::PIECE;
use crate::command::keys::Key;
use crate::command::{Replies, Verb, is_own_option, keys};
use crate::wire::refusal::Refusal;
use crate::wire::reply::{OptionValue, Reply, Value};
use crate::wire::request::{Request, Setting, Signal};
use crate::wire::text::{encode_reply, parts, write_c_string};

/// The party that answers a request, by the keys and options that the request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Share {
    /// The bus.
    Bus,
    /// Tor.
    Tor,
    /// Tor answers the query, and the bus adds to it.
    Both(Query),
}

/// A question to Tor, whose answer is not the reply yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The command for Tor.
    pub command: Vec<u8>,
    /// The number of replies to the command.
    pub replies: Replies,
    /// The way from Tor's answer to the reply.
    pub merge: Merge,
    /// The message of a binary dialect that the reply answers, if one did ask.
    pub question: Option<Question>,
    /// Something follows the answer that a policy asks for.
    pub is_judged: bool,
    /// Something follows the answer that is kept for the next Tor.
    pub is_noted: bool,
}

/// The way from Tor's answer to the reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Values of these keys, in this order.
    Info(Vec<Vec<u8>>),
    /// Values of these options, in this order.
    Conf(Vec<Vec<u8>>),
    /// The bus's own options change too, if Tor has agreed.
    Set(Vec<Setting>),
    /// The bus's own lines of a configuration come into force too, if Tor has agreed.
    Load(Vec<u8>),
    /// The bus's own options are saved too.
    Save {
        /// `SAVECONF FORCE`.
        force: bool,
        /// The reason why they could not be.
        failed: Option<Refusal>,
    },
    /// The answer is the reply.
    Reply,
}

impl Query {
    /// The octets of memory that it takes.
    #[must_use]
    pub fn held(&self) -> usize {
        let merge = match &self.merge {
            Merge::Info(words) | Merge::Conf(words) => held_by(words),
            Merge::Set(settings) => settings
                .iter()
                .map(|Setting { name, value }| {
                    let value = value.as_ref().map_or(0, Vec::capacity);
                    name.capacity() + value + size_of::<Setting>() + 2 * PIECE
                })
                .sum(),
            Merge::Load(text) => text.capacity(),
            Merge::Save { .. } | Merge::Reply => 0,
        };
        let question = self.question.as_ref().map_or(0, Question::held);
        size_of::<Self>() + PIECE + self.command.capacity() + merge + question
    }

    /// Whether the bus adds no more than words and lines that never change, so that neither what
    /// came before nor what follows needs to wait.
    #[must_use]
    pub fn only_adds(&self) -> bool {
        matches!(&self.merge, Merge::Info(keys) if !keys.iter().any(|key| keys::is_own(key)))
    }

    /// The number of replies, or parts of one, that may be long.
    #[must_use]
    pub fn weight(&self) -> usize {
        let keys = match &self.merge {
            Merge::Info(keys) => keys.len(),
            Merge::Conf(names) => names.len(),
            _ => 1,
        };
        keys + self.command.len() / 1024
    }
}

impl Share {
    /// Says whose a request is.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let both = |command, merge| {
            Self::Both(Query {
                command,
                replies: request.verb().replies(),
                merge,
                question: None,
                is_judged: false,
                is_noted: false,
            })
        };
        match request {
            Request::GetInfo(keys) => {
                let special = |name: &[u8]| Key::parse(name).is_some_and(Key::concerns_bus);
                if !keys.iter().any(|name| special(name)) {
                    return Self::Tor;
                }
                let of_tor: Vec<_> = keys
                    .iter()
                    .filter(|key| !keys::is_own(key))
                    .copied()
                    .collect();
                if of_tor.is_empty() {
                    return Self::Bus;
                }
                both(line(Verb::GetInfo, &of_tor), Merge::Info(owned(keys)))
            }
            Request::GetConf(names) => {
                let (own, of_tor): (Vec<_>, Vec<_>) =
                    names.iter().copied().partition(|name| is_own_option(name));
                match (own.is_empty(), of_tor.is_empty()) {
                    (true, _) => Self::Tor,
                    (false, true) => Self::Bus,
                    (false, false) => both(line(Verb::GetConf, &of_tor), Merge::Conf(owned(names))),
                }
            }
            Request::SetConf(settings) | Request::ResetConf(settings) => {
                let (own, of_tor): (Vec<_>, Vec<_>) = settings
                    .iter()
                    .cloned()
                    .partition(|setting| is_own_option(&setting.name));
                match (own.is_empty(), of_tor.is_empty()) {
                    (true, _) => Self::Tor,
                    (false, true) => Self::Bus,
                    (false, false) => both(assignments(request.verb(), &of_tor), Merge::Set(own)),
                }
            }
            Request::LoadConf(text) => {
                let (own, of_tor) = split(text);
                if own.is_empty() {
                    return Self::Tor;
                }
                if !has_options(&of_tor) {
                    return Self::Bus;
                }
                let mut command = b"+LOADCONF\r\n".to_vec();
                for text in of_tor.split_inclusive(|&octet| octet == b'\n') {
                    if text.starts_with(b".") {
                        command.push(b'.');
                    }
                    command.extend_from_slice(text);
                }
                command.extend_from_slice(b".\r\n");
                both(command, Merge::Load(own))
            }
            Request::SaveConf { force } => {
                let words: &[&[u8]] = if *force { &[b"FORCE"] } else { &[] };
                both(
                    line(Verb::SaveConf, words),
                    Merge::Save {
                        force: *force,
                        failed: None,
                    },
                )
            }
            Request::Signal(Signal::BusReload | Signal::BusShutdown) => Self::Bus,
            _ => Self::Tor,
        }
    }
}

/// SETCONF or RESETCONF of these options.
#[must_use]
pub fn assignments(verb: Verb, settings: &[Setting]) -> Vec<u8> {
    let mut command = verb.keyword().as_bytes().to_vec();
    for Setting { name, value } in settings {
        command.push(b' ');
        command.extend_from_slice(name);
        if let Some(value) = value {
            command.push(b'=');
            write_c_string(value, &mut command);
        }
    }
    command.extend_from_slice(b"\r\n");
    command
}

/// A command of these words.
#[must_use]
pub fn line(verb: Verb, words: &[&[u8]]) -> Vec<u8> {
    let mut line = verb.keyword().as_bytes().to_vec();
    for word in words {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// The octets of memory that words take.
pub(super) fn held_by(words: &[Vec<u8>]) -> usize {
    let each = |word: &Vec<u8>| word.capacity() + size_of::<Vec<u8>>() + PIECE;
    words.iter().map(each).sum()
}

fn owned(words: &[&[u8]]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_vec()).collect()
}

/// The bus's own lines of a configuration, and the others. A line that ends with a backslash goes
/// on in the next.
fn split(text: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut own, mut others) = (Vec::new(), Vec::new());
    let (mut goes_on, mut ours) = (false, false);
    for line in text.split_inclusive(|&octet| octet == b'\n') {
        let words = line.trim_ascii();
        if !goes_on {
            let name = words.split(u8::is_ascii_whitespace).next();
            ours = is_own_option(name.unwrap_or_default());
        }
        goes_on = words.ends_with(b"\\");
        if ours { &mut own } else { &mut others }.extend_from_slice(line);
    }
    (own, others)
}

/// Whether a configuration sets anything: Tor would take one that does not for the wish to have
/// every option at its default.
fn has_options(text: &[u8]) -> bool {
    text.split(|&octet| octet == b'\n')
        .map(<[u8]>::trim_ascii)
        .any(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// Whether Tor has agreed: the last line of an answer says so, and so does the first. A refusal
/// that quotes line ends has any line for its last.
#[must_use]
pub fn has_agreed(answer: &[u8]) -> bool {
    let answer = answer.strip_suffix(b"\r\n").unwrap_or(answer);
    let start = memchr::memrchr(b'\n', answer).map_or(0, |found| found + 1);
    let last = answer.get(start..).unwrap_or_default();
    answer.starts_with(b"250") && last.starts_with(b"250")
}

/// The reply to a GETINFO of `keys` that Tor has answered its part of; none of more than `most`
/// octets. `own` gives the bus's value of a key, or what it puts behind Tor's.
pub fn info(
    keys: &[Vec<u8>],
    answer: &[u8],
    most: usize,
    mut own: impl FnMut(Key) -> Value,
) -> Option<Vec<u8>> {
    let mut of_tor = parts(answer).into_iter();
    let mut made = Vec::new();
    for name in keys {
        match Key::parse(name) {
            Some(key) if keys::is_own(name) => {
                let mut one = Vec::new();
                encode_reply(&Reply::Info(vec![(name.clone(), own(key))]), &mut one);
                made.extend_from_slice(one.strip_suffix(b"250 OK\r\n").unwrap_or(&one));
            }
            Some(key) if keys::is_shared(name) => {
                if let (Some(part), Value::Octets(own)) = (of_tor.next(), own(key)) {
                    unite(part, &own, &mut made);
                }
            }
            _ => made.extend_from_slice(of_tor.next().unwrap_or_default()),
        }
        if made.len() > most {
            return None;
        }
    }
    made.extend_from_slice(b"250 OK\r\n");
    Some(made)
}

/// Appends Tor's part for a key, with the bus's own words or lines behind it.
fn unite(part: &[u8], own: &[u8], out: &mut Vec<u8>) {
    if let Some(data) = part.strip_suffix(b".\r\n") {
        out.extend_from_slice(data);
        for line in own
            .split(|&octet| octet == b'\n')
            .filter(|line| !line.is_empty())
        {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    } else {
        out.extend_from_slice(part.strip_suffix(b"\r\n").unwrap_or(part));
        for octets in [b" ", own, b"\r\n"] {
            out.extend_from_slice(octets);
        }
    }
}

/// The reply to a GETCONF of `names` that Tor has answered its part of. `own` gives the values of
/// the bus's own option of a name, if there is one.
pub fn conf(
    names: &[Vec<u8>],
    answer: &[u8],
    own: impl Fn(&[u8]) -> Option<Vec<OptionValue>>,
) -> Result<Vec<u8>, Refusal> {
    let unknown_here = |name: &Vec<u8>| is_own_option(name) && own(name).is_none();
    let agreed = has_agreed(answer);
    if !agreed || names.iter().any(unknown_here) {
        // Tor quotes each name that it does not know.
        let quoted_by_tor = |name: &Vec<u8>| {
            let quoted = [b"\"", &name[..], b"\""].concat();
            !agreed && memchr::memmem::find(answer, &quoted).is_some()
        };
        let unknown: Vec<_> = names
            .iter()
            .filter(|name| unknown_here(name) || quoted_by_tor(name))
            .cloned()
            .collect();
        return if unknown.is_empty() {
            Ok(answer.to_vec())
        } else {
            Err(Refusal::UnrecognizedOptions(unknown))
        };
    }
    let lines = conf_lines(names, answer, |name| own(name).unwrap_or_default());
    let last = lines.len().saturating_sub(1);
    let mut made = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        made.extend_from_slice(if index == last { b"250 " } else { b"250-" });
        made.extend_from_slice(line);
        made.extend_from_slice(b"\r\n");
    }
    Ok(made)
}

/// The values of `names` in their order, from Tor's answer and the bus.
fn conf_lines(
    names: &[Vec<u8>],
    reply: &[u8],
    mut own: impl FnMut(&[u8]) -> Vec<OptionValue>,
) -> Vec<Vec<u8>> {
    let of_tor: Vec<_> = names.iter().filter(|name| !is_own_option(name)).collect();
    let mut lines = parts(reply).into_iter().peekable();
    let mut values = Vec::new();
    let mut asked = 0;
    for name in names {
        if is_own_option(name) {
            for (name, value) in own(name) {
                let mut line = name.as_bytes().to_vec();
                if let Some(value) = value {
                    line.push(b'=');
                    line.extend_from_slice(&value);
                }
                values.push(line);
            }
            continue;
        }
        asked += 1;
        let later = &of_tor[asked..];
        // A line belongs to the name asked for now, unless it answers one that is asked later.
        while let Some(line) = lines.next_if(|line| {
            let key = key(line);
            key.eq_ignore_ascii_case(name)
                || !later.iter().any(|name| key.eq_ignore_ascii_case(name))
        }) {
            let line = line.strip_suffix(b"\r\n").unwrap_or(line);
            values.push(line.get(4..).unwrap_or_default().to_vec());
        }
    }
    values
}

/// The key of a line `250-key=value`.
fn key(line: &[u8]) -> &[u8] {
    let rest = line.get(4..).unwrap_or_default();
    let end = rest
        .iter()
        .position(|octet| matches!(octet, b'=' | b'\r' | b'\n'));
    &rest[..end.unwrap_or(rest.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_getinfo_is_taken_apart() {
        let keys: Vec<&[u8]> = vec![b"version", b"new-messages", b"info/names"];
        let Share::Both(query) = Share::of(&Request::GetInfo(keys)) else {
            panic!()
        };
        assert_eq!(query.command, b"GETINFO version info/names\r\n");
        let reply = b"250-version=1\r\n250+info/names=\r\na -- b\r\n..\r\n.\r\n250 OK\r\n";
        let parts = parts(reply);
        assert_eq!(
            parts,
            [
                &b"250-version=1\r\n"[..],
                b"250+info/names=\r\na -- b\r\n..\r\n.\r\n"
            ]
        );
        let united = |part: &[u8], own: &[u8]| {
            let mut out = Vec::new();
            unite(part, own, &mut out);
            out
        };
        assert_eq!(united(parts[0], b"x"), b"250-version=1 x\r\n");
        assert_eq!(
            united(parts[1], b"c -- d\n"),
            b"250+info/names=\r\na -- b\r\n..\r\nc -- d\r\n.\r\n"
        );
    }

    #[test]
    fn a_mixed_setconf_is_taken_apart() {
        let setting = |name: &str, value: Option<&str>| Setting {
            name: name.into(),
            value: value.map(Into::into),
        };
        let settings = vec![
            setting("ContactInfo", Some("a \"b\"")),
            setting("bushistory", Some("5")),
            setting("Log", None),
        ];
        let Share::Both(query) = Share::of(&Request::SetConf(settings)) else {
            panic!()
        };
        assert_eq!(
            query.command,
            b"SETCONF ContactInfo=\"a \\\"b\\\"\" Log\r\n"
        );
        assert_eq!(
            query.merge,
            Merge::Set(vec![setting("bushistory", Some("5"))])
        );
    }

    #[test]
    fn values_come_in_the_asked_order() {
        let names: Vec<Vec<u8>> = ["log", "BusLog", "ContactInfo"].map(Into::into).to_vec();
        let reply = b"250-Log=notice stdout\r\n250-Log=info file x\r\n250 ContactInfo\r\n";
        let values = conf_lines(&names, reply, |_| {
            vec![("BusLog".into(), Some(b"warn".to_vec()))]
        });
        let expected: [&[u8]; 4] = [
            b"Log=notice stdout",
            b"Log=info file x",
            b"BusLog=warn",
            b"ContactInfo",
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn a_configuration_for_the_bus_leaves_tor_alone() {
        for text in [&b"BusHistory 7\n"[..], b"# a comment\n\n  \nBusHistory 7\n"] {
            assert_eq!(Share::of(&Request::LoadConf(text.to_vec())), Share::Bus);
        }
    }

    #[test]
    fn a_configuration_is_split_by_the_names_of_its_options() {
        let text = b"# c\nBusHistory \\\n 5\nORPort 0\n  buslog warn\nContactInfo x\n";
        let (own, others) = split(text);
        assert_eq!(own, b"BusHistory \\\n 5\n  buslog warn\n");
        assert_eq!(others, b"# c\nORPort 0\nContactInfo x\n");
    }
}
