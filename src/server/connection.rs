//! One controller's connections, as the loop sees them.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use super::accept::SocketName;
use super::link::Link;
use super::readable::Readable;
use crate::account::Charge;
use crate::bus::Left;
use crate::controller::{Controller, Stage};
use crate::outbox::Outbox;
use crate::policy::Identity;
use crate::wire::message::ControllerId;

/// One controller with its sockets.
pub(super) struct Connection {
    /// The connection's place among the others.
    pub(super) key: usize,
    pub(super) controller: Controller,
    pub(super) outbox: Arc<Outbox>,
    /// What is kept of it besides that.
    pub(super) charge: Charge,
    /// The socket that it came to.
    pub(super) socket: Arc<SocketName>,
    /// The name of its program, if it shall be called by it once it has logged in.
    pub(super) program: Option<ControllerId>,
    /// What the kernel says of who it is, where that is written down and no policy asks for it.
    pub(super) identity: Option<Arc<Identity>>,
    /// Its own connection to Tor, once it needs one: the socket of its leg.
    pub(super) link: Option<Box<Link>>,
    /// The time by which whatever it must do now is done: what that is, its state says.
    pub(super) deadline: Option<Instant>,
    /// When it came, in seconds since the daemon did.
    pub(super) since: u64,
    /// The octets that waited for it when it began to linger.
    pub(super) lingering: usize,
    /// How it left the bus, once it has: what it sent before is still carried out.
    pub(super) left: Option<Box<Left>>,
    /// There may be more to read.
    pub(super) readable: Readable,
    /// It waits for its turn.
    pub(super) queued: bool,
    /// Its connection to Tor waits for its turn.
    pub(super) leg_queued: bool,
}

impl Connection {
    pub(super) fn new(
        key: usize,
        controller: Controller,
        outbox: Arc<Outbox>,
        socket: Arc<SocketName>,
    ) -> Self {
        let charge = Charge::new(Arc::clone(outbox.account()), 0);
        Self {
            key,
            controller,
            outbox,
            charge,
            socket,
            program: None,
            identity: None,
            link: None,
            deadline: None,
            since: 0,
            lingering: 0,
            left: None,
            readable: Readable::No,
            queued: false,
            leg_queued: false,
        }
    }

    /// Notes what the loop has heard of the controller's socket.
    pub(super) fn heard(&mut self, event: &mio::event::Event) {
        self.readable.heard(event);
        if event.is_write_closed() || event.is_error() {
            self.is_gone();
        }
        if event.is_writable() || event.is_write_closed() {
            self.outbox.flush();
        }
    }

    /// Notes what is kept of it after a turn.
    pub(super) fn note_charge(&mut self) {
        let link = self.link.as_ref().map_or(0, |link| link.held());
        self.charge.set(self.controller.held() + link);
    }

    /// The octets of memory that it holds.
    pub(super) fn held(&self) -> usize {
        self.charge.octets() + self.outbox.charged()
    }

    /// The other end is gone, or will never read again.
    pub(super) fn is_gone(&mut self) {
        if self.controller.stage < Stage::Gone {
            self.controller.stage = Stage::Gone;
            // Whatever it wrote before is still there.
            self.readable = Readable::All;
        }
    }
}

/// Its controller is what most of the loop asks it for.
impl Deref for Connection {
    type Target = Controller;

    fn deref(&self) -> &Controller {
        &self.controller
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Controller {
        &mut self.controller
    }
}
