//! Octets charged to users: the number that each user makes the daemon hold, and that of all.
//!
//! Each store of octets has a [`Charge`] beside it, which says how many they are and whose, and
//! takes them back when it goes. The numbers are atomics, since both threads store: nobody waits,
//! and where nothing is stored nothing is counted. Nothing here frees memory. The loop is told that
//! a [bound](Bound) is exceeded, and decides who loses; what comes faster than the loop has its
//! turns, whoever stores it keeps from exceeding the bound by more than [`SLACK`].

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The most octets by which a bound is exceeded until the loop has its turn.
pub const SLACK: usize = 8 << 20;

/// The most octets that an octet of a command takes once it is parsed: the words of GETCONF and
/// SETCONF have one octet and a blank each, and are kept with their lengths and places.
pub const PARSED: usize = 64;

/// The octets that the allocator, and whoever keeps the address, need for each piece of memory.
pub const PIECE: usize = 48;

/// The octets of the first and of the longest pieces of a buffer; the allocator gives the longest
/// back to the kernel at once.
const PIECES: (usize, usize) = (512, 128 * 1024);

/// The part of a bound that is freed at once, so that not every octet behind the bound makes
/// somebody look for who has the most.
const PART: usize = 64;

/// The bound that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `BusMaxQueue`: of one connection.
    Queue,
    /// `BusMaxMemoryPerUser`: of one user.
    User,
    /// `BusMaxMemory`: of all.
    All,
}

/// The octets of all, and their bounds.
#[derive(Debug)]
struct Ledger {
    held: AtomicUsize,
    most: AtomicUsize,
    most_of_user: AtomicUsize,
    /// A bound was exceeded since the loop has looked.
    exceeded: AtomicBool,
}

/// The octets of one user.
#[derive(Debug)]
pub struct Account {
    uid: u32,
    held: AtomicUsize,
    ledger: Arc<Ledger>,
}

/// Every account that holds anything or may.
#[derive(Debug)]
pub struct Accounts {
    ledger: Arc<Ledger>,
    accounts: HashMap<u32, Arc<Account>>,
}

/// Some octets of a user's, as long as they are held.
#[derive(Debug)]
pub struct Charge {
    account: Arc<Account>,
    octets: usize,
}

/// A user who holds too much, and what is to be freed before anybody looks again.
#[derive(Clone, Debug)]
pub struct Excess {
    /// The bound.
    pub bound: Bound,
    /// The user.
    pub account: Arc<Account>,
    /// The octets to be freed.
    pub octets: usize,
}

impl Accounts {
    /// No accounts yet, with these bounds for all octets and for those of one user.
    #[must_use]
    pub fn new(most: usize, most_of_user: usize) -> Self {
        Self {
            ledger: Arc::new(Ledger {
                held: AtomicUsize::new(0),
                most: AtomicUsize::new(most),
                most_of_user: AtomicUsize::new(most_of_user),
                exceeded: AtomicBool::new(false),
            }),
            accounts: HashMap::new(),
        }
    }

    /// Changes the bounds.
    pub fn set_bounds(&self, most: usize, most_of_user: usize) {
        self.ledger.most.store(most, Ordering::Relaxed);
        let of_user = &self.ledger.most_of_user;
        of_user.store(most_of_user, Ordering::Relaxed);
        self.ledger.exceeded.store(true, Ordering::Release);
    }

    /// The account of a user.
    pub fn of(&mut self, uid: u32) -> Arc<Account> {
        if let Some(account) = self.accounts.get(&uid) {
            return Arc::clone(account);
        }
        // Whoever is not here and holds nothing has no other use for it.
        self.accounts
            .retain(|_, account| Arc::strong_count(account) > 1);
        let account = Arc::new(Account {
            uid,
            held: AtomicUsize::new(0),
            ledger: Arc::clone(&self.ledger),
        });
        self.accounts.insert(uid, Arc::clone(&account));
        account
    }

    /// Whether a bound was exceeded since the last call.
    pub fn poll_exceeded(&self) -> bool {
        let exceeded = &self.ledger.exceeded;
        // Nobody writes while nothing happens: the other thread reads it.
        exceeded.load(Ordering::Acquire) && exceeded.swap(false, Ordering::AcqRel)
    }

    /// The user who must lose something now: of the whole bound it is the one with the most.
    #[must_use]
    pub fn excess(&self) -> Option<Excess> {
        let greediest = self
            .accounts
            .values()
            .max_by_key(|account| account.held())?;
        greediest.excess(0)
    }

