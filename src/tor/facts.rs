//! What is known of a Tor besides its events: its options, its listeners, and whose client keys it
//! may have.

use core::net::SocketAddr;
use std::collections::{BTreeMap, BTreeSet};

use crate::command::Verb;
use crate::wire::fields::Onion;
use crate::wire::text::{parts, read_c_string};

/// The questions, each a command of its own, since an older Tor may not know some of them.
pub const QUESTIONS: &[&str] = &[
    "config/names",
    "net/listeners/control",
    "net/listeners/socks",
    "net/listeners/dns",
    "net/listeners/trans",
    "net/listeners/natd",
    "net/listeners/httptunnel",
    "net/listeners/or",
    "net/listeners/dir",
    "net/listeners/extor",
    "net/listeners/metrics",
];

/// The questions without whose answers nothing is known.
const NEEDED: usize = 2;

/// The options and listeners of a Tor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its options, in lower case.
    pub options: BTreeSet<Vec<u8>>,
    /// The same as Tor spells them, in Tor's order.
    pub names: Vec<Vec<u8>>,
    /// The ports of its control listeners.
    pub control_ports: Vec<u16>,
    /// The paths of its control listeners.
    pub control_paths: Vec<Vec<u8>>,
    /// The ports of its other listeners.
    pub ports: Vec<u16>,
    /// The services for which it has client keys, each with whether the key is permanent; none if
    /// it was not asked, or does not say.
    pub keys: Option<BTreeMap<Onion, bool>>,
    /// Client keys are asked for too.
    about_keys: bool,
    /// The number of questions that are answered.
    answered: usize,
    /// One that is needed has no answer.
    is_incomplete: bool,
}

impl Facts {
    /// Facts of which nothing is known. The answer about client keys has them in it, so that they
    /// are asked for only where they are needed.
    #[must_use]
    pub fn new(about_keys: bool) -> Self {
        Self {
            about_keys,
            ..Self::default()
        }
    }

    /// The commands that ask.
    pub fn ask(&self, out: &mut Vec<u8>) {
        for key in QUESTIONS {
            out.extend_from_slice(format!("GETINFO {key}\r\n").as_bytes());
        }
        if self.about_keys {
            let command = Verb::OnionClientAuthView.keyword();
            out.extend_from_slice(format!("{command}\r\n").as_bytes());
        }
    }

    /// Whether client keys are asked for.
    #[must_use]
    pub const fn is_about_keys(&self) -> bool {
        self.about_keys
    }

    fn is_answered(&self) -> bool {
        self.answered == QUESTIONS.len() + usize::from(self.about_keys)
    }

    /// Takes the answer to the next question. Says whether it is the last.
    pub fn handle_answer(&mut self, answer: &[u8]) -> bool {
        let question = self.answered;
        self.answered += 1;
        if question == QUESTIONS.len() {
            self.keys = answer.starts_with(b"250").then(|| keys(answer));
        } else if answer.starts_with(b"250") {
            for part in parts(answer) {
                match question {
                    0 => self.handle_names(part),
                    _ => self.handle_listeners(part, question == 1),
                }
            }
        } else if question < NEEDED {
            self.is_incomplete = true;
        }
        self.is_answered()
    }

    /// Whether everything that is needed is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_answered() && !self.is_incomplete && !self.options.is_empty()
    }

    fn handle_names(&mut self, part: &[u8]) {
        for line in part.split(|&octet| octet == b'\n').skip(1) {
            let name = line
                .split(u8::is_ascii_whitespace)
                .next()
                .unwrap_or_default();
            if !name.is_empty() && name != b"." {
                self.options.insert(name.to_ascii_lowercase());
                self.names.push(name.to_vec());
            }
        }
    }

    fn handle_listeners(&mut self, part: &[u8], is_control: bool) {
        let value = memchr::memchr(b'=', part).and_then(|equals| part.get(equals + 1..));
        let words = value.unwrap_or_default().split(u8::is_ascii_whitespace);
        for word in words.filter(|word| !word.is_empty()) {
            let address = read_c_string(word).unwrap_or_else(|| word.to_vec());
            if let Some(path) = address.strip_prefix(b"unix:") {
                if is_control {
                    self.control_paths.push(path.to_vec());
                }
                continue;
            }
            let text = String::from_utf8_lossy(&address);
            if let Ok(address) = text.parse::<SocketAddr>() {
                let ports = if is_control {
                    &mut self.control_ports
                } else {
                    &mut self.ports
                };
                ports.push(address.port());
            }
        }
    }
}

