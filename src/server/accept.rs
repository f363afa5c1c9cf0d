//! Listeners, and the controllers that come through them.

use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Instant;

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry};

use super::Server;
use super::connection::Connection;
use super::error::ServeError;
use super::files::SocketFile;
use super::places::Most;
use super::source::Source;
use crate::controller::{Controller, Conversation, Entry};
use crate::options::{Login, Options, Protocol, SocketAddress, SocketSpec};
use crate::outbox::{Outbox, RECEIVING};
use crate::sys::activation::{self, Inherited};
use crate::sys::peer::{self, Peer};
use crate::sys::socket;
use crate::wire::Dialect;
use crate::wire::refusal::Refusal;

/// Connections accepted in one turn.
const ACCEPT: usize = 64;

/// A socket that controllers connect to.
pub(super) struct Listener {
    /// Its file, unless the service manager made it. Before the socket, so that it goes first:
    /// once nobody listens another daemon may replace it, with a file of the same inode number.
    pub(super) file: Option<SocketFile>,
    pub(super) socket: UnixListener,
    /// Its address, as a `BusSocket` line has it.
    address: Arc<[u8]>,
    /// What connections to it speak, if it was declared.
    dialect: Option<Dialect>,
    /// Whether they must log in.
    login: Login,
    /// It waits for its turn.
    pub(super) queued: bool,
}

/// Opens every socket of the options, and takes those that the service manager passed on.
pub(super) fn listen(options: &Options, registry: &Registry) -> Result<Vec<Listener>, ServeError> {
    let mut inherited = activation::take().map_err(ServeError::Activation)?;
    // Whoever passes sockets on and names none wants those and no other.
    let default_only = !options.sets("BusSocket") && !inherited.is_empty();
    let sockets = if default_only {
        &[]
    } else {
        &options.settings().sockets[..]
    };
    let mut listeners = Vec::new();
    for spec in sockets {
        // A socket unit gives all its sockets one name.
        let taken: Vec<_> = inherited
            .extract_if(.., |socket| is_for(socket, spec))
            .collect();
        let address: Arc<[u8]> = match &spec.address {
            SocketAddress::Path(path) => path.as_os_str().as_bytes().into(),
            SocketAddress::Inherited(name) => format!("fd:{name}").into_bytes().into(),
        };
        match &spec.address {
            SocketAddress::Inherited(name) if taken.is_empty() => {
                return Err(ServeError::NotInherited(name.clone()));
            }
            SocketAddress::Path(path) if taken.is_empty() => {
                let (socket, file) = SocketFile::make(path, spec, socket::PATIENCE)?;
                let address = Arc::clone(&address);
                listeners.push((Some(file), socket, address, spec.protocol, spec.login));
            }
            _ => {}
        }
        log::info!("listening at {}", String::from_utf8_lossy(&address));
        for Inherited { listener, .. } in taken {
            let address = Arc::clone(&address);
            listeners.push((None, listener, address, spec.protocol, spec.login));
        }
    }
    for Inherited { name, listener } in inherited {
        log::info!("listening at fd:{name}");
        let address: Arc<[u8]> = format!("fd:{name}").into_bytes().into();
        listeners.push((None, listener, address, Protocol::Auto, Login::Implicit));
    }
    listeners
        .into_iter()
        .enumerate()
        .map(|(index, (file, socket, address, protocol, login))| {
            socket.set_nonblocking(true).map_err(ServeError::Start)?;
            let mut socket = UnixListener::from_std(socket);
            registry
                .register(
                    &mut socket,
                    Source::Listener(index).into(),
                    Interest::READABLE,
                )
                .map_err(ServeError::Start)?;
            Ok(Listener {
                file,
                socket,
                address,
                dialect: match protocol {
                    Protocol::Auto => None,
                    Protocol::Text => Some(Dialect::Text),
                    Protocol::Tc => Some(Dialect::Tc),
                    Protocol::V0 => Some(Dialect::V0),
                },
                login,
                queued: false,
            })
        })
        .collect()
}

/// Whether a socket was passed on for `spec`: under its name, or bound to its path.
fn is_for(socket: &Inherited, spec: &SocketSpec) -> bool {
    match &spec.address {
        SocketAddress::Inherited(name) => socket.name == *name,
        SocketAddress::Path(path) => socket
            .listener
            .local_addr()
            .is_ok_and(|address| address.as_pathname() == Some(path)),
    }
}

