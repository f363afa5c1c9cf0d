//! The ready profiles, each with a neighbour beside it, and with the programs that can be had here:
//! they do their work, and the neighbour's things stay out of their reach.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use crate::onions::{End, LONGEST, is_reachable, restart};
use crate::people::{BOB, connect, has_people, place, serve};
use crate::place::{NAME, server};
use crate::policy::{ask, stream, until_after};
use crate::support::{Controller, PATIENCE, Place, has, python_with, run};
use crate::terminal::Terminal;
use crate::tor_network::{Network, has_network, port};

/// The first of the users that have one profile each, and the group of its number.
const FIRST: u32 = 64_420;

/// One that has two of them.
const DESK: u32 = 64_419;

/// A client key, and what it is set for.
const KEY: &str = "x25519:uDF+ZsBrxVtRrTJfZQqNRLKPgGYf5zPI4tkyZy4ZLVQ=";
const LOCKED: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";

/// Profiles that see and close circuits, and streams, of all, as their files say.
const OF_ALL: [&str; 2] = ["onioncircuits", "vanguards"];

/// The ready profiles and the user of each.
fn profiles() -> Vec<(String, u32)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/policy");
    let files = fs::read_dir(directory).expect("it is there");
    let mut names: Vec<_> = files
        .map(|file| {
            let path = file.expect("an entry").path();
            let name = path.file_stem().expect("a name");
            name.to_str().expect("it is text").to_owned()
        })
        .collect();
    names.sort();
    names.into_iter().zip(FIRST..).collect()
}

/// The things of a neighbour: an onion service, a client key, a stream on a circuit, an option.
struct Neighbour {
    bob: Controller,
    onion: String,
    stream: String,
    circuit: String,
    _open: TcpStream,
}

/// The lines that all of it is granted by.
const NEIGHBOUR: &str = "Own-Socks user=bob\nAllow events STREAM:own HS_DESC:own\n\
    Allow add_onion ports=80 max=64\nAllow del_onion own\nAllow client_auth add view own\n\
    Allow setconf MaxCircuitDirtiness\nAllow getconf MaxCircuitDirtiness\n\
    Allow getinfo stream-status circuit-status\n";

impl Neighbour {
    #[track_caller]
    fn of(place: &Place, socks: SocketAddr) -> Self {
        // Whose streams there are is known from now on, also while nobody asks.
        let mut bob = connect(place, BOB, &[]);
        bob.ok("SETEVENTS STREAM");
        bob.ok("SETEVENTS");
        drop(bob);
        let open = stream(socks, "bob", NAME, server().port());
        let mut bob = connect(place, BOB, &[]);
        bob.ok("SETEVENTS HS_DESC");
        let (made, seen) = ask(&mut bob, "ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17600");
        let onion = made.split(['=', '\n']).nth(1).expect("an id").to_owned();
        // It can be fetched from now on.
        until_after(seen, &mut bob, &format!("650 HS_DESC UPLOADED {onion} "));
        assert_eq!(ask(&mut bob, "SETEVENTS").0, "250 OK");
        bob.ok(&format!("ONION_CLIENT_AUTH_ADD {LOCKED} {KEY}"));
        bob.ok("SETCONF MaxCircuitDirtiness=4321");
        let status = bob.info("stream-status");
        let words: Vec<_> = status.split(' ').collect();
        let [stream, _, circuit, ..] = words[..] else {
            panic!("no stream of its own: {status}");
        };
        let (stream, circuit) = (stream.to_owned(), circuit.to_owned());
        Self {
            bob,
            onion,
            stream,
            circuit,
            _open: open,
        }
    }

    /// Everything is as it was.
    #[track_caller]
    fn is_untouched(&mut self, by: &str) {
        let Self {
            bob,
            onion,
            stream,
            circuit,
            ..
        } = self;
        for (command, start) in [
            (
                "GETINFO onions/current",
                format!("250-onions/current={onion}\n250 OK"),
            ),
            (
                "GETINFO stream-status",
                format!("250-stream-status={stream} SUCCEEDED {circuit} "),
            ),
            (
                "ONION_CLIENT_AUTH_VIEW",
                format!("250-ONION_CLIENT_AUTH_VIEW\n250-CLIENT {LOCKED} {KEY}\n"),
            ),
            (
                "GETCONF MaxCircuitDirtiness",
                "250 MaxCircuitDirtiness=4321".to_owned(),
            ),
        ] {
            let reply = bob.ask(command);
            assert!(reply.starts_with(&start), "after {by}: {command}: {reply}");
        }
    }

