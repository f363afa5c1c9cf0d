//! Items: what the loop hands to the fan-out, in order.

use std::sync::Arc;

use super::{SessionId, To};
use crate::outbox::Outbox;
use crate::wire::Dialect;
use crate::wire::event::{Event, EventMask};

/// One thing for the fan-out to deliver, or to know.
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

impl Item {
    /// The octets that it has, as far as they can be many.
    pub(super) fn octets(&self) -> usize {
        match self {
            Self::Events(events) => events.iter().map(|(event, _)| event.octets()).sum(),
            Self::Subscribe { reply, .. } => reply.len(),
            Self::Reply { octets, .. } => octets.len(),
            Self::Leave(_) | Self::Stop => 0,
        }
    }
}
