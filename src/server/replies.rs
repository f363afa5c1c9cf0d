//! What a controller is sent: the replies of its turns, in the order of events, and its end.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use super::connection::Connection;
use super::daemon::Daemon;
use super::readable::Readable;
use super::timers::LINGER;
use super::turn::REPLIES;
use crate::bus::fanout::Item;
use crate::controller::Stage;
use crate::outbox::Phase;

impl Daemon {
    /// Takes back the buffer for replies, which are sent by now, or for somebody who is gone: the
    /// next controller's come into it.
    pub(super) fn take_back_replies(&mut self, connection: &mut Connection) {
        self.replies = std::mem::take(&mut connection.controller.replies);
        self.replies.clear();
    }

    /// Sends the replies of this turn, and hands over what its commands caused.
    pub(super) fn send_replies(&mut self, connection: &mut Connection) {
        if !connection.replies.is_empty() {
            if connection.outbox.is_behind() {
                self.reply_in_order(connection, false, false);
            } else {
                let replies = &mut connection.controller.replies;
                connection.outbox.send(&mut [IoSlice::new(replies)]);
                replies.clear();
                replies.shrink_to(2 * REPLIES);
            }
        }
        self.hand_over_events();
    }

    /// Sends the replies of this turn and ends the connection with them.
    pub(super) fn finish(&mut self, connection: &mut Connection) {
        if connection.stage == Stage::Finishing {
            return;
        }
        if connection.stage == Stage::Gone {
            // Nobody reads what would be sent; its leg finishes alone what was asked.
            connection.readable = Readable::No;
            return;
        }
        connection.controller.stage = Stage::Finishing;
        self.leg_has_ended(connection);
        // Where a reply of Tor's has broken off, no event may follow.
        let inside = connection
            .leg
            .take()
            .is_some_and(|leg| leg.is_inside_reply());
        connection.link = None;
        connection.outbox.refuse_input();
        if connection.is_subscribed {
            // Behind the events of before. What its last commands caused comes before the end.
            if !connection.replies.is_empty() {
                self.reply_in_order(connection, inside, false);
            }
            self.hand_over_events();
            self.reply_in_order(connection, inside, true);
        } else {
            let replies = std::mem::take(&mut connection.replies);
            connection.outbox.send(&mut [IoSlice::new(&replies)]);
            connection.outbox.finish();
            self.hand_over_events();
        }
        if connection.outbox.phase() != Phase::Ended {
            self.linger(connection);
        }
        // An outbox that has ended is seen in its turn.
        self.queue.controller(connection);
    }

    /// A connection may take some time yet to be flushed.
    pub(super) fn linger(&mut self, connection: &mut Connection) {
        connection.lingering = connection.outbox.waiting();
        let deadline = Instant::now() + LINGER;
        self.timers.set_deadline(connection, Some(deadline));
    }

    /// Sends the replies of this turn behind what was handed over, `inside` one that has no end
    /// yet.
    fn reply_in_order(&self, connection: &mut Connection, inside: bool, finish: bool) {
        let octets = std::mem::take(&mut connection.replies);
        self.hand_over_octets(connection, octets, inside, finish);
    }

    /// Hands octets of a controller's replies to the fan-out.
    pub(super) fn hand_over_octets(
        &self,
        connection: &Connection,
        octets: Vec<u8>,
        inside: bool,
        finish: bool,
    ) {
        connection.outbox.handed_over();
        self.hand_over(Item::Reply {
            outbox: Arc::clone(&connection.outbox),
            session: connection.conversation.id(),
            octets,
            inside,
            finish,
        });
    }
}
