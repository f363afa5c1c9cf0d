//! The policy of a running daemon, with real users: who is who, what each may do, and what it is
//! told of.

#[path = "../faults/fake.rs"]
#[allow(dead_code, reason = "a part of it is used here")]
mod fake;
mod identity;
mod messages;
mod onions;
mod people;
mod programs;
mod recorded;
mod rules;
#[path = "../support/mod.rs"]
mod support;
#[path = "../relay/tor.rs"]
mod tor;

use people::{ADMIN, ALICE, BOB, STAFF, connect, has_people, place, reload, serve};
use support::Place;
use tor::{Home, has_tor};

/// A place with this policy, and a daemon that is about to be started with the Tor of `home`.
fn with_tor(policy: &str, home: &Home) -> Place {
    place(policy, &format!("BusTor {}", home.address()))
}

/// Checks replies; of a long one the beginning.
#[track_caller]
fn replies(controller: &mut support::Controller, exchanges: &[(&str, &str)]) {
    for (command, expected) in exchanges {
        let reply = controller.ask(command);
        let reply = reply.replace('\n', "|");
        assert!(reply.starts_with(expected), "{command}: {reply}");
    }
}

#[test]
fn whoever_connects_is_who_the_kernel_says() {
    if !has_people() {
        return;
    }
    let policy = format!(
        "Profile base\nMatch any\nAllow getinfo version\n\
         Profile staff\nMatch group={STAFF}\nAllow getinfo uptime\n\
         Profile own\nMatch user={ALICE}\nAllow getinfo process/pid\n\
         Profile none\nMatch user=65534\nAllow all\n"
    );
    let place = place(&policy, "");
    let _daemon = serve(&place).ready();
    let socket = place.socket();
    let mut alice = connect(&place, ALICE, &[STAFF + 1, STAFF]);
    let whoami = alice.info("whoami");
    let start = format!(
        "ID=1 NAME=unset UID={ALICE} GID={ALICE} GROUPS={STAFF},{} LABEL=\"",
        STAFF + 1
    );
    assert!(whoami.starts_with(&start), "{whoami}");
    let end = format!(" SOCKET=\"{}\" PROFILES=base,own,staff", socket.display());
    assert!(whoami.ends_with(&end), "{whoami}");
    replies(
        &mut alice,
        &[
            ("GETINFO version uptime process/pid", "250-version="),
            (
                "GETINFO traffic/read",
                "552 Unrecognized key \"traffic/read\"",
            ),
            ("GETINFO policy", "250+policy=|Allow getinfo process/pid|"),
            (
                "CONTROLLERNAME alice",
                "510 Command filtered (base,own,staff)",
            ),
        ],
    );
    // One without a name of its own, and one that no namespace has a number for.
    let mut bob = connect(&place, BOB, &[]);
    assert!(bob.info("whoami").contains(" GROUPS= "));
    replies(
        &mut bob,
        &[
            ("GETINFO version", "250-version="),
            ("GETINFO uptime", "552 "),
            ("GETINFO whoami uptime", "552 Unrecognized key \"uptime\""),
        ],
    );
    let mut unmapped = connect(&place, 65534, &[]);
    assert!(unmapped.info("whoami").ends_with(" PROFILES=base"));
}

#[test]
fn an_identity_is_that_of_who_has_connected() {
    if !has_people() {
        return;
    }
    let policy = format!("Profile a\nMatch user={ALICE}\nAllow getinfo version\n");
    let place = place(&policy, "");
    let _daemon = serve(&place).ready();
    // Root connects, becomes alice, executes another program and asks.
    let script = "import os, socket, sys\n\
        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
        os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))\n\
        os.dup2(s.fileno(), 0); os.set_inheritable(0, True)\n\
        os.execvp('sh', ['sh', '-c', 'printf \"GETINFO whoami version\\r\\nQUIT\\r\\n\" >&0; cat <&0'])\n";
    let mut command = std::process::Command::new("python3");
    command
        .args(["-c", script])
        .arg(place.socket())
        .arg(ALICE.to_string());
    let said = support::run(&mut command);
    assert!(
        said.starts_with("552 Unrecognized key \"version\"\r\n"),
        "{said}"
    );
}

