//! How a transcript is written.
//!
//! ```text
//! == what it shows              begins a transcript, with a daemon of its own
//! # a comment
//! option BusHistory 5           the daemon is started with this option
//! socket tc Protocol=tc         and with one more socket than `control`
//! descriptors 30                and may have so many descriptors open
//! A connects                    to `control`
//! B connects to tc              to another one
//! C connects as 65534           as another user
//! A> GETINFO version            a line is sent; CR LF is added
//! A>> GETINFO ver               octets are sent as they are
//! A> [SETEVENTS] \x00\x04       a frame is sent
//! A< 250 OK                     a line comes, octet for octet; CR LF is added
//! A<< 250 OK                    octets come
//! A< [DONE]                     a frame comes
//! A< [ERROR 0x0004] text        a frame whose body begins with a code comes
//! A closes                      the daemon has closed, and nothing more has come
//! A leaves                      A ends, the daemon closes, and nothing more has come
//! A is dropped                  the daemon closes, whatever else has come
//! crowd of 40 connects          controllers 1 to 40 connect to `control`
//! crowd leaves                  and those but the last end
//! daemon restarts               it is told to end, and another one takes its place
//! daemon is killed              it is killed, and another one takes its place
//! log was dropped               the daemon logs a line with this text in it
//! ```
//!
//! Consecutive sends to one connection go out together. In octets `\xHH`, `\0`, `\r`, `\n`, `\t`,
//! `\\` and `\{` are one octet each; braces stand for more, see [`Piece`].

/// One transcript.
#[derive(Debug)]
pub struct Transcript {
    pub title: String,
    /// The line of its title.
    pub line: usize,
    pub options: Vec<String>,
    /// Names and settings of sockets.
    pub sockets: Vec<(String, String)>,
    pub descriptors: Option<u32>,
    pub steps: Vec<(usize, Step)>,
}

#[derive(Debug)]
pub enum Step {
    Connect {
        who: String,
        socket: String,
        uid: Option<u32>,
    },
    Send {
        who: String,
        /// Octets to send as a frame are one [`Piece::Frame`].
        pieces: Vec<Piece>,
    },
    Expect {
        who: String,
        pieces: Vec<Piece>,
    },
    Closes(String),
    Leaves(String),
    Dropped(String),
    Crowd(u32),
    CrowdLeaves,
    Restart {
        killed: bool,
    },
    Log(String),
}

/// A part of what is sent or expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These octets. `{abc*3}` is `abcabcabc`; `{#7}` is 7 in 8 octets, big-endian.
    Octets(Vec<u8>),
    /// `{name}`: what the player knows by this name.
    Variable(String),
    /// `{*}`: whatever comes up to the first octet of what follows; one octet at least.
    Anything,
    /// `{?8}`: any 8 octets.
    Any(usize),
    /// `{>7}`: a number greater than 7.
    Greater(u64),
    /// A binary message.
    Frame { kind: u16, body: Vec<Piece> },
}

impl Transcript {
    pub fn parse_all(text: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(title) = line.strip_prefix("== ") {
                all.push(Self {
                    title: title.to_owned(),
                    line: number,
                    options: Vec::new(),
                    sockets: Vec::new(),
                    descriptors: None,
                    steps: Vec::new(),
                });
                continue;
            }
            let current = all.last_mut().expect("a title comes first");
            current
                .line(number, line)
                .unwrap_or_else(|| panic!("line {number} cannot be read: {line}"));
        }
        assert!(!all.is_empty(), "no transcript");
        all
    }

    fn line(&mut self, number: usize, line: &str) -> Option<()> {
        if let Some(option) = line.strip_prefix("option ") {
            self.options.push(option.to_owned());
            return Some(());
        }
        if let Some(socket) = line.strip_prefix("socket ") {
            let (name, settings) = socket.split_once(' ')?;
            self.sockets.push((name.to_owned(), settings.to_owned()));
            return Some(());
        }
        if let Some(number) = line.strip_prefix("descriptors ") {
            self.descriptors = Some(number.parse().ok()?);
            return Some(());
        }
        let step = if let Some(number) = line.strip_prefix("crowd of ") {
            Step::Crowd(number.strip_suffix(" connects")?.parse().ok()?)
        } else if line == "crowd leaves" {
            Step::CrowdLeaves
        } else if let Some(text) = line.strip_prefix("log ") {
            Step::Log(text.to_owned())
        } else if line == "daemon restarts" {
            Step::Restart { killed: false }
        } else if line == "daemon is killed" {
            Step::Restart { killed: true }
        } else if let Some(at) = line.find(['<', '>', ' ']) {
            let (who, rest) = line.split_at(at);
            return self.step(number, who.to_owned(), rest);
        } else {
            return None;
        };
        self.steps.push((number, step));
        Some(())
    }

    fn step(&mut self, number: usize, who: String, rest: &str) -> Option<()> {
        let step = match rest {
            " closes" => Step::Closes(who),
            " leaves" => Step::Leaves(who),
            " is dropped" => Step::Dropped(who),
            _ if rest.starts_with(" connects") => {
                let mut words = rest.split(' ').skip(2);
                let (mut socket, mut uid) = ("control".to_owned(), None);
                while let Some(word) = words.next() {
                    match word {
                        "to" => words.next()?.clone_into(&mut socket),
                        "as" => uid = Some(words.next()?.parse().ok()?),
                        _ => return None,
                    }
                }
                Step::Connect { who, socket, uid }
            }
            _ => return self.octets(number, &who, rest),
        };
        self.steps.push((number, step));
        Some(())
    }

    /// A line of octets, put to those before it if they go the same way.
    fn octets(&mut self, number: usize, who: &str, rest: &str) -> Option<()> {
        let sends = rest.starts_with('>');
        let direction = if sends { '>' } else { '<' };
        let doubled: String = [direction, direction].iter().collect();
        let added = if let Some(raw) = rest.strip_prefix(&doubled) {
            pieces(raw.strip_prefix(' ')?)?
        } else {
            let text = rest.strip_prefix(direction)?;
            let text = text.strip_prefix(' ').unwrap_or(text);
            if let Some(frame) = text.strip_prefix('[') {
                vec![frame_piece(frame)?]
            } else {
                let mut line = pieces(text)?;
                line.push(Piece::Octets(b"\r\n".to_vec()));
                line
            }
        };
        match self.steps.last_mut() {
            Some((_, Step::Send { who: last, pieces })) if sends && last == who => {
                pieces.extend(added);
            }
            Some((_, Step::Expect { who: last, pieces })) if !sends && last == who => {
                pieces.extend(added);
            }
            _ => {
                let (who, pieces) = (who.to_owned(), added);
                let step = if sends {
                    Step::Send { who, pieces }
                } else {
                    Step::Expect { who, pieces }
                };
                self.steps.push((number, step));
            }
        }
        Some(())
    }
}

