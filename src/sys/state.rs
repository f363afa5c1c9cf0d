//! The state directory: which `MessageID`s are used up, and the cookie.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use thiserror::Error;

use super::directory::{self, Fault, Unsafe, judge};

/// How many `MessageID`s are reserved at a time: one write for so many messages.
pub const BLOCK: u64 = 1 << 16;

/// Descriptors that writing a file takes, in a directory that must be opened first.
const SPARE: usize = 4;

/// The file that is locked while a daemon has the directory.
const LOCK: &str = "lock";

/// The file with the highest `MessageID`.
const IDS: &str = "message-id";

/// The most octets of [`IDS`] that are read: more than any number has.
const MAX_IDS: u64 = 64;

/// The file with the cookie, under Tor's name for it.
const COOKIE: &str = "control_auth_cookie";

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
    /// Others could change what is in the directory, or put another in its place.
    #[error(
        "the directory {path} can be written to by others (mode {mode:04o}), who could take the \
         state in their hands: run 'chmod go-w {path}', or choose another with --state or \
         BusStateDirectory"
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The directory, or one above it, is another user's.
    #[error(
        "{path} belongs to uid {owner}, who could take the state in their hands: run the daemon \
         as that user, or choose another directory with --state or BusStateDirectory"
    )]
    Foreign {
        /// The directory, or a link on the way to it.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A file there is a link, a device or the like.
    #[error("{0} is no plain file that is only there: remove it")]
    NotPlain(PathBuf),
    /// The directory has been replaced by one that knows more than this daemon.
    #[error(
        "the state directory {path} is another one than at the start, and MessageIDs up to {id} \
         are used there: start the daemon again"
    )]
    Overtaken {
        /// The directory.
        path: PathBuf,
        /// The number in it.
        id: u64,
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
pub struct StateDirectory {
    path: PathBuf,
    held: RefCell<Held>,
    /// The cookie that is in the directory, if one is.
    cookie: Cell<Option<[u8; 32]>>,
    /// Descriptors that are let go while a file is written, so that controllers who use up all the
    /// others cannot keep a `MessageID` from being reserved.
    spare: RefCell<Vec<File>>,
}

/// A directory as it was opened, whatever its path leads to by now, and the lock in it.
#[derive(Debug)]
struct Held {
    path: PathBuf,
    directory: File,
    lock: Flock<File>,
}

/// A cookie is never printed.
impl fmt::Debug for StateDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StateDirectory").field(&self.path).finish()
    }
}

