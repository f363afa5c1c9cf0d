//! The values of GETINFO that the loop makes, since only it knows all connections: those of
//! `status`, and of `controllers/detail`, which is one line about each controller.

use super::Server;
use super::connection::Connection;
use super::daemon::Daemon;
use crate::command::keys::Key;
use crate::controller::{Plan, Stage, Wait};
use crate::sys::peer;
use crate::tor::merge::Merge;
use crate::wire::event::EventKind;
use crate::wire::message::UNSET;
use crate::wire::request::RequestOf;

/// The keys whose values the loop makes.
const OF_LOOP: [Key; 2] = [Key::ControllersDetail, Key::Status];

/// Values that only the loop can make.
#[derive(Default)]
pub(super) struct Detail {
    /// Somebody waits for these.
    wanted: Vec<Key>,
    /// These are as of a moment ago.
    made: Vec<(Key, Vec<u8>)>,
}

impl Daemon {
    /// Whether a command must wait for values that the loop has to make.
    pub(super) fn must_wait_for_detail(&mut self, plan: &Plan<'_>) -> bool {
        let asks = |key: &Key| {
            let name = key.name().as_bytes();
            match plan {
                Plan::Bus(RequestOf::GetInfo(keys)) => keys.iter().any(|one| **one == *name),
                Plan::Ask(query) => {
                    matches!(&query.merge, Merge::Info(keys) if keys.iter().any(|one| *one == name))
                }
                _ => false,
            }
        };
        let is_made = |key: &Key| self.detail.made.iter().any(|(made, _)| made == key);
        let asked = || OF_LOOP.into_iter().filter(asks);
        if asked().all(|key| is_made(&key)) {
            return false;
        }
        // All of them, since those that are made are gone when the others come.
        for key in asked() {
            if !self.detail.wanted.contains(&key) {
                self.detail.wanted.push(key);
            }
        }
        true
    }

    /// A value, as it was made for this turn.
    pub(super) fn detail(&self, key: Key) -> Vec<u8> {
        let made = self.detail.made.iter().find(|(made, _)| *made == key);
        made.map_or_else(Vec::new, |(_, value)| value.clone())
    }

    fn line(&self, connection: &Connection) -> String {
        let session = connection.conversation.id();
        let peer = connection.conversation.peer();
        let name = self.bus.name(session);
        let name = name.as_ref().map_or(UNSET, |name| name.as_str());
        let program = peer::program(peer.pid).unwrap_or_default();
        let age = self.started.elapsed().as_secs() - connection.since;
        let (waiting, reads) = (connection.outbox.waiting(), connection.waiting());
        let events = self.bus.events(session).kinds();
        let events: Vec<_> = events.filter_map(EventKind::name).collect();
        let (profiles, unit) = match &connection.guard {
            Some(guard) => {
                let unit = guard.identity.unit.escape_ascii().to_string();
                (guard.grants.profiles().join(","), unit)
            }
            None => (String::new(), String::new()),
        };
        format!(
            "ID={session} NAME={name} UID={} PID={} PROGRAM=\"{}\" SECONDS={age} SOCKET=\"{}\" \
             UNSENT={waiting} UNREAD={reads} TOR={} EVENTS={} PROFILES={profiles} UNIT=\"{unit}\"",
            peer.uid,
            peer.pid,
            program.escape_ascii(),
            connection.socket.address.escape_ascii(),
            u8::from(connection.link.is_some()),
            events.join(",")
        )
    }
}

impl Server {
    /// Makes the values for who waits for them, and forgets those of the last time.
    pub(super) fn make_detail(&mut self) {
        self.daemon.detail.made.clear();
        let wanted = std::mem::take(&mut self.daemon.detail.wanted);
        if wanted.is_empty() {
            return;
        }
        let value = |key| match key {
            Key::Status => self.status(),
            _ => self.lines(),
        };
        let made = wanted.into_iter().map(|key| (key, value(key).into_bytes()));
        self.daemon.detail.made = made.collect();
        for (_, connection) in &mut self.connections {
            if connection.wait == Wait::Detail {
                self.daemon.queue.controller(connection);
            }
        }
    }

    fn lines(&self) -> String {
        let all = self.connections.iter().map(|(_, connection)| connection);
        let there = all.filter(|one| {
            one.left.is_none() && one.conversation.is_logged_in() && one.stage < Stage::Gone
        });
        let lines: Vec<_> = there.map(|one| self.daemon.line(one)).collect();
        lines.join("\n")
    }
}
