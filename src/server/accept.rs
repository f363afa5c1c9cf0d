//! Listeners, and the controllers that come through them.

use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Instant;

use mio::net::{TcpListener, UnixListener};
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use super::Server;
use super::connection::Connection;
use super::daemon::Daemon;
use super::error::ServeError;
use super::files::SocketFile;
use super::places::Most;
use super::source::Source;
use crate::controller::{Controller, Conversation, Entry, Secret};
use crate::options::{Address, Login, Options, Protocol, Settings, SocketAddress, SocketSpec};
use crate::outbox::{Outbox, RECEIVING};
use crate::policy::is_match;
use crate::sys::activation::{self, Inherited};
use crate::sys::peer::{self, Peer};
use crate::sys::socket;
use crate::sys::stream::{self, Stream};
use crate::wire::Dialect;
use crate::wire::message::ControllerId;
use crate::wire::refusal::Refusal;

/// Connections accepted in one turn.
const ACCEPT: usize = 64;

/// A socket that controllers connect to.
pub(super) struct Listener {
    /// Its file, unless it has none or the service manager made it. Before the socket, so that it
    /// goes first: once nobody listens another daemon may replace it, with a file of the same
    /// inode number.
    pub(super) file: Option<SocketFile>,
    pub(super) socket: stream::Listener,
    pub(super) name: Arc<SocketName>,
    /// What connections to it speak, if it was declared.
    dialect: Option<Dialect>,
    /// Whether they must log in.
    login: Login,
    /// The programs that are named when they connect.
    names: Arc<[u8]>,
    /// It waits for its turn.
    pub(super) queued: bool,
}

impl Listener {
    fn new(spec: &SocketSpec, socket: stream::Listener) -> Self {
        Self {
            file: None,
            name: Arc::new(SocketName::new(&spec.address, &socket)),
            socket,
            dialect: match spec.protocol {
                Protocol::Auto => None,
                Protocol::Text => Some(Dialect::Text),
                Protocol::Tc => Some(Dialect::Tc),
                Protocol::V0 => Some(Dialect::V0),
            },
            login: spec.login,
            names: spec.names.as_slice().into(),
            queued: false,
        }
    }

    /// The name for the program of a peer, if it is one that is named.
    fn name_of(&self, peer: Peer) -> Option<ControllerId> {
        if self.names.is_empty() {
            return None;
        }
        let name = peer::program(peer.pid).and_then(|program| ControllerId::of_program(&program));
        name.filter(|name| is_match(&self.names, name.as_str().as_bytes(), false))
    }

    /// Whether it is a TCP port, to which every program of this machine can connect.
    pub(super) const fn is_port(&self) -> bool {
        matches!(self.socket, stream::Listener::Tcp(_))
    }
}

/// The names of a socket.
pub(super) struct SocketName {
    /// Its path or address, whoever has made it. One without either has what it was passed as.
    pub(super) address: Vec<u8>,
    /// `fd:NAME`, if the service manager has passed it and no line has its path; else empty.
    pub(super) passed: Vec<u8>,
}

impl SocketName {
    fn new(address: &SocketAddress, socket: &stream::Listener) -> Self {
        let written = address.to_octets();
        if !matches!(address, SocketAddress::Inherited(_)) {
            return Self {
                address: written,
                passed: Vec::new(),
            };
        }
        let found = match socket {
            stream::Listener::Unix(socket) => path_of(socket),
            stream::Listener::Tcp(socket) => {
                let address = socket.local_addr().ok();
                address.map(|address| address.to_string().into_bytes())
            }
        };
        Self {
            address: found.unwrap_or_else(|| written.clone()),
            passed: written,
        }
    }
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
        let listener = |socket| Listener::new(spec, socket);
        // A socket unit gives all its sockets one name.
        let taken: Vec<_> = inherited
            .extract_if(.., |socket| is_for(socket, spec))
            .map(|inherited| listener(inherited.listener))
            .collect();
        if taken.iter().any(Listener::is_port) && spec.login != Login::Implicit {
            let line = String::from_utf8_lossy(&spec.to_value()).into_owned();
            return Err(ServeError::LoginOfPort(line));
        }
        if !taken.is_empty() {
            listeners.extend(taken);
            continue;
        }
        listeners.push(match &spec.address {
            SocketAddress::Inherited(name) => return Err(ServeError::NotInherited(name.clone())),
            SocketAddress::Path(path) => {
                let (socket, file) = SocketFile::make(path, spec, socket::PATIENCE)?;
                Listener {
                    file: Some(file),
                    ..listener(stream::Listener::Unix(socket))
                }
            }
            &SocketAddress::Port(address) => {
                let socket = TcpListener::bind(address);
                let socket = socket.and_then(|socket| {
                    socket::hold(&socket)?;
                    Ok(socket)
                });
                let socket = socket.map_err(|cause| ServeError::Port { address, cause })?;
                listener(stream::Listener::Tcp(socket))
            }
        });
    }
    for Inherited { name, listener } in inherited {
        let spec = SocketSpec::new(SocketAddress::Inherited(name));
        listeners.push(Listener::new(&spec, listener));
    }
    for (index, listener) in listeners.iter().enumerate() {
        let address = String::from_utf8_lossy(&listener.name.address);
        log::info!("listening at {address}");
        register(&listener.socket, index, registry).map_err(ServeError::Start)?;
    }
    Ok(listeners)
}

/// Has the loop told when somebody waits at a listener.
pub(super) fn register(
    socket: &stream::Listener,
    index: usize,
    registry: &Registry,
) -> io::Result<()> {
    let source = Source::Listener(index).into();
    registry.register(
        &mut SourceFd(&socket.as_raw_fd()),
        source,
        Interest::READABLE,
    )
}

