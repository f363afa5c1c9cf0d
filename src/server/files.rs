//! The files by which others find the daemon: that of a socket that was removed while the daemon
//! runs is made again, so that the daemon can be reached, and the state directory is taken again,
//! so that no second daemon believes that it is free.
//!
//! The kernel tells when such a file is removed or moved, or the directory that it is in. Only
//! while one is missing and cannot be made, or the kernel cannot tell, it is looked for each
//! second.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::UnixListener;
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::source::Source;
use super::{Server, accept};
use crate::options::SocketSpec;
use crate::sys::socket::{Bound, Permissions, Place, SocketError, listen_at};
use crate::sys::stream;

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
        Ok((UnixListener::from_std(socket), file))
    }
}

/// Has the kernel tell when a file or its directory goes. `false` if it cannot.
fn is_watched(path: &Path, watch: Option<&Inotify>) -> bool {
    let Some((watch, directory)) = watch.zip(path.parent()) else {
        return false;
    };
    let gone = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF;
    // The inode stays as long as it is open, and only has a name less.
    let removed = gone | AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DONT_FOLLOW;
    watch.add_watch(directory, gone).is_ok() && watch.add_watch(path, removed).is_ok()
}

/// The way in which the kernel tells that a file goes.
pub(super) fn start_watch(registry: &Registry) -> Option<Inotify> {
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    let fd = watch.as_fd().as_raw_fd();
    let source = Source::Files.into();
    let registered = registry.register(&mut SourceFd(&fd), source, Interest::READABLE);
    registered.is_ok().then_some(watch)
}

impl Server {
    /// Something has happened to a file or its directory.
    pub(super) fn files_changed(&mut self) {
        if let Some(watch) = &self.files_watch {
            // It is non-blocking: an error is that nothing more is there.
            while watch.read_events().is_ok() {}
        }
        self.daemon.timers.look_at_files(PAUSE);
    }

    /// Makes every file again that is not there, and has the kernel tell when one goes.
    pub(super) fn look_at_files(&mut self) {
        let mut look_again = !self.keep_state();
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
            look_again |= is_lost || !is_watched(&file.path, self.files_watch.as_ref());
        }
        if look_again {
            self.daemon.timers.look_at_files(INTERVAL);
        }
    }

    /// Takes the state directory again if it was removed. `false` if it must be looked at again.
    fn keep_state(&mut self) -> bool {
        let (state, bus) = (&self.daemon.state, &self.daemon.bus);
        let was_lost = std::mem::take(&mut self.state_is_lost);
        if !state.is_held() {
            match state.write_last_id(bus.last_id() + bus.ids_left()) {
                Ok(()) => log::info!("the state directory was removed, and is taken again"),
                Err(cause) => {
                    if !was_lost {
                        log::warn!(
                            "the state directory was removed, and cannot be taken again: {cause}"
                        );
                    }
                    self.state_is_lost = true;
                }
            }
        }
        !self.state_is_lost && is_watched(&state.lock_path(), self.files_watch.as_ref())
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
        let socket = stream::Listener::Unix(socket);
        accept::register(&socket, index, &self.daemon.registry)?;
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
