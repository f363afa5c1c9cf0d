//! The bridge on the bus here: its own connection, and one for each remote controller.

mod listener;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use onionbus::wire::ControllerId;
use tokio::sync::{Mutex, Semaphore, mpsc, watch};

use crate::args::Arguments;
use crate::bus::{self, BusError, Change, Connection, Ear, Login, Mouth};
use crate::count::Reason;
use crate::ledger::{Ledger, Marks, Missed, Posted};
use crate::names;
use crate::outgoing::Outgoing;
use crate::parcel::{Parcel, Target};
use crate::position::End;
use crate::state::{State, StateError};

use listener::Listener;

/// The time that a name stays after the last message of a controller that is not there any more.
const LINGER: Duration = Duration::from_secs(2);

/// The most replies of one connection that wait.
const REPLIES: usize = 256;

/// The time that a name is left alone which the bus has refused.
const REFUSED: Duration = Duration::from_secs(5);

/// What the connections share.
#[derive(Debug)]
pub struct Local {
    arguments: Arguments,
    login: Login,
    state: State,
    /// What the last life knew; the ledger begins with it.
    marks: Marks,
    ledger: StdMutex<Option<Ledger>>,
    outgoing: mpsc::Sender<Outgoing>,
    room: Arc<Semaphore>,
    /// Up to which `MessageID` the bridge's own connection has handed on what is to all, and which
    /// such connection it is. A message to one waits for those to all before it.
    handed_on: watch::Sender<(u64, u64)>,
    /// Up to which `MessageID` each of the other connections has handed on what it has heard. A
    /// message to all waits for those to one before it.
    heard: StdMutex<BTreeMap<u64, watch::Receiver<u64>>>,
    /// What of this run of the bus was missed.
    missed: StdMutex<Missed>,
    reports: mpsc::Sender<Report>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    main: Option<Main>,
    /// How many connections there were.
    count: u64,
    proxies: BTreeMap<Target, Proxy>,
    /// Names that the bus has refused, and when.
    refused: BTreeMap<Target, Instant>,
    /// Controllers that are there.
    wanted: BTreeSet<Target>,
    /// Those whose connection the bus has cut off, with messages in it that are still to be sought
    /// in the history: they come again for that, also when nobody is there any more.
    cut_off: BTreeSet<Target>,
    stopped: bool,
}

#[derive(Debug)]
struct Main {
    connection: u64,
    mouth: Mouth,
    history: u64,
    since: Instant,
}

#[derive(Debug)]
struct Proxy {
    connection: u64,
    poster: Arc<Mutex<Poster>>,
    used: Instant,
    is_closing: bool,
}

/// What posts under a remote controller's name.
#[derive(Debug)]
pub struct Poster {
    /// Where commands go.
    pub mouth: Mouth,
    /// Where their replies come from.
    pub replies: mpsc::Receiver<(u16, Vec<u8>)>,
}

/// Why there is nothing to post with.
#[derive(Debug)]
pub enum NoPoster {
    /// The bus is not there, or its connection is about to end: it is worth to try again.
    NotNow,
    /// The bus refuses the name.
    Refused,
}

/// What the connections tell the loop.
#[derive(Debug)]
pub enum Report {
    /// A controller here.
    Change(Change),
    /// A connection has ended.
    Ended {
        /// Whose it was.
        target: Target,
        /// Its number.
        connection: u64,
        /// Whether the bus has closed it as it was asked to, and all that was posted is read.
        is_read: bool,
        /// Why.
        error: BusError,
    },
}

impl Local {
    /// Nothing is connected yet.
    pub fn new(
        arguments: Arguments,
        login: Login,
        state: State,
        marks: Marks,
        outgoing: (mpsc::Sender<Outgoing>, Arc<Semaphore>),
        reports: mpsc::Sender<Report>,
    ) -> Self {
        Self {
            arguments,
            login,
            state,
            marks,
            ledger: StdMutex::new(None),
            outgoing: outgoing.0,
            room: outgoing.1,
            handed_on: watch::channel((0, 0)).0,
            heard: StdMutex::default(),
            missed: StdMutex::default(),
            reports,
            inner: Mutex::new(Inner::default()),
        }
    }

    /// What the ledger says.
    pub fn with_ledger<T>(&self, f: impl FnOnce(&mut Ledger) -> T) -> Option<T> {
        self.ledger().as_mut().map(f)
    }

