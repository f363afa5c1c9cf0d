//! The audit log: a line of JSON for each action and each refusal, and before an action where it is
//! required; and what is learnt from it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use onionbus::audit::Record;

use crate::people::{ALICE, BOB, connect, has_people, place, serve};
use crate::support::{Controller, Daemon, Place, eventually, is_root};
use crate::{CLIENT, ONION, home};

/// The lines of a log.
#[track_caller]
fn records(path: &std::path::Path) -> Vec<Record> {
    let text = fs::read(path).expect("there is a log");
    assert!(text.ends_with(b"\n"), "each line is whole");
    let lines = text
        .split(|&octet| octet == b'\n')
        .filter(|line| !line.is_empty());
    let record =
        |line: &[u8]| Record::parse(line).unwrap_or_else(|| panic!("{}", line.escape_ascii()));
    lines.map(record).collect()
}

fn with_log(lines: &str) -> (Place, Daemon) {
    let place = Place::new();
    let path = place.path("audit");
    let daemon = place
        .configured(&format!("BusAudit {}\n{lines}", path.display()))
        .ready();
    (place, daemon)
}

#[test]
fn a_line_says_all_that_is_known_of_who_did_it() {
    let (place, daemon) = with_log("");
    let mut alice = daemon.named("alice");
    alice.ok("SETCONF BusHistory=20");
    alice.ok("SIGNAL BUSRELOAD");
    alice.ask("SETCONF BusHistory=x");
    let all = records(&place.path("audit"));
    let [first, second] = &all[..] else {
        panic!("{all:?}")
    };
    let uid = nix::unistd::geteuid().as_raw();
    assert_eq!(
        first.time.len(),
        "2026-01-31T23:59:59.123Z".len(),
        "{first:?}"
    );
    assert!(first.time.ends_with('Z') && first.time.as_bytes()[10] == b'T');
    assert_eq!((first.uid, first.gid.is_some()), (Some(uid), true));
    assert_eq!(first.pid.map(i32::unsigned_abs), Some(std::process::id()));
    assert_eq!(first.socket, place.socket().to_string_lossy());
    let expected = Record {
        time: first.time.clone(),
        event: "ACTION".into(),
        number: Some(1),
        id: 1,
        name: "alice".into(),
        command: "SETCONF".into(),
        args: vec!["BusHistory".into()],
        status: Some(250),
        grant: "Allow busconf set BusHistory".into(),
        ..first.clone()
    };
    assert_eq!(*first, expected);
    assert_eq!(
        (&*second.command, &*second.grant),
        ("SIGNAL", "Allow bussignal BUSRELOAD")
    );
    let mode = fs::metadata(place.path("audit"))
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_log_is_opened_anew_at_a_reload() {
    let (place, mut daemon) = with_log("");
    let mut alice = daemon.connect();
    alice.ok("SIGNAL HEARTBEAT");
    let (path, old) = (place.path("audit"), place.path("audit.1"));
    fs::rename(&path, &old).expect("it is there");
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.notified("RELOADING=1");
    daemon.notified("READY=1");
    alice.ok("SIGNAL HEARTBEAT");
    let commands = |path| {
        records(path)
            .into_iter()
            .map(|one| (one.id, one.command))
            .collect::<Vec<_>>()
    };
    assert_eq!(commands(&old), [(1, "SIGNAL".into()), (0, "SIGNAL".into())]);
    assert_eq!(commands(&path), [(1, "SIGNAL".into())]);
}

#[test]
fn a_log_that_cannot_be_written_is_told_once_and_stops_nothing() {
    let place = Place::new();
    let path = place.path("missing/audit");
    let option = format!("BusAudit {}\n", path.display());
    let mut daemon = place.configured(&option).ready();
    let mut alice = daemon.connect();
    alice.ok("SIGNAL HEARTBEAT");
    alice.ok("SIGNAL HEARTBEAT");
    let log = daemon.stop();
    assert_eq!(log.matches(" cannot be written: ").count(), 1, "{log}");
}

#[test]
fn a_log_of_another_user_is_not_written() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let path = place.path("audit");
    fs::write(&path, "").expect("it is new");
    std::os::unix::fs::chown(&path, Some(1), None).expect("root may");
    let option = format!("BusAudit {}\nBusAuditRequired 1\n", path.display());
    let daemon = place.configured(&option).ready();
    let refused = daemon.connect().ask("SETCONF BusHistory=7");
    assert_eq!(refused, "551 The audit log cannot be written");
    assert!(fs::read(&path).expect("it is there").is_empty());
}

