//! Listening sockets in the file system: never more open than configured, never stolen.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat};
use nix::unistd::{Gid, Group, Uid, User, chown};
use thiserror::Error;

use super::directory::{self, Fault, Unsafe};
use super::peer;

/// How many connections the kernel holds for the daemon to accept.
pub const BACKLOG: usize = 4095;

/// The time that a start waits for another one in the same directory, which needs far less. Any
/// user who can read the directory can hold that lock, and must not hold up the daemon.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// The time between two tries to get that lock.
const RETRY: Duration = Duration::from_millis(20);

/// Why a socket cannot be listened at.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another process listens there.
    #[error(
        "{path} is in use by process {pid}: stop that one, or choose another path with \
         --socket or BusSocket"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// The process that listens.
        pid: i32,
    },
    /// Something is there that is no socket.
    #[error("{0} exists and is not a socket: remove it, or choose another path")]
    NotASocket(PathBuf),
    /// Whoever can write to the directory could put another socket in its place.
    #[error(
        "the directory {path} can be written to by others (mode {mode:04o}), who could replace \
         the socket: run 'chmod go-w {path}', or choose another directory"
    )]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The directory is another user's, who could put another socket in its place.
    #[error(
        "{path} belongs to uid {owner}, who could replace the socket: run the daemon as that \
         user, or choose another directory"
    )]
    ForeignDirectory {
        /// The directory, one above it, or a link on the way to it.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// There is no such user or group.
    #[error("BusSocket {path}: there is no {kind} {name:?} on this system")]
    NoSuch {
        /// The socket.
        path: PathBuf,
        /// `user` or `group`.
        kind: &'static str,
        /// Its name.
        name: String,
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

/// A socket that is listened at; its file goes when this does.
#[derive(Debug)]
pub struct Bound {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// What is at the path of a socket that was listened at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its file.
    Kept,
    /// Nothing.
    Empty,
    /// Something else.
    Taken,
}

/// Who may connect to a socket.
#[derive(Clone, Copy, Debug)]
pub struct Permissions<'a> {
    /// The file's mode.
    pub mode: u32,
    /// Its owner, by name or number; `None` is the daemon's user.
    pub owner: Option<&'a str>,
    /// Its group, by name or number; `None` is the daemon's.
    pub group: Option<&'a str>,
}

/// Listens at `path`.
///
/// The directory is made if it is missing. A socket file that nobody listens at is replaced; one
/// that is in use is left alone. At no instant may more users connect than `permissions` says. Who
/// has locked the directory is waited for no longer than `patience`.
pub fn listen_at(
    path: &Path,
    permissions: Permissions<'_>,
    patience: Duration,
) -> Result<(UnixListener, Bound), SocketError> {
    let failed = |what| {
        let path = path.to_owned();
        move |cause: Errno| SocketError::System {
            what,
            path,
            cause: cause.into(),
        }
    };
    let (owner, group) = owners(path, permissions)?;
    let address = UnixAddr::new(path).map_err(failed("use as the path of a socket"))?;
    // Held while the file is looked at and replaced, so that two daemons that start at once do
    // not both find it stale.
    let _lock = lock(&directory(path)?, patience)?;
    remove_stale(path, &address)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(failed("make a socket for"))?;
    // On Linux a bound socket's file takes the mode of its descriptor: it is born private.
    let born = Mode::from_bits_truncate(permissions.mode & 0o700);
    fchmod(fd.as_fd(), born).map_err(failed("set the mode of the socket for"))?;
    bind(fd.as_raw_fd(), &address).map_err(failed("make the socket"))?;
    let bound = Bound::new(path).map_err(|cause| SocketError::System {
        what: "look at",
        path: path.to_owned(),
        cause,
    })?;
    // The owner comes last: the file is the daemon's until then, and in a sticky directory nobody
    // else can put a link in its place, for the mode of some other file to be set. The group comes
    // before the mode, so that it is the right one that is let in.
    chown(path, None, group).map_err(failed("set the group of"))?;
    let mode = Mode::from_bits_truncate(permissions.mode);
    fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink)
        .map_err(failed("set the mode of"))?;
    chown(path, owner, None).map_err(failed("set the owner of"))?;
    hold(&fd).map_err(failed("listen at"))?;
    Ok((UnixListener::from(fd), bound))
}

