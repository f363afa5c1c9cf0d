//! What binary controllers are told of a live Tor (TC draft 3.7).

use std::net::SocketAddr;

use crate::place::{NAME, Wish, server};
use crate::socks::{self, Command};
use crate::support::python_with;
use crate::tor_network::{Network, Node, has_network, port};
use crate::watch::{Told, Watch};
use crate::wire::Wire;

/// The codes of circuit, stream and OR connection status.
const STATUS: [u16; 3] = [1, 2, 3];

/// The codes of bandwidth, and of warnings and errors.
const BANDWIDTH_AND_WARNINGS: [u16; 2] = [4, 5];

/// What Tor gives for the port of what is only resolved.
const NO_PORT: u16 = 0;

/// A Tor that is watched, and a controller on the bus that makes something happen to it.
struct Play {
    watch: Watch,
    actor: Wire,
    /// The identities of the exits.
    exits: Vec<String>,
    /// The first event that all watch.
    begin: String,
}

impl Play {
    /// Begins with a circuit to the exit `mark`, which must not be the watched Tor.
    #[track_caller]
    fn start(node: &Node, network: &Network, mark: usize, python: &str) -> Self {
        let watch = Watch::start(node, &STATUS, python);
        let mut play = Self {
            actor: watch.controller(),
            watch,
            exits: network.exits.iter().map(|exit| exit.id.clone()).collect(),
            begin: String::new(),
        };
        play.begin = play.mark(mark);
        play
    }

    /// Ends with another, and returns what all were told in between.
    #[track_caller]
    fn end(mut self, mark: usize) -> Told {
        let end = self.mark(mark);
        self.watch.agree(&self.begin, &end)
    }

    /// Launches a circuit, and returns the event that tells of it.
    #[track_caller]
    fn mark(&mut self, exit: usize) -> String {
        format!("CIRC {} LAUNCHED ", self.launch(&[exit]))
    }

    /// Launches a circuit over these exits, and returns its number.
    #[track_caller]
    fn launch(&mut self, path: &[usize]) -> String {
        let path: Vec<_> = path.iter().map(|&exit| &*self.exits[exit]).collect();
        let command = format!("EXTENDCIRCUIT 0 {}", path.join(","));
        let answer = self.actor.first_line(&command);
        let Some(circuit) = answer.strip_prefix("250 EXTENDED ") else {
            let state = self.actor.ask("GETINFO orconn-status circuit-status");
            panic!("{command}: {answer}: {state}");
        };
        circuit.to_owned()
    }

    /// Launches one, waits until it is in this state, and returns its number.
    #[track_caller]
    fn circuit(&mut self, path: &[usize], state: &str) -> String {
        let circuit = self.launch(path);
        self.watch.sees(&["CIRC", &circuit, state]);
        circuit
    }

    /// Waits until a stream is in this state, and returns its number.
    #[track_caller]
    fn stream(&mut self, state: &str, target: &str) -> String {
        let event = self.watch.sees(&["STREAM", state, target]);
        let number = event.split(' ').nth(2);
        number.expect("every stream has one").to_owned()
    }

    #[track_caller]
    fn ok(&mut self, command: &str) {
        assert_eq!(self.actor.first_line(command), "250 OK", "{command}");
    }

    /// Streams that are opened, refused, resolved, and closed from either side.
    fn streams(&mut self, proxy: SocketAddr) {
        let server = server();
        let (host, target) = (server.ip().to_string(), server.to_string());
        for (wish, host, reason) in [
            (Wish::Close, NAME, "REMOTE_REASON=DONE"),
            (Wish::Close, &host, "REMOTE_REASON=DONE"),
            (Wish::Reset, NAME, "REMOTE_REASON=CONNRESET"),
            // It is the client that closes.
            (Wish::Hold, &host, "REASON=DONE"),
        ] {
            let (mut stream, refused) = socks::does(proxy, Command::Connect, host, server.port());
            assert_eq!(refused, 0, "{host}");
            wish.tell(&mut stream);
            drop(stream);
            self.watch.sees(&["STREAM", "CLOSED", &target, reason]);
        }

        // Nobody listens there. What does not resolve is detached and tried elsewhere first.
        for (host, port) in [(&*host, port()), ("nobody.test", 7)] {
            let (_, refused) = socks::does(proxy, Command::Connect, host, port);
            assert_ne!(refused, 0);
            self.stream("CLOSED", &format!("{host}:{port}"));
        }

        for (command, asked, answers) in [
            (Command::Resolve, NAME, true),
            (Command::Resolve, "nowhere.test", false),
            // An exit looks up no name for an address of its own machine.
            (Command::ResolvePtr, "127.1.2.3", false),
        ] {
            let (_, refused) = socks::does(proxy, command, asked, NO_PORT);
            assert_eq!(refused == 0, answers, "{asked}");
            let stream = self.stream("SENTRESOLVE", &format!("{asked}:{NO_PORT}"));
            self.watch.sees(&["STREAM", &stream, "CLOSED"]);
        }
    }

