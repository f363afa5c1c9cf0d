//! The daemon's own connection to Tor, and the signs that Tor is there: what the conversation
//! decides is carried out here.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Interest, Registry};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use zeroize::Zeroize as _;

use super::audit::outside_events;
use super::connection::Connection;
use super::daemon::Daemon;
use super::link::{Link, Place, Read, Welcome};
use super::lookup::Lookup;
use super::source::Source;
use crate::options::Address;
use crate::sys::file::read_small;
use crate::tor::login::{Login, Means};
use crate::tor::upstream::{Failure, Upstream};
use crate::tor::watcher::{Output, Subscription, of_tor};
use crate::wire::event::{Event, EventKind, EventMask};
use crate::wire::refusal::Refusal;
use crate::wire::shown::shown;

/// The most octets of a file with a password.
const MAX_PASSWORD: u64 = 4096;

/// The Tor behind the bus, and the sockets that lead to it.
pub(super) struct TorSide {
    pub(super) upstream: Upstream,
    /// Where Tor listens.
    pub(super) address: Address,
    lookup: Lookup,
    /// The address that the host of [`Self::address`] has, while the daemon is connected or
    /// connecting to it.
    looked_up: Option<SocketAddr>,
    /// The daemon's own connection.
    link: Option<Link>,
    /// The connection that the next controller gets.
    pub(super) spare: Option<Link>,
    /// A controller has taken the spare connection, and no other was tried to be had since.
    pub(super) spare_is_due: bool,
    /// Tells when the control socket appears, or the next directory on the way to it.
    watch: Option<(Inotify, OsString)>,
    /// Answers to subscriptions, for the loop to give to their controllers.
    pub(super) answers: Vec<(Subscription, Result<(), Refusal>)>,
    /// Tor has gone: whoever cannot stay without it is to be disconnected.
    pub(super) has_gone: bool,
    /// It was said that something was dropped which this Tor was not asked for.
    has_dropped: bool,
}

impl TorSide {
    pub(super) fn new(address: Address) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(Self {
            upstream: Upstream::new(random),
            address,
            lookup: Lookup::default(),
            looked_up: None,
            link: None,
            spare: None,
            spare_is_due: false,
            watch: None,
            answers: Vec::new(),
            has_gone: false,
            has_dropped: false,
        })
    }
}

impl Daemon {
    /// Begins to look for Tor.
    pub(super) fn look_for_tor(&mut self) {
        self.watch_socket();
        self.connect_watcher();
    }

    /// Watches the directory where Tor makes its socket, or the one where that will be.
    fn watch_socket(&mut self) {
        let Some(tor) = &mut self.tor else { return };
        if let Address::Unix(path) = &tor.address {
            // Without it, Tor is found at the next try.
            tor.watch = watch(path, &self.registry).ok();
        }
    }

