//! The daemon's own conversation with Tor: it subscribes to what controllers want, and takes each
//! event once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::facts::Facts;
use super::names::Names;
use crate::wire::event::{EventKind, EventMask};
use crate::wire::refusal::Refusal;
use crate::wire::text::{Message, Reader, TooLong};

/// The most octets of one event; the longest are NEWCONSENSUS, a few megabytes. Nobody is charged
/// for an event that is not whole, and it takes twice as much while it grows.
const MAX_EVENT: usize = 8 << 20;

/// The conversation, once the login is done. Octets and no sockets.
#[derive(Debug)]
pub struct Watcher {
    reader: Reader,
    /// The events that Tor sends.
    sent: EventMask,
    /// The events that this Tor does not know, so that it is not asked again and again.
    unknown: EventMask,
    /// The SETEVENTS that Tor has not answered.
    asked: Option<Question>,
    /// Subscriptions that are to be asked for: one at a time, since Tor takes all or nothing.
    queue: VecDeque<Subscription>,
    /// The facts that are to be asked for, before anything else.
    curiosity: Option<Facts>,
    transmit: Vec<u8>,
}

/// A controller's SETEVENTS that waits for Tor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The controller's place in the loop.
    pub key: usize,
    /// The controller's session.
    pub session: u64,
    /// The events that the controller wants.
    pub events: EventMask,
    /// Those for whose sake Tor is asked, besides the bus's own.
    pub needs: EventMask,
}

#[derive(Debug)]
struct Question {
    /// The events that Tor will send if it agrees.
    events: EventMask,
    /// The controller that waits for the answer; none where fewer events are asked for.
    subscription: Option<Subscription>,
    /// What was asked instead of events, as far as it is answered.
    facts: Option<Facts>,
    deadline: Instant,
}

/// Something that Tor has said.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// An event that was asked for, as it came.
    Event(EventKind, Arc<[u8]>),
    /// The options and listeners of Tor.
    Facts(Box<Facts>),
    /// Tor has answered a controller's subscription.
    Answer(Subscription, Result<(), Refusal>),
    /// Tor does not send what controllers want, in its words; nobody waits for that.
    Refused(Vec<u8>),
    /// Octets that were not asked for, or an event that only the bus raises, are dropped.
    Dropped(usize),
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            reader: Reader::new(MAX_EVENT),
            sent: EventMask::NONE,
            unknown: EventMask::NONE,
            asked: None,
            queue: VecDeque::new(),
            curiosity: None,
            transmit: Vec::new(),
        }
    }
}

impl Watcher {
    /// Whether Tor sends all these events already.
    #[must_use]
    pub fn sends(&self, events: EventMask) -> bool {
        self.asked.is_none() && self.sent.includes(of_tor(events))
    }

    /// The events that controllers wait for or Tor sends.
    #[must_use]
    pub fn mentioned(&self) -> EventMask {
        let asked = self
            .asked
            .as_ref()
            .map_or(EventMask::NONE, |asked| asked.events);
        let queued = self.queue.iter().map(|one| one.needs);
        queued.fold(self.sent.union(asked), EventMask::union)
    }

    /// Wants to know Tor's options and listeners as they are now, and perhaps its client keys.
    pub fn handle_curiosity(&mut self, about_keys: bool) {
        let wanted = self.curiosity.as_ref();
        let about_keys = about_keys || wanted.is_some_and(Facts::is_about_keys);
        self.curiosity = Some(Facts::new(about_keys));
    }

    /// Takes a subscription that Tor must be asked for.
    pub fn handle_subscription(&mut self, subscription: Subscription) {
        self.queue.push_back(subscription);
    }

    /// A controller has left: its subscription is not asked for any more.
    pub fn handle_left(&mut self, session: u64) {
        self.queue.retain(|waiting| waiting.session != session);
    }

    /// Makes Tor send the events of `interest` and of who waits, and nothing more, one step at a
    /// time. Tor has `patience` for each.
    pub fn handle_interest(
        &mut self,
        interest: EventMask,
        names: &Names,
        now: Instant,
        patience: Duration,
    ) {
        if self.asked.is_some() {
            return;
        }
        if let Some(facts) = self.curiosity.take() {
            facts.ask(&mut self.transmit);
            self.asked = Some(Question {
                events: self.sent,
                subscription: None,
                facts: Some(facts),
                deadline: now + patience,
            });
            return;
        }
        let subscription = self.queue.pop_front();
        let wanted = match subscription {
            Some(waiting) => of_tor(waiting.needs).union(self.sent),
            None => of_tor(interest).without(self.unknown),
        };
        if subscription.is_none() && wanted == self.sent {
            return;
        }
        self.transmit.extend_from_slice(b"SETEVENTS");
        for kind in wanted.kinds() {
            self.transmit.push(b' ');
            self.transmit.extend_from_slice(names.name(kind));
        }
        self.transmit.extend_from_slice(b"\r\n");
        self.asked = Some(Question {
            events: wanted,
            subscription,
            facts: None,
            deadline: now + patience,
        });
    }