    /// A stream that the controller closes, and one that it redirects and attaches to a circuit, and
    /// then closes that.
    fn streams_by_hand(&mut self, proxy: SocketAddr) {
        let server = server();
        let target = format!("{NAME}:{}", server.port());
        let open = || socks::ask(proxy, Command::Connect, NAME, server.port());
        self.ok("SETCONF __LeaveStreamsUnattached=1");

        let _client = open();
        let stream = self.stream("CONTROLLER_WAIT", &target);
        self.ok(&format!("CLOSESTREAM {stream} 5"));
        self.watch.sees(&["STREAM", &stream, "FAILED"]);

        let circuit = self.circuit(&[0, 1], "BUILT");
        let _client = open();
        let stream = self.stream("CONTROLLER_WAIT", &target);
        let (host, port) = (server.ip(), server.port());
        self.ok(&format!("REDIRECTSTREAM {stream} {host} {port}"));
        self.ok(&format!("ATTACHSTREAM {stream} {circuit}"));
        self.watch.sees(&["STREAM", &stream, "SUCCEEDED"]);
        self.ok(&format!("CLOSECIRCUIT {circuit}"));
        self.watch.sees(&["CIRC", &circuit, "CLOSED"]);
        self.watch.sees(&["STREAM", &stream, "CLOSED"]);

        self.ok("SETCONF __LeaveStreamsUnattached=0");
    }

    /// An exit that ends under a circuit, and circuits that it is missing in.
    fn dead_exit(&mut self, network: &mut Network) {
        let circuit = self.circuit(&[3, 0], "BUILT");
        network.exits[3].tor.kill();
        self.watch.sees(&["CIRC", &circuit, "CLOSED"]);
        self.circuit(&[3], "FAILED");
        self.circuit(&[0, 3], "FAILED");
    }

    /// A client that closes all its connections, and opens one again.
    fn off_and_on(&mut self) {
        self.ok("SETCONF DisableNetwork=1");
        self.watch.sees(&["ORCONN", "CLOSED"]);
        self.ok("SETCONF DisableNetwork=0");
        self.circuit(&[0], "BUILT");
    }
}

#[test]
fn circuits_streams_and_connections() {
    let Some(python) = python_for_a_network() else {
        return;
    };
    let mut network = Network::start();
    let mut play = Play::start(&network.client, &network, 0, python);
    let exit = Play::start(&network.exits[0], &network, 1, python);
    play.streams(network.socks);
    play.streams_by_hand(network.socks);
    play.dead_exit(&mut network);
    play.off_and_on();

    let told = play.end(1);
    told.has_every_state();
    let states = ["NEW", "NEWRESOLVE", "REMAP", "DETACHED", "CONTROLLER_WAIT"];
    told.has_without_code("STREAM", &states);
    // Only where a connection comes in is it new, and then it is connected and closed.
    exit.end(1).has_without_code("ORCONN", &["NEW"]);
}

#[test]
fn bandwidth_and_warnings() {
    let Some(python) = python_for_a_network() else {
        return;
    };
    let network = Network::start();
    let mut watch = Watch::start(&network.client, &BANDWIDTH_AND_WARNINGS, python);
    let mut actor = watch.controller();
    let mut warn = |watch: &mut Watch, word: &str| {
        let answer = actor.first_line(&format!("SETCONF {word}=1"));
        assert!(answer.starts_with("552 "), "{answer}");
        // Tor warns of what it is asked for, too.
        let event = watch.sees(&["WARN", &format!("'{word}'.")]);
        event.strip_prefix("650 ").expect("an event").to_owned()
    };
    let begin = warn(&mut watch, "TheBeginning");
    let server = server();
    let (mut stream, _) = socks::does(network.socks, Command::Connect, NAME, server.port());
    Wish::Close.tell(&mut stream);
    while watch.sees(&["BW"]) == "650 BW 0 0" {}
    warn(&mut watch, "TheMiddle");
    watch.sees(&["BW"]);
    let end = warn(&mut watch, "TheEnd");
    watch.agree(&begin, &end);
}

/// A Python that has stem, if that and all else is there.
#[track_caller]
fn python_for_a_network() -> Option<&'static str> {
    has_network().then(|| python_with("stem")).flatten()
}
