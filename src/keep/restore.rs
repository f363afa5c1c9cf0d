//! The ends of Tor and of the keeper's connection, and everything given to the next Tor.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use zeroize::Zeroize as _;

use super::item::{self, Item, Kept, State, What};
use super::{
    COLLIDES, COLLISION, GLANCE, HOLD, Keeper, LONGEST, Output, Stage, Task, Write, failed,
};
use crate::policy::identity::Owner;
use crate::tor::leg::Leg;

impl Keeper {
    /// Tor is there, and has forgotten everything. Returns whether commands must wait.
    pub fn handle_tor_up(&mut self, now: Instant) -> bool {
        self.ends = 0;
        self.hold = (!self.items.is_empty()).then(|| now + HOLD);
        self.restore(now);
        self.is_restoring()
    }

    fn restore(&mut self, now: Instant) {
        let is_told = self.hold.is_some();
        self.items.sort_by_key(Kept::rank);
        let mut asked = Vec::new();
        for kept in &self.items {
            let item = kept.item();
            // Its owner has asked for it anew already.
            if !self.awaits(&item) {
                asked.push((kept.command(), item));
            }
        }
        for (_, item) in &asked {
            if let Some(kept) = self.find(item) {
                kept.state = State::Asked;
            }
        }
        self.stage = Stage::Restoring(asked.len(), self.hold.unwrap_or(now + HOLD));
        if asked.is_empty() {
            self.finish_restoring();
        }
        for (command, item) in asked {
            self.ask(&command, Task::Restore(item, is_told, true));
        }
        if std::mem::take(&mut self.leases.after_is_due) {
            self.ask_after_lease();
        }
        for fields in std::mem::take(&mut self.leases.owed) {
            self.ask(&fields, Task::SetBack(Box::new(fields.clone())));
        }
        self.outputs.push_back(Output::News);
    }

    /// Tor has answered a try to restore something.
    pub(super) fn restored(&mut self, item: &Item, is_told: bool, answer: &[u8], now: Instant) {
        // Of several commands about it only the last says what Tor has.
        if !self.awaits(item) {
            self.note_answer(item, is_told, answer, now);
        }
        if !self.awaits_keys() && std::mem::take(&mut self.repair_is_due) {
            self.repair();
        }
    }

    fn note_answer(&mut self, item: &Item, is_told: bool, answer: &[u8], now: Instant) {
        let in_time = self.hold.is_some();
        let Some(kept) = self.find(item) else {
            return;
        };
        let before = std::mem::replace(&mut kept.state, State::There);
        let owner = kept.owner.clone();
        if answer.starts_with(b"25") {
            let output = match item {
                Item::Onion(onion) => Some(Output::Made(onion.clone(), owner.clone())),
                Item::Key(onion) => Some(Output::Unlocked(onion.clone(), owner.clone())),
                Item::Map(_) => None,
            };
            self.outputs.extend(output);
            // What has failed is told when it succeeds; and so is what comes late.
            if is_told && !in_time {
                let line = format!("{item} OK");
                self.outputs.push_back(Output::Restored(owner, line));
            }
        } else {
            let tries = match before {
                State::Failed { tries, .. } | State::Tried(tries) => tries,
                _ => 0,
            };
            // Tor may not have noticed yet that the connection of before has ended.
            let early = if answer == COLLIDES { COLLISION.1 } else { 0 };
            let pause = match tries.checked_sub(early) {
                None => COLLISION.0,
                Some(tries) => LONGEST.min(Duration::from_secs(1) * 2_u32.pow(tries.min(6))),
            };
            let line = answer.split(|&octet| octet == b'\r').next();
            kept.state = State::Failed {
                at: now + pause,
                tries: tries + 1,
                line: line.unwrap_or_default().to_vec(),
                is_told,
            };
        }
    }

    pub(super) fn finish_restoring(&mut self) {
        if let Stage::Restoring(..) = self.stage {
            self.stage = Stage::There;
        }
        if self.hold.take().is_none() {
            return;
        }
        self.outputs.push_back(Output::Ready);
        let mut by_owner: BTreeMap<&Owner, (Vec<String>, usize, usize)> = BTreeMap::new();
        for kept in &self.items {
            let (lines, there, failed) = by_owner.entry(&kept.owner).or_default();
            let item = kept.item();
            match &kept.state {
                State::There => {
                    *there += 1;
                    lines.push(format!("{item} OK"));
                }
                State::Failed { line, .. } => {
                    *failed += 1;
                    lines.push(format!("{item} FAILED \"{}\"", item::quoted(line)));
                }
                _ => *failed += 1,
            }
        }
        for (owner, (lines, there, failed)) in by_owner {
            let done = format!("DONE KEPT={there} FAILED={failed}");
            for line in lines.into_iter().chain([done]) {
                self.outputs
                    .push_back(Output::Restored(owner.clone(), line));
            }
        }
    }

