//! What the daemon's process cannot do any more, what it still can, and how it becomes another
//! user.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use onionbus::sys::confinement::{Needs, confine};
use rustix::io::Errno;
use rustix::thread::{capabilities, set_capabilities};
use support::{Daemon, Place, Start, can, has, is_root};

/// A user of every system, who is in no group but its own.
const NOBODY: &str = "nobody";

/// Somebody without a name.
const STRANGER: u32 = 64_321;

/// Everything that a kernel can have.
const ALL: &str = "no-new-privileges not-dumpable no-core landlock-files landlock-tcp \
                   landlock-signals seccomp";

/// The value of a line of `status` of each thread.
fn statuses(daemon: &Daemon, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    let value = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).expect("it runs");
        let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
        let line = lines.find(|(key, _)| *key == name);
        line.expect("proc(5)").1.trim().to_owned()
    };
    tasks.map(|task| value(task.expect("an entry"))).collect()
}

/// Whether the kernel has all of landlock that the daemon uses, as [`can`].
#[track_caller]
fn has_landlock(words: &str) -> bool {
    can("landlock of Linux 6.12", words == ALL)
}

#[test]
fn every_thread_is_confined_and_says_how() {
    let place = Place::new();
    let daemon = place.daemon();
    let said = daemon.connect().info("process/confinement");
    let line = daemon.logs("[notice] confined");
    assert!(said.starts_with("no-new-privileges not-dumpable no-core"));
    assert_eq!(
        line.ends_with("confined in every way"),
        said == ALL,
        "{line}"
    );
    for word in ALL.split(' ').filter(|word| !said.contains(word)) {
        assert!(line.contains(&format!(" {word}: ")), "{line}");
    }
    let seccomp = statuses(&daemon, "Seccomp");
    assert_eq!(seccomp.len(), 3, "the loop, the fan-out and the log");
    assert!(seccomp.iter().all(|mode| mode == "2"), "{seccomp:?}");
    let privileges = statuses(&daemon, "NoNewPrivs");
    assert!(privileges.iter().all(|set| set == "1"), "{privileges:?}");
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("it runs");
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<_> = core.expect("proc(5)").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    has_landlock(&said);
}

/// A daemon that a user starts who is not root: a copy, since the project may lie where only root
/// can go.
fn as_stranger(place: &Place) -> Start {
    let program = place.program();
    let user = format!("--reuid={STRANGER} --regid={STRANGER} --clear-groups");
    let script = format!(
        r#"shift; exec setpriv {user} -- '{}' "$@""#,
        program.display()
    );
    place.serve_bare().under(&["sh", "-c", &script, "sh"])
}

#[test]
fn only_root_can_look_into_it() {
    if !is_root() || !has("setpriv") {
        return;
    }
    for (option, owner) in [("BusConfine 1", 0), ("BusConfine 0", STRANGER)] {
        let place = Place::open_to_all();
        let own = place.path("own");
        fs::create_dir(&own).expect("it is ours");
        chown(&own, Some(STRANGER), Some(STRANGER)).expect("root can");
        let daemon = as_stranger(&place)
            .arg("--socket")
            .arg(own.join("control"))
            .state(own.join("state"))
            .set(option);
        let daemon = daemon.spawn();
        daemon.logs("is ready");
        let memory = fs::metadata(format!("/proc/{}/mem", daemon.pid())).expect("it runs");
        assert_eq!(memory.uid(), owner, "{option}");
    }
}

#[test]
fn a_link_that_leads_elsewhere_later_is_not_followed_by_what_it_writes() {
    let place = Place::new();
    for (option, saved) in [("BusConfine 1", false), ("BusConfine 0", true)] {
        let link = place.path("options");
        for name in ["one", "two"] {
            fs::create_dir_all(place.path(name)).expect("it is ours");
            place.file(&format!("{name}/options"), "BusHistory 5\n");
        }
        let lead_to = |name: &str| {
            let _ = fs::remove_file(&link);
            symlink(place.path(name).join("options"), &link).expect("it is ours");
        };
        lead_to("one");
        let start = place.serve().arg("--config").arg(&link).set(option);
        let mut daemon = start.ready();
        let mut controller = daemon.connect();
        let words = controller.info("process/confinement");
        if !saved && !has_landlock(&words) {
            return;
        }
        controller.ok("SETCONF BusHistory=6");
        controller.ok("SAVECONF");
        let text = |name: &str| fs::read_to_string(place.path(name).join("options"));
        assert!(text("one").expect("it is there").contains("BusHistory 6"));
        lead_to("two");
        let reply = controller.ask("SAVECONF");
        assert_eq!(reply == "250 OK", saved, "{reply}");
        assert_eq!(reply.contains("Permission denied"), !saved, "{reply}");
        let two = text("two").expect("it is there");
        assert_eq!(two.contains("BusHistory 6"), saved, "{two}");
        assert_eq!(words == "none", saved);
        daemon.stop();
    }
}