    /// Whether Tor is asked for something that has keys in it.
    #[must_use]
    pub fn awaits_keys(&self) -> bool {
        let facts = self.asked.as_ref().and_then(|asked| asked.facts.as_ref());
        facts.is_some_and(Facts::is_about_keys)
    }

    /// The octets for Tor; whoever sends some of them drains those.
    pub const fn poll_transmit(&mut self) -> &mut Vec<u8> {
        &mut self.transmit
    }

    /// The time at which Tor should have answered.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.asked.as_ref().map(|asked| asked.deadline)
    }

    /// Takes what Tor has sent. Fails on what is no event that any Tor sends.
    pub fn handle_octets(
        &mut self,
        octets: &[u8],
        names: &Names,
        outputs: &mut Vec<Output>,
    ) -> Result<(), TooLong> {
        let has_keys = self.awaits_keys();
        self.reader.handle_octets(octets);
        // Out of its place while it lends messages.
        let mut reader = std::mem::replace(&mut self.reader, Reader::new(MAX_EVENT));
        let outcome = loop {
            match reader.poll_message() {
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
                Ok(Some(message)) => match message.event() {
                    Some(name) => outputs.push(self.event(name, message, names)),
                    None => outputs.extend(self.handle_answer(message)),
                },
            }
        };
        if has_keys {
            reader.forget();
        }
        self.reader = reader;
        outcome
    }

    fn event(&self, name: &[u8], message: Message<'_>, names: &Names) -> Output {
        let kind = EventKind::parse(name).or_else(|| names.find(name));
        let asked = self
            .asked
            .as_ref()
            .map_or(EventMask::NONE, |asked| asked.events);
        let expected = self.sent.union(asked);
        match kind {
            Some(kind) if !kind.is_own() && expected.contains(kind) => {
                Output::Event(kind, message.octets().into())
            }
            _ => Output::Dropped(message.octets().len()),
        }
    }

    /// Tor has answered a SETEVENTS, or one of the questions about it.
    fn handle_answer(&mut self, message: Message<'_>) -> Option<Output> {
        let line = message.last_line();
        let Some(mut asked) = self.asked.take() else {
            return Some(Output::Dropped(line.len()));
        };
        if let Some(mut facts) = asked.facts.take() {
            if facts.handle_answer(message.octets()) {
                return Some(Output::Facts(Box::new(facts)));
            }
            asked.facts = Some(facts);
            self.asked = Some(asked);
            return None;
        }
        let agreed = line.starts_with(b"250");
        if agreed {
            self.sent = asked.events;
            self.unknown = self.unknown.without(asked.events);
        }
        match asked.subscription {
            Some(waiting) if agreed => Some(Output::Answer(waiting, Ok(()))),
            Some(waiting) => Some(Output::Answer(waiting, Err(Refusal::OfTor(line.to_vec())))),
            None if agreed => None,
            None => {
                // Another Tor than the one before, which does not know all that is wanted.
                self.unknown = match refused_event(line) {
                    Some(kind) => self.unknown.union([kind].into_iter().collect()),
                    None => asked.events,
                };
                Some(Output::Refused(line.to_vec()))
            }
        }
    }

    /// The connection has ended: those whose subscriptions nobody answers any more.
    pub fn handle_gone(self) -> impl Iterator<Item = Subscription> {
        let asked = self.asked.and_then(|asked| asked.subscription);
        asked.into_iter().chain(self.queue)
    }
}

/// The kinds that a Tor raises.
#[must_use]
pub fn of_tor(events: EventMask) -> EventMask {
    events.kinds().filter(|kind| !kind.is_own()).collect()
}

