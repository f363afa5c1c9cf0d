//! A controller's own connection to Tor: opened for its first command that only Tor can answer,
//! closed when it leaves.
//!
//! Tor's octets go through as they come. A command of the bus waits until Tor has answered
//! everything before it, which a [fence](crate::tor::fence) tells.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use mio::Token;

use super::link::{Got, Link};
use super::{LINKS, READ, Server};
use crate::bus::fanout::Item;
use crate::outbox::Phase;
use crate::tor::fence::Gate;
use crate::tor::mixed::{Mixed, Then};
use crate::tor::replies::Replies;
use crate::tor::route::{self, MOST_KEYS, Route, route_request};
use crate::tor::translate::{self, Question};
use crate::wire::Dialect;
use crate::wire::refusal::Refusal;
use crate::wire::request::Request;
use crate::wire::text::Command;

/// So many commands whose replies may be long go to Tor before a fence; one that counts as more
/// goes alone.
const WINDOW: usize = 64;

/// So many commands whose replies are known to be short count as one of those. Tor takes 16 KiB of
/// commands at a time, and answers none before it has carried out all: with fewer it would wait for
/// more at every turn, and have more fences to answer.
const SHORT: usize = 8;

/// So many fences may be on their way before a command whose replies may be long, and before one
/// whose reply is short. Tor holds every reply that is not read, so what it is asked must have a
/// bound.
const FENCES: (usize, usize) = (2, 4);

/// No more commands are sent while so many octets wait for Tor to take them.
const WAITING: usize = 64 * 1024;

/// A controller's connection to Tor.
pub(super) struct Relay {
    pub(super) link: Link,
    gate: Gate,
    replies: Replies,
    /// What was sent since the last fence: commands, each counted by how much Tor may reply.
    unfenced: usize,
    /// Commands sent and replies ended since Tor was known to have answered everything.
    sent: usize,
    answered: usize,
    /// One of those commands can have another number of replies than one.
    uncountable: bool,
    /// Commands of both that Tor has not answered: the first one's answer is collected.
    asked: VecDeque<Asked>,
}

/// What Tor was asked and has not answered yet.
pub(super) struct Asked {
    pub(super) then: Then,
    /// What the answer is translated for, if a binary controller has asked.
    pub(super) question: Option<Question>,
    /// The octets of the command.
    length: usize,
    pub(super) reply: Vec<u8>,
    /// The reply has more octets than are kept.
    pub(super) too_long: bool,
}

/// What became of a command.
pub(super) enum Passed {
    /// Tor has it.
    Yes,
    /// Later: the controller's next turn begins with it.
    Later,
    /// It is the bus's to answer.
    Here,
    /// It is refused.
    Refused(Refusal),
}

impl Relay {
    /// Whether Tor has answered everything, as far as anybody can know.
    fn is_quiet(&self) -> bool {
        self.link.is_open()
            && self.unfenced == 0
            && self.gate.outstanding() == 0
            && self.asked.is_empty()
    }

    /// Whether a command may come before Tor has answered what it was asked.
    fn may_follow(&self, route: &Route) -> bool {
        let Some(last) = self.asked.back() else {
            return true;
        };
        let Route::Both(mixed) = route else {
            return false;
        };
        // Tor may hold the replies to all of them: together they ask for no more than one may.
        let keys = self.asked.iter().map(|asked| asked.then.keys());
        let octets = self.asked.iter().map(|asked| asked.length);
        last.then.only_adds()
            && mixed.then.only_adds()
            && self.asked.len() < WINDOW
            && keys.sum::<usize>() + mixed.then.keys() <= MOST_KEYS
            && octets.sum::<usize>() <= WAITING
    }

    /// Whether the controller has the beginning of a reply and not its end.
    pub(super) fn is_inside_reply(&self) -> bool {
        self.asked.is_empty() && self.replies.is_inside()
    }

    /// How many replies Tor owes, if that can be told.
    fn owed(&self) -> Option<usize> {
        if !self.asked.is_empty() {
            return Some(self.asked.len());
        }
        if self.is_quiet() && !self.replies.is_inside() {
            return Some(0);
        }
        let countable = !self.uncountable && !self.replies.is_inside();
        countable.then(|| self.sent.saturating_sub(self.answered))
    }
}

