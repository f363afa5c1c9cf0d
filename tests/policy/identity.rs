//! Who the kernel says that somebody is, whatever a process does before or after it is let in.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;

use nix::sys::signal::Signal;

use crate::people::{ALICE, BOB, STAFF, connect, connect_by, has_people, place, serve};
use crate::support::{Controller, Daemon, Place, can, eventually, has};

/// The beginning of each script. It runs as root, and `held` waits until the daemon goes on.
const PRELUDE: &str = "
import os, socket, sys
path = sys.argv[1]
ALICE, BOB, STAFF = map(int, sys.argv[2:])
def become(user, groups=[]):
    os.setgroups(groups); os.setresgid(user, user, user); os.setresuid(user, user, user)
def connect():
    s = socket.socket(socket.AF_UNIX); s.connect(path); return s
def held():
    print(flush=True); sys.stdin.readline()
def ask(s):
    s.sendall(b'GETINFO whoami\\r\\nGETINFO version\\r\\nQUIT\\r\\n')
    while text := s.recv(4096):
        print(text.decode(), end='')
";

/// A script before the daemon has heard of it.
struct Script {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Script {
    /// Starts a script, and returns once it is held: what it has connected waits to be let in.
    #[track_caller]
    fn start(place: &Place, script: &str) -> Self {
        let mut command = Command::new("python3");
        command
            .args(["-c", &format!("{PRELUDE}{script}")])
            .arg(place.socket());
        command.args([ALICE, BOB, STAFF].map(|id| id.to_string()));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .current_dir("/");
        let mut child = command.spawn().expect("python3 starts");
        let input = child.stdin.take().expect("it is piped");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it is text");
        assert_eq!(line, "\n", "the script has failed");
        Self {
            child,
            input,
            output,
        }
    }

