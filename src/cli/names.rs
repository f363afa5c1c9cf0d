//! The names that the daemon knows of at this moment, for whoever completes or corrects one.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use onionbus::command::Verb;
use onionbus::options::table::nearest_of;

use super::Stop;
use super::args::Bus;
use super::client::{Client, wording};
use super::reply::{Entry, Message};
use super::terminal;

/// The time for an answer: whoever completes a word waits for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most characters of a name: longer than any, and short enough to be shown.
const LONGEST: usize = 128;

/// A kind of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Commands.
    Commands,
    /// Keys of GETINFO.
    Keys,
    /// Options.
    Options,
    /// Events that SETEVENTS takes.
    Events,
    /// Signals that SIGNAL takes.
    Signals,
    /// Controllers that have a name.
    Controllers,
}

impl Kind {
    /// The key of GETINFO that has the names; none where they are known without.
    const fn key(self) -> Option<&'static str> {
        match self {
            Self::Commands => None,
            Self::Keys => Some("info/names"),
            Self::Options => Some("config/names"),
            Self::Events => Some("events/names"),
            Self::Signals => Some("signal/names"),
            Self::Controllers => Some("list-controllers"),
        }
    }

    /// The names in the value of that key. Whatever others chose reaches no terminal as it is, so
    /// a name is nothing but visible ASCII.
    fn parse(self, value: &[u8]) -> Vec<String> {
        let value = String::from_utf8_lossy(value);
        let names: Vec<_> = match self {
            // Behind each is what it means.
            Self::Keys | Self::Options => value
                .lines()
                .filter_map(|line| line.split_whitespace().next())
                .collect(),
            Self::Commands | Self::Events | Self::Signals => value.split_whitespace().collect(),
            Self::Controllers => value.lines().filter(|name| *name != "unset").collect(),
        };
        let is_fine = |name: &&str| {
            name.len() <= LONGEST && name.bytes().all(|octet| octet.is_ascii_graphic())
        };
        let mut names: Vec<_> = names
            .into_iter()
            .filter(is_fine)
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names, asked for on a connection that is there.
    pub fn ask(self, client: &mut Client) -> anyhow::Result<Vec<String>> {
        let Some(key) = self.key() else {
            return Ok(keywords());
        };
        let reply = client.ask(format!("GETINFO {key}").as_bytes())?;
        let mut names = Vec::new();
        for entry in reply.entries() {
            names.extend(self.parse(entry.value()));
        }
        Ok(names)
    }

    /// The names, asked for on a connection that is made for it; none where anything is wrong, or
    /// takes longer than a person waits.
    pub fn fetch(self, bus: &Bus) -> Vec<String> {
        if self.key().is_none() {
            return keywords();
        }
        // Its name is for the connection that has it already.
        let bus = Bus {
            socket: bus.socket.clone(),
            name: None,
        };
        let ask = move || self.ask(&mut Client::connect(&bus)?);
        let (answer, answers) = bounded(1);
        // Nothing ends a call of the kernel's in time but to wait for it elsewhere.
        thread::spawn(move || {
            // Nobody may wait any longer.
            let _ = answer.send(ask().unwrap_or_default());
        });
        answers.recv_timeout(PATIENCE).unwrap_or_default()
    }
}

fn keywords() -> Vec<String> {
    let keywords = Verb::ALL.iter().map(|verb| verb.keyword());
    let keywords = keywords.filter(|keyword| !keyword.is_empty());
    keywords.map(str::to_owned).collect()
}

/// Sends one line and returns the reply. A refusal is an error, with the names that were meant, if
/// the daemon does not know those in the line.
pub fn ask(client: &mut Client, line: &[u8]) -> anyhow::Result<Message> {
    client.send(&[line, b"\r\n"].concat())?;
    let reply = client.reply()?;
    if reply.is_success() {
        Ok(reply)
    } else {
        Err(refusal(client, &reply))
    }
}

/// The error of a refusal, with the names that were meant, or that a policy may be the reason.
pub fn refusal(client: &mut Client, reply: &Message) -> anyhow::Error {
    let mut text = wording(reply);
    let raw = reply.raw();
    let is_unknown = raw
        .split(|&octet| octet == b'\n')
        .any(|line| unrecognized(line).is_some());
    if let Some(hint) = hint(reply, |kind| kind.ask(client).unwrap_or_default()) {
        text = format!("{text}\n{hint}");
    } else if is_unknown && is_restricted(client) {
        text += "\nIf there is such a thing, the policy of this bus keeps it back: `onionbus info \
                 policy` has all that it allows.";
    }
    Stop::Refused(text).into()
}

/// Whether a policy grants this client less than everything. Without one there is no such key.
fn is_restricted(client: &mut Client) -> bool {
    client.ask(b"GETINFO policy").is_ok_and(|reply| {
        let entries = reply.entries();
        let grants = entries.first().map_or(&b""[..], Entry::value);
        grants.trim_ascii_end() != b"Allow all"
    })
}

