//! The fan-out thread: takes events in order and delivers each to those who subscribed.
//!
//! It empties the channel, encodes every event once per dialect, and then hands each outbox its
//! whole share in one vectored write: the number of writes is what a delivery costs. Where many
//! have a large share, the octets are what it costs: then the kernel gets them once, in pages that
//! all sockets refer to. Changes of subscription come through the same channel, so an event is
//! judged by what was subscribed to when it happened.

use std::cell::OnceCell;
use std::io::IoSlice;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender};

use super::subscribers::{LARGE, SHARE, Subscribers};
use super::{SessionId, To};
use crate::outbox::Outbox;
use crate::sys::pages::{self, Pages};
use crate::wire::Dialect;
use crate::wire::binary;
use crate::wire::event::{Event, EventKind, EventMask};

/// How many items may wait in the channel; the loop then waits for this thread.
const CHANNEL: usize = 64;

/// Once so many octets are encoded they are delivered, whatever else waits.
const BATCH: usize = 128 * 1024;

/// So many with a [large share](LARGE) are sent pages: for fewer, or on readers that share a core
/// with this thread, a write to each costs no more.
const MANY: usize = 16;

/// What the loop hands to the fan-out thread.
#[derive(Debug)]
pub enum Item {
    /// Events, in order.
    Events(Vec<(Event, To)>),
    /// A controller has subscribed to something else. `reply` is sent in this place of the order.
    Subscribe {
        /// Who.
        session: SessionId,
        /// What it speaks.
        dialect: Dialect,
        /// What it wants from now on.
        events: EventMask,
        /// Where it is written to, [handed over](Outbox::handed_over).
        outbox: Arc<Outbox>,
        /// The `250 OK`, and what must follow it.
        reply: Vec<u8>,
    },
    /// Replies that must not overtake what was handed over before.
    Reply {
        /// Where to, [handed over](Outbox::handed_over).
        outbox: Arc<Outbox>,
        /// The subscriber that it is.
        session: SessionId,
        /// The replies.
        octets: Vec<u8>,
        /// Whether the last of them is not whole: events wait until the rest has come.
        inside: bool,
        /// Whether the connection ends after them.
        finish: bool,
    },
    /// A controller that had subscribed has left.
    Leave(SessionId),
    /// Deliver what came before, and end.
    Stop,
}

/// Starts the thread.
pub fn start() -> std::io::Result<(Sender<Item>, JoinHandle<()>)> {
    let (sender, receiver) = crossbeam_channel::bounded(CHANNEL);
    let thread = thread::Builder::new()
        .name("fan-out".into())
        .spawn(move || Fanout::default().run(&receiver))?;
    Ok((sender, thread))
}

#[derive(Default)]
struct Fanout {
    subscribers: Subscribers,
    lanes: [Lane; Dialect::ALL.len()],
    /// The kind of the broadcast events at the end of the lanes that nobody has a share in yet.
    run: Option<EventKind>,
    /// Who has a share in the lanes.
    touched: Vec<usize>,
    /// Who has to hear that its replies were sent.
    handed_over: Vec<(Arc<Outbox>, bool)>,
}

/// What is encoded for one dialect since the last delivery.
#[derive(Default)]
struct Lane {
    octets: Vec<u8>,
    /// Where the current run of broadcast events begins.
    run: usize,
}