/// Has the kernel hold [`BACKLOG`] connections to a socket, listened at already or not.
pub fn hold(socket: &impl AsFd) -> nix::Result<()> {
    let backlog = i32::try_from(BACKLOG).ok();
    let backlog = backlog.and_then(|backlog| Backlog::new(backlog).ok());
    listen(socket, backlog.unwrap_or(Backlog::MAXCONN))
}

type Owners = (Option<Uid>, Option<Gid>);

fn owners(path: &Path, permissions: Permissions<'_>) -> Result<Owners, SocketError> {
    let none = |kind, name: &str| SocketError::NoSuch {
        path: path.to_owned(),
        kind,
        name: name.to_owned(),
    };
    let owner = permissions.owner.map(|name| {
        let known = User::from_name(name).ok().flatten().map(|user| user.uid);
        let numbered = || name.parse().ok().map(Uid::from_raw);
        known.or_else(numbered).ok_or(none("user", name))
    });
    let group = permissions.group.map(|name| {
        let known = Group::from_name(name).ok().flatten().map(|group| group.gid);
        let numbered = || name.parse().ok().map(Gid::from_raw);
        known.or_else(numbered).ok_or(none("group", name))
    });
    Ok((owner.transpose()?, group.transpose()?))
}

/// Makes sure that the directory of `path` is there and that only its owner can replace what is
/// in it: neither there nor above can others write, unless a directory is sticky, which lets nobody
/// replace the socket of another user.
fn directory(path: &Path) -> Result<PathBuf, SocketError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    match directory::make(&directory, 0o755, Uid::effective().as_raw(), 0o022) {
        Ok(()) => Ok(directory),
        Err(Fault::Unsafe(path, Unsafe::Writable { mode, .. })) => {
            Err(SocketError::OpenDirectory { path, mode })
        }
        Err(Fault::Unsafe(path, Unsafe::Foreign { owner })) => {
            Err(SocketError::ForeignDirectory { path, owner })
        }
        Err(Fault::Unsafe(path, Unsafe::NotADirectory)) => Err(SocketError::System {
            what: "use as a directory",
            path,
            cause: Errno::ENOTDIR.into(),
        }),
        Err(Fault::System(path, cause)) => Err(SocketError::System {
            what: "make or look at the directory",
            path,
            cause,
        }),
    }
}

/// Locks a directory, if nobody else holds the lock all the while.
fn lock(directory: &Path, patience: Duration) -> Result<Option<Flock<File>>, SocketError> {
    let failed = |cause| SocketError::System {
        what: "lock the directory",
        path: directory.to_owned(),
        cause,
    };
    let begun = Instant::now();
    let mut opened = File::open(directory).map_err(failed)?;
    loop {
        opened = match Flock::lock(opened, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((opened, Errno::EWOULDBLOCK)) => opened,
            Err((_, cause)) => return Err(failed(cause.into())),
        };
        if begun.elapsed() < patience {
            thread::sleep(RETRY);
            continue;
        }
        if !patience.is_zero() {
            log::warn!(
                "somebody holds a lock on {}, which no other daemon does for so long: it is not \
                 waited for",
                directory.display()
            );
        }
        return Ok(None);
    }
}

/// Removes a socket file that nobody listens at.
fn remove_stale(path: &Path, address: &UnixAddr) -> Result<(), SocketError> {
    let failed = |what, cause| SocketError::System {
        what,
        path: path.to_owned(),
        cause,
    };
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(failed("look at", cause)),
    };
    if !file.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|cause| failed("make a socket for", cause.into()))?;
    match connect(probe.as_raw_fd(), address) {
        // EAGAIN: its backlog is full, so somebody listens, if slowly.
        Ok(()) | Err(Errno::EAGAIN) => Err(in_use(path, &probe)),
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).map_err(|cause| failed("remove the stale socket", cause))
        }
        Err(Errno::ENOENT) => Ok(()),
        Err(cause) => Err(failed("find out whether anybody listens at", cause.into())),
    }
}

fn in_use(path: &Path, probe: &OwnedFd) -> SocketError {
    SocketError::InUse {
        path: path.to_owned(),
        pid: peer::credentials(probe).map_or(0, |peer| peer.pid),
    }
}

