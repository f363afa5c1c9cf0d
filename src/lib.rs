//! onionbus: a message bus for Tor controllers. This page is the map of the rooms.
//!
//! What it does is told in onionbus(8), what it says to controllers in onionbus-protocol(7).
//!
//! # The way of the data
//!
//! ```text
//!            kernel
//!              | octets                                               octets ^
//!   server     |  read, one turn of at most 64 KiB for each connection       |
//!   wire       v  detect, text::Framer, binary::{Fragments, next}: -> frame  |
//!   wire       v  text::parse, binary::parse: a frame -> Request | Refusal   |
//!   session    v  is it logged in? which dialect? -> Step                    |
//!   server     v  execute: carry the Request out                             |
//!              |   \__ bus: names, MessageIDs, mail     -> Posted, messages  |
//!              |   \__ options: get, set, save          -> Change            |
//!              v  Reply | Refusal, and Events for later                      |
//!   wire       v  encode_reply, encode_refusal                               |
//!   outbox     +---------------- send --------------------------------------->
//!              |                                                             ^
//!   server     v  hand_over: Events, subscriptions                           |
//!   bus        v  fanout: who subscribed? encode_event once for each dialect |
//!   outbox     +---------------- send, one write for each reader, or pages ---
//! ```
//!
//! [`wire`], [`session`] and [`bus::Bus`] do no I/O, read no clock and hold no lock: they are
//! functions of what they are given, so a test can feed them octet by octet.
//!
//! # The rooms
//!
//! - `main.rs`, `cli/`: arguments to a command, exit codes, and the client commands with their own
//!   small reader of replies. They know nothing of how the daemon works.
//! - [`wire`]: the text protocol and the binary one with its two dialects, and the values that they
//!   share: `Request`, `Reply`, `Refusal`, `Event`. No I/O, no meaning of an option, no other
//!   controller.
//! - [`session`]: one controller's conversation: its dialect, its login, its next command. No
//!   sockets, no threads, no names.
//! - [`bus`]: every controller's name, mail and subscriptions, the `MessageID`s, the history; and
//!   [`bus::fanout`], which delivers. No parsing, no reading.
//! - [`options`]: torrc syntax, the one [table](options::table) of all options, set and save as
//!   one transaction. Not what an option means to others.
//! - [`outbox`]: the write half of one connection, bounded; nothing else writes to it. Not which
//!   event goes to whom.
//! - [`tor`]: the Tor behind the bus: its login, where its replies and events end, fences, whose
//!   each command is, and what binary requests are in its words. No sockets.
//! - [`server`]: the loop: listeners, turns, timers, signals; carries out requests. No parsing, no
//!   wording of the protocols.
//! - [`sys`]: paths, sockets with modes, peers, the state directory, descriptors, pages, the clock.
//!   No policy.
//! - [`logging`]: the log, to standard error and as events.
//!
//! A line of code knows its room: it spells a CRLF, a status or a type number: `wire`; it names an
//! option's syntax: `options`; it knows a second controller: `bus`; it reads a socket: `server`;
//! it writes to one: `outbox`; it makes any other system call: `sys`; it remembers what one
//! controller said before: `session`.
//!
//! Two things stand outside on purpose: `options` reads and writes its own file, and [`server`]
//! talks to the service manager.
//!
//! # The threads
//!
//! 1. **The loop** ([`server::run`], the main thread) owns everything but what delivery needs: it
//!    reads, decides, gives each message its `MessageID`, answers. So a `250` or `552` is true when
//!    it is sent. It never waits for a controller.
//! 2. **The fan-out thread** ([`bus::fanout`]) takes events in order from a bounded channel, and
//!    gives each outbox its whole share in one write, or many the same pages. It never waits for
//!    the loop, so the loop may wait for it when the channel is full. One event for a few
//!    controllers, while nothing else is to be done, is not worth waking it: that the loop
//!    delivers, with the same code and the same state, which whoever delivers has to itself.
//!
//! A third only writes the log to standard error, so that nobody waits for whoever reads that: a
//! line is rather lost, and counted. Signals reach the loop through a pipe.
//!
//! # The locks
//!
//! There is one that matters, in [`outbox::Outbox`], around what the kernel did not take. Both
//! threads send, and whoever holds it writes, without blocking. While it is held nothing is encoded
//! or logged, nothing is sent into a channel, and no other lock is taken: so there is no order of
//! locks to keep. Two more are held for no longer than to put something down or to take it: one
//! where the lines of the log wait to become events, one where what delivery needs lies while
//! nobody delivers. What else both threads see are atomics: the limits and counters of
//! [`outbox::Outlet`], the levels of [`logging::Logging`], how much was handed over and is not
//! delivered, in all and for each outbox, and whether the loop waits for that.
//!
//! # What holds
//!
//! - Replies come in the order of the commands, and events never inside one. A reply goes straight
//!   to the outbox, unless something for this controller is handed over and not delivered
//!   ([`outbox::Outbox::is_behind`]): then it goes the same way.
//! - The events of a turn are handed over after its replies were sent.
//! - A change of subscription goes the way of the events, and its `250 OK` with it: what happened
//!   before is judged by the old one, and nothing comes after that was not asked for.
//! - `MessageID`s ascend for every controller, because one thread gives them, and the loop delivers
//!   only once the other has delivered everything that it was handed.
//! - Nothing that a controller sends or leaves unread takes memory without a bound: commands end
//!   at 1 MiB, a queue at `BusMaxQueue`, and who does not read replies is not read from.
#![forbid(unsafe_code)]

pub mod bus;
pub mod logging;
pub mod options;
pub mod outbox;
pub mod server;
pub mod session;
pub mod sys;
pub mod tor;
pub mod wire;
