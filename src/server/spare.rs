//! A connection to Tor that is logged in before a controller needs it: opening one takes several
//! round trips. There is at most one, opened once a controller has needed its own, so that a bus
//! nobody asks about Tor keeps none.

use mio::event::Event;

use super::daemon::Daemon;
use super::link::{Link, Read};
use super::source::Source;

impl Daemon {
    /// A connection to Tor for a controller, to be registered as `source`.
    pub(super) fn take_link(&mut self, source: Source) -> Result<Link, String> {
        let spare = self.tor.as_mut().and_then(|tor| {
            tor.spare_is_due = true;
            tor.spare.take()
        });
        if let Some(mut link) = spare
            && link.pass_on(source, &self.registry)
        {
            return Ok(link);
        }
        self.open_link(source)
    }

    /// Sees to it that there is one for the next controller. To be called when Tor has answered
    /// one: to open another keeps Tor busy for a moment. It is tried once for each that was taken:
    /// where none can be had, Tor would be asked for one at every answer.
    pub(super) fn keep_spare(&mut self) {
        if self.tor.as_ref().is_some_and(|tor| tor.spare_is_due) {
            self.queue.push_once(Source::Spare);
        }
    }

    /// Notes what the loop has heard of the spare connection.
    pub(super) fn spare_is_ready(&mut self, event: &Event) {
        if let Some(link) = self.tor.as_mut().and_then(|tor| tor.spare.as_mut()) {
            if link.heard(event) {
                link.flush(&mut Vec::new(), &self.registry);
            }
            self.queue.push_once(Source::Spare);
        }
    }

    /// A turn of the spare connection: it is opened, goes on with its login, or has ended.
    pub(super) fn take_spare_turn(&mut self) {
        let Some(tor) = &mut self.tor else { return };
        let is_due = std::mem::take(&mut tor.spare_is_due);
        let spare = match tor.spare.take() {
            Some(mut link) => self.spare_goes_on(&mut link).then_some(link),
            // If none can be had, the controller that needs one is told why.
            None if is_due => self.open_link(Source::Spare).ok(),
            None => None,
        };
        if spare.as_ref().is_some_and(|link| link.readable.is_any()) {
            self.queue.push_once(Source::Spare);
        }
        if let Some(tor) = &mut self.tor {
            tor.spare = spare;
        }
    }

    /// Takes what Tor has said on a connection that nobody uses; `false` if the connection is of no
    /// use any more.
    fn spare_goes_on(&self, link: &mut Link) -> bool {
        let mut buffer = [0; 4096];
        let (length, read) = link.read(&mut buffer);
        if length > 0 {
            if link.is_open() {
                return false;
            }
            if link
                .log_in(buffer.get(..length).unwrap_or_default(), &self.state)
                .is_err()
            {
                return false;
            }
            link.flush(&mut Vec::new(), &self.registry);
        }
        read == Read::Open
    }
}
