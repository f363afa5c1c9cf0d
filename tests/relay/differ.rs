//! The same octets to Tor directly and through the bus; the same octets must come back, and the
//! same end of the connection.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use memchr::memmem;

use crate::exchanges::{self, Exchange, Step};
use crate::support::Place;
use crate::tor::{Home, Pair, has_tor, serve};
use crate::wire::Wire;

/// How the octets of an exchange are handed over.
#[derive(Clone, Copy)]
enum Manner {
    /// Each step at once.
    Whole,
    /// Cut into pieces of a random length; each is read before the next is sent.
    Cut(u64),
    /// One by one, if they are not many.
    Octets,
}

/// A conversation in one manner with something that speaks Tor's control protocol.
struct Player {
    socket: PathBuf,
    manner: Manner,
    random: u64,
    /// What it answers to goes round its loop, and the pieces sent before are read in the same.
    other: Wire,
}

impl Player {
    fn new(socket: &Path, manner: Manner) -> Self {
        let mut other = Wire::at(socket);
        other.ask("AUTHENTICATE");
        let random = match manner {
            Manner::Cut(seed) => seed,
            Manner::Whole | Manner::Octets => 0,
        };
        let socket = socket.to_owned();
        Self {
            socket,
            manner,
            random,
            other,
        }
    }

    /// A number below `end`, the same ones for the same seed (Marsaglia's xorshift).
    fn below(&mut self, end: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        usize::try_from(self.random >> 32).expect("32 bits fit") % end
    }

    fn send(&mut self, wire: &mut Wire, octets: &[u8]) {
        let mut rest = octets;
        while !rest.is_empty() {
            let length = match self.manner {
                Manner::Whole => rest.len(),
                Manner::Octets => 1 + octets.len() / 200,
                Manner::Cut(_) => 1 + self.below(octets.len() / 3 + 1),
            };
            let (piece, others) = rest.split_at(length.min(rest.len()));
            rest = others;
            // It may close at any command, and what it said before counts.
            if !wire.send(piece) {
                return;
            }
            if !rest.is_empty() {
                // After the last exchange's SIGNAL HALT nobody answers.
                self.other.fence();
            }
        }
    }

    /// Plays one exchange and returns what came, with a word for how it ended.
    fn play(&mut self, exchange: &Exchange) -> Vec<u8> {
        let mut wire = Wire::at(&self.socket);
        wire.about.clone_from(&exchange.title);
        let mut half_closed = false;
        for step in &exchange.steps {
            match step {
                Step::Send(octets) => self.send(&mut wire, octets),
                Step::Until(octets) => {
                    let came = wire.until(octets);
                    assert!(came, "{}: no {}", exchange.title, octets.escape_ascii());
                }
                Step::HalfClose => {
                    wire.half_close();
                    half_closed = true;
                }
            }
        }
        let stays = !half_closed && wire.fence();
        if stays {
            wire.half_close();
        }
        wire.until_closed();
        if !stays && !half_closed {
            let taken = wire.send(b"GETINFO version\r\n");
            assert!(!taken, "{}: it closed and still listens", exchange.title);
        }
        let end: &[u8] = if stays { b"(stays open)" } else { b"(closes)" };
        [&wire.received[..], end].concat()
    }
}

/// What cannot be the same twice: what stands before it, what behind it, and why.
const MASKS: &[(&str, &str, &str)] = &[
    ("250-ServiceID=", "\r\n", "made of a new key"),
    ("250-PrivateKey=ED25519-V3:", "\r\n", "a new key"),
    (
        "250 127.",
        "=automatic.example",
        "an address that Tor draws",
    ),
    (
        "250-",
        ".virtual=automatic.example",
        "a name that Tor draws",
    ),
    ("250-bw-event-cache=", "\r\n", "filled by the second"),
    ("250-dormant=", "\r\n", "Tor falls asleep by its own clock"),
    ("250-current-time/local=", "\r\n", "a time"),
    ("250-current-time/utc=", "\r\n", "a time"),
    ("250-process/pid=", "\r\n", "another process"),
    (
        "250-traffic/read=",
        "\r\n",
        "counts the bus's own connections",
    ),
    (
        "250-traffic/written=",
        "\r\n",
        "counts the bus's own connections",
    ),
    ("250-uptime=", "\r\n", "a time"),
    ("next-attempt-at ", "\r\n", "a time"),
];

/// The lists that the bus adds its own to, behind what is Tor's: the key, and how each of its own
/// begins.
const ADDED: &[(&str, &[&str])] = &[
    (
        "info/names",
        &[
            "bus/chain -- ",
            "controllers/detail -- ",
            "kept-onions -- ",
            "leases -- ",
            "list-controllers -- ",
            "new-messages -- ",
            "posted-message -- ",
            "process/confinement -- ",
            "recent-actions -- ",
            "recent-messages -- ",
            "status -- ",
        ],
    ),
    (
        "events/names",
        &[
            "POSTMESSAGE",
            "CONTROLLER",
            "TOR",
            "RESTORE",
            "LEASE",
            "DENIED",
            "ACTION",
        ],
    ),
    ("signal/names", &["BUSRELOAD", "BUSSHUTDOWN"]),
    ("config/names", &["Bus"]),
    ("config/defaults", &["Bus"]),
];

/// Takes out of an answer what cannot be the same twice.
pub fn masked(octets: &[u8], home: &Home) -> Vec<u8> {
    let path = home.path().display().to_string();
    let mut octets = replaced(octets, path.as_bytes(), b"(HOME)");
    for (begin, end, _) in MASKS {
        let mut from = 0;
        while let Some(found) = memmem::find(&octets[from..], begin.as_bytes()) {
            from += found + begin.len();
            let line = memchr::memchr(b'\n', &octets[from..]);
            let line = line.map_or(octets.len(), |found| from + found + 1);
            if let Some(length) = memmem::find(&octets[from..line], end.as_bytes()) {
                octets.splice(from..from + length, *b"(MASK)");
            }
        }
    }
    octets
}

