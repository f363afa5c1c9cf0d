//! The write half of one connection, and the only place that writes to it.
//!
//! Both threads send: the loop its replies, the fan-out thread events. Whoever holds the lock
//! writes, without blocking; what the kernel does not take is queued here, and the loop sends it
//! once the socket is writable again. The lock guards that queue and this socket and nothing else.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, Waker};
use parking_lot::Mutex;

use crate::account::{Account, Bound, Buffer};
use crate::sys::pages::Pages;
use crate::sys::stream::Stream;

/// Events of a socket that the loop reads. Urgent octets are among them since a read ends before
/// them.
pub const RECEIVING: Interest = Interest::READABLE.add(Interest::PRIORITY);

/// The most pieces of a queue that one write takes.
const SLICES: usize = 8;

/// What all outboxes have in common.
#[derive(Debug)]
pub struct Outlet {
    /// Where a socket that must become writable is registered.
    registry: Registry,
    /// `BusMaxQueue`: the most octets that may wait for one controller.
    pub max_queue: AtomicUsize,
    /// Octets written to controllers since the daemon started.
    pub written: AtomicU64,
    /// The most octets that have waited for one controller.
    pub most_waiting: AtomicUsize,
    /// Wakes the loop, which waits for a [delivery](Outbox::await_delivery), or must find out who
    /// holds too much.
    waker: Waker,
}

impl Outlet {
    /// For the sockets registered with the loop that `registry` is of. `delivered` is what the loop
    /// is told when something was delivered that it waits for: one such for each loop.
    pub fn new(registry: &Registry, delivered: Token, max_queue: usize) -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new(registry, delivered)?,
            registry: registry.try_clone()?,
            max_queue: AtomicUsize::new(max_queue),
            written: AtomicU64::new(0),
            most_waiting: AtomicUsize::new(0),
        })
    }

    /// Wakes the loop.
    pub fn wake(&self) {
        // It fails only where the loop can have no more wake-ups than it has.
        let _ = self.waker.wake();
    }
}

/// The write half of one connection.
#[derive(Debug)]
pub struct Outbox {
    stream: Stream,
    token: Token,
    outlet: Arc<Outlet>,
    behind: AtomicU32,
    /// The loop waits until nothing is behind.
    awaited: AtomicBool,
    account: Arc<Account>,
    /// The octets that its buffers are charged as.
    charged: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: Buffer,
    /// Events that wait for the end of a reply.
    held: Option<Box<Buffer>>,
    phase: Phase,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes octets.
    Open,
    /// It ends as soon as the queue is empty.
    Finishing,
    /// It has ended: everything was sent, or the other end is gone.
    Ended,
    /// It was cut off, since this bound was exceeded.
    CutOff(Bound),
}

impl Outbox {
    /// The write half of `stream`, which is registered as readable under `token`. What waits is
    /// charged to `account`.
    #[must_use]
    pub fn new(
        stream: impl Into<Stream>,
        token: Token,
        outlet: Arc<Outlet>,
        account: Arc<Account>,
    ) -> Self {
        Self {
            stream: stream.into(),
            token,
            outlet,
            behind: AtomicU32::new(0),
            awaited: AtomicBool::new(false),
            charged: AtomicUsize::new(0),
            state: Mutex::new(State {
                queue: Buffer::new(Arc::clone(&account)),
                held: None,
                phase: Phase::Open,
            }),
            account,
        }
    }