    /// Tor has dropped the temporary keys, as it does at a change of its configuration.
    pub fn handle_keys_lost(&mut self) {
        if self.awaits_keys() {
            self.repair_is_due = true;
        } else if matches!(self.stage, Stage::There | Stage::Restoring(..)) {
            self.repair();
        }
    }

    pub(super) fn repair(&mut self) {
        let keys = self
            .items
            .iter()
            .filter(|kept| matches!(kept.what, What::Key(_)) && kept.state == State::There);
        let keys: Vec<_> = keys.map(|kept| (kept.command(), kept.item())).collect();
        for (command, item) in keys {
            self.ask(&command, Task::Restore(item, false, false));
        }
    }

    /// The keeper's connection has ended; whether Tor has too, shows soon.
    pub fn handle_gone(&mut self, now: Instant) {
        self.lose("it closed the connection", now);
        if !matches!(self.stage, Stage::Away) {
            // A Tor that is full closes each, and is not to be kept busy with that.
            let pause = GLANCE * 4_u32.saturating_pow(self.ends.min(6));
            self.ends = self.ends.saturating_add(1);
            self.stage = Stage::Broken(now + pause.min(LONGEST));
        }
    }

    /// Tor has ended.
    pub fn handle_tor_gone(&mut self, cause: &str, now: Instant) {
        self.lose(cause, now);
        self.hold = None;
        self.leases.owed.clear();
        self.leases.after_is_due = false;
        self.end_busy();
        self.end_all_leases();
        self.stage = Stage::Away;
    }

    fn lose(&mut self, cause: &str, now: Instant) {
        self.leg.poll_transmit().zeroize();
        self.leg = Leg::default();
        self.repair_is_due = false;
        for task in std::mem::take(&mut self.tasks) {
            let asker = match task {
                Task::Add(asker, ..) | Task::Delete(asker, _) => asker,
                Task::Replace(asker, _, onion) => {
                    if let Some(kept) = self.find(&Item::Onion(onion))
                        && let What::Onion(service) = &mut kept.what
                    {
                        service.holder = None;
                        // It waits again.
                        let waits = !service.is_detached;
                        kept.until = waits.then(|| now + kept.grace);
                    }
                    asker
                }
                Task::SetBack(fields) => {
                    self.leases.owed.push(*fields);
                    continue;
                }
                Task::Drop | Task::Restore(..) | Task::BeforeLease(_) | Task::LookAtLeases => {
                    continue;
                }
                Task::AfterLease => {
                    self.leases.after_is_due = true;
                    continue;
                }
            };
            let reply = failed(&format!("Tor is not reachable: {cause}"));
            self.outputs.push_back(Output::Reply(asker, reply));
        }
        self.end_unless_sent();
        // What was to be deleted is not there any more.
        self.items.retain(|kept| !kept.is_leaving);
        for kept in &mut self.items {
            kept.state = State::Lost;
        }
    }

    /// Does what is due. `tor_is_there` says whether the daemon's other connection lives.
    pub fn handle_time(&mut self, now: Instant, tor_is_there: bool, write: &mut Write<'_>) {
        let ended = |kept: &&Kept| kept.until.is_some_and(|until| until <= now);
        let ended: Vec<_> = self.items.iter().filter(ended).map(Kept::item).collect();
        for item in &ended {
            self.remove(item);
        }
        if ended.iter().any(|item| matches!(item, Item::Onion(_))) {
            self.try_to_store(write);
        }
        match self.stage {
            Stage::Broken(at) if at <= now => {
                if tor_is_there {
                    self.restore(now);
                } else {
                    self.handle_tor_gone("it closed the connection", now);
                }
            }
            Stage::Restoring(_, until) if until <= now => self.finish_restoring(),
            _ => {}
        }
        if self.hold.is_some_and(|until| until <= now) {
            self.finish_restoring();
        }
        if !matches!(self.stage, Stage::There) {
            return;
        }
        let mut again = Vec::new();
        for kept in &mut self.items {
            if let State::Failed {
                at, tries, is_told, ..
            } = kept.state
                && at <= now
            {
                again.push((kept.command(), kept.item(), is_told));
                kept.state = State::Tried(tries);
            }
        }
        for (command, item, is_told) in again {
            self.ask(&command, Task::Restore(item, is_told, false));
        }
    }
}
