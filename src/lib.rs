//! onionbus: a message bus for Tor controllers. This page is the map of the rooms.
//!
//! onionbus(8) says what it does, onionbus-protocol(7) what it and controllers say to each other.
//!
//! # The way of the data
//!
//! ```text
//!              kernel                                          kernel
//!                | octets                                        ^ octets
//!   server       v one turn: read at most 64 KiB                 |
//!   controller   v wire: detect, cut, parse: -> Request          |
//!   controller   v Plan: who carries it out? must it wait?       |
//!   server       |                                               |
//!     |          +-> Bus:    execute: bus, options: -> Reply ----+ encode_reply
//!     |          +-> Refuse: -> Refusal -------------------------+ encode_refusal
//!     |          +-> Relay:  the octets as they came -> leg      |
//!     |          +-> Ask:    a Query for both        -> leg      |
//!     |                      Tor's replies   <- leg -------------+ as they are
//!     |                      an answer       <- leg: merge ------+ and the bus's part
//!     v Events
//!   bus::fanout    who subscribed? encode once a dialect -> outbox: one write each, or pages
//! ```
//!
//! A GETINFO of which all values are Tor's has its plan without being parsed: programs ask such
//! questions by the hundred.
//!
//! Tor's half, where a Tor is behind the bus:
//!
//! ```text
//!   leg       one for each controller that needs Tor   <-> link <-> Tor
//!   watcher   one for the daemon: SETEVENTS, events     <-> link <-> Tor
//!   keeper    one for the daemon: what is kept          <-> link <-> Tor
//!   upstream  is Tor there? when is it tried again? its version, chain, identifiers, names
//! ```
//!
//! A [leg](tor::leg::Leg) knows which of Tor's octets answer which command, by counting replies
//! and by [fences](tor::fence). The [watcher](tor::watcher::Watcher) subscribes to what at least
//! one controller wants; its events go to the fan-out like the bus's own. The
//! [upstream](tor::upstream::Upstream) owns the watcher while Tor is there, and before that only a
//! time to try again. Every link begins with the [login](tor::login::Login), which also finds out
//! whether fences get through, and whether the way leads back here.
//!
//! # The rooms
//!
//! - `main.rs`, `cli/`: arguments to a command, one file for each subcommand, exit codes. The
//!   client commands read replies with [`wire`], as Tor's are read. Not how the daemon works.
//! - [`command`]: the one table of commands (keyword, whose it is, how many replies, type of its
//!   frames) and that of [GETINFO's keys](command::keys). No parsing, no doing.
//! - [`wire`]: octets to values and back: detection, the text protocol, the binary one with its
//!   dialects, torrc syntax, the reader of replies and events, and the values that all share:
//!   `Request`, [`Fields`](wire::fields::Fields), `Reply`, `Refusal`, `Event`. Not what an option
//!   means, no other controller.
//! - [`account`]: the octets that each user makes the daemon hold, and their bounds. Not who loses
//!   what when one is exceeded: `server::memory`, and for what comes faster than the loop has its
//!   turns, the subscribers of [`bus`].
//! - [`auth`]: cookies, passwords, and the proofs of who knows one. Not who asks for them.
//! - [`policy`]: what each controller may do: identity, the files' blocks, and the verdict on a
//!   command by its [fields](wire::fields). No sockets, no files, nothing of Tor's but whose it is.
//! - [`audit`]: who did what: actions by their names, and what came from outside the bus. No files:
//!   the line of the log is made here, and written by [`server`]. Not who may do something.
//! - [`controller`]: everything that belongs to one controller: its
//!   [conversation](controller::Conversation) (dialect, login, next command), its
//!   [plan](controller::Plan) for a command, its input and replies, its leg, and the
//!   [reason](controller::Wait) why it is not served now. No sockets, no other controller.
//! - [`keep`]: what Tor forgets and the daemon keeps: onion services and whose they are, keys, maps;
//!   made on the daemon's own connection, and given to the next Tor. No sockets, no files.
//! - [`tor`]: the Tor behind the bus, as above, and what of a command or an answer is the bus's
//!   ([`merge`](tor::merge)) and what binary requests are in its words
//!   ([`translate`](tor::translate)). `handle_*` in, `poll_*` out. No sockets, no controllers.
//! - [`bus`]: every controller's name, mail and subscriptions, the `MessageID`s, the history; and
//!   [`bus::fanout`], which delivers. No parsing, no reading.
//! - [`options`]: the one [table](options::table) of all options; set, reset, load and save as one
//!   transaction. Not what an option means to others.
//! - [`outbox`]: the write half of one connection, bounded; nothing else writes to it once a
//!   controller is let in. Not which event goes to whom.
//! - [`server`]: the loop, with [`outbox`] the only mio code; it carries out what the others
//!   decide, and spells nothing of the protocols. The loop is in `mod.rs` (`Server`: the sockets of
//!   all); `daemon` is everything that controllers share (`Daemon`: bus, options, queue of turns,
//!   Tor); `connection` one controller with its sockets; `source` whatever can be ready, as a token
//!   and back; `turn` one controller's turn, `replies` what it is sent and `ends` how it leaves;
//!   `execute`, `info` and `options` the requests; `work` those of them that take long; `readable` whether a socket is to be read; `link` one
//!   socket to Tor, `leg`, `tor_side` and `spare` those of controllers, of the daemon and of the
//!   next controller; `memory` what goes where too much is kept; `court` the policy in force and
//!   `policy` what follows from it; `audit` who did what, and the log of it; `keeper` the keeper's
//!   connection and store, `kept` the commands it has to do with; `accept`, `confinement`, `files`,
//!   `timers`, `signals` and `shutdown` what their names say.
//! - [`sys`]: every other system call: paths, sockets with modes, peers, the state directory,
//!   descriptors, pages, the clock. No policy.
//! - [`logging`]: the log, to standard error and as events.
//!
//! [`account`], [`command`], [`wire`], [`auth`], [`policy`], [`audit`], [`controller`], [`keep`] and
//! [`tor`] do no I/O, read no clock and hold no lock: they are functions of what they are given, the
//! time included, so a test feeds them octet by octet on a time of its own. `tests/rooms.rs` holds
//! that, and which room may name which.
//!
//! A line of code knows its room: it makes a system call: `server`, `sys`, `outbox`; it spells a
//! CRLF, a status or a type number: `wire`; it names a command or a key: `command`; an option:
//! `options`; it asks who somebody is: `policy`; it knows a second controller: `bus`; it knows
//! Tor's side: `tor`; otherwise it is about one controller: `controller`.
//!
//! Two things stand outside on purpose: `options` reads and writes its own file, and [`server`]
//! talks to the service manager.
//!
//! # The threads
//!
//! 1. **The loop** ([`server::Server`], the main thread) owns everything but what delivery needs:
//!    it reads, decides, gives each message its `MessageID`, answers. So a `250` or `552` is true
//!    when it is sent. It never waits for a controller, and for Tor only at the start, for a
//!    second at most.
//! 2. **The fan-out thread** ([`bus::fanout`]) takes events in order from a bounded channel, and
//!    gives each outbox its whole share in one write, or many the same pages. It never waits for
//!    the loop, so the loop may wait for it when the channel is full. One event for a few
//!    controllers, while nothing else is to be done, is not worth waking it: that the loop
//!    delivers, with the same code and the same state, which whoever delivers has to itself.
//!
//! A third only writes the log to standard error, so that nobody waits for whoever reads that: a
//! line is rather lost, and counted. A fourth lives while SAVECONF writes the option file, and a
//! fifth while a name server is asked for the host of Tor. Signals reach the loop through a pipe.
//!
//! The main thread opens all that the daemon serves with, becomes `BusUser` before that, and
//! confines itself after it ([`sys::confinement`]). The other threads start later, so that they
//! inherit both.
//!
//! # The locks
//!
//! There is one that matters, in [`outbox::Outbox`], around what the kernel did not take. Both
//! threads send, and whoever holds it writes, without blocking. While it is held nothing is encoded
//! or logged, nothing is sent into a channel, and no other lock is taken: so there is no order of
//! locks to keep. Three more are held for no longer than to put something down or to take it: one
//! where the lines of the log wait to become events, one where lines of each kind are counted, one
//! where what delivery needs lies while nobody delivers. What else both threads see are atomics:
//! the limits and counters of [`outbox::Outlet`], the octets of each [`account`], the levels of
//! [`logging::Logging`], how much was handed over and is not delivered, in all and for each outbox,
//! whether the loop waits for that, and how many messages were delivered.
//!
//! # What holds
//!
//! - Replies come in the order of the commands, and events never inside one. A command of the bus
//!   waits until Tor has answered what was asked before. The bus's replies go straight to the
//!   outbox, unless something for this controller is handed over and not delivered
//!   ([`outbox::Outbox::is_behind`]): then they go the same way. Tor's go to the fan-out for
//!   everybody who has subscribed.
//! - A command that must wait is kept as its plan, and not parsed again, unless it is long or not
//!   judged yet. Under a policy, and where somebody is told of actions or something is kept, its
//!   fields are read besides its request, each time by the one reader in [`wire::fields`].
//! - The events of a turn are handed over after its replies were sent.
//! - A change of subscription goes the way of the events, and its `250 OK` with it: what happened
//!   before is judged by the old one, and nothing comes after that was not asked for.
//! - `MessageID`s ascend for every controller, because one thread gives them, and the loop delivers
//!   only once the other has delivered everything that it was handed.
//! - Sources have their turns in the order in which they became ready, so that what Tor said on two
//!   connections is nearly always heard as Tor said it.
//! - What a controller wrote before it closed is carried out in its order, as far as it needs no
//!   reply. It leaves the bus at once, whatever Tor does; what must wait for Tor goes on without it
//!   through the same window, for `BusTorTimeout` at most.
//! - What Tor sends is believed only as an answer to what it was asked: no event of the bus's own,
//!   none that nobody wants, no reply to nothing.
//! - What the daemon itself asks Tor has a deadline, `BusTorTimeout`.
//! - Nothing that a controller sends or leaves unread takes memory without a bound: commands end
//!   at 1 MiB, a queue at `BusMaxQueue`, who does not read replies is not read from, and what Tor
//!   was asked and has not answered ends at [`tor::leg::WINDOW`]. All of it together ends at
//!   `BusMaxMemory`, since whoever stores has a [`Charge`](account::Charge) for it: after its turn
//!   for what belongs to a connection, and at once for queues and messages. What is on its way to
//!   the fan-out is not charged, and ends at a few megabytes.
#![forbid(unsafe_code)]

pub mod account;
pub mod audit;
pub mod auth;
pub mod bus;
pub mod command;
pub mod controller;
pub mod keep;
pub mod logging;
pub mod options;
pub mod outbox;
pub mod policy;
pub mod server;
pub mod sys;
pub mod tor;
pub mod wire;