#[test]
fn without_a_policy_nothing_of_it_exists() {
    let place = Place::new();
    let daemon = place.daemon();
    let mut controller = daemon.connect();
    replies(
        &mut controller,
        &[
            ("GETINFO whoami", "552 Unrecognized key \"whoami\""),
            ("GETINFO policy", "552 Unrecognized key \"policy\""),
            (
                "POLICYCHECK GETINFO version",
                "510 Unrecognized command \"POLICYCHECK\"",
            ),
            ("SETEVENTS policy", "552 Unrecognized event \"policy\""),
            ("SETEVENTS DENIED", "250 OK"),
            ("GETCONF BusPolicy", "250 BusPolicy"),
        ],
    );
    let names = controller.info("events/names");
    assert!(
        !names.contains("POLICY") && names.contains("DENIED"),
        "{names}"
    );
}

#[test]
fn what_is_refused_looks_as_if_it_were_not_there() {
    if !has_people() || !has_tor() {
        return;
    }
    let home = Home::new();
    let mut tor = home.start();
    let policy = format!(
        "Profile a\nMatch user={ALICE}\nAllow getinfo version\nAllow getconf *\n\
         Allow setconf MaxCircuitDirtiness=10-600\nAllow signal NEWNYM\nAllow events BW HS_DESC:own\n\
         Answer status/bootstrap-phase=ready\nAnswer DisableNetwork=0\n\
         Profile admin\nMatch user={ADMIN}\nAllow all\n"
    );
    let place = with_tor(&policy, &home);
    let daemon = serve(&place).ready();
    daemon.logs("is there, at");
    let mut alice = connect(&place, ALICE, &[]);
    replies(
        &mut alice,
        &[
            ("GETINFO version", "250-version=0."),
            ("getinfo   version ", "250-version=0."),
            (
                "GETINFO version address",
                "552 Unrecognized key \"address\"",
            ),
            (
                "GETCONF ControlPor",
                "552 Unrecognized configuration key \"ControlPor\"",
            ),
            (
                "GETCONF hashedcontrolpassword",
                "552 Unrecognized configuration key \"hashed",
            ),
            ("GETCONF maxcircuitdirtiness", "250 MaxCircuitDirtiness=600"),
            (
                "SETCONF ControlPort=0",
                "552 Unrecognized option: Unknown option 'ControlPort'.",
            ),
            (
                "SETCONF MaxCircuitDirt=20",
                "552 Unrecognized option: Unknown option 'MaxCircuitDirt'",
            ),
            (
                "SETCONF MaxCircuitDirtiness=9",
                "513 Unacceptable option value: MaxCircuitDirtiness is",
            ),
            ("SETCONF MaxCircuitDirtiness=\"2\\x30\"", "250 OK"),
            ("GETCONF maxcircuitdirtiness", "250 MaxCircuitDirtiness=20"),
            ("SETCONF MaxCircuitDirtiness=30 ControlPort=0", "552 "),
            ("GETCONF MaxCircuitDirtiness", "250 MaxCircuitDirtiness=20"),
            ("RESETCONF MaxCircuitDirtiness", "552 "),
            ("SIGNAL HALT", "552 Unrecognized signal code \"HALT\""),
            ("SIGNAL newnym", "250 OK"),
            ("SIGNAL NEWNYM HALT", "512 "),
            ("SETEVENTS bw STREAM", "552 Unrecognized event \"STREAM\""),
            ("SAVECONF", "510 Command filtered (a)"),
            ("TAKEOWNERSHIP", "510 Command filtered (a)"),
            ("NONESUCH x", "510 Unrecognized command \"NONESUCH\""),
            (
                "GETINFO status/bootstrap-phase version",
                "250-status/bootstrap-phase=ready|250-version=0.",
            ),
            (
                "GETINFO status/bootstrap-phase",
                "250-status/bootstrap-phase=ready|250 OK",
            ),
            ("GETCONF DisableNetwork", "250 DisableNetwork="),
            ("POLICYCHECK SAVECONF", "510 Command filtered (a)"),
            ("POLICYCHECK SIGNAL NEWNYM", "250 OK"),
            ("POLICYCHECK +LOADCONF", "510 Command filtered (a)"),
            ("GETINFO", "250 OK"),
            ("SETEVENTS", "250 OK"),
            ("PROTOCOLINFO 1", "250-PROTOCOLINFO 1"),
        ],
    );
    daemon.logs("was refused SIGNAL of HALT by (a)");
    // A controller that may do everything asks as if there were no policy, and has its keys too.
    let mut admin = connect(&place, ADMIN, &[]);
    replies(
        &mut admin,
        &[
            ("GETCONF ControlPor", "250 "),
            ("NONESUCH x", "510 Unrecognized command \"NONESUCH\""),
            ("GETINFO whoami version", "250-whoami=ID="),
            ("GETINFO policy", "250+policy=|Allow all|.|250 OK"),
            (
                "POLICYCHECK NONESUCH",
                "510 Unrecognized command \"NONESUCH\"",
            ),
        ],
    );
    let names = admin.ask("GETINFO info/names events/names");
    for part in ["\nwhoami -- ", "\npolicy -- ", " POLICY DENIED ACTION\n"] {
        assert!(names.contains(part), "{part}: {names}");
    }
    replies(&mut admin, &[("SIGNAL HALT", "250 OK")]);
    tor.ends();
}