    /// The socket, to be read from.
    pub const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends `slices` in order, now or as soon as the kernel takes them.
    ///
    /// A controller that would have more than `BusMaxQueue` octets waiting is cut off instead:
    /// the loop sees the end of the connection and [`Phase::CutOff`].
    pub fn send(&self, slices: &mut [IoSlice<'_>]) {
        let mut state = self.state.lock();
        self.write(&mut state, slices);
    }

    /// Sends the octets of `range`, like [`send`](Self::send).
    pub fn send_pages(&self, pages: &Pages<'_>, mut range: Range<usize>) {
        let mut state = self.state.lock();
        while state.phase == Phase::Open && state.queue.is_empty() && !range.is_empty() {
            match pages.send(&self.stream, &range) {
                Ok(taken @ 1..) => {
                    self.count(taken);
                    range.start += taken;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A write finds out what the matter is, or succeeds where this cannot.
                Ok(0) | Err(_) => break,
            }
        }
        if !range.is_empty() {
            let rest = IoSlice::new(&pages.octets()[range]);
            self.write(&mut state, &mut [rest]);
        }
    }

    fn write(&self, state: &mut State, mut slices: &mut [IoSlice<'_>]) {
        if state.phase != Phase::Open {
            return;
        }
        let idle = state.queue.is_empty();
        while idle && !slices.is_empty() {
            match (&self.stream).write_vectored(slices) {
                Ok(taken) => {
                    self.count(taken);
                    IoSlice::advance_slices(&mut slices, taken);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.end(state, Phase::Ended),
            }
        }
        let rest: usize = slices.iter().map(|slice| slice.len()).sum();
        if rest == 0 {
            return;
        }
        if rest > self.max_queue().saturating_sub(state.queue.len()) {
            return self.end(state, Phase::CutOff(Bound::Queue));
        }
        let mut exceeds = false;
        for slice in slices.iter() {
            exceeds |= state.queue.push(slice);
        }
        let most = &self.outlet.most_waiting;
        most.fetch_max(state.queue.len(), Ordering::Relaxed);
        self.note_charge(state, exceeds);
        if idle && !self.register(RECEIVING | Interest::WRITABLE) {
            self.end(state, Phase::Ended);
        }
    }

    /// Keeps octets of events until [`take_held`](Self::take_held): a reply has no end yet.
    pub fn hold(&self, octets: &[u8]) {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return;
        }
        let held = state
            .held
            .get_or_insert_with(|| Box::new(Buffer::new(Arc::clone(&self.account))));
        let exceeds = held.push(octets);
        if held.len() > self.max_queue() {
            return self.end(&mut state, Phase::CutOff(Bound::Queue));
        }
        self.note_charge(&state, exceeds);
    }

    /// Takes what was [held](Self::hold), appending it to `octets`.
    pub fn take_held(&self, octets: &mut Vec<u8>) {
        let mut state = self.state.lock();
        if let Some(held) = state.held.take() {
            held.pieces()
                .for_each(|piece| octets.extend_from_slice(piece));
            self.note_charge(&state, false);
        }
    }

    /// Notes what is charged now. The loop is woken where that exceeds a bound.
    fn note_charge(&self, state: &State, exceeds: bool) {
        let held = state.held.as_ref().map_or(0, |held| held.charged());
        let charged = state.queue.charged() + held;
        self.charged.store(charged, Ordering::Relaxed);
        if exceeds {
            // It fails only where the loop can have no more wake-ups than it has.
            let _ = self.outlet.waker.wake();
        }
    }

    /// The account of the user at the other end.
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The octets of memory that wait here.
    pub fn charged(&self) -> usize {
        self.charged.load(Ordering::Relaxed)
    }

    /// `BusMaxQueue`.
    pub fn max_queue(&self) -> usize {
        self.outlet.max_queue.load(Ordering::Relaxed)
    }

    /// Sends what is queued, as far as the kernel takes it now.
    pub fn flush(&self) {
        let mut state = self.state.lock();
        if state.queue.is_empty() {
            return;
        }
        while !state.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, piece) in slices.iter_mut().zip(state.queue.pieces()) {
                *slice = IoSlice::new(piece);
            }
            match (&self.stream).write_vectored(&slices) {
                Ok(taken) => {
                    self.count(taken);
                    state.queue.consume(taken);
                    self.note_charge(&state, false);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.end(&mut state, Phase::Ended),
            }
        }
        if state.phase == Phase::Finishing || !self.register(RECEIVING) {
            self.end(&mut state, Phase::Ended);
        }
    }

    /// Ends the connection once everything that is queued has been sent.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return;
        }
        if state.queue.is_empty() {
            self.end(&mut state, Phase::Ended);
        } else {
            state.phase = Phase::Finishing;
        }
    }