#[test]
fn where_the_log_is_required_nothing_is_done_without_it() {
    let Some((home, _tor)) = home() else { return };
    let place = Place::new();
    let path = place.path("log");
    fs::create_dir(&path).expect("it is new");
    let audit = path.join("audit");
    let option = format!(
        "BusAudit {}\nBusAuditRequired 1\nBusConfine 0\nBusTor {}\n",
        audit.display(),
        home.address()
    );
    let daemon = place.configured(&option).ready();
    crate::tor::is_connected(&daemon);
    let mut alice = daemon.connect();
    alice.ok("SETCONF MaxCircuitDirtiness=700");
    alice.ask("SETCONF MaxCircuitDirtiness=x");
    alice.ok("SIGNAL BUSRELOAD");
    let said: Vec<_> = records(&audit)
        .into_iter()
        .map(|one| (one.event, one.args.join(","), one.status))
        .collect();
    let line = |event: &str, args: &str, status| (event.to_owned(), args.to_owned(), status);
    assert_eq!(
        said,
        [
            line("ATTEMPT", "MaxCircuitDirtiness", None),
            line("ACTION", "MaxCircuitDirtiness", Some(250)),
            line("ATTEMPT", "MaxCircuitDirtiness", None),
            line("ATTEMPT", "BUSRELOAD", None),
            line("ACTION", "BUSRELOAD", Some(250)),
        ]
    );
    // The disk is full: nobody can write behind what is there.
    fs::rename(&path, place.path("away")).expect("it is there");
    std::os::unix::fs::symlink("/dev/full", &path).expect("nothing is there");
    alice.ask("SIGNAL BUSRELOAD");
    let refused = "551 The audit log cannot be written";
    for command in [
        "SETCONF MaxCircuitDirtiness=900",
        "SETCONF BusHistory=7",
        "SIGNAL BUSRELOAD",
        "SAVECONF",
        "+LOADCONF\r\nNickname x\r\n.",
        "ADD_ONION NEW:BEST Port=80",
    ] {
        assert_eq!(alice.ask(command), refused, "{command}");
    }
    // Behind what Tor was asked before.
    alice.send("GETINFO version\r\nSIGNAL NEWNYM\r\nGETCONF MaxCircuitDirtiness BusHistory\r\n");
    assert!(alice.reply().starts_with("250-version="));
    assert_eq!(alice.reply(), refused);
    assert_eq!(
        alice.reply(),
        "250-MaxCircuitDirtiness=700\n250 BusHistory=100"
    );
    fs::remove_file(&path).expect("it is there");
    fs::rename(place.path("away"), &path).expect("it is there");
    alice.ok("SETCONF MaxCircuitDirtiness=900");
}

#[test]
fn what_comes_from_outside_is_written_without_anybody_who_listens() {
    let Some((home, _tor)) = home() else { return };
    let (place, daemon) = with_log(&format!("BusTor {}\n", home.address()));
    crate::tor::is_connected(&daemon);
    // A subscriber of these is answered once Tor sends them.
    daemon.connect().ok("SETEVENTS SIGNAL CONF_CHANGED");
    let mut direct = Controller::at(&home.socket());
    direct.ok("AUTHENTICATE");
    direct.ok("SETCONF Nickname=SecretNick");
    let audit = place.path("audit");
    eventually("the change is written", || {
        fs::metadata(&audit).is_ok_and(|found| found.len() > 0)
    });
    let all = records(&audit);
    let [one] = &all[..] else { panic!("{all:?}") };
    let what = (
        &*one.event,
        one.id,
        &*one.name,
        &*one.command,
        &*one.args.concat(),
    );
    assert_eq!(what, ("ACTION", 0, "outside", "CONF_CHANGED", "Nickname"));
    assert_eq!(
        (one.uid, one.gid, one.pid, one.status),
        (None, None, None, None)
    );
}