#[test]
fn a_neighbours_things_are_out_of_reach() {
    if !has_people() || !has_tor() {
        return;
    }
    let home = Home::new();
    let _tor = home.start();
    let both = "Allow add_onion ports=80=17600-17659 flags=DiscardPK,Detach max=2\n\
                Allow del_onion own\nAllow client_auth add remove view own\n\
                Allow getinfo circuit-status\n";
    let policy =
        format!("Profile a\nMatch user={ALICE}\n{both}Profile b\nMatch user={BOB}\n{both}");
    let place = with_tor(&policy, &home);
    let daemon = serve(&place).ready();
    daemon.logs("is there, at");
    let (mut alice, mut bob) = (connect(&place, ALICE, &[]), connect(&place, BOB, &[]));
    let made = alice.ask("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17600");
    let id = made
        .strip_prefix("250-ServiceID=")
        .and_then(|rest| rest.strip_suffix("\n250 OK"));
    let id = id.unwrap_or_else(|| panic!("{made}")).to_owned();
    let detached = alice.ask("ADD_ONION NEW:BEST Flags=Detach,DiscardPK Port=80,17601");
    let detached = detached
        .split(['=', '\n'])
        .nth(1)
        .expect("an id")
        .to_owned();
    let current = format!("250-onions/current={id}|250 OK");
    let (delete, delete_detached) = (format!("DEL_ONION {id}"), format!("DEL_ONION {detached}"));
    let key = "x25519:uDF+ZsBrxVtRrTJfZQqNRLKPgGYf5zPI4tkyZy4ZLVQ=";
    let add = format!("ONION_CLIENT_AUTH_ADD {id} {key}");
    let (remove, view) = (
        format!("ONION_CLIENT_AUTH_REMOVE {id}"),
        "ONION_CLIENT_AUTH_VIEW",
    );
    replies(
        &mut alice,
        &[
            ("GETINFO onions/current", &current),
            (
                "GETINFO onions/detached",
                &format!("250-onions/detached={detached}|"),
            ),
            (
                "ADD_ONION NEW:BEST Port=80,17602",
                "551 Too many onion services",
            ),
            (
                "ADD_ONION NEW:BEST Port=80,22",
                "512 Bad arguments to ADD_ONION: filtered: Port",
            ),
            (
                "ADD_ONION NEW:BEST Port=80,unix:/x",
                "512 Bad arguments to ADD_ONION: filtered: Port",
            ),
            (&add, "250 OK"),
            (
                view,
                &format!("250-ONION_CLIENT_AUTH_VIEW|250-CLIENT {id} "),
            ),
        ],
    );
    replies(
        &mut bob,
        &[
            ("GETINFO onions/current", "250-onions/current=|250 OK"),
            ("GETINFO onions/detached", "250-onions/detached=|250 OK"),
            (&delete, "552 Unknown Onion Service id"),
            (&delete_detached, "552 Unknown Onion Service id"),
            (&add, "510 Command filtered (b)"),
            (&remove, "251 No credentials for "),
            (view, "250-ONION_CLIENT_AUTH_VIEW|250 OK"),
            ("GETINFO circuit-status", "250-circuit-status=|250 OK"),
        ],
    );
    replies(
        &mut alice,
        &[
            (&remove, "250 OK"),
            (&delete, "250 OK"),
            (&delete_detached, "250 OK"),
        ],
    );
    // What ends with its connection has room for others.
    for port in [17603, 17604] {
        let command = format!("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,{port}");
        replies(&mut alice, &[(&command, "250-ServiceID=")]);
    }
    replies(&mut alice, &[("ADD_ONION NEW:BEST Port=80,17605", "551 ")]);
    drop(alice);
    support::eventually("alice's services are gone", || {
        let mut alice = connect(&place, ALICE, &[]);
        let reply = alice.ask("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17605");
        reply.starts_with("250-")
    });
}