impl Bound {
    fn new(path: &Path) -> io::Result<Self> {
        let file = fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: file.dev(),
            inode: file.ino(),
        })
    }

    /// What is at the path by now.
    pub fn look(&self) -> Place {
        match fs::symlink_metadata(&self.path) {
            Ok(file) if self.is(&file) => Place::Kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Place::Empty,
            // Whoever cannot look cannot listen there either.
            Ok(_) | Err(_) => Place::Taken,
        }
    }

    fn is(&self, file: &Metadata) -> bool {
        (file.dev(), file.ino()) == (self.device, self.inode)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Whatever stands there by now may be another daemon's.
        if self.look() == Place::Kept {
            // Nothing depends on it: a file that stays is found stale at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const PRIVATE: Permissions<'_> = Permissions {
        mode: 0o600,
        owner: None,
        group: None,
    };

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn the_socket_has_the_mode_and_the_directory_is_made() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/control");
        for wanted in [0o600, 0o660, 0o666, 0o777, 0o060] {
            let permissions = Permissions {
                mode: wanted,
                ..PRIVATE
            };
            let (_listener, _bound) = listen_at(&path, permissions, PATIENCE).unwrap();
            assert_eq!(mode(&path), wanted);
        }
        assert_eq!(mode(&root.path().join("a")) & !0o755, 0);
        assert!(!path.exists(), "the file goes with the socket");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("control");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, bound) = listen_at(&path, PRIVATE, PATIENCE).unwrap();
        let error = listen_at(&path, PRIVATE, PATIENCE).unwrap_err();
        let mine = i32::try_from(std::process::id()).unwrap();
        assert!(
            matches!(error, SocketError::InUse { pid, .. } if pid == mine),
            "{error}"
        );
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(bound);
        assert!(path.exists(), "another's file stays");
    }

    #[test]
    fn what_is_no_socket_stays() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("control");
        fs::write(&path, "precious").unwrap();
        let error = listen_at(&path, PRIVATE, PATIENCE).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_unless_it_is_sticky() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("control");
        for (mode, refused) in [
            (0o777, true),
            (0o775, true),
            (0o1777, false),
            (0o755, false),
        ] {
            fs::set_permissions(root.path(), fs::Permissions::from_mode(mode)).unwrap();
            let result = listen_at(&path, PRIVATE, PATIENCE);
            let open = matches!(result, Err(SocketError::OpenDirectory { .. }));
            assert_eq!(open, refused, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        if !Uid::effective().is_root() {
            let notice =
                "\nSKIPPED: a_directory_of_another_user_is_refused: root is needed for it\n";
            assert!(std::env::var_os("CI").is_none(), "{notice}");
            // Past the capture of the test harness, which would keep it to itself.
            io::stderr().write_all(notice.as_bytes()).unwrap();
            return;
        }
        let root = tempfile::tempdir().unwrap();
        chown(root.path(), Some(Uid::from_raw(65534)), None).unwrap();
        let error = listen_at(&root.path().join("control"), PRIVATE, PATIENCE).unwrap_err();
        assert!(
            matches!(error, SocketError::ForeignDirectory { owner: 65534, .. }),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_user_or_group_is_named() {
        let root = tempfile::tempdir().unwrap();
        let permissions = Permissions {
            group: Some("no such group"),
            ..PRIVATE
        };
        let error = listen_at(&root.path().join("control"), permissions, PATIENCE).unwrap_err();
        assert!(error.to_string().contains("no such group"), "{error}");
    }

    #[test]
    fn every_directory_on_the_way_is_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/control");
        drop(listen_at(&path, PRIVATE, PATIENCE).unwrap());
        for (mode, refused) in [(0o777, true), (0o775, true), (0o1777, false)] {
            let above = root.path().join("a");
            fs::set_permissions(&above, fs::Permissions::from_mode(mode)).unwrap();
            let result = listen_at(&path, PRIVATE, PATIENCE);
            let open = matches!(
                &result,
                Err(SocketError::OpenDirectory { path, .. }) if *path == above
            );
            assert_eq!(open, refused, "{mode:o}");
        }
    }

    #[test]
    fn a_lock_that_somebody_holds_is_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("control");
        let directory = File::open(root.path()).unwrap();
        let _held = Flock::lock(directory, FlockArg::LockSharedNonblock).unwrap();
        let begun = Instant::now();
        let (_listener, bound) = listen_at(&path, PRIVATE, Duration::ZERO).unwrap();
        assert!(begun.elapsed() < PATIENCE);
        assert_eq!(bound.look(), Place::Kept);
        fs::remove_file(&path).unwrap();
        assert_eq!(bound.look(), Place::Empty);
        fs::write(&path, "").unwrap();
        assert_eq!(bound.look(), Place::Taken);
    }
}
