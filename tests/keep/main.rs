//! What Tor forgets and the daemon keeps: onion services and whose they are, keys and maps, through
//! the ends of controllers, of Tor and of the daemon.

mod leases;
mod overlaps;
#[path = "../policy/people.rs"]
#[allow(dead_code, reason = "each file of tests uses a part of it")]
mod people;
mod restarts;
mod store;
#[path = "../support/mod.rs"]
mod support;
#[path = "../relay/tor.rs"]
mod tor;

use people::{ALICE, BOB, connect, has_people};
use support::{Controller, Place, eventually};
use tor::{Home, Pair, has_tor, is_connected};

/// A key that nobody else has, of a service that nobody else has.
const KEY: &str = "ED25519-V3:WMBeS6DjDVdbdE0uANMhf5ihr8Ei+yqLgmXgZQCEDVBufRAp40TXotYGCPYLRs2WXFzRbz7ouDV1cuF3cELh3w";
const ONION: &str = "jwjntyrfiu75d46dcxq4wzhhm3astlz35sigyd4iibgufvhb2uopo3id";

/// The reply to an `ADD_ONION` of the key.
const MADE: &str = "250-ServiceID=jwjntyrfiu75d46dcxq4wzhhm3astlz35sigyd4iibgufvhb2uopo3id\n250 OK";

const COLLIDES: &str = "550 Onion address collision";
const UNKNOWN: &str = "552 Unknown Onion Service id";

/// `ADD_ONION` of the key with these words.
fn add(words: &str) -> String {
    format!("ADD_ONION {KEY} {words}")
}

/// The service of a reply.
fn service(reply: &str) -> String {
    let rest = reply
        .strip_prefix("250-ServiceID=")
        .unwrap_or_else(|| panic!("{reply}"));
    rest.lines().next().expect("a line").to_owned()
}

/// The services that a controller sees as its own, and as detached.
fn lists(controller: &mut Controller) -> (Vec<String>, Vec<String>) {
    let mut list = |key: &str| {
        let reply = controller.ask(&format!("GETINFO {key}"));
        let (_, value) = reply.split_once('=').unwrap_or_else(|| panic!("{reply}"));
        let lines = value.lines().filter(|line| line.len() == 56);
        lines.map(str::to_owned).collect()
    };
    (list("onions/current"), list("onions/detached"))
}

/// Tor itself, past the bus: all services of all connections are a collision there.
fn tor_has(home: &Home) -> bool {
    let mut tor = Controller::at(&home.socket());
    tor.ok("AUTHENTICATE");
    let reply = tor.ask(&add("Port=80"));
    match &reply[..] {
        COLLIDES => true,
        MADE => false,
        _ => panic!("{reply}"),
    }
}

/// A daemon for several users, with a Tor.
struct Scene {
    daemon: support::Daemon,
    tor: tor::Tor,
    home: Home,
    place: Place,
}

impl Scene {
    fn with(lines: &str) -> Self {
        let home = Home::new();
        let tor = home.start();
        let place = people::place("Profile any\nMatch any\nAllow all\n", "");
        // Without a policy; the file is only for those who want one.
        place.file(
            "onionbus.conf",
            &format!(
                "BusSocket {} Mode=0666\nBusLog info\nBusTor {}\n{lines}\n",
                place.socket().display(),
                home.address()
            ),
        );
        let daemon = people::serve(&place).ready();
        is_connected(&daemon);
        Self {
            daemon,
            tor,
            home,
            place,
        }
    }

    fn user(&self, uid: u32) -> Controller {
        connect(&self.place, uid, &[])
    }
}

#[test]
fn off_it_is_as_without() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut first = pair.daemon.connect();
    assert_eq!(first.ask(&add("Port=80")), MADE);
    assert_eq!(lists(&mut first).0, [ONION]);
    assert_eq!(first.info("kept-onions"), "");
    drop(first);
    eventually("Tor lets it go", || !tor_has(&pair.home));
}

