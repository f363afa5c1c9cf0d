//! The socket file: who may connect, at every instant, and whose it is.

mod support;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::socket::{Shutdown, shutdown};
use support::{Controller, PATIENCE, Place, is_root};

/// Somebody who is neither root nor in any group of ours.
const STRANGER: u32 = 64_321;

/// A group that has no other members.
const GROUP: u32 = 64_322;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").mode() & 0o7777
}

/// Lists the controllers as another user.
fn as_user(program: &Path, socket: &Path, uid: u32, gid: u32) -> Output {
    let mut command = Command::new(program);
    command.arg("controllers").arg("--socket").arg(socket);
    command.current_dir("/").uid(uid).gid(gid);
    command.output().expect("it starts")
}

#[track_caller]
fn let_in(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

#[track_caller]
fn refused(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("Permission denied"), "{said}");
}

#[test]
fn it_is_its_owners_alone_unless_configured_otherwise() {
    let place = Place::new();
    let daemon = place.daemon();
    assert_eq!(mode(&place.socket()), 0o600);
    drop(daemon);

    let shared = place.path("shared");
    let options = format!("BusSocket {} Mode=0660", shared.display());
    let _daemon = place.configured(&options).ready();
    assert_eq!(mode(&shared), 0o660);
}

#[test]
fn the_kernel_refuses_strangers_and_lets_the_group_in() {
    if !is_root() {
        return;
    }
    let place = Place::open_to_all();
    let program = place.program();
    let mine = place.path("mine");
    let groups = place.path("groups");
    let owners = place.path("owners");
    let options = format!(
        "BusSocket {}\nBusSocket {} Mode=0660 Group={GROUP}\nBusSocket {} Owner={STRANGER}\n",
        mine.display(),
        groups.display(),
        owners.display()
    );
    let _daemon = place.configured(&options).ready();

    refused(&as_user(&program, &mine, STRANGER, STRANGER));
    refused(&as_user(&program, &mine, STRANGER, 0));
    let_in(&as_user(&program, &mine, 0, 0));

    let file = fs::metadata(&groups).expect("it is there");
    assert_eq!((file.uid(), file.gid()), (0, GROUP));
    refused(&as_user(&program, &groups, STRANGER, STRANGER));
    let_in(&as_user(&program, &groups, STRANGER, GROUP));

    let file = fs::metadata(&owners).expect("it is there");
    assert_eq!((file.uid(), file.mode() & 0o7777), (STRANGER, 0o600));
    let_in(&as_user(&program, &owners, STRANGER, STRANGER));
    refused(&as_user(&program, &owners, STRANGER + 9, GROUP));
}

#[test]
fn an_unknown_user_ends_it_before_there_is_a_socket() {
    let place = Place::new();
    let options = format!("BusSocket {} Owner=no_such_user", place.socket().display());
    let said = place.configured(&options).fails(1);
    assert!(said.contains("no user \"no_such_user\""), "{said}");
    assert!(!place.socket().exists());
}

/// Each owner and mode that the file had until then, looked at as fast as can be.
fn seen_until(ended: &AtomicBool, path: &Path) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    while !ended.load(Ordering::Relaxed) {
        if let Ok(file) = fs::symlink_metadata(path) {
            let state = (file.uid(), file.mode() & 0o7777);
            if !seen.contains(&state) {
                seen.push(state);
            }
        }
    }
    seen
}

/// Looks at the file as fast as it can while daemons come and go, each with a umask that would
/// leave everything open.
#[test]
fn there_is_no_instant_at_which_it_is_more_open() {
    let place = Place::new();
    let path = place.socket();
    let configured = 0o620;
    let options = format!("BusSocket {} Mode={configured:04o}", path.display());
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| seen_until(&ended, &path));
        for _ in 0..30 {
            let daemon = place.configured(&options);
            let script = r#"umask 0; exec "$@""#;
            let mut daemon = daemon.under(&["sh", "-c", script, "sh"]).ready();
            daemon.stop();
        }
        ended.store(true, Ordering::Relaxed);
        let seen = watch.join().expect("no panic");
        let modes: Vec<_> = seen.into_iter().map(|(_, mode)| mode).collect();
        let octal: Vec<_> = modes.iter().map(|mode| format!("{mode:04o}")).collect();
        assert!(modes.contains(&configured), "{octal:?}");
        let none_more = modes.iter().all(|mode| mode & !configured == 0);
        assert!(none_more, "{octal:?}");
    });
}

