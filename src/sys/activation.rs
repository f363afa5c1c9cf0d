//! Sockets that the service manager opened and passed on (`sd_listen_fds(3)`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};

use super::stream::Listener;
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
    /// The socket, which makes nobody wait.
    pub listener: Listener,
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

/// A descriptor as a listener, if it is one that may be.
fn listener(descriptor: OwnedFd) -> io::Result<Listener> {
    let is_stream = getsockopt(&descriptor, Type)? == SockType::Stream;
    if !is_stream || !getsockopt(&descriptor, AcceptConn)? {
        let text = "one of them is no listening stream socket";
        return Err(io::Error::other(text));
    }
    let unix = UnixListener::from(descriptor);
    // Fails where the socket is not of this family.
    if unix.local_addr().is_ok() {
        unix.set_nonblocking(true)?;
        return Ok(Listener::Unix(mio::net::UnixListener::from_std(unix)));
    }
    let tcp = TcpListener::from(OwnedFd::from(unix));
    let address = tcp.local_addr()?;
    if !address.ip().to_canonical().is_loopback() {
        return Err(io::Error::other(format!(
            "{address} can be reached from other machines; only loopback addresses, such as \
             127.0.0.1, are served"
        )));
    }
    tcp.set_nonblocking(true)?;
    Ok(Listener::Tcp(mio::net::TcpListener::from_std(tcp)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::UdpSocket;
    use std::os::fd::IntoRawFd as _;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_number_becomes_the_one_owner_of_its_socket() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("socket");
        let number = UnixListener::bind(&path).unwrap().into_raw_fd();
        let Listener::Unix(listener) = listener(own(number).unwrap()).unwrap() else {
            panic!("it is a Unix socket");
        };
        let address = listener.local_addr().unwrap();
        assert_eq!(address.as_pathname(), Some(&*path));
        UnixStream::connect(&path).unwrap();
        drop(listener);
        let error = UnixStream::connect(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_port_is_accepted_that_only_this_machine_reaches() {
        for (address, is_good) in [
            ("127.0.0.1:0", true),
            ("[::1]:0", true),
            ("127.8.9.1:0", true),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
        ] {
            let descriptor = OwnedFd::from(TcpListener::bind(address).unwrap());
            let listener = listener(descriptor);
            assert_eq!(
                matches!(listener, Ok(Listener::Tcp(_))),
                is_good,
                "{address}"
            );
        }
    }

    #[test]
    fn only_a_listening_stream_socket_is_accepted() {
        let place = tempfile::tempdir().unwrap();
        let (connected, _other) = UnixStream::pair().unwrap();
        let datagram = UnixDatagram::bind(place.path().join("datagram")).unwrap();
        for descriptor in [
            OwnedFd::from(connected),
            OwnedFd::from(datagram),
            OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap()),
            OwnedFd::from(File::open("/dev/null").unwrap()),
        ] {
            assert!(listener(descriptor).is_err());
        }
    }
}
