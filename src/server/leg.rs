//! The sockets of controllers' legs: a leg is opened for its controller's first command that only
//! Tor can answer, and closed when the controller leaves and Tor has answered.

use std::io::IoSlice;
use std::time::Instant;

use super::READ;
use super::connection::Connection;
use super::daemon::{Daemon, encode};
use super::link::Read;
use super::source::Source;
use crate::command::Replies;
use crate::controller::Stage;
use crate::outbox::Phase;
use crate::tor::leg::{Leg, Output};
use crate::tor::merge::{self, Merge, Query};
use crate::tor::translate;
use crate::wire::gist::Gist;
use crate::wire::refusal::Refusal;

impl Daemon {
    /// Sends a command to Tor as it came. `weight` is the number of its replies that may be long.
    pub(super) fn relay(
        &mut self,
        connection: &mut Connection,
        command: &[u8],
        weight: usize,
        replies: Replies,
    ) -> Result<(), Refusal> {
        self.connect_leg(connection)?;
        if let (Some(leg), Some(tor)) = (&mut connection.controller.leg, &self.tor) {
            leg.handle_command(command, weight, replies, &tor.upstream.fence);
        }
        self.give_head_start(connection);
        Ok(())
    }

    /// Sends Tor the beginning of a batch, so that it does not wait for the end to be parsed.
    fn give_head_start(&self, connection: &mut Connection) {
        if let (Some(leg), Some(link)) = (&mut connection.controller.leg, &mut connection.link)
            && leg.is_head_start()
        {
            link.flush(leg.poll_transmit(), &self.registry);
        }
    }

    /// Asks Tor its part of a command that concerns both.
    pub(super) fn ask(&mut self, connection: &mut Connection, query: Query) -> Result<(), Refusal> {
        let is_noted = query.is_noted;
        let outcome = self.try_to_ask(connection, query);
        if is_noted && outcome.is_err() {
            let note = connection.controller.owed().notes.pop_back();
            self.drop_notes(note);
        }
        outcome
    }

    fn try_to_ask(&mut self, connection: &mut Connection, mut query: Query) -> Result<(), Refusal> {
        match &mut query.merge {
            Merge::Save { failed, .. } => {
                let outcome = self.work.take_outcome();
                // Without a file there is nothing of the bus's to save.
                *failed = outcome.err().filter(|_| self.options.file().is_some());
                Ok(())
            }
            Merge::Set(own) => self.options.set(own).map(|_| ()),
            Merge::Load(own) => {
                self.work.take_outcome()?;
                self.options.load_text(own).map(|_| ())
            }
            _ => Ok(()),
        }
        .map_err(|error| super::options::refusal(&error))?;
        self.connect_leg(connection)?;
        if let (Some(leg), Some(tor)) = (&mut connection.controller.leg, &self.tor) {
            leg.handle_query(query, &tor.upstream.fence);
        }
        self.give_head_start(connection);
        Ok(())
    }

    /// Sees to it that a controller has a leg.
    fn connect_leg(&mut self, connection: &mut Connection) -> Result<(), Refusal> {
        if connection.leg.is_some() {
            return Ok(());
        }
        if self.keeper_comes_first() {
            return Err(super::keeper::not_reachable());
        }
        let link = self
            .take_link(Source::Leg(connection.key))
            .map_err(|cause| Refusal::Failed(format!("Tor is not reachable: {cause}")))?;
        let mut leg = Box::<Leg>::default();
        if let Some(tor) = self.tor.as_ref().filter(|_| link.is_open()) {
            leg.handle_open(link.fences, &tor.upstream.fence);
        } else {
            let deadline = Instant::now() + self.options.settings().tor_timeout;
            self.timers.set_deadline(connection, Some(deadline));
        }
        connection.leg = Some(leg);
        connection.link = Some(Box::new(link));
        Ok(())
    }

    /// Sends Tor what a controller's turn had for it, in one write.
    pub(super) fn flush_leg(&mut self, connection: &mut Connection) {
        if let (Some(leg), Some(link)) = (&mut connection.controller.leg, &mut connection.link) {
            link.flush(leg.poll_transmit(), &self.registry);
            if link.readable.is_any() {
                self.queue.leg(connection);
            }
        }
        self.wake_if_it_can_go_on(connection);
    }

