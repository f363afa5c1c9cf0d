//! Work that takes long: files, and texts as long as files. The loop does one piece in each round,
//! whoever asks, and once for all who wait for the same. A file is written by a thread of its own,
//! since a disk may take its time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use super::Server;
use super::connection::Connection;
use super::daemon::Daemon;
use crate::bus::SessionId;
use crate::controller::{Wait, Work};
use crate::options::SaveError;
use crate::wire::refusal::Refusal;

/// How long the end of the daemon waits for a file that is being written.
const PATIENCE: Duration = Duration::from_secs(2);

/// A controller whose command is work: its key, and its session to know it by.
type Waiting = (usize, SessionId);

/// The controllers that wait for work.
#[derive(Default)]
pub(super) struct WorkQueue {
    waiting: VecDeque<Waiting>,
    saving: Option<Saving>,
    /// The outcome of the work that the controller whose turn it is waits for.
    outcome: Option<Result<(), Refusal>>,
}

/// A file that is being written.
struct Saving {
    waiting: Vec<Waiting>,
    outcome: Receiver<Result<(), SaveError>>,
}

impl WorkQueue {
    /// Whether the loop has something to do.
    pub(super) fn is_ready(&self) -> bool {
        self.saving.is_none() && !self.waiting.is_empty()
    }

    /// Lets a controller wait.
    pub(super) fn push(&mut self, connection: &Connection) {
        let session = connection.conversation.id();
        self.waiting.push_back((connection.key, session));
    }

    /// Whether the work that somebody waits for is done.
    pub(super) const fn is_done(&self) -> bool {
        self.outcome.is_some()
    }

    /// Takes the outcome of the work.
    pub(super) fn take_outcome(&mut self) -> Result<(), Refusal> {
        self.outcome
            .take()
            .unwrap_or_else(|| Err(Refusal::Failed("It was not done".into())))
    }
}

impl Server {
    /// Does one piece of work, and ends the one that is done.
    pub(super) fn work(&mut self) {
        self.forget_those_who_left();
        let queue = &mut self.daemon.work;
        if let Some(saving) = &queue.saving {
            let outcome = match saving.outcome.try_recv() {
                Ok(outcome) => Some(outcome),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => None,
            };
            self.saved(outcome);
        }
        while let Some(first) = self.daemon.work.waiting.pop_front() {
            let Some(work) = self.work_of(first) else {
                continue;
            };
            let mut all = vec![first];
            if work != Work::Load {
                let mut waiting = std::mem::take(&mut self.daemon.work.waiting);
                waiting.retain(|&other| {
                    let is_same = self.work_of(other) == Some(work);
                    if is_same {
                        all.push(other);
                    }
                    !is_same
                });
                self.daemon.work.waiting = waiting;
            }
            self.begin(work, all);
            break;
        }
    }

    /// Waits for the file that is being written, as the daemon ends.
    pub(super) fn finish_saving(&mut self) {
        if let Some(saving) = &self.daemon.work.saving {
            let outcome = saving.outcome.recv_timeout(PATIENCE).ok();
            self.saved(outcome);
        }
    }

    fn begin(&mut self, work: Work, waiting: Vec<Waiting>) {
        match work {
            Work::Save { force } if self.daemon.options.file().is_some() => {
                match self.daemon.save(force) {
                    Ok(outcome) => {
                        self.daemon.work.saving = Some(Saving { waiting, outcome });
                    }
                    Err(cause) => {
                        let cause = format!("Unable to write configuration to disk: {cause}");
                        self.conclude(waiting, &Err(Refusal::CannotSave(cause)));
                    }
                }
            }
            // There is no file, and the error says so.
            Work::Save { force } => {
                let outcome = self.daemon.options.save(force);
                let refused = |error: SaveError| Refusal::CannotSave(error.to_string());
                self.conclude(waiting, &outcome.map_err(refused));
            }
            Work::Reload => {
                let outcome = self.daemon.reload_and_notify();
                self.apply_policy();
                self.conclude(waiting, &outcome.map_err(Refusal::Failed));
            }
            // Done with the text that came with the command, in the controller's turn.
            Work::Load => self.conclude(waiting, &Ok(())),
        }
    }

    /// The file is written, or not; no outcome if its thread has failed.
    fn saved(&mut self, outcome: Option<Result<(), SaveError>>) {
        let Some(saving) = self.daemon.work.saving.take() else {
            return;
        };
        let outcome = match outcome {
            Some(outcome) => outcome.map_err(|error| cannot_save(&error)),
            None => Err(Refusal::CannotSave(
                "Unable to write configuration to disk: it takes too long".into(),
            )),
        };
        self.conclude(saving.waiting, &outcome);
    }

    /// Lets all who waited for some work go on.
    fn conclude(&mut self, waiting: Vec<Waiting>, outcome: &Result<(), Refusal>) {
        for one in waiting {
            if self.work_of(one).is_some() {
                self.daemon.work.outcome = Some(outcome.clone());
                self.take_turn(one.0);
                self.daemon.work.outcome = None;
            }
        }
    }

    /// Gives those whose work has not begun another turn: a policy has come that judges it.
    pub(super) fn take_work_back(&mut self) {
        for one in std::mem::take(&mut self.daemon.work.waiting) {
            let is_waiting = self.work_of(one).is_some();
            if let Some(connection) = self.connections.get_mut(one.0).filter(|_| is_waiting) {
                connection.wait = Wait::Turn;
                self.daemon.queue.controller(connection);
            }
        }
    }

    /// The work that a controller waits for, if it is still there and does.
    fn work_of(&self, (key, session): Waiting) -> Option<Work> {
        let connection = self.connections.get(key)?;
        if connection.conversation.id() != session || connection.wait != Wait::Work {
            return None;
        }
        connection.held_work()
    }

    /// Bounds the queue, where many ask and leave.
    fn forget_those_who_left(&mut self) {
        if self.daemon.work.waiting.len() > 2 * self.connections.len() {
            let mut waiting = std::mem::take(&mut self.daemon.work.waiting);
            waiting.retain(|&one| self.work_of(one).is_some());
            self.daemon.work.waiting = waiting;
        }
    }
}

impl Daemon {
    /// Begins to write the options in force into their file.
    fn save(&self, force: bool) -> io::Result<Receiver<Result<(), SaveError>>> {
        let (options, outlet) = (self.options.clone(), Arc::clone(&self.outlet));
        let (done, outcome) = bounded(1);
        thread::Builder::new().name("save".into()).spawn(move || {
            // Nobody waits for it any more if the daemon has ended.
            let _ = done.send(options.save(force));
            outlet.wake();
        })?;
        Ok(outcome)
    }
}

fn cannot_save(error: &SaveError) -> Refusal {
    log::warn!("{error}");
    Refusal::CannotSave(error.to_string())
}
