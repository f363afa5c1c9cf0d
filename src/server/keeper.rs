//! The keeper's connection to Tor and its store, and what keeping means for controllers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::connection::Connection;
use super::daemon::Daemon;
use super::error::ServeError;
use super::link::{Link, Read};
use super::source::Source;
use crate::keep::{Asker, Keeper, Output};
use crate::options::Settings;
use crate::policy::identity::Owner;
use crate::sys::onions;
use crate::tor::fence::Fence;
use crate::wire::event::{Event, EventKind, EventMask};
use crate::wire::refusal::Refusal;
use crate::wire::text::signal_name;

/// The time between tries to reach a Tor because a command needs it.
const PAUSE: Duration = Duration::from_millis(200);

/// The longest time between tries to reach a Tor that must be given something.
const LONGEST: Duration = Duration::from_secs(1);

/// The keeper, and its way to Tor.
pub(super) struct Keeping {
    pub(super) keeper: Keeper,
    link: Option<Link>,
    /// When Tor should have answered.
    deadline: Option<Instant>,
    /// Where services are written down.
    pub(super) store: Option<PathBuf>,
    /// Replies to controllers, for the loop to give to them.
    pub(super) answers: Vec<(Asker, Zeroizing<Vec<u8>>)>,
    /// Those who wait for what Tor has forgotten may go on.
    pub(super) has_news: bool,
    /// Tor is there, and nobody was told.
    is_untold: bool,
    /// When Tor was tried last because a command needs it.
    tried: Option<Instant>,
}

/// The keeper, where the options or the policy want one. Reads the store.
pub(super) fn open(
    settings: &Settings,
    policy_keeps: bool,
    fence: &Fence,
) -> Result<Option<Box<Keeping>>, ServeError> {
    let store = Some(settings.onion_store.clone()).filter(|path| !path.as_os_str().is_empty());
    let is_off = settings.keep_onions.is_zero() && !policy_keeps;
    if is_off && (settings.lease.is_empty() || store.is_some()) {
        return match store {
            None => Ok(None),
            Some(path) => Err(ServeError::StoreWithoutKeeping(path)),
        };
    }
    let mut keeper = Keeper::new(fence.clone());
    keeper.set_leases(&settings.lease);
    if let Some(path) = &store {
        let unusable = |cause: String| ServeError::Store {
            path: path.clone(),
            cause,
        };
        let text = onions::read(path).map_err(|cause| unusable(cause.to_string()))?;
        keeper
            .handle_store(&text, Instant::now())
            .map_err(|cause| unusable(cause.to_string()))?;
        // What cannot be written at the first service is better known now.
        keeper
            .store(&mut |text| onions::write(path, text).map_err(|cause| cause.to_string()))
            .map_err(unusable)?;
    }
    Ok(Some(Box::new(Keeping {
        keeper,
        link: None,
        deadline: None,
        store,
        answers: Vec::new(),
        has_news: false,
        is_untold: false,
        tried: None,
    })))
}

/// The way to write the store at a path.
pub(super) fn writer(store: Option<PathBuf>) -> impl FnMut(&[u8]) -> Result<(), String> {
    move |text| match &store {
        None => Ok(()),
        Some(path) => onions::write(path, text).map_err(|cause| {
            log::error!(
                "the onion store {} cannot be written: {cause}",
                path.display()
            );
            format!("The onion store cannot be written: {cause}")
        }),
    }
}

impl Keeping {
    /// When something is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.keeper
            .poll_timeout()
            .into_iter()
            .chain(self.deadline)
            .min()
    }

    /// The events that Tor must send for what is kept.
    pub(super) fn interest(&self) -> EventMask {
        if self.keeper.has_keys() || self.keeper.holds_leases() {
            [EventKind::ConfChanged, EventKind::Signal]
                .into_iter()
                .collect()
        } else {
            EventMask::NONE
        }
    }
}

impl Daemon {
    /// Has a keeper from now on, if the options or the policy want one now.
    pub(super) fn begin_keeping(&mut self) {
        if let Some(keeping) = &mut self.keeping {
            keeping.keeper.set_leases(&self.options.settings().lease);
            self.take_keeper_outputs();
        }
        let policy_keeps = self
            .court
            .as_ref()
            .is_some_and(|court| court.keeps_onions());
        if let (None, Some(tor)) = (&self.keeping, &self.tor) {
            // A store is read at a start only, so that nothing can be wrong with it now.
            let settings = Settings {
                onion_store: PathBuf::new(),
                ..self.options.settings().clone()
            };
            self.keeping = open(&settings, policy_keeps, &tor.upstream.fence).unwrap_or_default();
            if let Some(keeping) = &mut self.keeping
                && tor.upstream.is_there()
            {
                keeping.keeper.handle_tor_up(Instant::now());
            }
        }
    }

    /// A controller has logged in: what is its owner's waits no longer.
    pub(super) fn enter_keeping(&mut self, connection: &Connection) {
        if self.keeping.is_some()
            && let Some(owner) = Self::owner_of(connection)
            && let Some(keeping) = &mut self.keeping
        {
            let session = connection.conversation.id();
            keeping.keeper.handle_entered(session, &owner);
        }
    }