#[test]
fn what_a_daemon_needs_still_works() {
    let place = Place::new();
    let old = "BusCookieAuthentication 1\nBusHistory 5\n";
    let mut daemon = place.configured(old).ready();
    let log_in = |daemon: &Daemon| {
        let cookie = fs::read(place.path("state/control_auth_cookie")).expect("it is there");
        let mut controller = daemon.connect();
        let digits = hex::encode(&cookie);
        controller.ok(&format!("AUTHENTICATE {digits}"));
        (cookie, controller)
    };
    let (cookie, mut controller) = log_in(&daemon);
    controller.ok("SETEVENTS POSTMESSAGE");
    // Reserves numbers, with a file in the state directory.
    controller.send("POSTMESSAGE @all one\r\n");
    assert_eq!(controller.reply(), "250 OK");
    assert_eq!(controller.next_message().0, 1);
    controller.ok("SETCONF BusHistory=6");
    controller.ok("SAVECONF");
    let text = fs::read_to_string(place.path("onionbus.conf")).expect("it is there");
    assert!(text.contains("BusHistory 6"), "{text}");
    place.file(
        "onionbus.conf",
        &text.replace("BusHistory 6", "BusHistory 7"),
    );
    daemon.signal(Signal::SIGHUP);
    daemon.logs("the options were read again");
    assert_eq!(controller.ask("GETCONF BusHistory"), "250 BusHistory=7");
    daemon.stop();
    assert!(!place.socket().exists() && !place.path("state/control_auth_cookie").exists());
    let left = fs::read_to_string(place.path("state/message-id")).expect("it is there");
    assert_eq!(left, "1\n", "a clean end writes the last one used");

    let daemon = place.configured(old).ready();
    assert_ne!(log_in(&daemon).0, cookie);
}

#[test]
fn tor_is_reached_again_over_tcp_and_unix_sockets() {
    let place = Place::new();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = tcp.local_addr().expect("it is bound").port();
    let daemon = place
        .serve()
        .set(&format!("BusTor 127.0.0.1:{port}"))
        .ready();
    for _ in 0..3 {
        drop(tcp.accept().expect("it connects"));
    }
    drop(daemon);
    // The path is another directory's each time.
    let (directory, path) = (place.path("tor"), place.path("tor/control"));
    let option = format!("BusTor unix:{}", path.display());
    let _daemon = place.serve().set(&option).ready();
    for _ in 0..2 {
        fs::create_dir(&directory).expect("it is ours");
        let unix = UnixListener::bind(&path).expect("a socket");
        drop(unix.accept().expect("it connects"));
        fs::remove_dir_all(&directory).expect("it is ours");
    }
}

