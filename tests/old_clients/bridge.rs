//! A port for clients that know no other sockets, and a record of what goes through it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Something on the wire, and the number of the connection.
#[derive(Debug)]
pub struct Moment {
    pub connection: usize,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Connects,
    /// The client sends a message.
    Sends(Message),
    /// A message comes to the client.
    Gets(Message),
    /// The client has gone, and these octets it had sent are no whole message.
    Leaves(Vec<u8>),
    /// The daemon closes first.
    Closes,
}

/// One message as it is on the wire: a fragment is one.
#[derive(Debug)]
pub struct Message {
    pub kind: u16,
    pub body: Vec<u8>,
}

type Wire = Arc<Mutex<Vec<Moment>>>;

/// A port of this machine whose connections lead to a Unix socket.
pub struct Bridge {
    port: u16,
    wire: Wire,
    /// No more connections will come.
    over: Arc<AtomicBool>,
    listening: JoinHandle<()>,
}

impl Bridge {
    pub fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let wire = Wire::default();
        let over = Arc::new(AtomicBool::new(false));
        let (record, ended) = (Arc::clone(&wire), Arc::clone(&over));
        let listening = thread::spawn(move || {
            let mut threads = Vec::new();
            for (number, client) in listener.incoming().enumerate() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let client = client.expect("a connection");
                threads.extend(connect(number, &client, &socket, &record));
            }
            for thread in threads {
                thread.join().expect("it does not panic");
            }
        });
        Self {
            port,
            wire,
            over,
            listening,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Once every client has gone: all that went through.
    pub fn end(self) -> Vec<Moment> {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        self.listening.join().expect("it does not panic");
        std::mem::take(&mut *self.wire.lock().expect("no panic"))
    }
}

/// Carries the octets of one connection both ways.
fn connect(number: usize, client: &TcpStream, socket: &Path, wire: &Wire) -> [JoinHandle<()>; 2] {
    let daemon = UnixStream::connect(socket).expect("the daemon listens");
    let record = move |wire: &Wire, what| {
        let connection = number;
        let mut wire = wire.lock().expect("no panic");
        wire.push(Moment { connection, what });
    };
    record(wire, What::Connects);
    let left = Arc::new(AtomicBool::new(false));

    let mut from = client.try_clone().expect("a descriptor");
    let mut to = daemon.try_clone().expect("a descriptor");
    let (there, leaves) = (Arc::clone(wire), Arc::clone(&left));
    let sends = thread::spawn(move || {
        let rest = carry(&mut from, &mut to, |message| {
            record(&there, What::Sends(message));
        });
        if !rest.is_empty() {
            record(&there, What::Leaves(rest));
        }
        leaves.store(true, Ordering::SeqCst);
        // It fails if the daemon has closed.
        let _ = to.shutdown(Shutdown::Write);
    });

    let mut from = daemon;
    let mut to = client.try_clone().expect("a descriptor");
    let back = Arc::clone(wire);
    let gets = thread::spawn(move || {
        carry(&mut from, &mut to, |message| {
            record(&back, What::Gets(message));
        });
        if !left.load(Ordering::SeqCst) {
            record(&back, What::Closes);
        }
        // It fails if the client has gone.
        let _ = to.shutdown(Shutdown::Both);
    });
    [sends, gets]
}

/// Passes octets on as they come, in the same pieces. Each message is recorded before the last of it
/// is passed on, so that its answer cannot be recorded before it. Returns what is no whole message.
fn carry(from: &mut impl Read, to: &mut impl Write, mut record: impl FnMut(Message)) -> Vec<u8> {
    let mut buffer = vec![0; 65536];
    let mut whole = Vec::new();
    // An end by error is an end.
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        whole.extend_from_slice(&buffer[..length]);
        while let Some((&[a, b, c, d], rest)) = whole.split_first_chunk() {
            let Some(body) = rest.get(..u16::from_be_bytes([a, b]).into()) else {
                break;
            };
            let (body, kind) = (body.to_vec(), u16::from_be_bytes([c, d]));
            whole.drain(..4 + body.len());
            record(Message { kind, body });
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    whole
}
