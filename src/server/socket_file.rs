//! The files of the daemon's sockets: one that was removed while the daemon runs is made again, so
//! that it can be reached.
//!
//! The kernel tells when such a file is removed or moved, or the directory that it is in. Only
//! while one is missing and cannot be made, or the kernel cannot tell, it is looked for each
//! second.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Server;
use super::source::Source;
use crate::options::SocketSpec;
use crate::sys::socket::{Bound, Permissions, Place, SocketError, listen_at};

/// The time before a removed file is made again: whoever removes its directory with it must find
/// that empty.
const PAUSE: Duration = Duration::from_millis(100);

/// The time between two looks at files of which the kernel does not tell.
const INTERVAL: Duration = Duration::from_secs(1);

/// The file of a socket, and all that it was made from.
pub(super) struct SocketFile {
    bound: Bound,
    path: PathBuf,
    spec: SocketSpec,
    /// It was said that it is lost and cannot be made.
    is_lost: bool,
}

impl SocketFile {
    /// Listens at `path` as `spec` says.
    pub(super) fn make(
        path: &Path,
        spec: &SocketSpec,
        patience: Duration,
    ) -> Result<(UnixListener, Self), SocketError> {
        let permissions = Permissions {
            mode: spec.mode,
            owner: spec.owner.as_deref(),
            group: spec.group.as_deref(),
        };
        let (socket, bound) = listen_at(path, permissions, patience)?;
        let file = Self {
            bound,
            path: path.to_owned(),
            spec: spec.clone(),
            is_lost: false,
        };
        Ok((socket, file))
    }

    /// Has the kernel tell when the file or its directory goes. `false` if it cannot.
    fn watch(&self, watch: &Inotify) -> bool {
        let gone = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF;
        // The inode stays as long as it is listened at, and only has a name less.
        let removed = gone | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DONT_FOLLOW;
        let directory = self.path.parent().map(|path| watch.add_watch(path, gone));
        directory.is_some_and(|watched| watched.is_ok())
            && watch.add_watch(&self.path, removed).is_ok()
    }
}

/// What the kernel tells of the files' going through.
pub(super) fn start_watch(registry: &Registry) -> Option<Inotify> {
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    let fd = watch.as_fd().as_raw_fd();
    let source = Source::SocketFiles.into();
    let registered = registry.register(&mut SourceFd(&fd), source, Interest::READABLE);
    registered.is_ok().then_some(watch)
}

impl Server {
    /// Something has happened to a file or its directory.
    pub(super) fn socket_files_changed(&mut self) {
        if let Some(watch) = &self.socket_watch {
            // It is non-blocking: an error is that nothing more is there.
            while watch.read_events().is_ok() {}
        }
        self.daemon.timers.look_at_sockets(PAUSE);
    }

    /// Makes every file again that is not there, and has the kernel tell when one goes.
    pub(super) fn look_at_sockets(&mut self) {
        let mut look_again = false;
        for index in 0..self.listeners.len() {
            let Some(file) = self.listeners.get(index).and_then(|it| it.file.as_ref()) else {
                continue;
            };
            let remade = match file.bound.look() {
                Place::Kept => Ok(None),
                Place::Empty => SocketFile::make(&file.path, &file.spec, Duration::ZERO)
                    .map(Some)
                    .map_err(|error| error.to_string()),
                Place::Taken => Err("something else is there now".into()),
            };
            let remade = remade.and_then(|made| match made {
                Some((socket, file)) => self
                    .take_over(index, socket, file)
                    .map_err(|error| error.to_string()),
                None => Ok(()),
            });
            let Some(file) = self
                .listeners
                .get_mut(index)
                .and_then(|it| it.file.as_mut())
            else {
                continue;
            };
            let is_lost = remade.is_err();
            if let Err(cause) = remade
                && !file.is_lost
            {
                log::warn!(
                    "the socket file {} was removed, and cannot be made again: {cause}",
                    file.path.display()
                );
            }
            file.is_lost = is_lost;
            let watch = self.socket_watch.as_ref();
            look_again |= is_lost || !watch.is_some_and(|watch| file.watch(watch));
        }
        if look_again {
            self.daemon.timers.look_at_sockets(INTERVAL);
        }
    }

    /// Listens at a new socket in the place of one that nobody can reach any more, after everybody
    /// who has reached it is accepted.
    fn take_over(
        &mut self,
        index: usize,
        socket: UnixListener,
        file: SocketFile,
    ) -> std::io::Result<()> {
        self.accept_all(index);
        let mut socket = mio::net::UnixListener::from_std(socket);
        let source = Source::Listener(index).into();
        let registry = &self.daemon.registry;
        registry.register(&mut socket, source, Interest::READABLE)?;
        log::info!(
            "listening again at {}, which was removed",
            file.path.display()
        );
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.file = Some(file);
            listener.socket = socket;
        }
        Ok(())
    }
}