impl Server {
    /// Whether the next command of a controller must wait, whatever it is.
    pub(super) fn is_blocked(&self, key: usize) -> bool {
        let connection = &self.connections[key];
        connection.awaits_feed
            || connection
                .relay
                .as_ref()
                .is_some_and(|relay| !relay.link.is_open())
    }

    /// Whether everything a controller has asked is answered. If not, a fence will tell when.
    pub(super) fn is_quiet(&mut self, key: usize) -> bool {
        if self.connections[key].awaits_feed {
            return false;
        }
        let Some(relay) = &self.connections[key].relay else {
            return true;
        };
        if relay.unfenced > 0 && relay.asked.is_empty() {
            self.send_fence(key);
        }
        self.connections[key]
            .relay
            .as_ref()
            .is_none_or(|relay| relay.is_quiet())
    }

    fn send_fence(&mut self, key: usize) {
        let (Some(tor), Some(relay)) = (&self.tor, &mut self.connections[key].relay) else {
            return;
        };
        relay.link.send(tor.fence.command());
        relay.gate.sent();
        relay.unfenced = 0;
    }

    /// Passes a command on to where it belongs. `octets` is the whole command as it came.
    pub(super) fn pass(
        &mut self,
        key: usize,
        command: &Command<'_>,
        octets: &[u8],
        request: &Result<Request<'_>, Refusal>,
    ) -> Passed {
        if self.tor.is_none() || !self.connections[key].session.is_logged_in() {
            return Passed::Here;
        }
        let route = route::route(command.keyword, command.arguments, request);
        let relay = self.connections[key].relay.as_ref();
        if relay.is_some_and(|relay| !relay.may_follow(&route)) {
            return Passed::Later;
        }
        let follows = relay.is_some_and(|relay| !relay.asked.is_empty());
        match route {
            Route::Tor => {
                let weight = route::weight(octets, request);
                self.forward(key, command.keyword, octets, weight)
            }
            Route::Both(mixed) if follows => self.ask(key, mixed, None),
            // Whatever the bus answers must stand behind what Tor answers.
            _ if !self.is_quiet(key) => Passed::Later,
            Route::Here => Passed::Here,
            Route::Nobody(refusal) => Passed::Refused(refusal),
            Route::Both(mixed) => self.ask(key, mixed, None),
        }
    }

    /// Passes a request of a binary controller on to where it belongs.
    pub(super) fn pass_translated(
        &mut self,
        key: usize,
        request: &Result<Request<'_>, Refusal>,
    ) -> Passed {
        if !self.is_quiet(key) {
            return Passed::Later;
        }
        let (Some(tor), Ok(request)) = (&self.tor, request) else {
            return Passed::Here;
        };
        let Some(question) = Question::of(request) else {
            return Passed::Here;
        };
        let keys = match request {
            Request::GetInfo(keys) => translate::modern_keys(keys),
            _ => Vec::new(),
        };
        let modern = match request {
            Request::GetInfo(_) => &Request::GetInfo(keys.iter().map(|key| &key[..]).collect()),
            other => other,
        };
        let asked = translate::check(request).and_then(|()| {
            Ok(match route_request(modern) {
                Route::Tor => Route::Both(Mixed {
                    command: translate::command(modern, &tor.identifiers)?,
                    then: Then::Reply,
                }),
                other => other,
            })
        });
        match asked {
            Ok(Route::Both(mixed)) => self.ask(key, mixed, Some(question)),
            Ok(Route::Here | Route::Tor) => Passed::Here,
            Ok(Route::Nobody(refusal)) | Err(refusal) => Passed::Refused(refusal),
        }
    }

    /// Sends a command to Tor as it came. `weight` is how many of its replies may be long.
    fn forward(&mut self, key: usize, keyword: &[u8], octets: &[u8], weight: usize) -> Passed {
        match self.connect(key) {
            Passed::Yes => {}
            other => return other,
        }
        let Some(relay) = &mut self.connections[key].relay else {
            return Passed::Later;
        };
        if relay.link.waiting() > WAITING {
            relay.link.flush(self.poll.registry());
            if relay.link.waiting() > WAITING {
                return Passed::Later;
            }
        }
        let most = if weight == 0 { FENCES.1 } else { FENCES.0 };
        let outstanding = relay.gate.outstanding();
        let cost = (weight * SHORT).max(1);
        let full = relay.unfenced > 0 && relay.unfenced + cost > WINDOW * SHORT;
        if outstanding > most || (full && outstanding == most) {
            return Passed::Later;
        }
        if full {
            self.send_fence(key);
        }
        let Some(relay) = &mut self.connections[key].relay else {
            return Passed::Later;
        };
        if relay.is_quiet() {
            relay.sent = 0;
            relay.answered = 0;
            relay.uncountable = false;
        }
        relay.link.send(octets);
        relay.unfenced += cost;
        relay.sent += 1;
        if has_odd_replies(keyword) {
            relay.uncountable = true;
            // It tells when they have all come.
            self.send_fence(key);
        }
        Passed::Yes
    }

