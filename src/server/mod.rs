//! The loop: it owns the listeners, the sessions and the read halves of their connections, and
//! carries out what they ask for.
//!
//! Ready sockets are worked off in turns, one read each, so that a controller that sends without
//! end costs the others no more than its turn.

mod accept;
mod commands;
mod conclude;
mod connection;
mod converse;
mod error;
mod feed;
mod info;
mod link;
mod options;
mod relay;
mod shutdown;
mod signals;
mod spare;
mod timers;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use slab::Slab;

use crate::bus::fanout::{Fanout, Item};
use crate::bus::{Bus, SessionId, To};
use crate::logging::Logging;
use crate::options::Options;
use crate::outbox::Outlet;
use crate::session::Cookie;
use crate::sys::process;
use crate::sys::state::StateDirectory;
use crate::wire::event::Event;

use accept::Listener;
use connection::Connection;
pub use error::ServeError;
use feed::Tor;
use signals::Signals;
use timers::Timers;

/// Octets taken from one connection in its turn.
const READ: usize = 64 * 1024;

/// Descriptors the daemon needs besides one for each controller, and for its connection to Tor.
const OWN_DESCRIPTORS: u64 = 64;

/// Tokens from here up are controllers' connections to Tor; those below are controllers.
const LINKS: usize = usize::MAX / 4;

/// Tokens from here up are listeners.
const LISTENERS: usize = usize::MAX / 2;

/// The daemon's own connection to Tor.
const FEED: usize = usize::MAX - 2;

/// The directory of Tor's control socket.
const TOR_SOCKET: usize = usize::MAX - 3;

/// The connection to Tor that the next controller gets.
const SPARE: usize = usize::MAX - 4;

const SIGNALS: Token = Token(usize::MAX - 1);

/// Something was delivered that the loop waits for.
const DELIVERED: Token = Token(usize::MAX - 5);

/// The daemon.
pub struct Server {
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    /// How many connections each user has.
    users: HashMap<u32, usize>,
    /// Who has more to read or to answer, in the order of their turns.
    ready: Vec<Token>,
    /// Who has no turn until the fan-out has sent what it has of theirs.
    awaiting: HashSet<Token>,
    bus: Bus,
    options: Options,
    state: StateDirectory,
    cookie: Option<(Arc<Cookie>, std::path::PathBuf)>,
    /// The Tor behind the bus, if there is one.
    tor: Option<Tor>,
    outlet: Arc<Outlet>,
    fanout: Fanout,
    /// At most one socket was ready after the last wait: there is not much to do.
    calm: bool,
    /// Events that happened in this turn and are not handed over yet.
    events: Vec<(Event, To)>,
    /// Replies of this turn that are not sent yet.
    replies: Vec<u8>,
    /// What one turn's read goes into.
    buffer: Vec<u8>,
    timers: Timers,
    logging: Arc<Logging>,
    last_session: SessionId,
    started: Instant,
    octets_read: u64,
    ending: Option<&'static str>,
}

/// Serves until a signal or an owning controller ends it.
///
/// Everything that can be wrong with the options is found before the first socket is opened.
pub fn run(options: Options, logging: Arc<Logging>) -> Result<(), ServeError> {
    let started = Instant::now();
    let settings = options.settings();
    logging.write_from(settings.log);
    let each = if settings.tor.is_some() { 2 } else { 1 };
    let wanted = settings.max_controllers as u64 * each + OWN_DESCRIPTORS;
    let limit = process::raise_descriptor_limit(wanted);
    let state = StateDirectory::open(&settings.state_directory)?;
    let bus = Bus::new(state.last_id()?, settings.history);
    let poll = Poll::new().map_err(ServeError::Start)?;
    let outlet = Outlet::new(poll.registry(), DELIVERED, settings.max_queue);
    let outlet = Arc::new(outlet.map_err(ServeError::Start)?);
    let signals = Signals::start(poll.registry()).map_err(ServeError::Start)?;
    let listeners = accept::listen(&options, poll.registry())?;
    if limit < wanted {
        log::warn!(
            "only {limit} descriptors are allowed, too few for BusMaxControllers {}: more \
             controllers than fit will wait to be accepted (raise LimitNOFILE or 'ulimit -n')",
            settings.max_controllers
        );
    }
    state.remove_cookie();
    let cookie = if settings.cookie_authentication {
        Some(new_cookie(&state)?)
    } else {
        None
    };
    let tor = settings.tor.clone().map(Tor::new).transpose();
    let mut server = Server {
        timers: Timers::new(started),
        poll,
        signals,
        listeners,
        connections: Slab::new(),
        users: HashMap::new(),
        ready: Vec::new(),
        awaiting: HashSet::new(),
        bus,
        options,
        state,
        cookie,
        tor: tor.map_err(ServeError::Start)?,
        outlet,
        fanout: Fanout::start().map_err(ServeError::Start)?,
        calm: false,
        events: Vec::new(),
        replies: Vec::new(),
        buffer: vec![0; READ],
        logging,
        last_session: 0,
        started,
        octets_read: 0,
        ending: None,
    };
    server.serve()?;
    server.shut_down();
    Ok(())
}

