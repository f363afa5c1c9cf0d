//! A connection to Tor that is logged in before a controller needs it: opening one takes several
//! round trips. There is at most one, opened once a controller has needed its own, so that a bus
//! nobody asks about Tor keeps none.

use mio::event::Event;
use mio::{Registry, Token};

use super::link::{Got, Link};
use super::{SPARE, Server};

impl Server {
    /// A connection to Tor for a controller, to be registered under `token`.
    pub(super) fn take_link(&mut self, token: Token) -> Result<Link, String> {
        let spare = self.tor.as_mut().and_then(|tor| {
            tor.spare_is_due = true;
            tor.spare.take()
        });
        if let Some(mut link) = spare
            && link.pass_on(token, self.poll.registry())
        {
            return Ok(link);
        }
        self.open_link(token)
    }

    /// Sees to it that there is one for the next controller. To be called when Tor has answered
    /// one: to open another keeps Tor busy for a moment. It is tried once for each that was taken:
    /// where none can be had, Tor would be asked for one at every answer.
    pub(super) fn keep_spare(&mut self) {
        if self.tor.as_ref().is_some_and(|tor| tor.spare_is_due) {
            self.ready.push(Token(SPARE));
        }
    }

    /// Notes what the loop has heard of the spare connection.
    pub(super) fn spare_is_ready(&mut self, event: &Event) {
        if let Some(link) = self.tor.as_mut().and_then(|tor| tor.spare.as_mut()) {
            link.heard(event, self.poll.registry());
            self.ready.push(Token(SPARE));
        }
    }

    /// A turn of the spare connection: it is opened, goes on with its login, or has ended.
    pub(super) fn take_spare_turn(&mut self) {
        let Some(tor) = &mut self.tor else { return };
        let is_due = std::mem::take(&mut tor.spare_is_due);
        let spare = match tor.spare.take() {
            Some(mut link) => goes_on(&mut link, self.poll.registry()).then_some(link),
            // If none can be had, the controller that needs one is told why.
            None if is_due => self.open_link(Token(SPARE)).ok(),
            None => None,
        };
        if let Some(tor) = &mut self.tor {
            tor.spare = spare;
        }
    }
}

/// Takes what Tor has said on a connection that nobody uses; `false` if it is of no use any more.
fn goes_on(link: &mut Link, registry: &Registry) -> bool {
    let mut buffer = [0; 4096];
    match link.read(&mut buffer) {
        Got::Nothing => true,
        Got::Octets(length) => !link.is_open() && link.log_in(&buffer[..length], registry).is_ok(),
        Got::End => false,
    }
}
