//! The daemon's user, and how a daemon that root has started becomes another one.

use std::ffi::CString;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Uid, User, initgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use thiserror::Error;

/// Why the daemon cannot become `BusUser`.
#[derive(Debug, Error)]
pub enum UserError {
    /// There is no such user.
    #[error("BusUser {0}: there is no such user on this system: make it, or name another")]
    Unknown(String),
    /// The daemon runs as a third user.
    #[error(
        "BusUser {0}: only root can become another user: start the daemon as root, or as {0} itself"
    )]
    NotRoot(String),
    /// A directory cannot be made for the user.
    #[error("cannot make the directory {path} for BusUser {name}: {cause}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The user.
        name: String,
        /// Why not.
        cause: io::Error,
    },
    /// The system refused something.
    #[error("cannot become BusUser {name}: {cause}")]
    System {
        /// The user.
        name: String,
        /// Why not.
        cause: io::Error,
    },
}

/// Makes the directories that are missing, each with its mode and for the user `name`, and becomes
/// that user for good: its groups, and no capability. Comes before every other thread.
///
/// Root opens nothing here, and changes nothing that was there before: in a directory of the user,
/// that one could put a link to something else in the way.
pub fn become_user(name: &str, directories: &[(PathBuf, u32)]) -> Result<(), UserError> {
    let user = User::from_name(name).ok().flatten();
    let user = user.ok_or_else(|| UserError::Unknown(name.to_owned()))?;
    if Uid::effective() == user.uid && !Uid::current().is_root() {
        return Ok(());
    }
    if !Uid::effective().is_root() {
        return Err(UserError::NotRoot(name.to_owned()));
    }
    for (path, mode) in directories {
        make_for(&user, path, *mode).map_err(|cause| UserError::Directory {
            path: path.clone(),
            name: name.to_owned(),
            cause,
        })?;
    }
    become_one(&user).map_err(|cause| UserError::System {
        name: name.to_owned(),
        cause,
    })
}

/// Makes a directory for a user, if it is missing; those above it are root's.
fn make_for(user: &User, path: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = path.parent() {
        let mut above_all = DirBuilder::new();
        above_all.recursive(true).mode(0o755).create(above)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        result => result?,
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)?;
    fchown(directory, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
}

fn become_one(user: &User) -> io::Result<()> {
    let name = CString::new(user.name.as_str()).map_err(io::Error::other)?;
    initgroups(&name, user.gid)?;
    setresgid(user.gid, user.gid, user.gid)?;
    setresuid(user.uid, user.uid, user.uid)?;
    // The change of user takes them only where nobody has told the kernel otherwise
    // (SECBIT_NO_SETUID_FIXUP in capabilities(7)).
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, none)?)
}