fn new_cookie(state: &StateDirectory) -> Result<(Arc<Cookie>, std::path::PathBuf), ServeError> {
    let mut octets = [0; 32];
    getrandom::fill(&mut octets).map_err(|cause| ServeError::Start(io::Error::other(cause)))?;
    let path = state.write_cookie(&octets)?;
    Ok((Arc::new(Cookie::from(octets)), path))
}

impl Server {
    fn serve(&mut self) -> Result<(), ServeError> {
        let mut events = Events::with_capacity(1024);
        log::info!("onionbus {} is ready", env!("CARGO_PKG_VERSION"));
        self.look_for_tor();
        self.await_tor(&mut events)?;
        signals::notify(&[sd_notify::NotifyState::Ready]);
        while self.ending.is_none() {
            let timeout = self.timeout();
            self.poll(&mut events, timeout)?;
            self.take_turns();
            self.run_timers();
            self.hand_over_events();
        }
        Ok(())
    }

    /// How long the loop may wait: not at all while somebody is ready.
    fn timeout(&self) -> Option<Duration> {
        if self.ready.is_empty() {
            let tor = self.tor.as_ref().and_then(|tor| tor.retry);
            self.timers.until_next(Instant::now(), tor)
        } else {
            Some(Duration::ZERO)
        }
    }

    /// Waits for something to do and notes who is ready.
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> Result<(), ServeError> {
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(ServeError::Poll(error)),
        }
        for event in events.iter() {
            match event.token() {
                SIGNALS => self.take_signals(),
                Token(FEED) => self.feed_is_ready(event),
                Token(SPARE) => self.spare_is_ready(event),
                Token(TOR_SOCKET) => self.tor_socket_changed(),
                DELIVERED => {
                    for token in std::mem::take(&mut self.awaiting) {
                        self.ready(token);
                    }
                }
                Token(listener) if listener >= LISTENERS => self.ready(event.token()),
                Token(link) if link >= LINKS => {
                    let connection = self.connections.get_mut(link - LINKS);
                    if let Some(relay) = connection.and_then(|held| held.relay.as_mut()) {
                        relay.link.heard(event, self.poll.registry());
                        if event.is_writable() {
                            // Commands may wait for Tor to take those before.
                            self.ready(Token(link - LINKS));
                        }
                        self.ready(event.token());
                    }
                }
                Token(key) => {
                    let Some(connection) = self.connections.get_mut(key) else {
                        continue;
                    };
                    connection.readable |= event.is_readable() || event.is_error();
                    connection.hung_up |= event.is_read_closed() || event.is_error();
                    if event.is_writable() || event.is_write_closed() {
                        connection.outbox.flush();
                        if connection.relay.is_some() {
                            self.ready(Token(LINKS + key));
                        }
                    }
                    self.ready(event.token());
                }
            }
        }
        Ok(())
    }

    /// Puts a socket into the queue, unless it waits there already.
    fn ready(&mut self, token: Token) {
        let waiting = match token.0 {
            LISTENERS.. => {
                let listener = self.listeners.get_mut(token.0 - LISTENERS);
                listener.map(|listener| &mut listener.queued)
            }
            LINKS.. => {
                let connection = self.connections.get_mut(token.0 - LINKS);
                connection.map(|connection| &mut connection.link_queued)
            }
            key => self.connections.get_mut(key).map(|held| &mut held.queued),
        };
        if let Some(queued) = waiting
            && !std::mem::replace(queued, true)
        {
            self.ready.push(token);
        }
    }

    /// Gives each socket that is ready one turn.
    fn take_turns(&mut self) {
        let turns = std::mem::take(&mut self.ready);
        self.calm = turns.len() <= 1;
        for token in &turns {
            match token.0 {
                FEED => {}
                SPARE => self.take_spare_turn(),
                LISTENERS.. => self.accept(token.0 - LISTENERS),
                LINKS.. => self.take_link_turn(token.0 - LINKS),
                key => self.take_turn(key),
            }
        }
        // Last, because Tor sends the events that a command caused behind the reply to it.
        if turns.contains(&Token(FEED)) {
            self.take_feed_turn();
        }
    }

    /// Hands the events of this turn to the fan-out.
    fn hand_over_events(&mut self) {
        self.events.extend(
            self.logging
                .take_events()
                .into_iter()
                .map(|event| (event, To::Subscribers)),
        );
        if !self.events.is_empty() {
            let events = std::mem::take(&mut self.events);
            self.hand_over(Item::Events(events));
        }
    }

    /// Hands something to the fan-out, which delivers it in its own thread, or sooner.
    fn hand_over(&self, item: Item) {
        self.fanout.hand_over(item, self.calm);
    }

    /// Notes an event, if anybody subscribed to its kind.
    fn tell(&mut self, event: Event) {
        if let Some(to) = self.bus.to_subscribers(event.kind()) {
            self.events.push((event, to));
        }
    }
}
