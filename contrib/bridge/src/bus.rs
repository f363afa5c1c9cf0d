//! Connections to the bus here: what is said on them, and their two halves.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use onionbus::wire::ControllerId;
use onionbus::wire::text::{self, Reader};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::ledger::Posted;
use crate::parcel::Run;

/// The most octets of one reply: the daemon refuses what has more than half of `BusMaxQueue`.
const MAX_REPLY: usize = (1 << 29) + 4096;

/// The octets that one call reads.
const READ: usize = 64 * 1024;

/// What went wrong with the bus.
#[derive(Debug, Error)]
pub enum BusError {
    /// The connection cannot be made, or fails.
    #[error("the bus at {socket}: {error}")]
    Io {
        /// Where.
        socket: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The daemon has closed the connection.
    #[error("the bus at {0} has closed the connection")]
    Closed(PathBuf),
    /// It says no.
    #[error("the bus at {socket} refuses {command}: {reply}")]
    Refused {
        /// Where.
        socket: PathBuf,
        /// What.
        command: &'static str,
        /// In its words.
        reply: String,
        /// Its status.
        status: u16,
    },
    /// It is no onionbus, or a later one.
    #[error("the bus at {socket} answers {command} as no onionbus does")]
    Strange {
        /// Where.
        socket: PathBuf,
        /// What was asked.
        command: &'static str,
    },
}

/// How a connection proves itself where the bus asks for it.
#[derive(Clone, Debug, Default)]
pub struct Login(pub Option<Vec<u8>>);

/// A line that tells of a controller here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A name was taken, and another one given up for it.
    Named(String, Option<String>),
    /// Whoever had this name has gone.
    Gone(String),
}

/// What the bus says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Posted),
    /// A controller here.
    Change(Change),
    /// A reply: its status, and all of it.
    Reply(u16, Vec<u8>),
    /// An event that was not asked for.
    Other,
}

/// The read half of a connection.
#[derive(Debug)]
pub struct Ear {
    socket: PathBuf,
    half: OwnedReadHalf,
    reader: Reader,
    buffer: Vec<u8>,
}

/// The write half.
#[derive(Debug)]
pub struct Mouth {
    socket: PathBuf,
    half: OwnedWriteHalf,
}

/// A connection that is logged in.
#[derive(Debug)]
pub struct Connection {
    /// What it hears.
    pub ear: Ear,
    /// What it says.
    pub mouth: Mouth,
    /// Messages that came before the replies to what was asked.
    pub early: Vec<Posted>,
}

impl Connection {
    /// Connects and logs in.
    pub async fn open(socket: &Path, login: &Login) -> Result<Self, BusError> {
        let stream = UnixStream::connect(socket).await;
        let (read, write) = stream
            .map_err(|error| io_error(socket, error))?
            .into_split();
        let mut connection = Self {
            ear: Ear {
                socket: socket.to_owned(),
                half: read,
                reader: Reader::new(MAX_REPLY),
                buffer: vec![0; READ],
            },
            mouth: Mouth {
                socket: socket.to_owned(),
                half: write,
            },
            early: Vec::new(),
        };
        let mut line = "AUTHENTICATE ".to_owned();
        for octet in login.0.iter().flatten() {
            // It fails only where a writer does, and a text is none.
            let _ = write!(line, "{octet:02x}");
        }
        connection
            .ask(&[("AUTHENTICATE", line.trim_end().into())])
            .await?;
        Ok(connection)
    }

