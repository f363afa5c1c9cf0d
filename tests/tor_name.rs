//! A Tor that is known by the name of its host, which a name server of the test's own tells.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use parking_lot::Mutex;
use support::{Daemon, Place, can, is_root};

/// Where the name server is, which is nobody else's.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 83, 9, 1);

/// What the name server does with a question.
#[derive(Clone, Copy)]
enum Answer {
    Silence,
    NoSuchName,
    Address(Ipv4Addr),
    /// The address, over TCP alone: it is said to be too long for a datagram.
    Long(Ipv4Addr),
}

/// A name server that gives every name the same address.
struct NameServer {
    answer: Arc<Mutex<Answer>>,
    /// The names that were asked for.
    questions: Receiver<Vec<u8>>,
}

impl NameServer {
    fn start(answer: Answer) -> Self {
        let socket = UdpSocket::bind((NAME_SERVER, 53)).expect("root may");
        let answer = Arc::new(Mutex::new(answer));
        let (sender, questions) = channel();
        let of_thread = Arc::clone(&answer);
        thread::spawn(move || serve(&socket, &of_thread, &sender));
        let listener = TcpListener::bind((NAME_SERVER, 53)).expect("root may");
        let of_thread = Arc::clone(&answer);
        thread::spawn(move || serve_streams(&listener, &of_thread));
        Self { answer, questions }
    }

    fn becomes(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn is_asked_for(&self, name: &[u8]) {
        let timeout = support::PATIENCE;
        let asked = self.questions.recv_timeout(timeout).expect("a question");
        assert_eq!(
            asked.escape_ascii().to_string(),
            name.escape_ascii().to_string()
        );
    }
}

fn serve(socket: &UdpSocket, answer: &Mutex<Answer>, questions: &Sender<Vec<u8>>) {
    let mut buffer = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let question = &buffer[..length];
        let _ = questions.send(question[12..end_of(question) - 4].to_vec());
        let answer = *answer.lock();
        if !matches!(answer, Answer::Silence) {
            let _ = socket.send_to(&reply(question, answer, false), peer);
        }
    }
}

/// The same over TCP, where the length stands before each message.
fn serve_streams(listener: &TcpListener, answer: &Mutex<Answer>) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("it is a connection");
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question).expect("a question");
            let reply = reply(&question, *answer.lock(), true);
            let length = u16::try_from(reply.len()).expect("it is short");
            let message = [&length.to_be_bytes()[..], &reply].concat();
            stream.write_all(&message).expect("it is read");
        }
    }
}

/// The end of what is asked, without what follows. RFC 1035, 4.1: a header of twelve octets, a name
/// that ends with a zero, its type and class.
fn end_of(question: &[u8]) -> usize {
    let name = &question[12..];
    12 + name.iter().position(|&octet| octet == 0).expect("an end") + 5
}

fn reply(question: &[u8], answer: Answer, is_stream: bool) -> Vec<u8> {
    let end = end_of(question);
    // Type 1 is for IPv4.
    let address = match answer {
        Answer::Address(address) | Answer::Long(address) if question[end - 3] == 1 => Some(address),
        _ => None,
    };
    let is_cut = matches!(answer, Answer::Long(_)) && !is_stream;
    let address = address.filter(|_| !is_cut);
    let flags = if is_cut { 0x83 } else { 0x81 };
    let code = if matches!(answer, Answer::NoSuchName) {
        0x83
    } else {
        0x80
    };
    let mut reply = [
        &question[..2],
        &[flags, code, 0, 1, 0, u8::from(address.is_some())],
    ]
    .concat();
    reply.extend([0; 4]);
    reply.extend_from_slice(&question[12..end]);
    if let Some(address) = address {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address.octets());
    }
    reply
}

