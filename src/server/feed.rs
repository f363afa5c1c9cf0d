//! The daemon's own connection to Tor: it subscribes to what controllers want, reads each event
//! once, and tells whether Tor is there.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::error::ServeError;
use super::link::{Got, Link};
use super::{FEED, READ, Server, TOR_SOCKET};
use crate::sys::file::read_small;
use crate::tor::address::Address;
use crate::tor::events::{Feed, Said};
use crate::tor::fence::Fence;
use crate::tor::identifiers::Identifiers;
use crate::wire::event::{Event, EventKind, EventMask};
use crate::wire::refusal::Refusal;

/// The most octets of a file with a password.
const MAX_PASSWORD: u64 = 4096;

/// How long the start of the daemon waits for Tor.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// The first and the longest time until Tor is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The Tor behind the bus.
pub(super) struct Tor {
    address: Address,
    pub(super) fence: Fence,
    /// Of circuits and streams, as binary controllers know them.
    pub(super) identifiers: Identifiers,
    feed: Option<Box<Own>>,
    pub(super) spare: Option<Link>,
    /// A controller has taken the spare connection, and no other was tried to be had since.
    pub(super) spare_is_due: bool,
    /// The version of the Tor that is there, or was last.
    pub(super) version: Option<String>,
    /// When it is tried again, if it is not there, and how long the wait was.
    pub(super) retry: Option<Instant>,
    wait: Duration,
    /// Tells when the control socket appears, or the next directory on the way to it.
    watch: Option<(Inotify, OsString)>,
    /// It was said that Tor is not there.
    missed: bool,
    queued: bool,
}

/// The daemon's own connection.
struct Own {
    link: Link,
    feed: Feed,
    /// What Tor sends.
    sent: EventMask,
    /// What this Tor does not know, so that it is not asked again and again.
    unknown: EventMask,
    /// The SETEVENTS that Tor has not answered: what it asks for, and for whom.
    asked: Option<(EventMask, Option<Waiting>)>,
    /// Those who wait for theirs to be asked: one at a time, since Tor takes all or nothing.
    queue: VecDeque<Waiting>,
}

/// A controller whose SETEVENTS waits for Tor.
struct Waiting {
    key: usize,
    session: u64,
    events: EventMask,
}

impl Tor {
    pub(super) fn new(address: Address) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(Self {
            address,
            fence: Fence::new(random),
            identifiers: Identifiers::default(),
            feed: None,
            spare: None,
            spare_is_due: false,
            version: None,
            retry: None,
            wait: RETRY.0,
            watch: None,
            missed: false,
            queued: false,
        })
    }

    /// Whether it is not known yet if Tor is there.
    fn is_awaited(&self) -> bool {
        self.version.is_none() && self.feed.as_ref().is_some_and(|own| !own.link.is_open())
    }
}

impl Server {
    /// Begins to look for Tor.
    pub(super) fn look_for_tor(&mut self) {
        self.watch_socket();
        self.connect_feed();
    }