#[test]
fn a_service_outlives_its_controller_and_is_taken_up_again() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 600"]);
    let mut first = pair.daemon.connect();
    assert_eq!(first.ask(&add("Port=80")), MADE);
    assert_eq!(first.ask(&add("Port=80")), COLLIDES);
    assert_eq!(lists(&mut first), (vec![ONION.to_owned()], Vec::new()));
    let mut second = pair.daemon.connect();
    assert_eq!(second.ask(&add("Port=80")), COLLIDES, "the first lives");
    assert_eq!(lists(&mut second), (Vec::new(), Vec::new()));
    drop(first);
    eventually("it waits", || lists(&mut second).1 == [ONION]);
    assert!(tor_has(&pair.home));
    // No upload is asked for: Tor tells of none.
    second.ok("SETEVENTS HS_DESC");
    for spelling in ["Port=80,127.0.0.1:80", "Port=80 Flags=DiscardPK"] {
        assert_eq!(second.ask(&add(spelling)), MADE, "{spelling}");
        assert_eq!(lists(&mut second), (vec![ONION.to_owned()], Vec::new()));
        drop(std::mem::replace(&mut second, pair.daemon.connect()));
        eventually("it waits", || lists(&mut second).1 == [ONION]);
    }
    // Another form replaces it, and one that Tor refuses does not.
    assert_eq!(second.ask(&add("Port=81")), MADE);
    drop(std::mem::replace(&mut second, pair.daemon.connect()));
    eventually("it waits", || lists(&mut second).1 == [ONION]);
    let refused = second.ask(&add("Port=81 Flags=NonAnonymous"));
    assert!(refused.starts_with("512 "), "{refused}");
    eventually("it is put back", || tor_has(&pair.home));
    assert_eq!(second.ask(&format!("DEL_ONION {ONION}")), "250 OK");
    assert!(!tor_has(&pair.home));
    assert_eq!(second.ask(&format!("DEL_ONION {ONION}")), UNKNOWN);
    assert_eq!(second.info("kept-onions"), "");
}

#[test]
fn replies_are_tors() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 600"]);
    let mut bus = pair.daemon.connect();
    let mut tor = Controller::at(&pair.home.socket());
    tor.ok("AUTHENTICATE");
    let client = "5BPBXQOAZWPSSXFKOIXHZDRDA2AJT2SWS2GIQTISCFKGVBFWBBDQ";
    let shape = |reply: &str| {
        let line = |line: &str| match line.split_once('=') {
            Some((name, value)) if name != "250-ClientAuthV3" => format!("{name}={}", value.len()),
            _ => line.to_owned(),
        };
        reply.lines().map(line).collect::<Vec<_>>()
    };
    for words in [
        "NEW:BEST Port=80",
        "NEW:ED25519-V3 Flags=DiscardPK Port=80,8080",
        "NEW:BEST Flags=Detach Port=80",
        &format!("NEW:BEST Flags=V3Auth,DiscardPK ClientAuthV3={client} Port=80"),
        "NEW:BEST",
        "NEW:RSA1024 Port=80",
        "ED25519-V3:x Port=80",
        "NEW:BEST Port=80 Flags=Wrong",
        "NEW:BEST Port=80 MaxStreams=70000",
        "",
    ] {
        let command = format!("ADD_ONION {words}");
        assert_eq!(
            shape(&bus.ask(&command)),
            shape(&tor.ask(&command)),
            "{words}"
        );
    }
    for words in ["x", "", ONION] {
        let command = format!("DEL_ONION {words}");
        assert_eq!(bus.ask(&command), tor.ask(&command), "{words}");
    }
    // In their order, behind and before other commands.
    bus.send(
        "GETINFO process/pid\r\nADD_ONION NEW:BEST Port=1\r\nGETINFO onions/current version\r\n\
         ADD_ONION NEW:BEST Flags=DiscardPK Port=2\r\nFOO\r\n",
    );
    assert!(bus.reply().starts_with("250-process/pid="));
    assert!(bus.reply().contains("\n250-PrivateKey="));
    assert!(bus.reply().contains("\n250-version="));
    assert!(!bus.reply().contains("PrivateKey"));
    assert!(bus.reply().starts_with("510 "));
}

#[test]
fn nobody_else_sees_or_touches_it() {
    if !has_tor() || !has_people() {
        return;
    }
    let scene = Scene::with("BusKeepOnions 600");
    let (mut alice, mut bob) = (scene.user(ALICE), scene.user(BOB));
    assert_eq!(alice.ask(&add("Port=80")), MADE);
    let detached = service(&alice.ask("ADD_ONION NEW:BEST Flags=Detach Port=81"));
    assert_eq!(
        lists(&mut alice),
        (vec![ONION.into()], vec![detached.clone()])
    );
    assert_eq!(lists(&mut bob), (Vec::new(), Vec::new()));
    let has = |bob: &mut Controller| {
        assert_eq!(bob.ask(&add("Port=80")), COLLIDES);
        assert_eq!(bob.ask(&format!("DEL_ONION {ONION}")), UNKNOWN);
        assert_eq!(bob.ask(&format!("DEL_ONION {detached}")), UNKNOWN);
        assert_eq!(lists(bob), (Vec::new(), Vec::new()));
        assert_eq!(bob.info("kept-onions"), "");
    };
    has(&mut bob);
    drop(alice);
    has(&mut bob);
    let mut alice = scene.user(ALICE);
    eventually("both are hers", || lists(&mut alice).1.len() == 2);
    assert_eq!(alice.ask(&format!("DEL_ONION {detached}")), "250 OK");
    assert_eq!(alice.ask(&add("Port=80")), MADE);
    // Root sees whose everything is, and no key.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onionbus"));
    let listed = support::run(
        command
            .args(["onions", "--socket"])
            .arg(scene.place.socket()),
    );
    assert!(
        listed.starts_with(&format!("{ONION} UID={ALICE} ")),
        "{listed}"
    );
    let mut root = scene.daemon.connect();
    let kept = root.ask("GETINFO kept-onions");
    assert!(
        kept.contains(&format!("{ONION} UID={ALICE} LABEL=\"")),
        "{kept}"
    );
    assert!(kept.contains(" STATE=THERE ID="), "{kept}");
    assert!(!kept.contains("WMBe"), "{kept}");
}

