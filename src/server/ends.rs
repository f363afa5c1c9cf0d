//! The ends of connections: a controller leaves the bus at once, and what it sent before is still
//! carried out.

use std::time::Instant;

use super::Server;
use super::connection::Connection;
use super::daemon::Daemon;
use super::readable::Readable;
use super::source::Source;
use crate::bus::fanout::Item;
use crate::controller::Stage;
use crate::outbox::Phase;
use crate::wire::event::{ControllerChange, Event};
use crate::wire::refusal::Refusal;

impl Server {
    /// A connection has not done in time what it must.
    pub(super) fn deadline_passed(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.deadline = None;
        if connection.stage == Stage::Finishing {
            if connection.outbox.waiting() < connection.lingering {
                // Whoever reads, however slowly, gets it all.
                self.daemon.linger(connection);
            } else {
                self.close(key);
            }
        } else if connection.left.is_some() {
            log::debug!(
                "Tor has not answered {}, which is gone",
                connection.controller
            );
            self.remove(key);
        } else if connection.link.as_ref().is_some_and(|link| !link.is_open()) {
            self.daemon.lose_leg(connection, "it does not answer");
        } else if connection.conversation.must_log_in() {
            // What has come in time counts, wherever the daemon was meanwhile.
            connection.readable = Readable::All;
            self.take_turn(key);
            self.turn_away_stranger(key, "in time");
        }
    }

    /// Ends a connection that had its time to log in, if it has not.
    pub(super) fn turn_away_stranger(&mut self, key: usize, when: &str) {
        let connection = self.connections.get_mut(key);
        if let Some(connection) = connection.filter(|one| one.conversation.must_log_in()) {
            log::info!("{} has not logged in {when}", connection.controller);
            self.daemon
                .refuse(connection, Refusal::AuthenticationRequired);
            self.daemon.finish(connection);
        }
    }

    /// Ends a connection: its controller leaves the bus at once. What it sent before goes on to be
    /// carried out, as far as Tor must answer first, for a while.
    pub(super) fn close(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let is_cut_off = matches!(connection.outbox.phase(), Phase::CutOff(_));
        if is_cut_off || connection.stage == Stage::Finishing {
            connection.drop_input();
        }
        if connection.left.is_none() {
            self.daemon.leave(connection);
            self.gone += 1;
            if !connection.is_done() {
                let deadline = Instant::now() + self.daemon.options.settings().tor_timeout;
                self.daemon.timers.set_deadline(connection, Some(deadline));
                // Its leg may have waited for the controller to read, and hears of nothing else.
                self.daemon.queue.leg(connection);
            }
        }
        if connection.is_done() {
            self.remove(key);
        } else if self.gone > self.daemon.options.settings().max_controllers {
            self.remove_oldest();
        }
        self.resume_accepting();
    }

    /// Forgets a connection that has left the bus.
    pub(super) fn remove(&mut self, key: usize) {
        if let Some(mut connection) = self.connections.try_remove(key) {
            self.daemon.timers.set_deadline(&mut connection, None);
            self.daemon.leg_has_ended(&mut connection);
            // Whoever gets its key must not get its place in the queue, before all others.
            if connection.queued {
                self.daemon.queue.remove(Source::Controller(key));
            }
            if connection.leg_queued {
                self.daemon.queue.remove(Source::Leg(key));
            }
            let session = connection.conversation.id();
            self.daemon.end_unsent_change(session);
            self.gone -= 1;
            self.resume_accepting();
        }
    }

    /// Makes room among those that have left: there are never more of them than there may be
    /// controllers.
    fn remove_oldest(&mut self) {
        let gone = self
            .connections
            .iter()
            .filter(|(_, one)| one.left.is_some());
        let oldest = gone.min_by_key(|(_, one)| one.conversation.id());
        if let Some((key, _)) = oldest {
            self.remove(key);
        }
    }
}

impl Daemon {
    /// A controller leaves the bus.
    fn leave(&mut self, connection: &mut Connection) {
        connection.controller.stage = Stage::Gone;
        let session = connection.conversation.id();
        let peer = connection.conversation.peer();
        let left = self.bus.leave(session);
        self.places.forget_stranger(session);
        self.leave_court(session);
        self.leave_keeping(session);
        if let Phase::CutOff(bound) = connection.outbox.phase() {
            let name = left.as_ref().and_then(|left| left.name.as_ref());
            self.tell_of_cut(connection, name, bound);
        } else {
            log::debug!("{} has left", connection.controller);
        }
        // Ends what a child process may still hold, and what waits to be sent.
        connection.outbox.abandon();
        if std::mem::take(&mut connection.is_subscribed) {
            self.hand_over(Item::Leave(session));
            self.interest_changed();
        }
        if let Some(watcher) = self.tor.as_mut().and_then(|tor| tor.upstream.watcher()) {
            watcher.handle_left(session);
        }
        connection.left = Some(Box::new(left.clone().unwrap_or_default()));
        if let Some(left) = left.filter(|left| left.logged_in) {
            self.tell(Event::Controller {
                change: ControllerChange::Disconnected,
                session,
                name: left.name,
                uid: peer.uid,
                pid: peer.pid,
            });
        }
        self.hand_over_events();
        self.places.leave(peer.uid);
        if connection.is_owner {
            self.ending = Some("the owning controller has left");
        }
    }
}
