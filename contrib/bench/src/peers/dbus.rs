//! dbus-broker: a signal for everybody who asked for it.
//!
//! Its launcher wants a service manager and a journal, so it is given its socket here, by the
//! interface that its launcher uses: the one of version 29 and later.

use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::{Running, Speaker, connect};
use crate::process::{Process, find, place};

/// One policy of the broker's interface: may connect, own names, send, and receive.
const POLICY: &str = "(a(u(bta(btbs)a(btssssuutt)a(btssssuutt)))\
                      a(buu(bta(btbs)a(btssssuutt)a(btssssuutt)))a(ss)bs)";

const CALL: u8 = 1;
const RETURN: u8 = 2;
const SIGNAL: u8 = 4;

/// Values in the D-Bus wire format, little-endian.
#[derive(Default)]
struct Values(Vec<u8>);

impl Values {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    fn string(&mut self, value: &[u8]) {
        self.u32(length(value.len()));
        self.0.extend_from_slice(value);
        self.0.push(0);
    }

    fn signature(&mut self, value: &str) {
        // A signature has at most 255 octets.
        self.0.push(value.len().to_le_bytes()[0]);
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
    }

    /// An array of structures.
    fn array(&mut self, write: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.0.len() - 4;
        self.align(8);
        let begin = self.0.len();
        write(self);
        let octets = length(self.0.len() - begin);
        self.0[at..at + 4].copy_from_slice(&octets.to_le_bytes());
    }
}

fn length(octets: usize) -> u32 {
    u32::try_from(octets).expect("nothing here has 4 GB")
}

/// A header field: its code, its type, and its value.
type Field<'a> = (u8, &'a str, &'a str);

fn message(kind: u8, serial: u32, fields: &[Field], body: &[u8], descriptors: u32) -> Vec<u8> {
    let mut values = Values(vec![b'l', kind, 0, 1]);
    values.u32(length(body.len()));
    values.u32(serial);
    values.array(|values| {
        for (code, kind, value) in fields {
            values.align(8);
            values.0.push(*code);
            values.signature(kind);
            if *kind == "g" {
                values.signature(value);
            } else {
                values.string(value.as_bytes());
            }
        }
        if descriptors > 0 {
            values.align(8);
            values.0.push(9);
            values.signature("u");
            values.u32(descriptors);
        }
    });
    values.align(8);
    values.0.extend_from_slice(body);
    values.0
}

fn call(serial: u32, to: [&str; 4], signature: &str, body: &[u8], descriptors: u32) -> Vec<u8> {
    let [service, path, interface, member] = to;
    let mut fields = vec![(1, "o", path), (2, "s", interface), (3, "s", member)];
    if !service.is_empty() {
        fields.push((6, "s", service));
    }
    if !signature.is_empty() {
        fields.push((8, "g", signature));
    }
    message(CALL, serial, &fields, body, descriptors)
}

/// Everybody may do everything.
fn policy(values: &mut Values) {
    let all = |values: &mut Values| {
        values.align(8);
        values.u32(1);
        values.u64(1);
    };
    let transmit = |values: &mut Values| {
        all(values);
        (0..4).for_each(|_| values.string(b""));
        values.u32(0);
        values.u32(0);
        values.u64(0);
        values.u64(u64::MAX);
    };
    values.signature(POLICY);
    values.align(8);
    values.array(|values| {
        values.u32(u32::MAX);
        all(values);
        values.array(|values| {
            all(values);
            values.u32(1);
            values.string(b"");
        });
        values.array(transmit);
        values.array(transmit);
    });
    values.array(|_| {});
    values.array(|_| {});
    values.u32(0);
    values.string(b"session");
}

/// The next message.
fn next(stream: &mut UnixStream) -> Result<Vec<u8>> {
    let mut message = vec![0; 16];
    stream.read_exact(&mut message)?;
    let number = |at: usize| {
        let octets = [
            message[at],
            message[at + 1],
            message[at + 2],
            message[at + 3],
        ];
        usize::try_from(u32::from_le_bytes(octets))
    };
    let length = 16 + number(12)?.next_multiple_of(8) + number(4)?;
    message.resize(length, 0);
    stream.read_exact(&mut message[16..])?;
    Ok(message)
}

/// Waits for an answer, and takes whatever comes before it.
fn answer(stream: &mut UnixStream) -> Result<Vec<u8>> {
    loop {
        let message = next(stream)?;
        match message[1] {
            RETURN => return Ok(message),
            SIGNAL => {}
            _ => ensure!(
                message[1] == CALL,
                "refused: {}",
                String::from_utf8_lossy(&message)
            ),
        }
    }
}

