//! `onionbus policy`: what a policy grants, told without a daemon.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Place, can, has, is_root};

/// The directory of a policy file, an option file that names it, and the ready profiles.
fn place(policy: &str) -> Place {
    let place = Place::new();
    for directory in ["ready", "own"] {
        fs::create_dir(place.path(directory)).expect("it is new");
    }
    let ready = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/policy");
    for entry in fs::read_dir(ready).expect("it is there") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("it is text");
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        place.file(&format!("ready/{name}"), &text);
    }
    place.file("own/own.policy", policy);
    let (ready, own) = (place.path("ready"), place.path("own"));
    let (ready, own) = (ready.display(), own.display());
    let lines = format!("BusHistory 5\nBusPolicy {ready}\nBusPolicy {own}\n");
    place.file("onionbus.conf", &lines);
    place
}

/// What it prints, what it says is wrong, and how it ends.
#[track_caller]
fn run(place: &Place, arguments: &[&str], code: i32) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    command.arg("policy").arg(arguments[0]).arg("--config");
    command
        .arg(place.path("onionbus.conf"))
        .args(&arguments[1..]);
    let output = command.output().expect("it starts");
    let text = |octets| String::from_utf8(octets).expect("it prints UTF-8");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {out}{err}"
    );
    (out, err)
}

const DESK: &str = "Profile desk\nMatch user=0 socket=/run/a\nUse onionshare newnym\n\
    Profile node\nMatch unit=bitcoind.service\nUse bitcoind\nKeep onions 600\n\
    Profile admin\nMatch user=4711 group=4712\nAllow all\n";

#[test]
fn a_command_is_judged_as_by_the_daemon() {
    let place = place(DESK);
    let desk = ["try", "--user", "0", "--socket", "/run/a"];
    let judged = |command: &'static str, code| {
        let (out, err) = run(&place, &[&desk[..], &[command]].concat(), code);
        assert_eq!(err, "");
        out
    };
    assert_eq!(judged("signal  newnym", 0), "allowed: SIGNAL newnym\n");
    assert_eq!(judged("GETINFO policy", 0), "allowed: GETINFO policy\n");
    assert_eq!(
        judged("getinfo onions/current", 0),
        "allowed: GETINFO onions/current\nshown: own onion services only\n"
    );
    assert_eq!(
        judged("SETEVENTS HS_DESC STATUS_SERVER", 0),
        "allowed: SETEVENTS HS_DESC STATUS_SERVER\nHS_DESC: only those about what is its own\n\
         STATUS_SERVER: never delivered\n"
    );
    assert_eq!(judged("DROPGUARDS", 1), "510 Command filtered (desk)\r\n");
    assert_eq!(judged("+LOADCONF", 1), "510 Command filtered (desk)\r\n");
    assert_eq!(judged("FOO", 1), "510 Unrecognized command \"FOO\"\r\n");
    assert_eq!(
        judged("GETINFO version config-text a", 1),
        "552-Unrecognized key \"config-text\"\r\n552 Unrecognized key \"a\"\r\n"
    );
    assert_eq!(
        judged("ADD_ONION NEW:BEST Port=80,8080", 1),
        "512 Bad arguments to ADD_ONION: filtered: Port\r\n"
    );
}

#[test]
fn whoever_is_described_is_meant() {
    let place = place(DESK);
    let (out, err) = run(&place, &["show", "--user", "0"], 0);
    assert_eq!(out, "", "the socket is missing");
    // Allow all is the administrator's, who may reload.
    assert_eq!(err, "");
    let (out, _) = run(&place, &["show", "--user", "4711", "--group", "4712"], 0);
    assert_eq!(out, "Allow all\n");
    let (out, _) = run(&place, &["show", "--user", "4711"], 0);
    assert_eq!(out, "");
    let (out, _) = run(
        &place,
        &["show", "--user", "4711", "--unit", "bitcoind.service"],
        0,
    );
    assert_eq!(
        out,
        "Allow add_onion ports=8333=8334,18333=18334,18444=18445,38333=38334,48333=48334 \
         target=loopback flags=DiscardPK max=4\nAllow del_onion own\n\
         Allow getinfo net/listeners/socks\nAllow getinfo version\nKeep onions 600\n"
    );
}

