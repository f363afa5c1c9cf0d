//! Octets for many sockets at once, which the kernel hands on without copying them for each.

use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::LazyLock;

use nix::libc::off_t;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;
use nix::sys::utsname::uname;

/// Octets in pages of memory that sockets can refer to.
///
/// A write copies the octets into buffers of the receiving socket; sent from here, the socket only
/// refers to these pages, which live until the last reader has read them. So they must never
/// change: there is no way to write to them again.
#[derive(Debug)]
pub struct Pages<'a> {
    file: File,
    octets: &'a [u8],
}

impl<'a> Pages<'a> {
    /// Copies `octets`, once.
    ///
    /// Fails if the kernel gives no file in memory of that size: for want of memory or of
    /// descriptors, for a limit of files (`ulimit -f`), or because `memfd_create(2)` is denied.
    pub fn of(octets: &'a [u8]) -> io::Result<Self> {
        let mut file = File::from(memfd_create(c"onionbus", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(octets)?;
        Ok(Self { file, octets })
    }

    /// The octets.
    pub const fn octets(&self) -> &'a [u8] {
        self.octets
    }

    /// Sends the octets of `range`, as many as the socket takes now, and says how many.
    pub fn send(&self, socket: impl AsFd, range: &Range<usize>) -> io::Result<usize> {
        let mut offset = off_t::try_from(range.start).map_err(io::Error::other)?;
        Ok(sendfile(
            socket,
            &self.file,
            Some(&mut offset),
            range.len(),
        )?)
    }
}

/// Whether this kernel sends pages to a socket without ever waiting for who reads from it.
///
/// Before Linux 6.5 it waited while the reader's `recv` copied, which the reader can make take for
/// ever, and 6.5 itself could wait for a full socket.
pub fn can_be_sent() -> bool {
    static KERNEL: LazyLock<bool> = LazyLock::new(|| {
        let name = uname();
        let release = name.as_ref().ok().and_then(|name| name.release().to_str());
        release.is_some_and(is_new_enough)
    });
    *KERNEL
}

fn is_new_enough(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|digits| digits.parse::<u32>().ok());
    matches!((number(), number()), (Some(major), Some(minor)) if (major, minor) >= (6, 6))
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

    #[test]
    fn kernels_that_may_wait_get_none() {
        for (release, expected) in [
            ("6.6.0", true),
            ("6.12.9-amd64", true),
            ("6.6-rc1", true),
            ("7.0.1", true),
            ("6.5.13", false),
            ("6.1.0-18-amd64", false),
            ("5.15.90.1-microsoft-standard-WSL2", false),
            ("4.4.0", false),
            ("6", false),
            ("next", false),
            ("", false),
        ] {
            assert_eq!(is_new_enough(release), expected, "{release}");
        }
    }
}