/// Whoever owns a file in a sticky directory can put a link in its place, whose target would get
/// the mode if that were set then.
#[test]
fn the_owner_gets_it_when_its_mode_is_set() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let path = place.socket();
    let options = format!("BusSocket {} Owner={STRANGER} Mode=0666", path.display());
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| seen_until(&ended, &path));
        for _ in 0..30 {
            place.configured(&options).ready().stop();
        }
        ended.store(true, Ordering::Relaxed);
        let seen = watch.join().expect("no panic");
        assert!(seen.contains(&(STRANGER, 0o666)), "{seen:?}");
        let too_soon = |&(uid, mode): &(u32, u32)| uid == STRANGER && mode != 0o666;
        assert!(!seen.iter().any(too_soon), "{seen:?}");
    });
}

#[test]
fn a_missing_directory_is_made_and_others_cannot_write_to_it() {
    let place = Place::new();
    let outer = place.path("outer");
    let path = outer.join("inner/control");
    let open_umask = r#"umask 0; exec "$@""#;
    let options = format!("BusSocket {}", path.display());
    let start = place.configured(&options);
    let _daemon = start.under(&["sh", "-c", open_umask, "sh"]).ready();
    assert_eq!(mode(&outer), 0o755);
    assert_eq!(mode(&outer.join("inner")), 0o755);
    Controller::at(&path).ok("GETINFO version");
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let place = Place::new();
    let directory = place.path("shared");
    fs::create_dir(&directory).expect("it is new");
    let path = directory.join("control");
    for open in [0o777, 0o775, 0o757] {
        fs::set_permissions(&directory, Permissions::from_mode(open)).expect("it is ours");
        let said = place.serve_bare().state(place.path("state"));
        let said = said.arg("--socket").arg(&path).fails(1);
        let advice = format!("run 'chmod go-w {}'", directory.display());
        assert!(said.contains(&advice), "{said}");
        assert!(!path.exists());
    }
    fs::set_permissions(&directory, Permissions::from_mode(0o1777)).expect("it is ours");
    let start = place.serve_bare().state(place.path("state"));
    start.arg("--socket").arg(&path).ready();
}

#[test]
fn a_directory_in_the_hands_of_others_is_refused_wherever_it_is_on_the_way() {
    let place = Place::new();
    let above = place.path("above");
    let path = above.join("below/control");
    fs::create_dir_all(above.join("below")).expect("it is new");
    let start = |path: &Path| {
        let start = place.serve_bare().state(place.path("state"));
        start.arg("--socket").arg(path)
    };
    fs::set_permissions(&above, Permissions::from_mode(0o757)).expect("it is ours");
    let advice = format!("run 'chmod go-w {}'", above.display());
    let said = start(&path).fails(1);
    assert!(said.contains(&advice), "{said}");
    // What can be replaced by others is not only a name of the path.
    symlink(above.join("below"), place.path("link")).expect("it is new");
    let said = start(&place.path("link/control")).fails(1);
    assert!(said.contains(&advice), "{said}");
    fs::set_permissions(&above, Permissions::from_mode(0o755)).expect("it is ours");
    if is_root() {
        chown(&above, Some(STRANGER), None).expect("we are root");
        let said = start(&path).fails(1);
        let why = format!("{} belongs to uid {STRANGER}", above.display());
        assert!(said.contains(&why), "{said}");
        chown(&above, Some(0), None).expect("we are root");
    }
    assert!(!path.exists());
    start(&path).ready();
}

/// Everybody who can read the directory can hold a lock on it.
#[test]
fn a_lock_of_somebody_else_holds_up_nothing() {
    let place = Place::new();
    let directory = File::open(place.path("")).expect("it is there");
    let _held = Flock::lock(directory, FlockArg::LockExclusive).expect("nobody has it");
    let begun = Instant::now();
    let daemon = place.daemon();
    // A second, and as much as a busy machine needs.
    assert!(begun.elapsed() < PATIENCE / 3, "{:?}", begun.elapsed());
    daemon.logs("somebody holds a lock on ");
    daemon.connect().ok("GETINFO version");
    fs::remove_file(place.socket()).expect("it is there");
    daemon.logs("listening again at ");
    daemon.connect().ok("GETINFO version");
}

