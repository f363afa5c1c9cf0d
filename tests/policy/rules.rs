//! Which policy is in force, what a change of it does, and what is told of refusals.

use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;

use crate::people::{ADMIN, ALICE, BOB, connect, has_people, place, reload, serve};
use crate::support::{Controller, Place};
use crate::tor::{Home, has_tor};
use crate::{replies, with_tor};

#[test]
fn what_is_not_granted_any_more_is_not_taken_away() {
    if !has_people() || !has_tor() {
        return;
    }
    let home = Home::new();
    let _tor = home.start();
    let policy = |lines: &str| format!("Profile a\nMatch user={ALICE}\n{lines}\n");
    let place = with_tor(&policy("Allow add_onion ports=80"), &home);
    let mut daemon = serve(&place).ready();
    daemon.logs("is there, at");
    let mut alice = connect(&place, ALICE, &[]);
    let made = alice.ask("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17601");
    let id = made.split(['=', '\n']).nth(1).expect("an id").to_owned();
    let less = policy("Allow onions own\nAllow del_onion own");
    reload(&place, &mut daemon, &less);
    let (current, delete) = (
        format!("250-onions/current={id}|250 OK"),
        format!("DEL_ONION {id}"),
    );
    replies(
        &mut alice,
        &[
            ("ADD_ONION NEW:BEST Port=80,17602", "510 "),
            ("GETINFO onions/current", &current),
            (&delete, "250 OK"),
        ],
    );
}

#[test]
fn a_key_on_disk_is_its_owners_when_tor_has_started_again() {
    if !has_people() || !has_tor() {
        return;
    }
    let home = Home::new();
    let keys = home.path().join("keys");
    std::fs::create_dir(&keys).expect("it is new");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    home.add(&format!("ClientOnionAuthDir {}", keys.display()));
    let mut tor = home.start();
    let policy = format!(
        "Profile p\nMatch user={ALICE}\nMatch user={BOB}\nAllow client_auth add remove view own\n\
         Profile admin\nMatch user={ADMIN}\nAllow all\n"
    );
    let place = with_tor(&policy, &home);
    let mut daemon = serve(&place).ready();
    daemon.logs("is there, at");
    let onion = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";
    let key = "x25519:uDF+ZsBrxVtRrTJfZQqNRLKPgGYf5zPI4tkyZy4ZLVQ=";
    let add = format!("ONION_CLIENT_AUTH_ADD {onion} {key} Flags=Permanent");
    let remove = format!("ONION_CLIENT_AUTH_REMOVE {onion}");
    // The verdict on an option waits for what Tor says of itself, its keys included.
    let said = ("POLICYCHECK GETCONF Log", "552 Unrecognized configuration");
    let refused = (&add[..], "510 Command filtered (p)");
    let not_there = (&remove[..], "251 No credentials for ");
    replies(&mut connect(&place, ALICE, &[]), &[(&add, "250 OK")]);
    replies(&mut connect(&place, BOB, &[]), &[refused, not_there]);
    let mut admin = connect(&place, ADMIN, &[]);
    admin.ok("SETEVENTS TOR");
    tor.kill();
    assert_eq!(admin.reply(), "650 TOR DOWN");
    tor = home.start();
    assert_eq!(admin.reply(), "650 TOR UP");
    replies(&mut connect(&place, BOB, &[]), &[said, refused, not_there]);
    replies(&mut connect(&place, ALICE, &[]), &[(&add, "251 ")]);
    // A daemon that has not seen who has set it takes it for nobody's.
    daemon.kill();
    let daemon = serve(&place).ready();
    daemon.logs("is there, at");
    for user in [ALICE, BOB] {
        replies(&mut connect(&place, user, &[]), &[said, refused, not_there]);
    }
    replies(&mut connect(&place, ADMIN, &[]), &[(&remove, "250 OK")]);
    tor.kill();
}

