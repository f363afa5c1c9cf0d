//! Receiving from a controller.

use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;

use rustix::net::{RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg};

/// Receives octets; the number of them, and whether descriptors came along. Those are closed by
/// the kernel, which ends a read behind them although more may be there.
pub fn receive(socket: impl AsFd, room: &mut [u8]) -> io::Result<(usize, bool)> {
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(room)],
        &mut RecvAncillaryBuffer::default(),
        RecvFlags::empty(),
    )?;
    Ok((received.bytes, received.flags.contains(ReturnFlags::CTRUNC)))
}