    /// Lets the script go on, and returns its whoami, and whether it may ask for the version.
    #[track_caller]
    fn end(mut self) -> (String, bool) {
        self.input.write_all(b"\n").expect("it waits");
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("it is text");
        assert!(self.child.wait().expect("it is our child").success());
        let whoami = said.lines().next().expect("a line");
        let whoami = whoami.strip_prefix("250-whoami=");
        let may = said.contains("\r\n250-version=");
        let whoami = whoami.unwrap_or_else(|| panic!("{said}"));
        (whoami.to_owned(), may)
    }
}

/// Runs a script while the daemon lets nobody in until the script is held.
#[track_caller]
fn before_it_is_let_in(place: &Place, daemon: &Daemon, script: &str) -> (String, bool) {
    daemon.signal(Signal::SIGSTOP);
    let script = Script::start(place, script);
    daemon.signal(Signal::SIGCONT);
    script.end()
}

/// A place where alice and her group may ask for the version.
fn for_alice() -> Place {
    place(
        &format!(
            "Profile alice\nMatch user={ALICE} group={STAFF}\nAllow getinfo version\n\
             Profile root\nMatch user=0\nAllow getinfo uptime\n\
             Profile any\nMatch any\nAllow getinfo process/pid\n"
        ),
        "",
    )
}

#[test]
fn groups_are_those_of_the_moment_of_connecting() {
    if !has_people() || !has("python3") {
        return;
    }
    let place = for_alice();
    let daemon = serve(&place).ready();
    let start = |groups: &str| format!(" UID={ALICE} GID={ALICE} GROUPS={groups} LABEL=");
    // It has the group now, and had it not.
    let gained = "
os.setgroups([]); os.setegid(ALICE); os.seteuid(ALICE)
s = connect()
os.seteuid(0); os.setgroups([STAFF]); os.seteuid(ALICE)
held(); ask(s)
";
    let (whoami, may) = before_it_is_let_in(&place, &daemon, gained);
    assert!(whoami.contains(&start("")) && !may, "{whoami}");
    // The other way round.
    let lost = "
os.setgroups([STAFF + 1, STAFF]); os.setegid(ALICE); os.seteuid(ALICE)
s = connect()
os.seteuid(0); become(BOB)
held(); ask(s)
";
    let (whoami, may) = before_it_is_let_in(&place, &daemon, lost);
    let both = format!("{STAFF},{}", STAFF + 1);
    assert!(whoami.contains(&start(&both)) && may, "{whoami}");
    // More of them than a socket is asked for.
    let most = "
become(ALICE, list(range(STAFF, STAFF + 40)))
s = connect()
held(); ask(s)
";
    let (whoami, may) = before_it_is_let_in(&place, &daemon, most);
    let all: Vec<_> = (STAFF..STAFF + 40).map(|gid| gid.to_string()).collect();
    assert!(whoami.contains(&start(&all.join(","))) && may, "{whoami}");
}

#[test]
fn a_descriptor_that_is_passed_on_stays_its_owners() {
    if !has_people() || !has("python3") {
        return;
    }
    let place = for_alice();
    let daemon = serve(&place).ready();
    // Alice's process connects, passes the descriptor to bob's, and ends: only then is it let in.
    let passed = "
here, there = socket.socketpair()
child = os.fork()
if child == 0:
    become(ALICE, [STAFF])
    s = connect()
    socket.send_fds(there, [b'x'], [s.fileno()])
    os._exit(0)
there.close()
os.waitpid(child, 0)
become(BOB)
_, [descriptor], _, _ = socket.recv_fds(here, 1, 1)
held()
ask(socket.socket(fileno=descriptor))
";
    let (whoami, may) = before_it_is_let_in(&place, &daemon, passed);
    let owner = format!(" UID={ALICE} GID={ALICE} GROUPS={STAFF} LABEL=");
    assert!(whoami.contains(&owner) && may, "{whoami}");
    // What a process that has ended was in is not known.
    assert!(whoami.contains(" UNIT=\"\" PID="), "{whoami}");
    // And the other way round: bob's connection is bob's in alice's hands.
    let taken = "
here, there = socket.socketpair()
child = os.fork()
if child == 0:
    become(BOB)
    s = connect()
    socket.send_fds(there, [b'x'], [s.fileno()])
    os._exit(0)
there.close()
become(ALICE, [STAFF])
_, [descriptor], _, _ = socket.recv_fds(here, 1, 1)
held()
ask(socket.socket(fileno=descriptor))
";
    let (whoami, may) = before_it_is_let_in(&place, &daemon, taken);
    assert!(whoami.contains(&format!(" UID={BOB} ")) && !may, "{whoami}");
}

#[test]
fn an_execution_before_one_is_let_in_changes_nothing() {
    if !has_people() || !has("python3") {
        return;
    }
    let place = for_alice();
    let daemon = serve(&place).ready();
    // As a program does that root lends to everybody.
    let executed = "
os.setgroups([]); os.setegid(ALICE); os.seteuid(ALICE)
s = connect()
os.seteuid(0)
os.set_inheritable(s.fileno(), True)
script = 'echo; read line; printf \"%b\" \"$1\" >&$2; cat <&$2'
words = r'GETINFO whoami\\r\\nGETINFO version\\r\\nQUIT\\r\\n'
user = ['--reuid', str(BOB), '--regid', str(BOB), '--groups', str(STAFF)]
os.execvp('setpriv', ['setpriv', *user, 'sh', '-c', script, 'sh', words, str(s.fileno())])
";
    let (whoami, may) = before_it_is_let_in(&place, &daemon, executed);
    let owner = format!(" UID={ALICE} GID={ALICE} GROUPS= LABEL=");
    assert!(whoami.contains(&owner) && !may, "{whoami}");
}

/// The command that alice is root by, in a user namespace of her own.
const AS_ROOT: &[&str] = &["unshare", "--user", "--map-root-user"];

/// Whether alice can make a user namespace, as [`can`].
#[track_caller]
fn has_namespaces() -> bool {
    let alice = ALICE.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &alice, "--regid", &alice, "--clear-groups"]);
    let tried = command.args(AS_ROOT).arg("true").output();
    can(
        "a user namespace of somebody who is not root",
        tried.is_ok_and(|output| output.status.success()),
    )
}

#[test]
fn root_of_another_namespace_is_whoever_made_it() {
    if !has_people() || !has_namespaces() {
        return;
    }
    let place = for_alice();
    let _daemon = serve(&place).ready();
    let own = " PROFILES=alice,any";
    for more in [
        &[][..],
        // Nor do a process table and a view of the control groups of its own change anything.
        &["--pid", "--fork", "--mount", "--mount-proc", "--cgroup"],
    ] {
        let within = [AS_ROOT, more].concat();
        let mut alice = connect_by(&place, ALICE, &[STAFF], &within);
        let whoami = alice.info("whoami");
        let owner = format!(" UID={ALICE} GID={ALICE} GROUPS={STAFF} LABEL=");
        assert!(whoami.contains(&owner), "{whoami}");
        assert!(whoami.ends_with(own), "{whoami}");
        let pid = whoami
            .split(" PID=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .expect("a process");
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).expect("it lives");
        assert_eq!(program, "socat\n", "the number is that of this machine");
        let mut root = alice.ask("GETINFO uptime");
        root.truncate(4);
        assert_eq!(root, "552 ");
    }
}