    /// Asks Tor its part of a command that concerns both.
    fn ask(&mut self, key: usize, mixed: Mixed, question: Option<Question>) -> Passed {
        if let Then::Set(own) = &mixed.then
            && let Err(error) = self.options.set(own)
        {
            return Passed::Refused(super::options::refusal(&error));
        }
        if let Then::Load(own) = &mixed.then
            && let Err(error) = self.options.load_text(own)
        {
            return Passed::Refused(super::options::refusal(&error));
        }
        match self.connect(key) {
            Passed::Yes => {}
            other => return other,
        }
        if let Some(relay) = &mut self.connections[key].relay {
            relay.link.send(&mixed.command);
            relay.asked.push_back(Asked {
                then: mixed.then,
                question,
                length: mixed.command.len(),
                reply: Vec::new(),
                too_long: false,
            });
        }
        Passed::Yes
    }

    /// Sees to it that a controller has a connection to Tor.
    fn connect(&mut self, key: usize) -> Passed {
        let connection = &mut self.connections[key];
        if let Some(cause) = connection.tor_failure.take() {
            return Passed::Refused(Refusal::Failed(format!("Tor is not reachable: {cause}")));
        }
        if let Some(relay) = &connection.relay {
            return if relay.link.is_open() {
                Passed::Yes
            } else {
                Passed::Later
            };
        }
        let token = Token(LINKS + key);
        match self.take_link(token) {
            Ok(link) => {
                let is_open = link.is_open();
                self.connections[key].relay = Some(Box::new(Relay {
                    link,
                    gate: Gate::default(),
                    replies: Replies::default(),
                    unfenced: 0,
                    sent: 0,
                    answered: 0,
                    uncountable: false,
                    asked: VecDeque::new(),
                }));
                if is_open { Passed::Yes } else { Passed::Later }
            }
            Err(cause) => {
                Passed::Refused(Refusal::Failed(format!("Tor is not reachable: {cause}")))
            }
        }
    }

    /// Sends Tor what a controller's turn had for it, in one write.
    pub(super) fn flush_link(&mut self, key: usize) {
        let connection = self.connections.get_mut(key);
        if let Some(relay) = connection.and_then(|held| held.relay.as_mut()) {
            let full = relay.link.waiting() > WAITING;
            relay.link.flush(self.poll.registry());
            let readable = relay.link.readable;
            // What had to wait need not any more, and nothing else would tell the controller.
            if full && relay.link.waiting() <= WAITING {
                self.ready(Token(key));
            }
            if readable {
                self.ready(Token(LINKS + key));
            }
        }
    }

