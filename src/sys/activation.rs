//! Sockets that the service manager opened and passed on (`sd_listen_fds(3)`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::socket::{
    ControlMessage, MsgFlags, SockType, getsockopt, sendmsg, sockopt::AcceptConn,
    sockopt::SockType as Type,
};
use nix::unistd::close;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A listening socket that was passed on.
#[derive(Debug)]
pub struct Inherited {
    /// Its `FileDescriptorName`; `unknown` where the service manager gave none.
    pub name: String,
    /// The socket.
    pub listener: UnixListener,
}

/// Takes the sockets that were passed on, none if the daemon was not started that way.
pub fn take() -> io::Result<Vec<Inherited>> {
    sd_notify::listen_fds_with_names()?
        .map(|(number, name)| {
            let listener = listener(own(number)?)?;
            let name = if name.is_empty() {
                "unknown".into()
            } else {
                name
            };
            Ok(Inherited { name, listener })
        })
        .collect()
}

/// Makes the descriptor that is open under a number one that somebody owns.
///
/// Nothing but a message hands a descriptor out as owned without `unsafe`, so it is sent from here
/// to here.
fn own(number: RawFd) -> io::Result<OwnedFd> {
    let (from, to) = UnixStream::pair()?;
    let descriptors = [number];
    sendmsg::<()>(
        from.as_raw_fd(),
        &[IoSlice::new(b".")],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )?;
    close(number)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut received = RecvAncillaryBuffer::new(&mut space);
    let mut octet = [0];
    let octets = &mut [IoSliceMut::new(&mut octet)];
    recvmsg(&to, octets, &mut received, RecvFlags::CMSG_CLOEXEC)?;
    received
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .ok_or_else(|| io::Error::other("the kernel gave no descriptor back"))
}

/// A descriptor as a listener, if it is one.
fn listener(descriptor: OwnedFd) -> io::Result<UnixListener> {
    let stream = getsockopt(&descriptor, Type)? == SockType::Stream;
    let listens = getsockopt(&descriptor, AcceptConn)?;
    let listener = UnixListener::from(descriptor);
    // Fails where the socket is not of this family.
    listener.local_addr()?;
    if stream && listens {
        Ok(listener)
    } else {
        Err(io::Error::other(
            "one of them is no listening stream socket",
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;
    use std::os::fd::IntoRawFd as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_number_becomes_the_one_owner_of_its_socket() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        let number = UnixListener::bind(&path).unwrap().into_raw_fd();
        let listener = listener(own(number).unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.as_pathname(), Some(&*path));
        UnixStream::connect(&path).unwrap();
        drop(listener);
        let error = UnixStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn only_a_listening_unix_stream_socket_is_accepted() {
        let place = tempfile::tempdir().unwrap();
        let (connected, _other) = UnixStream::pair().unwrap();
        let datagram = UnixDatagram::bind(place.path().join("datagram")).unwrap();
        for descriptor in [
            OwnedFd::from(connected),
            OwnedFd::from(datagram),
            OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap()),
            OwnedFd::from(File::open("/dev/null").unwrap()),
        ] {
            assert!(listener(descriptor).is_err());
        }
    }
}