    /// The octets that all hold.
    #[must_use]
    pub fn held(&self) -> usize {
        self.ledger.held.load(Ordering::Relaxed)
    }
}

impl Account {
    /// The user.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// The octets that the user holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// What the user, being the one with the most, holds too much of beyond `slack`.
    #[must_use]
    pub fn excess(self: &Arc<Self>, slack: usize) -> Option<Excess> {
        let ledger = &self.ledger;
        let of_all = (Bound::All, &ledger.held, &ledger.most);
        let of_user = (Bound::User, &self.held, &ledger.most_of_user);
        [of_user, of_all]
            .into_iter()
            .find_map(|(bound, held, most)| {
                let most = most.load(Ordering::Relaxed);
                let held = held.load(Ordering::Relaxed);
                let beyond = held.checked_sub(most.saturating_add(slack))?;
                (beyond > 0).then(|| Excess {
                    bound,
                    account: Arc::clone(self),
                    octets: beyond.min(most / PART) + most / PART,
                })
            })
    }

    /// `true` if a bound is exceeded that was not before.
    fn add(&self, octets: usize) -> bool {
        let ledger = &self.ledger;
        let of_user = self.held.fetch_add(octets, Ordering::Relaxed) + octets;
        let of_all = ledger.held.fetch_add(octets, Ordering::Relaxed) + octets;
        let exceeds = of_user > ledger.most_of_user.load(Ordering::Relaxed)
            || of_all > ledger.most.load(Ordering::Relaxed);
        exceeds && !ledger.exceeded.swap(true, Ordering::AcqRel)
    }

    fn subtract(&self, octets: usize) {
        self.held.fetch_sub(octets, Ordering::Relaxed);
        self.ledger.held.fetch_sub(octets, Ordering::Relaxed);
    }
}

impl Charge {
    /// `octets` of a user's.
    #[must_use]
    pub fn new(account: Arc<Account>, octets: usize) -> Self {
        let mut charge = Self { account, octets: 0 };
        charge.set(octets);
        charge
    }

    /// The user's account.
    #[must_use]
    pub const fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// The octets.
    #[must_use]
    pub const fn octets(&self) -> usize {
        self.octets
    }

