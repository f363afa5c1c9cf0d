//! A way to the NATS server on which answers can be kept back.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Carries octets from a port of its own to another one and back.
pub struct Way {
    pub port: u16,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Way {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let own = listener.local_addr().expect("it has an address").port();
        let gate = Arc::new(Gate::default());
        let shared = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                // A server that is away is one that closes at once.
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let (to, from) = (client.try_clone(), server.try_clone());
                let (Ok(to), Ok(from)) = (to, from) else {
                    continue;
                };
                let shared = Arc::clone(&shared);
                thread::spawn(move || carry(client, server, None));
                thread::spawn(move || carry(from, to, Some(&shared)));
            }
        });
        Self { port: own, gate }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Keeps back what the server says from now on. It is lost, and its connection with it.
    pub fn shut(&self) {
        *self.gate.is_shut.lock().unwrap() = true;
    }

    pub fn open(&self) {
        *self.gate.is_shut.lock().unwrap() = false;
        self.gate.opened.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, gate: Option<&Gate>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if let Some(gate) = gate {
            let is_shut = gate.is_shut.lock().unwrap();
            if *is_shut {
                drop(gate.opened.wait_while(is_shut, |is_shut| *is_shut).unwrap());
                break;
            }
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
