//! The fan-out: what happened goes to whoever subscribed, in order.
//!
//! Its thread takes all there is from a channel and delivers it together. To wake the thread costs
//! more than to write to a few controllers: so once everything before has been delivered, the loop
//! may deliver a little itself. What delivery needs is one value, which whoever delivers has taken
//! out of its place: no lock is held while octets are written.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::delivery::Delivery;
pub use super::item::Item;

/// How many items may wait in the channel; the loop then waits for this thread.
const CHANNEL: usize = 64;

/// The octets of items in the channel from which on the loop waits for this thread: nobody is
/// charged for what is on its way.
const ON_ITS_WAY: usize = 4 << 20;

/// The fan-out, as the loop has it.
#[derive(Debug)]
pub struct Fanout {
    items: Sender<Item>,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    /// The octets that were sent since all was delivered.
    sent: Cell<usize>,
}

/// What the loop and the thread both see.
#[derive(Debug)]
struct Shared {
    /// How many items the thread has not delivered yet. Only the loop adds to them: while it sees
    /// none, the thread does nothing.
    pending: AtomicUsize,
    /// Where the delivery lies while nobody delivers. It is locked to take it or to put it back.
    idle: Mutex<Option<Box<Delivery>>>,
    /// The number of messages that were delivered.
    delivered: Arc<AtomicU64>,
    /// The loop, while it waits until nothing is pending.
    waiting: Mutex<Option<Thread>>,
}

impl Fanout {
    /// Starts the thread.
    pub fn start() -> std::io::Result<Self> {
        let (items, receiver) = bounded(CHANNEL);
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("fan-out".into()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(&receiver)
        })?;
        Ok(Self {
            items,
            shared,
            thread,
            sent: Cell::new(0),
        })
    }

    /// Hands something over. If the loop is `calm`, this is little, and all that came before has
    /// been delivered, it is delivered when this returns. Else the thread does it, and is waited
    /// for if it is behind: it never waits for the loop.
    ///
    /// # Panics
    ///
    /// If the thread has failed, which is a bug.
    pub fn hand_over(&self, mut item: Item, calm: bool) {
        let all_delivered = self.shared.pending.load(Ordering::Acquire) == 0;
        if calm && all_delivered {
            let mut delivery = self.shared.take_out();
            if delivery.is_for_few(&item) {
                delivery.take(item);
                if delivery.is_little() {
                    delivery.deliver();
                    return self.shared.put_back(delivery);
                }
                // It is encoded, and waits for the next delivery.
                item = Item::Events(Vec::new());
            }
            self.shared.put_back(delivery);
        }
        let octets = item.octets();
        let before = if all_delivered { 0 } else { self.sent.get() };
        self.sent.set(before + octets);
        if before > 0 && before + octets > ON_ITS_WAY {
            self.await_all();
            self.sent.set(octets);
        }
        self.shared.pending.fetch_add(1, Ordering::Relaxed);
        self.items
            .send(item)
            .expect("the fan-out thread ends only when it is told to");
    }

    /// The number of messages that were delivered as events, one for each who got it.
    pub fn delivered(&self) -> u64 {
        self.shared.delivered.load(Ordering::Relaxed)
    }

    /// Waits until all is delivered.
    fn await_all(&self) {
        let waits = || {
            *self.shared.waiting.lock() = Some(thread::current());
            // Only now: what was delivered before that wakes nobody.
            self.shared.pending.load(Ordering::Acquire) > 0
        };
        while waits() {
            thread::park();
        }
    }

    /// Ends the thread once it has delivered everything. An error is a bug in the thread.
    pub fn end(self) -> thread::Result<()> {
        self.hand_over(Item::Stop, false);
        self.thread.join()
    }
}

impl Default for Shared {
    fn default() -> Self {
        let delivery = Box::<Delivery>::default();
        Self {
            pending: AtomicUsize::new(0),
            delivered: delivery.delivered(),
            idle: Mutex::new(Some(delivery)),
            waiting: Mutex::new(None),
        }
    }
}