/// Fails for want of a permission.
#[track_caller]
fn denied<T: std::fmt::Debug>(result: std::io::Result<T>) {
    let error = result.expect_err("it is not allowed");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

/// Only this thread is confined, and those that it starts.
#[test]
fn a_confined_thread_executes_writes_connects_and_signals_nothing() {
    let place = Place::new();
    for name in ["sockets", "files", "outside"] {
        fs::create_dir(place.path(name)).expect("it is ours");
    }
    let allowed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other_process = Command::new("sleep").arg("60").spawn();
    let mut other_process = other_process.expect("it is installed");
    let pid = Pid::from_raw(i32::try_from(other_process.id()).expect("a pid is one"));
    let measures = confine(&Needs {
        sockets: vec![place.path("sockets")],
        files: vec![place.path("files")],
        port: Some(allowed.local_addr().expect("it is bound").port()),
        names: false,
    });
    let words = measures.iter().filter(|measure| measure.missing.is_none());
    let words: Vec<_> = words.map(|measure| measure.name).collect();
    let has_landlock = has_landlock(&words.join(" "));

    thread::scope(|scope| {
        let confined = scope.spawn(|| {
            denied(Command::new("true").status());
            assert_eq!(kill(pid, Signal::SIGKILL), Err(nix::Error::EPERM));
            // Not setuid(2), which the C library carries out in every thread or ends them all.
            let mine = capabilities(None).expect("it is allowed");
            assert_eq!(set_capabilities(None, mine), Err(Errno::PERM));
            denied(UdpSocket::bind("127.0.0.1:0"));
            TcpStream::connect(allowed.local_addr().expect("it is bound")).expect("it is allowed");
            UnixStream::pair().expect("it is allowed");
            let socket = place.path("sockets/one");
            let _listener = UnixListener::bind(&socket).expect("it is allowed");
            UnixStream::connect(&socket).expect("it is allowed");
            fs::remove_file(&socket).expect("it is allowed");
            let file = place.path("files/one");
            fs::write(&file, "1").expect("it is allowed");
            fs::write(&file, "2").expect("it is allowed");
            fs::rename(&file, place.path("files/two")).expect("it is allowed");
            fs::read_to_string("/etc/passwd").expect("it is allowed");
            if has_landlock {
                denied(TcpStream::connect(other.local_addr().expect("it is bound")));
                denied(TcpListener::bind("127.0.0.1:0"));
                denied(fs::write(place.path("outside/one"), "1"));
                denied(fs::write(place.path("sockets/one"), "1"));
                denied(fs::create_dir(place.path("files/three")));
                denied(UnixListener::bind(place.path("files/one")));
                denied(symlink("/", place.path("files/link")));
                let (two, outside) = (place.path("files/two"), place.path("outside/two"));
                assert!(fs::rename(two, outside).is_err());
            }
        });
        confined
            .join()
            .expect("what it says it must not do, it cannot do");
    });
    // It still runs. Not from here, which may signal nobody.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it was started");
    assert!(!stat.contains(") Z "), "{stat}");
    thread::scope(|scope| scope.spawn(|| ()).join().expect("a thread is no process"));
    drop(other_process.try_wait());
}

#[test]
fn a_daemon_that_root_starts_becomes_another_user_for_good() {
    if !is_root() {
        return;
    }
    let place = Place::open_to_all();
    let (run, state) = (place.path("run/onionbus"), place.path("lib/onionbus"));
    let conf = place.path("conf");
    fs::create_dir(&conf).expect("it is ours");
    let file = place.file("conf/options", "BusHistory 5\n");
    let user = nix::unistd::User::from_name(NOBODY).expect("it is known");
    let (uid, gid) = user.map_or((65_534, 65_534), |user| {
        (user.uid.as_raw(), user.gid.as_raw())
    });
    chown(&conf, Some(uid), Some(gid)).expect("root can");
    let daemon = place
        .serve_bare()
        .arg("--config")
        .arg(&file)
        .arg("--socket")
        .arg(run.join("control"))
        .state(&state)
        .set(&format!("BusUser {NOBODY}"))
        .set("BusCookieAuthentication 0");
    let mut daemon = daemon.spawn();
    daemon.logs(&format!("running as user {NOBODY}"));
    daemon.logs("is ready");

    let four = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
    for (name, expected) in [
        ("Uid", four(uid)),
        ("Gid", four(gid)),
        ("Groups", gid.to_string()),
        ("CapEff", "0".repeat(16)),
        ("CapPrm", "0".repeat(16)),
        ("CapInh", "0".repeat(16)),
        ("CapAmb", "0".repeat(16)),
    ] {
        let found = statuses(&daemon, name);
        assert!(
            found.iter().all(|value| *value == expected),
            "{name}: {found:?}"
        );
    }
    for (path, mode) in [(&run, 0o755), (&state, 0o700)] {
        let directory = fs::metadata(path).expect("it was made");
        assert_eq!((directory.uid(), directory.mode() & 0o777), (uid, mode));
        let above = fs::metadata(path.parent().expect("there is one")).expect("it was made");
        assert_eq!(above.uid(), 0);
    }
    let mut controller = support::Controller::at(&run.join("control"));
    assert_eq!(controller.info("process/user"), NOBODY);
    controller.ok("POSTMESSAGE @all text");
    controller.ok("SETCONF BusHistory=6");
    controller.ok("SAVECONF");
    for file in [&file, &state.join("message-id"), &state.join("lock")] {
        assert_eq!(fs::metadata(file).expect("it is there").uid(), uid);
    }
    daemon.stop();
    assert!(!run.join("control").exists());
}

#[test]
fn a_user_that_it_cannot_become_is_told() {
    let place = Place::open_to_all();
    let said = place.serve().set("BusUser no-such-user").fails(1);
    assert!(
        said.contains("BusUser no-such-user: there is no such user"),
        "{said}"
    );
    assert!(!place.path("state").exists());
    if !is_root() || !has("setpriv") {
        return;
    }
    let said = as_stranger(&place)
        .set(&format!("BusUser {NOBODY}"))
        .fails(1);
    assert!(said.contains("only root can become another user"), "{said}");
}