    /// A turn of a controller's connection to Tor.
    pub(super) fn take_link_turn(&mut self, key: usize) {
        let pause = self.pause();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.link_queued = false;
        let is_far_behind = connection.outbox.behind() * READ > pause;
        if is_far_behind && connection.outbox.await_delivery() {
            self.awaiting.insert(Token(LINKS + key));
            return;
        }
        let slow = connection.outbox.waiting() > pause;
        let Some(relay) = &mut connection.relay else {
            return;
        };
        if slow {
            // The outbox wakes the loop once its queue is empty.
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        match relay.link.read(&mut buffer[..READ]) {
            Got::Octets(length) => self.tor_said(key, &buffer[..length]),
            Got::Nothing => {}
            Got::End => self.tor_hung_up(key),
        }
        self.buffer = buffer;
        let again = self
            .connections
            .get(key)
            .and_then(|held| held.relay.as_ref());
        if again.is_some_and(|relay| relay.link.readable) {
            self.ready(Token(LINKS + key));
        }
    }

    /// Takes what Tor has said to a controller.
    fn tor_said(&mut self, key: usize, octets: &[u8]) {
        let room = self.reply_room();
        let (Some(tor), Some(relay)) = (&self.tor, &mut self.connections[key].relay) else {
            return;
        };
        if !relay.link.is_open() {
            match relay.link.log_in(octets, self.poll.registry()) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    self.ready(Token(key));
                    // If it was not there a moment ago, it is now.
                    self.connect_feed();
                }
                Err(error) => self.lose_link(key, error.to_string()),
            }
            return;
        }
        let outstanding = relay.gate.outstanding();
        let mut passed = Vec::new();
        let mut through = octets;
        if outstanding > 0 {
            relay.gate.take(octets, &tor.fence, &mut passed);
            through = &passed;
        }
        let fenced = outstanding - relay.gate.outstanding();
        if !relay.asked.is_empty() {
            through = self.tor_answered(key, through, room);
        }
        let Some(relay) = &mut self.connections[key].relay else {
            return;
        };
        let ended = relay.replies.take(through);
        relay.answered += ended;
        let inside = relay.replies.is_inside();
        if !through.is_empty() {
            self.send_tors(key, through, inside);
        }
        self.keep_spare();
        // An outbox that has failed is seen in the controller's turn.
        if fenced > 0 || self.connections[key].outbox.phase() != Phase::Open {
            self.ready(Token(key));
        }
    }

    /// Takes Tor's answers to what it was asked, and returns what is left.
    fn tor_answered<'a>(&mut self, key: usize, octets: &'a [u8], room: usize) -> &'a [u8] {
        let mut rest = octets;
        while let Some(relay) = &mut self.connections[key].relay
            && let Some(asked) = relay.asked.front_mut()
        {
            let end = relay.replies.end(rest);
            let (answer, after) = rest.split_at(end.unwrap_or(rest.len()));
            rest = after;
            if asked.reply.len() + answer.len() > room {
                asked.too_long = true;
                asked.reply = Vec::new();
            }
            if !asked.too_long {
                asked.reply.extend_from_slice(answer);
            }
            if end.is_none() {
                break;
            }
            if let Some(asked) = relay.asked.pop_front() {
                self.conclude(key, asked);
                self.ready(Token(key));
            }
        }
        self.send_replies(key);
        rest
    }

    /// Sends what Tor has replied, as far as it has come. Whoever has subscribed to anything gets
    /// all of it through the fan-out, so that replies and events keep Tor's order and no
    /// event stands inside a reply.
    fn send_tors(&mut self, key: usize, octets: &[u8], inside: bool) {
        let connection = &self.connections[key];
        if connection.session.dialect() != Dialect::Text {
            log::warn!("Tor has replied to {connection} what it was not asked");
            return;
        }
        if !connection.subscribed {
            return connection.outbox.send(&mut [IoSlice::new(octets)]);
        }
        connection.outbox.handed_over();
        self.hand_over(Item::Reply {
            outbox: Arc::clone(&connection.outbox),
            session: connection.session.id(),
            octets: octets.to_vec(),
            inside,
            finish: false,
        });
    }

    /// Tor has ended a controller's connection, after what it still said.
    fn tor_hung_up(&mut self, key: usize) {
        let Some(relay) = &mut self.connections[key].relay else {
            return;
        };
        if !relay.link.is_open() {
            let cause = relay
                .link
                .failure()
                .map_or("it closed the connection".into(), |error| error.to_string());
            return self.lose_link(key, cause);
        }
        if !self.options.settings().keep_controllers {
            return self.finish(key);
        }
        // Whoever stays must be able to tell which command each later reply is for.
        let Some(owed) = relay.owed() else {
            return self.finish(key);
        };
        // With a fence under way, what was kept is the beginning of the answer to that.
        self.connections[key].relay = None;
        let dialect = self.connections[key].session.dialect();
        for _ in 0..owed {
            let text = "Tor is not reachable: it closed the connection".to_owned();
            dialect.encode_refusal(&Refusal::Failed(text), &mut self.replies);
        }
        self.send_replies(key);
        self.ready(Token(key));
    }

    /// A connection to Tor has failed before it was of use: whoever needs it is told.
    fn lose_link(&mut self, key: usize, cause: String) {
        self.connections[key].relay = None;
        self.connections[key].tor_failure = Some(cause);
        self.ready(Token(key));
    }
}

/// Whether Tor may answer this command with no reply or with two.
fn has_odd_replies(keyword: &[u8]) -> bool {
    const ODD: [&[u8]; 3] = [b"+HSPOST", b"ONION_CLIENT_AUTH_ADD", b"ADD_ONION"];
    ODD.iter().any(|odd| keyword.eq_ignore_ascii_case(odd))
}
