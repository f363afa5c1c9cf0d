//! The floor server: the fewest system calls with which a server can deliver what it reads, in one
//! thread or in two. It reads 64 KiB, takes every whole line, answers them with one write, and
//! gives each recipient its share of them with one write.
//!
//! It speaks as much of the protocol of onionbus as the loads need, checks nothing, and keeps
//! nothing but what a socket did not take. A mark such as 1.2 x the floor says what all the rest
//! of a server may cost.

use std::collections::{BTreeMap, HashMap};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use mio::net::{UnixListener, UnixStream};
use mio::{Events, Interest, Poll, Token};

const READ: usize = 64 * 1024;
const LISTENER: Token = Token(usize::MAX);

/// A connection's write half.
struct Outlet {
    stream: UnixStream,
    /// What the socket did not take.
    queue: Mutex<Vec<u8>>,
}

impl Outlet {
    fn send(&self, octets: &[u8]) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = if queue.is_empty() {
            self.write(octets)
        } else {
            0
        };
        queue.extend_from_slice(&octets[sent..]);
    }

    fn flush(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.is_empty() {
            let sent = self.write(&queue);
            queue.drain(..sent);
        }
    }

    /// How much the socket took; what goes to one that has ended is gone.
    fn write(&self, octets: &[u8]) -> usize {
        let mut sent = 0;
        while sent < octets.len() {
            match (&self.stream).write(&octets[sent..]) {
                Ok(taken) => sent += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return sent,
                Err(_) => return octets.len(),
            }
        }
        sent
    }
}

/// What one read brought.
#[derive(Default)]
struct Batch {
    all: Vec<u8>,
    direct: HashMap<usize, Vec<u8>>,
}

enum Item {
    Batch(Batch),
    Subscribe(usize, Arc<Outlet>),
    Leave(usize),
}

/// Who gets what.
#[derive(Default)]
struct Fanout {
    /// In the order in which they came, which is that of their memory.
    subscribers: BTreeMap<usize, Arc<Outlet>>,
    batch: Batch,
}

impl Fanout {
    fn take(&mut self, item: Item) {
        match item {
            Item::Batch(batch) if self.batch.all.is_empty() && self.batch.direct.is_empty() => {
                self.batch = batch;
            }
            Item::Batch(batch) => {
                self.batch.all.extend(batch.all);
                for (key, octets) in batch.direct {
                    self.batch.direct.entry(key).or_default().extend(octets);
                }
            }
            Item::Subscribe(key, outlet) => {
                self.subscribers.insert(key, outlet);
            }
            Item::Leave(key) => {
                self.subscribers.remove(&key);
            }
        }
    }

    fn deliver(&mut self) {
        if !self.batch.all.is_empty() {
            for outlet in self.subscribers.values() {
                outlet.send(&self.batch.all);
            }
            self.batch.all.clear();
        }
        for (key, octets) in self.batch.direct.drain() {
            if let Some(outlet) = self.subscribers.get(&key) {
                outlet.send(&octets);
            }
        }
    }

    fn run(mut self, items: &Receiver<Item>) {
        while let Ok(item) = items.recv() {
            self.take(item);
            while let Ok(item) = items.try_recv() {
                self.take(item);
            }
            self.deliver();
        }
    }
}

/// Where what was read goes.
enum Way {
    Here(Fanout),
    Thread(SyncSender<Item>),
}

impl Way {
    fn take(&mut self, item: Item) {
        match self {
            Self::Here(fanout) => {
                fanout.take(item);
                fanout.deliver();
            }
            // It fails only when the thread has ended, which it does not before this.
            Self::Thread(sender) => drop(sender.send(item)),
        }
    }
}

struct Connection {
    outlet: Arc<Outlet>,
    name: String,
    /// A line whose end has not come.
    begun: Vec<u8>,
}

struct Server {
    connections: HashMap<usize, Connection>,
    names: HashMap<String, usize>,
    way: Way,
    number: u64,
    buffer: Vec<u8>,
}