    /// Waits a moment for Tor's first answer, so that the first controller is told its version.
    pub(super) fn await_tor(&mut self, events: &mut Events) -> Result<(), ServeError> {
        let deadline = Instant::now() + FIRST_ANSWER;
        while self.tor.as_ref().is_some_and(Tor::is_awaited) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let queued = self.ready.contains(&Token(FEED));
            self.poll(events, Some(if queued { Duration::ZERO } else { left }))?;
            if let Some(found) = self.ready.iter().position(|token| *token == Token(FEED)) {
                self.ready.remove(found);
                self.take_feed_turn();
            }
        }
        Ok(())
    }

    /// Watches the directory where Tor makes its socket, or the one where that will be.
    fn watch_socket(&mut self) {
        let Some(tor) = &mut self.tor else { return };
        if let Address::Unix(path) = &tor.address {
            // Without it, Tor is found at the next try.
            tor.watch = watch(path, self.poll.registry()).ok();
        }
    }

    /// Opens a connection to Tor.
    pub(super) fn open_link(&self, token: Token) -> Result<Link, String> {
        let Some(tor) = &self.tor else {
            return Err("none is configured".into());
        };
        let password = self.tor_password()?;
        Link::open(&tor.address, password, self.poll.registry(), token)
            .map_err(|error| format!("{}: {error}", tor.address))
    }

    /// `BusTorPassword`, or the first line of the file that it names.
    fn tor_password(&self) -> Result<Option<Vec<u8>>, String> {
        let configured = &self.options.settings().tor_password;
        let Some(path) = configured.strip_prefix(b"file:") else {
            return Ok(Some(configured.clone()).filter(|password| !password.is_empty()));
        };
        let path = Path::new(std::ffi::OsStr::new(
            std::str::from_utf8(path).map_err(|_| "BusTorPassword: the path is not UTF-8")?,
        ));
        let failed = |cause: io::Error| format!("BusTorPassword: {}: {cause}", path.display());
        let mode = fs::metadata(path).map_err(failed)?.mode();
        if mode & 0o077 != 0 {
            return Err(format!(
                "BusTorPassword: others may read {}: run 'chmod 600' on it",
                path.display()
            ));
        }
        let mut password = read_small(path, MAX_PASSWORD).map_err(failed)?;
        let end = password
            .iter()
            .position(|octet| matches!(octet, b'\r' | b'\n'));
        password.truncate(end.unwrap_or(password.len()));
        Ok(Some(password))
    }

    /// Tries to reach Tor.
    pub(super) fn connect_feed(&mut self) {
        if self.tor.as_ref().is_none_or(|tor| tor.feed.is_some()) {
            return;
        }
        let opened = self.open_link(Token(FEED));
        let Some(tor) = &mut self.tor else { return };
        tor.retry = None;
        match opened {
            Ok(link) => {
                tor.feed = Some(Box::new(Own {
                    link,
                    feed: Feed::default(),
                    sent: EventMask::NONE,
                    unknown: EventMask::NONE,
                    asked: None,
                    queue: VecDeque::new(),
                }));
            }
            Err(cause) => self.feed_failed(&cause),
        }
    }

    /// Notes when Tor is tried again.
    fn feed_failed(&mut self, cause: &str) {
        let Some(tor) = &mut self.tor else { return };
        let own = tor.feed.take();
        if std::mem::replace(&mut tor.missed, true) {
            log::debug!("Tor is not reachable: {cause}");
        } else {
            log::warn!("Tor is not reachable, and is tried again until it is: {cause}");
        }
        tor.retry = Some(Instant::now() + tor.wait);
        tor.wait = (tor.wait * 2).min(RETRY.1);
        // The directory may be another one by now.
        self.watch_socket();
        if let Some(own) = own {
            self.refuse_those_who_wait(*own, cause);
        }
    }

    /// Answers every SETEVENTS that waits for a Tor that is not there.
    fn refuse_those_who_wait(&mut self, own: Own, cause: &str) {
        let asked = own.asked.and_then(|(_, waiting)| waiting);
        let refusal = Refusal::Failed(format!("Tor is not reachable: {cause}"));
        for waiting in asked.into_iter().chain(own.queue) {
            self.refuse_subscription(&waiting, &refusal);
        }
    }

    /// Notes what the loop has heard of the daemon's own connection.
    pub(super) fn feed_is_ready(&mut self, event: &mio::event::Event) {
        if let Some(tor) = &mut self.tor
            && let Some(own) = &mut tor.feed
        {
            own.link.heard(event, self.poll.registry());
            if !std::mem::replace(&mut tor.queued, true) {
                self.ready.push(Token(FEED));
            }
        }
    }

    /// Something has happened in the directory of Tor's socket.
    pub(super) fn tor_socket_changed(&mut self) {
        let Some(tor) = &mut self.tor else { return };
        let changed = tor.watch.as_ref().is_some_and(|(watch, name)| {
            // It is non-blocking: an error is that nothing more is there.
            let mut changed = false;
            while let Ok(events) = watch.read_events() {
                changed |= events.iter().any(|event| event.name.as_ref() == Some(name));
            }
            changed
        });
        if changed && tor.feed.is_none() {
            tor.wait = RETRY.0;
            self.connect_feed();
        }
    }

    /// A turn of the daemon's own connection.
    pub(super) fn take_feed_turn(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.read_feed(&mut buffer);
        self.buffer = buffer;
        self.hand_over_events();
        if let Some(tor) = &mut self.tor
            && tor.feed.as_ref().is_some_and(|own| own.link.readable)
            && !std::mem::replace(&mut tor.queued, true)
        {
            self.ready.push(Token(FEED));
        }
    }

    fn read_feed(&mut self, buffer: &mut [u8]) {
        let Some(tor) = &mut self.tor else { return };
        tor.queued = false;
        let Some(own) = &mut tor.feed else { return };
        let octets = match own.link.read(&mut buffer[..READ]) {
            Got::Octets(length) => &buffer[..length],
            Got::Nothing => return,
            Got::End => return self.feed_ended(),
        };
        if !own.link.is_open() {
            match own.link.log_in(octets, self.poll.registry()) {
                Ok(None) => {}
                Ok(Some(version)) => self.tor_is_up(version),
                Err(error) => self.feed_failed(&error.to_string()),
            }
            return;
        }
        let mut said = Vec::new();
        if own.feed.take(octets, |one| said.push(one)).is_err() {
            log::error!("Tor sent an event that has no end");
            return self.feed_ended();
        }
        for one in said {
            match one {
                Said::Event(Some(kind), line) => self.tell_of_tor(kind, line),
                Said::Event(None, _) => log::debug!("Tor sent an event of an unknown kind"),
                Said::Reply(line) => self.feed_answered(&line),
            }
        }
    }

    fn tell_of_tor(&mut self, kind: EventKind, line: Arc<[u8]>) {
        let Some(tor) = &mut self.tor else { return };
        let number = match kind {
            EventKind::Circ | EventKind::Stream => tor.identifiers.number_in(&line),
            _ => 0,
        };
        self.tell(Event::OfTor { kind, number, line });
    }

    fn tor_is_up(&mut self, version: String) {
        let Some(tor) = &mut self.tor else { return };
        log::info!("Tor {version} is there, at {}", tor.address);
        tor.version = Some(version);
        tor.wait = RETRY.0;
        tor.missed = false;
        self.tell(Event::TorReachable(true));
        self.follow_interest();
    }

    /// The daemon's own connection has ended.
    fn feed_ended(&mut self) {
        let Some(tor) = &mut self.tor else { return };
        if let Some(own) = &mut tor.feed
            && !own.link.is_open()
        {
            let failure = own.link.failure();
            let cause =
                failure.map_or("it closed the connection".into(), |error| error.to_string());
            return self.feed_failed(&cause);
        }
        let Some(own) = tor.feed.take() else { return };
        log::warn!("Tor has gone");
        tor.retry = Some(Instant::now() + tor.wait);
        self.tell(Event::TorReachable(false));
        self.hand_over_events();
        self.refuse_those_who_wait(*own, "it has gone");
        if self.options.settings().keep_controllers {
            return;
        }
        let left: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| {
                let events = self.bus.events(connection.session.id());
                // One with a connection of its own ends with that, after what Tor still said.
                let relay = connection.relay.as_ref();
                relay.is_none_or(|relay| !relay.link.is_open()) && !of_tor(events).is_empty()
            })
            .map(|(key, _)| key)
            .collect();
        for key in left {
            // Behind the last events, which the fan-out may not have sent yet.
            self.finish(key);
        }
    }

    /// Asks Tor for the events in `events` besides what it sends already. `true` if the
    /// controller must wait for the answer.
    pub(super) fn ask_for_events(
        &mut self,
        key: usize,
        events: EventMask,
    ) -> Result<bool, Refusal> {
        let session = self.connections[key].session.id();
        let Some(tor) = &mut self.tor else {
            return Ok(false);
        };
        if of_tor(events).is_empty() {
            return Ok(false);
        }
        let Some(own) = &mut tor.feed else {
            // What nobody can tell yet is told once Tor is there.
            return Err(Refusal::Failed(format!(
                "Tor is not reachable: {}",
                tor.address
            )));
        };
        if own.asked.is_none() && own.sent.includes(of_tor(events)) {
            return Ok(false);
        }
        own.queue.push_back(Waiting {
            key,
            session,
            events,
        });
        self.follow_interest();
        Ok(true)
    }

    /// Makes Tor send what controllers want and nothing more, one step at a time.
    pub(super) fn follow_interest(&mut self) {
        let interest = of_tor(self.bus.interest());
        let Some(own) = self.tor.as_mut().and_then(|tor| tor.feed.as_mut()) else {
            return;
        };
        if !own.link.is_open() || own.asked.is_some() {
            return;
        }
        let waiting = own.queue.pop_front();
        let wanted = match &waiting {
            Some(waiting) => of_tor(waiting.events).union(own.sent),
            None => interest.without(own.unknown),
        };
        if waiting.is_some() || wanted != own.sent {
            own.ask(wanted, waiting, self.poll.registry());
        }
    }

    /// Tor has answered a SETEVENTS.
    fn feed_answered(&mut self, line: &[u8]) {
        let Some(own) = self.tor.as_mut().and_then(|tor| tor.feed.as_mut()) else {
            return;
        };
        let Some((events, waiting)) = own.asked.take() else {
            return;
        };
        let agreed = line.starts_with(b"250");
        if agreed {
            own.sent = events;
            own.unknown = own.unknown.without(events);
        }
        match waiting {
            Some(waiting) if agreed => self.subscription_agreed(&waiting),
            Some(waiting) => {
                let refusal = Refusal::OfTor(line.to_vec());
                self.refuse_subscription(&waiting, &refusal);
            }
            None if agreed => {}
            None => {
                // Another Tor than the one before, which does not know all that is wanted.
                let refused = refused_event(line);
                let text = String::from_utf8_lossy(line);
                log::warn!("Tor does not send what controllers want: {text}");
                own.unknown = match refused {
                    Some(kind) => own.unknown.union([kind].into_iter().collect()),
                    None => events,
                };
            }
        }
        self.follow_interest();
    }

    fn subscription_agreed(&mut self, waiting: &Waiting) {
        if self.stops_waiting(waiting) {
            self.subscribe(waiting.key, waiting.events);
        }
    }

    fn refuse_subscription(&mut self, waiting: &Waiting, refusal: &Refusal) {
        if self.stops_waiting(waiting) {
            let dialect = self.connections[waiting.key].session.dialect();
            dialect.encode_refusal(refusal, &mut self.replies);
            self.send_replies(waiting.key);
        }
    }

    /// The controller's next command may come; `false` if the controller has left.
    fn stops_waiting(&mut self, waiting: &Waiting) -> bool {
        let connection = self.connections.get_mut(waiting.key);
        let Some(connection) = connection.filter(|held| held.session.id() == waiting.session)
        else {
            return false;
        };
        connection.awaits_feed = false;
        self.ready(Token(waiting.key));
        true
    }
}

