//! Every system call that is not the loop's: sockets with modes, peers, the state directory,
//! default paths, limits, clocks, users, and what the process gives up.

pub mod activation;
pub mod clock;
pub mod confinement;
mod directory;
pub mod file;
pub mod journal;
pub mod onions;
pub mod pages;
pub mod paths;
pub mod peer;
pub mod policy;
pub mod process;
pub mod receive;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod seccomp;
pub mod socket;
pub mod state;
pub mod stream;
pub mod user;
pub mod users;
