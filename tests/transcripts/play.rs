//! Plays a transcript to a daemon and holds the daemon to it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::daemon::Daemon;
use crate::script::{Piece, Step, Transcript, pieces};
use crate::support::{PATIENCE, has, is_root};

/// How sends are cut.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Whole,
    /// The middle of what is longer than [`LONG`] goes in pieces of some thousand octets.
    Octets,
    Random {
        seed: u64,
    },
}

/// Octets of a send, from which on only its ends go octet by octet.
const LONG: usize = 4096;

/// Variables that are what came last in their place.
const LEARNED: [&str; 2] = ["serverhash", "servernonce"];

struct Connection {
    stream: UnixStream,
    /// It speaks frames.
    binary: bool,
    /// The program between, if it connects as somebody else.
    between: Option<Child>,
    /// What has come since the last step, for a person who looks at a failure.
    came: Vec<u8>,
}

struct Player {
    daemon: Daemon,
    connections: BTreeMap<String, Connection>,
    variables: BTreeMap<String, Vec<u8>>,
    cut: Cut,
    random: u64,
}

/// Plays one transcript from its start to its end.
pub fn play(transcript: &Transcript, cut: Cut) {
    let needs_root = |step: &Step| matches!(step, Step::Connect { uid: Some(_), .. });
    if transcript.steps.iter().any(|(_, step)| needs_root(step)) && !can_be_somebody_else() {
        return;
    }
    let daemon = Daemon::start(
        &transcript.options,
        &transcript.sockets,
        transcript.descriptors,
    );
    let own = |number: u32| number.to_string().into_bytes();
    let mut variables: BTreeMap<String, Vec<u8>> = [
        ("uid", own(nix::unistd::getuid().as_raw())),
        ("pid", own(std::process::id())),
        (
            "version",
            concat!("0.4.9.11 (onionbus-", env!("CARGO_PKG_VERSION"), ")").into(),
        ),
        ("dir", daemon.path("").as_os_str().as_encoded_bytes().into()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let Ok(cookie) = fs::read(daemon.path("state/control_auth_cookie")) {
        variables.insert("cookie".to_owned(), hex::encode(&cookie).into());
        variables.insert("cookie octets".to_owned(), cookie);
    }
    let mut player = Player {
        daemon,
        connections: BTreeMap::new(),
        variables,
        random: match cut {
            Cut::Random { seed } => seed | 1,
            _ => 1,
        },
        cut,
    };
    for (line, step) in &transcript.steps {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            player.step(step, &transcript.sockets);
        }));
        if let Err(failure) = outcome {
            eprintln!("it failed in line {line}");
            std::panic::resume_unwind(failure);
        }
    }
    player.end();
}

/// Only root can connect as another user, with socat's help.
fn can_be_somebody_else() -> bool {
    is_root() && has("socat")
}