/// The services of an answer to `ONION_CLIENT_AUTH_VIEW`.
fn keys(answer: &[u8]) -> BTreeMap<Onion, bool> {
    let lines = answer.split(|&octet| octet == b'\n');
    let key = |line: &[u8]| {
        let mut words = line
            .strip_prefix(b"250-CLIENT ")?
            .split(|&octet| octet == b' ');
        let onion = Onion::parse(words.next()?)?;
        let is_permanent = words.any(|word| word.trim_ascii() == b"Flags=Permanent");
        Some((onion.lower(), is_permanent))
    };
    lines.filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_asked_for_where_they_are_needed() {
        let names = "250+config/names=\r\nLog LineList\r\n.\r\n250 OK\r\n";
        let [first, second] = [
            "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
            "5mopv5h6fi7vx77g4ypi6nrgndhtxnk3e7fljqddkbmjptpbej7cdwqd",
        ];
        // As Tor 0.4.9.11 says it.
        let said = format!(
            "250-ONION_CLIENT_AUTH_VIEW\r\n250-CLIENT {first} x25519:ODtL= \r\n\
             250-CLIENT {second} x25519:uDF= Flags=Permanent ClientName=x\r\n250 OK\r\n"
        );
        let onion = |address: &str| Onion::parse(address.as_bytes()).unwrap();
        let listed = [(onion(first), false), (onion(second), true)].into();
        for (answer, expected) in [
            (&said[..], Some(listed)),
            (
                "250-ONION_CLIENT_AUTH_VIEW\r\n250 OK\r\n",
                Some(BTreeMap::new()),
            ),
            ("510 Command filtered\r\n", None),
        ] {
            let (mut facts, mut asked) = (Facts::new(true), Vec::new());
            facts.ask(&mut asked);
            assert!(asked.ends_with(b"\r\nONION_CLIENT_AUTH_VIEW\r\n"));
            for _ in QUESTIONS {
                assert!(!facts.handle_answer(names.as_bytes()));
            }
            assert!(!facts.is_complete());
            assert!(facts.handle_answer(answer.as_bytes()));
            assert!(facts.is_complete());
            assert_eq!(facts.keys, expected);
        }
        let mut asked = Vec::new();
        Facts::new(false).ask(&mut asked);
        assert!(!asked.windows(5).any(|part| part == b"ONION"));
    }

    #[test]
    fn options_and_listeners_are_told_apart() {
        let mut facts = Facts::default();
        let answers: &[&[u8]] = &[
            b"250+config/names=\r\nLog LineList\r\n__X Boolean\r\n.\r\n250 OK\r\n",
            b"250-net/listeners/control=\"127.0.0.1:9051\" \"unix:/run/c\"\r\n250 OK\r\n",
            b"250-net/listeners/socks=\"[::1]:9050\" \"unix:/run/s\"\r\n250 OK\r\n",
        ];
        for (place, _) in QUESTIONS.iter().enumerate() {
            let unknown = &b"552 Unrecognized key \"x\"\r\n"[..];
            let answer = answers.get(place).copied().unwrap_or(unknown);
            assert!(!facts.is_complete());
            assert_eq!(facts.handle_answer(answer), place + 1 == QUESTIONS.len());
        }
        assert!(facts.is_complete());
        assert_eq!(facts.options, [b"__x".to_vec(), b"log".to_vec()].into());
        assert_eq!(facts.names, [b"Log".to_vec(), b"__X".to_vec()]);
        assert_eq!(facts.control_ports, [9051]);
        assert_eq!(facts.control_paths, [b"/run/c".to_vec()]);
        assert_eq!(facts.ports, [9050]);
    }

    #[test]
    fn without_the_options_nothing_is_known() {
        let mut facts = Facts::default();
        while !facts.handle_answer(b"552 x\r\n") {}
        assert!(!facts.is_complete());
    }
}
