//! One connection to Tor: connected without waiting, logged in, then octets of others.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use mio::net::UnixStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::readable::Readable;
use super::source::Source;
use crate::sys::file::read_small_if;
use crate::sys::peer;
use crate::sys::state::StateDirectory;
use crate::sys::stream::Stream;
use crate::tor::login::{Login, LoginError};

/// The octets of Tor's cookie.
const COOKIE: u64 = 32;

/// A connection to Tor.
pub(super) struct Link {
    stream: Stream,
    source: Source,
    /// The login, until it is done.
    login: Option<Box<Login>>,
    /// Tor answers fences, as the login has found out.
    pub(super) fences: bool,
    /// The loop is told when Tor takes more.
    wants_writable: bool,
    /// Why writing failed. Tor may have said something all the same, so reading goes on.
    failed: Option<io::Error>,
    /// There may be more to read.
    pub(super) readable: Readable,
}

/// Where Tor listens now.
pub(super) enum Place<'a> {
    Path(&'a Path),
    Port(SocketAddr),
}

/// How reading has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// More may be there, now or later.
    Open,
    /// Nothing will come any more.
    Ended,
}

/// The login is done.
pub(super) struct Welcome {
    /// The version of the Tor.
    pub(super) version: String,
    /// The numbers of the buses on the way to it.
    pub(super) chain: Vec<u8>,
    /// The answer to a fence, if it is not Tor's.
    pub(super) filter: Option<String>,
}

impl Link {
    /// Begins to connect and to log in.
    pub(super) fn open(
        address: &Place<'_>,
        login: Login,
        registry: &Registry,
        source: Source,
    ) -> io::Result<Self> {
        let stream = match address {
            Place::Path(path) => Stream::Unix(UnixStream::connect(path)?),
            Place::Port(address) => Stream::connect(*address)?,
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&stream.as_raw_fd()), source.into(), interest)?;
        let mut link = Self {
            stream,
            source,
            login: Some(Box::new(login)),
            fences: false,
            wants_writable: true,
            failed: None,
            readable: Readable::No,
        };
        // A Unix socket is connected at once.
        link.flush(&mut Vec::new(), registry);
        Ok(link)
    }

    /// Registers it as another source. `false` if it has ended.
    pub(super) fn pass_on(&mut self, source: Source, registry: &Registry) -> bool {
        self.adopt(source, registry);
        // Once it is logged in, nothing can come that was not asked for but its end.
        if self.is_open() {
            self.readable = Readable::All;
        }
        !self.is_open() || self.read(&mut [0]) == (0, Read::Open)
    }

    /// Registers it as another source.
    pub(super) fn adopt(&mut self, source: Source, registry: &Registry) {
        self.source = source;
        self.register(registry);
    }

    /// Whether the login is done.
    pub(super) const fn is_open(&self) -> bool {
        self.login.is_none()
    }

    /// Why the connection has failed, in words.
    pub(super) fn failure(&mut self) -> String {
        let pending = || self.stream.take_error().unwrap_or_else(Some);
        let failed = self.failed.take().or_else(pending);
        failed.map_or("it closed the connection".into(), |error| error.to_string())
    }

    /// The octets that its login keeps.
    pub(super) fn held(&self) -> usize {
        self.login.as_ref().map_or(0, |login| login.held())
    }

    /// Notes what the loop has heard of it. `true` if Tor takes more.
    pub(super) fn heard(&mut self, event: &mio::event::Event) -> bool {
        self.readable.heard(event);
        event.is_writable()
    }

    /// Sends what the login has for Tor, and after that `transmit`, as far as Tor takes it now. The
    /// loop is told when it takes more.
    pub(super) fn flush(&mut self, transmit: &mut Vec<u8>, registry: &Registry) {
        let waiting = match &mut self.login {
            Some(login) => &mut login.transmit,
            None => transmit,
        };
        let mut sent = 0;
        while let Some(rest) = waiting.get(sent..).filter(|rest| !rest.is_empty()) {
            if self.failed.is_some() {
                sent = waiting.len();
                break;
            }
            match (&self.stream).write(rest) {
                Ok(taken) => sent += taken,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => break,
                    _ => {
                        self.failed = Some(error);
                        // Whether it has ended, reading tells.
                        self.readable = Readable::All;
                    }
                },
            }
        }
        waiting.drain(..sent);
        let wants = !waiting.is_empty();
        if wants != self.wants_writable {
            self.wants_writable = wants;
            self.register(registry);
        }
    }

    /// Reads what Tor has said, until nothing more is there or the buffer is full.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> (usize, Read) {
        let mut length = 0;
        while self.readable.is_any()
            && let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty())
        {
            let wanted = room.len();
            match (&self.stream).read(room) {
                Ok(0) => return (length, Read::Ended),
                Ok(read) => {
                    length += read;
                    self.readable.has_read(read, wanted);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => {
                        self.readable = Readable::No;
                        if self.failed.is_some() {
                            return (length, Read::Ended);
                        }
                    }
                    _ => {
                        self.failed.get_or_insert(error);
                        return (length, Read::Ended);
                    }
                },
            }
        }
        (length, Read::Open)
    }

    /// Goes on with the login; what is known once it is done.
    pub(super) fn log_in(
        &mut self,
        octets: &[u8],
        state: &StateDirectory,
    ) -> Result<Option<Welcome>, LoginError> {
        let Some(login) = &mut self.login else {
            return Ok(None);
        };
        if let Some(path) = login.handle_octets(octets)? {
            let content = read_cookie(&path, &self.stream, state);
            login.handle_cookie(path, content.map_err(|cause| cause.to_string()))?;
        }
        if !login.is_done() {
            return Ok(None);
        }
        self.fences = login.filter.is_none();
        let welcome = Welcome {
            version: std::mem::take(&mut login.version),
            chain: std::mem::take(&mut login.chain),
            filter: login.filter.take(),
        };
        self.login = None;
        Ok(Some(welcome))
    }

    fn register(&self, registry: &Registry) {
        let fd = self.stream.as_raw_fd();
        let interest = if self.wants_writable {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        // It fails only for a descriptor that is not registered, and this one is.
        let _ = registry.reregister(&mut SourceFd(&fd), self.source.into(), interest);
    }
}

/// Reads the cookie file that whoever is at the other end has named. A proof of the cookie, or the
/// cookie itself, is worth something to others too: it must be a cookie of that user's.
fn read_cookie(path: &Path, stream: &Stream, state: &StateDirectory) -> io::Result<Vec<u8>> {
    let user = match stream {
        Stream::Unix(stream) => Some(peer::credentials(stream)?.uid),
        Stream::Tcp(_) => None,
    };
    read_small_if(path, COOKIE, |file| {
        if state.holds(file)? {
            return Err(io::Error::other("it is in the bus's own state directory"));
        }
        let owner = file.uid();
        match user {
            // A Tor that root starts has its socket before it becomes another user. Root needs
            // nobody to read a file.
            None | Some(0) => Ok(()),
            Some(user) if owner == user || owner == 0 => Ok(()),
            Some(user) => Err(io::Error::other(format!(
                "it belongs to uid {owner}, and the socket to uid {user}"
            ))),
        }
    })
}
