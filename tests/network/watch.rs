//! One Tor and all who watch it: a binary and a text controller on the bus, and stem, which is
//! connected to Tor itself.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use crate::support::{Controller, Daemon, PATIENCE, Place};
use crate::tor::{is_connected, serve};
use crate::tor_network::Node;
use crate::wire::{Wire, tail};

/// The codes of events (TC draft 3.7), Tor's names for them, and their states in the order of the
/// octets that stand for them.
const CODES: [(u16, &str, &[&str]); 5] = [
    (
        1,
        "CIRC",
        &["LAUNCHED", "BUILT", "EXTENDED", "FAILED", "CLOSED"],
    ),
    (
        2,
        "STREAM",
        &[
            "SENTCONNECT",
            "SENTRESOLVE",
            "SUCCEEDED",
            "FAILED",
            "CLOSED",
        ],
    ),
    (3, "ORCONN", &["LAUNCHED", "CONNECTED", "FAILED", "CLOSED"]),
    (4, "BW", &[]),
    (5, "WARN", &[]),
];

/// A Tor with a daemon in front of it, and who watches both.
pub struct Watch {
    binary: Controller,
    text: Wire,
    stem: Stem,
    _daemon: Daemon,
    place: Place,
}

impl Watch {
    /// Begins to watch for what has these codes. `python` is one that has stem.
    #[track_caller]
    pub fn start(node: &Node, codes: &[u16], python: &str) -> Self {
        let place = Place::new();
        let daemon = serve(&place, &node.home).ready();
        is_connected(&daemon);
        let names = CODES.iter().filter(|(code, ..)| codes.contains(code));
        let names: Vec<_> = names.map(|(_, name, _)| *name).collect();
        let mut text = Wire::at(&place.socket());
        text.about = format!("{names:?} of {}", node.home.path().display());
        let command = format!("SETEVENTS {}", names.join(" "));
        assert_eq!(text.first_line(&command), "250 OK", "{command}");
        let mut binary = daemon.connect();
        let codes: Vec<_> = codes.iter().flat_map(|code| code.to_be_bytes()).collect();
        binary.send_frame(5, &codes);
        assert_eq!(binary.frame(), (1, vec![]), "SETEVENTS {codes:?}");
        let stem = Stem::start(python, &node.home.socket(), &names);
        Self {
            binary,
            text,
            stem,
            _daemon: daemon,
            place,
        }
    }

    /// A text controller on the bus that watches nothing.
    #[track_caller]
    pub fn controller(&self) -> Wire {
        Wire::at(&self.place.socket())
    }

    /// Waits until the text controller is told an event with all these words, in this order, and
    /// returns it.
    #[track_caller]
    pub fn sees(&mut self, words: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let line = self.text.line();
            let mut rest = line.split(' ');
            if words.iter().all(|word| rest.any(|other| other == *word)) {
                return line;
            }
            let waits = begun.elapsed() < PATIENCE;
            assert!(waits, "no {words:?}: {}", tail(&self.text.received));
        }
    }

    /// Checks that all were told the same from `begin` to `end`, which are events in the words of
    /// [`Told`], and returns it.
    #[track_caller]
    pub fn agree(mut self, begin: &str, end: &str) -> Told {
        let (told, octets) = self.stem.told(begin, end);
        let mut binary = String::new();
        let since = Instant::now();
        while binary != begin {
            binary = event(self.binary.frame());
            assert!(since.elapsed() < PATIENCE, "{binary} instead of {begin}");
        }
        for (index, stem) in told.with_code.iter().enumerate() {
            if index > 0 {
                binary = event(self.binary.frame());
            }
            assert!(&binary == stem, "{binary} instead of {stem}: {told:#?}");
        }

        let octets = octets.concat();
        let first = octets.split_inclusive(|&octet| octet == b'\n').next();
        let first = first.expect("the beginning at least");
        let start = loop {
            let received = &self.text.received;
            let start = memchr::memmem::find(received, first);
            if let Some(start) = start.filter(|start| start + octets.len() <= received.len()) {
                break start;
            }
            self.text.line();
            assert!(since.elapsed() < PATIENCE, "{}", first.escape_ascii());
        };
        let text = &self.text.received[start..start + octets.len()];
        let (text, octets) = (text.escape_ascii(), octets.escape_ascii());
        assert_eq!(text.to_string(), octets.to_string());
        told
    }
}

