//! The state directory: which `MessageID`s are used up, and the cookie.

use std::cell::RefCell;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::process;

use atomic_write_file::AtomicWriteFile;
use atomic_write_file::unix::OpenOptionsExt as _;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

/// How many `MessageID`s are reserved at a time: one write for so many messages.
pub const BLOCK: u64 = 1 << 16;

/// Descriptors that writing a file atomically takes.
const SPARE: usize = 4;

/// Why the state directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Two daemons would give one `MessageID` twice.
    #[error(
        "the state directory {path} is in use by process {pid}: stop that one, or choose \
         another with --state or BusStateDirectory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// What is known of the process.
        pid: String,
    },
    /// The file does not hold what it should.
    #[error(
        "{path} does not hold the last MessageID: write the highest one ever used into it, as \
         decimal digits; remove it only if ids may be used twice"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system refused something.
    #[error("cannot {what} {path}: {cause}")]
    System {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
}

/// The state directory, held by this daemon alone.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    _lock: Flock<File>,
    /// Descriptors that are let go while a file is written, so that controllers who use up all the
    /// others cannot keep a `MessageID` from being reserved.
    spare: RefCell<Vec<File>>,
}

impl StateDirectory {
    /// Takes the directory for this daemon; it is made if it is missing.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed("make the state directory", path))?;
        let lock = path.join("lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock)
            .map_err(failed("open", &lock))?;
        let mut held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => held,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                // Only for the message: an empty one still says that it is in use.
                let _ = file.read_to_string(&mut pid);
                return Err(StateError::InUse {
                    path: path.to_owned(),
                    pid: pid.trim().to_owned(),
                });
            }
            Err((_, cause)) => return Err(failed("lock", &lock)(cause.into())),
        };
        // Only for the message that another daemon gives; the lock holds without it.
        let _ = held
            .set_len(0)
            .and_then(|()| writeln!(held, "{}", process::id()));
        let state = Self {
            path: path.to_owned(),
            _lock: held,
            spare: RefCell::default(),
        };
        state.keep_spare();
        Ok(state)
    }

    /// The highest `MessageID` that may have been used; 0 if none was.
    pub fn last_id(&self) -> Result<u64, StateError> {
        let path = self.ids();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(cause) => return Err(failed("read", &path)(cause)),
        };
        text.trim()
            .parse()
            .map_err(|_| StateError::Damaged { path })
    }

    /// Writes down that ids up to `id` may be used from now on.
    pub fn write_last_id(&self, id: u64) -> Result<(), StateError> {
        self.write("message-id", format!("{id}\n").as_bytes(), 0o600)
    }

    /// Writes a cookie that only the daemon's user can read, and returns where it is. Where the
    /// directory lets its group in and nobody else, the group can read it too.
    pub fn write_cookie(&self, cookie: &[u8; 32]) -> Result<PathBuf, StateError> {
        let directory = fs::metadata(&self.path).map_err(failed("look at", &self.path))?;
        let for_group = directory.mode() & 0o077 == 0o050;
        let mode = if for_group { 0o640 } else { 0o600 };
        self.write("control_auth_cookie", cookie, mode)?;
        Ok(self.cookie())
    }

    /// Removes the cookie of a daemon that required one.
    pub fn remove_cookie(&self) {
        // It opens nothing once this daemon is gone.
        let _ = fs::remove_file(self.cookie());
    }

    fn ids(&self) -> PathBuf {
        self.path.join("message-id")
    }

    fn cookie(&self) -> PathBuf {
        self.path.join("control_auth_cookie")
    }

    fn write(&self, name: &str, octets: &[u8], mode: u32) -> Result<(), StateError> {
        let path = self.path.join(name);
        self.spare.take();
        let written = AtomicWriteFile::options()
            .mode(mode)
            .preserve_mode(false)
            .open(&path)
            .and_then(|mut file| {
                // Whatever the umask is.
                file.as_file()
                    .set_permissions(fs::Permissions::from_mode(mode))?;
                file.write_all(octets)?;
                file.commit()
            });
        self.keep_spare();
        written.map_err(failed("write", &path))
    }

    /// Opens as many spare descriptors as can be had.
    fn keep_spare(&self) {
        let opened = (0..SPARE).map_while(|_| File::open("/dev/null").ok());
        self.spare.replace(opened.collect());
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |cause| StateError::System { what, path, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_remembered_and_damage_is_not_taken_for_none() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(root.path()).unwrap();
        assert_eq!(state.last_id().unwrap(), 0);
        state.write_last_id(12345).unwrap();
        assert_eq!(state.last_id().unwrap(), 12345);
        for damage in ["", "-1", "12a", "99999999999999999999999"] {
            fs::write(root.path().join("message-id"), damage).unwrap();
            assert!(
                matches!(state.last_id(), Err(StateError::Damaged { .. })),
                "{damage}"
            );
        }
    }

    #[test]
    fn one_directory_serves_one_daemon() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let state = StateDirectory::open(&path).unwrap();
        let error = StateDirectory::open(&path).unwrap_err().to_string();
        assert!(error.contains(&process::id().to_string()), "{error}");
        drop(state);
        StateDirectory::open(&path).unwrap();
    }

    #[test]
    fn the_cookie_is_private_unless_the_directory_is_the_groups() {
        let root = tempfile::tempdir().unwrap();
        let state = StateDirectory::open(root.path()).unwrap();
        for (directory, cookie) in [(0o700, 0o600), (0o755, 0o600), (0o750, 0o640)] {
            fs::set_permissions(root.path(), fs::Permissions::from_mode(directory)).unwrap();
            let path = state.write_cookie(&[7; 32]).unwrap();
            assert_eq!(fs::read(&path).unwrap(), [7; 32]);
            let mode = fs::metadata(&path).unwrap().mode() & 0o777;
            assert_eq!(mode, cookie, "{directory:o}");
            state.remove_cookie();
            assert!(!path.exists());
        }
    }
}
