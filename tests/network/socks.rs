//! A client of SOCKS5 (RFC 1928) with Tor's two commands to resolve.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::support::PATIENCE;

/// What a proxy is asked to do.
#[derive(Clone, Copy)]
pub enum Command {
    Connect = 0x01,
    Resolve = 0xF0,
    ResolvePtr = 0xF1,
}

/// Asks for something before the answer is read.
#[track_caller]
pub fn ask(proxy: SocketAddr, command: Command, host: &str, port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(proxy).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.write_all(&[5, 1, 0]).expect("it reads");
    let mut method = [0; 2];
    stream.read_exact(&mut method).expect("it answers");
    assert_eq!(method, [5, 0], "it wants no login");
    // Tor takes an address for one as a name, too.
    let length = u8::try_from(host.len()).expect("a name is short");
    let mut request = vec![5, command as u8, 0, 3, length];
    request.extend(host.as_bytes());
    request.extend(port.to_be_bytes());
    stream.write_all(&request).expect("it reads");
    stream
}

/// Asks for something, and returns the connection and the answer: 0 is success.
#[track_caller]
pub fn does(proxy: SocketAddr, command: Command, host: &str, port: u16) -> (TcpStream, u8) {
    let mut stream = ask(proxy, command, host, port);
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it answers");
    if let Command::Connect = command {
        // Where it goes out, in whatever form, is said before the octets of the connection.
        let length = match answer[3] {
            1 => 4,
            kind => panic!("an address of type {kind}"),
        };
        let mut bound = vec![0; length + 2];
        stream.read_exact(&mut bound).expect("it goes on");
    }
    (stream, answer[1])
}