impl StateDirectory {
    /// Takes the directory for this daemon; it is made if it is missing.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let state = Self {
            path: path.to_owned(),
            held: RefCell::new(Held::take(path)?),
            cookie: Cell::default(),
            spare: RefCell::default(),
        };
        state.keep_spare();
        Ok(state)
    }

    /// The highest `MessageID` that may have been used; 0 if none was.
    pub fn last_id(&self) -> Result<u64, StateError> {
        self.held.borrow().last_id()
    }

    /// Writes down that ids up to `id` may be used from now on. A directory that was removed or
    /// replaced is taken anew, so that nobody else is given the same ids there.
    pub fn write_last_id(&self, id: u64) -> Result<(), StateError> {
        self.spare.take();
        let written = self.hold_on(id).and_then(|()| {
            let held = self.held.borrow();
            held.replace(IDS, format!("{id}\n").as_bytes(), 0o600)
        });
        self.keep_spare();
        written
    }

    /// Makes sure that the path still leads to the lock, before ids up to `id` are written.
    fn hold_on(&self, id: u64) -> Result<(), StateError> {
        if self.is_held() {
            return Ok(());
        }
        let anew = Held::take(&self.path)?;
        let known = anew.last_id()?;
        if known > id {
            let path = self.path.clone();
            return Err(StateError::Overtaken { path, id: known });
        }
        self.held.replace(anew);
        // Else nobody could log in any more.
        let cookie = self.cookie.get();
        cookie.map_or(Ok(()), |cookie| self.write_cookie(&cookie).map(drop))
    }

    /// Whether the path leads to the directory that this daemon has.
    pub fn is_held(&self) -> bool {
        self.held.borrow().is_at_its_path()
    }

    /// The file that goes whenever the directory is removed, and tells so.
    pub fn lock_path(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// Writes a cookie that only the daemon's user can read, and returns where it is. Where the
    /// directory lets its group in and nobody else, the group can read it too.
    pub fn write_cookie(&self, cookie: &[u8; 32]) -> Result<PathBuf, StateError> {
        let held = self.held.borrow();
        let directory = held.directory.metadata();
        let directory = directory.map_err(failed("look at", &self.path))?;
        let for_group = directory.mode() & 0o077 == 0o050;
        let mode = if for_group { 0o640 } else { 0o600 };
        held.replace(COOKIE, cookie, mode)?;
        self.cookie.set(Some(*cookie));
        Ok(self.path.join(COOKIE))
    }

    /// Removes the cookie of a daemon that required one.
    pub fn remove_cookie(&self) {
        self.cookie.set(None);
        // It opens nothing once this daemon is gone.
        let held = self.held.borrow();
        let _ = unlinkat(&held.directory, COOKIE, UnlinkatFlags::NoRemoveDir);
    }

    /// Whether a file is one of those in the directory, under whatever name it was opened.
    pub fn holds(&self, file: &Metadata) -> io::Result<bool> {
        for entry in fs::read_dir(&self.path)? {
            if is_same(&entry?.metadata()?, file) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Opens as many spare descriptors as can be had.
    fn keep_spare(&self) {
        let opened = (0..SPARE).map_while(|_| File::open("/dev/null").ok());
        self.spare.replace(opened.collect());
    }
}

impl Held {
    fn take(path: &Path) -> Result<Self, StateError> {
        let user = geteuid().as_raw();
        // Above it a group is let write, since many systems give each user a group alone.
        directory::make(path, 0o700, user, 0o002).map_err(StateError::from)?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open(path, flags, Mode::empty())
            .map(File::from)
            .map_err(|cause| failed("open", path)(cause.into()))?;
        let found = directory.metadata().map_err(failed("look at", path))?;
        judge(&found, user).map_err(|why| StateError::from(Fault::Unsafe(path.to_owned(), why)))?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT;
        let file = open_plain(&directory, path, LOCK, flags)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                // Only for the message: an empty one still says that it is in use.
                let _ = file.read_to_string(&mut pid);
                return Err(StateError::InUse {
                    path: path.to_owned(),
                    pid: pid.trim().to_owned(),
                });
            }
            Err((_, cause)) => return Err(failed("lock", &path.join(LOCK))(cause.into())),
        };
        // Only for the message that another daemon gives; the lock holds without it.
        let _ = lock
            .set_len(0)
            .and_then(|()| writeln!(lock, "{}", process::id()));
        Ok(Self {
            path: path.to_owned(),
            directory,
            lock,
        })
    }

    /// Whether the path leads to the file that is locked.
    fn is_at_its_path(&self) -> bool {
        let there = fs::symlink_metadata(self.path.join(LOCK));
        let locked = self.lock.metadata();
        there.is_ok_and(|there| locked.is_ok_and(|locked| is_same(&there, &locked)))
    }

    fn last_id(&self) -> Result<u64, StateError> {
        let path = self.path.join(IDS);
        let file = match open_plain(&self.directory, &self.path, IDS, OFlag::O_RDONLY) {
            Ok(file) => file,
            Err(StateError::System { cause, .. }) if cause.kind() == ErrorKind::NotFound => {
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(MAX_IDS)
            .read_to_end(&mut text)
            .map_err(failed("read", &path))?;
        let number = std::str::from_utf8(text.trim_ascii()).ok();
        number
            .and_then(|number| number.parse().ok())
            .ok_or(StateError::Damaged { path })
    }

    /// Puts a file with these octets in the place of the one of this name, whole at every instant.
    fn replace(&self, name: &str, octets: &[u8], mode: u32) -> Result<(), StateError> {
        // Nobody else writes here, so one name is enough, and a crash leaves one file at most.
        let new = &*format!(".{name}.new");
        let at = &self.directory;
        let remove = || unlinkat(at, new, UnlinkatFlags::NoRemoveDir);
        let write = || {
            match remove() {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(cause) => return Err(cause.into()),
            }
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mut file = File::from(openat(at, new, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
            // Whatever the umask is.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(octets)?;
            file.sync_all()?;
            renameat(at, new, at, name)?;
            at.sync_all()
        };
        write().map_err(|cause| {
            // It holds nothing that anybody needs, and goes with the next write at last.
            let _ = remove();
            failed("write", &self.path.join(name))(cause)
        })
    }
}

/// Opens a file in the directory that is one there and nowhere else: no link leads elsewhere, and
/// nothing is waited for.
fn open_plain(directory: &File, path: &Path, name: &str, flags: OFlag) -> Result<File, StateError> {
    let path = path.join(name);
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(file) => File::from(file),
        // A link, a socket, a directory.
        Err(Errno::ELOOP | Errno::ENXIO | Errno::EISDIR) => return Err(StateError::NotPlain(path)),
        Err(cause) => return Err(failed("open", &path)(cause.into())),
    };
    let found = file.metadata().map_err(failed("look at", &path))?;
    if found.is_file() && found.nlink() == 1 {
        Ok(file)
    } else {
        Err(StateError::NotPlain(path))
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

impl From<Fault> for StateError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unsafe(path, Unsafe::Writable { mode, .. }) => {
                Self::OpenDirectory { path, mode }
            }
            Fault::Unsafe(path, Unsafe::Foreign { owner }) => Self::Foreign { path, owner },
            Fault::Unsafe(path, Unsafe::NotADirectory) => {
                failed("use as a directory", &path)(Errno::ENOTDIR.into())
            }
            Fault::System(path, cause) => failed("make or look at", &path)(cause),
        }
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |cause| StateError::System { what, path, cause }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_and_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        fs::create_dir(&path).unwrap();
        for open in [0o770, 0o702, 0o777, 0o1777] {
            mode(&path, open);
            let error = StateDirectory::open(&path).unwrap_err();
            let is_open = matches!(error, StateError::OpenDirectory { mode, .. } if mode == open);
            assert!(is_open, "{error}");
            assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        }
        mode(&path, 0o750);
        mode(root.path(), 0o777);
        let error = StateDirectory::open(&path).unwrap_err();
        assert!(
            matches!(error, StateError::OpenDirectory { .. }),
            "the one above: {error}"
        );
    }

    #[test]
    fn no_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let (path, precious) = (root.path().join("state"), root.path().join("precious"));
        fs::create_dir(&path).unwrap();
        fs::write(&precious, "12345").unwrap();
        for name in [LOCK, IDS] {
            for is_hard in [false, true] {
                let link = path.join(name);
                if is_hard {
                    fs::hard_link(&precious, &link).unwrap();
                } else {
                    symlink(&precious, &link).unwrap();
                }
                let opened = StateDirectory::open(&path);
                let error = opened.and_then(|state| state.last_id()).unwrap_err();
                assert!(
                    matches!(&error, StateError::NotPlain(at) if *at == link),
                    "{error}"
                );
                fs::remove_file(&link).unwrap();
            }
        }
        let state = StateDirectory::open(&path).unwrap();
        for name in [IDS, COOKIE, ".message-id.new", ".control_auth_cookie.new"] {
            symlink(&precious, path.join(name)).unwrap();
        }
        state.write_last_id(7).unwrap();
        state.write_cookie(&[7; 32]).unwrap();
        assert_eq!(state.last_id().unwrap(), 7);
        assert_eq!(fs::read(&precious).unwrap(), b"12345");
        assert_eq!(fs::read_dir(&path).unwrap().count(), 3, "and no other file");
    }

    #[test]
    fn what_is_in_the_directory_is_known_by_any_name() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let state = StateDirectory::open(&path).unwrap();
        let cookie = state.write_cookie(&[7; 32]).unwrap();
        let other = root.path().join("other");
        fs::write(&other, [7; 32]).unwrap();
        assert!(!state.holds(&fs::metadata(&other).unwrap()).unwrap());
        let link = root.path().join("link");
        symlink(&cookie, &link).unwrap();
        let hard = root.path().join("hard");
        fs::hard_link(&cookie, &hard).unwrap();
        for path in [cookie, link, hard] {
            assert!(state.holds(&fs::metadata(path).unwrap()).unwrap());
        }
    }

    #[test]
    fn a_directory_that_was_made_anew_is_taken_anew() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        let state = StateDirectory::open(&path).unwrap();
        state.write_last_id(100).unwrap();

        let cookie = state.write_cookie(&[7; 32]).unwrap();
        assert!(state.is_held());
        fs::remove_dir_all(&path).unwrap();
        assert!(!state.is_held());
        state.write_last_id(200).unwrap();
        assert!(state.is_held());
        assert_eq!(fs::read(cookie).unwrap(), [7; 32]);
        let error = StateDirectory::open(&path).unwrap_err();
        assert!(
            matches!(error, StateError::InUse { .. }),
            "it is locked: {error}"
        );

        // Another daemon has taken it, and gone after it has used more.
        fs::remove_dir_all(&path).unwrap();
        let other = StateDirectory::open(&path).unwrap();
        assert_eq!(other.last_id().unwrap(), 0);
        let error = state.write_last_id(300).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
        other.write_last_id(1000).unwrap();
        drop(other);
        let error = state.write_last_id(300).unwrap_err();
        assert!(
            matches!(error, StateError::Overtaken { id: 1000, .. }),
            "{error}"
        );
        let other = StateDirectory::open(&path).unwrap();
        assert_eq!(other.last_id().unwrap(), 1000, "it is as it was left");
    }
}
