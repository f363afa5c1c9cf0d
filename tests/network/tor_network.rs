//! A Tor network on loopback: an authority, four exits and a client, all of them real.
//!
//! Each has a control socket without a login, which tells when the next step can be done. They end
//! with the test, also when that is killed.

use std::fs::{self, DirBuilder};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::place::Names;
use crate::support::{eventually, has, run};
use crate::tor::{Home, Tor, has_tor};
use crate::wire::Wire;

/// How often the authority votes, in seconds: never again while a test runs.
const LONG: u64 = 1800;

/// The shortest interval that Tor takes, for the one vote that is wanted.
const SHORT: u64 = 5;

/// What else a server needs, or what leaves nothing to chance in so small a network: without the
/// last line one relay may get all the weight, and circuits that need it twice fail for ever.
const SERVER: &str = "Address 127.0.0.1\nAssumeReachable 1\nContactInfo none\n\
    ExitRelay 1\nExitPolicy accept *:*\nServerDNSDetectHijacking 0\nServerDNSTestAddresses\n\
    TestingMinTimeToReportBandwidth 1 day\n";

/// What makes an authority give every relay every flag.
const AUTHORITY: &str = "AuthoritativeDirectory 1\nV3AuthoritativeDirectory 1\n\
    AuthDirTestReachability 0\nTestingDirAuthVoteExit *\nTestingDirAuthVoteGuard *\n\
    TestingDirAuthVoteHSDir *\nTestingMinExitFlagThreshold 0\n\
    TestingV3AuthInitialVoteDelay 2\nTestingV3AuthInitialDistDelay 2\n";

/// Whether all is there that a network needs, as [`can`](crate::support::can).
#[track_caller]
pub fn has_network() -> bool {
    has_tor() && has("tor-gencert")
}

/// A network that is up.
pub struct Network {
    pub client: Node,
    pub exits: Vec<Node>,
    /// Where the client takes SOCKS.
    pub socks: SocketAddr,
    /// The lines of a torrc that lead to it.
    everywhere: String,
    _authority: Node,
    _names: Names,
}

impl Network {
    #[track_caller]
    pub fn start() -> Self {
        let names = Names::start();
        let (authority, directory, everywhere) = authority();
        let exits = (0..4).map(|number| {
            let home = Home::bare();
            home.add(&format!(
                "Nickname exit{number}\nORPort 127.0.0.1:{}",
                port()
            ));
            home
        });
        let homes: Vec<_> = [authority].into_iter().chain(exits).collect();
        for home in &homes {
            let resolver = home.path().join("resolv.conf");
            fs::write(&resolver, format!("nameserver {}\n", names.address)).expect("writable");
            let resolver = resolver.display();
            home.add(&format!("{everywhere}{SERVER}SocksPort 0"));
            home.add(&format!("ServerDNSResolvConfFile {resolver}"));
        }
        // Making keys takes each of them a while.
        let mut exits: Vec<_> = thread::scope(|scope| {
            let start = |home| scope.spawn(|| Node::start(home));
            let starting: Vec<_> = homes.into_iter().map(start).collect();
            let started = starting.into_iter().map(thread::ScopedJoinHandle::join);
            started.map(|node| node.expect("it starts")).collect()
        });
        let authority = exits.remove(0);
        vote(&authority, directory, exits.len() + 1);
        for exit in &mut exits {
            let answer = exit.controller().ask("GETINFO fingerprint");
            let id = answer.lines().next().expect("a line");
            let id = id.strip_prefix("250-fingerprint=");
            exit.id = format!("${}", id.unwrap_or_else(|| panic!("{answer}")));
            // It forgets how long it wanted to wait before it asks for a consensus again.
            exit.reload();
        }
        let socks = SocketAddr::from((Ipv4Addr::LOCALHOST, port()));
        let home = Home::bare();
        home.add(&format!("{everywhere}SocksPort {socks}"));
        let client = Node::start(home);
        for node in exits.iter().chain([&client]) {
            node.is_ready(exits.len() + 1);
        }
        Self {
            client,
            exits,
            socks,
            everywhere,
            _authority: authority,
            _names: names,
        }
    }

    /// One more client, with this `SocksPort`.
    #[track_caller]
    pub fn another(&self, proxy: &str) -> Node {
        let home = Home::bare();
        home.add(&format!("{}SocksPort {proxy}", self.everywhere));
        let node = Node::start(home);
        node.is_ready(self.exits.len() + 1);
        node
    }
}

/// One Tor of it.
pub struct Node {
    pub home: Home,
    pub tor: Tor,
    /// `$` and its fingerprint, if it is an exit.
    pub id: String,
}

impl Node {
    #[track_caller]
    fn start(home: Home) -> Self {
        let tor = home.start();
        let id = String::new();
        Self { home, tor, id }
    }

    /// A new controller of it, logged in.
    #[track_caller]
    pub fn controller(&self) -> Wire {
        let mut controller = Wire::at(&self.home.socket());
        assert_eq!(controller.first_line("AUTHENTICATE"), "250 OK");
        controller.take();
        controller
    }

    /// Lets it read its torrc again.
    #[track_caller]
    fn reload(&self) {
        let answer = self.controller().first_line("SIGNAL RELOAD");
        assert_eq!(answer, "250 OK");
    }

    /// Waits until it can build circuits over any of `count` servers.
    #[track_caller]
    fn is_ready(&self, count: usize) {
        let phase = "GETINFO status/bootstrap-phase";
        self.awaits("STATUS_CLIENT", phase, |phase| {
            phase.contains(" PROGRESS=100 ")
        });
        // It may know too little of one of them yet, and it does not tell when it knows more.
        let mut controller = self.controller();
        eventually("it knows all servers", || {
            let known = controller.ask("GETINFO md/all");
            lines_with(&known, "ntor-onion-key ") == count
        });
    }

