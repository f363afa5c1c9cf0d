//! The bridge as a whole: what runs beside each other, and how it begins and ends.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onionbus::wire::ControllerId;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::args::Arguments;
use crate::bus::{Change, Login};
use crate::count::Reason;
use crate::incoming::Incoming;
use crate::ledger::Marks;
use crate::local::{Local, OpenError, Report};
use crate::names;
use crate::nats::{NatsError, Session};
use crate::neighbours::{Elder, Neighbours};
use crate::outgoing;
use crate::parcel::{self, OVERHEAD, Run, Target};
use crate::position::Position;
use crate::presence::Instance;
use crate::state::{State, StateError};

/// The connection to NATS, if there is one, and where it begins in the stream.
pub type Sessions = Option<(Arc<Session>, Position)>;

/// The time before the bus or NATS is tried again, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The time between two looks at what is to be done.
const TICK: Duration = Duration::from_millis(500);

/// The time between two writings of the marks.
const SAVE: Duration = Duration::from_secs(2);

/// The time that everything has to be delivered in at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// The reports of connections that wait.
const REPORTS: usize = 256;

/// What ends a bridge.
#[derive(Debug, Error)]
pub enum BridgeError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// NATS is not there for `--create-only`.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// The cookie.
    #[error("cannot read the cookie {path}: {error}")]
    Cookie {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another bridge has the host.
    #[error(transparent)]
    Elder(#[from] Elder),
    /// No signals.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
    /// A fault of this program.
    #[error("a part of the bridge has failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Waits until the bridge is told to stop.
pub async fn told(stop: &mut watch::Receiver<bool>) {
    // One who has gone without a word has ended too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Only makes what is missing at the NATS server.
pub async fn create(arguments: &Arguments) -> Result<(), BridgeError> {
    Session::open(arguments, None).await?;
    Ok(())
}

/// Runs until a signal ends it.
pub async fn run(arguments: Arguments) -> Result<(), BridgeError> {
    let login = login(&arguments)?;
    let (state, mut marks) = State::open(&arguments.state)?;
    let mut position = state.position();
    if let Some(position) = &mut position {
        let (unanswered, in_doubt) = position.recover();
        let dropped = [
            (Reason::Unanswered, unanswered),
            (Reason::InDoubt, in_doubt),
        ];
        state.store(position, &dropped)?;
    }
    let mut signals = Signals::new().map_err(BridgeError::Signals)?;
    let (stop, stopped) = watch::channel(false);

    let first = tokio::select! {
        first = first_session(&arguments, &state, &mut marks) => first?,
        () = signals.end(&state) => return Ok(()),
    };
    let (sessions, _) = watch::channel(Some(first));
    let (reports, heard) = mpsc::channel(REPORTS);
    let (outgoing, queue) = mpsc::channel(outgoing::QUEUE);
    let room = Arc::new(Semaphore::new(outgoing::ROOM as usize));
    let remembered = marks.after.keys().filter_map(|key| Target::of_key(key));
    let remembered: BTreeSet<_> = remembered.filter(|target| *target != Target::All).collect();
    let local = Arc::new(Local::new(
        arguments.clone(),
        login,
        state.clone(),
        marks,
        (outgoing, Arc::clone(&room)),
        reports,
    ));
    let (names, names_here) = watch::channel(None);
    let (wanted, wanted_here) = watch::channel(BTreeSet::new());
    let (longest, longest_here) = watch::channel(0);

    let mut tasks: JoinSet<Result<(), BridgeError>> = JoinSet::new();
    let neighbours = Neighbours::new(
        arguments.clone(),
        instance(),
        remembered,
        wanted,
        names_here,
    );
    let running = neighbours.run(sessions.subscribe(), stopped.clone());
    tasks.spawn(async move { Ok(running.await?) });
    let incoming = Incoming::new(arguments.clone(), state.clone(), Arc::clone(&local));
    let running = incoming.run(sessions.subscribe(), stopped.clone());
    tasks.spawn(async move { Ok(running.await?) });
    let mut publishing = tokio::spawn(outgoing::run(
        queue,
        sessions.subscribe(),
        Arc::clone(&local),
    ));
    let connecting = tokio::spawn(connect(
        arguments.clone(),
        state.clone(),
        sessions,
        longest_here,
    ));
    let bus = Bus {
        arguments,
        local: Arc::clone(&local),
        heard,
        names,
        wanted: wanted_here,
        longest,
        known: BTreeSet::new(),
        too_long: BTreeSet::new(),
    };
    tasks.spawn(bus.run(stopped));

    let ended = tokio::select! {
        () = signals.end(&state) => Ok(()),
        ended = tasks.join_next() => match ended {
            Some(Ok(ended)) => ended,
            Some(Err(failure)) => Err(failure.into()),
            None => Ok(()),
        },
        ended = &mut publishing => match ended {
            Ok(ended) => ended.map_err(BridgeError::from),
            Err(failure) => Err(failure.into()),
        },
    };
    log::info!("ending");
    // The others end by themselves, and what was accepted is published first.
    let _ = stop.send(true);
    let drained = drain(tasks, ended.is_ok().then_some(&room), &local).await;
    publishing.abort();
    connecting.abort();
    let stored = local.store_marks();
    log::info!("ended; dropped: {}", state.dropped());
    ended.and(drained).and(stored.map_err(BridgeError::from))
}

/// Waits until every part has ended, and what takes `room` is in the stream.
async fn drain(
    mut tasks: JoinSet<Result<(), BridgeError>>,
    room: Option<&Arc<Semaphore>>,
    local: &Local,
) -> Result<(), BridgeError> {
    let drained = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        if let Some(room) = room {
            // All of it is there when nothing waits.
            let _ = room.acquire_many(outgoing::ROOM).await;
        }
        Ok(())
    };
    let drained = tokio::time::timeout(2 * PATIENCE, drained).await;
    drained.unwrap_or_else(|_| {
        let waiting = local.with_ledger(|ledger| ledger.waiting()).unwrap_or(0);
        log::warn!("{waiting} messages are not in the stream yet; the next start looks for them");
        Ok(())
    })
}

fn login(arguments: &Arguments) -> Result<Login, BridgeError> {
    let Some(path) = &arguments.cookie else {
        return Ok(Login::default());
    };
    let cookie = std::fs::read(path).map_err(|error| BridgeError::Cookie {
        path: path.clone(),
        error,
    })?;
    Ok(Login(Some(cookie)))
}

/// Who of two bridges was first, and that they are two.
fn instance() -> Instance {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let micros = u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
    Instance(micros, u64::from(std::process::id()))
}

/// The signals that mean something.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    figures: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            figures: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for one that ends the program, and tells the figures at SIGUSR1.
    async fn end(&mut self, state: &State) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.figures.recv() => log::info!("dropped: {}", state.dropped()),
            }
        }
    }
}