/// Everything that is secret in a run: values, keys, passwords, targets and names of hosts.
const SECRETS: &[&str] = &[
    "SecretNick",
    "secret-contact",
    "secretpassword",
    "16:872860B76453A77D60CA2BB8C1A7042072093276A3D701AD684053EC4C",
    "aGhoaGho",
    "ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4=",
    "secrettarget",
    "secrethost",
    "/secret/",
    "secretbob",
    "192.0.2.77",
];

#[test]
fn no_secret_is_in_any_event_log_line_or_line_of_the_audit_log() {
    let Some((home, _tor)) = home() else { return };
    let (place, daemon) = with_log(&format!(
        "BusLog debug\nBusAuditRequired 1\nBusTor {}\n",
        home.address()
    ));
    crate::tor::is_connected(&daemon);
    let mut watcher = daemon.connect();
    watcher.ok("SETEVENTS ACTION DENIED");
    let mut alice = daemon.connect();
    let key = "aGhoaGho".repeat(10) + "aGhoaA==";
    let hash = SECRETS[3];
    for command in [
        "SETCONF Nickname=SecretNick",
        "SETCONF ContactInfo=\"secret-contact\" MaxCircuitDirtiness=x",
        &format!("SETCONF HashedControlPassword={hash}"),
        "SETCONF Socks5Proxy=192.0.2.77:1 Socks5ProxyUsername=a Socks5ProxyPassword=secretpassword",
        "SETCONF DataDirectory=/secret/x",
        &format!("ADD_ONION ED25519-V3:{key} Port=80,192.0.2.77:80"),
        "ADD_ONION NEW:BEST Port=80,unix:/secret/s",
        "ADD_ONION NEW:BEST Port=80,secrethost.example:80",
        &format!("ONION_CLIENT_AUTH_ADD {ONION} {CLIENT} ClientName=secretbob"),
        "MAPADDRESS left.example=secrettarget.example",
        "RESOLVE secrethost.example",
        "REDIRECTSTREAM 7 secrethost.example",
        "GETINFO ip-to-country/192.0.2.77",
        "+LOADCONF\r\nNickname SecretNick\r\nFoo secret-contact\r\n.",
        "AUTHENTICATE \"secretpassword\"",
        "SIGNAL HEARTBEAT",
    ] {
        alice.ask(command);
    }
    let mut events = Vec::new();
    while !events
        .last()
        .is_some_and(|line: &String| line.contains("HEARTBEAT"))
    {
        events.push(watcher.reply());
    }
    assert!(events.len() >= 6, "{events:?}");
    let recent = watcher.ask("GETINFO recent-actions");
    let audit = fs::read_to_string(place.path("audit")).expect("there is a log");
    for text in [events.join("\n"), recent, audit, daemon.log()] {
        for secret in SECRETS {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

/// The end of a program, and what it has printed.
#[track_caller]
fn policy(arguments: &[&str], code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    let output = command
        .arg("policy")
        .args(arguments)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {text}{said}"
    );
    text
}

#[test]
fn a_complaining_profile_is_learnt_from_its_log() {
    if !has_people() {
        return;
    }
    let Some((home, _tor)) = home() else { return };
    let policy_text =
        format!("Profile a\nMatch user={ALICE} user={BOB}\nComplain\nAllow getinfo version\n");
    let policy_text = policy_text.replace(&format!(" user={BOB}"), &format!("\nMatch user={BOB}"));
    let place = place(&policy_text, "");
    let audit = place.path("audit");
    let config = fs::read_to_string(place.path("onionbus.conf")).expect("it is there");
    let lines = format!(
        "{config}BusAudit {}\nBusTor {}\n",
        audit.display(),
        home.address()
    );
    place.file("onionbus.conf", &lines);
    let daemon = serve(&place).ready();
    crate::tor::is_connected(&daemon);
    let good = [
        "GETINFO version uptime",
        "SETCONF MaxCircuitDirtiness=700",
        "SIGNAL NEWNYM",
        "ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17600",
        "ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17612",
        "SETEVENTS CIRC",
        "CONTROLLERNAME alice",
    ];
    let mut alice = connect(&place, ALICE, &[]);
    let mut bob = connect(&place, BOB, &[]);
    for command in good {
        let reply = alice.ask(command);
        assert!(reply.contains("250 OK"), "{command}: {reply}");
    }
    bob.ok("SIGNAL DUMP");
    let all = records(&audit);
    let complaints = all
        .iter()
        .filter(|one| one.event == "COMPLAIN" && one.uid == Some(ALICE));
    let commands: Vec<_> = complaints.map(|one| &*one.command).collect();
    let words = good.map(|command| command.split(' ').next().unwrap_or_default());
    assert_eq!(commands, words);
    assert!(
        all.iter()
            .any(|one| one.event == "DENIED" && one.profiles == ["a"])
    );
    let from = audit.to_string_lossy();
    let alice_id = ALICE.to_string();
    let learnt = policy(
        &[
            "learn",
            "--from",
            &from,
            "--user",
            &alice_id,
            "--profile",
            "mine",
        ],
        0,
    );
    let start = format!("Profile mine\nMatch user={ALICE}\n");
    assert!(
        learnt.starts_with(&start) && !learnt.contains("DUMP"),
        "{learnt}"
    );
    place.file("own.policy", &learnt);
    let config = place.path("onionbus.conf").to_string_lossy().into_owned();
    let judged = |command: &str, code| {
        policy(
            &["try", "--config", &config, "--user", &alice_id, command],
            code,
        );
    };
    for command in good {
        judged(command, 0);
    }
    for command in [
        "GETINFO fingerprint",
        "SETCONF NumEntryGuards=700",
        "SIGNAL HALT",
        "ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17613",
        "ADD_ONION NEW:BEST Flags=DiscardPK Port=81,17600",
        "ADD_ONION ED25519-V3:aGho Flags=DiscardPK Port=80,17600",
        "SETEVENTS STREAM",
        "CONTROLLERNAME bob",
        "MAPADDRESS a.example=b.example",
    ] {
        judged(command, 1);
    }
}

#[test]
fn refusals_and_actions_share_their_numbers_and_own_ones_are_told() {
    if !has_people() {
        return;
    }
    let text = format!(
        "Profile a\nMatch user={ALICE}\nAllow busconf set BusHistory\nAllow events ACTION:own\n\
         Profile b\nMatch user={BOB}\nAllow all\n"
    );
    let place = place(&text, "");
    let _daemon = serve(&place).ready();
    let (mut alice, mut bob) = (connect(&place, ALICE, &[]), connect(&place, BOB, &[]));
    let settle = |controller: &mut Controller, command: &str| controller.ok(command);
    settle(&mut alice, "SETEVENTS ACTION");
    settle(&mut bob, "SETEVENTS ACTION DENIED");
    alice.ok("SETCONF BusHistory=5");
    let own = alice.reply();
    assert!(
        own.starts_with("650 ACTION 1 ") && own.contains(" ARGS=BusHistory "),
        "{own}"
    );
    assert_eq!(bob.reply(), own);
    assert!(alice.ask("SETCONF BusLog=debug").starts_with("552 "));
    let denied = bob.reply();
    assert!(
        denied.starts_with("650 DENIED 2 ") && denied.ends_with(" ARGS=BusLog STATUS=552"),
        "{denied}"
    );
    bob.ok("SIGNAL HEARTBEAT");
    assert!(bob.reply().starts_with("650 ACTION 3 "));
    alice.ok("SETCONF BusHistory=6");
    assert!(
        alice.reply().starts_with("650 ACTION 4 "),
        "another's is not told"
    );
    assert!(bob.reply().starts_with("650 ACTION 4 "));
    let recent = bob.ask("GETINFO recent-actions");
    assert!(
        recent.contains("\n650 DENIED 2 ") && recent.contains("\n650 ACTION 4 "),
        "{recent}"
    );
    assert!(alice.ask("GETINFO recent-actions").starts_with("552 "));
}

#[test]
fn a_confined_daemon_can_write_its_log_and_start_a_new_one() {
    if !is_root() {
        return;
    }
    let place = Place::open_to_all();
    let directory = place.path("log");
    fs::create_dir(&directory).expect("it is new");
    let audit = directory.join("audit");
    let mut daemon = place
        .configured(&format!("BusAudit {}\n", audit.display()))
        .ready();
    let mut alice = daemon.connect();
    alice.ok("SIGNAL HEARTBEAT");
    fs::rename(&audit, directory.join("old")).expect("it is there");
    alice.ok("SIGNAL BUSRELOAD");
    alice.ok("SIGNAL HEARTBEAT");
    assert!(!records(&audit).is_empty());
    daemon.stop();
}