/// Reads up to the end of a line.
fn line(stream: &mut UnixStream) -> Result<String> {
    let mut line = Vec::new();
    let mut octet = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut octet)?;
        line.push(octet[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn authenticate(stream: &mut UnixStream, commands: &str) -> Result<()> {
    // An empty identity is the one that the kernel tells.
    write!(stream, "\0AUTH EXTERNAL\r\nDATA\r\n{commands}BEGIN\r\n")?;
    let data = line(stream)?;
    ensure!(data.starts_with("DATA"), "no DATA but {data:?}");
    let ok = line(stream)?;
    ensure!(ok.starts_with("OK "), "no OK but {ok:?}");
    for _ in commands.lines() {
        let agreed = line(stream)?;
        ensure!(agreed.starts_with("AGREE"), "no AGREE but {agreed:?}");
    }
    Ok(())
}

/// Gives the broker the socket to listen on.
fn add_listener(broker: &mut UnixStream, listener: &UnixListener) -> Result<()> {
    authenticate(broker, "NEGOTIATE_UNIX_FD\r\n")?;
    let mut body = Values::default();
    body.string(b"/org/bus1/DBus/Listener/0");
    body.u32(0);
    policy(&mut body);
    let to = [
        "",
        "/org/bus1/DBus/Broker",
        "org.bus1.DBus.Broker",
        "AddListener",
    ];
    let octets = call(1, to, "ohv", &body.0, 1);
    let descriptors = [listener.as_raw_fd()];
    let sent = sendmsg::<()>(
        broker.as_raw_fd(),
        &[IoSlice::new(&octets)],
        &[ControlMessage::ScmRights(&descriptors)],
        MsgFlags::empty(),
        None,
    )?;
    broker.write_all(&octets[sent..])?;
    answer(broker)?;
    Ok(())
}

/// One publisher and its subscribers.
#[derive(Default)]
pub struct Dbus {
    publisher: String,
    serial: u32,
}

const BUS: &str = "org.freedesktop.DBus";

/// Calls a method of the bus itself, and returns its answer.
fn ask_bus(stream: &mut UnixStream, serial: u32, member: &str, argument: &str) -> Result<Vec<u8>> {
    let mut body = Values::default();
    let mut signature = "";
    if !argument.is_empty() {
        body.string(argument.as_bytes());
        signature = "s";
    }
    let to = [BUS, "/org/freedesktop/DBus", BUS, member];
    stream.write_all(&call(serial, to, signature, &body.0, 0))?;
    answer(stream)
}

/// Logs in, and returns the name that the broker gave.
fn log_in(stream: &mut UnixStream) -> Result<String> {
    authenticate(stream, "")?;
    let answer = ask_bus(stream, 1, "Hello", "")?;
    // Its body is the name, which begins with a colon and ends in NUL.
    let text = String::from_utf8_lossy(&answer);
    let name = text.rfind(':').map_or("", |begin| &text[begin..]);
    Ok(name.trim_end_matches('\0').to_owned())
}

impl Speaker for Dbus {
    fn start(&self) -> Result<Running> {
        let program = find("dbus-broker")?;
        let place = place()?;
        let socket = place.path().join("bus");
        let listener = UnixListener::bind(&socket)?;
        // It accepts until nobody is left.
        listener.set_nonblocking(true)?;
        let (mut ours, theirs) = UnixStream::pair()?;
        // The shell can pass it on under a number that is known.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 3<&0 </dev/null", "sh"]);
        command.arg(program).args(["--controller", "3"]);
        command.args(["--machine-id", "0123456789abcdef0123456789abcdef"]);
        for limit in ["--max-bytes", "--max-fds", "--max-matches", "--max-objects"] {
            command.args([limit, "1000000000"]);
        }
        let stdin = Stdio::from(OwnedFd::from(theirs));
        let process = Process::start_with(command, place.path(), stdin)?;
        ours.set_read_timeout(Some(crate::process::PATIENCE))?;
        add_listener(&mut ours, &listener)?;
        let process = process.listens(&socket)?;
        Ok(Running {
            processes: vec![process],
            socket,
            place,
            behind: None,
            held: Some(ours),
        })
    }

    fn subscriber(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        log_in(&mut stream)?;
        let rule = "type='signal',interface='b.b'";
        ask_bus(&mut stream, 2, "AddMatch", rule)?;
        Ok(stream)
    }

    fn publisher(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        self.publisher = log_in(&mut stream)?;
        // The signal that tells it its name comes before the answer to this.
        ask_bus(&mut stream, 2, "GetId", "")?;
        Ok(stream)
    }

    /// A signal has no reply.
    fn message(
        &mut self,
        text: &[u8],
        post: &mut Vec<u8>,
        _: &mut Vec<u8>,
        delivery: &mut Vec<u8>,
    ) {
        self.serial += 1;
        let mut body = Values::default();
        body.string(text);
        let sender = (7, "s", &self.publisher[..]);
        let fields = [
            (1, "o", "/b"),
            (2, "s", "b.b"),
            (3, "s", "m"),
            (8, "g", "s"),
            sender,
        ];
        post.extend(message(SIGNAL, 2 + self.serial, &fields[..4], &body.0, 0));
        delivery.extend(message(SIGNAL, 2 + self.serial, &fields, &body.0, 0));
    }
}