    /// Cuts the connection off, since `bound` is exceeded and it has the most.
    pub fn cut_off(&self, bound: Bound) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Open | Phase::Finishing) {
            self.end(&mut state, Phase::CutOff(bound));
        }
    }

    /// Ends the connection now; what is queued is lost, and the loop hears no more of it.
    pub fn abandon(&self) {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Ended | Phase::CutOff(_)) {
            self.end(&mut state, Phase::Ended);
        }
        // The fan-out may have the socket for a while, and another connection its token. It fails
        // only for a socket that is not registered.
        let fd = self.stream.as_raw_fd();
        let _ = self.outlet.registry.deregister(&mut SourceFd(&fd));
    }

    /// Takes no more from the other end: whatever it writes from now on fails.
    ///
    /// To be called before the last reply is sent, so that whoever has read it knows.
    pub fn refuse_input(&self) {
        // It fails only if the other end is gone, which the next write will find.
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    /// Octets that the kernel has not taken yet.
    pub fn waiting(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// How far the connection has come.
    pub fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// The loop has handed something for this outbox to the fan-out. Until that is
    /// [`delivered`](Self::delivered), its replies must take the same way to stay in order.
    pub fn handed_over(&self) {
        self.behind.fetch_add(1, Ordering::Relaxed);
    }

    /// The fan-out has sent what was [`handed_over`](Self::handed_over).
    pub fn delivered(&self) {
        let was_last = self.behind.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && self.awaited.swap(false, Ordering::SeqCst) {
            self.outlet.wake();
        }
    }

    /// Whether something handed over is still to be delivered. If so, the loop is woken once
    /// nothing is.
    pub fn await_delivery(&self) -> bool {
        self.awaited.store(true, Ordering::SeqCst);
        // Only now: what was delivered before that wakes nobody. The mark stays if nothing is behind:
        // the loop may wait for the same on behalf of another token, and one wake-up too many is
        // better than none.
        self.behind.load(Ordering::SeqCst) > 0
    }

    /// How many things handed over are still to be delivered.
    pub fn behind(&self) -> usize {
        self.behind.load(Ordering::Acquire) as usize
    }

    /// Whether something handed over is still to be delivered.
    pub fn is_behind(&self) -> bool {
        self.behind() > 0
    }

    fn count(&self, octets: usize) {
        self.outlet
            .written
            .fetch_add(octets as u64, Ordering::Relaxed);
    }

    /// Asks the loop to be woken. Registering as writable only while something waits matters:
    /// every read at the other end would wake the loop otherwise.
    fn register(&self, interest: Interest) -> bool {
        let fd = self.stream.as_raw_fd();
        let registry = &self.outlet.registry;
        registry
            .reregister(&mut SourceFd(&fd), self.token, interest)
            .is_ok()
    }

    fn end(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        state.queue.clear();
        state.held = None;
        self.note_charge(state, false);
        // It fails only if the other end is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use mio::net::UnixStream;

    use super::*;
    use crate::account::Accounts;

    fn pair(max_queue: usize) -> (mio::Poll, Outbox, std::os::unix::net::UnixStream) {
        let poll = mio::Poll::new().unwrap();
        let (mut here, there) = UnixStream::pair().unwrap();
        poll.registry()
            .register(&mut here, Token(0), Interest::READABLE)
            .unwrap();
        let outlet = Outlet::new(poll.registry(), Token(1), max_queue).unwrap();
        let there = std::os::unix::net::UnixStream::from(std::os::fd::OwnedFd::from(there));
        let account = Accounts::new(usize::MAX, usize::MAX).of(1);
        let outbox = Outbox::new(here, Token(0), Arc::new(outlet), account);
        (poll, outbox, there)
    }

    #[test]
    fn what_the_kernel_does_not_take_waits_and_keeps_its_order() {
        let (_poll, outbox, mut there) = pair(1 << 24);
        let data: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
        for part in data.chunks(100_000) {
            let (left, right) = part.split_at(part.len() / 3);
            outbox.send(&mut [IoSlice::new(left), IoSlice::new(right)]);
        }
        assert!(outbox.waiting() > 0);
        outbox.finish();
        assert_eq!(outbox.phase(), Phase::Finishing);
        there.set_nonblocking(true).unwrap();
        let mut read = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match there.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => read.extend_from_slice(&buffer[..length]),
                Err(_) => outbox.flush(),
            }
        }
        assert!(read == data);
        assert_eq!(outbox.phase(), Phase::Ended);
        assert_eq!(
            outbox.outlet.written.load(Ordering::Relaxed),
            data.len() as u64
        );
    }

    #[test]
    fn what_the_kernel_does_not_take_of_pages_waits_too() {
        let (_poll, outbox, mut there) = pair(1 << 24);
        let data: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let pages = Pages::of(&data).unwrap();
        outbox.send_pages(&pages, 10..400_000);
        outbox.send_pages(&pages, 400_000..data.len());
        assert!((1..data.len() - 10).contains(&outbox.waiting()));
        outbox.finish();
        there.set_nonblocking(true).unwrap();
        let mut read = Vec::new();
        while outbox.phase() != Phase::Ended {
            let _ = there.read_to_end(&mut read);
            outbox.flush();
        }
        there.read_to_end(&mut read).unwrap();
        assert!(read == data[10..]);
        let written = outbox.outlet.written.load(Ordering::Relaxed);
        assert_eq!(written, read.len() as u64);
    }

    #[test]
    fn the_loop_is_woken_once_all_is_delivered_that_it_waits_for() {
        let (mut poll, outbox, _there) = pair(1000);
        let mut events = mio::Events::with_capacity(4);
        let mut is_woken = || {
            let now = Some(std::time::Duration::ZERO);
            poll.poll(&mut events, now).unwrap();
            events.iter().any(|event| event.token() == Token(1))
        };
        assert!(!outbox.await_delivery());
        outbox.handed_over();
        outbox.handed_over();
        assert!(outbox.await_delivery());
        outbox.delivered();
        assert!(!is_woken());
        outbox.delivered();
        assert!(is_woken());
        outbox.handed_over();
        outbox.delivered();
        assert!(!is_woken());
    }

    #[test]
    fn over_the_limit_it_is_cut_off_and_holds_nothing() {
        let (_poll, outbox, _there) = pair(1000);
        let octets = vec![0; 10_000_000];
        outbox.send(&mut [IoSlice::new(&octets)]);
        assert_eq!(outbox.phase(), Phase::CutOff(Bound::Queue));
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn a_peer_that_is_gone_ends_it() {
        let (_poll, outbox, there) = pair(1000);
        drop(there);
        outbox.send(&mut [IoSlice::new(b"x")]);
        assert_eq!(outbox.phase(), Phase::Ended);
    }
}