    /// The commands that would change it or tell of it.
    fn attacks(&self, is_of_all: bool) -> Vec<String> {
        let Self {
            onion,
            stream,
            circuit,
            ..
        } = self;
        let mut attacks = vec![
            format!("DEL_ONION {onion}"),
            format!("ONION_CLIENT_AUTH_REMOVE {LOCKED}"),
            format!("ONION_CLIENT_AUTH_ADD {LOCKED} x25519:{}=", "A".repeat(43)),
            format!("ONION_CLIENT_AUTH_VIEW {LOCKED}"),
            "ONION_CLIENT_AUTH_VIEW".into(),
            "GETINFO onions/current".into(),
            "GETINFO onions/detached".into(),
            "GETINFO address-mappings/all".into(),
            "GETINFO config-text".into(),
            format!("GETINFO hs/service/desc/id/{onion}"),
            format!("CLOSESTREAM {stream} 1"),
            format!("ATTACHSTREAM {stream} 0"),
            format!("REDIRECTSTREAM {stream} elsewhere.test"),
            format!("SETCIRCUITPURPOSE {circuit} purpose=controller"),
            "SETCONF MaxCircuitDirtiness=77".into(),
            "RESETCONF MaxCircuitDirtiness".into(),
            "SIGNAL RELOAD".into(),
        ];
        if !is_of_all {
            attacks.extend([
                "GETINFO stream-status".into(),
                "GETINFO circuit-status".into(),
                format!("CLOSECIRCUIT {circuit}"),
            ]);
        }
        attacks
    }
}

/// The lines of a program on txtorcon, as the manual has them, that shares something too.
const DESKTOP: &str = "Use monitor onionshare\nAllow busconf get *\n\
    Allow getinfo address-mappings/* entry-guards\nAllow events ADDRMAP:quiet\n\
    Answer HashedControlPassword=\"\"\nAnswer __HashedControlSessionPassword=\"\"\n\
    Answer BridgePassword=\"\"\nAnswer HTTPProxyAuthenticator=\"\"\n\
    Answer HTTPSProxyAuthenticator=\"\"\nAnswer Socks5ProxyPassword=\"\"\n";

/// The events that tell of somebody's things.
const EVENTS: [&str; 11] = [
    "HS_DESC",
    "HS_DESC_CONTENT",
    "STREAM",
    "STREAM_BW",
    "CIRC",
    "CIRC_MINOR",
    "CONF_CHANGED",
    "ADDRMAP",
    "SIGNAL",
    "INFO",
    "ACTION",
];

/// Tries everything with each profile, and hears all that it may.
#[track_caller]
fn no_profile_reaches_it(place: &Place, socks: SocketAddr, neighbour: &mut Neighbour) {
    let mut listeners = Vec::new();
    for (name, user) in profiles() {
        let mut controller = connect(place, user, &[]);
        let is_of_all = OF_ALL.contains(&&name[..]);
        for attack in neighbour.attacks(is_of_all) {
            let reply = controller.ask(&attack);
            let tells = [&neighbour.onion[..], KEY, NAME];
            let told = tells
                .iter()
                .find(|text| reply.contains(**text) && !attack.contains(**text));
            assert_eq!(told, None, "{name}: {attack}: {reply}");
        }
        neighbour.is_untouched(&name);
        let may_have = |event: &&&str| controller.ask(&format!("SETEVENTS {event}")) == "250 OK";
        let events: Vec<_> = EVENTS.iter().filter(may_have).copied().collect();
        controller.ok(&format!("SETEVENTS {}", events.join(" ")));
        listeners.push((name, is_of_all, controller));
    }
    // The neighbour does something of each kind. Its stream shows that all has been told.
    let made = neighbour
        .bob
        .ask("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,17601");
    let onion = made.split(['=', '\n']).nth(1).expect("an id");
    neighbour.bob.ok("SETCONF MaxCircuitDirtiness=4322");
    drop(stream(socks, "bob", NAME, server().port()));
    neighbour.bob.ok(&format!("DEL_ONION {onion}"));
    neighbour.bob.ok("SETCONF MaxCircuitDirtiness=4321");
    for (name, is_of_all, mut controller) in listeners {
        let (_, events) = ask(&mut controller, "GETINFO whoami");
        let events = events.join("\n");
        for text in [onion, "MaxCircuitDirtiness"] {
            assert!(!events.contains(text), "{name}: {events}");
        }
        assert!(is_of_all || !events.contains(NAME), "{name}: {events}");
    }
}