/// A daemon that asks the name server of the test for `tor.test`.
fn serve_with_name(place: &Place, port: u16) -> Option<Daemon> {
    let resolver = format!("nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n");
    let resolver = place.file("resolv.conf", &resolver);
    let switch = place.file("nsswitch.conf", "hosts: dns\npasswd: files\ngroup: files\n");
    let script = r#"mount --bind "$0" /etc/resolv.conf && mount --bind "$1" /etc/nsswitch.conf && shift && exec "$@""#;
    let under = ["unshare", "--mount", "sh", "-c", script];
    let files = [as_text(&resolver), as_text(&switch)];
    let mut probe = Command::new("unshare");
    probe.args(&under[1..]).args(files).arg("true");
    if !can(
        "a mount namespace",
        probe.output().is_ok_and(|output| output.status.success()),
    ) {
        return None;
    }
    let start = place.serve().set(&format!("BusTor tor.test:{port}"));
    let start = start.set("BusTorTimeout 2");
    Some(start.under(&[&under[..], &files].concat()).ready())
}

fn as_text(path: &Path) -> &str {
    path.to_str().expect("it is of the test")
}

/// A bus that stands for a Tor at `address`.
fn tor_at(place: &Place, address: Ipv4Addr, port: u16) -> Daemon {
    let socket = place.socket();
    let text = format!(
        "BusSocket {}\nBusSocket {address}:{port}\n",
        socket.display()
    );
    place.configured(&text).ready()
}

/// The timer of each connection to an address, by `proc_pid_net(5)`: 02 is for keepalive.
fn timers_of(address: SocketAddrV4) -> Vec<String> {
    let octets = u32::from_ne_bytes(address.ip().octets());
    let address = format!("{octets:08X}:{:04X}", address.port());
    let connections = fs::read_to_string("/proc/net/tcp").expect("Linux has it");
    let fields = connections.lines().map(|line| line.split_whitespace());
    fields
        .map(Vec::from_iter)
        .filter(|fields| fields[2] == address && fields[3] == "01")
        .map(|fields| fields[5][..2].to_owned())
        .collect()
}

#[test]
fn the_host_is_looked_up_again_at_each_reconnection() {
    if !is_root() {
        return;
    }
    let names = NameServer::start(Answer::Silence);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let place = Place::new();
    let Some(daemon) = serve_with_name(&place, port) else {
        return;
    };
    names.is_asked_for(b"\x03tor\x04test\x00");
    // Nobody waits for a name server that does not answer but those who need Tor.
    let mut controller = daemon.named("me");
    controller.ok("SETEVENTS POSTMESSAGE TOR");
    controller.ok("POSTMESSAGE @me hello");
    assert_eq!(controller.next_message().1, "me @me hello");
    let said = controller.ask("GETINFO accounting/enabled");
    assert!(said.starts_with("551 Tor is not reachable: "), "{said}");
    daemon.logs("tor.test:");

    let place_of_tor = Place::new();
    let first = Ipv4Addr::new(127, 83, 9, 2);
    let mut tor = tor_at(&place_of_tor, first, port);
    names.becomes(Answer::Address(first));
    assert_eq!(controller.line(), "650 TOR UP");
    let timers = timers_of(SocketAddrV4::new(first, port));
    assert!(
        !timers.is_empty() && timers.iter().all(|timer| timer == "02"),
        "a Tor that is gone without a word is found out: {timers:?}"
    );
    let said = daemon.connect().ask("SIGNAL NEWNYM");
    assert!(
        said.contains("no Tor is configured behind"),
        "it is the other bus: {said}"
    );

    tor.kill();
    assert_eq!(controller.line(), "650 TOR DOWN");
    daemon.logs(&format!(
        "Connection refused (os error 111), at {first}:{port}"
    ));
    names.becomes(Answer::NoSuchName);
    daemon.logs("Name or service not known");
    let place_of_tor = Place::new();
    let second = Ipv4Addr::new(127, 83, 9, 3);
    let _tor = tor_at(&place_of_tor, second, port);
    names.becomes(Answer::Long(second));
    assert_eq!(controller.line(), "650 TOR UP");
}
