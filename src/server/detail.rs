//! `GETINFO controllers/detail`: one line about each controller, which the loop makes since only it
//! knows all connections.

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

/// The lines about all controllers.
#[derive(Default)]
pub(super) enum Detail {
    /// Nobody has asked.
    #[default]
    None,
    /// Somebody waits for them.
    Wanted,
    /// They are as of a moment ago.
    Made(Vec<u8>),
}

impl Daemon {
    /// Whether a command must wait for the lines.
    pub(super) fn must_wait_for_detail(&mut self, plan: &Plan<'_>) -> bool {
        let key = Key::ControllersDetail.name().as_bytes();
        let asks = match plan {
            Plan::Bus(RequestOf::GetInfo(keys)) => keys.iter().any(|one| **one == *key),
            Plan::Ask(query) => {
                matches!(&query.merge, Merge::Info(keys) if keys.iter().any(|one| *one == key))
            }
            _ => false,
        };
        let waits = asks && !matches!(self.detail, Detail::Made(_));
        if waits {
            self.detail = Detail::Wanted;
        }
        waits
    }

    /// The lines, as they were made for this turn.
    pub(super) fn detail(&self) -> Vec<u8> {
        match &self.detail {
            Detail::Made(lines) => lines.clone(),
            Detail::None | Detail::Wanted => Vec::new(),
        }
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
            connection.socket.escape_ascii(),
            u8::from(connection.link.is_some()),
            events.join(",")
        )
    }
}

impl Server {
    /// Makes the lines for who waits for them, or forgets those of the last time.
    pub(super) fn make_detail(&mut self) {
        match self.daemon.detail {
            Detail::None => {}
            Detail::Made(_) => self.daemon.detail = Detail::None,
            Detail::Wanted => {
                let all = self.connections.iter().map(|(_, connection)| connection);
                let there = all.filter(|one| {
                    one.left.is_none() && one.conversation.is_logged_in() && one.stage < Stage::Gone
                });
                let lines: Vec<_> = there.map(|one| self.daemon.line(one)).collect();
                self.daemon.detail = Detail::Made(lines.join("\n").into_bytes());
                for (_, connection) in &mut self.connections {
                    if connection.wait == Wait::Detail {
                        self.daemon.queue.controller(connection);
                    }
                }
            }
        }
    }
}
