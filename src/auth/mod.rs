//! Cookies, passwords, and the proofs of who knows one (control-spec 3.24). Not who asks for them.

mod cookie;
mod password;

pub use cookie::Cookie;
pub use password::HashedPassword;
