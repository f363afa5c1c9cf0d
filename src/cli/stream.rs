//! The way to a daemon: a Unix socket, or a TCP port.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use onionbus::options::Address;
use onionbus::sys::paths;

/// A connection to a daemon, or to a Tor.
#[derive(Debug)]
pub enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Connects to a socket by its path, or to `HOST:PORT` or a port of this machine where no file
    /// has that name.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let address = socket.to_str().filter(|_| !socket.exists());
        let stream = match address.and_then(Address::parse) {
            Some(Address::Tcp(address)) => TcpStream::connect(address)?,
            Some(Address::Name(host, port)) => TcpStream::connect((host, port))?,
            Some(Address::Unix(path)) => return unix(&path),
            None => return unix(socket),
        };
        stream.set_nodelay(true)?;
        Ok(Self::Tcp(stream))
    }

    /// Another end of the same connection.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
        }
    }
}

/// Connects to a socket, which is not believed to be the user's own where others could have made
/// it.
fn unix(socket: &Path) -> io::Result<Stream> {
    let private = paths::private_directory();
    if socket.starts_with(&private) {
        // Anybody may make a directory of this name before the user does, and listen in it.
        match paths::check_private(&private) {
            Err(paths::NotPrivate::Io { error, .. }) => return Err(error),
            checked => checked.map_err(io::Error::other)?,
        }
    }
    UnixStream::connect(socket).map(Stream::Unix)
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

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}