    /// Sends commands in one write, each with the word that an error calls it, and waits for their
    /// replies; what else comes meanwhile is kept.
    pub async fn ask(
        &mut self,
        commands: &[(&'static str, Vec<u8>)],
    ) -> Result<Vec<Vec<u8>>, BusError> {
        let mut octets = Vec::new();
        for (_, line) in commands {
            octets.extend_from_slice(line);
            octets.extend_from_slice(b"\r\n");
        }
        self.mouth.say(&octets).await?;
        let mut replies = Vec::new();
        while let Some(&(command, _)) = commands.get(replies.len()) {
            match self.ear.hear().await? {
                Heard::Reply(250, reply) => replies.push(reply),
                Heard::Reply(status, reply) => {
                    let socket = self.ear.socket.clone();
                    let reply = String::from_utf8_lossy(&reply);
                    let reply = reply.trim_end().escape_debug().to_string();
                    return Err(BusError::Refused {
                        socket,
                        command,
                        reply,
                        status,
                    });
                }
                Heard::Message(posted) => self.early.push(posted),
                // The list of controllers is asked for behind them.
                Heard::Change(_) | Heard::Other => {}
            }
        }
        Ok(replies)
    }

    /// Posts a message to its own name, and returns the `MessageID`: all before it was posted
    /// before. What else comes meanwhile is kept.
    pub async fn mark(&mut self, name: &str) -> Result<u64, BusError> {
        let line = format!("POSTMESSAGE @{name} .").into_bytes();
        self.ask(&[("POSTMESSAGE", line)]).await?;
        self.hear_mark(name).await
    }

    /// Waits for the message to its own name, and returns the `MessageID`.
    pub async fn hear_mark(&mut self, name: &str) -> Result<u64, BusError> {
        loop {
            let is_mark = |posted: &Posted| {
                let source = posted.source.as_ref().map(ControllerId::as_str);
                !posted.to_all && source == Some(name)
            };
            if let Some(mark) = self.early.iter().position(is_mark) {
                return Ok(self.early.remove(mark).id);
            }
            if let Heard::Message(posted) = self.ear.hear().await? {
                self.early.push(posted);
            }
        }
    }

    /// The error where a reply cannot be understood.
    pub fn strange(&self, command: &'static str) -> BusError {
        BusError::Strange {
            socket: self.ear.socket.clone(),
            command,
        }
    }
}

impl Ear {
    /// Waits for the next thing that the bus says.
    pub async fn hear(&mut self) -> Result<Heard, BusError> {
        loop {
            let message = self.reader.poll_message();
            let message = message.map_err(|error| {
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                io_error(&self.socket, error)
            })?;
            if let Some(message) = message {
                return Ok(heard(message));
            }
            let read = self.half.read(&mut self.buffer).await;
            let length = read.map_err(|error| io_error(&self.socket, error))?;
            match self.buffer.get(..length) {
                Some(octets) if length > 0 => self.reader.handle_octets(octets),
                _ => return Err(BusError::Closed(self.socket.clone())),
            }
        }
    }
}

impl Mouth {
    /// Writes all of it: when this returns, the bus will carry it out, whatever becomes of us.
    pub async fn say(&mut self, octets: &[u8]) -> Result<(), BusError> {
        let written = self.half.write_all(octets).await;
        written.map_err(|error| io_error(&self.socket, error))
    }
}

fn io_error(socket: &Path, error: io::Error) -> BusError {
    let socket = socket.to_owned();
    BusError::Io { socket, error }
}

fn heard(message: text::Message<'_>) -> Heard {
    if message.event().is_some() {
        let line = message.last_line();
        let event = read_message(line).map(Heard::Message);
        let event = event.or_else(|| read_change(line).map(Heard::Change));
        return event.unwrap_or(Heard::Other);
    }
    let status = message.status().unwrap_or(0);
    Heard::Reply(status, message.octets().to_vec())
}

/// Reads `650 POSTMESSAGE MessageID SourceControllerID @DestControllerID LineItem`.
#[must_use]
pub fn read_message(line: &[u8]) -> Option<Posted> {
    let rest = line.strip_prefix(b"650 POSTMESSAGE ")?;
    let mut words = rest.splitn(4, |&octet| octet == b' ');
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let source = ControllerId::parse(words.next()?).filter(|name| !name.is_reserved());
    let to_all = words.next()?.strip_prefix(b"@")? == b"all";
    let text = words.next()?.to_vec();
    Some(Posted {
        id,
        source,
        to_all,
        text,
    })
}

/// Reads `650 CONTROLLER what SessionID ControllerID [OLD=ControllerID] UID=uid PID=pid`.
fn read_change(line: &[u8]) -> Option<Change> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.strip_prefix("650 CONTROLLER ")?.split(' ');
    let (what, _session, name) = (words.next()?, words.next()?, words.next()?.to_owned());
    match what {
        "NAMED" => Some(Change::Named(name, None)),
        "RENAMED" => {
            let old = words.find_map(|word| word.strip_prefix("OLD="))?;
            Some(Change::Named(name, Some(old.into())))
        }
        "DISCONNECTED" => Some(Change::Gone(name)),
        _ => None,
    }
}

/// The values of a reply to GETINFO or GETCONF: of each key, its lines.
#[must_use]
pub fn values(reply: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let part = |part: &&[u8]| {
        let is_data = part.get(3) == Some(&b'+');
        let mut lines: Vec<_> = part
            .split(|&octet| octet == b'\n')
            .map(without_cr)
            .collect();
        lines.pop();
        if !is_data {
            let line = lines.first().copied().unwrap_or_default();
            let value = line.splitn(2, |&octet| octet == b'=').nth(1);
            return vec![value.unwrap_or_default().to_vec()];
        }
        // The line with the key, and the dot.
        let end = lines.len().saturating_sub(1);
        let data = lines.get(1..end).unwrap_or_default();
        let unstuffed = |line: &&[u8]| line.strip_prefix(b".").unwrap_or(line).to_vec();
        data.iter().map(unstuffed).collect()
    };
    text::parts(reply).iter().map(part).collect()
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The run of the bus in the value of `bus/chain`.
#[must_use]
pub fn run(value: &[Vec<u8>]) -> Option<Run> {
    let chain = std::str::from_utf8(value.first()?).ok()?;
    Run::parse(chain.split(' ').next()?)
}

/// The number in a value.
#[must_use]
pub fn number(value: &[Vec<u8>]) -> Option<u64> {
    std::str::from_utf8(value.first()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_octet_by_octet() {
        let read = |line: &[u8]| read_message(line).unwrap();
        let posted = read(b"650 POSTMESSAGE 17 alice @all  two blanks \xFF ");
        assert_eq!((posted.id, posted.to_all), (17, true));
        assert_eq!(posted.source.unwrap().as_str(), "alice");
        assert_eq!(posted.text, b" two blanks \xFF ");
        let posted = read(b"650 POSTMESSAGE 18 unset @alice_at_two x");
        assert_eq!((posted.source, posted.to_all), (None, false));
        for strange in [
            &b"650 POSTMESSAGE"[..],
            b"650 POSTMESSAGE x alice @all y",
            b"650 POSTMESSAGE 1 alice all y",
            b"650 POSTMESSAGE 1 alice @all",
            b"650 CIRC 1 BUILT",
        ] {
            assert_eq!(read_message(strange), None);
        }
    }

    #[test]
    fn comings_and_goings_are_read() {
        let read = |line: &str| read_change(line.as_bytes());
        let named =
            |name: &str, old: Option<&str>| Some(Change::Named(name.into(), old.map(Into::into)));
        assert_eq!(
            read("650 CONTROLLER NAMED 2 bob UID=1 PID=4"),
            named("bob", None)
        );
        assert_eq!(
            read("650 CONTROLLER RENAMED 2 rob OLD=bob UID=1 PID=4"),
            named("rob", Some("bob"))
        );
        assert_eq!(
            read("650 CONTROLLER DISCONNECTED 2 rob UID=1 PID=4"),
            Some(Change::Gone("rob".into()))
        );
        assert_eq!(read("650 CONTROLLER CONNECTED 2 unset UID=1 PID=4"), None);
        assert_eq!(read("650 CONTROLLER"), None);
    }

    #[test]
    fn values_are_lines() {
        let lines = |text: &[&str]| text.iter().map(|line| line.as_bytes().to_vec()).collect();
        let one: Vec<Vec<u8>> = lines(&["8A7B4C2E11D09F5A 0123456789ABCDEF"]);
        let two: Vec<Vec<u8>> = lines(&["alice", ".x"]);
        let none: Vec<Vec<u8>> = lines(&[""]);
        let reply = b"250-bus/chain=8A7B4C2E11D09F5A 0123456789ABCDEF\r\n\
            250+list=\r\nalice\r\n..x\r\n.\r\n250-empty=\r\n250 OK\r\n";
        assert_eq!(values(reply), [one.clone(), two, none]);
        assert_eq!(run(&one).unwrap().as_str(), "8A7B4C2E11D09F5A");
        let conf = values(b"250-BusHistory=100\r\n250 BusMaxMessageLength=65536\r\n");
        let numbers: Vec<_> = conf.iter().map(|value| number(value)).collect();
        assert_eq!(numbers, [Some(100), Some(65536)]);
    }
}
