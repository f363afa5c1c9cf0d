//! What a Tor hears of restricted controllers: a played one writes down every octet.

use std::sync::{Arc, Mutex};

use crate::fake::Fake;
use crate::people::{place, reload, serve};
use crate::replies;
use crate::support::{Controller, Daemon, Place};

/// A daemon with a policy, and behind it a Tor that writes down what it hears.
struct Recorded {
    place: Place,
    daemon: Daemon,
    fake: Fake,
    heard: Arc<Mutex<Vec<(usize, String)>>>,
}

/// The command that ends what a test has sent. Tor answers commands of a connection in their order.
const END: &str = "SIGNAL NEWNYM";

const LONG: &str = "GETINFO ns/all";

const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";

/// What the played Tor answers; it never answers [`LONG`] by itself.
fn answer(command: &str) -> Option<String> {
    let (keyword, arguments) = command.split_once(' ').unwrap_or((command, ""));
    Some(match (keyword, arguments) {
        ("GETINFO", "config/names") => {
            let options = [
                "Log LineList",
                "MaxCircuitDirtiness Interval",
                "BandwidthRate Bytes",
            ];
            format!(
                "250+config/names=\r\n{}\r\n.\r\n250 OK\r\n",
                options.join("\r\n")
            )
        }
        ("GETINFO", "net/listeners/control") => {
            format!("250-{arguments}=\"127.0.0.1:9051\"\r\n250 OK\r\n")
        }
        ("GETINFO", "ns/all") => String::new(),
        ("GETCONF", "Log" | "log") => "250 Log=notice stdout\r\n".into(),
        ("ADD_ONION", _) => format!("250-ServiceID={}\r\n250 OK\r\n", &ONION),
        ("EXTENDCIRCUIT", _) => "250 EXTENDED 7\r\n".into(),
        ("RESETCONF" | "CLOSECIRCUIT" | "MAPADDRESS" | "ONION_CLIENT_AUTH_ADD", _) => {
            "250 OK\r\n".into()
        }
        _ => return None,
    })
}

impl Recorded {
    fn new(policy: &str) -> Self {
        let place = place(&format!("Profile p\nMatch any\n{policy}\n"), "");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        let path = place.path("tor");
        let fake = Fake::at(&path, move |number, command| {
            all.lock()
                .expect("no panic")
                .push((number, command.to_owned()));
            answer(command)
        });
        let options = place.path("onionbus.conf");
        let text = std::fs::read_to_string(&options).expect("it is there");
        let (tor, v0) = (path.display(), place.path("v0"));
        let lines = format!(
            "BusTor unix:{tor}\nBusSocket {} Protocol=v0\n",
            v0.display()
        );
        place.file("onionbus.conf", &(text + &lines));
        let daemon = serve(&place).ready();
        daemon.logs("is there, at");
        Self {
            place,
            daemon,
            fake,
            heard,
        }
    }

    /// All that Tor has heard, each with the number of its connection.
    fn all(&self) -> Vec<(usize, String)> {
        self.heard.lock().expect("no panic").clone()
    }

    /// The commands that Tor has heard up to the next one like `end`, from the connection of that
    /// one, since its login.
    #[track_caller]
    fn heard(&self, end: &str) -> Vec<String> {
        let number = self.fake.hears(end);
        let of_it = self.all().into_iter().filter(|(of, _)| *of == number);
        let is_own = |command: &String| {
            command.contains("FENCE")
                || command == "GETINFO bus/chain"
                || command.starts_with("PROTOCOLINFO")
                || command == "AUTHENTICATE"
        };
        let commands = of_it.map(|(_, command)| command);
        commands.filter(|command| !is_own(command)).collect()
    }
}

const GRANTS: &str = "Allow getinfo version ns/all\nAllow getconf Log\n\
    Allow setconf MaxCircuitDirtiness=10-600\nAllow resetconf Log\nAllow signal NEWNYM\n\
    Allow events BW\nAllow client_auth add own\nAllow mapaddress\nAllow circuits close any\n\
    Allow add_onion ports=80=17600-17659 force=DiscardPK strip=Detach";