    /// A controller has left.
    pub(super) fn leave_keeping(&mut self, session: u64) {
        if let Some(keeping) = &mut self.keeping {
            keeping.keeper.handle_left(session, Instant::now());
            self.flush_keeper();
        }
    }

    /// Whether Tor is on its way. If it is away, it is tried: a command shall not reach it first.
    pub(super) fn is_tor_coming(&mut self) -> bool {
        let now = Instant::now();
        let is_away = self.tor.as_ref().is_some_and(|tor| tor.upstream.is_away());
        if is_away
            && let Some(keeping) = &mut self.keeping
            && keeping
                .tried
                .is_none_or(|tried| now.saturating_duration_since(tried) >= PAUSE)
        {
            keeping.tried = Some(now);
            self.connect_watcher();
        }
        self.tor
            .as_ref()
            .is_some_and(|tor| tor.upstream.is_coming())
    }

    /// Whether Tor is being tried since something is kept for it: a command that comes now gets there.
    pub(super) fn awaits_restoring(&mut self) -> bool {
        self.keeping.is_some() && self.is_tor_coming()
    }

    /// Whether no connection may be opened for a controller, since something is kept that a Tor
    /// must be given first.
    pub(super) fn keeper_comes_first(&self) -> bool {
        let is_needed = |keeping: &Keeping| keeping.keeper.is_needed();
        self.keeping.as_deref().is_some_and(is_needed)
            && self
                .tor
                .as_ref()
                .is_some_and(|tor| !tor.upstream.is_there())
    }