impl Own {
    fn ask(&mut self, events: EventMask, waiting: Option<Waiting>, registry: &mio::Registry) {
        let mut command = b"SETEVENTS".to_vec();
        for kind in events.kinds() {
            command.push(b' ');
            command.extend_from_slice(kind.name().as_bytes());
        }
        command.extend_from_slice(b"\r\n");
        self.asked = Some((events, waiting));
        self.link.send(&command);
        self.link.flush(registry);
    }
}

/// The event of `552 Unrecognized event "NAME"`.
fn refused_event(line: &[u8]) -> Option<EventKind> {
    let name = line
        .strip_prefix(b"552 Unrecognized event \"")?
        .strip_suffix(b"\"")?;
    EventKind::parse(name)
}

/// The kinds that a Tor raises.
fn of_tor(events: EventMask) -> EventMask {
    events.kinds().filter(|kind| !kind.is_own()).collect()
}

/// Watches for the name on the way to `path` that is missing: the socket, or a directory above it.
fn watch(path: &Path, registry: &mio::Registry) -> io::Result<(Inotify, OsString)> {
    let (directory, name) = path
        .ancestors()
        .filter_map(|path| Some((path.parent()?, path.file_name()?)))
        .find(|(directory, _)| directory.is_dir())
        .ok_or(ErrorKind::NotFound)?;
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let created = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
    watch.add_watch(directory, created)?;
    let fd = std::os::fd::AsFd::as_fd(&watch).as_raw_fd();
    registry.register(&mut SourceFd(&fd), Token(TOR_SOCKET), Interest::READABLE)?;
    Ok((watch, name.to_owned()))
}
