//! Policy: what each controller may do, by what the kernel says of it.
//!
//! [`Policy::parse`] reads the files; [`Grants::unite`] makes of them, for one
//! [`Identity`], what it may do; [`judge`] says what becomes of a command, by
//! its [fields](crate::wire::fields), and [`Ledger`] knows whose circuits, streams, onion services
//! and client keys there are. A command that is allowed is sent as it is written from its fields,
//! never as it came.
//!
//! Nothing here reads a file, a clock or the database of users: texts, names and times come in.

mod add_onion;
mod file;
mod grants;
mod guard;
pub mod identity;
mod judge;
mod ledger;
mod list;
mod need;
mod pattern;
mod sequel;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod word;

pub use file::{Names, Policy, Problem, Source};
pub use grants::Grants;
pub use guard::{Guard, Law};
pub use identity::{Identity, Owner};
pub use judge::{Allowed, Refused, Verdict, Views, judge};
pub use ledger::{Delivery, Ledger, OwnSocks};
pub use need::{Known, kind_of_key, learn, needed};
pub use pattern::is_match;
pub use sequel::{Change, Sequel};
pub use table::Form;
pub use target::{Behind, PROTECTED_PORTS};
