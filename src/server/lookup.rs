//! The addresses of Tor's host, where a name server is to tell them: asked off the loop, since the
//! C library may wait for minutes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, TryRecvError, bounded};

use crate::outbox::Outlet;

type Answer = io::Result<Vec<SocketAddr>>;

/// Questions for the addresses of one host, at most one at a time.
#[derive(Default)]
pub(super) struct Lookup {
    answer: Option<Receiver<Answer>>,
    /// The addresses tried so far: a host with several is tried at each in turn.
    tries: usize,
}

impl Lookup {
    /// Asks, unless an answer is awaited already. The loop is woken once it is there.
    pub(super) fn begin(&mut self, host: &str, port: u16, outlet: &Arc<Outlet>) -> io::Result<()> {
        if self.answer.is_some() {
            return Ok(());
        }
        let (sender, receiver) = bounded(1);
        let (host, outlet) = (host.to_owned(), Arc::clone(outlet));
        thread::Builder::new()
            .name("lookup".into())
            .spawn(move || {
                let found = (host.as_str(), port).to_socket_addrs();
                // The daemon may have ended meanwhile.
                let _ = sender.send(found.map(Iterator::collect));
                outlet.wake();
            })?;
        self.answer = Some(receiver);
        Ok(())
    }

    /// The address to try next, if an answer has come.
    pub(super) fn poll(&mut self) -> Option<io::Result<SocketAddr>> {
        let answer = match self.answer.as_ref()?.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(io::Error::other("the lookup has broken off")),
        };
        self.answer = None;
        Some(answer.and_then(|addresses| {
            let next = self.tries.checked_rem(addresses.len());
            self.tries = self.tries.wrapping_add(1);
            next.and_then(|next| addresses.get(next).copied())
                .ok_or_else(|| io::Error::other("the host has no address"))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(lookup: &mut Lookup, answer: Answer) -> io::Result<SocketAddr> {
        let (sender, receiver) = bounded(1);
        lookup.answer = Some(receiver);
        assert!(lookup.poll().is_none());
        sender.send(answer).unwrap();
        lookup.poll().unwrap()
    }

    #[test]
    fn each_address_has_its_turn() {
        let mut lookup = Lookup::default();
        let addresses: Vec<_> = ["192.0.2.1:1", "[2001:db8::1]:1"]
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect();
        for turn in 0..4 {
            let found = answered(&mut lookup, Ok(addresses.clone())).unwrap();
            assert_eq!(found, addresses[turn % 2]);
        }
        assert!(answered(&mut lookup, Ok(Vec::new())).is_err());
        assert!(answered(&mut lookup, Err(io::Error::other("x"))).is_err());
        let (_, receiver) = bounded(1);
        lookup.answer = Some(receiver);
        assert!(lookup.poll().unwrap().is_err(), "the thread has ended");
        assert!(lookup.poll().is_none());
    }
}
