//! Messages that can still be asked for: the last ones of the daemon, for `GETINFO
//! recent-messages`, and the unread ones.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::account::{Account, Charge, PIECE};
use crate::wire::message::{ControllerId, Destination, Message};

/// A message that is kept, in one place or several, and charged to whoever has posted it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) message: Arc<Message>,
    /// Who held the name that it was posted to; another user who takes the name over must not
    /// read it.
    pub(super) holder: Option<u32>,
    pub(super) charge: Charge,
}

/// Messages in the order in which they were posted.
pub(super) type Messages = VecDeque<Rc<Kept>>;

/// The octets of memory that a message takes while it is kept.
fn cost(message: &Message) -> usize {
    // Its place in the history and among the unread ones, which grow by doubling.
    let places = 4 * size_of::<Rc<Kept>>();
    let names = 2 * (64 + PIECE);
    message.text.len() + size_of::<Message>() + size_of::<Kept>() + 3 * PIECE + places + names
}

/// The newest messages, as many as `BusHistory` says.
#[derive(Debug)]
pub(super) struct History {
    length: usize,
    pub(super) kept: Messages,
}

impl History {
    pub(super) const fn new(length: usize) -> Self {
        Self {
            length,
            kept: Messages::new(),
        }
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.length = length;
        self.forget();
    }

    /// Keeps a message, which takes the place of the oldest one where there are too many.
    ///
    /// Where that one is nowhere else and of the same user, as mostly, its memory and its charge are
    /// used again: new ones would cost as much as all else that is done here for a message.
    pub(super) fn push(
        &mut self,
        account: &Arc<Account>,
        message: &Arc<Message>,
        holder: Option<u32>,
    ) -> Rc<Kept> {
        let is_full = self.kept.len() >= self.length;
        let mut oldest = if is_full { self.kept.pop_front() } else { None };
        let unused = oldest.as_mut().and_then(Rc::get_mut);
        let kept = match unused.filter(|one| Arc::ptr_eq(one.charge.account(), account)) {
            Some(unused) => {
                unused.charge.set(cost(message));
                unused.message = Arc::clone(message);
                unused.holder = holder;
                oldest
            }
            None => None,
        };
        let kept = kept.unwrap_or_else(|| {
            Rc::new(Kept {
                message: Arc::clone(message),
                holder,
                charge: Charge::new(Arc::clone(account), cost(message)),
            })
        });
        self.kept.push_back(Rc::clone(&kept));
        self.forget();
        kept
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
                Destination::Name(to) => Some(to) == name && kept.holder == Some(uid),
            })
            .map(|kept| Arc::clone(&kept.message))
            .collect()
    }
}
