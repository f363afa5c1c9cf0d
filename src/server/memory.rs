//! Memory: who holds too much loses some.

use std::cmp::Reverse;

use super::Server;
use super::connection::Connection;
use super::daemon::Daemon;
use crate::account::{Bound, Excess};
use crate::wire::message::{ControllerId, UNSET};

impl Server {
    /// Makes room where a bound of memory is exceeded: the user who exceeds it, or the one with the
    /// most, loses the connections that hold the most, or where the user's messages are the most of
    /// it, the oldest of them.
    pub(super) fn relieve(&mut self) {
        if !self.daemon.accounts.poll_exceeded() {
            return;
        }
        while let Some(excess) = self.daemon.accounts.excess() {
            let uid = excess.account.uid();
            let of_messages = self.daemon.bus.held_by(uid);
            let freed = if of_messages > excess.account.held() / 2 {
                self.daemon.forget_messages(&excess)
            } else {
                self.cut_off_greediest(&excess)
            };
            if freed == 0 {
                // What is left is on its way.
                break;
            }
        }
    }

    /// Returns the number of octets that were freed.
    fn cut_off_greediest(&mut self, excess: &Excess) -> usize {
        let uid = excess.account.uid();
        let mut theirs: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, one)| one.outbox.account().uid() == uid)
            .map(|(key, one)| (one.held(), key))
            .filter(|(held, _)| *held > 0)
            .collect();
        theirs.sort_unstable_by_key(|&held| Reverse(held));
        let mut freed = 0;
        for (held, key) in theirs {
            if let Some(connection) = self.connections.get(key) {
                connection.outbox.cut_off(excess.bound);
                if connection.left.is_some() {
                    self.daemon.tell_of_cut(connection, None, excess.bound);
                }
            }
            // Nothing that it sent is carried out any more: also that takes memory.
            self.close(key);
            self.remove(key);
            freed += held;
            if freed >= excess.octets {
                break;
            }
        }
        freed
    }
}

impl Daemon {
    /// Returns the number of octets that were freed.
    fn forget_messages(&mut self, excess: &Excess) -> usize {
        let uid = excess.account.uid();
        let (messages, octets) = self.bus.forget_oldest(uid, excess.octets);
        log::warn!(
            "the oldest {messages} messages of uid {uid} are forgotten, unread or not: {}, and \
             messages are most of it",
            self.describe(excess.bound)
        );
        octets
    }

    /// Logs and counts that a connection is cut off.
    pub(super) fn tell_of_cut(
        &mut self,
        connection: &Connection,
        name: Option<&ControllerId>,
        bound: Bound,
    ) {
        self.cut_off += 1;
        let who = &connection.controller;
        let name = name.map_or(UNSET, |name| name.as_str());
        let why = self.describe(bound);
        match bound {
            Bound::Queue => log::warn!("{who}, named {name}, was dropped: {why}"),
            // A kind of its own: however many do not read, it is logged.
            Bound::User | Bound::All => log::warn!(
                "{who}, named {name}, was dropped: {why}, and no connection of its user keeps more"
            ),
        }
    }

    fn describe(&self, bound: Bound) -> String {
        let settings = self.options.settings();
        match bound {
            Bound::Queue => format!(
                "it did not read, and more than BusMaxQueue {} octets waited for it",
                settings.max_queue
            ),
            Bound::User => format!(
                "its user keeps more than BusMaxMemoryPerUser {} octets here",
                settings.memory_of_user()
            ),
            Bound::All => format!(
                "all keep more than BusMaxMemory {} octets here, its user the most",
                settings.max_memory
            ),
        }
    }
}