    fn wake_if_it_can_go_on(&mut self, connection: &mut Connection) {
        let has_left = connection.left.is_some() && connection.controller.is_done();
        if has_left || connection.can_go_on() {
            self.queue.controller(connection);
        }
    }

    /// A turn of a controller's leg.
    pub(super) fn take_leg_turn(&mut self, connection: &mut Connection, buffer: &mut [u8]) {
        connection.leg_queued = false;
        let pause = self.pause();
        let is_far_behind = connection.outbox.behind() * READ > pause;
        if is_far_behind && connection.outbox.await_delivery() {
            let source = Source::Leg(connection.key);
            self.queue.await_delivery(source);
            return;
        }
        if connection.outbox.waiting() > pause {
            // The outbox wakes the loop once its queue is empty.
            return;
        }
        let Some(link) = &mut connection.link else {
            return;
        };
        let (length, read) = link.read(buffer);
        // One buffer for the replies of all, or each controller keeps its last one.
        connection.controller.replies = std::mem::take(&mut self.replies);
        if length > 0 {
            self.tor_said(connection, buffer.get(..length).unwrap_or_default());
        }
        if read == Read::Ended {
            self.tor_hung_up(connection);
        }
        self.flush_leg(connection);
        self.take_back_replies(connection);
        self.keep_spare();
        // An outbox that has failed is seen in the controller's turn.
        if connection.outbox.phase() != Phase::Open {
            self.queue.controller(connection);
        }
    }

