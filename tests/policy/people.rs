//! Other users, who talk to a daemon.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Controller, Daemon, Place, Start, has, is_root};

/// Users that nothing else has: no name, no process.
pub const ALICE: u32 = 64_401;
pub const BOB: u32 = 64_402;
pub const ADMIN: u32 = 64_403;

/// A group.
pub const STAFF: u32 = 64_410;

/// Whether there can be other users.
#[track_caller]
pub fn has_people() -> bool {
    is_root() && has("setpriv") && has("socat")
}

/// A place with this policy and an option file that names it, with these lines too.
pub fn place(policy: &str, lines: &str) -> Place {
    let place = Place::open_to_all();
    place.file("own.policy", policy);
    configure(&place, lines);
    place
}

/// Writes the option file.
fn configure(place: &Place, lines: &str) {
    let ready = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/policy");
    std::fs::create_dir(place.path("ready")).expect("it is new");
    for entry in std::fs::read_dir(ready).expect("it is there") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read_to_string(&path).expect("it is text");
        place.file(&format!("ready/{name}"), &text);
    }
    let socket = place.socket();
    let (ready, own) = (place.path("ready"), place.path("own.policy"));
    place.file(
        "onionbus.conf",
        &format!(
            "BusSocket {} Mode=0666\nBusPolicy {}\nBusPolicy {}\nBusLog info\n{lines}\n",
            socket.display(),
            ready.display(),
            own.display()
        ),
    );
}

/// A daemon that is about to be started there.
pub fn serve(place: &Place) -> Start {
    let config = place.path("onionbus.conf");
    place
        .serve_bare()
        .state(place.path("state"))
        .arg("--config")
        .arg(config)
}

/// A controller that this user has connected; a user has the group of the same number and these.
#[track_caller]
pub fn connect(place: &Place, user: u32, groups: &[u32]) -> Controller {
    connect_by(place, user, groups, &[])
}

/// As [`connect`], with a command that the user's program is executed by.
#[track_caller]
pub fn connect_by(place: &Place, user: u32, groups: &[u32], by: &[&str]) -> Controller {
    let (here, there) = UnixStream::pair().expect("a pair");
    let twin = there.try_clone().expect("a descriptor");
    let user = user.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user]);
    if groups.is_empty() {
        command.arg("--clear-groups");
    } else {
        let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
        command.args(["--groups", &groups.join(",")]);
    }
    command.args(by).args(["socat", "-"]);
    command.arg(format!("UNIX-CONNECT:{}", place.socket().display()));
    command.current_dir("/");
    command.stdin(Stdio::from(OwnedFd::from(there)));
    command.stdout(Stdio::from(OwnedFd::from(twin)));
    let mut child = command.spawn().expect("setpriv starts");
    // It ends once the test lets its end of the pair go.
    std::thread::spawn(move || child.wait());
    Controller::over(here).expect("a stream")
}

/// Reads the policy again, as it is now.
#[track_caller]
pub fn reload(place: &Place, daemon: &mut Daemon, policy: &str) {
    place.file("own.policy", policy);
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.notified("RELOADING=1");
    daemon.notified("READY=1");
}
