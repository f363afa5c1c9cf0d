//! One controller's turn: read, take each whole command, answer, hand over what happened.

use std::io::{ErrorKind, IoSlice, Read as _};
use std::sync::Arc;

use mio::Token;

use super::relay::Passed;
use super::{READ, Server};
use crate::bus::fanout::Item;
use crate::outbox::Phase;
use crate::session::Step;
use crate::wire::binary::Frame;
use crate::wire::detect::HTTP_ANSWER;
use crate::wire::event::{ControllerChange, Event, EventMask};
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// While so many octets wait for a controller, nothing more is read from it: who does not read
/// replies gets none made.
const PAUSE: usize = 256 * 1024;

/// So many octets of replies are sent before more are made.
const REPLIES: usize = 64 * 1024;

/// What is left to do for a connection.
enum Next {
    /// Wait for it.
    Wait,
    /// It has more, which gets its own turn.
    Again,
    /// It has ended.
    Close,
}

impl Server {
    /// How many octets may wait for a controller before nothing more is made for it: well below
    /// `BusMaxQueue`, at which it is cut off.
    pub(super) fn pause(&self) -> usize {
        PAUSE.min(self.options.settings().max_queue / 4)
    }

    /// Gives a connection its turn.
    pub(super) fn take_turn(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.queued = false;
        let next = self.read_and_answer(key);
        self.flush_link(key);
        match next {
            Next::Wait => {}
            Next::Again => self.ready(Token(key)),
            Next::Close => self.close(key),
        }
    }

