//! Who has subscribed to what, and what of the encoded events is for them.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use slab::Slab;

use super::SessionId;
use crate::account::{Bound, SLACK};
use crate::outbox::Outbox;
use crate::wire::Dialect;
use crate::wire::event::{EventKind, EventMask};

/// Who has subscribed, found by session and by kind.
#[derive(Debug)]
pub(super) struct Subscribers {
    pub(super) all: Slab<Subscriber>,
    keys: HashMap<SessionId, usize>,
    pub(super) by_kind: [Vec<usize>; EventKind::COUNT],
    /// Those with [`EventMask::ANY_LOG`].
    pub(super) any_log: Vec<usize>,
    speakers: [usize; Dialect::ALL.len()],
}

#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) dialect: Dialect,
    events: EventMask,
    pub(super) outbox: Arc<Outbox>,
    /// Which octets of its dialect's lane are for it.
    pub(super) share: Vec<Range<usize>>,
    /// Part of a reply was sent and the rest has not come: no event may go between.
    pub(super) inside: bool,
}

/// From so many octets on a share is large: to send it as pages is cheaper than to write it.
pub(super) const LARGE: usize = 16 * 1024;

/// So many ranges of a share stay allocated between deliveries.
pub(super) const SHARE: usize = 4;

impl Default for Subscribers {
    fn default() -> Self {
        Self {
            all: Slab::new(),
            keys: HashMap::new(),
            by_kind: [const { Vec::new() }; EventKind::COUNT],
            any_log: Vec::new(),
            speakers: [0; Dialect::ALL.len()],
        }
    }
}

impl Subscribers {
    pub(super) fn subscribe(
        &mut self,
        session: SessionId,
        dialect: Dialect,
        events: EventMask,
        outbox: Arc<Outbox>,
    ) {
        let key = *self.keys.entry(session).or_insert_with(|| {
            self.speakers[dialect as usize] += 1;
            self.all.insert(Subscriber {
                dialect,
                events: EventMask::NONE,
                outbox,
                share: Vec::new(),
                inside: false,
            })
        });
        let before = std::mem::replace(&mut self.all[key].events, events);
        self.list(key, before, events);
    }

    pub(super) fn leave(&mut self, session: SessionId) {
        let Some(key) = self.keys.remove(&session) else {
            return;
        };
        let subscriber = self.all.remove(key);
        self.speakers[subscriber.dialect as usize] -= 1;
        self.list(key, subscriber.events, EventMask::NONE);
    }

    /// Brings the lists by kind up to date.
    fn list(&mut self, key: usize, before: EventMask, after: EventMask) {
        let list = |list: &mut Vec<usize>, before, after| match (before, after) {
            (false, true) => list.push(key),
            (true, false) => {
                if let Some(index) = list.iter().position(|&listed| listed == key) {
                    list.swap_remove(index);
                }
            }
            _ => {}
        };
        for (kind, by_kind) in EventKind::all().zip(&mut self.by_kind) {
            list(by_kind, before.contains(kind), after.contains(kind));
        }
        list(&mut self.any_log, before.has_any_log(), after.has_any_log());
    }

    /// Whether anybody here speaks this dialect.
    pub(super) fn speak(&self, dialect: Dialect) -> bool {
        self.speakers[dialect as usize] > 0
    }

    /// Keeps what waits for all of them together from exceeding a bound by more than [`SLACK`],
    /// where the loop is not there in time to decide who loses: of the user with the most, those
    /// for whom the most waits are cut off. `key` is one for whom more waits than before.
    pub(super) fn relieve(&self, key: usize) {
        // Where nothing waits, the numbers that the loop changes with each message are not read.
        let outbox = self.all.get(key).map(|one| &one.outbox);
        let Some(outbox) = outbox.filter(|outbox| outbox.charged() > 0) else {
            return;
        };
        let grown = outbox.account();
        while let Some(excess) = grown.excess(SLACK) {
            let waiting = || {
                let outboxes = self.all.iter().map(|(_, subscriber)| &subscriber.outbox);
                outboxes.filter(|outbox| outbox.charged() > 0)
            };
            let greediest = match excess.bound {
                Bound::All => waiting().max_by_key(|outbox| outbox.account().held()),
                Bound::Queue | Bound::User => {
                    waiting().find(|one| one.account().uid() == grown.uid())
                }
            };
            // Else none of it waits here, and the loop must free something.
            let Some(uid) = greediest.map(|outbox| outbox.account().uid()) else {
                return;
            };
            let mut theirs: Vec<_> = waiting()
                .filter(|outbox| outbox.account().uid() == uid)
                .map(|outbox| (outbox.charged(), outbox))
                .collect();
            theirs.sort_unstable_by_key(|(charged, _)| std::cmp::Reverse(*charged));
            let mut freed = 0;
            for (charged, outbox) in theirs {
                outbox.cut_off(excess.bound);
                freed += charged;
                if freed >= excess.octets {
                    break;
                }
            }
        }
    }

    /// The place of a controller among all.
    pub(super) fn key(&self, session: SessionId) -> Option<usize> {
        self.keys.get(&session).copied()
    }

    pub(super) fn find(&mut self, session: SessionId) -> Option<(usize, &mut Subscriber)> {
        let key = self.key(session)?;
        Some((key, &mut self.all[key]))
    }
}

impl Subscriber {
    /// Adds an event, that is octets of its `lane`, to its share, or to what waits for the end of
    /// a reply.
    pub(super) fn add_event(
        &mut self,
        key: usize,
        lane: &[u8],
        range: Range<usize>,
        touched: &mut Vec<usize>,
    ) {
        if !self.inside {
            return self.add(key, range, touched);
        }
        self.outbox.hold(&lane[range]);
    }

    /// Its share, if that is one large piece.
    pub(super) fn large_share(&self) -> Option<Range<usize>> {
        match &self.share[..] {
            [range] if range.len() >= LARGE => Some(range.clone()),
            _ => None,
        }
    }

    /// Adds octets of its lane to its share.
    pub(super) fn add(&mut self, key: usize, range: Range<usize>, touched: &mut Vec<usize>) {
        if range.is_empty() {
            return;
        }
        match self.share.last_mut() {
            None => {
                touched.push(key);
                self.share.push(range);
            }
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) => self.share.push(range),
        }
    }
}
