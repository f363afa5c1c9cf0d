//! What happens at a time: BW events, the watchdog, the end of what lingers. Nothing else wakes a
//! daemon that nobody talks to.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::connection::Connection;
use super::daemon::Daemon;
use super::signals;
use crate::tor::upstream::Upstream;
use crate::wire::event::{Event, EventKind};

/// How long a connection that has ended waits for any of its last octets to be read.
pub(super) const LINGER: Duration = Duration::from_secs(10);

/// The time before accepting is tried again after it failed, if nobody leaves, and between two
/// lists of the controllers.
const PAUSE: Duration = Duration::from_secs(1);

/// What happens when.
pub(super) struct Timers {
    bandwidth: Option<Bandwidth>,
    watchdog: Option<Watchdog>,
    /// The deadlines of connections, one of each at most.
    deadlines: BTreeSet<(Instant, usize)>,
    accepting: Option<Instant>,
    /// The controllers are to be listed in the log.
    dump: Option<Instant>,
    /// They are not listed before.
    next_dump: Instant,
    /// When it is looked whether the daemon's files are there.
    files: Option<Instant>,
    /// Accepting has failed since somebody was accepted last.
    accepting_fails: bool,
}

/// Something whose time has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// The deadline of the connection with this key.
    Connection(usize),
    /// Accepting after a pause.
    Accepting,
    /// A list of the controllers in the log.
    Dump,
    /// A look at the daemon's files.
    Files,
}

/// The current interval of BW events.
struct Bandwidth {
    ends: Instant,
    length: Duration,
    read: u64,
    written: u64,
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
            deadlines: BTreeSet::new(),
            accepting: None,
            dump: None,
            next_dump: now,
            files: None,
            accepting_fails: false,
        }
    }

    /// How long the loop may sleep; `None` is until somebody wants something. `tor` is when
    /// something is due at Tor.
    pub(super) fn until_next(&self, now: Instant, tor: Option<Instant>) -> Option<Duration> {
        let bandwidth = self.bandwidth.as_ref().map(|interval| interval.ends);
        let watchdog = self.watchdog.as_ref().map(|watchdog| watchdog.next);
        let connection = self.deadlines.first().map(|(due, _)| *due);
        [
            bandwidth,
            watchdog,
            connection,
            self.accepting,
            self.dump,
            self.files,
            tor,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|next| next.saturating_duration_since(now))
    }

    /// Takes something whose time has come.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Due> {
        if self.accepting.is_some_and(|due| due <= now) {
            return Some(Due::Accepting);
        }
        if self.dump.is_some_and(|due| due <= now) {
            self.dump = None;
            self.next_dump = now + PAUSE;
            return Some(Due::Dump);
        }
        if self.files.take_if(|due| *due <= now).is_some() {
            return Some(Due::Files);
        }
        self.deadlines.first().filter(|(due, _)| *due <= now)?;
        self.deadlines
            .pop_first()
            .map(|(_, key)| Due::Connection(key))
    }

    /// Gives a connection another deadline, or none.
    pub(super) fn set_deadline(&mut self, connection: &mut Connection, deadline: Option<Instant>) {
        if let Some(before) = std::mem::replace(&mut connection.deadline, deadline) {
            self.deadlines.remove(&(before, connection.key));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, connection.key));
        }
    }

    /// Somebody wants the controllers listed in the log: at once, but not twice in a second.
    pub(super) fn dump(&mut self, now: Instant) {
        self.dump = Some(self.next_dump.max(now));
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

    /// The daemon's files are to be looked at after `delay`, or sooner if that was said before.
    pub(super) fn look_at_files(&mut self, delay: Duration) {
        let due = Instant::now() + delay;
        self.files = Some(self.files.map_or(due, |sooner| sooner.min(due)));
    }

    /// Ends the pause, if there is one.
    pub(super) const fn resume_accepting(&mut self) -> bool {
        self.accepting.take().is_some()
    }
}

impl Daemon {
    /// Does what is due of the daemon's own.
    pub(super) fn run_timers(&mut self, now: Instant) {
        self.end_interval(now);
        if let Some(watchdog) = &mut self.timers.watchdog
            && watchdog.next <= now
        {
            watchdog.next = now + watchdog.interval;
            signals::notify(&[NotifyState::Watchdog]);
        }
        self.run_keeper(now);
        let upstream = self.tor.as_ref().map(|tor| &tor.upstream);
        let due = upstream.filter(|upstream| upstream.poll_timeout().is_some_and(|due| due <= now));
        match due.map(Upstream::is_away) {
            Some(true) => self.connect_watcher(),
            Some(false) => self.watcher_timed_out(),
            None => {}
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
