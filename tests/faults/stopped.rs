//! Tor hangs (SIGSTOP): the dead leave the bus at once, the living go on waiting.

use std::io::{ErrorKind, Read as _};
use std::net::Shutdown;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::gone::leaves_behind;
use crate::support::{Controller, PATIENCE, eventually};
use crate::tor::{Pair, Tor, has_tor};
use crate::{SOON, TWO_SECONDS, descriptors, hears};

fn signal(tor: &Tor, signal: Signal) {
    let pid = i32::try_from(tor.pid()).expect("a pid is one");
    kill(Pid::from_raw(pid), signal).expect("it is our child");
}

/// A controller that Tor has answered: its way to Tor is there when Tor stops.
#[track_caller]
fn answered(pair: &Pair) -> Controller {
    let mut controller = pair.daemon.connect();
    controller.ok("GETINFO version");
    controller
}

/// A controller that hears who comes and goes, and waits for that no longer than [`SOON`].
#[track_caller]
fn hears_leavers(pair: &Pair) -> Controller {
    let mut watcher = pair.daemon.connect();
    watcher.ok("SETEVENTS CONTROLLER");
    waits(&watcher, SOON);
    watcher
}

#[track_caller]
fn waits(controller: &Controller, time: Duration) {
    let set = controller.stream().set_read_timeout(Some(time));
    set.expect("it is not zero");
}

/// Fails if anything comes within `time`, or the connection ends.
#[track_caller]
fn hears_nothing(controller: &mut Controller, time: Duration) {
    waits(controller, time);
    let mut buffer = [0; 100];
    match controller.stream().read(&mut buffer) {
        Ok(length) => panic!(
            "it comes: {:?}",
            buffer[..length].escape_ascii().to_string()
        ),
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
    waits(controller, PATIENCE);
}

#[test]
fn who_is_gone_leaves_the_bus() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut watcher = hears_leavers(&pair);
    let mut boss = answered(&pair);
    boss.ok("CONTROLLERNAME boss");
    signal(&pair.tor, Signal::SIGSTOP);
    boss.send("GETINFO version\r\n");
    drop(boss);
    hears(&mut watcher, "650 CONTROLLER DISCONNECTED");
    assert_eq!(watcher.info("list-controllers"), "unset");
    let reply = watcher.ask("POSTMESSAGE @boss hello");
    assert_eq!(reply, "552 Invalid destination controller name");
    watcher.ok("CONTROLLERNAME boss");
    // One that never had an answer of Tor: its way to Tor is the spare one, or not there yet.
    leaves_behind(&pair.place, b"CONTROLLERNAME chief\r\nGETINFO version\r\n");
    hears(&mut watcher, "650 CONTROLLER DISCONNECTED");
    watcher.ok("CONTROLLERNAME chief");
}

#[test]
fn who_is_gone_holds_no_place() {
    if !has_tor() {
        return;
    }
    let few = "BusMaxControllersPerUser 20";
    let pair = Pair::with(&[few, TWO_SECONDS]);
    let mut watcher = hears_leavers(&pair);
    drop(answered(&pair));
    hears(&mut watcher, "650 CONTROLLER DISCONNECTED");
    let before = descriptors(&pair.daemon);
    signal(&pair.tor, Signal::SIGSTOP);
    for _ in 0..30 {
        for _ in 0..10 {
            leaves_behind(&pair.place, b"GETINFO version\r\n");
        }
        for _ in 0..10 {
            hears(&mut watcher, "650 CONTROLLER DISCONNECTED");
        }
    }
    assert_eq!(watcher.info("list-controllers"), "unset");
    // What they sent to Tor has a deadline.
    eventually("what they asked Tor has ended", || {
        descriptors(&pair.daemon) <= before + 1
    });
    signal(&pair.tor, Signal::SIGCONT);
    answered(&pair);
}

#[test]
fn what_the_gone_had_sent_is_done_when_tor_goes_on() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = Controller::at(&pair.home.socket());
    direct.ok("AUTHENTICATE");
    direct.ok("SETEVENTS CONF_CHANGED");
    let mut watcher = hears_leavers(&pair);
    let mut leaver = answered(&pair);
    signal(&pair.tor, Signal::SIGSTOP);
    leaver.send("SETCONF ContactInfo=left\r\n");
    drop(leaver);
    hears(&mut watcher, "650 CONTROLLER DISCONNECTED");
    signal(&pair.tor, Signal::SIGCONT);
    let change = direct.reply();
    assert_eq!(change, "650-CONF_CHANGED\n650-ContactInfo=left\n650 OK");
}

#[test]
fn who_is_there_goes_on_waiting() {
    if !has_tor() {
        return;
    }
    let pair = Pair::with(&[TWO_SECONDS]);
    let mut whole = answered(&pair);
    let mut half = answered(&pair);
    half.ok("CONTROLLERNAME half");
    let mut watcher = pair.daemon.connect();
    signal(&pair.tor, Signal::SIGSTOP);
    whole.send("GETINFO version\r\n");
    half.send("GETINFO version\r\n");
    half.stream().shutdown(Shutdown::Write).expect("it is open");
    // Longer than the daemon waits for an answer to itself.
    hears_nothing(&mut whole, Duration::from_secs(4));
    hears_nothing(&mut half, Duration::from_millis(10));
    let list = watcher.ask("GETINFO list-controllers");
    let expected = "250+list-controllers=\nunset\nhalf\nunset\n.\n250 OK";
    assert_eq!(list, expected);
    watcher.ok("POSTMESSAGE @half hello");
    signal(&pair.tor, Signal::SIGCONT);
    assert!(whole.reply().ends_with("\n250 OK"));
    assert!(half.reply().ends_with("\n250 OK"));
    assert_eq!(half.rest(), b"");
}
