//! Every system call that is not the loop's: sockets with modes, peers, the state directory,
//! default paths, limits and clocks.

pub mod activation;
pub mod clock;
mod directory;
pub mod file;
pub mod pages;
pub mod paths;
pub mod peer;
pub mod process;
pub mod receive;
pub mod socket;
pub mod state;
