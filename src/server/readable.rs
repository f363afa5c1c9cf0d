//! Whether a socket is to be read before the loop is told of more.

/// What there may be to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Readable {
    /// Nothing.
    No,
    /// Something: a read that comes back short has brought the last.
    Some,
    /// Something, and its end, descriptors or urgent octets stand between: a short read does not
    /// mean that nothing more is there, only the kernel says so.
    All,
}

impl Readable {
    pub(super) fn is_any(self) -> bool {
        self != Self::No
    }

    /// Notes what the loop has heard of the socket.
    pub(super) fn heard(&mut self, event: &mio::event::Event) {
        if event.is_read_closed() || event.is_error() || event.is_priority() {
            *self = Self::All;
        } else if event.is_readable() {
            *self = Self::Some.max(*self);
        }
    }

    /// A read has brought `read` octets, where there was room for `room`.
    pub(super) fn has_read(&mut self, read: usize, room: usize) {
        if *self == Self::Some && read < room {
            *self = Self::No;
        }
    }
}
