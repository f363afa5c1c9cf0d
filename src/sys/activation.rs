//! Sockets that the service manager opened and passed on (`sd_listen_fds(3)`).

use std::env;
use std::io;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

/// A listening socket that was passed on.
#[derive(Debug)]
pub struct Inherited {
    /// Its `FileDescriptorName`; `unknown` where the service manager gave none.
    pub name: String,
    /// The socket.
    pub listener: UnixListener,
}

/// Takes the sockets that were passed on, none if the daemon was not started that way.
pub fn take() -> io::Result<Vec<Inherited>> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut fds = ListenFd::from_env();
    (0..fds.len())
        .map(|index| {
            let name = names.next().filter(|name| !name.is_empty());
            let listener = fds.take_unix_listener(index)?.ok_or_else(|| {
                io::Error::other("a descriptor that was passed on is taken already")
            })?;
            Ok(Inherited {
                name: name.unwrap_or("unknown").to_owned(),
                listener,
            })
        })
        .collect()
}
