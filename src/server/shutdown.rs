//! The end: nobody new, what is queued delivered, nothing left behind.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mio::Events;
use sd_notify::NotifyState;

use super::source::Source;
use super::{Server, signals};
use crate::outbox::Phase;

/// How long what is queued has to be read.
const PATIENCE: Duration = Duration::from_secs(2);

impl Server {
    /// Stops accepting, delivers what is queued, and lets everything go.
    pub(super) fn shut_down(mut self) {
        let why = self.daemon.ending.unwrap_or("no reason");
        log::info!("ending: {why}");
        signals::notify(&[NotifyState::Stopping]);
        self.listeners.clear();
        self.finish_saving();
        self.daemon.hand_over_events();
        if self.daemon.fanout.end().is_err() {
            log::error!("the fan-out thread has failed: events were lost");
        }
        for (_, connection) in &self.connections {
            connection.outbox.finish();
        }
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(1024);
        loop {
            self.connections
                .retain(|_, connection| connection.outbox.phase() == Phase::Finishing);
            let left = deadline.saturating_duration_since(Instant::now());
            if self.connections.is_empty() || left.is_zero() {
                break;
            }
            match self.poll.poll(&mut events, Some(left)) {
                Ok(()) => {}
                // A second signal asks for nothing that is not being done.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // What the kernel took by now is all that can be delivered.
                Err(_) => break,
            }
            for event in &events {
                if let Source::Controller(key) = event.token().into()
                    && let Some(connection) = self.connections.get(key)
                {
                    connection.outbox.flush();
                }
            }
        }
        if !self.connections.is_empty() {
            let count = self.connections.len();
            log::warn!("{count} controllers did not read what was queued for them");
        }
        if self.daemon.cookie.is_some() {
            self.daemon.state.remove_cookie();
        }
        if let Err(error) = self.daemon.state.write_last_id(self.daemon.bus.last_id()) {
            log::warn!("the last MessageID is not written down: {error}");
        }
        log::info!("ended");
    }
}