#[test]
fn a_user_has_its_own_groups_unless_others_are_given() {
    if !is_root() || !has("unshare") {
        return;
    }
    let place = place(
        "Profile first\nMatch group=64710\nAllow resolve\n\
         Profile second\nMatch group=64711\nAllow hsfetch\n\
         Profile other\nMatch group=64712\nAllow saveconf\n",
    );
    let passwd = "root:x:0:0::/:\nalice:x:64701:64710::/:\n";
    let files = [
        place.file("passwd", passwd),
        place.file(
            "group",
            "first:x:64710:\nsecond:x:64711:bob,alice\nother:x:64712:\n",
        ),
        place.file(
            "nsswitch.conf",
            "passwd: files\ngroup: files\ninitgroups: files\n",
        ),
    ];
    let files = files.each_ref().map(|file| file.to_str().expect("ASCII"));
    let script = r#"mount --bind "$0" /etc/passwd && mount --bind "$1" /etc/group \
        && mount --bind "$2" /etc/nsswitch.conf && shift 2 && exec "$@""#;
    let config = place.path("onionbus.conf");
    let in_namespace = |words: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).args(files);
        command.args(words).output().expect("unshare starts")
    };
    if !can(
        "a mount namespace",
        in_namespace(&["true"]).status.success(),
    ) {
        return;
    }
    let show = |words: &[&str]| {
        let program = [env!("CARGO_BIN_EXE_onionbus"), "policy", "show", "--config"];
        let config = config.to_str().expect("ASCII");
        let output = in_namespace(&[&program, &[config][..], words].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        String::from_utf8(output.stdout).expect("it prints UTF-8")
    };
    let both = "Allow hsfetch\nAllow resolve\n";
    assert_eq!(show(&["--user", "alice"]), both);
    assert_eq!(show(&["--user", "64701"]), both);
    assert_eq!(
        show(&["--user", "alice", "--group", "other"]),
        "Allow saveconf\n"
    );
    assert_eq!(show(&["--user", "root"]), "");
}

#[test]
fn files_that_are_wrong_are_told_all_at_once() {
    let place = place("Profile risky\nMatch any\nAllow loadconf\n");
    let (out, err) = run(&place, &["show"], 0);
    assert_eq!(out, "Allow loadconf\n");
    assert!(
        err.contains("own.policy:3: loadconf gives every setconf"),
        "{err}"
    );
    assert!(
        err.contains("nobody is allowed bussignal BUSRELOAD"),
        "{err}"
    );
    let place = self::place("Profile a\nAllow foo\nMatch user=no-such-user\n");
    let (_, err) = run(&place, &["try", "GETINFO version"], 2);
    assert!(err.contains("own.policy:2: 'foo' is nothing"), "{err}");
    assert!(err.contains("own.policy:3: there is no user"), "{err}");
    // A file of one's own replaces the ready one of the same name, whole.
    place.file("own/own.policy", "Profile monitor\n");
    let (_, err) = run(&place, &["show"], 2);
    assert!(err.contains("the name monitor is taken"), "{err}");
    fs::rename(
        place.path("own/own.policy"),
        place.path("own/monitor.policy"),
    )
    .expect("it is");
    run(&place, &["show"], 0);
    place.file("onionbus.conf", "BusHistory 5\n");
    let (_, err) = run(&place, &["show"], 2);
    assert!(err.contains("no BusPolicy line"), "{err}");
    place.file("onionbus.conf", "BusPolicy /nowhere\n");
    let (_, err) = run(&place, &["show"], 2);
    assert!(err.contains("nowhere: it cannot be read"), "{err}");
}

/// What `onionbus check` says of a place's option file.
fn check(place: &Place) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onionbus"));
    command
        .arg("check")
        .arg("--config")
        .arg(place.path("onionbus.conf"));
    let output = command.output().expect("it starts");
    let err = String::from_utf8(output.stderr).expect("it prints UTF-8");
    (output.status.success(), err)
}

#[test]
fn a_check_reads_the_policy_too() {
    let place = place("Profile a\nMatch any\nAllow setconf ClientTransportPlugin\n");
    let (is_right, err) = check(&place);
    assert!(is_right, "{err}");
    for part in [
        "warning: ",
        "own.policy:3: ",
        "nobody is allowed bussignal BUSRELOAD",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
    place.file("own/own.policy", "Profile a\nAllow nonsense\nUse nobody\n");
    let (is_right, err) = check(&place);
    assert!(!is_right);
    assert!(
        err.contains("own.policy:2: ") && err.contains("own.policy:3: "),
        "{err}"
    );
}

#[test]
fn the_example_in_contrib_is_a_policy_once_it_is_taken_into_use() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/local.policy");
    let text = fs::read_to_string(path).expect("it is there");
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => rest,
        _ => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let text = text
        .replace("group=onionbus-admin", "group=0")
        .replace("user=alice", "user=1");
    let place = place(&text);
    let (out, _) = run(&place, &["show", "--user", "root"], 0);
    assert_eq!(out, "Allow all\n");
    let (out, _) = run(&place, &["show", "--user", "1"], 0);
    assert!(out.contains("Allow signal NEWNYM"), "{out}");
}
