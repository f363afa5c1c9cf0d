//! Small files that somebody else names.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

/// Reads a regular file of at most `most` octets. Anything else at `path`, such as a device or a
/// pipe that nobody writes to, is an error and is not waited for.
pub fn read_small(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_small_if(path, most, |_| Ok(()))
}

/// Reads as [`read_small`] does, unless `check` refuses the file that was opened, whatever `path`
/// leads to by then.
pub fn read_small_if(
    path: &Path,
    most: u64,
    check: impl FnOnce(&Metadata) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    check(&found)?;
    let mut octets = Vec::new();
    file.take(most + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} octets")));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_regular_files_are_read() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_small(&path, 5).unwrap(), b"12345");
        assert!(read_small(&path, 4).is_err());
        assert!(read_small(Path::new("/dev/zero"), 5).is_err());
        let pipe = place.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read_small(&pipe, 5).is_err());
    }
}