#[test]
fn who_has_no_number_here_is_nobody() {
    if !has_people() || !has_namespaces() {
        return;
    }
    let policy = format!(
        "Profile alice\nMatch user={ALICE}\nAllow all\n\
         Profile nobody\nMatch user=65534\nMatch group=65534\nMatch user=1-65535\nAllow all\n\
         Profile any\nMatch any\nAllow getinfo version\n"
    );
    let place = place(&policy, "");
    // The daemon knows root's number only.
    let daemon = serve(&place).under(AS_ROOT).ready();
    let mut alice = connect(&place, ALICE, &[STAFF]);
    let whoami = alice.info("whoami");
    let nobody = " UID=65534 GID=65534 GROUPS=65534 LABEL=";
    assert!(whoami.contains(nobody), "{whoami}");
    assert!(whoami.ends_with(" PROFILES=any"), "{whoami}");
    let mut root = daemon.connect();
    let whoami = root.info("whoami");
    assert!(whoami.contains(" UID=0 GID=0 "), "{whoami}");
}

/// A control group, which goes with this.
struct Group(PathBuf);

impl Group {
    /// Makes one at this path, if this machine lets root, as [`can`].
    #[track_caller]
    fn make(path: &str) -> Option<Self> {
        let mounted = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
        let root = mounted
            .iter()
            .map(Path::new)
            .find(|root| root.join("cgroup.procs").exists());
        let made = root.map(|root| root.join(path));
        let made = made.filter(|made| fs::create_dir_all(made).is_ok());
        can("a control group of one's own", made.is_some());
        made.map(Self)
    }

    /// The words that start a program in it.
    fn enter(&self) -> [String; 4] {
        let script = format!(
            "echo $$ >'{}' && exec \"$@\"",
            self.0.join("cgroup.procs").display()
        );
        ["sh".into(), "-c".into(), script, "sh".into()]
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !thread::panicking() {
            eventually("whoever was in it has ended", || {
                fs::remove_dir(&self.0).is_ok()
            });
        }
        // Those above it end where somebody else's begin.
        let mut above = self.0.ancestors().skip(1);
        while above
            .next()
            .is_some_and(|path| fs::remove_dir(path).is_ok())
        {}
    }
}

/// Connects from within a control group, and says which unit that is to the daemon.
#[track_caller]
fn unit_in(place: &Place, group: &Group) -> (Controller, String) {
    let enter = group.enter();
    let mut words: Vec<_> = enter.iter().map(String::as_str).collect();
    let (user, none) = (ALICE.to_string(), "--clear-groups");
    words.extend(["setpriv", "--reuid", &user, "--regid", &user, none]);
    let mut controller = connect_by(place, 0, &[], &words);
    let whoami = controller.info("whoami");
    (controller, whoami)
}

#[test]
fn a_unit_is_what_the_service_manager_has_made() {
    if !has_people() {
        return;
    }
    let (service, own) = ("onionbus-test.service", "onionbus-own.slice");
    let Some(real) = Group::make(&format!("{own}/{service}")) else {
        return;
    };
    // Of a user's own manager, which can call a unit whatever it likes.
    let forged = format!("{own}/user@{ALICE}.service/{service}");
    let Some(forged) = Group::make(&forged) else {
        return;
    };
    let place = place(
        &format!(
            "Profile service\nMatch unit={service}\nAllow getinfo version\n\
             Profile any\nMatch any\nAllow getinfo uptime\n"
        ),
        "",
    );
    let _daemon = serve(&place).ready();
    let (mut controller, whoami) = unit_in(&place, &real);
    let expected = format!(" UNIT=\"{service}\" PID=");
    assert!(whoami.contains(&expected), "{whoami}");
    assert!(whoami.ends_with(" PROFILES=any,service"), "{whoami}");
    controller.ok("GETINFO version");
    drop(controller);
    let (controller, whoami) = unit_in(&place, &forged);
    let expected = format!(" UNIT=\"user@{ALICE}.service\" PID=");
    assert!(whoami.contains(&expected), "{whoami}");
    assert!(whoami.ends_with(" PROFILES=any"), "{whoami}");
    drop(controller);
}