impl Shared {
    fn take_out(&self) -> Box<Delivery> {
        let delivery = self.idle.lock().take();
        delivery.expect(
            "the loop takes it while nothing is pending, the thread while something is, and each \
             puts it back before that changes",
        )
    }

    fn put_back(&self, delivery: Box<Delivery>) {
        *self.idle.lock() = Some(delivery);
    }

    /// The thread.
    fn run(&self, items: &Receiver<Item>) {
        while let Ok(mut item) = items.recv() {
            let mut delivery = self.take_out();
            let mut taken = 1;
            loop {
                if !delivery.take(item) {
                    delivery.deliver();
                    return;
                }
                match items.try_recv() {
                    Ok(next) => item = next,
                    Err(_) => break,
                }
                if delivery.is_full() {
                    delivery.deliver();
                }
                taken += 1;
            }
            delivery.deliver();
            self.put_back(delivery);
            self.pending.fetch_sub(taken, Ordering::Release);
            let waiting = self.waiting.lock().take();
            if let Some(waiting) = waiting {
                waiting.unpark();
            }
        }
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
    use crate::account::Accounts;
    use crate::bus::delivery::{FEW, MANY};
    use crate::bus::subscribers::LARGE;
    use crate::bus::{SessionId, To};
    use crate::outbox::Outbox;
    use crate::outbox::Outlet;
    use crate::wire::Dialect;
    use crate::wire::event::Event;
    use crate::wire::event::EventKind;
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
            let account = Accounts::new(usize::MAX, usize::MAX).of(1);
            let outlet = Arc::clone(&self.outlet);
            let outbox = Arc::new(Outbox::new(here, Token(0), outlet, account));
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

    /// A fan-out whose thread does not take what is left to it.
    fn without_thread() -> (Fanout, Receiver<Item>) {
        let (items, receiver) = bounded(CHANNEL);
        let shared = Arc::new(Shared::default());
        let thread = thread::spawn(|| ());
        let fanout = Fanout {
            items,
            shared,
            thread,
            sent: Cell::new(0),
        };
        (fanout, receiver)
    }

    fn play(items: Vec<Item>) {
        let fanout = Fanout::start().unwrap();
        for item in items {
            fanout.hand_over(item, false);
        }
        fanout.end().unwrap();
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
                (message(5), To::One(9)),
                (message(6), To::Many([1, 3, 9].into())),
            ]),
        ]);
        let posted = |id| format!("650 POSTMESSAGE {id} a @all x\r\n");
        let all = [1, 2, 6].map(posted).concat();
        assert_eq!(messages.read(), format!("[1]{all}"));
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
        assert_eq!(
            binary.read(),
            format!("[2]{}{}{}", frame(1), frame(2), frame(6))
        );
    }

    #[test]
    fn events_for_the_same_ones_are_one_piece_of_their_share() {
        let here = Here::new();
        let mut peers = [(); 4].map(|()| here.peer());
        let mut delivery = Delivery::default();
        for (session, peer) in (0..).zip(&peers) {
            delivery.take(peer.subscribe(session, Dialect::Text, &[]));
        }
        delivery.deliver();
        let those: Arc<[_]> = [0, 1, 3].into();
        let post = |id, to: &Arc<[_]>| (message(id), To::Many(Arc::clone(to)));
        // What is for the subscribers too is for nobody here.
        let posts = (1..=9).flat_map(|id| [post(id, &those), (message(id), To::Subscribers)]);
        delivery.take(Item::Events(posts.collect()));
        assert_eq!(delivery.pieces(), [1, 1, 1]);
        delivery.take(Item::Events(vec![post(10, &[1].into()), post(11, &those)]));
        assert_eq!(delivery.pieces(), [2, 1, 2]);
        delivery.deliver();
        for (session, peer) in peers.iter_mut().enumerate() {
            let ids = (1..=11).filter(|id| !matches!((id, session), (_, 2) | (10, 0 | 3)));
            let posted = ids.map(|id| format!("650 POSTMESSAGE {id} a @all x\r\n"));
            assert_eq!(peer.read(), format!("[0]{}", posted.collect::<String>()));
        }
    }

    #[test]
    fn large_shares_of_many_are_the_same_as_small_ones() {
        let here = Here::new();
        let dialects = [Dialect::Text, Dialect::Tc];
        let mut peers: Vec<_> = (0..MANY)
            .map(|index| (dialects[index % 2], here.peer()))
            .collect();
        let mut delivery = Delivery::default();
        for (session, (dialect, peer)) in (0..).zip(&peers) {
            delivery.take(peer.subscribe(session, *dialect, &[EventKind::PostMessage]));
        }
        delivery.deliver();
        let posts = |ids: Range<u64>| ids.map(|id| (message(id), To::Subscribers)).collect();
        delivery.take(Item::Events(vec![(message(1), To::One(1))]));
        delivery.take(Item::Events(posts(1000..3000)));
        delivery.deliver();
        delivery.take(Item::Events(posts(3000..4000)));
        delivery.deliver();
        for (session, (dialect, peer)) in peers.iter_mut().enumerate() {
            let mut octets = b"[1]".to_vec();
            for id in (1..2).filter(|_| session == 1).chain(1000..4000) {
                dialect.encode_event(&message(id), &mut octets);
            }
            assert_eq!(peer.read(), String::from_utf8_lossy(&octets), "{session}");
        }
    }

    #[test]
    fn little_is_delivered_at_once_unless_something_is_before_it() {
        let here = Here::new();
        let mut peers: Vec<_> = (0..=FEW).map(|_| here.peer()).collect();
        let post = |ids: Range<u64>, to: &To| {
            Item::Events(ids.map(|id| (message(id), to.clone())).collect())
        };
        let posted = "650 POSTMESSAGE 1 a @all x\r\n";
        let reply = |octets: usize| {
            peers[0].outbox.handed_over();
            Item::Reply {
                outbox: Arc::clone(&peers[0].outbox),
                session: 0,
                octets: vec![b'r'; octets],
                inside: false,
                finish: false,
            }
        };
        let (all, one) = (To::Subscribers, To::One(3));
        for (item, is_little) in [
            (post(1..2, &one), true),
            (post(1..3, &one), false),
            (post(1..2, &all), false),
            (reply(1000), true),
            (reply(LARGE), true),
            (reply(LARGE + 1), false),
            (Item::Leave(0), true),
            (Item::Stop, false),
        ] {
            let (fanout, thread) = without_thread();
            for (session, peer) in (0..).zip(&peers) {
                let kinds = &[EventKind::PostMessage];
                fanout.hand_over(peer.subscribe(session, Dialect::Text, kinds), true);
            }
            let what = format!("{item:?}");
            fanout.hand_over(item, true);
            assert_eq!(thread.is_empty(), is_little, "{what}");
        }
        let said: Vec<_> = peers.iter_mut().map(Peer::read).collect();
        assert_eq!(said[1], "[1]".repeat(8));
        assert_eq!(said[3], format!("[1]{posted}{}", "[1]".repeat(7)));
        let (fanout, thread) = without_thread();
        fanout.hand_over(Item::Leave(0), false);
        fanout.hand_over(Item::Leave(1), true);
        assert_eq!(thread.len(), 2);
    }

    #[test]
    fn both_ways_together_keep_the_order() {
        let here = Here::new();
        let mut peer = here.peer();
        let fanout = Fanout::start().unwrap();
        let subscription = peer.subscribe(1, Dialect::Text, &[EventKind::PostMessage]);
        fanout.hand_over(subscription, false);
        let mut read = String::new();
        for id in 1..=5000 {
            let item = Item::Events(vec![(message(id), To::One(1))]);
            fanout.hand_over(item, !id.is_multiple_of(3));
            if id.is_multiple_of(10) {
                while fanout.shared.pending.load(Ordering::Acquire) > 0 {
                    thread::yield_now();
                }
                read += &peer.read();
            }
        }
        fanout.end().unwrap();
        read += &peer.read();
        let posted = (1..=5000).map(|id| format!("650 POSTMESSAGE {id} a @all x\r\n"));
        assert_eq!(read, format!("[1]{}", posted.collect::<String>()));
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
