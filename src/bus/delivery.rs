//! Encodes events and gives each subscriber its share of them.
//!
//! Every event is encoded once per dialect, and then each outbox gets its whole share in one
//! vectored write: the number of writes is what a delivery costs. Where many have a large share,
//! the octets are what it costs: then the kernel gets them once, in pages that all sockets refer
//! to. Changes of subscription are taken in the same order as events, so an event is judged by
//! what was subscribed to when it happened.

use std::cell::OnceCell;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::item::Item;
use super::subscribers::{LARGE, SHARE, Subscribers};
use super::{SessionId, To};
use crate::outbox::Outbox;
use crate::sys::pages::{self, Pages};
use crate::wire::Dialect;
use crate::wire::binary;
use crate::wire::event::{Event, EventKind};

/// Once so many octets are encoded they are delivered, whatever else waits.
const BATCH: usize = 128 * 1024;

/// To write to so many takes the loop about as long as to wake the thread that would.
pub(super) const FEW: usize = 8;

/// So many with a [large share](LARGE) are sent pages: for fewer, or on readers that share a core
/// with whoever delivers, a write to each costs no more.
pub(super) const MANY: usize = 16;

/// Who has subscribed to what, and what is to be delivered to them.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    subscribers: Subscribers,
    lanes: [Lane; Dialect::ALL.len()],
    /// Those who get the events at the end of the lanes that nobody has a share in yet.
    run: Option<Run>,
    /// The messages among them.
    run_messages: u64,
    /// The messages in the lanes and in all before, one for each who gets it.
    messages: u64,
    /// The same for others to read. Only whoever delivers writes to it.
    delivered: Arc<AtomicU64>,
    /// Who has a share in the lanes.
    touched: Vec<usize>,
    /// Who has to hear that its replies were sent.
    handed_over: Vec<(Arc<Outbox>, bool)>,
}

/// Those who get one event after the other.
#[derive(Debug)]
enum Run {
    /// Who has subscribed to a kind.
    Kind(EventKind),
    /// Some of them.
    Those(Arc<[SessionId]>),
}

/// What is encoded for one dialect since the last delivery.
#[derive(Debug, Default)]
struct Lane {
    octets: Vec<u8>,
    /// Where the current run begins.
    run: usize,
}