/// Takes the bus's own out of each list of [`ADDED`], if some of it stands at the end.
fn without_own(octets: &[u8]) -> Vec<u8> {
    let mut out: Vec<&[u8]> = Vec::new();
    let mut list: Option<&(&str, &[&str])> = None;
    let key = |line: &[u8], sign: &str| {
        ADDED.iter().find(|(key, _)| {
            let begin = format!("250{sign}{key}=");
            line.starts_with(begin.as_bytes())
        })
    };
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        if line == b".\r\n"
            && let Some((_, own)) = list.take()
        {
            let is_own = |line: &&[u8]| own.iter().any(|own| line.starts_with(own.as_bytes()));
            while out.last().is_some_and(is_own) {
                out.pop();
            }
        }
        if let Some((_, own)) = key(line, "-") {
            let mut words: Vec<_> = line
                .trim_ascii_end()
                .split(|&octet| octet == b' ')
                .collect();
            while words
                .last()
                .is_some_and(|word| own.iter().any(|own| own.as_bytes() == *word))
            {
                words.pop();
            }
            let length: usize = words.iter().map(|word| word.len() + 1).sum();
            out.push(&line[..length - 1]);
            out.push(b"\r\n");
            continue;
        }
        list = list.or(key(line, "+"));
        out.push(line);
    }
    out.concat()
}

fn replaced(octets: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = octets;
    while let Some(found) = memmem::find(rest, old) {
        out.extend_from_slice(&rest[..found]);
        out.extend_from_slice(new);
        rest = &rest[found + old.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// The lines of replies in their order, and then those of events in theirs.
fn replies_then_events(octets: &[u8]) -> Vec<u8> {
    let lines = octets.split_inclusive(|octet| *octet == b'\n');
    let (events, replies): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(b"650"));
    [replies.concat(), events.concat()].concat()
}

/// Where two answers part, or nothing if they are the same.
fn difference(title: &str, direct: &[u8], through: &[u8]) -> Option<String> {
    if direct == through {
        return None;
    }
    let same = direct
        .iter()
        .zip(through)
        .take_while(|(a, b)| a == b)
        .count();
    let around = |octets: &[u8]| {
        let end = octets.len().min(same + 150);
        octets[same.saturating_sub(60)..end]
            .escape_ascii()
            .to_string()
    };
    let mut text = format!("\n{title}: after {same} octets");
    let _ = write!(
        text,
        "\n  direct:  {}\n  through: {}",
        around(direct),
        around(through)
    );
    Some(text)
}

/// Plays everything to two fresh Tors in one manner, the second behind a bus if there is a
/// `place` for one, and fails with every difference.
fn differ(place: Option<&Place>, manner: Manner) {
    let (one, two) = (Home::new(), Home::new());
    let (_first, _second) = (one.start(), two.start());
    let daemon = place.map(|place| serve(place, &two).ready());
    let mut direct = Player::new(&one.socket(), manner);
    let socket = place.map_or(two.socket(), Place::socket);
    let mut through = Player::new(&socket, manner);
    let info_names = direct.other.ask("GETINFO info/names");
    let exchanges = exchanges::all(&info_names);
    let count = exchanges.len();
    let mut differences = Vec::new();
    for exchange in &exchanges {
        let mut expected = masked(&direct.play(exchange), &one);
        let mut got = masked(&through.play(exchange), &two);
        if place.is_some() {
            got = without_own(&got);
        }
        // Through the bus they come from two connections to Tor: how rarely one overtakes the
        // other is for the tests of events.
        if exchange.title.starts_with("event of") {
            expected = replies_then_events(&expected);
            got = replies_then_events(&got);
        }
        differences.extend(difference(&exchange.title, &expected, &got));
    }
    drop(daemon);
    assert!(
        differences.is_empty(),
        "{} of {count} exchanges differ:{}",
        differences.len(),
        differences.concat()
    );
}

#[test]
fn two_tors_answer_alike() {
    if has_tor() {
        differ(None, Manner::Whole);
    }
}

#[test]
fn the_bus_answers_like_tor() {
    if has_tor() {
        differ(Some(&Place::new()), Manner::Whole);
    }
}

#[test]
fn the_bus_answers_like_tor_to_pieces() {
    if has_tor() {
        differ(Some(&Place::new()), Manner::Cut(0x5eed));
    }
}

#[test]
fn the_bus_answers_like_tor_to_single_octets() {
    if has_tor() {
        differ(Some(&Place::new()), Manner::Octets);
    }
}

/// The bus says what it adds, all of it, where the differ takes it away.
#[test]
fn the_lists_are_tors_with_the_buss_own_behind() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let (mut direct, mut through) = (
        Wire::at(&pair.home.socket()),
        Wire::at(&pair.place.socket()),
    );
    direct.ask("AUTHENTICATE");
    for (key, own) in ADDED {
        let of_tor = direct.ask(&format!("GETINFO {key}"));
        let both = through.ask(&format!("GETINFO {key}"));
        let end = of_tor.find(".\r\n250 OK").or(of_tor.rfind("\r\n250 OK"));
        let (of_tor, end) = of_tor.split_at(end.expect("a reply ends"));
        let added = both
            .strip_prefix(of_tor)
            .and_then(|both| both.strip_suffix(end));
        let added = added.unwrap_or_else(|| panic!("Tor's {key} is not in {both}"));
        for own in *own {
            assert!(added.contains(own), "{own} is not in {added:?}");
        }
    }
}