/// Says on standard error which names were meant, if `reply` refuses any. `names` gives those that
/// there are.
pub fn tell(reply: &Message, names: impl FnMut(Kind) -> Vec<String>) {
    if let Some(hint) = hint(reply, names) {
        let text = terminal::for_standard_error(&format!("onionbus: {hint}"));
        // Nobody can be told that standard error is gone.
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// The question whether names that are near to the refused ones were meant.
pub fn hint(reply: &Message, mut names: impl FnMut(Kind) -> Vec<String>) -> Option<String> {
    if reply.is_success() {
        return None;
    }
    let raw = reply.raw();
    // One command has names of one kind.
    let mut known = None;
    let mut meant: Vec<String> = Vec::new();
    for line in raw.split(|&octet| octet == b'\n') {
        if let Some((kind, name)) = unrecognized(line)
            && let Some(near) = near(name, known.get_or_insert_with(|| names(kind)))
            && !meant.contains(&near)
        {
            meant.push(near);
        }
    }
    (!meant.is_empty()).then(|| format!("did you mean {}?", meant.join(", ")))
}

/// The name that a line of a refusal says is unknown. Tor and the daemon say so in the same words.
fn unrecognized(line: &[u8]) -> Option<(Kind, &[u8])> {
    let text = line.get(4..)?;
    for (before, kind, after) in [
        ("Unrecognized command \"", Kind::Commands, b'"'),
        ("Unrecognized key \"", Kind::Keys, b'"'),
        ("Unrecognized configuration key \"", Kind::Options, b'"'),
        (
            "Unrecognized option: Unknown option '",
            Kind::Options,
            b'\'',
        ),
        ("Unrecognized event \"", Kind::Events, b'"'),
        ("Unrecognized signal code \"", Kind::Signals, b'"'),
    ] {
        if let Some(name) = text.strip_prefix(before.as_bytes()) {
            let end = name.iter().rposition(|&octet| octet == after)?;
            return Some((kind, name.get(..end)?));
        }
    }
    None
}

/// The known name that is the nearest, unless it is the refused one itself. A known one may end with
/// a star, in whose place anything stands.
fn near(name: &[u8], known: &[String]) -> Option<String> {
    let last = name.iter().rposition(|&octet| octet == b'/');
    let directory = last.and_then(|slash| name.get(..=slash));
    let whole = known.iter().filter(|known| !known.ends_with('*'));
    let open = known.iter().filter_map(|known| known.strip_suffix('*'));
    let whole = nearest_of(name, whole.map(String::as_str));
    let near = whole.or_else(|| nearest_of(directory?, open));
    near.filter(|near| near.as_bytes() != name && Some(near.as_bytes()) != directory)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use onionbus::wire::text::Reader;

    use super::*;

    fn reply(octets: &[u8]) -> Message {
        let mut reader = Reader::new(1000);
        reader.handle_octets(octets);
        let message = reader.poll_message().expect("it is short");
        Message::new(message.expect("it is whole")).expect("a reply")
    }

    fn names(kind: Kind) -> Vec<String> {
        let names: &[&str] = match kind {
            Kind::Commands => &["GETINFO", "GETCONF"],
            Kind::Keys => &["ns/id/*", "ns/name/*", "uptime", "version"],
            Kind::Options => &["BusHistory", "ORPort"],
            Kind::Events => &["BW", "CIRC", "POSTMESSAGE"],
            Kind::Signals => &["NEWNYM"],
            Kind::Controllers => &["alice"],
        };
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_meant_is_near() {
        for (refusal, meant) in [
            ("552 Unrecognized key \"vresion\"", "version"),
            ("552 Unrecognized key \"VERSION\"", "version"),
            ("552 Unrecognized key \"ns/idd/A\"", "ns/id/"),
            (
                "552 Unrecognized configuration key \"busHistry\"",
                "BusHistory",
            ),
            (
                "552 Unrecognized option: Unknown option 'OrPrt'.  Failing.",
                "ORPort",
            ),
            ("552 Unrecognized event \"POSTMESAGE\"", "POSTMESSAGE"),
            ("552 Unrecognized signal code \"NEWNIM\"", "NEWNYM"),
            ("510 Unrecognized command \"GETINFOO\"", "GETINFO"),
            (
                "552-Unrecognized key \"uptme\"\r\n552 Unrecognized key \"versoin\"",
                "uptime, version",
            ),
        ] {
            let hint = hint(&reply(format!("{refusal}\r\n").as_bytes()), names);
            let expected = format!("did you mean {meant}?");
            assert_eq!(hint, Some(expected), "{refusal}");
        }
    }

    #[test]
    fn what_is_not_near_was_not_meant() {
        for answer in [
            "552 Unrecognized key \"\"",
            "552 Unrecognized key \"",
            "552 Unrecognized key \"ns/id/*",
            "552 Unrecognized key \"ns/id/A\"",
            // A policy keeps it from somebody who spells it well.
            "552 Unrecognized key \"version\"",
            "552 Unrecognized event \"XY\"",
            "552 Invalid destination controller name",
            "250 Unrecognized key \"vresion\"",
        ] {
            let hint = hint(&reply(format!("{answer}\r\n").as_bytes()), names);
            assert_eq!(hint, None, "{answer}");
        }
    }

    #[test]
    fn a_name_is_visible() {
        let value = b"version -- The version.\r\n\x1b]0;x\x07 -- no\n\nns/id/* -- x\n";
        assert_eq!(Kind::Keys.parse(value), ["ns/id/*", "version"]);
        assert_eq!(Kind::Events.parse(b"BW CIRC BW"), ["BW", "CIRC"]);
        assert_eq!(Kind::Controllers.parse(b"unset\nalice\n"), ["alice"]);
        assert!(Kind::Signals.parse(&b"x".repeat(LONGEST + 1)).is_empty());
    }
}