impl Server {
    /// Accepts who waits at a listener, as many as one turn allows.
    pub(super) fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPT {
            let Some(listener) = self.listeners.get_mut(index) else {
                return;
            };
            listener.queued = false;
            match listener.socket.accept() {
                Ok((stream, _)) => {
                    let (dialect, login) = (listener.dialect, listener.login);
                    let address = Arc::clone(&listener.address);
                    self.daemon.timers.accepted();
                    self.admit(stream, dialect, login, address);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => return self.pause_accepting(&error),
                },
            }
        }
        self.ready(Source::Listener(index));
    }

    /// Accepts everybody who waits at a listener, at most as many as can.
    pub(super) fn accept_all(&mut self, index: usize) {
        for _ in 0..=socket::BACKLOG / ACCEPT {
            self.accept(index);
        }
    }

    /// Out of descriptors or memory: those who wait are accepted once somebody has left, or
    /// after a moment.
    fn pause_accepting(&mut self, error: &io::Error) {
        if self.daemon.timers.pause_accepting() {
            log::warn!("accepting pauses, controllers wait: {error}");
        }
    }

    /// Goes on accepting after a pause.
    pub(super) fn resume_accepting(&mut self) {
        if self.daemon.timers.resume_accepting() {
            for index in 0..self.listeners.len() {
                self.ready(Source::Listener(index));
            }
        }
    }

    /// Begins a session for a connection, if there is room for it.
    fn admit(
        &mut self,
        stream: UnixStream,
        dialect: Option<Dialect>,
        login: Login,
        address: Arc<[u8]>,
    ) {
        let peer = match peer::credentials(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                log::warn!("a connection was closed, its peer is unknown: {error}");
                return;
            }
        };
        let settings = self.daemon.options.settings();
        let most = Most {
            controllers: settings.max_controllers,
            of_user: settings.max_controllers_per_user,
        };
        if let Some(limit) = self.daemon.places.refusal(peer.uid, self.gone, most) {
            return turn_away(&stream, dialect, peer, limit);
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let token = Source::Controller(key).into();
        let fd = stream.as_raw_fd();
        let mut source = mio::unix::SourceFd(&fd);
        let daemon = &mut self.daemon;
        if let Err(error) = daemon.registry.register(&mut source, token, RECEIVING) {
            log::warn!("a connection of uid {} was closed: {error}", peer.uid);
            return;
        }
        daemon.last_session += 1;
        let id = daemon.last_session;
        let way_in = match (&daemon.cookie, login) {
            (cookie, Login::Password) => Entry::Secret {
                cookie: cookie.as_ref().map(|(cookie, _)| Arc::clone(cookie)),
                passwords: Arc::clone(&daemon.passwords),
            },
            (Some((cookie, _)), _) => Entry::Secret {
                cookie: Some(Arc::clone(cookie)),
                passwords: Arc::new([]),
            },
            (None, Login::Explicit) => Entry::Explicit,
            (None, Login::Implicit) => Entry::Open,
        };
        let mut controller = Controller::new(Conversation::new(id, peer, dialect, way_in));
        controller.guard = daemon.guard(id, &stream, peer, &address);
        let identity = daemon.audited_identity(&controller, &stream, &address);
        let is_guarded = controller.guard.is_some();
        let account = daemon.accounts.of(peer.uid);
        let outlet = Arc::clone(&daemon.outlet);
        let outbox = Arc::new(Outbox::new(stream, token, outlet, account));
        log::debug!("{controller} has connected");
        let connection = entry.insert(Connection::new(key, controller, outbox, address));
        connection.identity = identity;
        connection.since = daemon.started.elapsed().as_secs();
        if connection.conversation.must_log_in() {
            let deadline = Instant::now() + daemon.options.settings().login_timeout;
            daemon.timers.set_deadline(connection, Some(deadline));
        }
        daemon.places.take(peer.uid);
        daemon.bus.join(id, peer.uid);
        if is_guarded {
            daemon.interest_changed();
        }
    }
}

/// Tells a connection why there is no room for it, and closes it.
fn turn_away(mut stream: &UnixStream, dialect: Option<Dialect>, peer: Peer, limit: &'static str) {
    log::warn!(
        "uid {}, pid {} was turned away: {limit}",
        peer.uid,
        peer.pid
    );
    let mut answer = Vec::new();
    let dialect = dialect.unwrap_or(Dialect::Text);
    dialect.encode_refusal(&Refusal::TooManyControllers(limit), &mut answer);
    // It fits into an empty socket buffer; who is gone already needs no answer.
    let _ = stream.write(&answer);
}