/// Each command, the beginning of its reply, and how Tor hears it.
const EXCHANGES: &[(&str, &str, &str)] = &[
    ("getinfo   version  ", "250-version=", "GETINFO version"),
    (
        "GetInfo\tversion\0 address",
        "250-version=",
        "GETINFO version",
    ),
    (
        "GETINFO version address",
        "552 Unrecognized key \"address\"",
        "",
    ),
    ("GETINFO version version address\0", "552 ", ""),
    ("GETINFO version\rx", "512 ", ""),
    ("GETINFO ", "250 OK", "GETINFO"),
    ("getconf log", "250 ", "GETCONF log"),
    ("GETCONF Log ControlPort", "552 ", ""),
    (
        "SetConf  maxcircuitdirtiness=\"2\\x30\"",
        "250 OK",
        "SETCONF maxcircuitdirtiness=\"20\"",
    ),
    (
        "SETCONF MaxCircuitDirtiness=20 Log=x",
        "552 Unrecognized option",
        "",
    ),
    ("SETCONF MaxCircuitDirtiness=9", "513 Unacceptable", ""),
    (
        "SETCONF MaxCircuitDirtiness=20 MaxCircuitDirtiness=9",
        "513 ",
        "",
    ),
    // Tor takes the beginning of a name, and the names of before.
    (
        "SETCONF MaxCircuitDirt=20",
        "552 Unrecognized option: Unknown option",
        "",
    ),
    (
        "SETCONF BandwidthRateBytes=20",
        "552 Unrecognized option: Unknown option",
        "",
    ),
    (
        "GETCONF Lo",
        "552 Unrecognized configuration key \"Lo\"",
        "",
    ),
    (
        "RESETCONF Lo",
        "552 Unrecognized option: Unknown option",
        "",
    ),
    ("SETCONF", "250 OK", ""),
    ("RESETCONF  ", "250 OK", ""),
    ("resetconf  log", "250 OK", "RESETCONF log"),
    ("SIGNAL HALT", "552 Unrecognized signal code", ""),
    ("SIGNAL newnym HALT", "512 ", ""),
    (
        "SETEVENTS BW STREAM",
        "552 Unrecognized event \"STREAM\"",
        "",
    ),
    ("SAVECONF", "510 Command filtered (p)", ""),
    ("ONIONBUS x", "510 Unrecognized command", ""),
    (
        "+LOADCONF\r\nLog debug\r\nSIGNAL HALT\r\n.",
        "510 Command filtered (p)",
        "",
    ),
    (
        "+NONESUCH\r\nSIGNAL HALT\r\n.",
        "510 Unrecognized command",
        "",
    ),
    (
        "+getinfo version\r\nSIGNAL HALT\r\n.",
        "510 Unrecognized command",
        "",
    ),
    (
        "onion_client_auth_add  duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad  x25519:AAAA  ClientName=x",
        "250 OK",
        "ONION_CLIENT_AUTH_ADD duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad x25519:AAAA ClientName=x",
    ),
    (
        "add_onion  NEW:best  flags=detach,discardpk  port=80,17600",
        "250-ServiceID=",
        "ADD_ONION NEW:BEST Flags=DiscardPK Port=80,127.0.0.1:17600",
    ),
    ("ADD_ONION NEW:BEST Port=80,22", "512 Bad arguments", ""),
    (
        "CLOSECIRCUIT 7 ifunused",
        "250 OK",
        "CLOSECIRCUIT 7 IfUnused",
    ),
    ("CLOSECIRCUIT 07", "5", ""),
    ("EXTENDCIRCUIT 0", "510 ", ""),
    ("mapaddress  a=b   c=d", "250 OK", "MAPADDRESS a=b c=d"),
    (END, "250 OK", END),
];

#[test]
fn tor_hears_what_is_written_anew_and_nothing_of_what_is_refused() {
    let recorded = Recorded::new(GRANTS);
    let mut controller = recorded.daemon.connect();
    let said: Vec<_> = EXCHANGES
        .iter()
        .map(|(command, reply, _)| (*command, *reply))
        .collect();
    replies(&mut controller, &said);
    let expected = EXCHANGES.iter().map(|(_, _, written)| *written);
    let expected = expected.filter(|written| !written.is_empty());
    assert_eq!(recorded.heard(END), expected.collect::<Vec<_>>());
    // Nor by the daemon's other connections.
    let heard = recorded.all();
    let is_refused = |command: &str| {
        ["address", "BW", "HALT", "debug", "ONIONBUS x"]
            .iter()
            .any(|part| command.contains(part))
    };
    assert!(
        !heard.iter().any(|(_, command)| is_refused(command)),
        "{heard:?}"
    );
}

