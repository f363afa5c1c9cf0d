//! One connection to Tor: connected without waiting, logged in, then octets.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd as _, RawFd};

use mio::net::{TcpStream, UnixStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::sys::file::read_small;
use crate::tor::address::Address;
use crate::tor::login::{Login, LoginError, Next};

/// The octets of Tor's cookie.
const COOKIE: u64 = 32;

/// A connection to Tor.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Link {
    stream: Stream,
    token: Token,
    /// The login, until it is done.
    login: Option<Box<Login>>,
    /// What Tor has not taken yet.
    waiting: Vec<u8>,
    /// The loop is told when Tor takes more.
    wants_writable: bool,
    /// Why it failed, if writing or reading has found that.
    failed: Option<io::Error>,
    /// Tor takes no more: it may have said something all the same, so reading goes on.
    deaf: bool,
    /// There may be more to read.
    pub(super) readable: bool,
    /// Tor has closed its half: read on until nothing comes.
    pub(super) hung_up: bool,
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// What reading gave.
pub(super) enum Got {
    /// So many octets.
    Octets(usize),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    End,
}

impl Link {
    /// Begins to connect and to log in.
    pub(super) fn open(
        address: &Address,
        password: Option<Vec<u8>>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let stream = match address {
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
            Address::Tcp(address) => Stream::Tcp(TcpStream::connect(*address)?),
        };
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(io::Error::other)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&stream.fd()), token, interest)?;
        let mut link = Self {
            stream,
            token,
            login: Some(Box::new(Login::new(password, nonce))),
            waiting: Login::FIRST.to_vec(),
            wants_writable: true,
            failed: None,
            deaf: false,
            readable: false,
            hung_up: false,
        };
        // A Unix socket is connected at once.
        link.flush(registry);
        Ok(link)
    }

    /// Registers it under another token. `false` if it has ended.
    pub(super) fn pass_on(&mut self, token: Token, registry: &Registry) -> bool {
        self.token = token;
        self.register(registry);
        // Once it is logged in, nothing can come that was not asked for but its end.
        self.readable |= self.is_open();
        !self.is_open() || matches!(self.read(&mut [0]), Got::Nothing)
    }

    /// Whether the login is done.
    pub(super) const fn is_open(&self) -> bool {
        self.login.is_none()
    }

    /// The connection has failed, and why.
    pub(super) fn failure(&mut self) -> Option<io::Error> {
        if self.failed.is_some() {
            return self.failed.take();
        }
        let error = match &self.stream {
            Stream::Unix(stream) => stream.take_error(),
            Stream::Tcp(stream) => stream.take_error(),
        };
        error.unwrap_or_else(Some)
    }

    /// Octets that Tor has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Notes `octets` to be sent by the next [`flush`](Self::flush).
    pub(super) fn send(&mut self, octets: &[u8]) {
        if !self.deaf {
            self.waiting.extend_from_slice(octets);
        }
    }

    /// Notes what the loop has heard of it, and sends what waits if that can be sent.
    pub(super) fn heard(&mut self, event: &mio::event::Event, registry: &Registry) {
        self.hung_up |= event.is_read_closed() || event.is_error();
        self.readable |= event.is_readable() || self.hung_up;
        if event.is_writable() {
            self.flush(registry);
        }
    }

    /// Sends what waits, as far as Tor takes it now, and the rest as soon as it takes more.
    pub(super) fn flush(&mut self, registry: &Registry) {
        let mut sent = 0;
        while sent < self.waiting.len() {
            match self.stream.write(&self.waiting[sent..]) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    ) =>
                {
                    break;
                }
                Err(error) => {
                    self.failed = Some(error);
                    self.deaf = true;
                    // Whether it has ended, reading tells.
                    self.readable = true;
                    sent = self.waiting.len();
                }
            }
        }
        self.waiting.drain(..sent);
        let wants = !self.waiting.is_empty();
        if wants != self.wants_writable {
            self.wants_writable = wants;
            self.register(registry);
        }
    }

    /// Reads what Tor has said.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Got {
        if !self.readable {
            return Got::Nothing;
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Got::End,
                Ok(length) => {
                    self.readable = length == buffer.len() || self.hung_up || self.deaf;
                    return Got::Octets(length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::NotConnected
                    ) =>
                {
                    self.readable = false;
                    return if self.deaf { Got::End } else { Got::Nothing };
                }
                Err(error) => {
                    self.failed.get_or_insert(error);
                    return Got::End;
                }
            }
        }
    }

    /// Goes on with the login; the version of the Tor once it is done.
    pub(super) fn log_in(
        &mut self,
        octets: &[u8],
        registry: &Registry,
    ) -> Result<Option<String>, LoginError> {
        let Some(login) = &mut self.login else {
            return Ok(None);
        };
        let mut next = login.take(octets)?;
        loop {
            match next {
                Next::Wait => return Ok(None),
                Next::Send(command) => {
                    self.send(&command);
                    self.flush(registry);
                    return Ok(None);
                }
                Next::ReadCookie(path) => {
                    let content = read_small(&path, COOKIE).map_err(|cause| cause.to_string());
                    next = login.cookie(path, content)?;
                }
                Next::Done => {
                    let version = std::mem::take(&mut login.version);
                    self.login = None;
                    return Ok(Some(version));
                }
            }
        }
    }

    fn register(&self, registry: &Registry) {
        let fd = self.stream.fd();
        let interest = if self.wants_writable {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        // It fails only for a descriptor that is not registered, and this one is.
        let _ = registry.reregister(&mut SourceFd(&fd), self.token, interest);
    }
}

impl Stream {
    fn fd(&self) -> RawFd {
        match self {
            Self::Unix(stream) => stream.as_raw_fd(),
            Self::Tcp(stream) => stream.as_raw_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(octets),
            Self::Tcp(stream) => stream.write(octets),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