impl Delivery {
    /// The number of messages that were delivered, one for each who got it.
    pub(super) fn delivered(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.delivered)
    }

    /// Takes one item into the lanes; `false` after the last.
    pub(super) fn take(&mut self, item: Item) -> bool {
        match item {
            Item::Events(events) => {
                for (event, to) in events {
                    match to {
                        To::Subscribers => {
                            self.broadcast(&event);
                            self.broadcast_any_log(&event);
                        }
                        To::One(session) => self.direct(session, &event),
                        To::Many(sessions) => self.several(sessions, &event),
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

    /// Whether enough is encoded to be delivered.
    pub(super) fn is_full(&self) -> bool {
        self.lanes
            .iter()
            .map(|lane| lane.octets.len())
            .sum::<usize>()
            >= BATCH
    }

    /// Whether an item is one event for a few, or for one controller.
    pub(super) fn is_for_few(&self, item: &Item) -> bool {
        match item {
            Item::Events(events) => matches!(&events[..], [one] if self.recipients(one) <= FEW),
            Item::Subscribe { .. } | Item::Reply { .. } | Item::Leave(_) => true,
            Item::Stop => false,
        }
    }

    /// Whether what was taken is no more than a few writes of some pages.
    pub(super) fn is_little(&mut self) -> bool {
        self.share_run();
        let taken = self
            .touched
            .iter()
            .filter_map(|&key| self.subscribers.all.get(key));
        let octets: usize = taken.flat_map(|one| &one.share).map(Range::len).sum();
        octets <= LARGE
    }

    /// How many get an event.
    fn recipients(&self, (event, to): &(Event, To)) -> usize {
        match to {
            To::Subscribers => {
                self.subscribers.by_kind[event.kind().index()].len()
                    + self.subscribers.any_log.len()
            }
            To::One(_) => 1,
            To::Many(sessions) => sessions.len(),
        }
    }

    /// Encodes an event for everybody who subscribed to its kind.
    fn broadcast(&mut self, event: &Event) {
        let kind = event.kind();
        if self.subscribers.by_kind[kind.index()].is_empty() {
            return;
        }
        if !matches!(self.run, Some(Run::Kind(known)) if known == kind) {
            self.begin_run(Run::Kind(kind));
        }
        self.encode(event);
    }

    /// Encodes an event for some of them. Those who get one after the other are told apart by where
    /// they are listed, not one by one.
    fn several(&mut self, sessions: Arc<[SessionId]>, event: &Event) {
        let is_same = |run: &Run| matches!(run, Run::Those(those) if Arc::ptr_eq(those, &sessions));
        if !self.run.as_ref().is_some_and(is_same) {
            self.begin_run(Run::Those(sessions));
        }
        self.encode(event);
    }

    fn begin_run(&mut self, run: Run) {
        self.share_run();
        self.run = Some(run);
        for lane in &mut self.lanes {
            lane.run = lane.octets.len();
        }
    }

    /// Encodes an event in each dialect that anybody speaks.
    fn encode(&mut self, event: &Event) {
        self.run_messages += u64::from(event.kind() == EventKind::PostMessage);
        for dialect in Dialect::ALL {
            if self.subscribers.speak(dialect) {
                note_cut(dialect.encode_event(event, &mut self.lanes[dialect as usize].octets));
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
        for index in 0..self.subscribers.any_log.len() {
            let key = self.subscribers.any_log[index];
            let subscriber = &mut self.subscribers.all[key];
            subscriber.add_event(key, octets, share.clone(), &mut self.touched);
            self.subscribers.relieve(key);
        }
    }

    /// Gives those who get it their share in the run, if there is one.
    fn share_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let messages = std::mem::take(&mut self.run_messages);
        let shares = self
            .lanes
            .each_ref()
            .map(|lane| lane.run..lane.octets.len());
        let count = match &run {
            Run::Kind(kind) => self.subscribers.by_kind[kind.index()].len(),
            Run::Those(sessions) => sessions.len(),
        };
        for index in 0..count {
            let key = match &run {
                Run::Kind(kind) => Some(self.subscribers.by_kind[kind.index()][index]),
                Run::Those(sessions) => self.subscribers.key(sessions[index]),
            };
            let Some(key) = key else { continue };
            let subscriber = &mut self.subscribers.all[key];
            let octets = &self.lanes[subscriber.dialect as usize].octets;
            let share = shares[subscriber.dialect as usize].clone();
            subscriber.add_event(key, octets, share, &mut self.touched);
            self.subscribers.relieve(key);
            self.messages += messages;
        }
    }

    /// The number of pieces in the share of each who has one.
    #[cfg(test)]
    pub(super) fn pieces(&mut self) -> Vec<usize> {
        self.share_run();
        let share = |key: &usize| self.subscribers.all[*key].share.len();
        self.touched.iter().map(share).collect()
    }

    fn direct(&mut self, session: SessionId, event: &Event) {
        self.share_run();
        let Some((key, subscriber)) = self.subscribers.find(session) else {
            return;
        };
        self.messages += u64::from(event.kind() == EventKind::PostMessage);
        let lane = &mut self.lanes[subscriber.dialect as usize];
        let start = lane.octets.len();
        note_cut(subscriber.dialect.encode_event(event, &mut lane.octets));
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
            subscriber.outbox.take_held(&mut lane.octets);
        }
        subscriber.add(key, start..lane.octets.len(), &mut self.touched);
    }

    /// Writes every share, and forgets what was encoded.
    pub(super) fn deliver(&mut self) {
        self.share_run();
        // Whoever has read a message finds it counted.
        self.delivered.store(self.messages, Ordering::Relaxed);
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
            self.subscribers.relieve(key);
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

/// Logs that an event was too long for a dialect.
fn note_cut(octets: usize) {
    if octets > 0 {
        let whole = binary::MAX_BODY + octets;
        log::warn!(
            "an event is cut from {whole} to {} octets",
            binary::MAX_BODY
        );
    }
}
