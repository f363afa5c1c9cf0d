//! The store of onion services: a file that is its owner's alone.

use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use atomic_write_file::unix::OpenOptionsExt as _;
use zeroize::Zeroizing;

use super::file::read_small_if;
use super::process;

/// The most octets of a store.
const MOST: u64 = 16 << 20;

/// Reads a store; one that is not there is empty. Fails on a file of another user, or that others
/// can read.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let read = read_small_if(path, MOST, |file| {
        if file.uid() != process::uid() {
            let uid = file.uid();
            return Err(io::Error::other(format!("it belongs to uid {uid}")));
        }
        if file.mode() & 0o077 != 0 {
            return Err(io::Error::other(
                "others may read it: whoever has may have its keys; run 'chmod 600' on it if not",
            ));
        }
        Ok(())
    });
    match read {
        Ok(text) => Ok(text.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new().into()),
        Err(error) => Err(error),
    }
}

/// Puts a text in the place of a store, so that at every instant the path is the old one or the new
/// one, whole.
pub fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // What cannot be read at the next start is of no use.
    if text.len() as u64 > MOST {
        return Err(io::Error::other("there is more than 16 MiB to be written"));
    }
    let mut file = atomic_write_file::OpenOptions::new()
        .mode(0o600)
        .preserve_mode(false)
        .open(path)?;
    file.write_all(text)?;
    // Once here as well: after a failure within commit the temporary file would stay.
    file.sync_all()?;
    file.commit()
}
