//! One controller's turn: read, take each whole command, answer, hand over what happened.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroize as _;

use super::READ;
use super::connection::Connection;
use super::daemon::{Daemon, encode};
use super::kept::Kept;
use super::readable::Readable;
use super::source::Source;
use crate::audit::Action;
use crate::bus::fanout::Item;
use crate::controller::{Ask, Judgement, Next as Input, Plan, Stage, Wait};
use crate::outbox::Phase;
use crate::sys::receive::receive;
use crate::tor::merge::{Merge, Query};
use crate::wire::detect::HTTP_ANSWER;
use crate::wire::event::{ControllerChange, Event, EventMask};
use crate::wire::gist::Gist;
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;
use crate::wire::request::RequestOf;

/// The most octets that wait for a controller before nothing more is made for it: who does not
/// read replies gets none.
const PAUSE: usize = 256 * 1024;

/// The octets of replies before they are sent.
pub(super) const REPLIES: usize = 64 * 1024;

/// Commands before the time that a turn takes is looked at.
const FEW: usize = 16;

/// The time of one turn, behind which others have theirs.
const LONG: Duration = Duration::from_millis(2);

/// What is left to do for a connection.
pub(super) enum Next {
    /// Wait for it.
    Wait,
    /// It has more, which gets its own turn.
    Again,
    /// It has ended, or goes on without the bus until Tor has answered.
    Close,
}

impl Daemon {
    /// The most octets that wait for a controller before nothing more is made for it: well below
    /// `BusMaxQueue`, at which it is cut off.
    pub(super) fn pause(&self) -> usize {
        PAUSE.min(self.options.settings().max_queue / 4)
    }

