//! Conversations: `C:` is what a controller sends, `S:` what the daemon answers. Where a display
//! has several controllers, their names stand before it.
//!
//! A line is text that ends with CRLF, or octets in base 16 and after two blanks what they mean.
//! `S: (closes)` is the end of the connection. `tc` and `v0` are controllers on sockets declared
//! for that dialect; `Tor` is the Tor behind the bus, which the daemon is a controller of.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use onionbus::auth::Cookie;

use crate::daemon::{Place, masked};
use crate::document::Example;
use crate::tor::{self, Played};

const PATIENCE: Duration = Duration::from_secs(20);

/// Attempts to find something at a daemon that is about to come.
const ATTEMPTS: usize = 100_000;

/// Whether a line is one of a conversation: who, which side, and what.
pub fn split(line: &str) -> Option<(&str, char, &str)> {
    [" C:", " S:"].iter().find_map(|mark| {
        let side = mark.chars().nth(1)?;
        let (who, said) = match line.strip_prefix(mark.trim_start()) {
            Some(said) => ("", said),
            None => line.split_once(mark)?,
        };
        let name = who.bytes().all(|octet| octet.is_ascii_alphanumeric());
        name.then_some((who, side, said.strip_prefix(' ').unwrap_or(said)))
    })
}

pub fn is_transcript(example: &Example) -> bool {
    example.lines.iter().any(|line| split(line).is_some())
}

/// The binary dialects, as `Protocol=` names them.
const DIALECTS: [&str; 2] = ["tc", "v0"];

/// Options that the daemon of an example needs, by what the example shows.
pub fn needs(place: &Place, example: &Example) -> Vec<String> {
    let speaks = |name: &str| {
        let lines = example.lines.iter();
        lines
            .filter_map(|line| split(line))
            .any(|(who, ..)| who == name)
            || example
                .lines
                .iter()
                .any(|line| line.contains(&format!("/run/onionbus/{name}")))
    };
    let mut options = Vec::new();
    if DIALECTS.iter().any(|name| speaks(name)) {
        options.push(format!("BusSocket {}", place.socket().display()));
    }
    for name in DIALECTS {
        let path = place.path("run").join(name);
        let option = format!("BusSocket {} Protocol={name}", path.display());
        options.extend(Some(option).filter(|_| speaks(name)));
    }
    if speaks(tor::NAME) {
        options.push(format!("BusTor unix:{}", place.path("tor").display()));
    }
    options
}

/// Connects, as soon as somebody listens.
pub fn connect(place: &Place) -> UnixStream {
    connect_to(&place.socket())
}

