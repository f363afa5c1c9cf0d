//! A controller's end of one connection: connect, ask, and read replies and events.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group};
use onionbus::sys::{paths, users};
use onionbus::wire::text::{self, Reader};

use super::Stop;
use super::args::Bus;
use super::login;
use super::reply::Message;
use super::stream::Stream;

/// The most octets of a line or a multi-line command: Tor and the daemon close on more.
pub const MAX_COMMAND: u64 = text::MAX_COMMAND as u64;

/// The most octets of one reply: more than any Tor or daemon has.
const MAX_REPLY: usize = 1 << 30;

/// The octets that one call reads.
const READ: usize = 16 * 1024;

/// A logged in connection to the daemon.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    stream: Stream,
    reader: Reader,
}

impl Client {
    /// Connects to the socket that `bus` or the environment names, logs in, and takes the name
    /// that `bus` asks for.
    pub fn connect(bus: &Bus) -> anyhow::Result<Self> {
        let name = bus.name.as_deref();
        let name = name.map(|name| word("NAME", name)).transpose()?;
        let is_named = bus.socket.is_some() || paths::is_socket_named();
        let socket = bus.socket.clone().unwrap_or_else(paths::default_socket);
        let (socket, stream) = match Stream::connect(&socket) {
            Ok(stream) => (socket, stream),
            // Who has no daemon means that of the system.
            Err(error) if !is_named && error.kind() == io::ErrorKind::NotFound => {
                let system = PathBuf::from(paths::SYSTEM_SOCKET);
                match Stream::connect(&system) {
                    Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                        return Err(unreachable(&socket, &error));
                    }
                    connected => {
                        let stream = connected.map_err(|error| unreachable(&system, &error))?;
                        (system, stream)
                    }
                }
            }
            Err(error) => return Err(unreachable(&socket, &error)),
        };
        let mut client = Self {
            socket,
            stream,
            reader: Reader::new(MAX_REPLY),
        };
        login::log_in(|line| client.ask(line))?;
        if let Some(name) = name {
            client.ask_bus(&[b"CONTROLLERNAME ", name].concat())?;
        }
        Ok(client)
    }

    /// Another end of the same connection: one thread sends there, while another reads here.
    pub fn sender(&self) -> io::Result<Self> {
        Ok(Self {
            socket: self.socket.clone(),
            stream: self.stream.try_clone()?,
            reader: Reader::new(MAX_REPLY),
        })
    }

    /// The socket that it is connected to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends octets as they are, whole lines with their CRLF, and waits for no reply.
    pub fn send(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        match self.stream.write_all(octets) {
            // The daemon may have said why before it closed: reading will tell.
            Err(error) if is_closed(&error) => Ok(()),
            sent => sent.map_err(|error| self.lost(&error)),
        }
    }

    /// The next reply, good or bad.
    pub fn reply(&mut self) -> anyhow::Result<Message> {
        loop {
            let message = self.message()?;
            if !message.is_event() {
                return Ok(message);
            }
        }
    }

    /// The next event.
    pub fn event(&mut self) -> anyhow::Result<Message> {
        loop {
            let message = self.message()?;
            if message.is_event() {
                return Ok(message);
            }
        }
    }

    /// Whether the next message has not arrived yet, as far as one can tell without asking the
    /// kernel. Then the messages before it are to be shown.
    pub fn must_wait(&self) -> bool {
        !self.reader.rest().contains(&b'\n')
    }

    /// Sends one line, given without its CRLF, and returns the reply. A refusal is an error.
    pub fn ask(&mut self, line: &[u8]) -> anyhow::Result<Message> {
        self.send(&[line, b"\r\n"].concat())?;
        let reply = self.reply()?;
        if reply.is_success() {
            Ok(reply)
        } else {
            Err(Stop::Refused(wording(&reply)).into())
        }
    }

    /// The next reply or event.
    pub fn message(&mut self) -> anyhow::Result<Message> {
        loop {
            if let Some(message) = self.received()? {
                return Ok(message);
            }
            self.receive()?;
        }
    }

    /// The next reply or event, if it has been received.
    pub fn received(&mut self) -> anyhow::Result<Option<Message>> {
        let read = match self.reader.poll_message() {
            Ok(message) => message.map(Message::new).transpose(),
            Err(error) => Err(error.to_string()),
        };
        read.map_err(|why| self.strange(&why))
    }

    /// Receives what has come, or what comes next.
    pub fn receive(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; READ];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => {
                self.reader.handle_octets(&buffer[..length]);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Asks something that every bus knows.
    pub fn ask_bus(&mut self, line: &[u8]) -> anyhow::Result<Message> {
        let asked = self.ask(line);
        asked.map_err(|refusal| self.explained(refusal))
    }

    /// A refusal of something that every bus knows, with the reason: something else is there, or a
    /// policy, which refuses in Tor's words.
    pub fn explained(&mut self, refusal: anyhow::Error) -> anyhow::Error {
        const UNKNOWN: [&str; 3] = [
            "510 Unrecognized command",
            "552 Unrecognized event",
            "552 Unrecognized key",
        ];
        let text = match refusal.downcast_ref() {
            Some(Stop::Refused(text)) if UNKNOWN.iter().any(|words| text.contains(words)) => text,
            _ => return refusal,
        };
        // Every bus answers this, whatever its policy is.
        let probe = self.ask(b"GETINFO posted-message");
        let why = match probe.as_ref().map_err(|error| error.downcast_ref()) {
            Ok(_) => "The policy of this bus refuses it: `onionbus info policy` has all that it \
                      allows."
                .to_owned(),
            Err(Some(Stop::Refused(_))) => format!(
                "No onionbus answers at {}, but a Tor itself.",
                self.socket.display()
            ),
            Err(_) => return refusal,
        };
        Stop::Refused(format!("{text}\n{why}")).into()
    }

    /// The error where the peer answers, but not as the daemon does.
    fn strange(&self, why: &str) -> anyhow::Error {
        let socket = self.socket.display();
        let text = format!("no daemon that this client understands answers at {socket}: {why}");
        Stop::NoDaemon(text).into()
    }

    /// The error where the connection has failed.
    fn lost(&self, error: &io::Error) -> anyhow::Error {
        if !is_closed(error) {
            return self.strange(&error.to_string());
        }
        let socket = self.socket.display();
        Stop::NoDaemon(format!(
            "the daemon at {socket} closed the connection: its log says why; \
             if it is gone, start it with `onionbus serve`"
        ))
        .into()
    }
}

