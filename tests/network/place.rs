//! What streams lead to: names that resolve or do not, and a server that treats each as it asks.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

/// The name that resolves, to this machine; no other does.
pub const NAME: &str = "web.test";

/// A name server (RFC 1035) that knows [`NAME`] and nothing else.
pub struct Names {
    pub address: SocketAddr,
    socket: UdpSocket,
}

impl Names {
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let address = socket.local_addr().expect("it is bound");
        let server = socket.try_clone().expect("a descriptor");
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length @ 1.., peer)) = server.recv_from(&mut buffer) {
                if let Some(answer) = answer(&buffer[..length]) {
                    // Who has gone does not want it.
                    let _ = server.send_to(&answer, peer);
                }
            }
        });
        Self { address, socket }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // Ends the thread.
        let _ = self.socket.send_to(b"", self.address);
    }
}

/// The answer to a query with one question.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let (header, question) = query.split_at_checked(12)?;
    let end = question.iter().position(|&octet| octet == 0)? + 1;
    let (name, kind) = (&question[..end], question.get(end..end + 4)?);
    // An address (A) of the Internet (IN), and a name as labels.
    let known = kind == [0, 1, 0, 1] && name.eq_ignore_ascii_case(b"\x03web\x04test\0");
    let mut answer = header[..2].to_vec();
    // A response: all is well, or there is no such name.
    answer.extend([0x81, if known { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(known), 0, 0, 0, 0]);
    answer.extend(&question[..end + 4]);
    if known {
        // The name in the question, what was asked for, a minute, four octets.
        answer.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(answer)
}

/// What the server does with a connection that begins with this octet.
#[derive(Clone, Copy)]
pub enum Wish {
    /// It says one octet, and closes.
    Close = b'c' as isize,
    /// It resets the connection.
    Reset = b'r' as isize,
    /// It says one octet, and leaves the rest to the other side.
    Hold = b'h' as isize,
}

impl Wish {
    /// Makes it known on a connection, and waits until it is fulfilled.
    pub fn tell(self, stream: &mut TcpStream) {
        stream.write_all(&[self as u8]).expect("it is open");
        let mut octet = [0];
        match self {
            Self::Hold => stream.read_exact(&mut octet).expect("it says one"),
            Self::Close | Self::Reset => {
                // A reset may be an error here or an end; which of them is for the proxy to say.
                while stream.read(&mut octet).is_ok_and(|length| length > 0) {}
            }
        }
    }
}

/// Starts the server, which ends with the test process.
pub fn server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, super::tor_network::port()));
    let listener = listener.expect("it is free");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Does what the other side wishes. It may go at any time, and needs nothing more then.
fn serve(mut stream: TcpStream) -> Option<()> {
    let mut wish = [0];
    stream.peek(&mut wish).ok()?;
    // What is closed with octets that nobody has read is reset.
    if wish != [Wish::Reset as u8] {
        stream.read_exact(&mut wish).ok()?;
        stream.write_all(b".").ok()?;
    }
    if wish == [Wish::Hold as u8] {
        stream.read_to_end(&mut Vec::new()).ok()?;
    }
    Some(())
}
