//! One controller's connection, as the loop sees it.

use std::fmt;
use std::sync::Arc;

use super::relay::Relay;
use crate::outbox::Outbox;
use crate::session::Session;

/// One controller's connection.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) outbox: Arc<Outbox>,
    /// What has come and is not consumed: the beginning of a command, or what waits until
    /// replies are read.
    pub(super) input: Vec<u8>,
    /// There may be more to read.
    pub(super) readable: bool,
    /// The other end has closed at least its half: read on until nothing comes.
    pub(super) hung_up: bool,
    /// Nothing more will come.
    pub(super) ended: bool,
    /// `input` holds whole commands, which wait until replies are read or Tor has answered.
    pub(super) stalled: bool,
    /// Long replies take the way through the fan-out: no more are made until it has sent them.
    pub(super) much_handed_over: bool,
    /// It ends with what was sent last.
    pub(super) finishing: bool,
    /// It waits for its turn.
    pub(super) queued: bool,
    /// The fan-out knows of it.
    pub(super) subscribed: bool,
    /// The daemon ends when this controller leaves (control-spec 3.23).
    pub(super) owner: bool,
    /// Its own connection to Tor, once it needs one.
    pub(super) relay: Option<Box<Relay>>,
    /// Its connection to Tor waits for its turn.
    pub(super) link_queued: bool,
    /// Why Tor could not be reached for the command that comes next.
    pub(super) tor_failure: Option<String>,
    /// Its SETEVENTS waits for Tor.
    pub(super) awaits_feed: bool,
}

impl Connection {
    pub(super) const fn new(session: Session, outbox: Arc<Outbox>) -> Self {
        Self {
            session,
            outbox,
            input: Vec::new(),
            readable: false,
            hung_up: false,
            ended: false,
            stalled: false,
            much_handed_over: false,
            finishing: false,
            queued: false,
            subscribed: false,
            owner: false,
            relay: None,
            link_queued: false,
            tor_failure: None,
            awaits_feed: false,
        }
    }
}

/// How the log names a controller.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.session.peer();
        let id = self.session.id();
        write!(f, "session {id} (uid {}, pid {})", peer.uid, peer.pid)
    }
}