fn connect_to(socket: &Path) -> UnixStream {
    let stream = (0..ATTEMPTS).find_map(|_| {
        std::thread::yield_now();
        UnixStream::connect(socket).ok()
    });
    let stream = stream.expect("a daemon listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Returns once a controller of this name is connected.
pub fn wait_for_controller(place: &Place, name: &str) {
    let mut peer = BufReader::new(connect(place));
    let known = (0..ATTEMPTS).any(|_| {
        let request = b"GETINFO list-controllers\r\n";
        peer.get_ref().write_all(request).expect("it listens");
        let mut found = false;
        loop {
            let mut line = String::new();
            peer.read_line(&mut line).expect("it answers");
            let line = line.trim_end();
            found |= line == name || line == format!("250-list-controllers={name}");
            if line == "250 OK" {
                return found;
            }
        }
    });
    assert!(known, "{name} does not come");
    // Once the connection has ended nobody sees it in a list any more.
    peer.get_ref().write_all(b"QUIT\r\n").expect("it listens");
    peer.read_to_end(&mut Vec::new()).expect("it closes");
}

struct Connection {
    peer: BufReader<UnixStream>,
    /// The nonces of a challenge, the controller's and the daemon's.
    nonces: (Vec<u8>, Vec<u8>),
    binary: bool,
    closed: bool,
}

/// Plays the conversations of an example; `tor` is the Tor in it, if there is one.
pub fn play(place: &Place, example: &Example, mut tor: Option<Played>) {
    let mut connections: BTreeMap<&str, Connection> = BTreeMap::new();
    for (index, line) in example.lines.iter().enumerate() {
        let at = format!("{} (its line {})", example.place, index + 1);
        if line.is_empty() {
            continue;
        }
        let (who, side, said) = split(line).unwrap_or_else(|| panic!("{at}: who says this?"));
        if who == tor::NAME {
            let tor = tor.as_mut().expect("the daemon was started with it");
            match side {
                'C' => tor.hears(said, &at),
                _ => tor.says(said, &at),
            }
            continue;
        }
        let socket = if DIALECTS.contains(&who) {
            place.path("run").join(who)
        } else {
            place.socket()
        };
        let connection = connections.entry(who).or_insert_with(|| Connection {
            peer: BufReader::new(connect_to(&socket)),
            nonces: (Vec::new(), Vec::new()),
            binary: false,
            closed: false,
        });
        match (side, octets(said, &at)) {
            ('C', Some(octets)) => {
                connection.binary = true;
                connection.send(&with_cookie(place, said, octets));
            }
            ('C', None) => {
                let said = connection.with_proof(place, said);
                connection.send(format!("{said}\r\n").as_bytes());
            }
            (_, Some(expected)) => {
                let mut got = vec![0; expected.len()];
                let read = connection.peer.read_exact(&mut got);
                read.unwrap_or_else(|error| panic!("{at}: {error}"));
                assert_eq!(hex::encode(got), hex::encode(expected), "{at}");
            }
            (_, None) => connection.hear(&place.real(said), &at),
        }
    }
    for (who, mut connection) in connections {
        connection.nothing_more(&format!("{}: {who}", example.place));
    }
    if let Some(tor) = tor {
        tor.nothing_more(&example.place);
        tor::compare(example);
    }
}

/// The octets of a line that is written in base 16; `78 * 3` is `78 78 78`.
fn octets(said: &str, at: &str) -> Option<Vec<u8>> {
    let (digits, meaning) = said.split_once("  ").unwrap_or((said, ""));
    let (digits, times) = digits.split_once(" * ").unwrap_or((digits, "1"));
    let pairs = digits.split(' ').all(|pair| pair.len() == 2);
    let octets = hex::decode(digits.replace(' ', ""))
        .ok()
        .filter(|_| pairs)?
        .repeat(times.trim().parse().ok()?);
    // What a string is said to be, it has to be.
    if let Some(text) = meaning.trim().strip_prefix('"') {
        let text = text.strip_suffix('"').unwrap_or(text).as_bytes();
        let string = octets.strip_suffix(b"\0").or(octets.strip_suffix(b"\n"));
        let string = string.unwrap_or(&octets);
        assert_eq!(string, text, "{at}: the octets are not what they mean");
    }
    Some(octets)
}

/// The octets that a controller sends, with this daemon's cookie in the place of the document's.
fn with_cookie(place: &Place, said: &str, octets: Vec<u8>) -> Vec<u8> {
    match said.split_once("  ") {
        Some((_, "the cookie")) => cookie(place)[..16].to_vec(),
        Some((_, "the rest of the cookie")) => cookie(place)[16..].to_vec(),
        _ => octets,
    }
}

fn cookie(place: &Place) -> [u8; 32] {
    let file = std::fs::read(place.path("state/control_auth_cookie"));
    file.expect("a cookie").try_into().expect("32 octets")
}

impl Connection {
    fn send(&mut self, octets: &[u8]) {
        self.peer.get_ref().write_all(octets).expect("it listens");
    }

    fn hear(&mut self, expected: &str, at: &str) {
        let mut line = Vec::new();
        let read = self.peer.read_until(b'\n', &mut line);
        let read = read.unwrap_or_else(|error| panic!("{at}: {error}, but: {expected}"));
        if expected == "(closes)" {
            assert_eq!(read, 0, "{at}: {}", line.escape_ascii());
            self.closed = true;
            return;
        }
        let line = line.strip_suffix(b"\r\n");
        let line = String::from_utf8_lossy(line.expect("lines end with CRLF"));
        if let Some((_, nonce)) = line.split_once("SERVERNONCE=") {
            self.nonces.1 = hex::decode(nonce).expect("base 16");
        }
        assert_eq!(masked(&line), masked(expected), "{at}");
    }

    /// A line with what proves the knowledge of this daemon's cookie in the place of the 64 digits
    /// that the document shows.
    fn with_proof(&mut self, place: &Place, said: &str) -> String {
        if let Some(nonce) = said.strip_prefix("AUTHCHALLENGE SAFECOOKIE ") {
            self.nonces.0 = hex::decode(nonce).expect("base 16");
        }
        let proof = said.strip_prefix("AUTHENTICATE ");
        if proof.is_none_or(|proof| proof.len() != 64) {
            return said.to_owned();
        }
        let cookie = cookie(place);
        let (of_controller, of_daemon) = &self.nonces;
        let proof = if of_daemon.is_empty() {
            cookie
        } else {
            Cookie::from(cookie).client_hash(of_controller, of_daemon)
        };
        format!("AUTHENTICATE {}", hex::encode(proof))
    }

    /// What nobody knows comes back as an error, after everything else that was to come.
    fn nothing_more(&mut self, at: &str) {
        if self.closed {
            return;
        }
        if self.binary {
            self.send(&[0, 0, 0xEE, 0xEE]);
            let mut header = [0; 6];
            self.peer.read_exact(&mut header).expect("it answers");
            let is_fence = matches!(header, [_, _, 0, 0, 0, 1 | 2]);
            assert!(is_fence, "{at}: more came: {header:02x?}");
        } else {
            self.send(b"FENCE\r\n");
            self.hear("510 Unrecognized command \"FENCE\"", at);
        }
    }
}
