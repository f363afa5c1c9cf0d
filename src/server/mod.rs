//! The loop: it owns the listeners, the sessions and the read halves of their connections, and
//! carries out what they ask for.
//!
//! Ready sockets are worked off in turns, one read each, so that a controller that sends without
//! end costs the others no more than its turn.

mod accept;
mod audit;
mod confinement;
mod connection;
mod court;
mod daemon;
mod detail;
mod ends;
mod error;
mod execute;
mod files;
mod info;
mod keeper;
mod kept;
mod leg;
mod link;
mod lookup;
mod memory;
mod options;
mod places;
mod policy;
mod readable;
mod replies;
mod shutdown;
mod signals;
mod source;
mod spare;
mod status;
mod timers;
mod tor_side;
mod turn;
mod work;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use nix::sys::inotify::Inotify;
use slab::Slab;
use zeroize::{Zeroize as _, Zeroizing};

use crate::account::Accounts;
use crate::auth::Cookie;
use crate::bus::Bus;
use crate::bus::fanout::Fanout;
use crate::controller::{Stage, Wait};
use crate::logging::Logging;
use crate::options::Options;
use crate::outbox::Outlet;
use crate::sys::clock;
use crate::sys::peer;
use crate::sys::process;
use crate::sys::state::StateDirectory;
use crate::tor::watcher::{Output, Subscription, of_tor};
use crate::wire::gist::Gist;
use crate::wire::refusal::Refusal;

use accept::{Ends, Listener};
use audit::Audit;
use connection::Connection;
use court::Court;
use daemon::{Daemon, Queue};
use detail::Detail;
pub use error::ServeError;
use places::{OWN_DESCRIPTORS, Places};
pub use policy::{paths as policy_paths, read as read_policy};
use signals::Signals;
use source::Source;
use timers::{Due, Timers};
use tor_side::TorSide;
use turn::Next;
use work::WorkQueue;

/// Octets taken from one connection in its turn.
const READ: usize = 64 * 1024;

/// How long the start of the daemon waits for Tor.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// The loop and its sockets.
pub struct Server {
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    /// Tells when one of the daemon's files goes.
    files_watch: Option<Inotify>,
    /// It was said that the state directory is lost.
    state_is_lost: bool,
    connections: Slab<Connection>,
    /// The number of connections that have left the bus, and go on until Tor has answered.
    gone: usize,
    daemon: Daemon,
    /// The buffer for what one turn reads.
    buffer: Vec<u8>,
}