impl Player {
    fn step(&mut self, step: &Step, sockets: &[(String, String)]) {
        match step {
            Step::Connect { who, socket, uid } => {
                let (stream, between) = match uid {
                    None => (self.daemon.connect(socket), None),
                    Some(uid) => self.connect_as(*uid, socket),
                };
                let binary = sockets
                    .iter()
                    .any(|(name, settings)| name == socket && settings.contains("Protocol=tc"));
                let connection = Connection::new(stream, binary, between);
                let before = self.connections.insert(who.clone(), connection);
                assert!(before.is_none(), "{who} is connected already");
            }
            Step::Send { who, pieces } => {
                let octets = self.literal(pieces);
                let cuts = self.cuts(octets.len());
                let connection = self.connection(who);
                if matches!(pieces.first(), Some(Piece::Frame { .. })) {
                    connection.binary = true;
                }
                connection.send(&octets, &cuts);
            }
            Step::Expect { who, pieces } => {
                let pieces = self.flat(pieces);
                let mut connection = self.connections.remove(who).expect("it is connected");
                connection.came.clear();
                for (index, piece) in pieces.iter().enumerate() {
                    let next = pieces.get(index + 1);
                    connection.expect(piece, next, &mut self.variables);
                }
                self.connections.insert(who.clone(), connection);
            }
            Step::Closes(who) => {
                let mut connection = self.connections.remove(who).expect("it is connected");
                connection.expect_end();
            }
            Step::Leaves(who) => {
                let connection = self.connections.remove(who).expect("it is connected");
                connection.leave();
            }
            Step::Dropped(who) => {
                let mut connection = self.connections.remove(who).expect("it is connected");
                while !connection.has_ended() {}
            }
            Step::Crowd(number) => {
                for who in 1..=*number {
                    let stream = self.daemon.connect("control");
                    self.connections
                        .insert(who.to_string(), Connection::new(stream, false, None));
                }
            }
            Step::CrowdLeaves => {
                let number = |who: &str| who.parse::<u32>().ok();
                let last = self.connections.keys().filter_map(|who| number(who)).max();
                self.connections
                    .retain(|who, _| number(who).is_none() || number(who) == last);
            }
            Step::Restart { killed } => {
                self.connections.clear();
                self.daemon.restart(*killed);
            }
            Step::Log(text) => {
                let text = pieces(text).expect("octets");
                let text = self.literal(&text);
                self.daemon.logs(&String::from_utf8_lossy(&text));
            }
        }
    }

    /// Nothing more comes to anybody, all the same who was left to talk.
    ///
    /// SETEVENTS turns everything off, and its answer stands behind every event of before.
    fn end(mut self) {
        let fence = |text: &str| pieces(text).expect("octets");
        let error = Piece::Frame {
            kind: 0,
            body: fence("\\0{?1}Unrecognized message type 0xF00E"),
        };
        let done = Piece::Frame {
            kind: 1,
            body: Vec::new(),
        };
        let binary = [done, error];
        let mut connections = std::mem::take(&mut self.connections);
        for (who, connection) in &mut connections {
            eprintln!("nothing more comes to {who}:");
            let expected = if connection.binary {
                connection.send(b"\0\0\0\x05\0\0\xF0\x0E", &[8]);
                self.flat(&binary)
            } else {
                connection.send(b"SETEVENTS\r\nLAST\r\n", &[17]);
                fence("250 OK\\r\\n510 Unrecognized command \"LAST\"\\r\\n")
            };
            connection.came.clear();
            for piece in &expected {
                connection.expect(piece, None, &mut self.variables);
            }
        }
        // Not before all have answered, because the others may be told that one has left.
        connections.into_values().for_each(Connection::leave);
        self.daemon.end();
    }

    fn connection(&mut self, who: &str) -> &mut Connection {
        let found = self.connections.get_mut(who);
        found.unwrap_or_else(|| panic!("{who} is not connected"))
    }

    /// A connection that another user makes: socat, between two sockets.
    fn connect_as(&self, uid: u32, socket: &str) -> (UnixStream, Option<Child>) {
        let (here, there) = UnixStream::pair().expect("two sockets");
        let input = OwnedFd::from(there.try_clone().expect("a descriptor"));
        let path = self.daemon.path(socket);
        let child = Command::new("socat")
            .args(["-t5", "STDIO"])
            .arg(format!("UNIX-CONNECT:{}", path.display()))
            .uid(uid)
            .gid(uid)
            .current_dir("/")
            .stdin(input)
            .stdout(OwnedFd::from(there))
            .spawn()
            .expect("socat starts");
        (here, Some(child))
    }

    /// Where sends of this length are cut: the lengths of their parts.
    fn cuts(&mut self, length: usize) -> Vec<usize> {
        let mut parts = Vec::new();
        let mut left = length;
        while left > 0 {
            let done = length - left;
            let part = match self.cut {
                Cut::Whole => left,
                Cut::Octets if length > LONG && done >= LONG / 8 && left > LONG => {
                    (left - LONG / 8).min(LONG)
                }
                Cut::Octets => 1,
                Cut::Random { .. } => {
                    // An xorshift of Marsaglia's: what it lacks in quality is not needed here.
                    self.random ^= self.random << 13;
                    self.random ^= self.random >> 7;
                    self.random ^= self.random << 17;
                    let longest = if length > LONG { 50_000 } else { 24 };
                    1 + usize::try_from(self.random % longest).expect("a small number")
                }
            };
            let part = part.min(left);
            parts.push(part);
            left -= part;
        }
        parts
    }

