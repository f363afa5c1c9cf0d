//! Where Tor's replies end.

pub use crate::wire::text::Replies;
