//! The daemon's own process.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, User};

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

/// Raises the limit of descriptors to `wanted`, or as near to it as the system allows. Returns
/// the limit in force.
pub fn raise_descriptor_limit(wanted: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return 0;
    };
    let target = wanted.min(hard).max(soft);
    match setrlimit(Resource::RLIMIT_NOFILE, target, hard) {
        Ok(()) => target,
        Err(_) => soft,
    }
}
