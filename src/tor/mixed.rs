//! Commands that concern both Tor and the bus: what Tor is asked, and what is made of its answer.

use super::route::Route;
use crate::options::is_own;
use crate::wire::reply::OptionValue;
use crate::wire::request::{Request, Setting, Signal};
pub use crate::wire::text::parts;
use crate::wire::text::write_c_string;

/// GETINFO keys that only the bus has.
const OWN_KEYS: [&[u8]; 3] = [b"new-messages", b"recent-messages", b"list-controllers"];

/// GETINFO keys whose value is Tor's with the bus's own behind it.
const UNION_KEYS: [&[u8]; 5] = [
    b"info/names",
    b"events/names",
    b"signal/names",
    b"config/names",
    b"config/defaults",
];

/// Whether only the bus has this key.
#[must_use]
pub fn is_own_key(key: &[u8]) -> bool {
    OWN_KEYS.contains(&key)
}

/// A command that concerns both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mixed {
    /// What Tor is asked.
    pub command: Vec<u8>,
    /// What is made of its answer.
    pub then: Then,
}

/// What is made of Tor's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    /// These keys, in this order.
    Info(Vec<Vec<u8>>),
    /// These options, in this order.
    Conf(Vec<Vec<u8>>),
    /// The bus's own options change too, if Tor has agreed.
    Set(Vec<Setting>),
    /// The bus's own lines of a configuration come into force too, if Tor has agreed.
    Load(Vec<u8>),
    /// It is the reply.
    Reply,
    /// The bus's own options are saved too.
    Save {
        /// `SAVECONF FORCE`.
        force: bool,
    },
}

impl Then {
    /// Whether it takes no more of the bus than words and lines that never change, so that others
    /// like it may be asked before Tor has answered.
    #[must_use]
    pub fn only_adds(&self) -> bool {
        matches!(self, Self::Info(keys) if !keys.iter().any(|key| is_own_key(key)))
    }

    /// How many keys of GETINFO it answers.
    #[must_use]
    pub fn keys(&self) -> usize {
        match self {
            Self::Info(keys) => keys.len(),
            _ => 0,
        }
    }
}

impl Mixed {
    /// Whose a request is, by the keys and options that it names.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Route {
        let both = |command, then| Route::Both(Self { command, then });
        match request {
            Request::GetInfo(keys) => {
                let special = |key: &&[u8]| is_own_key(key) || UNION_KEYS.contains(key);
                if !keys.iter().any(special) {
                    return Route::Tor;
                }
                let of_tor: Vec<_> = keys
                    .iter()
                    .filter(|key| !is_own_key(key))
                    .copied()
                    .collect();
                if of_tor.is_empty() {
                    return Route::Here;
                }
                let command = line("GETINFO", &of_tor);
                both(command, Then::Info(owned(keys)))
            }
            Request::GetConf(names) => {
                let (own, of_tor): (Vec<_>, Vec<_>) =
                    names.iter().copied().partition(|name| is_own(name));
                match (own.is_empty(), of_tor.is_empty()) {
                    (true, _) => Route::Tor,
                    (false, true) => Route::Here,
                    (false, false) => {
                        let command = line("GETCONF", &of_tor);
                        both(command, Then::Conf(owned(names)))
                    }
                }
            }
            Request::SetConf(settings) => Self::set(b"SETCONF", settings),
            Request::ResetConf(settings) => Self::set(b"RESETCONF", settings),
            Request::LoadConf(text) => {
                let (own, of_tor) = split(text);
                if own.is_empty() {
                    return Route::Tor;
                }
                let mut command = b"+LOADCONF\r\n".to_vec();
                for text in of_tor.split_inclusive(|&octet| octet == b'\n') {
                    if text.starts_with(b".") {
                        command.push(b'.');
                    }
                    command.extend_from_slice(text);
                }
                if !has_options(&of_tor) {
                    return Route::Here;
                }
                command.extend_from_slice(b".\r\n");
                both(command, Then::Load(own))
            }
            Request::SaveConf { force } => {
                let command: &[u8] = if *force {
                    b"SAVECONF FORCE\r\n"
                } else {
                    b"SAVECONF\r\n"
                };
                both(command.to_vec(), Then::Save { force: *force })
            }
            Request::Signal(Signal::BusReload | Signal::BusShutdown) => Route::Here,
            _ => Route::Tor,
        }
    }

    fn set(keyword: &[u8], settings: &[Setting]) -> Route {
        let (own, of_tor): (Vec<_>, Vec<_>) = settings
            .iter()
            .cloned()
            .partition(|setting| is_own(&setting.name));
        match (own.is_empty(), of_tor.is_empty()) {
            (true, _) => Route::Tor,
            (false, true) => Route::Here,
            (false, false) => Route::Both(Self {
                command: assignments(keyword, &of_tor),
                then: Then::Set(own),
            }),
        }
    }
}