    /// The octets of pieces that leave nothing open.
    fn literal(&self, pieces: &[Piece]) -> Vec<u8> {
        let mut octets = Vec::new();
        for piece in self.flat(pieces) {
            match piece {
                Piece::Octets(more) => octets.extend(more),
                other => panic!("{other:?} cannot be sent"),
            }
        }
        octets
    }

    /// Frames with their headers, variables with their values.
    fn flat(&self, pieces: &[Piece]) -> Vec<Piece> {
        let mut flat = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Frame { kind, body } => {
                    let body = self.flat(body);
                    let length: usize = body
                        .iter()
                        .map(|piece| match piece {
                            Piece::Octets(octets) => octets.len(),
                            Piece::Any(length) => *length,
                            other => panic!("{other:?} has no certain length"),
                        })
                        .sum();
                    let length = u16::try_from(length).expect("a body that fits");
                    let header = [length.to_be_bytes(), kind.to_be_bytes()].concat();
                    flat.push(Piece::Octets(header));
                    flat.extend(body);
                }
                Piece::Variable(name) => flat.push(match self.variables.get(name) {
                    Some(value) if !LEARNED.contains(&name.as_str()) => {
                        Piece::Octets(value.clone())
                    }
                    _ => piece.clone(),
                }),
                other => flat.push(other.clone()),
            }
        }
        flat
    }
}

impl Connection {
    fn new(stream: UnixStream, binary: bool, between: Option<Child>) -> Self {
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time that is not 0");
        Self {
            stream,
            binary,
            between,
            came: Vec::new(),
        }
    }

    /// Sends in parts. A daemon that has closed meanwhile is found by what is expected next.
    fn send(&mut self, octets: &[u8], parts: &[usize]) {
        let mut rest = octets;
        for &part in parts {
            let (now, later) = rest.split_at(part);
            if self.stream.write_all(now).is_err() {
                return;
            }
            rest = later;
            // The daemon may have this part for itself.
            std::thread::yield_now();
        }
    }