#[test]
fn a_removed_file_is_there_again() {
    let place = Place::new();
    let path = place.path("inner/control");
    let options = format!("BusSocket {} Mode=0640", path.display());
    // A confined daemon makes no directories.
    let start = place.configured(&options).set("BusConfine 0");
    let mut daemon = start.ready();
    let mut before = Controller::at(&path);
    let directory = place.path("inner");
    let moved = place.path("moved");
    let removals: [&dyn Fn() -> io::Result<()>; 4] = [
        &|| fs::remove_file(&path),
        &|| fs::rename(&path, place.path("elsewhere")),
        &|| fs::remove_dir_all(&directory),
        &|| fs::rename(&directory, &moved),
    ];
    for (number, remove) in removals.iter().enumerate() {
        remove().expect("it is ours");
        daemon.logs_next("listening again at ");
        assert_eq!(mode(&path), 0o640, "removal {number}");
        Controller::at(&path).ok("GETINFO version");
    }
    // Nobody who was there has noticed.
    before.ok("GETINFO version");
    daemon.stop();
    assert!(!path.exists());
}

#[test]
fn what_has_taken_the_place_of_a_file_stays_and_is_told() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let other = place.path("other");
    let another = UnixListener::bind(&other).expect("a socket");
    fs::rename(&other, place.socket()).expect("it is ours");
    daemon.logs("cannot be made again: something else is there now");
    daemon.signal(Signal::SIGHUP);
    daemon.logs("the options were read again");
    drop(Controller::at(&place.socket()));
    another.accept().expect("it is the other's still");
    fs::remove_file(place.socket()).expect("it is ours");
    daemon.logs_next("listening again at ");
    daemon.connect().ok("GETINFO version");
    daemon.stop();
    assert!(!place.socket().exists());
}

/// Where the kernel cannot tell, as in a directory that was put above by a mount.
#[test]
fn a_file_that_is_missing_is_there_after_a_reload() {
    let place = Place::new();
    let (outer, moved) = (place.path("outer"), place.path("moved"));
    let path = outer.join("inner/control");
    let options = format!("BusSocket {}", path.display());
    // A confined daemon makes no directories.
    let start = place.configured(&options).set("BusConfine 0");
    let mut daemon = start.ready();
    // Nobody watches so far above.
    fs::rename(&outer, &moved).expect("it is ours");
    let mut controller = Controller::at(&moved.join("inner/control"));
    controller.ok("SIGNAL RELOAD");
    daemon.logs_next("listening again at ");
    Controller::at(&path).ok("GETINFO version");
    daemon.stop();
}

#[test]
fn a_stale_socket_is_replaced() {
    let place = Place::new();
    let mut daemon = place.daemon();
    daemon.kill();
    assert!(place.socket().exists(), "kill -9 leaves the file");
    let daemon = place.daemon();
    daemon.connect().ok("GETINFO version");
}

#[test]
fn a_live_socket_is_never_stolen() {
    let place = Place::new();
    let first = place.daemon();
    let before = fs::metadata(place.socket()).expect("it is there").ino();
    let said = place.serve().state(place.path("other state")).fails(1);
    let who = format!("is in use by process {}", first.pid());
    assert!(said.contains(&who), "{said}");
    let after = fs::metadata(place.socket()).expect("it is there").ino();
    assert_eq!(before, after);
    first.connect().ok("GETINFO version");
}