/// The places where no onion service may end: those of the daemon's own sockets, whoever has made
/// them, and Tor's control port, as far as the options say.
pub(super) struct Ends {
    pub(super) ports: Vec<u16>,
    pub(super) paths: Vec<Vec<u8>>,
}

impl Ends {
    pub(super) fn new(listeners: &[Listener], settings: &Settings) -> Self {
        let (mut ports, mut paths) = (Vec::new(), Vec::new());
        for listener in listeners {
            match &listener.socket {
                stream::Listener::Tcp(socket) => {
                    ports.extend(socket.local_addr().map(|address| address.port()));
                }
                stream::Listener::Unix(socket) => paths.extend(path_of(socket)),
            }
        }
        let tor = settings.tor.as_ref();
        ports.extend(tor.and_then(Address::port));
        if let Some(Address::Unix(path)) = tor {
            paths.push(path.as_os_str().as_bytes().to_vec());
        }
        Self { ports, paths }
    }
}

/// The path that a socket is bound to.
fn path_of(socket: &UnixListener) -> Option<Vec<u8>> {
    let address = socket.local_addr().ok()?;
    let path = address.as_pathname().filter(|path| path.is_absolute())?;
    Some(path.as_os_str().as_bytes().to_vec())
}

/// Whether a socket was passed on for `spec`: under its name, or bound to its address.
fn is_for(socket: &Inherited, spec: &SocketSpec) -> bool {
    match (&spec.address, &socket.listener) {
        (SocketAddress::Inherited(name), _) => socket.name == *name,
        (SocketAddress::Path(path), stream::Listener::Unix(socket)) => socket
            .local_addr()
            .is_ok_and(|address| address.as_pathname() == Some(path)),
        (SocketAddress::Port(port), stream::Listener::Tcp(socket)) => {
            socket.local_addr().is_ok_and(|address| address == *port)
        }
        (SocketAddress::Path(_) | SocketAddress::Port(_), _) => false,
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
                Ok(stream) => {
                    self.daemon.timers.accepted();
                    self.admit(stream, index);
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
    fn admit(&mut self, stream: Stream, index: usize) {
        let settings = self.daemon.options.settings();
        let most = Most {
            controllers: settings.max_controllers,
            of_user: settings.max_controllers_per_user,
        };
        let is_to_port = matches!(stream, Stream::Tcp(_));
        if is_to_port && let Some(oldest) = self.daemon.places.take_oldest_stranger(most) {
            self.turn_away_stranger(oldest, "before too many others came");
            self.close(oldest);
        }
        let Some(listener) = self.listeners.get(index) else {
            return;
        };
        let (dialect, login) = (listener.dialect, listener.login);
        let peer = match peer::credentials(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                log::warn!("a connection was closed, its peer is unknown: {error}");
                return;
            }
        };
        if let Some(limit) = self.daemon.places.refusal(peer.uid, self.gone, most) {
            return turn_away(&stream, dialect, peer, limit);
        }
        let name = Arc::clone(&listener.name);
        let program = listener.name_of(peer);
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let token = Source::Controller(key).into();
        let fd = stream.as_raw_fd();
        let mut source = SourceFd(&fd);
        let daemon = &mut self.daemon;
        if let Err(error) = daemon.registry.register(&mut source, token, RECEIVING) {
            log::warn!("a connection of uid {} was closed: {error}", peer.uid);
            return;
        }
        daemon.last_session += 1;
        let id = daemon.last_session;
        let way_in = daemon.way_in(&stream, login);
        let mut controller = Controller::new(Conversation::new(id, peer, dialect, way_in));
        controller.guard = daemon.guard(id, &stream, peer, &name);
        let identity = daemon.audited_identity(&controller, &stream, &name);
        let is_guarded = controller.guard.is_some();
        let account = daemon.accounts.of(peer.uid);
        let outlet = Arc::clone(&daemon.outlet);
        let outbox = Arc::new(Outbox::new(stream, token, outlet, account));
        log::debug!("{controller} has connected");
        let connection = entry.insert(Connection::new(key, controller, outbox, name));
        connection.identity = identity;
        connection.program = program;
        connection.since = daemon.started.elapsed().as_secs();
        if connection.conversation.must_log_in() {
            let deadline = Instant::now() + daemon.options.settings().login_timeout;
            daemon.timers.set_deadline(connection, Some(deadline));
            if is_to_port {
                daemon.places.note_stranger(id, key);
            }
        }
        daemon.places.take(peer.uid);
        daemon.bus.join(id, peer.uid);
        if is_guarded {
            daemon.interest_changed();
        }
    }
}

impl Daemon {
    /// What a connection must do to get in.
    fn way_in(&self, stream: &Stream, login: Login) -> Entry {
        let cookie = || self.cookie.as_ref().map(|(cookie, _)| Arc::clone(cookie));
        let by_cookie = self.options.settings().cookie_authentication;
        let passwords = || Arc::clone(&self.passwords);
        match (stream, login) {
            (Stream::Tcp(_), _) => Secret::entry(cookie(), passwords()),
            (Stream::Unix(_), Login::Password) => {
                Secret::entry(cookie().filter(|_| by_cookie), passwords())
            }
            (Stream::Unix(_), Login::Implicit | Login::Explicit) if by_cookie => {
                Secret::entry(cookie(), Arc::default())
            }
            (Stream::Unix(_), Login::Explicit) => Entry::Explicit,
            (Stream::Unix(_), Login::Implicit) => Entry::Open,
        }
    }
}

/// Tells a connection why there is no room for it, and closes it.
fn turn_away(mut stream: &Stream, dialect: Option<Dialect>, peer: Peer, limit: &'static str) {
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