#[test]
fn nobody_hides_anothers_refusals_and_replies_keep_their_order() {
    if !has_people() {
        return;
    }
    let place = place("Profile p\nMatch any\nAllow getinfo version\n", "");
    let daemon = serve(&place).ready();
    let (mut alice, mut bob) = (connect(&place, ALICE, &[]), connect(&place, BOB, &[]));
    alice.send("SAVECONF\r\nGETINFO version\r\nSETCONF Log=x\r\n".repeat(200));
    for _ in 0..200 {
        assert_eq!(alice.reply(), "510 Command filtered (p)");
        assert!(alice.reply().starts_with("250-version="));
        assert!(alice.reply().starts_with("552 Unrecognized option"));
    }
    replies(&mut bob, &[("GETINFO uptime", "552 ")]);
    daemon.logs(&format!("(uid {BOB}, "));
    let log = daemon.logs("was refused GETINFO of uptime by (p)");
    assert!(log.contains(&format!("uid {BOB}")), "{log}");
    let count = daemon.logs(" more lines were left out, like: ");
    assert!(count.contains(&format!("(uid {ALICE}, ")), "{count}");
    // Ten in each second, and names and no values.
    let log = daemon.log();
    assert!(log.matches("was refused").count() < 100, "{log}");
    assert!(!log.contains("Log=x"), "{log}");
}

#[test]
fn the_option_file_says_which_policy_is_in_force_and_nobody_is_exempt() {
    if !has_people() {
        return;
    }
    let policy = format!(
        "Profile p\nMatch user={ALICE}\nAllow getinfo version\n\
         Profile second\nMatch any socket=SECOND\nAllow getinfo uptime\n"
    );
    let place = place("", "");
    let second = place.path("second");
    let policy = policy.replace("SECOND", &second.display().to_string());
    place.file("own.policy", &policy);
    let sockets = format!(
        "BusSocket {} Mode=0666\nBusSocket {}\n",
        place.socket().display(),
        second.display()
    );
    let options = |policies: &[&str]| {
        let line = |name: &&str| format!("BusPolicy {}\n", place.path(name).display());
        let lines = policies.iter().map(line).collect::<String>();
        place.file("onionbus.conf", &(sockets.clone() + &lines));
    };
    options(&["own.policy"]);
    let mut daemon = serve(&place).ready();
    let mut alice = connect(&place, ALICE, &[]);
    let mut root = daemon.connect();
    let mut other = Controller::at(&second);
    let (yes, no) = ("250-", "552 Unrecognized key");
    replies(
        &mut alice,
        &[("GETINFO version", yes), ("GETINFO uptime", no)],
    );
    replies(
        &mut root,
        &[("GETINFO version", no), ("GETINFO uptime", no)],
    );
    replies(
        &mut other,
        &[("GETINFO version", no), ("GETINFO uptime", yes)],
    );
    place.file("all.policy", "Profile all\nMatch any\nAllow all\n");
    for (policies, version, whoami) in [
        (&["own.policy", "all.policy"][..], yes, yes),
        (&[], yes, no),
        (&["own.policy"], no, yes),
        (&["all.policy"], yes, yes),
    ] {
        options(policies);
        daemon.signal(Signal::SIGHUP);
        daemon.notified("RELOADING=1");
        daemon.notified("READY=1");
        replies(
            &mut root,
            &[("GETINFO version", version), ("GETINFO whoami", whoami)],
        );
    }
}

#[test]
fn a_policy_that_is_wrong_lets_nothing_begin() {
    let place = Place::new();
    let path = place.file("own.policy", "Profile a\nAllow nonsense\nMatch never\n");
    let told = place
        .serve()
        .set(&format!("BusPolicy {}", path.display()))
        .fails(1);
    for line in [2, 3] {
        let start = format!("{}:{line}: ", path.display());
        assert!(told.contains(&start), "{told}");
    }
}

#[test]
fn a_reload_that_takes_itself_away_is_answered() {
    let place = place("Profile p\nMatch any\nAllow bussignal BUSRELOAD\n", "");
    let daemon = serve(&place).ready();
    let mut controllers = [daemon.connect(), daemon.connect()];
    place.file(
        "own.policy",
        "Profile p\nMatch any\nAllow getinfo version\n",
    );
    replies(&mut controllers[0], &[("SIGNAL BUSRELOAD", "250 OK")]);
    for controller in &mut controllers {
        replies(
            controller,
            &[
                ("SIGNAL BUSRELOAD", "552 Unrecognized signal code"),
                ("GETINFO version", "250-version="),
            ],
        );
    }
}