impl Fanout {
    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(mut item) = items.recv() {
            loop {
                if !self.take(item) {
                    self.deliver();
                    return;
                }
                let encoded: usize = self.lanes.iter().map(|lane| lane.octets.len()).sum();
                match items.try_recv() {
                    Ok(next) if encoded < BATCH => item = next,
                    Ok(next) => {
                        self.deliver();
                        item = next;
                    }
                    Err(_) => break,
                }
            }
            self.deliver();
        }
    }

    /// Takes one item into the lanes; `false` ends the thread.
    fn take(&mut self, item: Item) -> bool {
        match item {
            Item::Events(events) => {
                for (event, to) in events {
                    match to {
                        To::Subscribers => {
                            self.broadcast(&event);
                            self.broadcast_any_log(&event);
                        }
                        To::One(session) => self.direct(session, &event),
                        To::Nobody => {}
                    }
                }
            }
            Item::Subscribe {
                session,
                dialect,
                events,
                outbox,
                reply,
            } => {
                self.share_run();
                self.subscribers
                    .subscribe(session, dialect, events, Arc::clone(&outbox));
                self.reply(session, &reply, false);
                self.handed_over.push((outbox, false));
            }
            Item::Reply {
                outbox,
                session,
                octets,
                inside,
                finish,
            } => {
                self.share_run();
                self.reply(session, &octets, inside);
                self.handed_over.push((outbox, finish));
            }
            Item::Leave(session) => {
                // What is in its share was said before it left.
                self.deliver();
                self.subscribers.leave(session);
            }
            Item::Stop => return false,
        }
        true
    }

    /// Encodes an event for everybody who subscribed to its kind.
    fn broadcast(&mut self, event: &Event) {
        let kind = event.kind();
        if self.run != Some(kind) {
            self.share_run();
            self.run = Some(kind);
            for lane in &mut self.lanes {
                lane.run = lane.octets.len();
            }
        }
        for dialect in Dialect::ALL {
            if self.subscribers.speak(dialect) {
                dialect.encode_event(event, &mut self.lanes[dialect as usize].octets);
            }
        }
    }

    /// Encodes a notice, warning or error for those who asked for them under one code.
    fn broadcast_any_log(&mut self, event: &Event) {
        if self.subscribers.any_log.is_empty() {
            return;
        }
        self.share_run();
        let octets = &mut self.lanes[Dialect::V0 as usize].octets;
        let start = octets.len();
        binary::encode_any_log(event, octets);
        let share = start..octets.len();
        for &key in &self.subscribers.any_log {
            let subscriber = &mut self.subscribers.all[key];
            subscriber.add_event(key, octets, share.clone(), &mut self.touched);
        }
    }

    /// Gives those who subscribed their share in the run of broadcast events, if there is one.
    fn share_run(&mut self) {
        let Some(kind) = self.run.take() else { return };
        let shares = self
            .lanes
            .each_ref()
            .map(|lane| lane.run..lane.octets.len());
        for &key in &self.subscribers.by_kind[kind as usize] {
            let subscriber = &mut self.subscribers.all[key];
            let octets = &self.lanes[subscriber.dialect as usize].octets;
            let share = shares[subscriber.dialect as usize].clone();
            subscriber.add_event(key, octets, share, &mut self.touched);
        }
    }

    fn direct(&mut self, session: SessionId, event: &Event) {
        self.share_run();
        let Some((key, subscriber)) = self.subscribers.find(session) else {
            return;
        };
        let lane = &mut self.lanes[subscriber.dialect as usize];
        let start = lane.octets.len();
        subscriber.dialect.encode_event(event, &mut lane.octets);
        let share = start..lane.octets.len();
        subscriber.add_event(key, &lane.octets, share, &mut self.touched);
    }

    /// Replies, and behind the last whole one the events that waited for its end.
    fn reply(&mut self, session: SessionId, octets: &[u8], inside: bool) {
        let Some((key, subscriber)) = self.subscribers.find(session) else {
            return;
        };
        let lane = &mut self.lanes[subscriber.dialect as usize];
        let start = lane.octets.len();
        lane.octets.extend_from_slice(octets);
        subscriber.inside = inside;
        if !inside {
            lane.octets.append(&mut subscriber.held);
            subscriber.held = Vec::new();
        }
        subscriber.add(key, start..lane.octets.len(), &mut self.touched);
    }

    /// Writes every share, and forgets what was encoded.
    fn deliver(&mut self) {
        self.share_run();
        let large = self.large_shares();
        let pages = [const { OnceCell::new() }; Dialect::ALL.len()];
        let mut slices = Vec::new();
        for key in self.touched.drain(..) {
            // One that has left since has nothing to wait for any more.
            let Some(subscriber) = self.subscribers.all.get_mut(key) else {
                continue;
            };
            let dialect = subscriber.dialect as usize;
            let octets = &self.lanes[dialect].octets;
            let in_pages = || {
                pages[dialect]
                    .get_or_init(|| Pages::of(octets).ok())
                    .as_ref()
            };
            if large[dialect] >= MANY
                && let Some(range) = subscriber.large_share()
                && let Some(pages) = in_pages()
            {
                subscriber.outbox.send_pages(pages, range);
            } else {
                let share = subscriber.share.iter();
                slices.extend(share.map(|range| IoSlice::new(&octets[range.clone()])));
                subscriber.outbox.send(&mut slices);
                slices.clear();
            }
            subscriber.share.clear();
            subscriber.share.shrink_to(SHARE);
        }
        drop(pages);
        for (outbox, finish) in self.handed_over.drain(..) {
            outbox.delivered();
            if finish {
                outbox.finish();
            }
        }
        for lane in &mut self.lanes {
            lane.octets.clear();
            lane.octets.shrink_to(2 * BATCH);
        }
    }

    /// How many have a large share in each lane, if pages can be sent.
    fn large_shares(&self) -> [usize; Dialect::ALL.len()] {
        let mut large = [0; Dialect::ALL.len()];
        if pages::can_be_sent() && self.lanes.iter().any(|lane| lane.octets.len() >= LARGE) {
            for &key in &self.touched {
                let subscriber = self.subscribers.all.get(key);
                if let Some(subscriber) = subscriber.filter(|one| one.large_share().is_some()) {
                    large[subscriber.dialect as usize] += 1;
                }
            }
        }
        large
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::ops::Range;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use mio::{Interest, Poll, Token};

    use super::*;
    use crate::outbox::Outlet;
    use crate::wire::message::{ControllerId, Destination, Message};

    struct Peer {
        outbox: Arc<Outbox>,
        stream: UnixStream,
    }

    /// What is the loop's.
    struct Here {
        poll: Poll,
        outlet: Arc<Outlet>,
    }

    impl Here {
        fn new() -> Self {
            let poll = Poll::new().unwrap();
            let outlet = Outlet::new(poll.registry(), Token(1), 1 << 24).unwrap();
            let outlet = Arc::new(outlet);
            Self { poll, outlet }
        }

        fn peer(&self) -> Peer {
            let (mut here, there) = mio::net::UnixStream::pair().unwrap();
            let registry = self.poll.registry();
            registry
                .register(&mut here, Token(0), Interest::READABLE)
                .unwrap();
            let stream = UnixStream::from(OwnedFd::from(there));
            stream.set_nonblocking(true).unwrap();
            let outbox = Arc::new(Outbox::new(here, Token(0), Arc::clone(&self.outlet)));
            Peer { outbox, stream }
        }
    }

    impl Peer {
        fn subscribe(&self, session: SessionId, dialect: Dialect, kinds: &[EventKind]) -> Item {
            self.outbox.handed_over();
            Item::Subscribe {
                session,
                dialect,
                events: kinds.iter().copied().collect(),
                outbox: Arc::clone(&self.outbox),
                reply: format!("[{}]", kinds.len()).into_bytes(),
            }
        }

        fn read(&mut self) -> String {
            let mut octets = Vec::new();
            // The stream is non-blocking: it ends where nothing more was written.
            let _ = self.stream.read_to_end(&mut octets);
            String::from_utf8_lossy(&octets).into_owned()
        }
    }

    fn message(id: u64) -> Event {
        Event::Message(Arc::new(Message {
            id,
            source: ControllerId::parse(b"a"),
            destination: Destination::All,
            text: b"x".as_slice().into(),
        }))
    }

    fn play(items: Vec<Item>) {
        let (sender, thread) = start().unwrap();
        for item in items {
            sender.send(item).unwrap();
        }
        sender.send(Item::Stop).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn each_gets_what_it_subscribed_to_in_order() {
        let here = Here::new();
        let [mut messages, mut both, mut binary] = [(); 3].map(|()| here.peer());
        let signal = || (Event::Signal("HUP"), To::Subscribers);
        play(vec![
            messages.subscribe(1, Dialect::Text, &[EventKind::PostMessage]),
            both.subscribe(
                2,
                Dialect::Text,
                &[EventKind::PostMessage, EventKind::Signal],
            ),
            binary.subscribe(3, Dialect::Tc, &[EventKind::PostMessage, EventKind::Signal]),
            Item::Events(vec![
                (message(1), To::Subscribers),
                (message(2), To::Subscribers),
                signal(),
                (message(3), To::One(2)),
                (message(4), To::Nobody),
                (message(5), To::One(9)),
            ]),
        ]);
        let posted = |id| format!("650 POSTMESSAGE {id} a @all x\r\n");
        assert_eq!(messages.read(), format!("[1]{}{}", posted(1), posted(2)));
        assert_eq!(
            both.read(),
            format!(
                "[2]{}{}650 SIGNAL HUP\r\n{}",
                posted(1),
                posted(2),
                posted(3)
            )
        );
        let frame = |id: u8| {
            format!(
                "\0\x12\0\x06\u{fffd}\x01\0\0\0\0\0\0\0{}a\0all\0x\0",
                id as char
            )
        };
        assert_eq!(binary.read(), format!("[2]{}{}", frame(1), frame(2)));
    }

    #[test]
    fn large_shares_of_many_are_the_same_as_small_ones() {
        let here = Here::new();
        let dialects = [Dialect::Text, Dialect::Tc];
        let mut peers: Vec<_> = (0..MANY)
            .map(|index| (dialects[index % 2], here.peer()))
            .collect();
        let mut fanout = Fanout::default();
        for (session, (dialect, peer)) in (0..).zip(&peers) {
            fanout.take(peer.subscribe(session, *dialect, &[EventKind::PostMessage]));
        }
        fanout.deliver();
        let posts = |ids: Range<u64>| ids.map(|id| (message(id), To::Subscribers)).collect();
        fanout.take(Item::Events(vec![(message(1), To::One(1))]));
        fanout.take(Item::Events(posts(1000..3000)));
        fanout.deliver();
        fanout.take(Item::Events(posts(3000..4000)));
        fanout.deliver();
        for (session, (dialect, peer)) in peers.iter_mut().enumerate() {
            let mut octets = b"[1]".to_vec();
            for id in (1..2).filter(|_| session == 1).chain(1000..4000) {
                dialect.encode_event(&message(id), &mut octets);
            }
            assert_eq!(peer.read(), String::from_utf8_lossy(&octets), "{session}");
        }
    }

    #[test]
    fn no_event_stands_inside_a_reply() {
        let here = Here::new();
        let mut peer = here.peer();
        let part = |octets: &[u8], inside| {
            peer.outbox.handed_over();
            Item::Reply {
                outbox: Arc::clone(&peer.outbox),
                session: 1,
                octets: octets.to_vec(),
                inside,
                finish: false,
            }
        };
        let items = vec![
            peer.subscribe(1, Dialect::Text, &[EventKind::PostMessage]),
            part(b"250+a=", true),
            Item::Events(vec![
                (message(1), To::Subscribers),
                (message(2), To::One(1)),
            ]),
            part(b"...", true),
            Item::Events(vec![(message(3), To::Subscribers)]),
            part(b"250 OK", false),
            Item::Events(vec![(message(4), To::Subscribers)]),
        ];
        play(items);
        let events = [1, 2, 3, 4].map(|id| format!("650 POSTMESSAGE {id} a @all x\r\n"));
        assert_eq!(
            peer.read(),
            format!("[1]250+a=...250 OK{}", events.concat())
        );
    }

    #[test]
    fn nothing_follows_the_reply_that_unsubscribed() {
        let here = Here::new();
        let mut peer = here.peer();
        peer.outbox.handed_over();
        let items = vec![
            peer.subscribe(1, Dialect::Text, &[EventKind::PostMessage]),
            Item::Events(vec![(message(1), To::Subscribers)]),
            peer.subscribe(1, Dialect::Text, &[]),
            Item::Events(vec![(message(2), To::Subscribers)]),
            Item::Reply {
                outbox: Arc::clone(&peer.outbox),
                session: 1,
                octets: b"later".to_vec(),
                inside: false,
                finish: true,
            },
            Item::Leave(1),
            Item::Events(vec![(message(3), To::One(1))]),
        ];
        assert!(peer.outbox.is_behind());
        play(items);
        assert!(!peer.outbox.is_behind());
        assert_eq!(peer.outbox.phase(), crate::outbox::Phase::Ended);
        assert_eq!(peer.read(), "[1]650 POSTMESSAGE 1 a @all x\r\n[0]later");
    }
}
