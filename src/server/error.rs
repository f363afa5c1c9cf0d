//! Why the daemon cannot serve.

use std::io;

use thiserror::Error;

use crate::options::Problems;
use crate::sys::socket::SocketError;
use crate::sys::state::StateError;
use crate::sys::user::UserError;

/// Why the daemon cannot serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A socket cannot be listened at.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// It cannot become `BusUser`.
    #[error(transparent)]
    User(#[from] UserError),
    /// The files of the policy are wrong.
    #[error("this has to be corrected:\n{0}")]
    Policy(#[from] Problems),
    /// The service manager's sockets are not what they should be.
    #[error("cannot use the sockets that were passed on: {0}")]
    Activation(io::Error),
    /// A port cannot be listened at.
    #[error(
        "cannot listen at {address}: {cause} (a Tor has its ControlPort there, perhaps: choose \
         another port for one of the two)"
    )]
    Port {
        /// The address.
        address: std::net::SocketAddr,
        /// Why it failed.
        cause: io::Error,
    },
    /// A socket that was passed on is a port, and its `BusSocket` line has a login of its own.
    #[error(
        "BusSocket {0}: it is a port, which always asks for the cookie or a password: leave \
         Login= out"
    )]
    LoginOfPort(String),
    /// A `BusSocket fd:NAME` line without a socket.
    #[error(
        "BusSocket fd:{0}: no socket of this FileDescriptorName was passed on; it needs a socket \
         unit with 'FileDescriptorName={0}'"
    )]
    NotInherited(String),
    /// `BusOnionStore` where no service is kept.
    #[error(
        "BusOnionStore {0}: nothing is kept that could be stored there; set BusKeepOnions to the \
         seconds for which a service waits for its owner"
    )]
    StoreWithoutKeeping(std::path::PathBuf),
    /// The store of onion services cannot be used.
    #[error("BusOnionStore {}: {cause}", path.display())]
    Store {
        /// Where it is.
        path: std::path::PathBuf,
        /// What is wrong with it, and what to do.
        cause: String,
    },
    /// The system refused something at the start.
    #[error("cannot start: {0}")]
    Start(io::Error),
    /// The system refused to wait.
    #[error("cannot wait for events: {0}")]
    Poll(io::Error),
}