/// `command` with its arguments behind it, one blank apart.
pub fn line<W: AsRef<OsStr>>(command: &str, words: &[W]) -> Result<Vec<u8>, Stop> {
    let mut line = command.as_bytes().to_vec();
    for argument in words {
        line.push(b' ');
        line.extend_from_slice(word("an argument", argument.as_ref())?);
    }
    Ok(line)
}

/// The octets of an argument that is one word to the daemon.
pub fn word<'a>(what: &str, argument: &'a OsStr) -> Result<&'a [u8], Stop> {
    let octets = argument.as_bytes();
    if octets.is_empty() || octets.iter().any(u8::is_ascii_whitespace) {
        let shown = octets.escape_ascii();
        let text = format!("{what} has to be one word, and \"{shown}\" is not");
        return Err(Stop::Usage(text));
    }
    one_line(what, octets)
}

/// `octets`, if a line of the protocol can carry them.
pub fn one_line<'a>(what: &str, octets: &'a [u8]) -> Result<&'a [u8], Stop> {
    let refused = match octets.iter().find(|octet| b"\r\n\0".contains(octet)) {
        None => return Ok(octets),
        Some(b'\r') => "a carriage return",
        Some(b'\n') => "a line end",
        Some(_) => "a NUL",
    };
    Err(Stop::Usage(format!(
        "{what} contains {refused}, which the control protocol cannot carry"
    )))
}

/// A refusal as the user reads it: the lines of the reply.
pub fn wording(reply: &Message) -> String {
    String::from_utf8_lossy(&reply.raw()).trim_end().to_owned()
}

fn unreachable(socket: &Path, error: &io::Error) -> anyhow::Error {
    let shown = socket.display();
    let what_to_do = match error.kind() {
        io::ErrorKind::PermissionDenied => not_allowed(socket),
        _ => not_a_socket(socket).unwrap_or_else(|| nobody_there(socket)),
    };
    Stop::NoDaemon(format!(
        "no daemon answers at {shown}: {error}\n{what_to_do}"
    ))
    .into()
}

/// What to do where nobody listens.
fn nobody_there(socket: &Path) -> String {
    let system = Path::new(paths::SYSTEM_SOCKET);
    // A file alone says nothing: a daemon that was killed leaves its own.
    let is_there = || match Stream::connect(system) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
    };
    if socket != system && is_there() {
        let system = system.display();
        return format!("The system has one at {system}: name that with --socket.");
    }
    let variable = paths::SOCKET_VARIABLE;
    format!("Start one with `onionbus serve`, or name its socket with --socket or {variable}.")
}

/// What who may not connect can do about it.
fn not_allowed(socket: &Path) -> String {
    // The socket itself, or the directory on the way to it that may not be looked into.
    let seen = socket.ancestors().find_map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((path, found))
    });
    let Some((path, found)) = seen else {
        return "Ask whoever runs the daemon, or name another socket with --socket.".to_owned();
    };
    let (deed, bit) = if path == socket {
        ("connect".to_owned(), 0o020)
    } else {
        (format!("look into {}", path.display()), 0o010)
    };
    // Nobody is to become a member of root's own group for it.
    if found.mode() & bit == 0 || found.gid() == 0 {
        let owner = users::name(found.uid()).unwrap_or_else(|| found.uid().to_string());
        return format!(
            "Only user {owner} may {deed}: ask for another `BusSocket`, see onionbus.conf(5)."
        );
    }
    let gid = found.gid();
    let group = Group::from_gid(Gid::from_raw(gid)).ok().flatten();
    let group = group.map_or_else(|| gid.to_string(), |group| group.name);
    let member = users::groups(users::own());
    if member.is_some_and(|(first, others)| first == gid || others.contains(&gid)) {
        return format!(
            "Only members of the group {group} may {deed}. You are one, but have been none when you \
             logged in: log in again."
        );
    }
    format!(
        "Only members of the group {group} may {deed}: become one with `sudo adduser $USER {group}`, \
         and log in again."
    )
}

/// What is in the place of a socket, if something else is.
fn not_a_socket(path: &Path) -> Option<String> {
    let kind = fs::metadata(path).ok()?.file_type();
    let what = match () {
        () if kind.is_socket() => return None,
        () if kind.is_dir() => "a directory",
        () if kind.is_file() => "a file",
        () => "something else",
    };
    Some(format!(
        "That is {what} and no socket: name the daemon's with --socket."
    ))
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof
    )
}
