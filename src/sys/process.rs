//! The daemon's own process.

use std::env;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::fstat;
use nix::unistd::{Uid, User};

/// Whether standard error leads to the journal: `JOURNAL_STREAM` names its device and inode
/// (systemd.exec(5)). The variable alone may be inherited by whoever has redirected it since.
#[must_use]
pub fn writes_to_journal() -> bool {
    let Ok(file) = fstat(io::stderr()) else {
        return false;
    };
    let stream = format!("{}:{}", file.st_dev, file.st_ino);
    env::var_os("JOURNAL_STREAM").is_some_and(|named| *named == *stream)
}

/// The name of the user that the daemon runs as, or its number where it has none.
#[must_use]
pub fn user() -> String {
    let uid = Uid::effective();
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// The number of the user that the daemon runs as.
#[must_use]
pub fn uid() -> u32 {
    Uid::effective().as_raw()
}

/// How many descriptors the process may have open; 0 if the system does not say.
#[must_use]
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

/// Raises the limit of descriptors as far as the system allows. Returns the limit in force.
pub fn raise_descriptor_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}
