//! Octets for many sockets at once, which the kernel hands on without copying them for each.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::AsFd;

use nix::libc::off_t;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;

/// Octets in pages of memory that sockets can refer to.
///
/// A write copies the octets into buffers of the receiving socket; sent from here, the socket only
/// refers to these pages, which live until the last reader has read them. So they must never
/// change: there is no way to write to them again.
#[derive(Debug)]
pub struct Pages(File);

impl Pages {
    /// Copies `octets`, once.
    ///
    /// Fails if the kernel gives no file in memory, for want of memory or of descriptors or
    /// because the system denies `memfd_create(2)`.
    pub fn of(octets: &[u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(c"onionbus", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(octets)?;
        Ok(Self(file))
    }

    /// Sends the octets of `range`, as many as the socket takes now, and says how many.
    pub fn send(&self, socket: impl AsFd, range: &Range<usize>) -> io::Result<usize> {
        let mut offset = off_t::try_from(range.start).map_err(io::Error::other)?;
        Ok(sendfile(socket, &self.0, Some(&mut offset), range.len())?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_was_sent_outlives_the_pages_and_begins_anywhere() {
        let octets: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let (here, mut there) = UnixStream::pair().unwrap();
        let range = 4321..65_432;
        let pages = Pages::of(&octets).unwrap();
        assert_eq!(pages.send(&here, &range).unwrap(), range.len());
        drop((pages, here));
        let mut read = Vec::new();
        there.read_to_end(&mut read).unwrap();
        assert!(read == octets[range]);
    }
}