/// Opens everything that the daemon serves with, and gives up what it does not need after that.
///
/// Everything that can be wrong with the options is found before the first socket is opened. The
/// calling thread is confined, and so are those that it starts later: it starts all others.
pub fn open(options: Options, logging: Arc<Logging>) -> Result<Server, ServeError> {
    let started = Instant::now();
    let settings = options.settings();
    logging.write_from(settings.log);
    let each = if settings.tor.is_some() { 2 } else { 1 };
    let wanted = settings.max_controllers as u64 * each + OWN_DESCRIPTORS;
    // Not to `wanted`, which may change while it runs.
    let limit = process::raise_descriptor_limit();
    confinement::become_user(settings)?;
    let state = StateDirectory::open(&settings.state_directory)?;
    let policy = policy::read(settings, process::uid())?;
    let bus = Bus::new(state.last_id()?, settings.history);
    let poll = Poll::new().map_err(ServeError::Start)?;
    let delivered = Source::Delivered.into();
    let outlet = Outlet::new(poll.registry(), delivered, settings.max_queue);
    let outlet = Arc::new(outlet.map_err(ServeError::Start)?);
    let signals = Signals::start(poll.registry()).map_err(ServeError::Start)?;
    let listeners = accept::listen(&options, poll.registry())?;
    let ends = Ends::new(&listeners, settings);
    let missing = peer::missing().map_err(ServeError::Start)?;
    let court = policy.map(|policy| Box::new(Court::new(policy, &ends, &missing)));
    let files_watch = files::start_watch(poll.registry());
    let audit = Audit::new(settings);
    let places = Places::new(process::uid(), limit, each);
    if limit < wanted && options.sets("BusMaxControllers") {
        log::warn!(
            "only {limit} descriptors are allowed: {} controllers fit, and not BusMaxControllers \
             {} (raise LimitNOFILE or 'ulimit -n')",
            places.fit(),
            settings.max_controllers
        );
    }
    state.remove_cookie();
    let asks_for_cookie = settings.cookie_authentication || listeners.iter().any(Listener::is_port);
    let cookie = if asks_for_cookie {
        Some(new_cookie(&state)?)
    } else {
        None
    };
    let tor = settings.tor.clone().map(TorSide::new).transpose();
    let tor = tor.map_err(ServeError::Start)?;
    let policy_keeps = court.as_ref().is_some_and(|court| court.keeps_onions());
    let keeping = match &tor {
        Some(tor) => keeper::open(settings, policy_keeps, &tor.upstream.fence)?,
        None => None,
    };
    let passwords = settings.hashed_passwords.clone().into();
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(|cause| ServeError::Start(io::Error::other(cause)))?;
    let confinement = confinement::confine(&options);
    let accounts = Accounts::new(settings.max_memory, settings.memory_of_user());
    let daemon = Daemon {
        registry: poll.registry().try_clone().map_err(ServeError::Start)?,
        queue: Queue::default(),
        work: WorkQueue::default(),
        timers: Timers::new(started),
        accounts,
        places,
        bus,
        court,
        audit,
        policy_has_changed: false,
        options,
        state,
        cookie,
        passwords,
        password_time: Duration::ZERO,
        ends,
        missing,
        number: hex::encode_upper(number).into(),
        confinement,
        tor,
        keeping,
        has_read_key: false,
        detail: Detail::default(),
        outlet,
        fanout: Fanout::start().map_err(ServeError::Start)?,
        replies: Vec::new(),
        calm: false,
        events: Vec::new(),
        logging,
        last_session: 0,
        started,
        started_at: clock::utc() + "Z",
        octets_read: 0,
        read_later: 0,
        cut_off: 0,
        ending: None,
    };
    Ok(Server {
        poll,
        signals,
        listeners,
        files_watch,
        state_is_lost: false,
        connections: Slab::new(),
        gone: 0,
        daemon,
        buffer: vec![0; READ],
    })
}

fn new_cookie(state: &StateDirectory) -> Result<(Arc<Cookie>, std::path::PathBuf), ServeError> {
    let mut octets = [0; 32];
    getrandom::fill(&mut octets).map_err(|cause| ServeError::Start(io::Error::other(cause)))?;
    let path = state.write_cookie(&octets)?;
    Ok((Arc::new(Cookie::from(octets)), path))
}

impl Server {
    /// Serves until a signal or an owning controller ends it.
    pub fn run(mut self) -> Result<(), ServeError> {
        self.serve()?;
        self.shut_down();
        Ok(())
    }

    fn serve(&mut self) -> Result<(), ServeError> {
        let mut events = Events::with_capacity(1024);
        log::info!("onionbus {} is ready", env!("CARGO_PKG_VERSION"));
        self.daemon.look_for_tor();
        self.await_tor(&mut events)?;
        self.look_at_files();
        signals::notify(&[sd_notify::NotifyState::Ready]);
        while self.daemon.ending.is_none() {
            let timeout = self.timeout();
            self.poll(&mut events, timeout)?;
            self.relieve();
            self.apply_policy();
            self.take_turns();
            self.make_detail();
            self.work();
            self.run_timers();
            self.settle_tor();
            self.daemon.hand_over_events();
        }
        Ok(())
    }