/// The event of `552 Unrecognized event "NAME"`.
fn refused_event(line: &[u8]) -> Option<EventKind> {
    let name = line
        .strip_prefix(b"552 Unrecognized event \"")?
        .strip_suffix(b"\"")?;
    EventKind::parse(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct Scene {
        watcher: Watcher,
        names: Names,
        now: Instant,
        interest: EventMask,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                watcher: Watcher::default(),
                names: Names::default(),
                now: Instant::now(),
                interest: EventMask::NONE,
            }
        }

        fn sent(&mut self) -> String {
            self.watcher
                .handle_interest(self.interest, &self.names, self.now, PATIENCE);
            String::from_utf8(std::mem::take(self.watcher.poll_transmit())).unwrap()
        }

        fn heard(&mut self, octets: &[u8]) -> Vec<Output> {
            let mut outputs = Vec::new();
            for octet in octets.chunks(1) {
                self.watcher
                    .handle_octets(octet, &self.names, &mut outputs)
                    .unwrap();
            }
            outputs
        }

        fn subscribe(&mut self, session: u64, kinds: &[EventKind]) -> Subscription {
            let events = kinds.iter().copied().collect();
            let subscription = Subscription {
                key: 0,
                session,
                events,
                needs: events,
            };
            self.watcher.handle_subscription(subscription);
            subscription
        }
    }

    #[test]
    fn subscriptions_are_asked_for_one_at_a_time() {
        let mut scene = Scene::new();
        let first = scene.subscribe(1, &[EventKind::Circ, EventKind::PostMessage]);
        let second = scene.subscribe(2, &[EventKind::Ns]);
        assert_eq!(scene.sent(), "SETEVENTS CIRC\r\n");
        assert_eq!(scene.sent(), "", "the first is not answered");
        assert_eq!(scene.watcher.poll_timeout(), Some(scene.now + PATIENCE));
        assert_eq!(scene.heard(b"250 OK\r\n"), [Output::Answer(first, Ok(()))]);
        scene.interest = first.events;
        assert!(scene.watcher.sends(first.events));
        assert_eq!(scene.sent(), "SETEVENTS CIRC NS\r\n");
        let refusal = Refusal::OfTor(b"552 Unrecognized event \"NS\"".to_vec());
        assert_eq!(
            scene.heard(b"552 Unrecognized event \"NS\"\r\n"),
            [Output::Answer(second, Err(refusal))]
        );
        assert_eq!(scene.sent(), "", "it sends what is wanted");
        scene.interest = EventMask::NONE;
        assert_eq!(scene.sent(), "SETEVENTS\r\n");
        assert_eq!(scene.heard(b"250 OK\r\n"), []);
        assert_eq!(scene.watcher.poll_timeout(), None);
    }

    #[test]
    fn what_somebody_who_has_left_wanted_is_not_asked_for() {
        let mut scene = Scene::new();
        let first = scene.subscribe(1, &[EventKind::Circ]);
        assert_eq!(scene.sent(), "SETEVENTS CIRC\r\n");
        for session in 2..100 {
            scene.subscribe(session, &[EventKind::Ns]);
            scene.watcher.handle_left(session);
        }
        let last = scene.subscribe(100, &[EventKind::OrConn]);
        assert_eq!(scene.heard(b"250 OK\r\n"), [Output::Answer(first, Ok(()))]);
        assert_eq!(scene.sent(), "SETEVENTS CIRC ORCONN\r\n");
        assert_eq!(scene.heard(b"250 OK\r\n"), [Output::Answer(last, Ok(()))]);
    }

    #[test]
    fn a_tor_that_does_not_know_an_event_is_not_asked_again() {
        let mut scene = Scene::new();
        scene.interest = [EventKind::Circ, EventKind::Ns].into_iter().collect();
        assert_eq!(scene.sent(), "SETEVENTS CIRC NS\r\n");
        let refused = b"552 Unrecognized event \"NS\"";
        let answer = [&refused[..], b"\r\n"].concat();
        assert_eq!(scene.heard(&answer), [Output::Refused(refused.to_vec())]);
        assert_eq!(scene.sent(), "SETEVENTS CIRC\r\n");
        assert_eq!(scene.heard(b"250 OK\r\n"), []);
        assert_eq!(scene.sent(), "");
    }

    #[test]
    fn only_events_that_were_asked_for_come_through() {
        let mut scene = Scene::new();
        let newer = scene.names.kind(b"NEWER", EventMask::NONE).unwrap();
        scene.subscribe(1, &[EventKind::Circ, EventKind::PostMessage, newer]);
        assert_eq!(scene.sent(), "SETEVENTS CIRC NEWER\r\n");
        let outputs = scene.heard(
            b"250 OK\r\n650 CIRC 1\r\n650 newer x\r\n650 POSTMESSAGE 7 a @b x\r\n650 TOR DOWN\r\n\
              650 BW 1 2\r\n650+NS\r\n650 CIRC 2\r\n.\r\n650 OK\r\n650 OTHER\r\n250 OK\r\n",
        );
        assert_eq!(
            outputs[1..],
            [
                Output::Event(EventKind::Circ, b"650 CIRC 1\r\n"[..].into()),
                Output::Event(newer, b"650 newer x\r\n"[..].into()),
                Output::Dropped(26),
                Output::Dropped(14),
                Output::Dropped(12),
                Output::Dropped(31),
                Output::Dropped(11),
                Output::Dropped(6),
            ]
        );
    }

    #[test]
    fn whoever_waits_is_named_when_the_connection_ends() {
        let mut scene = Scene::new();
        let first = scene.subscribe(1, &[EventKind::Circ]);
        let second = scene.subscribe(2, &[EventKind::Ns]);
        scene.sent();
        assert_eq!(scene.watcher.mentioned(), first.events.union(second.events));
        let left: Vec<_> = scene.watcher.handle_gone().collect();
        assert_eq!(left, [first, second]);
    }
}
