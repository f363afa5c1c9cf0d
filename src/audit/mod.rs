//! Attribution: who did what to Tor and to the bus.
//!
//! An [`Action`] is made of a command before it is done, and [ends](Action::end) with the
//! [`Gist`](crate::wire::gist::Gist) of its reply. The [`Trail`] numbers what is told, remembers
//! the last of it, and knows by its [`Causes`] which of Tor's changes came from outside the bus.
//! [`Record`] is a line of the audit log. None of them ever holds a value, a key or an address of a
//! target: names come in, and nothing else is kept.

mod action;
mod causes;
mod names;
mod record;
mod trail;

pub use action::{Action, command, shown};
pub use causes::Causes;
pub use names::Names;
pub use record::Record;
pub use trail::{Told, Trail, Who};

/// What commands are looked at for.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// The names of options.
    pub names: &'a Names,
    /// All of it is written down: the lines that would allow a command, and commands that change
    /// nothing of whom a policy only complains.
    pub is_written: bool,
}
