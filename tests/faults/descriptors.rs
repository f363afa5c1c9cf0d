//! Descriptors: those that a controller sends are closed, and one that cannot be had is one reply.

use std::io::IoSlice;
use std::os::fd::AsRawFd as _;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, send, sendmsg};
use nix::unistd::Pid;

use crate::descriptors;
use crate::support::Place;
use crate::tor::{Home, has_tor, is_connected, serve};

#[test]
fn commands_with_descriptors_are_all_answered() {
    let place = Place::new();
    let daemon = place.serve().looked_into().ready();
    let mut controller = daemon.connect();
    controller.ok("GETINFO version");
    let before = descriptors(&daemon);
    let file = tempfile::tempfile().expect("a file");
    for _ in 0..10 {
        for _ in 0..20 {
            let sent = sendmsg::<()>(
                controller.stream().as_raw_fd(),
                &[IoSlice::new(b"GETINFO version\r\n")],
                &[ControlMessage::ScmRights(&[file.as_raw_fd()])],
                MsgFlags::empty(),
                None,
            );
            assert_eq!(sent, Ok("GETINFO version\r\n".len()));
        }
        for _ in 0..20 {
            let reply = controller.reply();
            assert!(reply.ends_with("250 OK"), "{reply}");
        }
    }
    assert_eq!(descriptors(&daemon), before);
}

#[test]
fn commands_around_an_urgent_octet_are_answered() {
    let place = Place::new();
    let daemon = place.daemon();
    let mut controller = daemon.connect();
    controller.ok("GETINFO version");
    let daemon_itself = Pid::from_raw(daemon.pid().cast_signed());
    for _ in 0..10 {
        // It finds them all there at once.
        kill(daemon_itself, Signal::SIGSTOP).expect("it is our child");
        controller.send("GETINFO version\r\n");
        let urgent = send(controller.stream().as_raw_fd(), b"!", MsgFlags::MSG_OOB);
        assert_eq!(urgent, Ok(1));
        controller.send("GETINFO version\r\n");
        kill(daemon_itself, Signal::SIGCONT).expect("it is our child");
        for _ in 0..2 {
            let reply = controller.reply();
            assert!(reply.ends_with("250 OK"), "{reply}");
        }
    }
}

#[test]
fn each_command_has_one_reply_where_descriptors_run_out() {
    if !has_tor() {
        return;
    }
    let (home, place) = (Home::new(), Place::new());
    let _tor = home.start();
    let most = 48;
    let daemon = serve(&place, &home)
        .under(&["prlimit", &format!("--nofile={most}")])
        .ready();
    is_connected(&daemon);
    let room = most - descriptors(&daemon) - 2;
    // They all get in, and half of them have no way to Tor.
    let mut controllers: Vec<_> = (0..room).map(|_| daemon.connect()).collect();
    for controller in &mut controllers {
        controller.ok("GETINFO new-messages");
    }
    let mut refused = 0;
    for controller in &mut controllers {
        for command in [
            "GETINFO version",
            "GETINFO list-controllers version",
            "SETEVENTS CONF_CHANGED",
            "SETCONF BusHistory=9 ContactInfo=x",
            "GETINFO info/names",
        ] {
            // The second one's reply would stand in the place of one too many.
            controller.send(format!("{command}\r\nPOSTMESSAGE @nobody x\r\n"));
            let is_event = |reply: &String| reply.starts_with("650");
            let mut next = || loop {
                let reply = controller.reply();
                if !is_event(&reply) {
                    return reply;
                }
            };
            let reply = next();
            refused += usize::from(reply.starts_with("551 "));
            let is_one = reply.ends_with("250 OK") || reply.starts_with("551 ");
            assert!(is_one, "{command}: {reply}");
            let reply = next();
            let nobody = "552 Invalid destination controller name";
            assert_eq!(reply, nobody, "{command}");
        }
    }
    assert!(refused > 0, "there were descriptors enough");
}