/// Waits longer each time.
pub struct Backoff(Duration);

impl Backoff {
    /// It has not waited yet.
    pub const fn new() -> Self {
        Self(RETRY.0)
    }

    /// Waits.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (2 * self.0).min(RETRY.1);
    }
}

/// The first connection to NATS. The stream knows best what of the last life is in it.
async fn first_session(
    arguments: &Arguments,
    state: &State,
    marks: &mut Marks,
) -> Result<(Arc<Session>, Position), StateError> {
    let mut backoff = Backoff::new();
    loop {
        let opened = Session::open(arguments, state.position().as_ref()).await;
        let why = match opened {
            Ok((session, position)) => match look_up(&session, arguments, state, marks).await? {
                Ok(()) => return Ok((session, position)),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        log::warn!("{why}");
        backoff.wait().await;
    }
}

/// Looks for what the last life has published and has seen no answer for. What nobody can tell of
/// any more is not sent again, and counted.
async fn look_up(
    session: &Session,
    arguments: &Arguments,
    state: &State,
    marks: &mut Marks,
) -> Result<Result<(), async_nats::Error>, StateError> {
    let begun: Vec<_> = marks
        .begun()
        .map(|(target, id, end)| (target.to_owned(), id, end))
        .collect();
    let first = begun.iter().map(|(_, _, end)| *end).min();
    let (Some(run), Some(first)) = (Run::parse(&marks.run), first) else {
        return Ok(Ok(()));
    };
    let found = match session.find(first).await {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let mut in_doubt = 0;
    for (target, id, _) in begun {
        let has = found.has(&parcel::message_id(&arguments.host, &run, id));
        if has.is_none() {
            in_doubt += 1;
        }
        if has != Some(false) {
            marks.settle(&target, id);
        }
    }
    marks.begun.clear();
    state.drop_messages(Reason::InDoubt, in_doubt)?;
    state.notes().store_marks(marks.clone())?;
    Ok(Ok(()))
}

/// Keeps a connection to NATS.
async fn connect(
    arguments: Arguments,
    state: State,
    sessions: watch::Sender<Sessions>,
    mut longest: watch::Receiver<u64>,
) {
    let mut backoff = Backoff::new();
    loop {
        let current = sessions.borrow().clone();
        if let Some((session, _)) = current {
            let since = Instant::now();
            log::info!("joined the group {} as {}", arguments.group, arguments.host);
            let why = loop {
                let most = *longest.borrow_and_update();
                let room = session.max_payload().saturating_sub(OVERHEAD);
                if most > room as u64 {
                    log::warn!(
                        "the bus takes messages of {most} octets, and NATS only of about {room}: \
                         longer ones are dropped (max_payload of the NATS server)"
                    );
                }
                tokio::select! {
                    why = session.failure() => break why,
                    changed = longest.changed() => if changed.is_err() {
                        break session.failure().await;
                    },
                }
            };
            log::warn!("{why}; connecting to NATS again");
            sessions.send_replace(None);
            session.close();
            // One that is let in and fails at once is not to try it ten times a second.
            if since.elapsed() > RETRY.1 {
                backoff = Backoff::new();
            }
        }
        loop {
            backoff.wait().await;
            match Session::open(&arguments, state.position().as_ref()).await {
                Ok(opened) => {
                    sessions.send_replace(Some(opened));
                    break;
                }
                Err(error) => log::warn!("{error}"),
            }
        }
    }
}

/// The loop that looks after the connections to the bus.
struct Bus {
    arguments: Arguments,
    local: Arc<Local>,
    heard: mpsc::Receiver<Report>,
    names: watch::Sender<Option<BTreeSet<String>>>,
    wanted: watch::Receiver<BTreeSet<Target>>,
    longest: watch::Sender<u64>,
    /// The controllers here.
    known: BTreeSet<String>,
    /// Those of whom it was logged that others are not told.
    too_long: BTreeSet<String>,
}

impl Bus {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), BridgeError> {
        let mut backoff = Backoff::new();
        let mut is_open = false;
        let mut next_try = Instant::now();
        let mut next_save = Instant::now() + SAVE;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if !is_open && next_try <= Instant::now() {
                is_open = self.open().await?;
                next_try = Instant::now() + backoff.0;
                backoff.0 = if is_open {
                    RETRY.0
                } else {
                    (2 * backoff.0).min(RETRY.1)
                };
            }
            let wanted = self.wanted.borrow_and_update().clone();
            self.local.reconcile(wanted).await?;
            tokio::select! {
                report = self.heard.recv() => {
                    if let Some(report) = report
                        && self.handle_report(report).await
                    {
                        is_open = false;
                        next_try = Instant::now() + RETRY.0;
                    }
                }
                _ = self.wanted.changed() => {}
                _ = tick.tick() => {}
                () = tokio::time::sleep_until(next_try), if !is_open => {}
                () = told(&mut stopped) => break,
            }
            if next_save <= Instant::now() {
                self.local.store_marks()?;
                next_save = Instant::now() + SAVE;
            }
        }
        self.local.stop().await;
        let deadline = Instant::now() + PATIENCE;
        while !self.local.is_empty().await {
            let report = tokio::time::timeout_at(deadline, self.heard.recv()).await;
            let Ok(Some(report)) = report else { break };
            self.handle_report(report).await;
        }
        Ok(())
    }

    async fn open(&mut self) -> Result<bool, BridgeError> {
        match self.local.open().await {
            Ok((names, longest)) => {
                log::info!("on the bus at {}", self.arguments.socket.display());
                self.longest.send_replace(longest);
                self.known = names;
                self.tell();
                Ok(true)
            }
            Err(OpenError::Bus(error)) => {
                log::warn!("{error}");
                Ok(false)
            }
            Err(OpenError::State(error)) => Err(error.into()),
        }
    }

    /// Whether the bus is gone.
    async fn handle_report(&mut self, report: Report) -> bool {
        match report {
            Report::Change(Change::Named(name, old)) => {
                if let Some(old) = old {
                    self.known.remove(&old);
                }
                self.known.insert(name);
                self.tell();
            }
            Report::Change(Change::Gone(name)) => {
                self.known.remove(&name);
                self.tell();
            }
            Report::Ended {
                target,
                connection,
                is_read,
                error,
            } => {
                let local = &self.local;
                let is_gone = local.handle_end(&target, connection, is_read, &error).await;
                if is_gone {
                    self.known.clear();
                    self.tell();
                }
                return is_gone;
            }
        }
        false
    }

    /// Tells the others who is here, without those who are not from here.
    fn tell(&mut self) {
        let own = self.arguments.group.bridge();
        let shared = self.known.iter().filter(|name| {
            let id = ControllerId::parse(name.as_bytes());
            **name != own && id.is_some_and(|id| names::is_shared(&id))
        });
        let (fitting, long): (BTreeSet<_>, BTreeSet<_>) = shared
            .cloned()
            .partition(|name| names::local_name(name, &self.arguments.host).is_some());
        for name in long.difference(&self.too_long) {
            log::warn!("{name} is not shown to others: with the host the name is too long");
        }
        self.too_long = long;
        self.names.send_if_modified(|names| {
            let is_new = names.as_ref() != Some(&fitting);
            if is_new {
                *names = Some(fitting);
            }
            is_new
        });
    }
}