#[test]
fn tor_hears_frames_as_they_are_written_anew() {
    const ERROR: u16 = 0;
    const UNAUTHORIZED: &[u8] = &[0, 7];
    let recorded = Recorded::new(GRANTS);
    let mut controller = Controller::at(&recorded.place.path("v0"));
    let end = "GETINFO version version";
    // Each frame, its refusal, and how Tor hears it.
    let frames: &[(u16, &[u8], bool, &str)] = &[
        (0x000B, b" version \n\0", false, "GETINFO version"),
        (0x000B, b"version\naddress\0", true, ""),
        (0x0003, b"Log\0", false, "GETCONF Log"),
        (0x0003, b"ControlPort\0", true, ""),
        (
            0x0002,
            b"maxcircuitdirtiness   \"2\\x30\"\n\0",
            false,
            "SETCONF maxcircuitdirtiness=\"20\"",
        ),
        (0x0002, b"MaxCircuitDirtiness 9\n\0", true, ""),
        (0x0002, b"MaxCircuitDirt 20\n\0", true, ""),
        (0x0002, b"\0", false, ""),
        (0x0009, b"\x01", true, ""),
        (0x0008, b"", true, ""),
        (0x000A, b"a b\nc d\n\0", false, "MAPADDRESS a=b c=d"),
        (0x0014, b"\0\0\0\x07\x01", false, "CLOSECIRCUIT 7 IfUnused"),
        (0x0013, b"\0\0\0\x07\x01\0", true, ""),
        (0x000D, b"\0\0\0\0a,b\0", true, ""),
        (0x000F, b"router x\n\0", true, ""),
        (0x000B, b"version\nversion\0", false, end),
    ];
    let mut expected = Vec::new();
    for (kind, body, is_refused, written) in frames {
        controller.send_frame(*kind, body);
        let (said, code) = controller.frame();
        let is_unauthorized = said == ERROR && code.starts_with(UNAUTHORIZED);
        assert_eq!(
            is_unauthorized,
            *is_refused,
            "{kind:04X}: {}",
            code.escape_ascii()
        );
        assert!(
            *is_refused || said != ERROR,
            "{kind:04X}: {}",
            code.escape_ascii()
        );
        expected.extend(Some(*written).filter(|written| !written.is_empty()));
    }
    assert_eq!(recorded.heard(end), expected);
}

/// A daemon whose Tor owes a controller as many long replies as it may, so that a command behind
/// them is held.
#[track_caller]
fn behind_long_replies(recorded: &Recorded, command: &str) -> (Controller, usize) {
    let mut controller = recorded.daemon.connect();
    let all = format!("{LONG}\r\n").repeat(WINDOW);
    controller.send(format!("{all}{command}\r\n{END}\r\n"));
    let mut number = 0;
    for _ in 0..WINDOW {
        number = recorded.fake.hears(LONG);
    }
    (controller, number)
}

/// The long replies that Tor may owe one controller.
const WINDOW: usize = 192;

#[test]
fn what_is_held_is_judged_by_the_policy_that_has_come() {
    let lines = format!("{GRANTS}\nAllow list");
    let before = [&lines[..], "Allow all", "Complain"];
    for (before, is_gone) in before.iter().flat_map(|&one| [(one, false), (one, true)]) {
        let mut recorded = Recorded::new(before);
        let command = "SETCONF MaxCircuitDirtiness=77";
        let mut watcher = recorded.daemon.connect();
        watcher.ok("SETEVENTS CONTROLLER");
        let (controller, number) = behind_long_replies(&recorded, command);
        let mut controller = Some(controller);
        if is_gone {
            controller = None;
            while !watcher.reply().contains(" DISCONNECTED ") {}
        }
        let policy = "Profile p\nMatch any\nAllow getinfo ns/all\nAllow signal NEWNYM\n";
        reload(&recorded.place, &mut recorded.daemon, policy);
        let replies = "250-ns/all=\r\n250 OK\r\n".repeat(WINDOW);
        recorded.fake.say(number, replies.as_bytes());
        if let Some(controller) = &mut controller {
            for _ in 0..WINDOW {
                assert!(controller.reply().starts_with("250-ns/all="));
            }
            let said = [controller.reply(), controller.reply()];
            assert!(said[0].starts_with("552 Unrecognized option"), "{said:?}");
            assert_eq!(said[1], "250 OK");
        }
        let mut heard = recorded.heard(END);
        heard.retain(|command| command != LONG);
        assert_eq!(heard, [END], "{before}, gone: {is_gone}");
    }
}

#[test]
fn a_circuit_that_a_controller_has_built_is_watched() {
    let recorded = Recorded::new("Allow all");
    let mut controller = recorded.daemon.connect();
    controller.ok(END);
    recorded.fake.hears(END);
    let is_watched = || {
        let events = recorded
            .all()
            .into_iter()
            .rfind(|(_, one)| one.starts_with("SETEVENTS"));
        events.is_some_and(|(_, events)| events.contains(" CIRC"))
    };
    assert!(!is_watched());
    assert_eq!(controller.ask("EXTENDCIRCUIT 0"), "250 EXTENDED 7");
    while !is_watched() {
        recorded.fake.hears("SETEVENTS");
    }
}
