//! Signals, from the system and from controllers, and what the service manager is told.

use std::cmp::Reverse;
use std::io;
use std::time::{Duration, Instant};

use mio::{Interest, Registry};
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook_mio::v1_0::Signals as Pipe;

use super::Server;
use super::connection::Connection;
use super::daemon::Daemon;
use super::source::Source;
use crate::logging::BOUNDED;
use crate::wire::event::Event;
use crate::wire::request::Signal;

/// The most controllers that one SIGUSR1 lists: those for whom most waits.
const DUMPED: usize = 100;

/// The process's signals, as a source of the loop.
pub(super) struct Signals(Pipe);

impl Signals {
    pub(super) fn start(registry: &Registry) -> io::Result<Self> {
        // A write beyond the limit for files (`ulimit -f`) fails; without a handler it ends all.
        let all = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ];
        let mut pipe = Pipe::new(all)?;
        registry.register(&mut pipe, Source::Signals.into(), Interest::READABLE)?;
        Ok(Self(pipe))
    }
}

impl Server {
    /// Carries out the signals that the process has got.
    pub(super) fn take_signals(&mut self) {
        let pending: Vec<_> = self.signals.0.pending().collect();
        for number in pending {
            let signal = match number {
                SIGHUP => Signal::Reload,
                SIGINT => Signal::Shutdown,
                SIGUSR1 => Signal::Dump,
                SIGUSR2 => Signal::Debug,
                SIGXFSZ => continue,
                _ => Signal::Halt,
            };
            self.daemon.note_outside_signal(signal);
            self.daemon.audit.is_outside = true;
            // Whoever sent it reads the log, which has said why it failed.
            let _ = self.daemon.raise(signal);
            self.daemon.audit.is_outside = false;
        }
        self.daemon.hand_over_events();
    }
}

impl Daemon {
    /// Carries out a signal, whoever raised it; why not, if it cannot be.
    pub(super) fn raise(&mut self, signal: Signal) -> Result<(), String> {
        match signal {
            Signal::Reload | Signal::BusReload => self.reload_and_notify()?,
            Signal::Shutdown | Signal::Halt | Signal::BusShutdown => {
                self.ending = Some("a signal asked for it");
            }
            Signal::Dump => self.timers.dump(Instant::now()),
            Signal::Debug => {
                self.logging.write_from(log::LevelFilter::Trace);
                log::info!("logging everything, until the options are read again");
            }
            Signal::Heartbeat => log::info!("{}", self.heartbeat()),
            Signal::Tor(_) => {}
        }
        self.tell_of_signal(signal);
        Ok(())
    }

    /// Notes a SIGNAL event. With a Tor behind the bus those tell what that one did.
    pub(super) fn tell_of_signal(&mut self, signal: Signal) {
        if self.tor.is_none() {
            self.tell(Event::Signal(signal.name()));
        }
    }

    /// Reads the option file again, and tells the service manager.
    pub(super) fn reload_and_notify(&mut self) -> Result<(), String> {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now]),
            Err(_) => notify(&[NotifyState::Reloading]),
        }
        let reloaded = self.reload();
        self.timers.look_at_files(Duration::ZERO);
        notify(&[NotifyState::Ready]);
        match reloaded {
            Ok(()) => {
                log::info!("the options were read again");
                Ok(())
            }
            Err(problems) => {
                for problem in &problems.0 {
                    log::warn!("{problem}");
                }
                log::warn!("the options stay as they were");
                let first = problems.0.first().map(ToString::to_string);
                Err(format!("Unable to reload: {}", first.unwrap_or_default()))
            }
        }
    }

    fn heartbeat(&self) -> String {
        format!(
            "{} controllers are connected; {} octets read, {} written; the last MessageID is {}; \
             {} lines of the log were lost; {} octets are kept for controllers",
            self.places.present(),
            self.octets_read,
            self.outlet
                .written
                .load(std::sync::atomic::Ordering::Relaxed),
            self.bus.last_id(),
            self.logging.lost(),
            self.accounts.held()
        )
    }
}

impl Server {
    /// Logs who is connected, what waits for them and what they wait for.
    pub(super) fn dump(&self) {
        log::info!("{}", self.daemon.heartbeat());
        let waiting = |one: &Connection| one.outbox.waiting() + one.waiting();
        let mut all: Vec<_> = self.connections.iter().map(|(_, one)| one).collect();
        // The sort keeps the order of those for whom nothing waits.
        all.sort_by_key(|one| Reverse(waiting(one)));
        for connection in all.iter().take(DUMPED) {
            let name = self.daemon.bus.name(connection.conversation.id());
            log::info!(
                target: BOUNDED,
                "{}, named {}: {} octets wait to be sent, {} to be understood; it waits for {}",
                connection.controller,
                name.as_ref().map_or("unset", |name| name.as_str()),
                connection.outbox.waiting(),
                connection.waiting(),
                connection.wait
            );
        }
        if let Some(more) = all.len().checked_sub(DUMPED).filter(|more| *more > 0) {
            log::info!("{more} more are connected, for whom less waits");
        }
    }
}

/// Tells the service manager, if there is one.
pub(super) fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("the service manager cannot be told: {error}");
    }
}