#[test]
fn events_are_those_that_ones_own_commands_explain() {
    if !has_people() || !has_tor() {
        return;
    }
    let home = Home::new();
    let _tor = home.start();
    let policy = format!(
        "Profile both\nMatch user={ALICE}\nMatch user={BOB}\n\
         Allow setconf MaxCircuitDirtiness NewCircuitPeriod\nAllow name *\n\
         Allow events CONF_CHANGED:own CONTROLLER:own INFO:quiet\n"
    );
    let place = with_tor(&policy, &home);
    let daemon = serve(&place).ready();
    daemon.logs("is there, at");
    let (mut alice, mut bob) = (connect(&place, ALICE, &[]), connect(&place, BOB, &[]));
    bob.ok("SETEVENTS CONF_CHANGED CONTROLLER INFO");
    alice.ok("SETEVENTS CONF_CHANGED CONTROLLER");
    // The event may come before the reply.
    alice.send("SETCONF MaxCircuitDirtiness=77\r\n");
    let mut said = [alice.reply(), alice.reply()];
    said.sort();
    assert_eq!(said[0], "250 OK");
    assert!(said[1].contains("MaxCircuitDirtiness=77"), "{said:?}");
    bob.send("SETCONF NewCircuitPeriod=78\r\n");
    let mut said = [bob.reply(), bob.reply()];
    said.sort();
    assert!(
        said[1].contains("NewCircuitPeriod=78"),
        "only its own: {said:?}"
    );
    alice.send("CONTROLLERNAME alice\r\n");
    let mut said = [alice.reply(), alice.reply()];
    said.sort();
    assert!(said[1].contains(" alice UID="), "{said:?}");
    bob.send("CONTROLLERNAME bob\r\n");
    let mut said = [bob.reply(), bob.reply()];
    said.sort();
    assert!(said[1].contains(" bob UID="), "{said:?}");
}