    /// An event of Tor's, of which some tell that it has dropped temporary keys or changed options.
    pub(super) fn keeper_hears(&mut self, kind: EventKind, line: &[u8]) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        match (kind, signal_name(line)) {
            (EventKind::ConfChanged, _) => keeping.keeper.handle_conf_changed(),
            (EventKind::Signal, Some(b"RELOAD")) => keeping.keeper.end_all_leases(),
            (EventKind::Signal, Some(b"NEWNYM")) => {}
            _ => return,
        }
        keeping.keeper.handle_keys_lost();
        self.flush_keeper();
    }

    /// Tor is there. `true` if nobody is to be told before it has what it has forgotten.
    pub(super) fn restore(&mut self) -> bool {
        let Some(keeping) = &mut self.keeping else {
            return false;
        };
        keeping.is_untold = keeping.keeper.handle_tor_up(Instant::now());
        let is_untold = keeping.is_untold;
        self.flush_keeper();
        is_untold
    }

    /// Tor has ended. `true` if nobody was told that it was there.
    pub(super) fn keeper_without_tor(&mut self, cause: &str) -> bool {
        let Some(keeping) = &mut self.keeping else {
            return false;
        };
        keeping.link = None;
        keeping.deadline = None;
        keeping.has_news = true;
        keeping.keeper.handle_tor_gone(cause, Instant::now());
        let was_untold = std::mem::take(&mut keeping.is_untold);
        self.take_keeper_outputs();
        was_untold
    }

    /// Those who wait for a Tor that has not come may be told.
    pub(super) fn keeper_has_news(&mut self) {
        if let Some(keeping) = &mut self.keeping {
            keeping.has_news = true;
            // Who has waited for it does not make it be tried again.
            keeping.tried = Some(Instant::now());
            if keeping.keeper.is_needed()
                && let Some(tor) = &mut self.tor
            {
                tor.upstream.hasten(Instant::now() + LONGEST);
            }
        }
    }

    /// Notes what the loop has heard of the keeper's connection.
    pub(super) fn keeper_is_ready(&mut self, event: &mio::event::Event) {
        let link = self
            .keeping
            .as_mut()
            .and_then(|keeping| keeping.link.as_mut());
        if let Some(link) = link {
            if link.heard(event) {
                self.flush_keeper();
            }
            self.queue.push_once(Source::Keeper);
        }
    }

    /// A turn of the keeper's connection.
    pub(super) fn take_keeper_turn(&mut self, buffer: &mut [u8]) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        let Some(link) = &mut keeping.link else {
            return;
        };
        let (length, read) = link.read(buffer);
        let octets = buffer.get(..length).unwrap_or_default();
        let mut ended = read == Read::Ended;
        let again = link.readable.is_any();
        if !octets.is_empty() {
            if link.is_open() {
                let mut write = writer(keeping.store.clone());
                keeping.deadline = None;
                keeping
                    .keeper
                    .handle_octets(octets, Instant::now(), &mut write);
            } else {
                match link.log_in(octets, &self.state) {
                    Ok(None) => {}
                    Ok(Some(_)) => keeping.keeper.handle_open(link.fences),
                    Err(cause) => {
                        log::warn!("what is kept cannot be given to Tor: {cause}");
                        ended = true;
                    }
                }
            }
        }
        // Answers can have had keys in them.
        if let Some(octets) = buffer.get_mut(..length) {
            zeroize::Zeroize::zeroize(octets);
        }
        if ended {
            self.keeper_hung_up();
        } else if again {
            self.queue.push_once(Source::Keeper);
        }
        self.flush_keeper();
    }

    fn keeper_hung_up(&mut self) {
        if let Some(keeping) = &mut self.keeping {
            keeping.link = None;
            keeping.deadline = None;
            keeping.keeper.handle_gone(Instant::now());
        }
    }

    /// Sends Tor what the keeper has for it, and takes what the keeper has for others.
    pub(super) fn flush_keeper(&mut self) {
        let Some(keeping) = &self.keeping else { return };
        if keeping.link.is_none() && keeping.keeper.wants_link() {
            match self.open_link(Source::Keeper) {
                Ok(link) => {
                    if let Some(keeping) = &mut self.keeping {
                        keeping.link = Some(link);
                    }
                }
                Err(cause) => {
                    log::warn!("what is kept cannot be given to Tor: {cause}");
                    self.keeper_hung_up();
                }
            }
        }
        let patience = self.options.settings().tor_timeout;
        if let Some(keeping) = &mut self.keeping {
            if let Some(link) = &mut keeping.link {
                link.flush(keeping.keeper.poll_transmit(), &self.registry);
                keeping.keeper.handle_transmitted();
                if link.readable.is_any() {
                    self.queue.push_once(Source::Keeper);
                }
            }
            if !keeping.keeper.wants_link() {
                keeping.deadline = None;
            } else if keeping.deadline.is_none() {
                keeping.deadline = Some(Instant::now() + patience);
            }
        }
        self.take_keeper_outputs();
    }

    pub(super) fn take_keeper_outputs(&mut self) {
        while let Some(output) = self
            .keeping
            .as_mut()
            .and_then(|keeping| keeping.keeper.poll_output())
        {
            match output {
                Output::Reply(asker, reply) => {
                    if let Some(keeping) = &mut self.keeping {
                        keeping.answers.push((asker, reply.into()));
                    }
                }
                Output::Made(onion, owner) => {
                    if let Some(court) = &mut self.court {
                        court.ledger.handle_kept(&onion, owner);
                    }
                }
                Output::Ended(onion) => {
                    if let Some(court) = &mut self.court {
                        court.ledger.remove_onion(&onion);
                    }
                }
                Output::Unlocked(onion, owner) => {
                    if let Some(court) = &mut self.court {
                        court.ledger.handle_key(&onion, owner, false);
                    }
                }
                Output::Ready => {
                    self.follow_interest();
                    if let Some(keeping) = &mut self.keeping {
                        keeping.has_news = true;
                        if std::mem::take(&mut keeping.is_untold) {
                            self.tell(Event::TorReachable(true));
                        }
                    }
                }
                Output::News => {
                    if let Some(keeping) = &mut self.keeping {
                        keeping.has_news = true;
                    }
                }
                Output::Lease(line) => {
                    // What was before is set again now, by the daemon.
                    let option = line
                        .strip_prefix("ENDED ")
                        .and_then(|of| of.split(' ').next());
                    if let Some(option) = option {
                        let causes = &mut self.audit.trail.causes;
                        causes.handle_own_change(option.as_bytes(), Instant::now());
                    }
                    self.tell(Event::Leased(line.into()));
                    self.follow_interest();
                }
                Output::Restored(owner, line) => self.tell_restored(&owner, &line),
                Output::NotStored(cause) => log::error!("{cause}"),
                Output::UnknownLease(name) => {
                    log::warn!("BusLease {name}: this Tor has no such option");
                }
            }
        }
    }

    fn tell_restored(&mut self, owner: &Owner, line: &str) {
        let Some(keeping) = &self.keeping else { return };
        let sessions = keeping.keeper.sessions(owner);
        let wants = |session: &u64| self.bus.events(*session).contains(EventKind::Restore);
        let sessions: Vec<_> = sessions.filter(wants).collect();
        if !sessions.is_empty() {
            let event = Event::Restored(line.into());
            self.events
                .push((event, crate::bus::To::Many(sessions.into())));
        }
    }

    /// Does what is due of the keeper's.
    pub(super) fn run_keeper(&mut self, now: Instant) {
        let tor_is_there = self.tor.as_ref().is_some_and(|tor| tor.upstream.is_there());
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        if keeping.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        if keeping.deadline.is_some_and(|deadline| deadline <= now) {
            log::warn!("Tor does not answer what is kept for it");
            self.keeper_hung_up();
        }
        if let Some(keeping) = &mut self.keeping {
            let mut write = writer(keeping.store.clone());
            keeping.keeper.handle_time(now, tor_is_there, &mut write);
            self.flush_keeper();
        }
    }
}

/// The refusal of a command that nobody may send before the keeper.
pub(super) fn not_reachable() -> Refusal {
    Refusal::Failed("Tor is not reachable: it is away, and what is kept comes first".into())
}
