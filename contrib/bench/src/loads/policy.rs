//! The same with a policy and without: the way to Tor and back, and an event to a thousand
//! controllers that may each have it or not.

use std::fmt::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::relay::{awaits_version, round_trips};
use super::{Case, Scale, alone, broadcast};
use crate::peers::{
    Running, Server, Speaker, TorEvents, ask, connect, onionbus_with, speaker, tor,
};

/// A policy, or none.
#[derive(Clone, Copy)]
struct Form {
    name: &'static str,
    /// The blocks of its file, if there is one, where `SECOND` stands for a socket's path.
    policy: Option<fn() -> String>,
}

/// Everybody may do everything.
fn all() -> String {
    "Profile all\nMatch any\nAllow all\n".into()
}

/// Two profiles of fifty lines, one for each socket.
fn fifty() -> String {
    let mut text = String::new();
    for (name, matching) in [("one", "any"), ("two", "socket=SECOND")] {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "Profile {name}\nMatch {matching}");
        for number in 0..15 {
            let _ = writeln!(text, "Allow getinfo {name}/{number}/* other/{number}");
            let _ = writeln!(text, "Allow setconf Option{number}=0|1|10-20");
            let _ = writeln!(text, "Allow add_onion ports=1{number}=2{number}");
        }
        text += "Allow getinfo version\nAllow setconf MaxCircuitDirtiness\nAllow name *\n";
        text += "Allow post @all\nAllow read @all\n";
        text += "Allow events CONF_CHANGED:own\n";
    }
    text
}

const FORMS: [Form; 3] = [
    Form {
        name: "no policy",
        policy: None,
    },
    Form {
        name: "Allow all",
        policy: Some(all),
    },
    Form {
        name: "fifty lines",
        policy: Some(fifty),
    },
];

impl Form {
    /// A bus with the policy in force and a second socket, before a Tor if there is one. Only the
    /// bus is measured, and only through it can somebody have caused an event.
    fn start(self, program: &Path, behind: Option<&Running>) -> Result<Running> {
        let bus = onionbus_with(program, |place| {
            let tor = behind.map(|tor| format!("BusTor unix:{}", tor.socket.display()));
            Ok(self.options(place)?.into_iter().chain(tor).collect())
        })?;
        // Without a Tor the bus answers itself, once it listens at both sockets.
        awaits_version(&bus)?;
        Ok(bus)
    }

    fn options(self, place: &Path) -> Result<Vec<String>> {
        let second = second(place);
        let mut options = vec![format!("BusSocket {}", second.display())];
        if let Some(policy) = self.policy {
            let path = place.join("bench.policy");
            let text = policy().replace("SECOND", &second.display().to_string());
            std::fs::write(&path, text)?;
            options.push(format!("BusPolicy {}", path.display()));
        }
        Ok(options)
    }
}

/// The second socket.
fn second(place: &Path) -> PathBuf {
    place.join("second")
}

/// Half of the subscribers come through the second socket.
struct Halves {
    speaker: Box<dyn Speaker>,
    is_second: bool,
}

impl Speaker for Halves {
    fn start(&self) -> Result<Running> {
        self.speaker.start()
    }

    fn subscriber(&mut self, socket: &Path) -> Result<UnixStream> {
        self.is_second = !self.is_second;
        let place = socket.parent().unwrap_or(socket);
        let second = second(place);
        self.speaker
            .subscriber(if self.is_second { &second } else { socket })
    }

    fn publisher(&mut self, socket: &Path) -> Result<UnixStream> {
        self.speaker.publisher(socket)
    }

    fn message(
        &mut self,
        text: &[u8],
        post: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        delivery: &mut Vec<u8>,
    ) {
        self.speaker.message(text, post, reply, delivery);
    }
}

/// Each SETCONF makes a `CONF_CHANGED` event.
#[derive(Default)]
struct Changes(usize);

impl Speaker for Changes {
    fn start(&self) -> Result<Running> {
        TorEvents.start()
    }

    fn subscriber(&mut self, socket: &Path) -> Result<UnixStream> {
        let mut stream = connect(socket)?;
        ask(&mut stream, b"SETEVENTS CONF_CHANGED\r\n", b"250 OK\r\n")?;
        Ok(stream)
    }

    fn publisher(&mut self, socket: &Path) -> Result<UnixStream> {
        TorEvents.publisher(socket)
    }

    fn message(
        &mut self,
        _text: &[u8],
        post: &mut Vec<u8>,
        reply: &mut Vec<u8>,
        delivery: &mut Vec<u8>,
    ) {
        self.0 += 1;
        // Another one each time, of what Tor takes as it is.
        let setting = format!("MaxCircuitDirtiness={}", 1000 + self.0);
        post.extend(format!("SETCONF {setting}\r\n").bytes());
        reply.extend_from_slice(b"250 OK\r\n");
        delivery.extend(format!("650-CONF_CHANGED\r\n650-{setting}\r\n650 OK\r\n").bytes());
    }
}

/// Each of the forms with each of the policies.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let mut cases = Vec::new();
    let subscribers = scale.of(1000, 10);
    for form in FORMS {
        let mut case = |what: String, start: super::Start| {
            cases.push(Case {
                load: "policy",
                variant: format!("{what}: {}", form.name),
                server: Server::Onionbus,
                start,
            });
        };
        let program = scale.onionbus.clone();
        let trips = scale.of(20_000, 20);
        case(
            "GETINFO version, one at a time".into(),
            alone(move || {
                let behind = tor()?;
                round_trips(&form.start(&program, Some(&behind))?, trips)
            }),
        );
        let program = scale.onionbus.clone();
        let messages = scale.of(20_000, 20);
        case(
            format!("64 B to {subscribers}"),
            alone(move || {
                let running = form.start(&program, None)?;
                let mut halves = Halves {
                    speaker: speaker(Server::Onionbus, &program),
                    is_second: false,
                };
                broadcast::pipeline(
                    &mut halves,
                    &running,
                    subscribers,
                    messages,
                    64,
                    &broadcast::PIPELINE,
                )
            }),
        );
        let program = scale.onionbus.clone();
        let changes = scale.of(400, 20);
        case(
            format!("CONF_CHANGED to {subscribers}"),
            alone(move || {
                let behind = tor()?;
                let bus = form.start(&program, Some(&behind))?;
                let mut halves = Halves {
                    speaker: Box::new(Changes::default()),
                    is_second: false,
                };
                broadcast::one_at_a_time(&mut halves, &bus, subscribers, changes, 0)
            }),
        );
    }
    cases
}