#[test]
fn a_reload_judges_everybody_anew() {
    if !has_people() {
        return;
    }
    let profile = |lines: &str| format!("Profile a\nMatch user={ALICE}\n{lines}\n");
    let place = place(
        &profile("Allow name {uid}_*\nAllow list\nAllow events BW"),
        "",
    );
    let mut daemon = serve(&place).ready();
    let mut alice = connect(&place, ALICE, &[]);
    let name = format!("CONTROLLERNAME {ALICE}_x");
    replies(
        &mut alice,
        &[
            (&name, "250 OK"),
            ("CONTROLLERNAME other", "510 Command filtered (a)"),
            ("GETINFO list-controllers", "250-list-controllers="),
            ("SETEVENTS CONTROLLER POLICY", "250 OK"),
        ],
    );
    // A file that is wrong changes nothing.
    reload(&place, &mut daemon, "Profile a\nAllow nonsense\n");
    daemon.logs("own.policy:2: ");
    replies(&mut alice, &[("GETINFO list-controllers", "250-")]);
    reload(&place, &mut daemon, &profile("Allow getinfo version"));
    assert_eq!(alice.reply(), "650 POLICY CHANGED");
    replies(
        &mut alice,
        &[
            ("GETINFO list-controllers", "552 "),
            ("GETINFO version", "250-version="),
            (
                "SETEVENTS CONTROLLER",
                "552 Unrecognized event \"CONTROLLER\"",
            ),
        ],
    );
    // Nothing of what it has subscribed to before comes: the next is the change.
    drop(connect(&place, BOB, &[]));
    reload(&place, &mut daemon, &profile("Allow all"));
    assert_eq!(alice.reply(), "650 POLICY CHANGED");
    assert!(alice.info("whoami").contains(&format!(" NAME={ALICE}_x ")));
    replies(
        &mut alice,
        &[("SETCONF BusPolicy=/x", "553 Transition not allowed: ")],
    );
}

#[test]
fn complaining_is_not_refusing() {
    if !has_people() {
        return;
    }
    let policy = format!(
        "Profile a\nMatch user={ALICE}\nComplain\nAllow getinfo version\n\
         Profile admin\nMatch user={ADMIN}\nAllow all\n"
    );
    let place = place(&policy, "");
    let _daemon = serve(&place).ready();
    let (mut admin, mut alice) = (connect(&place, ADMIN, &[]), connect(&place, ALICE, &[]));
    admin.ok("SETEVENTS DENIED");
    replies(
        &mut alice,
        &[
            ("GETINFO version", "250-"),
            ("CONTROLLERNAME x", "250 OK"),
            ("SETCONF Nonsense", "552 "),
        ],
    );
    let denied = admin.reply();
    assert!(
        denied.starts_with("650 DENIED 1 ID=") && denied.contains(" NAME=unset UID="),
        "{denied}"
    );
    let end = " COMMAND=CONTROLLERNAME ARGS= STATUS=510 COMPLAIN";
    assert!(denied.ends_with(end), "{denied}");
}

#[test]
fn a_line_says_who_each_controller_is() {
    if !has_people() {
        return;
    }
    let policy = "Profile any\nMatch any\nAllow all\n";
    let place = place(policy, "");
    let daemon = serve(&place).ready();
    let mut alice = connect(&place, ALICE, &[]);
    alice.ok("CONTROLLERNAME alice");
    alice.ok("SETEVENTS POSTMESSAGE CONTROLLER");
    let mut root = daemon.connect();
    for _ in 0..3 {
        let detail = root.ask("GETINFO uptime controllers/detail list-controllers");
        let line = detail
            .lines()
            .find(|line| line.starts_with("ID=1 "))
            .expect("a line");
        let start = format!("ID=1 NAME=alice UID={ALICE} PID=");
        assert!(line.starts_with(&start), "{line}");
        let socket = place.socket();
        let rest = format!(
            " SOCKET=\"{}\" UNSENT=0 UNREAD=0 TOR=0 EVENTS=POSTMESSAGE,CONTROLLER PROFILES=any UNIT=",
            socket.display()
        );
        assert!(line.contains(&rest), "{line}");
        assert!(line.contains(" PROGRAM=\"socat\" SECONDS="), "{line}");
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onionbus"));
    let table = support::run(
        command
            .args(["controllers", "--long", "--socket"])
            .arg(place.socket()),
    );
    let mut lines = table.lines();
    assert!(
        lines
            .next()
            .is_some_and(|heading| heading.starts_with("NAME   USER ")),
        "{table}"
    );
    assert!(
        lines
            .next()
            .is_some_and(|line| line.starts_with(&format!("alice  {ALICE}"))),
        "{table}"
    );
    assert_eq!(lines.count(), 2, "root's two: {table}");
}
