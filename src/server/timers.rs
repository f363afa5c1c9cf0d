//! What happens at a time: BW events, the watchdog, the end of what lingers. Nothing else wakes a
//! daemon that nobody talks to.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::{Server, signals};
use crate::bus::SessionId;
use crate::wire::event::{Event, EventKind};

/// How long a connection that has ended waits for any of its last octets to be read.
const LINGER: Duration = Duration::from_secs(10);

/// When accepting is tried again after it failed, if nobody leaves before.
const PAUSE: Duration = Duration::from_secs(1);

/// What happens when.
pub(super) struct Timers {
    bandwidth: Option<Bandwidth>,
    watchdog: Option<Watchdog>,
    /// Connections that end once they are flushed, in the order of their deadlines.
    lingering: VecDeque<Lingering>,
    accepting: Option<Instant>,
    /// Accepting has failed since somebody was accepted last.
    accepting_fails: bool,
}

/// The current interval of BW events.
struct Bandwidth {
    ends: Instant,
    length: Duration,
    read: u64,
    written: u64,
}

/// A connection that ends once it is flushed.
struct Lingering {
    deadline: Instant,
    key: usize,
    session: SessionId,
    /// Octets that waited when the deadline was set.
    waiting: usize,
}

struct Watchdog {
    next: Instant,
    interval: Duration,
}

impl Timers {
    pub(super) fn new(now: Instant) -> Self {
        let watchdog = sd_notify::watchdog_enabled().map(|timeout| Watchdog {
            next: now,
            interval: timeout / 2,
        });
        Self {
            bandwidth: None,
            watchdog,
            lingering: VecDeque::new(),
            accepting: None,
            accepting_fails: false,
        }
    }

    /// How long the loop may sleep; `None` is until somebody wants something. `tor` is when Tor is
    /// tried again.
    pub(super) fn until_next(&self, now: Instant, tor: Option<Instant>) -> Option<Duration> {
        let bandwidth = self.bandwidth.as_ref().map(|interval| interval.ends);
        let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.next);
        let lingering = self.lingering.front().map(|lingering| lingering.deadline);
        [bandwidth, watchdog, lingering, self.accepting, tor]
            .into_iter()
            .flatten()
            .min()
            .map(|next| next.saturating_duration_since(now))
    }

    /// A connection may take some time yet to be flushed.
    pub(super) fn linger(&mut self, key: usize, session: SessionId, waiting: usize) {
        self.lingering.push_back(Lingering {
            deadline: Instant::now() + LINGER,
            key,
            session,
            waiting,
        });
    }

    /// Accepting has failed. `true` if it is the first time since somebody was accepted.
    pub(super) fn pause_accepting(&mut self) -> bool {
        self.accepting = Some(Instant::now() + PAUSE);
        !std::mem::replace(&mut self.accepting_fails, true)
    }

    /// Somebody was accepted.
    pub(super) const fn accepted(&mut self) {
        self.accepting_fails = false;
    }

    /// Ends the pause, if there is one.
    pub(super) fn resume_accepting(&mut self) -> bool {
        self.accepting.take().is_some()
    }
}

impl Server {
    /// Does what is due.
    pub(super) fn run_timers(&mut self) {
        let now = Instant::now();
        self.end_interval(now);
        if let Some(watchdog) = &mut self.timers.watchdog
            && watchdog.next <= now
        {
            watchdog.next = now + watchdog.interval;
            signals::notify(&[NotifyState::Watchdog]);
        }
        self.end_lingering(now);
        if self
            .tor
            .as_ref()
            .and_then(|tor| tor.retry)
            .is_some_and(|due| due <= now)
        {
            self.connect_feed();
        }
        if self
            .timers
            .accepting
            .is_some_and(|deadline| deadline <= now)
        {
            self.resume_accepting();
        }
    }

    /// Closes what was to be flushed and of which nothing was read any more.
    fn end_lingering(&mut self, now: Instant) {
        while let Some(lingering) = self.timers.lingering.front() {
            let (key, session) = (lingering.key, lingering.session);
            let connection = self.connections.get(key);
            let connection = connection.filter(|held| held.session.id() == session);
            let waiting = connection.map(|held| held.outbox.waiting());
            if waiting.is_some() && lingering.deadline > now {
                break;
            }
            let before = lingering.waiting;
            self.timers.lingering.pop_front();
            match waiting {
                None => {}
                // Whoever reads, however slowly, gets it all.
                Some(waiting) if waiting < before => self.timers.linger(key, session, waiting),
                Some(_) => self.close(key),
            }
        }
    }

    /// Sends the BW event if the interval is over, and begins the next.
    fn end_interval(&mut self, now: Instant) {
        let (read, written) = self.traffic();
        let Some(interval) = &mut self.timers.bandwidth else {
            return;
        };
        if interval.ends > now {
            return;
        }
        let event = Event::Bandwidth {
            read: read - interval.read,
            written: written - interval.written,
        };
        interval.read = read;
        interval.written = written;
        // After a long stop of the whole machine the next interval begins now.
        interval.ends = (interval.ends + interval.length).max(now);
        self.tell(event);
        self.hand_over_events();
    }

    fn traffic(&self) -> (u64, u64) {
        let written = self.outlet.written.load(Ordering::Relaxed);
        (self.octets_read, written)
    }

    /// Somebody has subscribed to something else, or the interval has another length.
    pub(super) fn interest_changed(&mut self) {
        let interest = self.bus.interest();
        // With a Tor behind the bus these events are Tor's.
        if self.tor.is_some() {
            return self.follow_interest();
        }
        self.logging.want(interest);
        let length = self.options.settings().bandwidth_interval;
        if !interest.contains(EventKind::Bandwidth) {
            self.timers.bandwidth = None;
        } else if self.timers.bandwidth.as_ref().map(|b| b.length) != Some(length) {
            let (read, written) = self.traffic();
            self.timers.bandwidth = Some(Bandwidth {
                ends: Instant::now() + length,
                length,
                read,
                written,
            });
        }
    }
}