/// A running program, and the lines that it says; it is killed when this goes.
struct Program {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Program {
    /// Starts a program as this user, with the group of its number, in a home of its own.
    #[track_caller]
    fn start(user: u32, group: u32, home: &Path, words: &[&str]) -> Self {
        let mut command = by(user, group);
        command.args(words).current_dir(home);
        command.env("HOME", home).env("PYTHONUNBUFFERED", "1");
        command.env_remove("TOR_CONTROL_PORT");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let (sender, lines) = mpsc::channel();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let stdout: Box<dyn Read + Send> = Box::new(stdout.expect("it is piped"));
        let stderr: Box<dyn Read + Send> = Box::new(stderr.expect("it is piped"));
        for output in [stdout, stderr] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    // It must not wait for anybody to read.
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            child,
            lines,
            said: String::new(),
        }
    }

    /// Waits until a line has this text, and returns that line.
    #[track_caller]
    fn says(&mut self, text: &str) -> String {
        let end = Instant::now() + LONGEST;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("no {text}: {error}: {}", self.said));
            self.said += &line;
            self.said.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It fails only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that this user runs.
fn by(user: u32, group: u32) -> Command {
    let mut command = Command::new("setpriv");
    let (user, group) = (user.to_string(), group.to_string());
    command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]);
    command
}

/// A directory that belongs to a user.
#[track_caller]
fn home_of(place: &Place, user: u32) -> std::path::PathBuf {
    let home = place.path(&format!("home{user}"));
    fs::create_dir(&home).expect("it is new");
    chown(&home, Some(user), Some(user)).expect("root may");
    home
}

/// `OnionShare` with a website.
#[track_caller]
fn onionshare(place: &Place, user: u32) -> Program {
    let home = home_of(place, user);
    let site = home.join("site");
    fs::create_dir(&site).expect("it is new");
    fs::write(site.join("index.html"), "shared with all").expect("writable");
    let settings = format!(
        r#"{{"connection_type": "socket_file", "socket_file_path": "{}"}}"#,
        place.socket().display()
    );
    fs::write(home.join("settings"), settings).expect("writable");
    let words = [
        "onionshare-cli",
        "--website",
        "--public",
        "--config",
        "settings",
        "site",
    ];
    Program::start(user, user, &home, &words)
}

/// Onionbalance, which publishes the neighbour's service as one of its own.
#[track_caller]
fn onionbalance(place: &Place, user: u32, python: &str, instance: &str) -> Program {
    let home = home_of(place, user);
    let config = format!("services:\n- instances:\n  - address: {instance}.onion\n  key: key\n");
    fs::write(home.join("config"), config).expect("writable");
    // As it is, with a key, and but for the time that it waits for before it looks, and the number
    // of directories: where there are fewer it looks for ever.
    let script = "from cryptography.hazmat.primitives import serialization as s\n\
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as Key\n\
        pem = (s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())\n\
        open('key', 'wb').write(Key.generate().private_bytes(*pem))\n\
        from onionbalance.hs_v3 import params\n\
        params.INITIAL_CALLBACK_DELAY = 0\n\
        params.HSDIR_SPREAD_STORE = 1\n\
        params.FETCH_DESCRIPTOR_FREQUENCY_TESTNET = 5\n\
        params.PUBLISH_DESCRIPTOR_CHECK_FREQUENCY_TESTNET = 1\n\
        from onionbalance import manager\n\
        manager.main()\n";
    let socket = place.socket();
    let socket = socket.to_str().expect("it is text");
    let words = [
        python,
        "-c",
        script,
        "--is-testnet",
        "-v",
        "debug",
        "-c",
        "config",
        "-s",
        socket,
    ];
    Program::start(user, user, &home, &words)
}

/// vanguards, which chooses guards for all services.
#[track_caller]
fn vanguards(place: &Place, user: u32) -> Program {
    let home = home_of(place, user);
    let socket = place.socket();
    let socket = socket.to_str().expect("it is text");
    // The network is too small for as many as there are by default.
    let config = "[Vanguards]\nnum_layer2_guards = 1\nnum_layer3_guards = 1\n";
    fs::write(home.join("config"), config).expect("writable");
    let words = [
        "vanguards",
        "--loglevel",
        "DEBUG",
        "--config",
        "config",
        "--control_socket",
        socket,
    ];
    // It reads a file of Tor's, and has to be Tor's user.
    Program::start(0, user, &home, &words)
}