    /// Reads so many octets.
    fn read(&mut self, length: usize) -> Vec<u8> {
        let start = self.came.len();
        self.came.resize(start + length, 0);
        let mut at = start;
        while at < start + length {
            match self.stream.read(&mut self.came[at..]) {
                Ok(0) => break,
                Ok(more) => at += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.came.truncate(at);
                    panic!("{error}, after {}", shown(&self.came));
                }
            }
        }
        self.came.truncate(at);
        assert_eq!(at, start + length, "closed after {}", shown(&self.came));
        self.came[start..].to_vec()
    }

    fn expect(
        &mut self,
        piece: &Piece,
        next: Option<&Piece>,
        variables: &mut BTreeMap<String, Vec<u8>>,
    ) {
        match piece {
            Piece::Octets(octets) => self.expect_octets(octets),
            Piece::Any(length) => {
                self.read(*length);
            }
            Piece::Anything | Piece::Greater(_) => {
                let Some(Piece::Octets(next)) = next else {
                    panic!("what may be anything must be followed by octets");
                };
                let found = self.read_until(next[0]);
                if let Piece::Greater(least) = piece {
                    let number = String::from_utf8_lossy(&found).parse::<u64>();
                    assert!(
                        number.as_ref().is_ok_and(|number| number > least),
                        "{} is not greater than {least}",
                        shown(&found)
                    );
                } else {
                    assert!(!found.is_empty(), "nothing before {}", shown(next));
                }
            }
            Piece::Variable(name) if LEARNED.contains(&name.as_str()) => {
                let value = self.read(64);
                variables.insert(name.clone(), value);
                if name == "servernonce" {
                    check_challenge(variables);
                }
            }
            other => panic!("{other:?} cannot be expected"),
        }
    }

    fn expect_octets(&mut self, octets: &[u8]) {
        // Up to the first octet that differs, so that a failure says at once what came instead.
        for part in octets.split_inclusive(|&octet| octet == b'\n') {
            for part in part.chunks(8192) {
                let mut differs = None;
                if part.len() <= 256 {
                    for (index, expected) in part.iter().enumerate() {
                        if self.read(1) != [*expected] {
                            differs = Some(index);
                            break;
                        }
                    }
                } else if self.read(part.len()) != part {
                    differs = Some(0);
                }
                if let Some(index) = differs {
                    self.look_ahead();
                    panic!(
                        "expected {}\nand got  {}\n(it differs {index} octets into {})",
                        shown(octets),
                        shown(&self.came),
                        shown(part)
                    );
                }
            }
        }
    }

    /// Reads octets up to one that it leaves, which is the next step's.
    fn read_until(&mut self, end: u8) -> Vec<u8> {
        let mut found = Vec::new();
        let mut peeked = [0];
        loop {
            let length = nix::sys::socket::recv(
                std::os::fd::AsRawFd::as_raw_fd(&self.stream),
                &mut peeked,
                nix::sys::socket::MsgFlags::MSG_PEEK,
            )
            .expect("it can be read in time");
            if length == 0 || peeked[0] == end {
                return found;
            }
            found.extend(self.read(1));
        }
    }

    /// What else is there, for the message about a failure.
    fn look_ahead(&mut self) {
        let _ = self.stream.set_nonblocking(true);
        let mut more = [0; 2000];
        if let Ok(length) = self.stream.read(&mut more) {
            self.came.extend_from_slice(&more[..length]);
        }
    }

    /// Reads what there is; `true` if that is the end.
    fn has_ended(&mut self) -> bool {
        let mut more = [0; 4096];
        match self.stream.read(&mut more) {
            Ok(0) => true,
            Ok(length) => {
                self.came = more[..length].to_vec();
                false
            }
            // It closed with octets unread.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("it does not close: {error}"),
        }
    }

    /// The daemon closes, and says nothing more before.
    fn expect_end(&mut self) {
        assert!(self.has_ended(), "more came: {}", shown(&self.came));
        if let Some(mut child) = self.between.take() {
            let _ = child.kill();
            child.wait().expect("it was started here");
        }
    }

    /// Ends the connection from this side.
    fn leave(mut self) {
        // It fails only if the daemon was faster.
        let _ = self.stream.shutdown(Shutdown::Write);
        self.expect_end();
    }
}

/// The daemon has proved that it knows the cookie (control-spec 3.24); what proves the same to it
/// is `{clienthash}` from now on.
fn check_challenge(variables: &mut BTreeMap<String, Vec<u8>>) {
    let decoded = |name: &str| hex::decode(&variables[name]).expect("base 16");
    // Every transcript uses this client nonce.
    let client_nonce = hex::decode("00112233").expect("base 16");
    let message = [decoded("cookie"), client_nonce, decoded("servernonce")].concat();
    let hash = |key: &str| {
        let mut hmac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length");
        hmac.update(&message);
        hex::encode_upper(hmac.finalize().into_bytes())
    };
    let server = hash("Tor safe cookie authentication server-to-controller hash");
    assert_eq!(variables["serverhash"], server.as_bytes());
    let client = hash("Tor safe cookie authentication controller-to-server hash");
    variables.insert("clienthash".to_owned(), client.into_bytes());
}

/// Octets for a person, cut where they are many.
fn shown(octets: &[u8]) -> String {
    const SHOWN: usize = 1500;
    let some = octets[..octets.len().min(SHOWN)].escape_ascii();
    let more = octets.len().saturating_sub(SHOWN);
    if more > 0 {
        format!("\"{some}\" and {more} octets more")
    } else {
        format!("\"{some}\"")
    }
}