/// Serves on `socket` with one or two threads, until it is killed.
pub fn serve(socket: &Path, threads: u8) -> Result<()> {
    let listener = StdListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    let mut listener = UnixListener::from_std(listener);
    let mut poll = Poll::new()?;
    let readable = Interest::READABLE;
    poll.registry()
        .register(&mut listener, LISTENER, readable)?;
    let way = if threads == 1 {
        Way::Here(Fanout::default())
    } else {
        let (sender, items) = sync_channel(64);
        thread::spawn(move || Fanout::default().run(&items));
        Way::Thread(sender)
    };
    let mut server = Server {
        connections: HashMap::new(),
        names: HashMap::new(),
        way,
        number: 0,
        buffer: vec![0; READ],
    };
    let mut events = Events::with_capacity(1024);
    let mut next = 0;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(next), both)?;
                    server.connections.insert(next, Connection::new(stream));
                    next += 1;
                }
                continue;
            }
            let key = event.token().0;
            if event.is_writable()
                && let Some(connection) = server.connections.get(&key)
            {
                connection.outlet.flush();
            }
            if event.is_readable() {
                server.read(key);
            }
        }
    }
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        let queue = Mutex::default();
        Self {
            outlet: Arc::new(Outlet { stream, queue }),
            name: "unset".into(),
            begun: Vec::new(),
        }
    }
}

impl Server {
    fn read(&mut self, key: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(connection) = self.connections.get(&key) {
            match (&connection.outlet.stream).read(&mut buffer) {
                Ok(0) => {
                    self.names.retain(|_, held| *held != key);
                    self.connections.remove(&key);
                    self.way.take(Item::Leave(key));
                }
                Ok(length) => {
                    self.take_lines(key, &buffer[..length]);
                    if length == buffer.len() {
                        continue;
                    }
                }
                Err(_) => {}
            }
            break;
        }
        self.buffer = buffer;
    }

    fn take_lines(&mut self, key: usize, octets: &[u8]) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let Some(end) = memchr::memrchr(b'\n', octets) else {
            connection.begun.extend_from_slice(octets);
            return;
        };
        let mut first = std::mem::take(&mut connection.begun);
        let mut whole = &octets[..=end];
        connection.begun.extend_from_slice(&octets[end + 1..]);
        let mut replies = Vec::new();
        let mut batch = Batch::default();
        if !first.is_empty() {
            let end = memchr::memchr(b'\n', whole).map_or(whole.len(), |at| at + 1);
            first.extend_from_slice(&whole[..end]);
            whole = &whole[end..];
            self.take_line(key, &first, &mut batch, &mut replies);
        }
        while let Some(at) = memchr::memchr(b'\n', whole) {
            self.take_line(key, &whole[..=at], &mut batch, &mut replies);
            whole = &whole[at + 1..];
        }
        if let Some(connection) = self.connections.get(&key)
            && !replies.is_empty()
        {
            connection.outlet.send(&replies);
        }
        if !batch.all.is_empty() || !batch.direct.is_empty() {
            self.way.take(Item::Batch(batch));
        }
    }

    /// Takes a line, which ends in LF.
    fn take_line(&mut self, key: usize, line: &[u8], batch: &mut Batch, replies: &mut Vec<u8>) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        if let Some(post) = line.strip_prefix(b"POSTMESSAGE @") {
            let space = memchr::memchr(b' ', post).unwrap_or(0);
            let (to, text) = post.split_at(space);
            let to = std::str::from_utf8(to).unwrap_or_default();
            let share = match self.names.get(to) {
                _ if to == "all" => &mut batch.all,
                Some(recipient) => batch.direct.entry(*recipient).or_default(),
                None => return replies.extend_from_slice(b"552 Nobody\r\n"),
            };
            self.number += 1;
            let (number, name) = (self.number, &connection.name);
            // Writing to a vector cannot fail.
            let _ = write!(share, "650 POSTMESSAGE {number} {name} @{to}");
            share.extend_from_slice(text);
        } else if let Some(name) = line.strip_prefix(b"CONTROLLERNAME ") {
            connection.name = String::from_utf8_lossy(name.trim_ascii_end()).into();
            self.names.insert(connection.name.clone(), key);
        } else if line.starts_with(b"SETEVENTS ") {
            let outlet = Arc::clone(&connection.outlet);
            self.way.take(Item::Subscribe(key, outlet));
        }
        replies.extend_from_slice(b"250 OK\r\n");
    }
}
