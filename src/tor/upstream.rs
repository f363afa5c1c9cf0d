//! The Tor behind the bus: whether it is there, when it is tried again, what is known of it.

use std::time::{Duration, Instant};

use super::fence::Fence;
use super::identifiers::Identifiers;
use super::names::Names;
use super::watcher::{Subscription, Watcher};

/// The first and the longest time until Tor is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The most reasons that are told apart while it is not there.
const MISSED: usize = 8;

/// One Tor.
#[derive(Debug)]
pub struct Upstream {
    /// The fence of every connection to it.
    pub fence: Fence,
    /// Circuits and streams, as binary controllers know them.
    pub identifiers: Identifiers,
    /// Events that only it has a name for.
    pub names: Names,
    /// The version of the Tor that is there, or was last.
    version: Option<String>,
    /// The numbers of the buses on the way to it, the nearest first, between blanks.
    chain: Vec<u8>,
    state: State,
    /// The next wait before it is tried again.
    wait: Duration,
    /// Why it is not there, as was said: an unreachable host with several addresses has a reason
    /// for each.
    missed: Vec<String>,
    /// It was said that fences do not get through.
    is_filtered: bool,
}

#[derive(Debug)]
enum State {
    /// A connection is to be opened, or is tried again at this time.
    Away(Option<Instant>),
    /// The login is under way, and fails at this time.
    Coming(Instant),
    /// The daemon's conversation with it.
    There(Box<Watcher>),
}

/// A failure that has come for the first time since Tor was there or failed otherwise, or again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// For the first time.
    First,
    /// Again.
    Again,
}

impl Upstream {
    /// A Tor that nobody has tried yet. `random` makes the fence.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self {
            fence: Fence::new(random),
            identifiers: Identifiers::default(),
            names: Names::default(),
            version: None,
            chain: Vec::new(),
            state: State::Away(None),
            wait: RETRY.0,
            missed: Vec::new(),
            is_filtered: false,
        }
    }

    /// The version of the Tor that is there, or was last.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The numbers of the buses on the way to Tor, the nearest first.
    #[must_use]
    pub fn chain(&self) -> &[u8] {
        &self.chain
    }

    /// The daemon's conversation with Tor, while it is there.
    #[must_use]
    pub fn watcher(&mut self) -> Option<&mut Watcher> {
        match &mut self.state {
            State::There(watcher) => Some(watcher),
            _ => None,
        }
    }

    /// The daemon's conversation with Tor, and the names of its events.
    pub fn watcher_and_names(&mut self) -> Option<(&mut Watcher, &Names)> {
        match &mut self.state {
            State::There(watcher) => Some((watcher, &self.names)),
            _ => None,
        }
    }

    /// Whether nobody knows yet if Tor is there.
    #[must_use]
    pub const fn is_awaited(&self) -> bool {
        self.version.is_none() && matches!(self.state, State::Coming(_))
    }

    /// Whether a connection is to be opened, for which it is time at [`Self::poll_timeout`] or when
    /// somebody has seen Tor come.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        matches!(self.state, State::Away(_))
    }

    /// Whether it is there, and has let the daemon in.
    #[must_use]
    pub const fn is_there(&self) -> bool {
        matches!(self.state, State::There(_))
    }

    /// Whether the login is under way.
    #[must_use]
    pub const fn is_coming(&self) -> bool {
        matches!(self.state, State::Coming(_))
    }

    /// A connection is being opened; Tor has `patience` to let it in.
    pub fn handle_connecting(&mut self, now: Instant, patience: Duration) {
        self.state = State::Coming(now + patience);
    }

    /// The login is done; `true` for `is_filtered` where fences do not get through. Says whether
    /// that is new.
    pub fn handle_up(&mut self, version: String, chain: Vec<u8>, is_filtered: bool) -> bool {
        self.version = Some(version);
        self.chain = chain;
        self.wait = RETRY.0;
        self.missed.clear();
        self.state = State::There(Box::default());
        is_filtered && !std::mem::replace(&mut self.is_filtered, true)
    }

    /// The daemon's connection has failed or ended. Says whether Tor was there, or how often that
    /// has failed; and who waits for it.
    pub fn handle_gone(
        &mut self,
        now: Instant,
        cause: &str,
    ) -> (Option<Failure>, Vec<Subscription>) {
        let before = std::mem::replace(&mut self.state, State::Away(Some(now + self.wait)));
        if let State::There(watcher) = before {
            return (None, watcher.handle_gone().collect());
        }
        self.wait = (self.wait * 2).min(RETRY.1);
        let failure = if self.missed.iter().any(|missed| missed == cause) {
            Failure::Again
        } else {
            if self.missed.len() == MISSED {
                self.missed.clear();
            }
            self.missed.push(cause.to_owned());
            Failure::First
        };
        (Some(failure), Vec::new())
    }

    /// It is tried at this time at the latest.
    pub fn hasten(&mut self, latest: Instant) {
        if let State::Away(Some(retry)) = &mut self.state {
            *retry = latest.min(*retry);
        }
    }

    /// Something has happened where Tor's socket is: it is tried soon again, whatever was before.
    pub const fn handle_sign_of_life(&mut self) {
        self.wait = RETRY.0;
    }

    /// The time at which something is due: a connection is to be opened, or Tor should have
    /// answered.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Away(retry) => *retry,
            State::Coming(deadline) => Some(*deadline),
            State::There(watcher) => watcher.poll_timeout(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        Upstream::new([0; 16])
    }

    #[test]
    fn tor_is_tried_less_and_less_often_until_it_comes() {
        let mut tor = upstream();
        let now = Instant::now();
        assert!(tor.is_away());
        assert_eq!(tor.poll_timeout(), None);
        for (millis, failure) in [
            (100, Failure::First),
            (200, Failure::Again),
            (400, Failure::Again),
        ] {
            tor.handle_connecting(now, Duration::from_secs(30));
            assert_eq!(tor.poll_timeout(), Some(now + Duration::from_secs(30)));
            assert_eq!(tor.handle_gone(now, "x").0, Some(failure));
            assert_eq!(
                tor.poll_timeout(),
                Some(now + Duration::from_millis(millis))
            );
        }
        tor.handle_connecting(now, Duration::from_secs(30));
        assert_eq!(
            tor.handle_gone(now, "y").0,
            Some(Failure::First),
            "otherwise"
        );
        tor.handle_connecting(now, Duration::from_secs(30));
        assert_eq!(tor.handle_gone(now, "x").0, Some(Failure::Again), "as said");
        tor.handle_connecting(now, Duration::from_secs(30));
        assert!(tor.is_awaited());
        assert!(!tor.handle_up("0.4.9".into(), Vec::new(), false));
        assert!(tor.watcher().is_some() && !tor.is_awaited());
        assert_eq!(tor.handle_gone(now, "x").0, None);
        assert_eq!(tor.poll_timeout(), Some(now + Duration::from_millis(100)));
        assert_eq!(tor.version(), Some("0.4.9"));
    }

    #[test]
    fn a_filter_is_told_of_once() {
        let mut tor = upstream();
        assert!(tor.handle_up("x".into(), Vec::new(), true));
        assert!(!tor.handle_up("x".into(), Vec::new(), true));
    }
}
