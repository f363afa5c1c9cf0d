//! The last messages of the daemon, for `GETINFO recent-messages`.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::wire::message::{ControllerId, Destination, Message};

/// The newest messages, as many as `BusHistory` says.
#[derive(Debug)]
pub(super) struct History {
    length: usize,
    kept: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    message: Arc<Message>,
    /// Who held the name that it was posted to; another user who takes the name over must not
    /// read it.
    uid: Option<u32>,
}

impl History {
    pub(super) const fn new(length: usize) -> Self {
        Self {
            length,
            kept: VecDeque::new(),
        }
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.length = length;
        self.forget();
    }

    pub(super) fn push(&mut self, message: Arc<Message>, uid: Option<u32>) {
        self.kept.push_back(Kept { message, uid });
        self.forget();
    }

    fn forget(&mut self) {
        let too_many = self.kept.len().saturating_sub(self.length);
        self.kept.drain(..too_many);
    }

    /// What a controller of this name and user may read, oldest first.
    pub(super) fn readable(&self, name: Option<&ControllerId>, uid: u32) -> Vec<Arc<Message>> {
        self.kept
            .iter()
            .filter(|kept| match &kept.message.destination {
                Destination::All => true,
                Destination::Name(to) => Some(to) == name && kept.uid == Some(uid),
            })
            .map(|kept| Arc::clone(&kept.message))
            .collect()
    }
}
