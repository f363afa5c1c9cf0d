//! Cookies and the proofs of who knows one (control-spec 3.24). Not who asks for them.

mod cookie;

pub use cookie::Cookie;