    fn ledger(&self) -> MutexGuard<'_, Option<Ledger>> {
        // Nothing panics while it is held.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missed(&self) -> MutexGuard<'_, Missed> {
        // Nothing panics while it is held.
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<u64, watch::Receiver<u64>>> {
        // Nothing panics while it is held.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the marks down.
    pub fn store_marks(&self) -> Result<(), StateError> {
        let mut notes = self.state.notes();
        match self.with_ledger(|ledger| ledger.marks()) {
            Some(marks) => notes.store_marks(marks),
            None => Ok(()),
        }
    }

    /// Writes down that these are about to be published, where the stream has this end.
    pub fn begin<'a>(
        &self,
        parcels: impl Iterator<Item = &'a Parcel>,
        end: End,
    ) -> Result<(), StateError> {
        let mut notes = self.state.notes();
        let begin = |ledger: &mut Ledger| parcels.filter_map(|it| ledger.begin(it, end)).collect();
        let written: Vec<_> = self.with_ledger(begin).unwrap_or_default();
        notes.store(&written)
    }

    /// Writes down that these are in the stream.
    pub fn settle<'a>(&self, parcels: impl Iterator<Item = &'a Parcel>) -> Result<(), StateError> {
        let mut notes = self.state.notes();
        let settle = |ledger: &mut Ledger| parcels.filter_map(|it| ledger.settle(it)).collect();
        let written: Vec<_> = self.with_ledger(settle).unwrap_or_default();
        notes.store(&written)
    }

    /// Counts a parcel that does not reach the stream.
    pub fn drop_parcel(&self, parcel: &Parcel, reason: Reason) -> Result<(), StateError> {
        self.state.drop_messages(reason, 1)?;
        self.settle(std::iter::once(parcel))
    }

    /// Makes the bridge's own connection, and returns the names of the controllers here and the
    /// most octets of a message.
    pub async fn open(self: &Arc<Self>) -> Result<(BTreeSet<String>, u64), OpenError> {
        let mut inner = self.inner.lock().await;
        let mut connection = Connection::open(&self.arguments.socket, &self.login).await?;
        let asked = [
            ("GETINFO bus/chain", b"GETINFO bus/chain".to_vec()),
            (
                "GETCONF",
                b"GETCONF BusMaxMessageLength BusHistory".to_vec(),
            ),
        ];
        let replies = connection.ask(&asked).await?;
        let [chain, conf] = &replies[..] else {
            return Err(connection.strange("GETINFO").into());
        };
        let run = bus::values(chain).first().and_then(|value| bus::run(value));
        let numbers: Vec<_> = bus::values(conf)
            .iter()
            .map(|value| bus::number(value))
            .collect();
        let (Some(run), [Some(length), Some(history)]) = (run, &numbers[..]) else {
            return Err(connection.strange("GETINFO bus/chain").into());
        };
        let (length, history) = (*length, *history);
        let after = {
            let mut ledger = self.ledger();
            let ledger = ledger.get_or_insert_with(|| {
                if !self.marks.run.is_empty() && self.marks.run != run.as_str() {
                    warn_of_restart();
                }
                Ledger::new(run.clone(), &self.marks)
            });
            if *ledger.run() != run {
                warn_of_restart();
                ledger.begin_run(run);
                *self.missed() = Missed::default();
            }
            ledger.open(&Target::All)
        };
        self.store_marks()?;

        let name = self.arguments.group.bridge();
        let asked = [
            ("SETEVENTS", b"SETEVENTS POSTMESSAGE CONTROLLER".to_vec()),
            (
                "CONTROLLERNAME",
                format!("CONTROLLERNAME {name}").into_bytes(),
            ),
            (
                "GETINFO list-controllers",
                b"GETINFO list-controllers".to_vec(),
            ),
        ];
        let replies = connection.ask(&asked).await?;
        let list = replies
            .last()
            .map(|reply| bus::values(reply))
            .unwrap_or_default();
        let names = list.into_iter().flatten();
        let names: BTreeSet<_> = names
            .filter_map(|name| String::from_utf8(name).ok())
            .filter(|other| *other != name)
            .collect();
        self.read_history(&mut connection, &Target::All, after, &name, history)
            .await?;

        inner.count += 1;
        let number = inner.count;
        self.handed_on
            .send_modify(|(connection, _)| *connection = number);
        let Connection { ear, mouth, early } = connection;
        inner.main = Some(Main {
            connection: number,
            mouth,
            history,
            since: Instant::now(),
        });
        inner.refused.clear();
        let (replies, _) = mpsc::channel(1);
        self.listen(ear, Target::All, (number, 0), early, replies);
        Ok((names, length))
    }

    /// What came while nobody listened, before what came since. What is not in the history any
    /// more is counted before anything is handed on: a message of the connection to itself tells
    /// how far the history reaches back.
    async fn read_history(
        &self,
        connection: &mut Connection,
        target: &Target,
        after: Option<u64>,
        name: &str,
        history: u64,
    ) -> Result<(), OpenError> {
        let Some(after) = after else { return Ok(()) };
        let asked = [(
            "GETINFO recent-messages",
            b"GETINFO recent-messages".to_vec(),
        )];
        let (replies, history) = match connection.ask(&asked).await {
            Ok(replies) => (replies, history),
            Err(error @ BusError::Refused { .. }) => {
                log::warn!("{error}: what was posted meanwhile is missed");
                (Vec::new(), 0)
            }
            Err(error) => return Err(error.into()),
        };
        let mark = connection.mark(name).await?;
        let forgotten = mark.saturating_sub(1).saturating_sub(history);
        if forgotten > after {
            let unheard = self.with_ledger(|ledger| ledger.unheard(after, mark));
            let missed = self.missed().extend(unheard.unwrap_or(after), forgotten);
            self.state.drop_messages(Reason::Missed, missed)?;
            self.with_ledger(|ledger| ledger.skip(target, forgotten));
            // Else they would be counted again after a kill.
            self.store_marks()?;
        }
        let values = replies.iter().flat_map(|reply| bus::values(reply));
        let posted = values.flatten().filter_map(|line| bus::read_message(&line));
        let early = std::mem::take(&mut connection.early).into_iter();
        let all: BTreeMap<_, _> = posted.chain(early).map(|one| (one.id, one)).collect();
        connection.early = all.into_values().collect();
        Ok(())
    }

    fn listen(
        self: &Arc<Self>,
        ear: Ear,
        target: Target,
        (connection, since): (u64, u64),
        early: Vec<Posted>,
        replies: mpsc::Sender<(u16, Vec<u8>)>,
    ) {
        // What was posted before its own mark need not reach it, so nobody waits for that.
        let (progress, heard) = watch::channel(since);
        if target != Target::All {
            self.heard().insert(connection, heard);
        }
        let listener = Listener {
            local: Arc::clone(self),
            target,
            connection,
            last_to_all: 0,
            progress,
            replies,
        };
        tokio::spawn(listener.run(ear, early));
    }

    /// Who is to be there: opens and closes connections, as far as the bus is there.
    pub async fn reconcile(self: &Arc<Self>, wanted: BTreeSet<Target>) -> Result<(), StateError> {
        let mut inner = self.inner.lock().await;
        inner.wanted = wanted;
        if inner.main.is_none() || inner.stopped {
            return Ok(());
        }
        let now = Instant::now();
        inner
            .refused
            .retain(|_, when| now.duration_since(*when) < REFUSED);
        let missing = inner.wanted.union(&inner.cut_off).filter(|target| {
            !inner.proxies.contains_key(target) && !inner.refused.contains_key(target)
        });
        let missing: Vec<_> = missing.cloned().collect();
        let after = self.open_targets(&missing)?;
        for (target, after) in missing.into_iter().zip(after) {
            self.open_proxy(&mut inner, target, after).await?;
        }
        let over: Vec<_> = inner
            .proxies
            .iter()
            .filter(|(target, proxy)| {
                let is_used = now.saturating_duration_since(proxy.used) < LINGER;
                // Whoever posts waits for replies, and these may wait for the loop.
                let is_used = is_used || proxy.poster.try_lock().is_err();
                !proxy.is_closing && !inner.wanted.contains(target) && !is_used
            })
            .map(|(target, _)| target.clone())
            .collect();
        for target in over {
            close_proxy(&mut inner, &target).await;
        }
        Ok(())
    }

    /// Writes down that these are open, before anybody can post to them.
    fn open_targets(&self, targets: &[Target]) -> Result<Vec<Option<u64>>, StateError> {
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let open = |ledger: &mut Ledger| targets.iter().map(|one| ledger.open(one)).collect();
        let after = self.with_ledger(open).unwrap_or_default();
        self.store_marks()?;
        Ok(after)
    }

    /// Makes the connection of a remote controller; whether it is there.
    async fn open_proxy(
        self: &Arc<Self>,
        inner: &mut Inner,
        target: Target,
        after: Option<u64>,
    ) -> Result<bool, StateError> {
        let history = inner.main.as_ref().map_or(0, |main| main.history);
        let opened = self.connect(&target, after, history).await;
        let (connection, since) = match opened {
            Ok(opened) => opened,
            Err(OpenError::State(error)) => return Err(error),
            Err(OpenError::Bus(error)) => {
                log::warn!("{} is not there: {error}", target.key());
                // At first the bus may not have noticed that the last life of the bridge has ended.
                let is_new = |main: &Main| main.since.elapsed() < REFUSED;
                if !inner.main.as_ref().is_none_or(is_new) {
                    inner.refused.insert(target.clone(), Instant::now());
                }
                if after.is_none() {
                    self.with_ledger(|ledger| ledger.close(&target));
                }
                return Ok(false);
            }
        };
        inner.count += 1;
        let number = inner.count;
        let Connection { ear, mouth, early } = connection;
        let (sender, replies) = mpsc::channel(REPLIES);
        let poster = Arc::new(Mutex::new(Poster { mouth, replies }));
        let proxy = Proxy {
            connection: number,
            poster,
            used: Instant::now()
                .checked_sub(LINGER)
                .unwrap_or_else(Instant::now),
            is_closing: false,
        };
        inner.cut_off.remove(&target);
        inner.proxies.insert(target.clone(), proxy);
        log::debug!("{} is there", target.key());
        self.listen(ear, target, (number, since), early, sender);
        Ok(true)
    }

    /// The connection, and a `MessageID` behind which it hears everything that is for it.
    async fn connect(
        &self,
        target: &Target,
        after: Option<u64>,
        history: u64,
    ) -> Result<(Connection, u64), OpenError> {
        let mut connection = Connection::open(&self.arguments.socket, &self.login).await?;
        let name = local_name(target).ok_or_else(|| connection.strange("CONTROLLERNAME"))?;
        let asked = [
            ("SETEVENTS", b"SETEVENTS POSTMESSAGE".to_vec()),
            (
                "CONTROLLERNAME",
                format!("CONTROLLERNAME {name}").into_bytes(),
            ),
            // In the same turn of the daemon, so that nobody has posted to the name before it.
            ("POSTMESSAGE", format!("POSTMESSAGE @{name} .").into_bytes()),
        ];
        connection.ask(&asked).await?;
        let since = connection.hear_mark(name.as_str()).await?;
        self.read_history(&mut connection, target, after, name.as_str(), history)
            .await?;
        Ok((connection, since))
    }

    /// A connection has ended; whether it was the bridge's own, and with it the bus is gone.
    pub async fn handle_end(
        &self,
        target: &Target,
        connection: u64,
        is_read: bool,
        error: &BusError,
    ) -> bool {
        let mut inner = self.inner.lock().await;
        if *target == Target::All {
            if inner
                .main
                .as_ref()
                .is_none_or(|main| main.connection != connection)
            {
                return false;
            }
            inner.main = None;
            if !inner.stopped {
                log::warn!("{error}");
            }
            return true;
        }
        let is_this = |proxy: &Proxy| proxy.connection == connection;
        if !inner.proxies.get(target).is_some_and(is_this) {
            return false;
        }
        inner.proxies.remove(target);
        if is_read {
            self.with_ledger(|ledger| ledger.close(target));
        } else {
            log::debug!("{}: {error}", target.key());
            inner.cut_off.insert(target.clone());
        }
        false
    }

    /// What posts as this controller, which need not be there any more.
    pub async fn poster(
        self: &Arc<Self>,
        source: &Target,
    ) -> Result<Result<Arc<Mutex<Poster>>, NoPoster>, StateError> {
        let mut inner = self.inner.lock().await;
        if inner.main.is_none() || inner.stopped {
            return Ok(Err(NoPoster::NotNow));
        }
        if inner.refused.contains_key(source) {
            return Ok(Err(NoPoster::Refused));
        }
        if !inner.proxies.contains_key(source) {
            let after = self.open_targets(std::slice::from_ref(source))?;
            let after = after.first().copied().flatten();
            if !self.open_proxy(&mut inner, source.clone(), after).await? {
                return Ok(Err(NoPoster::NotNow));
            }
        }
        Ok(match inner.proxies.get_mut(source) {
            Some(proxy) if !proxy.is_closing => {
                proxy.used = Instant::now();
                Ok(Arc::clone(&proxy.poster))
            }
            _ => Err(NoPoster::NotNow),
        })
    }

    /// Leaves the bus: nobody can post to the bridge any more. The connections end when all that
    /// was posted before is read.
    pub async fn stop(&self) {
        let mut inner = self.inner.lock().await;
        inner.stopped = true;
        let open: Vec<_> = inner.proxies.keys().cloned().collect();
        for target in open {
            close_proxy(&mut inner, &target).await;
        }
        if let Some(main) = &mut inner.main {
            let _ = main.mouth.say(b"QUIT\r\n").await;
        }
    }

    /// Whether every connection has ended.
    pub async fn is_empty(&self) -> bool {
        let inner = self.inner.lock().await;
        inner.main.is_none() && inner.proxies.is_empty()
    }
}

/// What keeps the bridge from the bus.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
}

fn warn_of_restart() {
    log::warn!("the bus has started again: what it had not delivered to the bridge is lost");
}

/// The name of a remote controller here.
#[must_use]
pub fn local_name(target: &Target) -> Option<ControllerId> {
    match target {
        Target::All => None,
        Target::One(host, name) => names::local_name(name.as_str(), host),
    }
}

async fn close_proxy(inner: &mut Inner, target: &Target) {
    let Some(proxy) = inner.proxies.get_mut(target) else {
        return;
    };
    proxy.is_closing = true;
    let mut poster = proxy.poster.lock().await;
    // A connection that fails ends too, and then the listener tells.
    let _ = poster.mouth.say(b"QUIT\r\n").await;
}