    /// They are so many now. `true` if a bound is exceeded that was not before.
    pub fn set(&mut self, octets: usize) -> bool {
        let before = std::mem::replace(&mut self.octets, octets);
        if octets > before {
            return self.account.add(octets - before);
        }
        if octets < before {
            self.account.subtract(before - octets);
        }
        false
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Octets that wait to be taken from the front, charged with all the memory that they take.
#[derive(Debug)]
pub struct Buffer {
    /// None is empty.
    pieces: VecDeque<Piece>,
    length: usize,
    charge: Charge,
}

#[derive(Debug)]
struct Piece {
    octets: Vec<u8>,
    /// Those before were taken.
    start: usize,
}

impl Piece {
    fn waiting(&self) -> &[u8] {
        self.octets.get(self.start..).unwrap_or_default()
    }

    fn cost(&self) -> usize {
        self.octets.capacity() + size_of::<Self>() + PIECE
    }
}

impl Buffer {
    /// An empty one of a user's.
    #[must_use]
    pub fn new(account: Arc<Account>) -> Self {
        Self {
            pieces: VecDeque::new(),
            length: 0,
            charge: Charge::new(account, 0),
        }
    }

    /// The octets that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether none wait.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The user's account.
    #[must_use]
    pub const fn account(&self) -> &Arc<Account> {
        self.charge.account()
    }

    /// The octets that they are charged as.
    #[must_use]
    pub const fn charged(&self) -> usize {
        self.charge.octets()
    }

    /// Appends octets. `true` if a bound is exceeded that was not before.
    pub fn push(&mut self, mut octets: &[u8]) -> bool {
        let mut charged = self.charged();
        while !octets.is_empty() {
            if let Some(last) = self.pieces.back_mut()
                && let room @ 1.. = last.octets.capacity() - last.octets.len()
            {
                let (now, later) = octets.split_at(room.min(octets.len()));
                last.octets.extend_from_slice(now);
                self.length += now.len();
                octets = later;
            } else {
                // Twice as much each time, as any vector grows, but nothing is moved.
                let (least, most) = PIECES;
                let size = octets.len().max(self.length).clamp(least, most);
                let piece = Piece {
                    octets: Vec::with_capacity(size),
                    start: 0,
                };
                charged += piece.cost();
                self.pieces.push_back(piece);
            }
        }
        self.charge.set(charged)
    }

    /// The pieces that wait, in order; none of them is empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(Piece::waiting)
    }

    /// Takes octets from the front.
    pub fn consume(&mut self, mut octets: usize) {
        let mut charged = self.charged();
        self.length = self.length.saturating_sub(octets);
        while let Some(first) = self.pieces.front_mut() {
            let waiting = first.waiting().len();
            if octets < waiting {
                first.start += octets;
                break;
            }
            octets -= waiting;
            charged -= first.cost();
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
        self.charge.set(charged);
    }

    /// Drops all of them.
    pub fn clear(&mut self) {
        self.pieces = VecDeque::new();
        self.length = 0;
        self.charge.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_and_all_hold_what_is_not_given_back() {
        let mut accounts = Accounts::new(1000, 600);
        let (one, other) = (accounts.of(1), accounts.of(2));
        let mut charge = Charge::new(Arc::clone(&one), 100);
        let second = Charge::new(accounts.of(1), 300);
        let third = Charge::new(Arc::clone(&other), 200);
        assert_eq!((one.held(), other.held(), accounts.held()), (400, 200, 600));
        charge.set(50);
        drop(second);
        assert_eq!((one.held(), other.held(), accounts.held()), (50, 200, 250));
        drop((charge, third));
        assert_eq!((one.held(), other.held(), accounts.held()), (0, 0, 0));
        drop((one, other));
        accounts.of(3);
        assert_eq!(accounts.accounts.len(), 1);
    }

    #[test]
    fn the_loop_is_told_once_and_finds_who_holds_too_much() {
        let mut accounts = Accounts::new(64_000, 40_000);
        let mut one = Charge::new(accounts.of(1), 0);
        let mut other = Charge::new(accounts.of(2), 20_000);
        assert!(!one.set(40_000));
        assert!(!accounts.poll_exceeded());
        assert!(one.set(40_001));
        assert!(!one.set(40_002));
        assert!(accounts.poll_exceeded());
        assert!(!accounts.poll_exceeded());
        let excess = accounts.excess().unwrap();
        assert_eq!((excess.bound, excess.account.uid()), (Bound::User, 1));
        assert_eq!(excess.octets, 2 + 40_000 / PART);
        one.set(30_000);
        assert!(accounts.excess().is_none());
        assert!(other.set(34_001));
        let excess = accounts.excess().unwrap();
        assert_eq!((excess.bound, excess.account.uid()), (Bound::All, 2));
        assert!(excess.account.excess(1).is_none());
        accounts.set_bounds(100_000, 20_000);
        assert!(accounts.poll_exceeded());
        assert_eq!(accounts.excess().unwrap().bound, Bound::User);
    }

    #[test]
    fn a_buffer_gives_out_in_order_what_it_was_given() {
        let mut accounts = Accounts::new(1 << 30, 1 << 30);
        let mut buffer = Buffer::new(accounts.of(1));
        let data: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut taken = Vec::new();
        for (round, part) in data.chunks(7_001).enumerate() {
            buffer.push(part);
            if round % 3 == 0 {
                let first = buffer.pieces().next().unwrap_or_default();
                let some = first.len() / 2 + 1;
                taken.extend_from_slice(&first[..some]);
                buffer.consume(some);
            }
            assert_eq!(
                buffer.len(),
                buffer.pieces().map(<[u8]>::len).sum::<usize>()
            );
            assert_eq!(accounts.held(), buffer.charged());
            assert!(buffer.charged() >= buffer.len());
        }
        assert!(buffer.charged() < buffer.len() + 2 * PIECES.1 + buffer.len() / 100);
        taken.extend(buffer.pieces().flatten());
        assert!(taken == data);
        buffer.consume(buffer.len());
        assert!(buffer.is_empty());
        assert_eq!(accounts.held(), 0);
    }

    #[test]
    fn little_that_waits_is_charged_as_little() {
        let mut accounts = Accounts::new(1 << 30, 1 << 30);
        let mut buffer = Buffer::new(accounts.of(1));
        for _ in 0..100 {
            buffer.push(&[b'x'; 40]);
        }
        assert!((4000..10_000).contains(&accounts.held()));
        buffer.clear();
        assert_eq!(accounts.held(), 0);
    }
}
