//! The servers that are compared, and how each is talked to.

mod bus;
mod dbus;
mod redis;
mod tor;

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

pub use bus::{onionbus, onionbus_command, onionbus_with};
pub use tor::{Events as TorEvents, socat, tor, tor_with_addresses};

use crate::process::{PATIENCE, Process};

/// A server, or a way to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, clap::ValueEnum)]
pub enum Server {
    /// The least that a server with one thread can do.
    #[value(name = "floor")]
    Floor,
    /// The same with a second thread for the deliveries.
    #[value(name = "floor2")]
    Floor2,
    /// The daemon of this project.
    Onionbus,
    /// Another build of it, which is measured beside it.
    #[value(skip)]
    Other,
    /// Redis, with PUBLISH and SUBSCRIBE.
    Redis,
    /// Tor: each MAPADDRESS is an ADDRMAP event for every controller that asked for them.
    Tor,
    /// dbus-broker, with signals.
    Dbus,
    /// socat between a controller and Tor.
    Socat,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floor => "floor",
            Self::Floor2 => "floor2",
            Self::Onionbus => "onionbus",
            Self::Other => "other",
            Self::Redis => "redis",
            Self::Tor => "tor",
            Self::Dbus => "dbus-broker",
            Self::Socat => "socat",
        })
    }
}

/// A running server.
pub struct Running {
    /// Its processes, the one that is asked first.
    pub processes: Vec<Process>,
    /// Where it listens.
    pub socket: PathBuf,
    /// Its files.
    pub place: TempDir,
    /// The server behind it, whose processes are among these: its socket and its files.
    pub behind: Option<(PathBuf, TempDir)>,
    /// What must stay open as long as it is to run.
    #[expect(dead_code, reason = "it is kept, not used")]
    pub held: Option<UnixStream>,
}

impl Running {
    /// Starts `command`, which is to listen on `socket` in `place`.
    pub fn start(command: Command, place: TempDir, socket: PathBuf) -> Result<Self> {
        let process = Process::start(command, place.path())?.listens(&socket)?;
        Ok(Self {
            processes: vec![process],
            socket,
            place,
            behind: None,
            held: None,
        })
    }

    /// Where what it delivers comes from: the socket of the server behind it, or its own.
    pub fn source(&self) -> &Path {
        let behind = self.behind.as_ref();
        behind.map_or(&self.socket, |(socket, _)| socket)
    }

    /// The processor time of all its processes, in microseconds.
    pub fn cpu(&self) -> Result<f64> {
        self.processes.iter().map(Process::cpu).sum()
    }
}

/// How one publisher and many subscribers talk to a server.
pub trait Speaker {
    /// Starts the server.
    fn start(&self) -> Result<Running>;

    /// Connects someone who gets every message.
    fn subscriber(&mut self, socket: &Path) -> Result<UnixStream>;

    /// Connects someone who posts.
    fn publisher(&mut self, socket: &Path) -> Result<UnixStream>;

    /// Appends the next message with this `text`: its post, the reply, and its delivery.
    fn message(
        &mut self,
        text: &[u8],
        post: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        delivery: &mut Vec<u8>,
    );
}

/// How `server` is talked to where it delivers to many.
pub fn speaker(server: Server, onionbus: &Path) -> Box<dyn Speaker> {
    match server {
        Server::Redis => Box::new(redis::Redis::default()),
        Server::Tor | Server::Socat => Box::new(tor::Events),
        Server::Dbus => Box::new(dbus::Dbus::default()),
        Server::Onionbus | Server::Other => Box::new(bus::Speaker::onionbus(onionbus)),
        Server::Floor => Box::new(bus::Speaker::floor(1)),
        Server::Floor2 => Box::new(bus::Speaker::floor(2)),
    }
}

/// A message's text: `size` octets, different for every number.
pub fn text(number: usize, size: usize) -> Vec<u8> {
    let mut text = format!("{number:08}").into_bytes();
    let filler = (b'a'..=b'z').cycle().skip(number % 26);
    text.extend(filler.take(size.saturating_sub(8)));
    text
}

/// Connects, with a limit for every wait.
pub fn connect(socket: &Path) -> Result<UnixStream> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends `command` and takes the `reply`, which must be just this.
pub fn ask(stream: &mut UnixStream, command: &[u8], reply: &[u8]) -> Result<()> {
    stream.write_all(command)?;
    take(stream, reply)
}

/// Reads what must be just this.
pub fn take(stream: &mut UnixStream, expected: &[u8]) -> Result<()> {
    let mut octets = vec![0; expected.len()];
    stream.read_exact(&mut octets)?;
    ensure!(
        octets == expected,
        "wrong: {:?} came where {:?} was due",
        String::from_utf8_lossy(&octets),
        String::from_utf8_lossy(expected)
    );
    Ok(())
}