    /// Asks until the answer is right: at once, and after each of these events.
    #[track_caller]
    fn awaits(&self, event: &str, command: &str, is_right: impl Fn(&str) -> bool) {
        let mut controller = self.controller();
        controller.about = format!("{command} after each {event}");
        assert_eq!(
            controller.first_line(&format!("SETEVENTS {event}")),
            "250 OK"
        );
        while !is_right(&controller.ask(command)) {
            assert!(controller.until(b"650"), "{}", controller.about);
        }
    }
}

/// The home of an authority, its directory port, and the lines that every torrc needs.
#[track_caller]
fn authority() -> (Home, SocketAddr, String) {
    let home = Home::bare();
    let (port, directory) = (port(), SocketAddr::from((Ipv4Addr::LOCALHOST, port())));
    let data = home.path().join("data");
    let keys = data.join("keys");
    let mut builder = DirBuilder::new();
    builder
        .mode(0o700)
        .recursive(true)
        .create(&keys)
        .expect("a directory");

    let identity = identity(&keys, directory);
    // It has to be known before there can be a torrc.
    let mut command = Command::new("tor");
    command.args(["--ignore-missing-torrc", "-f", "/nonexistent", "--hush"]);
    command.args(["--defaults-torrc", "/nonexistent", "--list-fingerprint"]);
    command.args(["--Nickname", "authority", "--ORPort", &port.to_string()]);
    command.args([
        "--DirAuthority",
        &format!("x 127.0.0.1:1 {}", "F".repeat(40)),
    ]);
    command
        .arg("--DataDirectory")
        .arg(&data)
        .env("HOME", home.path());
    let listed = run(&mut command);
    let fingerprint = listed
        .lines()
        .last()
        .and_then(|line| line.strip_prefix("authority "));
    let fingerprint = fingerprint.unwrap_or_else(|| panic!("no fingerprint: {listed}"));
    let fingerprint = fingerprint.replace(' ', "");

    // The first vote is far away, wherever in half an hour the test begins.
    let offset = (now() + LONG / 2) % LONG;
    home.add(&format!(
        "{AUTHORITY}Nickname authority\nORPort 127.0.0.1:{port}\nDirPort {directory}\n\
         V3AuthVotingInterval {LONG}\nTestingV3AuthInitialVotingInterval {LONG}\n\
         TestingV3AuthVotingStartOffset {offset}"
    ));
    let everywhere = format!(
        "TestingTorNetwork 1\nOutboundBindAddress 127.0.0.1\nShutdownWaitLength 0\nNumCPUs 1\n\
         GeoIPFile /dev/null\nGeoIPv6File /dev/null\n\
         DirAuthority authority orport={port} v3ident={identity} {directory} {fingerprint}\n"
    );
    (home, directory, everywhere)
}

/// Makes the keys that an authority votes with, and returns which they are.
#[track_caller]
fn identity(keys: &Path, directory: SocketAddr) -> String {
    let mut command = Command::new("tor-gencert");
    command.args(["--create-identity-key", "--passphrase-fd", "0", "-m", "12"]);
    command.args([
        "-i",
        "authority_identity_key",
        "-s",
        "authority_signing_key",
    ]);
    command.args(["-c", "authority_certificate", "-a", &directory.to_string()]);
    command
        .current_dir(keys)
        .stdin(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().expect("tor-gencert starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"passphrase\n").expect("it reads");
    drop(stdin);
    assert!(
        child.wait().expect("it is our child").success(),
        "{command:?}"
    );
    let certificate = fs::read_to_string(keys.join("authority_certificate"));
    let certificate = certificate.expect("tor-gencert has written it");
    let mut lines = certificate.lines();
    let identity = lines.find_map(|line| line.strip_prefix("fingerprint "));
    identity.expect("every certificate has one").to_owned()
}

/// Lets the authority vote once, as soon as it knows all `count` servers, and waits until it hands
/// out what it found.
#[track_caller]
fn vote(authority: &Node, directory: SocketAddr, count: usize) {
    authority.awaits("NEWDESC", "GETINFO desc/all-recent", |descriptors| {
        lines_with(descriptors, "router ") == count
    });
    let offset = (now() + SHORT - 1) % SHORT;
    authority.home.add(&format!(
        "TestingV3AuthInitialVotingInterval {SHORT}\nTestingV3AuthVotingStartOffset {offset}"
    ));
    authority.reload();
    authority.awaits("NOTICE", "GETINFO ns/all", |consensus| {
        lines_with(consensus, "r ") == count
    });
    // It hands it out only half a second later, and nobody must have asked in vain.
    eventually("a consensus that can be fetched", || {
        let mut stream = TcpStream::connect(directory).expect("it listens");
        let path = "/tor/status-vote/current/consensus-microdesc";
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it is text");
        lines_with(&answer, "r ") == count
    });
}

fn lines_with(text: &str, prefix: &str) -> usize {
    text.lines().filter(|line| line.starts_with(prefix)).count()
}

/// Seconds since 1970, which votes are aligned to.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("it is later").as_secs()
}

/// A port that nobody listens at, and below those that outgoing connections get (from 32768 on), so
/// that none of these takes it before it is used.
pub fn port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Other tests that run at the same time begin elsewhere.
    let begun = u16::try_from(std::process::id() % 200).expect("it is small") * 100;
    loop {
        let port = 12_000 + (begun + GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
