//! How many controllers have subscribed to each kind of event.

use crate::wire::event::{EventKind, EventMask};

/// Counts subscribers, so that an event that nobody wants is never made.
#[derive(Debug)]
pub(super) struct Interest {
    subscribers: [u32; EventKind::COUNT],
    mask: EventMask,
}

impl Default for Interest {
    fn default() -> Self {
        Self {
            subscribers: [0; EventKind::COUNT],
            mask: EventMask::NONE,
        }
    }
}

impl Interest {
    /// The kinds with at least one subscriber.
    pub(super) const fn mask(&self) -> EventMask {
        self.mask
    }

    /// One controller has subscribed to `after` where it had to `before`.
    pub(super) fn change(&mut self, before: EventMask, after: EventMask) {
        for kind in before.kinds() {
            self.subscribers[kind.index()] -= 1;
        }
        for kind in after.kinds() {
            self.subscribers[kind.index()] += 1;
        }
        self.mask = EventKind::all()
            .filter(|kind| self.subscribers[kind.index()] > 0)
            .collect();
    }
}
