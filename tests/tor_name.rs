//! A Tor that is known by the name of its host, which a name server of the test's own tells.

mod support;

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
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
        // RFC 1035, 4.1: a header of twelve octets, a name that ends with a zero, its type (1 is
        // for IPv4) and class. What follows is an extension.
        let question = &buffer[..length];
        let end = 12
            + question[12..]
                .iter()
                .position(|&octet| octet == 0)
                .expect("an end")
            + 5;
        let _ = questions.send(question[12..end - 4].to_vec());
        let answer = *answer.lock();
        let address = match answer {
            Answer::Silence => continue,
            Answer::Address(address) if question[end - 3] == 1 => Some(address),
            Answer::Address(_) | Answer::NoSuchName => None,
        };
        let code = if matches!(answer, Answer::NoSuchName) {
            0x83
        } else {
            0x80
        };
        let mut reply = [
            &question[..2],
            &[0x81, code, 0, 1, 0, u8::from(address.is_some())],
        ]
        .concat();
        reply.extend([0; 4]);
        reply.extend_from_slice(&question[12..end]);
        if let Some(address) = address {
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
            reply.extend(address.octets());
        }
        let _ = socket.send_to(&reply, peer);
    }
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
    let said = daemon.connect().ask("SIGNAL NEWNYM");
    assert!(
        said.contains("no Tor is configured behind"),
        "it is the other bus: {said}"
    );

    tor.kill();
    assert_eq!(controller.line(), "650 TOR DOWN");
    names.becomes(Answer::NoSuchName);
    daemon.logs("Name or service not known");
    let place_of_tor = Place::new();
    let second = Ipv4Addr::new(127, 83, 9, 3);
    let _tor = tor_at(&place_of_tor, second, port);
    names.becomes(Answer::Address(second));
    assert_eq!(controller.line(), "650 TOR UP");
}