/// nyx shows the Tor, and nothing of the neighbour's.
#[track_caller]
fn nyx_shows(place: &Place, user: u32, tor: u32) {
    let home = home_of(place, user);
    let (socket, path) = (place.socket(), home.display());
    let terminal = Terminal::start(
        &home,
        &format!(
            "cd '{path}'; setpriv --reuid {user} --regid {user} --clear-groups \
             env HOME='{path}' nyx -s '{}' 2>errors",
            socket.display()
        ),
    );
    terminal.shows(&format!("pid: {tor}"));
    terminal.shows("Download (");
    terminal.press("Right");
    terminal.shows("page 2 / 5");
    terminal.shows("Connections (");
    assert!(!terminal.screen().contains(NAME), "{}", terminal.screen());
}

/// txtorcon publishes a service, and is refused what is not its own.
#[track_caller]
fn txtorcon_walks(place: &Place, user: u32, python: &str, neighbour: &str) {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/network/txtorcon_walk.py"
    );
    let script = fs::read_to_string(script).expect("it is there");
    let mut command = Command::new("timeout");
    command.arg(PATIENCE.as_secs().to_string());
    command
        .arg("setpriv")
        .args(["--reuid", &user.to_string(), "--regid", &user.to_string()]);
    command.args(["--clear-groups", python, "-c", &script]);
    command.arg(place.socket()).arg(neighbour).current_dir("/");
    let said = run(&mut command);
    let expected = [
        "config: True",
        "service: True",
        "own: True",
        "deleted: 552 Unknown Onion Service id",
        "port: 512 Bad arguments to ADD_ONION: filtered: Port",
        "option: 552 Unrecognized option: Unknown option 'ContactInfo'.  Failing.",
        "signal: 552 Unrecognized signal code \"HALT\"",
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn programs_do_their_work_beside_a_neighbour() {
    if !has_people() || !has_network() {
        return;
    }
    let programs = ["onionshare-cli", "vanguards", "nyx", "tmux"];
    if !programs.iter().all(|program| has(program)) {
        return;
    }
    let Some(python) = python_with("txtorcon, onionbalance") else {
        return;
    };
    let network = Network::start();
    let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, port()));
    let mut node = network.another(&proxy.to_string());
    let profiles = profiles();
    let block = |(name, user): &(String, u32)| {
        format!("Profile user-{name}\nMatch group={user}\nUse {name}\nKeep onions 600\n")
    };
    let desk = format!("Profile desk\nMatch user={DESK}\n{DESKTOP}");
    let bob = format!("Profile bob\nMatch user={BOB}\n{NEIGHBOUR}");
    let blocks: Vec<_> = profiles.iter().map(block).chain([desk, bob]).collect();
    let place = place(
        &blocks.concat(),
        &format!(
            "BusTor {}\nBusKeepOnions 600\nBusKeepControllers 1",
            node.home.address()
        ),
    );
    let daemon = serve(&place).ready();
    daemon.logs("is there, at");
    let user = |name: &str| {
        let found = profiles.iter().find(|(known, _)| known == name);
        found
            .map(|(_, user)| *user)
            .expect("there is such a profile")
    };
    let mut neighbour = Neighbour::of(&place, proxy);
    no_profile_reaches_it(&place, proxy, &mut neighbour);
    // Each takes its time, and needs none of this machine's.
    let mut sharing = onionshare(&place, user("onionshare"));
    let mut balancing = onionbalance(&place, user("onionbalance"), python, &neighbour.onion);
    nyx_shows(&place, user("monitor"), node.tor.pid());
    txtorcon_walks(&place, DESK, python, &neighbour.onion);
    balancing.says("Successfully uploaded");
    // It is not made for a Tor that ends.
    drop(balancing);
    let line = sharing.says(".onion");
    let onion = line
        .split_once(".onion")
        .and_then(|(before, _)| before.rsplit_once("http://"));
    let (_, onion) = onion.unwrap_or_else(|| panic!("{line}"));
    is_reachable(&network, onion, "shared with all");
    neighbour.is_untouched("all programs");
    restart(&mut node, End::Kill);
    is_reachable(&network, onion, "shared with all");
    // The last: in so small a network its few guards leave hardly a way to anybody's service.
    let mut guarding = vanguards(&place, user("vanguards"));
    guarding.says("New layer3 guard: ");
    for program in [&mut sharing, &mut guarding] {
        let ended = program.child.try_wait().expect("it is our child");
        assert_eq!(ended, None, "{}", program.said);
    }
}