    /// Takes what Tor has said to a controller.
    fn tor_said(&mut self, connection: &mut Connection, octets: &[u8]) {
        let room = self.reply_room();
        let (Some(tor), Some(link), Some(leg)) = (
            &self.tor,
            &mut connection.link,
            &mut connection.controller.leg,
        ) else {
            return;
        };
        if !link.is_open() {
            match link.log_in(octets, &self.state) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    leg.handle_open(link.fences, &tor.upstream.fence);
                    if connection.left.is_none() {
                        self.timers.set_deadline(connection, None);
                    }
                    // If it was not there a moment ago, it is now.
                    self.connect_watcher();
                }
                Err(error) => self.lose_leg(connection, &error.to_string()),
            }
            return;
        }
        let was_inside = leg.is_inside_reply();
        let mut outputs = Vec::new();
        let dropped = leg.handle_octets(octets, &tor.upstream.fence, room, &mut outputs);
        if dropped > 0 {
            let session = connection.controller.conversation.id();
            log::debug!("{dropped} octets of Tor's to session {session} answer nothing: dropped");
        }
        let inside = leg.is_inside_reply();
        let last = outputs.len().saturating_sub(1);
        let is_gist = |output: &Output<'_>| matches!(output, Output::Gist(_));
        if outputs.iter().all(is_gist) && was_inside && !inside && connection.is_subscribed {
            // A fence has ended it: events need not wait for the rest any more.
            self.hand_over_octets(connection, Vec::new(), false, false);
        }
        let (mut ended, mut failed) = (Vec::new(), None);
        for (index, output) in outputs.into_iter().enumerate() {
            match output {
                Output::Replies(octets) => {
                    self.send_replies(connection);
                    self.send_tors(connection, &octets, inside && index == last);
                }
                Output::Answer(query, answer) => {
                    failed = self.conclude(connection, *query, answer);
                }
                Output::Gist(gist) => {
                    let gist = failed.take().map_or(*gist, Gist::of_status);
                    ended.extend(
                        connection
                            .owed()
                            .actions
                            .pop_front()
                            .map(|action| (action, gist)),
                    );
                }
            }
        }
        self.send_replies(connection);
        for (action, gist) in ended {
            self.end_action(connection, &action, &gist);
        }
        self.hand_over_events();
    }

    /// Sends what Tor has replied, as far as it has come. Whoever has subscribed to anything gets
    /// all of it through the fan-out, so that replies and events keep Tor's order and no
    /// event stands inside a reply.
    fn send_tors(&self, connection: &Connection, octets: &[u8], inside: bool) {
        if connection.is_subscribed {
            self.hand_over_octets(connection, octets.to_vec(), inside, false);
        } else {
            connection.outbox.send(&mut [IoSlice::new(octets)]);
        }
    }

    /// Makes Tor's answer to a query into the reply, which is still to be sent. Returns its status
    /// if the bus's part of the query has failed.
    fn conclude(
        &mut self,
        connection: &mut Connection,
        query: Query,
        answer: Option<Vec<u8>>,
    ) -> Option<u16> {
        let session = connection.conversation.id();
        let mut merged = self.merge(session, query.merge, answer);
        if query.is_judged {
            match &mut merged {
                Ok(reply) => *reply = self.end_sequel(connection, std::mem::take(reply)),
                Err(_) => drop(self.end_sequel(connection, Vec::new())),
            }
        }
        if query.is_noted {
            match &mut merged {
                Ok(reply) => *reply = self.end_note(connection, std::mem::take(reply)),
                Err(_) => drop(self.end_note(connection, Vec::new())),
            }
        }
        let failed = merged.as_ref().err().map(Refusal::status);
        let reply = match (merged, &query.question, &mut self.tor) {
            (Ok(reply), Some(question), Some(tor)) => {
                translate::answer(question, &reply, &mut tor.upstream.identifiers)
            }
            (Ok(reply), _, _) => {
                connection.replies.extend_from_slice(&reply);
                return failed;
            }
            (Err(refusal), _, _) => Err(refusal),
        };
        encode(&mut connection.controller, &reply);
        failed
    }

    /// Does the bus's part of a command that Tor has answered its part of. Returns the reply in
    /// octets of the text protocol.
    pub(super) fn merge(
        &mut self,
        session: u64,
        merge: Merge,
        answer: Option<Vec<u8>>,
    ) -> Result<Vec<u8>, Refusal> {
        let too_long = |daemon: &Self| daemon.reply_too_long();
        let answer = answer.ok_or_else(|| too_long(self))?;
        let agreed = merge::has_agreed(&answer);
        match merge {
            Merge::Info(keys) if agreed => {
                let room = self.reply_room();
                merge::info(&keys, &answer, room, |key| self.value(session, key, true))
                    .ok_or_else(|| too_long(self))
            }
            Merge::Conf(names) => merge::conf(&names, &answer, |name| self.options.get(name)),
            Merge::Set(own) if agreed => self.set_conf(&own).map(|_| answer),
            Merge::Load(own) if agreed => self.load_conf(&own).map(|_| answer),
            // A Tor that may not write its file keeps nobody from writing the bus's.
            Merge::Save {
                failed: Some(refusal),
                ..
            } if agreed => Err(refusal),
            _ => Ok(answer),
        }
    }

    /// Tor has ended a controller's connection, after what it still said.
    fn tor_hung_up(&mut self, connection: &mut Connection) {
        let (Some(link), Some(leg)) = (&mut connection.link, &connection.controller.leg) else {
            return;
        };
        if !link.is_open() {
            let cause = link.failure();
            return self.lose_leg(connection, &cause);
        }
        if connection.stage == Stage::Gone {
            self.leg_has_ended(connection);
            connection.leg = None;
            connection.link = None;
            return;
        }
        // Whoever stays must be able to tell which command each later reply is for.
        if self.options.settings().keep_controllers && leg.owed().is_some() {
            self.lose_leg(connection, "it closed the connection");
        } else {
            self.finish(connection);
        }
    }

    /// A leg has failed: what it owes is refused.
    pub(super) fn lose_leg(&mut self, connection: &mut Connection, cause: &str) {
        self.leg_has_ended(connection);
        let owed = connection.leg.take().and_then(|leg| leg.owed());
        connection.link = None;
        let refusal = Err(Refusal::Failed(format!("Tor is not reachable: {cause}")));
        for _ in 0..owed.unwrap_or_default() {
            encode(&mut connection.controller, &refusal);
        }
        self.send_replies(connection);
        self.queue.controller(connection);
    }
}