/// Events as stem understands them, in its words: the name, the number of a circuit or stream, the
/// state, the path or target; of OR connections the relay before the state.
#[derive(Debug, Default)]
pub struct Told {
    /// Those that binary controllers are told.
    pub with_code: Vec<String>,
    /// Those of states that have no code.
    pub without_code: Vec<String>,
}

impl Told {
    /// Fails unless every state that has a code is there.
    #[track_caller]
    pub fn has_every_state(&self) {
        for (_, name, states) in CODES {
            for state in states {
                assert!(
                    has(&self.with_code, name, state),
                    "no {name} {state}: {self:#?}"
                );
            }
        }
    }

    /// Fails unless these states are there, none of which has a code.
    #[track_caller]
    pub fn has_without_code(&self, name: &str, states: &[&str]) {
        for state in states {
            assert!(
                has(&self.without_code, name, state),
                "no {name} {state}: {self:#?}"
            );
        }
    }
}

fn has(events: &[String], name: &str, state: &str) -> bool {
    events.iter().any(|event| {
        let mut words = event.split(' ');
        words.next() == Some(name) && words.any(|word| word == state)
    })
}

/// Whether there is a code for an event in stem's words.
fn has_code(event: &str) -> bool {
    let mut words = event.split(' ');
    let name = words.next().expect("there is one");
    let found = CODES.iter().find(|(_, known, _)| *known == name);
    let (.., states) = found.expect("stem asked for no other");
    states.is_empty() || words.any(|word| states.contains(&word))
}

/// A binary event in stem's words.
#[track_caller]
fn event((kind, body): (u16, Vec<u8>)) -> String {
    assert_eq!(kind, 6, "no EVENT: {}", body.escape_ascii());
    let (code, rest) = body.split_first_chunk().expect("a code");
    let code = u16::from_be_bytes(*code);
    let known = CODES.iter().find(|(known, ..)| *known == code);
    let (_, name, states) = known.unwrap_or_else(|| panic!("the code {code}"));
    let state = |octet: u8| states[usize::from(octet)];
    let number = |octets: &[u8]| u32::from_be_bytes(octets.try_into().expect("four octets"));
    match code {
        1 | 2 => {
            let (number, text) = (number(&rest[1..5]), string(&rest[5..]));
            format!("{name} {number} {} {text}", state(rest[0]))
        }
        3 => format!("{name} {} {}", string(&rest[1..]), state(rest[0])),
        4 => format!("{name} {} {}", number(&rest[..4]), number(&rest[4..])),
        _ => format!("{name} {}", string(rest)),
    }
}

/// A string that ends with NUL, and is all there is.
#[track_caller]
fn string(octets: &[u8]) -> &str {
    let string = octets.strip_suffix(b"\0").expect("it ends with NUL");
    assert!(!string.contains(&0), "{}", octets.escape_ascii());
    str::from_utf8(string).expect("Tor says ASCII")
}

/// stem as a child process.
struct Stem {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Stem {
    #[track_caller]
    fn start(python: &str, socket: &Path, events: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network/stem_watch.py");
        let mut command = Command::new("timeout");
        command.arg((4 * PATIENCE.as_secs()).to_string());
        command.arg(python).arg(script).arg(socket).args(events);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdout = child.stdout.take().expect("it is piped");
        let lines = BufReader::new(stdout).lines();
        let mut stem = Self { child, lines };
        assert_eq!(stem.line(), "listening");
        stem
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let line = self.lines.next().expect("it has not ended");
        line.expect("it prints UTF-8")
    }

    /// What it was told from `begin` to `end`, and how each event came.
    #[track_caller]
    fn told(&mut self, begin: &str, end: &str) -> (Told, Vec<Vec<u8>>) {
        let (mut told, mut octets) = (Told::default(), Vec::new());
        loop {
            let line = self.line();
            let (event, came) = line.split_once('\t').expect("both parts");
            if octets.is_empty() && event != begin {
                continue;
            }
            octets.push(format!("{came}\r\n").into_bytes());
            let events = if has_code(event) {
                &mut told.with_code
            } else {
                &mut told.without_code
            };
            events.push(event.to_owned());
            if event == end {
                return (told, octets);
            }
        }
    }
}

impl Drop for Stem {
    fn drop(&mut self) {
        // It ends with its input.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