/// `TYPE] body` or `TYPE CODE] body`.
fn frame_piece(text: &str) -> Option<Piece> {
    let (head, body) = text.split_once(']')?;
    let (kind, code) = match head.split_once(' ') {
        Some((kind, code)) => (kind, Some(number(code)?)),
        None => (head, None),
    };
    let mut parts: Vec<_> = code
        .map(|code| Piece::Octets(code.to_be_bytes().to_vec()))
        .into_iter()
        .collect();
    parts.extend(pieces(body.strip_prefix(' ').unwrap_or(body))?);
    Some(Piece::Frame {
        kind: kind_number(kind)?,
        body: parts,
    })
}

fn number(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// The types of the TC draft, section 3, of control-spec-v0, section 3, and of the bus.
pub const KINDS: &[(&str, u16)] = &[
    ("ERROR", 0x0000),
    ("DONE", 0x0001),
    ("SETCONF", 0x0002),
    ("GETCONF", 0x0003),
    ("CONFVALUE", 0x0004),
    ("SETEVENTS", 0x0005),
    ("EVENT", 0x0006),
    ("AUTHENTICATE", 0x0007),
    ("SAVECONF", 0x0008),
    ("SIGNAL", 0x0009),
    ("MAPADDRESS", 0x000A),
    ("GETINFO", 0x000B),
    ("INFOVALUE", 0x000C),
    ("EXTENDCIRCUIT", 0x000D),
    ("ATTACHSTREAM", 0x000E),
    ("POSTDESCRIPTOR", 0x000F),
    ("FRAGMENTHEADER", 0x0010),
    ("FRAGMENT", 0x0011),
    ("REDIRECTSTREAM", 0x0012),
    ("CLOSESTREAM", 0x0013),
    ("CLOSECIRCUIT", 0x0014),
    ("CONTROLLERNAME", 0xF000),
    ("POSTMESSAGE", 0xF001),
    ("RECENTMESSAGES", 0xF002),
    ("NEWMESSAGES", 0xF003),
    ("LISTCONTROLLERS", 0xF004),
    ("MESSAGES", 0xF005),
    ("CONTROLLERS", 0xF006),
];

fn kind_number(name: &str) -> Option<u16> {
    let found = KINDS.iter().find(|(known, _)| *known == name);
    found.map_or_else(|| number(name), |(_, kind)| Some(*kind))
}

/// Octets with escapes and braces.
pub fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'\\' => {
                let (octet, length) = escape(rest)?;
                octets.push(octet);
                rest = &rest[length..];
            }
            b'{' => {
                let end = rest.iter().position(|&octet| octet == b'}')?;
                let inside = std::str::from_utf8(&rest[..end]).ok()?;
                rest = &rest[end + 1..];
                match braces(inside)? {
                    Piece::Octets(more) => octets.extend(more),
                    piece => {
                        flush(&mut octets, &mut pieces);
                        pieces.push(piece);
                    }
                }
            }
            octet => octets.push(octet),
        }
    }
    flush(&mut octets, &mut pieces);
    Some(pieces)
}

fn flush(octets: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !octets.is_empty() {
        pieces.push(Piece::Octets(std::mem::take(octets)));
    }
}

fn escape(rest: &[u8]) -> Option<(u8, usize)> {
    Some(match *rest.first()? {
        b'r' => (b'\r', 1),
        b'n' => (b'\n', 1),
        b't' => (b'\t', 1),
        b'0' => (0, 1),
        b'\\' => (b'\\', 1),
        b'{' => (b'{', 1),
        b'x' => {
            let digits = std::str::from_utf8(rest.get(1..3)?).ok()?;
            (u8::from_str_radix(digits, 16).ok()?, 3)
        }
        _ => return None,
    })
}

fn braces(inside: &str) -> Option<Piece> {
    if inside == "*" {
        return Some(Piece::Anything);
    }
    if let Some(number) = inside.strip_prefix('#') {
        let number: u64 = number.parse().ok()?;
        return Some(Piece::Octets(number.to_be_bytes().to_vec()));
    }
    if let Some(length) = inside.strip_prefix('?') {
        return Some(Piece::Any(length.parse().ok()?));
    }
    if let Some(least) = inside.strip_prefix('>') {
        return Some(Piece::Greater(least.parse().ok()?));
    }
    if let Some((what, times)) = inside.rsplit_once('*') {
        let mut octets = Vec::new();
        for piece in pieces(what)? {
            let Piece::Octets(more) = piece else {
                return None;
            };
            octets.extend(more);
        }
        return Some(Piece::Octets(octets.repeat(times.parse().ok()?)));
    }
    Some(Piece::Variable(inside.to_owned()))
}