    /// Waits a moment for Tor's first answer, so that the first controller is told its version.
    fn await_tor(&mut self, events: &mut Events) -> Result<(), ServeError> {
        let deadline = Instant::now() + FIRST_ANSWER;
        let is_awaited = |tor: &TorSide| tor.upstream.is_awaited();
        while self.daemon.tor.as_ref().is_some_and(is_awaited) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            if self.daemon.queue.remove(Source::Watcher) {
                self.take_watcher_turn();
            } else {
                self.poll(events, Some(left))?;
            }
        }
        Ok(())
    }

    /// How long the loop may wait: not at all while somebody is ready.
    fn timeout(&self) -> Option<Duration> {
        if self.daemon.queue.is_empty() && !self.daemon.work.is_ready() {
            let tor = self.daemon.tor.as_ref();
            let due = tor.and_then(|tor| tor.upstream.poll_timeout());
            let keeping = self.daemon.keeping.as_ref();
            let kept = keeping.and_then(|keeping| keeping.poll_timeout());
            let due = due.into_iter().chain(kept).min();
            self.daemon.timers.until_next(Instant::now(), due)
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
            match Source::from(event.token()) {
                Source::Signals => self.take_signals(),
                Source::Watcher => self.daemon.watcher_is_ready(event),
                Source::Keeper => self.daemon.keeper_is_ready(event),
                Source::Spare => self.daemon.spare_is_ready(event),
                Source::TorSocket => self.daemon.tor_socket_changed(),
                Source::Files => self.files_changed(),
                Source::Delivered => {
                    self.daemon.hear_lookup();
                    for source in self.daemon.queue.delivered() {
                        self.ready(source);
                    }
                }
                Source::Leg(key) => {
                    if let Some(connection) = self.connections.get_mut(key)
                        && let Some(link) = &mut connection.link
                    {
                        if link.heard(event) {
                            // Commands may wait for Tor to take those before.
                            self.daemon.flush_leg(connection);
                        }
                        self.daemon.queue.leg(connection);
                    }
                }
                Source::Controller(key) => {
                    let Some(connection) = self.connections.get_mut(key) else {
                        continue;
                    };
                    connection.heard(event);
                    if event.is_writable() && connection.link.is_some() {
                        self.daemon.queue.leg(connection);
                    }
                    self.daemon.queue.controller(connection);
                }
                source @ Source::Listener(_) => self.ready(source),
            }
        }
        Ok(())
    }

    /// Puts a source into the queue, unless it waits there already.
    fn ready(&mut self, source: Source) {
        match source {
            Source::Listener(index) => {
                if let Some(listener) = self.listeners.get_mut(index)
                    && !std::mem::replace(&mut listener.queued, true)
                {
                    self.daemon.queue.push(source);
                }
            }
            Source::Controller(key) => {
                if let Some(connection) = self.connections.get_mut(key) {
                    self.daemon.queue.controller(connection);
                }
            }
            Source::Leg(key) => {
                if let Some(connection) = self.connections.get_mut(key) {
                    self.daemon.queue.leg(connection);
                }
            }
            other => self.daemon.queue.push_once(other),
        }
    }

    /// Gives each source that is ready one turn, in the order in which they became ready: so what
    /// Tor said on two connections is heard as Tor said it.
    fn take_turns(&mut self) {
        let turns = self.daemon.queue.take();
        self.daemon.calm = turns.len() <= 1;
        self.daemon.password_time = Duration::ZERO;
        for source in &turns {
            match *source {
                Source::Spare => self.daemon.take_spare_turn(),
                Source::Listener(index) => self.accept(index),
                Source::Leg(key) => {
                    if let Some(connection) = self.connections.get_mut(key) {
                        self.daemon.take_leg_turn(connection, &mut self.buffer);
                        connection.note_charge();
                    }
                }
                Source::Controller(key) => self.take_turn(key),
                Source::Watcher => self.take_watcher_turn(),
                Source::Keeper => self.daemon.take_keeper_turn(&mut self.buffer),
                Source::Signals | Source::Delivered | Source::TorSocket | Source::Files => {}
            }
            self.relieve();
        }
    }

    fn take_turn(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let next = self.daemon.take_turn(connection, &mut self.buffer);
        connection.note_charge();
        match next {
            Next::Wait => {}
            Next::Again => self.daemon.queue.controller(connection),
            Next::Close => self.close(key),
        }
    }

    /// A turn of the daemon's own connection to Tor.
    fn take_watcher_turn(&mut self) {
        let (outputs, failure) = self.daemon.hear_watcher(&mut self.buffer);
        for output in outputs {
            match output {
                Output::Answer(subscription, answer) => {
                    // In this place of the order, among the events.
                    self.daemon.hand_over_events();
                    self.subscription_answered(subscription, answer);
                }
                other => self.daemon.watcher_output(other),
            }
        }
        if let Some(cause) = failure {
            self.daemon.watcher_failed(&cause);
        }
        // Tor may have answered, and somebody else may wait.
        self.daemon.follow_interest();
        self.daemon.hand_over_events();
    }

    /// Judges everybody anew, once the policy has changed; and gives a turn to those who waited for
    /// what it judges by.
    fn apply_policy(&mut self) {
        let has_changed = std::mem::take(&mut self.daemon.policy_has_changed);
        if has_changed {
            self.take_work_back();
            for (_, connection) in &mut self.connections {
                self.daemon.judge_anew(connection);
            }
            self.daemon.ask_for_facts();
            self.daemon.interest_changed();
            self.daemon.hand_over_events();
        }
        let court = self.daemon.court.as_mut();
        if has_changed || court.is_some_and(|court| std::mem::take(&mut court.has_news)) {
            for (_, connection) in &mut self.connections {
                if connection.wait == Wait::Facts {
                    self.daemon.queue.controller(connection);
                }
            }
        }
    }

    /// A controller's SETEVENTS is answered; its next command may come.
    fn subscription_answered(&mut self, waiting: Subscription, answer: Result<(), Refusal>) {
        let Some(connection) = self.connections.get_mut(waiting.key) else {
            return;
        };
        let is_same = connection.conversation.id() == waiting.session;
        if !is_same || connection.wait != Wait::Events || connection.stage > Stage::Silent {
            return;
        }
        connection.wait = Wait::Answers;
        match answer {
            Ok(()) => self.daemon.subscribe(connection, waiting.events),
            Err(refusal) => self.daemon.refuse(connection, refusal),
        }
        self.daemon.queue.controller(connection);
    }

    /// Tells the controllers what Tor's end, or its silence, means for them.
    fn settle_tor(&mut self) {
        let Some(tor) = &mut self.daemon.tor else {
            return;
        };
        let has_gone = std::mem::take(&mut tor.has_gone);
        let answers = std::mem::take(&mut tor.answers);
        self.apply_policy();
        for (subscription, answer) in answers {
            self.subscription_answered(subscription, answer);
        }
        self.settle_keeping();
        if !has_gone || self.daemon.options.settings().keep_controllers {
            return;
        }
        for (_, connection) in &mut self.connections {
            let events = self.daemon.bus.events(connection.conversation.id());
            // One with a connection of its own ends with that, after what Tor still said.
            let link = connection.link.as_ref();
            let session = connection.conversation.id();
            let keeping = self.daemon.keeping.as_ref();
            let is_kept = keeping.is_some_and(|one| one.keeper.has_service_of(session));
            let has_used_it = is_kept || !of_tor(events).is_empty();
            if link.is_none_or(|link| !link.is_open()) && has_used_it {
                // Behind the last events, which the fan-out may not have sent yet.
                self.daemon.finish(connection);
            }
        }
    }

    /// Gives controllers the keeper's replies to their commands, and their turns.
    fn settle_keeping(&mut self) {
        let Some(keeping) = &mut self.daemon.keeping else {
            return;
        };
        let has_news = std::mem::take(&mut keeping.has_news);
        for (asker, reply) in std::mem::take(&mut keeping.answers) {
            let Some(connection) = self.connections.get_mut(asker.key) else {
                continue;
            };
            if connection.conversation.id() != asker.session {
                continue;
            }
            let gist = Gist::of(&reply);
            let reply = Zeroizing::new(self.daemon.end_kept(connection, reply.to_vec()));
            if connection.wait == Wait::Kept && connection.stage <= Stage::Silent {
                connection.controller.replies.extend_from_slice(&reply);
                self.daemon.send_replies(connection);
                connection.controller.replies.zeroize();
            }
            self.daemon.end_kept_action(connection, &gist);
            if connection.wait == Wait::Kept {
                connection.wait = Wait::Answers;
            }
            self.daemon.queue.controller(connection);
        }
        if has_news {
            for (_, connection) in &mut self.connections {
                if connection.wait == Wait::Restore {
                    self.daemon.queue.controller(connection);
                }
            }
        }
    }

    /// Does what is due.
    fn run_timers(&mut self) {
        let now = Instant::now();
        self.daemon.run_timers(now);
        while let Some(due) = self.daemon.timers.poll_due(now) {
            match due {
                Due::Connection(key) => self.deadline_passed(key),
                Due::Accepting => self.resume_accepting(),
                Due::Dump => self.dump(),
                Due::Files => self.look_at_files(),
            }
        }
    }
}
