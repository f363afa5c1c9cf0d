//! What is known of a Tor besides its events: its options and its listeners.

use core::net::SocketAddr;
use std::collections::BTreeSet;

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
    /// The number of questions that are answered.
    answered: usize,
    /// One that is needed has no answer.
    is_incomplete: bool,
}

impl Facts {
    /// The commands that ask.
    pub fn ask(out: &mut Vec<u8>) {
        for key in QUESTIONS {
            out.extend_from_slice(format!("GETINFO {key}\r\n").as_bytes());
        }
    }

    /// Takes the answer to the next question. Says whether it is the last.
    pub fn handle_answer(&mut self, answer: &[u8]) -> bool {
        let question = self.answered;
        self.answered += 1;
        if answer.starts_with(b"250") {
            for part in parts(answer) {
                match question {
                    0 => self.handle_names(part),
                    _ => self.handle_listeners(part, question == 1),
                }
            }
        } else if question < NEEDED {
            self.is_incomplete = true;
        }
        self.answered == QUESTIONS.len()
    }

    /// Whether everything that is needed is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.answered == QUESTIONS.len() && !self.is_incomplete && !self.options.is_empty()
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

#[cfg(test)]
mod tests {
    use super::*;

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