/// SETCONF or RESETCONF of these options.
#[must_use]
pub fn assignments(keyword: &[u8], settings: &[Setting]) -> Vec<u8> {
    let mut command = keyword.to_vec();
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
pub fn line(keyword: &str, words: &[&[u8]]) -> Vec<u8> {
    let mut line = keyword.as_bytes().to_vec();
    for word in words {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    line.extend_from_slice(b"\r\n");
    line
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
            ours = is_own(name.unwrap_or_default());
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

/// Tor's part for a key, with the bus's own words or lines behind it.
#[must_use]
pub fn united(part: &[u8], own_words: &str, own_lines: &[u8]) -> Vec<u8> {
    if let Some(data) = part.strip_suffix(b".\r\n") {
        let mut part = data.to_vec();
        for line in own_lines
            .split(|&octet| octet == b'\n')
            .filter(|line| !line.is_empty())
        {
            part.extend_from_slice(line);
            part.extend_from_slice(b"\r\n");
        }
        part.extend_from_slice(b".\r\n");
        part
    } else {
        let line = part.strip_suffix(b"\r\n").unwrap_or(part);
        [line, b" ", own_words.as_bytes(), b"\r\n"].concat()
    }
}

/// Tor's answer to GETCONF and the bus's own values, in the order of `names`.
#[must_use]
pub fn conf(
    names: &[Vec<u8>],
    reply: &[u8],
    mut own: impl FnMut(&[u8]) -> Vec<OptionValue>,
) -> Vec<Vec<u8>> {
    let of_tor: Vec<_> = names.iter().filter(|name| !is_own(name)).collect();
    let mut lines = parts(reply).into_iter().peekable();
    let mut values = Vec::new();
    let mut asked = 0;
    for name in names {
        if is_own(name) {
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
        let Route::Both(mixed) = Mixed::of(&Request::GetInfo(keys)) else {
            panic!()
        };
        assert_eq!(mixed.command, b"GETINFO version info/names\r\n");
        let reply = b"250-version=1\r\n250+info/names=\r\na -- b\r\n..\r\n.\r\n250 OK\r\n";
        let parts = parts(reply);
        assert_eq!(
            parts,
            [
                &b"250-version=1\r\n"[..],
                b"250+info/names=\r\na -- b\r\n..\r\n.\r\n"
            ]
        );
        assert_eq!(united(parts[0], "x", b""), b"250-version=1 x\r\n");
        assert_eq!(
            united(parts[1], "", b"c -- d\n"),
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
        let Route::Both(mixed) = Mixed::of(&Request::SetConf(settings)) else {
            panic!()
        };
        assert_eq!(
            mixed.command,
            b"SETCONF ContactInfo=\"a \\\"b\\\"\" Log\r\n"
        );
        assert_eq!(
            mixed.then,
            Then::Set(vec![setting("bushistory", Some("5"))])
        );
    }

    #[test]
    fn values_come_in_the_asked_order() {
        let names: Vec<Vec<u8>> = ["log", "BusLog", "ContactInfo"].map(Into::into).to_vec();
        let reply = b"250-Log=notice stdout\r\n250-Log=info file x\r\n250 ContactInfo\r\n";
        let values = conf(&names, reply, |_| {
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
            assert_eq!(Mixed::of(&Request::LoadConf(text.to_vec())), Route::Here);
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