    /// Opens a connection to Tor.
    pub(super) fn open_link(&self, source: Source) -> Result<Link, String> {
        let Some(tor) = &self.tor else {
            return Err("none is configured".into());
        };
        let password = self.tor_password()?;
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(|cause| format!("no randomness: {cause}"))?;
        let means = Means {
            password,
            plain_cookie: self.options.settings().tor_allow_cookie,
        };
        let login = Login::new(means, nonce, &self.number, &tor.upstream.fence);
        let address = &tor.address;
        let place = match address {
            Address::Unix(path) => Place::Path(path),
            Address::Tcp(address) => Place::Port(*address),
            Address::Name(..) => Place::Port(
                tor.looked_up
                    .ok_or_else(|| format!("{address} is being looked up"))?,
            ),
        };
        Link::open(&place, login, &self.registry, source)
            .map_err(|error| format!("{address}: {error}"))
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

    /// Tries to reach Tor, unless it is there or on its way.
    pub(super) fn connect_watcher(&mut self) {
        if self.tor.as_ref().is_none_or(|tor| !tor.upstream.is_away()) {
            return;
        }
        let patience = self.options.settings().tor_timeout;
        let Some(tor) = &mut self.tor else { return };
        tor.upstream.handle_connecting(Instant::now(), patience);
        let Address::Name(host, port) = &tor.address else {
            return self.open_watcher();
        };
        if let Err(cause) = tor.lookup.begin(host, *port, &self.outlet) {
            let cause = format!("{}: {cause}", tor.address);
            self.watcher_failed(&cause);
        }
    }

    /// Connects to the address of Tor's host, if it has come.
    pub(super) fn hear_lookup(&mut self) {
        let Some(tor) = &mut self.tor else { return };
        let Some(found) = tor.lookup.poll() else {
            return;
        };
        // The time for it may be over.
        if tor.link.is_some() || !tor.upstream.is_coming() {
            return;
        }
        match found {
            Ok(address) => {
                tor.looked_up = Some(address);
                self.open_watcher();
            }
            Err(cause) => {
                let cause = format!("{}: {cause}", tor.address);
                self.watcher_failed(&cause);
            }
        }
    }

    fn open_watcher(&mut self) {
        let opened = self.open_link(Source::Watcher);
        let Some(tor) = &mut self.tor else { return };
        match opened {
            Ok(link) => tor.link = Some(link),
            Err(cause) => self.watcher_failed(&cause),
        }
    }

    /// The daemon's own connection has failed or ended.
    pub(super) fn watcher_failed(&mut self, cause: &str) {
        let Some(tor) = &mut self.tor else { return };
        tor.link = None;
        // The name alone does not tell which of its addresses it was.
        let cause = &match tor.looked_up {
            Some(address) => format!("{cause}, at {address}"),
            None => cause.to_owned(),
        };
        // It leads to the Tor that has gone, and the address may be another's by now.
        tor.spare = None;
        tor.looked_up = None;
        let (failure, waiting) = tor.upstream.handle_gone(Instant::now(), cause);
        let refusal = Refusal::Failed(format!("Tor is not reachable: {cause}"));
        let refused = |one| (one, Err(refusal.clone()));
        tor.answers.extend(waiting.into_iter().map(refused));
        match failure {
            Some(Failure::Again) => log::debug!("Tor is not reachable: {cause}"),
            Some(Failure::First) => {
                log::warn!("Tor is not reachable, and is tried again until it is: {cause}");
            }
            None => {
                tor.has_gone = true;
                self.court_without_tor();
                log::warn!("Tor has gone: {cause}");
                if !self.keeper_without_tor(cause) {
                    self.tell(Event::TorReachable(false));
                }
                self.hand_over_events();
            }
        }
        self.facts_will_not_come();
        self.keeper_has_news();
        // The directory may be another one by now.
        self.watch_socket();
    }

    /// Notes what the loop has heard of the daemon's own connection.
    pub(super) fn watcher_is_ready(&mut self, event: &mio::event::Event) {
        let link = self.tor.as_mut().and_then(|tor| tor.link.as_mut());
        if let Some(link) = link {
            if link.heard(event) {
                self.flush_watcher();
            }
            self.queue.push_once(Source::Watcher);
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
        if changed {
            // It may lead to the Tor of before.
            tor.spare = None;
        }
        if changed && tor.upstream.is_away() {
            tor.upstream.handle_sign_of_life();
            self.connect_watcher();
        }
    }

    /// Reads the daemon's own connection. Returns what Tor has said, and why the connection has
    /// failed, if it has.
    pub(super) fn hear_watcher(&mut self, buffer: &mut [u8]) -> (Vec<Output>, Option<String>) {
        let mut outputs = Vec::new();
        let Some(link) = self.tor.as_mut().and_then(|tor| tor.link.as_mut()) else {
            return (outputs, None);
        };
        let (length, read) = link.read(buffer);
        let octets = buffer.get_mut(..length).unwrap_or_default();
        let watcher = self.tor.as_mut().and_then(|tor| tor.upstream.watcher());
        let has_keys = watcher.is_some_and(|watcher| watcher.awaits_keys());
        let mut failure = if octets.is_empty() {
            None
        } else {
            self.watcher_said(octets, &mut outputs).err()
        };
        if has_keys {
            octets.zeroize();
        }
        if let Some(link) = self.tor.as_mut().and_then(|tor| tor.link.as_mut()) {
            if read == Read::Ended {
                failure.get_or_insert_with(|| link.failure());
            } else if link.readable.is_any() {
                self.queue.push_once(Source::Watcher);
            }
        }
        (outputs, failure)
    }

    fn watcher_said(&mut self, octets: &[u8], outputs: &mut Vec<Output>) -> Result<(), String> {
        let Some(tor) = &mut self.tor else {
            return Ok(());
        };
        let Some(link) = &mut tor.link else {
            return Ok(());
        };
        if !link.is_open() {
            match link
                .log_in(octets, &self.state)
                .map_err(|error| error.to_string())?
            {
                None => self.flush_watcher(),
                Some(welcome) => self.tor_is_up(welcome),
            }
            return Ok(());
        }
        match tor.upstream.watcher_and_names() {
            Some((watcher, names)) => watcher
                .handle_octets(octets, names, outputs)
                .map_err(|_| "it sent an event that has no end".into()),
            None => Ok(()),
        }
    }

    /// Does what something means that Tor has said.
    pub(super) fn watcher_output(&mut self, output: Output) {
        let Some(tor) = &mut self.tor else { return };
        match output {
            Output::Event(kind, line) => {
                let number = match kind {
                    EventKind::Circ | EventKind::Stream => {
                        tor.upstream.identifiers.number_in(&line)
                    }
                    _ => 0,
                };
                self.note_event(kind, &line);
                self.keeper_hears(kind, &line);
                self.tell(Event::OfTor { kind, number, line });
            }
            Output::Facts(facts) => self.facts_came(*facts),
            Output::Answer(subscription, answer) => tor.answers.push((subscription, answer)),
            Output::Refused(line) => {
                let text = shown(&line);
                log::warn!("Tor does not send what controllers want: {text}");
            }
            Output::Dropped(octets) => {
                let text = format!("{octets} octets of Tor's that were not asked for are dropped");
                if std::mem::replace(&mut tor.has_dropped, true) {
                    log::debug!("{text}");
                } else {
                    log::warn!("{text}; more of that is told at severity info");
                }
            }
        }
    }

    fn tor_is_up(&mut self, welcome: Welcome) {
        let Some(tor) = &mut self.tor else { return };
        let Welcome {
            version,
            chain,
            filter,
        } = welcome;
        log::info!("Tor {version} is there, at {}", tor.address);
        tor.has_dropped = false;
        let is_new = tor.upstream.handle_up(version, chain, filter.is_some());
        if let Some(answer) = filter.filter(|_| is_new) {
            log::warn!(
                "something between the bus and Tor answers unknown commands itself ({answer}): \
                 each command is expected to have one reply"
            );
        }
        self.ask_for_facts();
        if !self.restore() {
            self.tell(Event::TorReachable(true));
        }
    }

    /// Tor has not answered in time.
    pub(super) fn watcher_timed_out(&mut self) {
        let patience = self.options.settings().tor_timeout.as_secs();
        self.watcher_failed(&format!("it has not answered for {patience} seconds"));
    }

    /// The kind of an event that only Tor has a name for.
    pub(super) fn kind_of_tor(
        &mut self,
        name: &[u8],
        events: EventMask,
    ) -> Result<EventKind, Refusal> {
        let interest = self.interest().union(events);
        let unknown = || Refusal::UnrecognizedEvent(name.to_vec());
        let upstream = &mut self.tor.as_mut().ok_or_else(unknown)?.upstream;
        let mentioned = upstream
            .watcher()
            .map_or(EventMask::NONE, |watcher| watcher.mentioned());
        upstream
            .names
            .kind(name, interest.union(mentioned))
            .ok_or_else(unknown)
    }

    /// Asks Tor for the events in `events` besides what it sends already. `true` if the
    /// controller must wait for the answer.
    pub(super) fn ask_for_events(
        &mut self,
        connection: &Connection,
        events: EventMask,
    ) -> Result<bool, Refusal> {
        // From its `250 OK` on whoever has ACTION is told what others change at Tor, too.
        let is_outside = events.contains(EventKind::Action);
        self.ask_for_names(is_outside);
        let Some(tor) = &mut self.tor else {
            return Ok(false);
        };
        let needs = if is_outside {
            events.union(outside_events())
        } else {
            events
        };
        if of_tor(needs).is_empty() {
            return Ok(false);
        }
        let Some(watcher) = tor.upstream.watcher() else {
            if of_tor(events).is_empty() {
                return Ok(false);
            }
            // What nobody can tell yet is told once Tor is there.
            let text = format!("Tor is not reachable: {}", tor.address);
            return Err(Refusal::Failed(text));
        };
        if watcher.sends(needs) {
            return Ok(false);
        }
        watcher.handle_subscription(Subscription {
            key: connection.key,
            session: connection.conversation.id(),
            events,
            needs,
        });
        self.follow_interest();
        Ok(true)
    }

    /// The events that controllers or the policy want.
    fn interest(&self) -> EventMask {
        let of_policy = self.court.as_ref().map(|court| court.interest());
        let of_keeper = self.keeping.as_ref().map(|keeping| keeping.interest());
        let of_audit = self.watches_outside().then(outside_events);
        [of_policy, of_keeper, of_audit]
            .into_iter()
            .flatten()
            .fold(self.bus.interest(), EventMask::union)
    }

    /// Makes Tor send what controllers want and nothing more, one step at a time.
    pub(super) fn follow_interest(&mut self) {
        self.ask_for_names(false);
        let interest = self.interest();
        let patience = self.options.settings().tor_timeout;
        let Some(tor) = &mut self.tor else { return };
        if let Some((watcher, names)) = tor.upstream.watcher_and_names() {
            watcher.handle_interest(interest, names, Instant::now(), patience);
        }
        self.flush_watcher();
    }

    fn flush_watcher(&mut self) {
        let Some(tor) = &mut self.tor else { return };
        let Some(link) = &mut tor.link else { return };
        match tor.upstream.watcher() {
            Some(watcher) => link.flush(watcher.poll_transmit(), &self.registry),
            None => link.flush(&mut Vec::new(), &self.registry),
        }
        if link.readable.is_any() {
            self.queue.push_once(Source::Watcher);
        }
    }
}

/// Watches for the name on the way to `path` that is missing: the socket, or a directory above it.
fn watch(path: &Path, registry: &Registry) -> io::Result<(Inotify, OsString)> {
    let (directory, name) = path
        .ancestors()
        .filter_map(|path| Some((path.parent()?, path.file_name()?)))
        .find(|(directory, _)| directory.is_dir())
        .ok_or(ErrorKind::NotFound)?;
    let watch = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let created = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ATTRIB;
    watch.add_watch(directory, created)?;
    let fd = watch.as_fd().as_raw_fd();
    let source = Source::TorSocket.into();
    registry.register(&mut SourceFd(&fd), source, Interest::READABLE)?;
    Ok((watch, name.to_owned()))
}