#[test]
fn after_its_time_it_goes_and_one_that_nobody_can_take_up_at_once() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&["BusKeepOnions 1"]);
    let mut first = pair.daemon.connect();
    assert_eq!(first.ask(&add("Port=80")), MADE);
    let mut other = pair.daemon.connect();
    let secret = service(&first.ask("ADD_ONION NEW:BEST Flags=DiscardPK Port=80"));
    let detached = service(&first.ask("ADD_ONION NEW:BEST Flags=DiscardPK,Detach Port=80"));
    assert!(other.ask("GETINFO kept-onions").contains(&secret));
    drop(first);
    eventually("the secret one goes", || {
        !other.ask("GETINFO kept-onions").contains(&secret)
    });
    eventually("its time ends", || {
        !other.ask("GETINFO kept-onions").contains(ONION)
    });
    assert!(!tor_has(&pair.home));
    assert_eq!(lists(&mut other).1, [detached]);
}

#[test]
fn a_user_has_so_many_and_no_more() {
    if !has_tor() || !has_people() {
        return;
    }
    let scene = Scene::with("BusKeepOnions 600\nBusMaxOnions 2");
    let mut alice = scene.user(ALICE);
    let first = service(&alice.ask("ADD_ONION NEW:BEST Port=80"));
    drop(alice);
    let mut alice = scene.user(ALICE);
    eventually("it waits", || lists(&mut alice).1.len() == 1);
    let mut others: Vec<_> = (0..2)
        .map(|_| service(&alice.ask("ADD_ONION NEW:BEST Port=80")))
        .collect();
    others.sort();
    let (mut current, waiting) = lists(&mut alice);
    current.sort();
    assert_eq!(
        (current, waiting),
        (others, Vec::new()),
        "{first} had waited longest"
    );
    assert_eq!(
        alice.ask("ADD_ONION NEW:BEST Port=80"),
        "551 Too many onion services of this user"
    );
    let mut bob = scene.user(BOB);
    service(&bob.ask("ADD_ONION NEW:BEST Port=80"));
}

#[test]
fn a_profile_says_whose_are_kept() {
    if !has_tor() || !has_people() {
        return;
    }
    let home = Home::new();
    let _tor = home.start();
    let policy = format!(
        "Profile kept\nMatch user={ALICE}\nAllow all\nKeep onions 600\n\
         Profile narrow\nMatch user={BOB}\nKeep onions 600\nAllow add_onion ports=80\n\
         Allow del_onion own\nAllow getinfo onions/current onions/detached\n\
         Profile others\nMatch user=0\nAllow all\n"
    );
    let place = people::place(&policy, &format!("BusTor {}", home.address()));
    let daemon = people::serve(&place).ready();
    is_connected(&daemon);
    let mut alice = connect(&place, ALICE, &[]);
    assert_eq!(alice.ask(&add("Port=80")), MADE);
    drop(alice);
    let mut alice = connect(&place, ALICE, &[]);
    eventually("it waits", || lists(&mut alice).1 == [ONION]);
    assert_eq!(alice.ask(&add("Port=80")), MADE);
    let mut bob = connect(&place, BOB, &[]);
    assert_eq!(bob.ask(&add("Port=80,8080")), COLLIDES);
    let refused = bob.ask("ADD_ONION NEW:BEST Port=81,8080");
    assert!(refused.starts_with("512 "), "{refused}");
    let of_bob = service(&bob.ask("ADD_ONION NEW:BEST Port=80,8080"));
    drop(bob);
    let mut bob = connect(&place, BOB, &[]);
    eventually("it waits", || lists(&mut bob).1 == [of_bob.clone()]);
    assert_eq!(bob.ask(&format!("DEL_ONION {ONION}")), UNKNOWN);
    assert_eq!(bob.ask(&format!("DEL_ONION {of_bob}")), "250 OK");
    let mut root = daemon.connect();
    let own = service(&root.ask("ADD_ONION NEW:BEST Port=80"));
    assert_eq!(lists(&mut root), (vec![own], Vec::new()));
    assert!(!root.ask("GETINFO kept-onions").contains("UID=0"));
}