/// `sd_listen_fds(3)`: the sockets are for the process that `LISTEN_PID` names; a child of it may
/// have other descriptors there.
#[test]
fn sockets_that_another_process_was_passed_are_none() {
    let place = Place::new();
    let passed = place.path("passed");
    for pid in ["", "LISTEN_PID=1", "LISTEN_PID=$PPID"] {
        let _ = fs::remove_file(&passed);
        let listener = UnixListener::bind(&passed).expect("a socket");
        let script = format!(r#"unset LISTEN_PID; {pid} exec "$@" 3<&0 </dev/null"#);
        let start = place.serve().passing(None, vec![listener]);
        let mut daemon = start.under(&["sh", "-c", &script, "sh"]).ready();
        daemon.connect().ok("GETINFO version");
        assert!(!daemon.log().contains("fd:"), "{pid}: {}", daemon.log());
        daemon.stop();
    }
}

/// Leaves a socket file that nobody listens at. Closing alone is not enough: a process that another
/// test starts meanwhile has a copy of the listener until it executes its program.
fn leave_behind(path: &Path) {
    let listener = UnixListener::bind(path).expect("a socket");
    shutdown(listener.as_raw_fd(), Shutdown::Both).expect("it listens");
}

#[test]
fn of_two_that_start_at_once_exactly_one_serves() {
    let place = Place::new();
    for round in 0..15 {
        // Half of the rounds find a stale file, which both want to replace.
        if round % 2 == 0 {
            let _ = fs::remove_file(place.socket());
            leave_behind(&place.socket());
        }
        let start = |name: &str| place.serve().state(place.path(name)).spawn();
        let mut both = [start("one"), start("two")];
        let ready = both.each_mut().map(support::Daemon::is_ready);
        let winner = ready.iter().position(|&ready| ready).expect("one serves");
        assert_ne!(ready[0], ready[1], "both serve");
        let holder = both[winner].pid();
        let said = both[1 - winner].ends(1);
        assert!(
            said.contains(&format!("is in use by process {holder}")),
            "{said}"
        );
        let pid = both[winner].connect().info("process/pid");
        assert_eq!(pid, holder.to_string());
        both[winner].stop();
    }
}

#[test]
fn one_state_directory_serves_one_daemon() {
    let place = Place::new();
    let first = place.daemon();
    let other = place.path("other");
    let start = place.serve_bare().state(place.path("state"));
    let said = start.arg("--socket").arg(&other).fails(1);
    let who = format!("is in use by process {}", first.pid());
    assert!(said.contains(&who) && said.contains("state"), "{said}");
    assert!(!other.exists());
}

#[test]
fn the_file_goes_with_the_daemon_and_anothers_stays() {
    let place = Place::new();
    let mut daemon = place.daemon();
    daemon.stop();
    assert!(!place.socket().exists());

    let mut daemon = place.daemon();
    let other = place.path("other");
    let _another = UnixListener::bind(&other).expect("a socket");
    fs::rename(&other, place.socket()).expect("it is ours");
    daemon.stop();
    assert!(place.socket().exists());
}

#[test]
fn each_socket_has_its_protocol() {
    let place = Place::new();
    let [text, tc, auto] = ["text", "tc", "auto"].map(|name| place.path(name));
    let line = |path: &PathBuf, protocol| format!("BusSocket {} {protocol}\n", path.display());
    let options = line(&text, "Protocol=text") + &line(&tc, "Protocol=tc") + &line(&auto, "");
    let mut daemon = place.configured(&options).ready();

    let mut controller = Controller::at(&text);
    // Elsewhere this would be a frame.
    controller.send(b"\0\0\0\x07\r\n");
    assert!(controller.reply().starts_with("510 "));

    let mut controller = Controller::at(&tc);
    // Elsewhere this would be text: a body of 0x4745 octets, of type 0x5449.
    controller.send(b"GETI");
    controller.send(vec![0; 0x4745]);
    let (kind, body) = controller.frame();
    assert_eq!((kind, &body[..2]), (0x0000, &[0, 1][..]));

    Controller::at(&auto).ok("GETINFO version");
    let mut controller = Controller::at(&auto);
    controller.send_frame(0x0007, b"");
    assert_eq!(controller.frame().0, 0x0001);

    daemon.stop();
    assert!(![text, tc, auto].iter().any(|path| path.exists()));
}

#[test]
fn if_one_socket_cannot_be_none_is_left() {
    let place = Place::new();
    let file = place.file("precious", "text");
    let options = format!(
        "BusSocket {}\nBusSocket {}\n",
        place.socket().display(),
        file.display()
    );
    let said = place.configured(&options).fails(1);
    assert!(said.contains("exists and is not a socket"), "{said}");
    assert!(!place.socket().exists());
    assert_eq!(fs::read(&file).expect("it stays"), b"text");
}

#[test]
fn what_is_in_the_way_stays() {
    let place = Place::new();
    let target = place.path("target");
    drop(UnixListener::bind(&target).expect("a socket"));
    symlink(&target, place.socket()).expect("it is new");
    let said = place.serve().fails(1);
    assert!(said.contains("exists and is not a socket"), "{said}");
    assert!(fs::symlink_metadata(place.socket()).is_ok());
    let kind = fs::metadata(&target).expect("it stays").file_type();
    assert!(kind.is_socket());
}

#[test]
fn a_path_that_no_socket_can_have_is_told() {
    let place = Place::new();
    let path = place.path(&"x".repeat(120));
    let start = place.serve_bare().state(place.path("state"));
    let said = start.arg("--socket").arg(&path).fails(1);
    let octets = path.as_os_str().len();
    let limit = format!("has at most 107 octets, this one has {octets}");
    assert!(said.contains(&limit), "{said}");
    assert!(!place.path("state").exists());
}

/// The name that a controller of this test gets by its program.
fn own_program() -> String {
    let program = fs::read_to_string("/proc/self/comm").expect("it is this process");
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    program.trim_end().chars().map(legal).collect()
}

#[test]
fn who_connects_is_named_after_the_program_where_the_socket_asks_for_it() {
    let place = Place::new();
    let (own, socket) = (own_program(), place.socket());
    let path = place.path("named");
    let text = format!(
        "BusSocket {}\nBusSocket {} Name=*{}\nBusSocket {} Name=x*\n",
        socket.display(),
        path.display(),
        &own[1..],
        place.path("others").display()
    );
    let daemon = place.configured(&text).ready();
    let mut watcher = daemon.named("watcher");
    watcher.ok("SETEVENTS CONTROLLER");
    let mut first = Controller::at(&path);
    first.ok("SETEVENTS POSTMESSAGE");
    let change = |line: String| line.split(" UID=").next().unwrap_or_default().to_owned();
    assert_eq!(change(watcher.line()), "650 CONTROLLER CONNECTED 2 unset");
    assert_eq!(
        change(watcher.line()),
        format!("650 CONTROLLER NAMED 2 {own}")
    );
    // It is as if it had taken the name itself.
    watcher.ok(&format!("POSTMESSAGE @{own} hello"));
    assert_eq!(first.next_message().1, format!("watcher @{own} hello"));

    let (mut second, mut third) = (Controller::at(&path), Controller::at(&path));
    second.ok("SETEVENTS");
    third.ok("SETEVENTS");
    let (two, three) = (format!("{own}_2"), format!("{own}_3"));
    let mut asker = daemon.connect();
    assert_eq!(listed(&mut asker), [&own, &two, &three, "unset", "watcher"]);
    second.ok("CONTROLLERNAME alice");
    drop(first);
    while !watcher.line().starts_with("650 CONTROLLER DISCONNECTED") {}
    let mut fourth = Controller::at(&path);
    fourth.ok("SETEVENTS");
    let mut fifth = Controller::at(&path);
    fifth.ok("SETEVENTS");
    let mut sixth = Controller::at(&place.path("others"));
    sixth.ok("SETEVENTS");
    // The two that came since have the names that were free again.
    let mut names = vec![&own[..], &two, &three, "alice", "unset", "unset", "watcher"];
    names.sort_unstable();
    assert_eq!(listed(&mut asker), names);
}

#[test]
fn of_many_with_one_program_the_last_have_the_numbers_of_their_sessions() {
    let place = Place::new();
    let text = format!("BusSocket {} Name=*", place.socket().display());
    let daemon = place.configured(&text).ready();
    let _silent = daemon.connect();
    let mut all: Vec<_> = (0..101).map(|_| daemon.connect()).collect();
    for one in &mut all {
        one.ok("SETEVENTS");
    }
    let (names, own) = (listed(&mut all[0]), own_program());
    assert_eq!(names.len(), 101);
    for known in [own.clone(), format!("{own}_99"), format!("{own}_102")] {
        assert!(names.contains(&known), "{names:?}");
    }
    assert!(!names.contains(&format!("{own}_100")), "{names:?}");
}

#[test]
fn a_program_has_no_name_that_the_policy_does_not_grant() {
    let place = Place::new();
    let own = own_program();
    let policy = format!("Profile any\nMatch any\nAllow name {own}\nAllow list\n");
    let policy = place.file("some.policy", &policy);
    let socket = place.socket();
    let text = format!(
        "BusSocket {} Name=*\nBusPolicy {}\n",
        socket.display(),
        policy.display()
    );
    let _daemon = place.configured(&text).ready();
    let (mut first, mut second) = (Controller::at(&socket), Controller::at(&socket));
    first.ok("SETEVENTS");
    assert_eq!(listed(&mut second), [&own, "unset"]);
}

/// The names on the bus, in order.
fn listed(controller: &mut Controller) -> Vec<String> {
    let said = controller.ask("GETINFO list-controllers");
    let names = said
        .lines()
        .filter(|line| !line.starts_with("250") && *line != ".");
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names
}