    fn read_and_answer(&mut self, key: usize) -> Next {
        let connection = &mut self.connections[key];
        match connection.outbox.phase() {
            Phase::Open if connection.finishing => return Next::Wait,
            Phase::Open => {}
            // One that is gone for good makes the next write fail, and so ends.
            Phase::Finishing => return Next::Wait,
            Phase::Ended | Phase::Overflowed => return Next::Close,
        }
        // Until the other thread has sent those, nobody knows how much of them will wait.
        if connection.much_handed_over && connection.outbox.await_delivery() {
            self.awaiting.insert(Token(key));
            return Next::Wait;
        }
        connection.much_handed_over = false;
        if connection.outbox.waiting() > self.pause() {
            return Next::Wait;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let length = self.read(key, &mut buffer);
        self.answer(key, &buffer[..length]);
        self.buffer = buffer;
        let connection = &self.connections[key];
        match connection.outbox.phase() {
            Phase::Ended | Phase::Overflowed => return Next::Close,
            Phase::Open if connection.finishing => return Next::Wait,
            Phase::Finishing => return Next::Wait,
            Phase::Open => {}
        }
        if connection.outbox.waiting() > self.pause() {
            // The outbox wakes the loop once its queue is empty.
            Next::Wait
        } else if connection.stalled {
            if connection.relay.is_some() || connection.awaits_feed {
                // Tor's answer gives it its next turn.
                Next::Wait
            } else {
                Next::Again
            }
        } else if connection.ended {
            // Tor too runs what it has received, replies, and then closes.
            if !self.is_blocked(key) && self.is_quiet(key) {
                self.finish(key);
            }
            Next::Wait
        } else if connection.readable {
            Next::Again
        } else {
            Next::Wait
        }
    }

    /// Reads what has come into `buffer`; less than it holds means that there is no more now.
    fn read(&mut self, key: usize, buffer: &mut [u8]) -> usize {
        let connection = &mut self.connections[key];
        // What has come already is more than can be answered now: reading on would pile it up.
        if !connection.readable || connection.stalled {
            return 0;
        }
        loop {
            match connection.outbox.stream().read(buffer) {
                Ok(0) => {
                    connection.ended = true;
                    connection.readable = false;
                    return 0;
                }
                Ok(length) => {
                    connection.readable = length == READ || connection.hung_up;
                    self.octets_read += length as u64;
                    return length;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.readable = false;
                    return 0;
                }
                // A controller that was killed with unread replies resets the connection.
                Err(_) => {
                    connection.ended = true;
                    connection.readable = false;
                    return 0;
                }
            }
        }
    }

    /// Takes every whole command from what was left over and what is `fresh`.
    fn answer(&mut self, key: usize, fresh: &[u8]) {
        let mut kept = std::mem::take(&mut self.connections[key].input);
        let octets = if kept.is_empty() {
            fresh
        } else {
            kept.extend_from_slice(fresh);
            &kept
        };
        let consumed = self.take_commands(key, octets);
        let rest = &octets[consumed..];
        self.connections[key].input = if rest.is_empty() {
            Vec::new()
        } else if consumed == 0 && !kept.is_empty() {
            kept
        } else {
            rest.to_vec()
        };
    }

    /// Carries out commands until none is whole, or the controller must read replies first.
    /// Returns how many octets they had.
    fn take_commands(&mut self, key: usize, octets: &[u8]) -> usize {
        let mut consumed = 0;
        self.connections[key].stalled = false;
        while consumed < octets.len() {
            if self.is_blocked(key) {
                self.connections[key].stalled = true;
                break;
            }
            let gathered;
            let session = &mut self.connections[key].session;
            let mut step = session.step(&octets[consumed..]);
            if let Step::Gathered { length, kind, body } = step {
                gathered = body;
                let body = &gathered[..];
                step = session.message(length, Frame { kind, body });
            }
            match step {
                Step::Incomplete | Step::Gathered { .. } => break,
                Step::Http => {
                    self.replies.extend_from_slice(HTTP_ANSWER);
                    self.finish(key);
                    return octets.len();
                }
                Step::Command {
                    length,
                    request,
                    logs_in,
                    text,
                } => {
                    if logs_in {
                        self.logged_in(key);
                    }
                    let mut request = request;
                    let passed = match text {
                        Some(command) => {
                            let whole = &octets[consumed..consumed + length];
                            self.pass(key, &command, whole, &request)
                        }
                        // A command without an end is refused behind Tor's last answers too.
                        None => self.pass_translated(key, &request),
                    };
                    if matches!(passed, Passed::Later) {
                        self.connections[key].stalled = true;
                        break;
                    }
                    consumed += length;
                    self.connections[key].session.consumed();
                    match passed {
                        Passed::Yes => continue,
                        Passed::Refused(refusal) => request = Err(refusal),
                        Passed::Here | Passed::Later => {}
                    }
                    if self.carry_out(key, request) {
                        self.finish(key);
                        return octets.len();
                    }
                }
            }
            if self.replies.len() >= REPLIES {
                self.send_replies(key);
                let pause = self.pause();
                let connection = &mut self.connections[key];
                connection.much_handed_over = connection.outbox.is_behind();
                if connection.much_handed_over || connection.outbox.waiting() > pause {
                    connection.stalled = true;
                    self.ready(Token(key));
                    break;
                }
            }
        }
        self.send_replies(key);
        consumed
    }

    /// Carries out one request and notes the reply; `true` if the connection ends with it.
    fn carry_out(&mut self, key: usize, request: Result<Request<'_>, Refusal>) -> bool {
        let dialect = self.connections[key].session.dialect();
        let outcome = match request {
            Ok(Request::SetEvents(events)) => match self.ask_for_events(key, events) {
                Ok(false) => {
                    self.subscribe(key, events);
                    return false;
                }
                Ok(true) => {
                    self.connections[key].awaits_feed = true;
                    return false;
                }
                Err(refusal) => Err(refusal),
            },
            Ok(request) => self.execute(key, request),
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(reply) => {
                dialect.encode_reply(&reply, &mut self.replies);
                reply == Reply::Closing
            }
            Err(refusal) => {
                log::trace!(
                    "{} was refused: {}",
                    self.connections[key],
                    refusal.status()
                );
                dialect.encode_refusal(&refusal, &mut self.replies);
                refusal.closes(dialect)
            }
        }
    }

    /// Others learn that the controller is there.
    pub(super) fn logged_in(&mut self, key: usize) {
        let session = self.connections[key].session.id();
        self.bus.log_in(session);
        self.tell_of(key, ControllerChange::Connected);
    }

    /// Notes a CONTROLLER event about a controller as it is now.
    pub(super) fn tell_of(&mut self, key: usize, change: ControllerChange) {
        let session = &self.connections[key].session;
        let (id, peer) = (session.id(), session.peer());
        let name = self.bus.name(id);
        self.tell(Event::Controller {
            change,
            session: id,
            name,
            uid: peer.uid,
            pid: peer.pid,
        });
    }

    /// SETEVENTS. Its reply goes through the fan-out, behind every event of before.
    pub(super) fn subscribe(&mut self, key: usize, events: EventMask) {
        self.send_replies(key);
        let connection = &self.connections[key];
        let dialect = connection.session.dialect();
        let session = connection.session.id();
        let unread = self.bus.subscribe(session, events);
        // Before the reply: that is traffic already.
        self.interest_changed();
        let connection = &mut self.connections[key];
        dialect.encode_reply(&Reply::Done, &mut self.replies);
        for message in unread {
            dialect.encode_event(&Event::Message(message), &mut self.replies);
        }
        if connection.subscribed || !events.is_empty() {
            connection.subscribed = true;
            connection.outbox.handed_over();
            let outbox = Arc::clone(&connection.outbox);
            let reply = std::mem::take(&mut self.replies);
            self.hand_over(Item::Subscribe {
                session,
                dialect,
                events,
                outbox,
                reply,
            });
        }
    }

    /// Sends the replies of this turn, and hands over what its commands caused.
    pub(super) fn send_replies(&mut self, key: usize) {
        if !self.replies.is_empty() {
            let connection = &self.connections[key];
            if connection.outbox.is_behind() {
                self.reply_in_order(key, false, false);
            } else {
                connection.outbox.send(&mut [IoSlice::new(&self.replies)]);
                self.replies.clear();
                self.replies.shrink_to(2 * REPLIES);
            }
        }
        self.hand_over_events();
    }

    /// Sends the replies of this turn and ends the connection with them.
    pub(super) fn finish(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if std::mem::replace(&mut connection.finishing, true) {
            return;
        }
        // Where a reply of Tor's has broken off, no event may follow.
        let relay = connection.relay.take();
        let inside = relay.is_some_and(|relay| relay.is_inside_reply());
        connection.outbox.refuse_input();
        if connection.subscribed {
            // Behind the events of before. What its last commands caused comes before the end.
            if !self.replies.is_empty() {
                self.reply_in_order(key, inside, false);
            }
            self.hand_over_events();
            self.reply_in_order(key, inside, true);
        } else {
            connection.outbox.send(&mut [IoSlice::new(&self.replies)]);
            connection.outbox.finish();
            self.replies.clear();
            self.hand_over_events();
        }
        let connection = &self.connections[key];
        let waiting = connection.outbox.waiting();
        self.timers.linger(key, connection.session.id(), waiting);
    }

    /// Sends the replies of this turn behind what was handed over, `inside` one that has no end yet.
    fn reply_in_order(&mut self, key: usize, inside: bool, finish: bool) {
        let connection = &self.connections[key];
        connection.outbox.handed_over();
        let item = Item::Reply {
            outbox: Arc::clone(&connection.outbox),
            session: connection.session.id(),
            octets: std::mem::take(&mut self.replies),
            inside,
            finish,
        };
        self.hand_over(item);
    }

    /// Ends a connection and everything that hung on it.
    pub(super) fn close(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        let session = connection.session.id();
        let peer = connection.session.peer();
        let left = self.bus.leave(session);
        if connection.outbox.phase() == Phase::Overflowed {
            let name = left.as_ref().and_then(|left| left.name.as_ref());
            log::warn!(
                "{connection}, named {}, was dropped: it did not read, and more than BusMaxQueue \
                 {} octets waited for it",
                name.map_or("unset", |name| name.as_str()),
                self.options.settings().max_queue
            );
        } else {
            log::debug!("{connection} has left");
        }
        // Ends what a child process may still hold, and what waits to be sent.
        connection.outbox.abandon();
        if connection.subscribed {
            self.hand_over(Item::Leave(session));
            self.interest_changed();
        }
        if let Some(left) = left.filter(|left| left.logged_in) {
            self.tell(Event::Controller {
                change: ControllerChange::Disconnected,
                session,
                name: left.name,
                uid: peer.uid,
                pid: peer.pid,
            });
            self.hand_over_events();
        }
        if let Some(connections) = self.users.get_mut(&peer.uid) {
            *connections -= 1;
            if *connections == 0 {
                self.users.remove(&peer.uid);
            }
        }
        if connection.owner {
            self.ending = Some("the owning controller has left");
        }
        self.resume_accepting();
    }
}