    /// Gives a connection its turn.
    pub(super) fn take_turn(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> Next {
        connection.queued = false;
        if let Some(next) = self.cannot_go_on(connection) {
            return next;
        }
        let is_behind = std::mem::replace(&mut connection.wait, Wait::Nothing) != Wait::Nothing;
        // What has come already is more than can be answered now: reading on would pile it up.
        let length = if is_behind {
            0
        } else {
            self.read(connection, buffer)
        };
        connection.controller.replies = std::mem::take(&mut self.replies);
        self.answer(connection, buffer.get(..length).unwrap_or_default());
        self.flush_leg(connection);
        self.take_back_replies(connection);
        if std::mem::take(&mut self.has_read_key) {
            buffer.zeroize();
            self.replies.zeroize();
        }
        self.what_is_left(connection)
    }

    /// What is to be done instead of reading and answering, if that cannot be.
    fn cannot_go_on(&mut self, connection: &mut Connection) -> Option<Next> {
        match connection.outbox.phase() {
            Phase::CutOff(_) => return Some(Next::Close),
            Phase::Ended if connection.stage == Stage::Finishing => return Some(Next::Close),
            // Whoever reads nothing more may have sent something all the same.
            Phase::Ended => connection.is_gone(),
            Phase::Finishing => return Some(Next::Wait),
            Phase::Open if connection.stage == Stage::Finishing => return Some(Next::Wait),
            Phase::Open => {}
        }
        let must_wait_for_facts = connection.wait == Wait::Facts && self.awaits_facts(connection);
        let is_work_to_do = connection.wait == Wait::Work && !self.work.is_done();
        if connection.stage == Stage::Gone {
            let must_wait = matches!(connection.wait, Wait::Answers | Wait::Room);
            let cannot = is_work_to_do
                || must_wait_for_facts
                || connection.wait == Wait::Kept
                || (must_wait && !connection.can_go_on());
            return cannot.then_some(Next::Close);
        }
        // Until the other thread has sent those, nobody knows how much of them will wait.
        if connection.wait == Wait::Delivery && connection.outbox.await_delivery() {
            let source = Source::Controller(connection.key);
            self.queue.await_delivery(source);
            return Some(Next::Wait);
        }
        let must_wait = matches!(connection.wait, Wait::Events | Wait::Kept);
        if must_wait || must_wait_for_facts || is_work_to_do {
            return Some(Next::Wait);
        }
        if matches!(connection.wait, Wait::Answers | Wait::Room) && !connection.can_go_on() {
            return Some(Next::Wait);
        }
        if connection.outbox.waiting() > self.pause() {
            connection.wait = Wait::Reader;
            return Some(Next::Wait);
        }
        None
    }

    fn what_is_left(&self, connection: &mut Connection) -> Next {
        match connection.outbox.phase() {
            Phase::CutOff(_) => return Next::Close,
            Phase::Ended if connection.stage == Stage::Finishing => return Next::Close,
            Phase::Ended => connection.is_gone(),
            Phase::Finishing => return Next::Wait,
            Phase::Open => {}
        }
        match connection.stage {
            Stage::Finishing => return Next::Wait,
            // All that it sent is carried out, or must wait for Tor.
            Stage::Gone if connection.wait == Wait::Turn => return Next::Again,
            Stage::Gone if !connection.readable.is_any() || connection.wait != Wait::Nothing => {
                return Next::Close;
            }
            Stage::Gone => return Next::Again,
            Stage::Open | Stage::Silent => {}
        }
        if connection.wait == Wait::Nothing && connection.outbox.waiting() > self.pause() {
            // The outbox wakes the loop once its queue is empty.
            connection.wait = Wait::Reader;
        }
        match connection.wait {
            // Tor's answer gives it its next turn.
            Wait::Answers
            | Wait::Room
            | Wait::Events
            | Wait::Detail
            | Wait::Facts
            | Wait::Kept
            | Wait::Restore
            | Wait::Work => Next::Wait,
            Wait::Reader | Wait::Delivery | Wait::Turn => Next::Again,
            Wait::Nothing => {
                if connection.readable.is_any() {
                    Next::Again
                } else {
                    Next::Wait
                }
            }
        }
    }

    /// Reads what has come into `buffer`, until nothing more is there or the buffer is full.
    fn read(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> usize {
        let mut length = 0;
        while connection.readable.is_any()
            && let Some(room) = buffer.get_mut(length..READ).filter(|room| !room.is_empty())
        {
            let wanted = room.len();
            match receive(connection.outbox.stream(), room) {
                Ok((0, false)) => {
                    connection.readable = Readable::No;
                    connection.controller.stage = connection.controller.stage.max(Stage::Silent);
                }
                Ok((read, with_descriptors)) => {
                    length += read;
                    if with_descriptors {
                        connection.readable = Readable::All;
                    }
                    connection.readable.has_read(read, wanted);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    connection.readable = Readable::No;
                }
                // A controller that was killed with unread replies resets the connection.
                Err(_) => {
                    connection.is_gone();
                    connection.readable = Readable::No;
                }
            }
        }
        self.octets_read += length as u64;
        length
    }

    /// Takes every whole command from what was left over and what is `fresh`.
    fn answer(&mut self, connection: &mut Connection, fresh: &[u8]) {
        if connection.has_no_input() {
            let consumed = self.take_commands(connection, fresh);
            connection.keep(fresh.get(consumed..).unwrap_or_default().to_vec());
        } else {
            let mut input = connection.take_input(fresh);
            let consumed = self.take_commands(connection, &input);
            if consumed > 0 {
                let rest = input.split_off(consumed);
                if self.has_read_key {
                    input.zeroize();
                }
                input = rest;
            }
            connection.keep(input);
        }
        // Tor too runs what it has received, replies, and then closes.
        if connection.stage == Stage::Silent && connection.wait == Wait::Nothing {
            if connection.is_quiet() {
                self.finish(connection);
            } else {
                connection.wait = Wait::Answers;
            }
        }
    }

    /// Carries out commands until none is whole, or the controller must wait. Returns the number of
    /// their octets.
    fn take_commands(&mut self, connection: &mut Connection, octets: &[u8]) -> usize {
        let mut consumed = 0;
        let mut commands = 0_usize;
        let mut began = None;
        while let Some(rest) = octets.get(consumed..).filter(|rest| !rest.is_empty()) {
            let is_judged = connection.is_held();
            if connection.guard.is_some() && !is_judged && connection.awaits_verdict() {
                connection.wait = Wait::Answers;
                break;
            }
            let tor = self.tor.as_ref().map(|tor| &tor.upstream);
            let settings = self.options.settings();
            let law = self.court.as_ref().map(|court| court.law(settings));
            let watch = self.watch();
            let mut ask = match connection.poll_ask(rest, tor, law.as_ref(), watch.as_ref()) {
                Input::Nothing => break,
                Input::Http => {
                    connection.replies.extend_from_slice(HTTP_ANSWER);
                    self.finish(connection);
                    return octets.len();
                }
                Input::Ask(ask) => ask,
            };
            if ask.logs_in {
                self.logged_in(connection);
            }
            // It is judged again, so it is not held.
            if lacks_facts(ask.judgement.as_deref())
                && (self.awaits_facts(connection) || self.awaits_restoring())
            {
                connection.wait = Wait::Facts;
                break;
            }
            let is_of_use = connection.stage < Stage::Gone || !ask.plan.only_asks();
            if is_of_use && let Some(wait) = self.must_wait(connection, &mut ask, rest) {
                connection.hold(ask, wait);
                break;
            }
            connection.consumed();
            consumed += ask.length;
            if !is_of_use {
                self.end_unsent_change(connection.conversation.id());
                continue;
            }
            let command = rest.get(..ask.length).unwrap_or_default();
            let is_last = self.carry_out(connection, ask.plan, ask.judgement, command);
            self.end_unsent_change(connection.conversation.id());
            if is_last {
                self.finish(connection);
                return octets.len();
            }
            if connection.stage == Stage::Gone {
                connection.replies.clear();
            }
            if connection.wait != Wait::Nothing {
                break;
            }
            // The clock is not looked at for the first few, which are most turns.
            commands += 1;
            if commands.is_multiple_of(FEW)
                && began.get_or_insert_with(Instant::now).elapsed() > LONG
            {
                connection.wait = Wait::Turn;
                break;
            }
            if connection.replies.len() >= REPLIES {
                self.send_replies(connection);
                if connection.outbox.is_behind() {
                    connection.wait = Wait::Delivery;
                    break;
                }
                if connection.outbox.waiting() > self.pause() {
                    connection.wait = Wait::Reader;
                    break;
                }
            }
        }
        self.send_replies(connection);
        consumed
    }

    /// Why a command must wait, if it must.
    fn must_wait(
        &mut self,
        connection: &Connection,
        ask: &mut Ask<'_>,
        octets: &[u8],
    ) -> Option<Wait> {
        let written = ask
            .judgement
            .as_ref()
            .and_then(|judgement| judgement.octets.as_deref());
        let command = written
            .or_else(|| octets.get(..ask.length))
            .unwrap_or_default();
        if self.must_wait_for_detail(&ask.plan) {
            return Some(Wait::Detail);
        }
        if self.password_time >= LONG && Self::tries_passwords(connection, &ask.plan) {
            return Some(Wait::Turn);
        }
        let wait = connection
            .must_wait(&ask.plan)
            .or_else(|| self.must_wait_for_keeper(connection, &ask.plan, command));
        if wait.is_none() && !self.may_attempt(connection, ask) {
            return connection.must_wait(&ask.plan);
        }
        if wait.is_none() && ask.plan.work().is_some() && !self.work.is_done() {
            self.work.push(connection);
            return Some(Wait::Work);
        }
        wait
    }

    /// Whether a command tries a password, which is dear on purpose.
    fn tries_passwords(connection: &Connection, plan: &Plan<'_>) -> bool {
        matches!(plan, Plan::Bus(RequestOf::Authenticate(proof))
            if connection.conversation.tries_passwords(proof))
    }

    /// Carries out one command; `true` if the connection ends with it.
    fn carry_out(
        &mut self,
        connection: &mut Connection,
        plan: Plan<'_>,
        judgement: Option<Box<Judgement>>,
        command: &[u8],
    ) -> bool {
        let (outcome, action) = match judgement {
            Some(mut judgement) => {
                let action = judgement.action.take();
                let mut action = action.and_then(|action| self.begin_action(connection, action));
                let is_for_tor = matches!(plan, Plan::Relay { .. } | Plan::Ask(_));
                let outcome =
                    self.carry_out_judged(connection, plan, *judgement, command, &mut action);
                if outcome.is_none()
                    && is_for_tor
                    && let Some(action) = action.take()
                {
                    connection.note_action(action);
                }
                (outcome, action)
            }
            // A plan is large to be handed on for nothing, and most daemons keep nothing.
            None if self.keeping.is_none() => (self.outcome(connection, plan, command), None),
            None => match self.keep(connection, plan, command) {
                Kept::Plan(plan) => (self.outcome(connection, plan, command), None),
                Kept::Reply(reply) => {
                    connection.controller.replies.extend_from_slice(&reply);
                    (None, None)
                }
                Kept::Refuse(refusal) => (Some(Err(refusal)), None),
                Kept::Later => (None, None),
            },
        };
        let Some(outcome) = outcome else {
            return false;
        };
        encode(&mut connection.controller, &outcome);
        if let Some(action) = action {
            let status = outcome.as_ref().map_or_else(Refusal::status, |_| 250);
            self.end_action(connection, &action, &Gist::of_status(status));
        }
        match outcome {
            Ok(reply) => reply == Reply::Closing,
            Err(refusal) => {
                log::trace!(
                    "{} was refused: {}",
                    connection.controller,
                    refusal.status()
                );
                refusal.closes(connection.conversation.dialect())
            }
        }
    }

    /// Carries out a command that a policy has judged.
    fn carry_out_judged(
        &mut self,
        connection: &mut Connection,
        plan: Plan<'_>,
        judgement: Judgement,
        command: &[u8],
        action: &mut Option<(Box<Action>, u64)>,
    ) -> Option<Result<Reply, Refusal>> {
        if let Some(denied) = &judgement.denied {
            self.note_denied(connection, denied);
        }
        let is_for_tor = matches!(plan, Plan::Relay { .. } | Plan::Ask(_));
        let command = judgement.octets.as_deref().unwrap_or(command);
        let plan = match self.keep(connection, plan, command) {
            Kept::Plan(plan) => plan,
            Kept::Reply(reply) => {
                connection.controller.replies.extend_from_slice(&reply);
                if let Some(action) = action.take() {
                    self.end_action(connection, &action, &Gist::of(&reply));
                }
                return None;
            }
            Kept::Refuse(refusal) => return Some(Err(refusal)),
            Kept::Later => {
                connection
                    .controller
                    .owed()
                    .kept_actions
                    .extend(action.take());
                if let Some(sequel) = judgement.sequel {
                    self.begin_sequel(connection, sequel);
                }
                return None;
            }
        };
        let Some(sequel) = judgement.sequel else {
            return self.outcome(connection, plan, command);
        };
        let mut query = match plan {
            Plan::Ask(query) => *query,
            Plan::Relay { replies, .. } if sequel.needs_answer() => Query {
                command: command.to_vec(),
                replies,
                merge: Merge::Reply,
                question: None,
                is_judged: true,
                is_noted: false,
            },
            plan => {
                if is_for_tor {
                    self.note_sequel(connection, &sequel);
                }
                let outcome = self.outcome(connection, plan, command);
                return outcome.map(|outcome| outcome.map(|reply| sequel.with_answers(reply)));
            }
        };
        query.is_judged = true;
        match self.ask(connection, query) {
            Ok(()) => self.begin_sequel(connection, sequel),
            Err(refusal) => return Some(Err(refusal)),
        }
        None
    }

    /// Carries out a command; none where the reply comes later, or has taken its place already.
    fn outcome(
        &mut self,
        connection: &mut Connection,
        plan: Plan<'_>,
        command: &[u8],
    ) -> Option<Result<Reply, Refusal>> {
        match plan {
            Plan::Bus(request) => self.execute(connection, request).transpose(),
            Plan::Refuse(refusal) => Some(Err(refusal)),
            Plan::Reply(reply) => Some(Ok(reply)),
            Plan::Relay {
                weight, replies, ..
            } => self
                .relay(connection, command, weight, replies)
                .err()
                .map(Err),
            Plan::Ask(query) => self.ask(connection, *query).err().map(Err),
        }
    }

    /// Others learn that the controller is there.
    pub(super) fn logged_in(&mut self, connection: &mut Connection) {
        self.timers.set_deadline(connection, None);
        self.places.forget_stranger(connection.conversation.id());
        self.bus.log_in(connection.conversation.id());
        self.enter_keeping(connection);
        self.tell_of(&connection.controller, ControllerChange::Connected);
        self.name_by_program(connection);
    }

    /// SETEVENTS. Its reply goes through the fan-out, behind every event of before.
    pub(super) fn subscribe(&mut self, connection: &mut Connection, events: EventMask) {
        self.send_replies(connection);
        let dialect = connection.conversation.dialect();
        let unread = self.bus.subscribe(connection.conversation.id(), events);
        // Before the reply: that is traffic already.
        self.interest_changed();
        encode(&mut connection.controller, &Ok(Reply::Done));
        let unread = self.readable(connection.conversation.id(), unread);
        self.read_later += unread.len() as u64;
        for message in unread {
            dialect.encode_event(&Event::Message(message), &mut connection.replies);
        }
        self.change_subscription(connection, events);
    }

    /// Hands over what a controller is told from now on, behind every event of before, with the
    /// replies that wait.
    pub(super) fn change_subscription(&mut self, connection: &mut Connection, events: EventMask) {
        let dialect = connection.conversation.dialect();
        let session = connection.conversation.id();
        let plain = self.plain_events(connection, events);
        if connection.is_subscribed || !events.is_empty() {
            connection.is_subscribed = true;
            connection.outbox.handed_over();
            let outbox = Arc::clone(&connection.outbox);
            let reply = std::mem::take(&mut connection.replies);
            self.hand_over(Item::Subscribe {
                session,
                dialect,
                events: plain,
                outbox,
                reply,
            });
        }
    }

    /// Tor has refused what a controller wants to subscribe to.
    pub(super) fn refuse(&mut self, connection: &mut Connection, refusal: Refusal) {
        encode(&mut connection.controller, &Err(refusal));
        self.send_replies(connection);
    }
}

/// Whether a command is not judged, for want of what Tor has not said.
fn lacks_facts(judgement: Option<&Judgement>) -> bool {
    judgement.is_some_and(|judgement| judgement.lacks_facts)
}
