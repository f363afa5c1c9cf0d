//! Places for controllers: no two users can keep root out.
//!
//! The only test here, because the user that connects is that of the whole process.

mod support;

use std::io::Write as _;

use nix::unistd::{Uid, seteuid};
use support::{Controller, Place, eventually, is_root};

/// The first of two users.
const USER: u32 = 64_500;

/// Connects as a user until there is no place for one more; those that have one, and the reason.
fn fill(place: &Place, uid: u32) -> (Vec<Controller>, String) {
    let mut inside = Vec::new();
    loop {
        seteuid(Uid::from_raw(uid)).expect("root may");
        let controller = Controller::try_at(&place.socket());
        seteuid(Uid::from_raw(0)).expect("root may");
        let mut controller = controller.expect("everybody may connect");
        // It may be closed already.
        let _ = (&mut controller.stream()).write_all(b"GETINFO version\r\n");
        let reply = controller.reply();
        if reply.starts_with("551 ") {
            return (inside, reply);
        }
        inside.push(controller);
    }
}

#[test]
fn two_users_cannot_keep_root_out() {
    if !is_root() {
        return;
    }
    // Places, or descriptors, run out; and how many each of the two users gets.
    for (options, descriptors, first, second, reason) in [
        (
            "BusMaxControllers 128\n",
            "4096:4096",
            96,
            0,
            "BusMaxControllers",
        ),
        ("", "200:200", 102, 2, "the limit of descriptors"),
    ] {
        let place = Place::open_to_all();
        let socket = format!("BusSocket {} Mode=0666\n", place.socket().display());
        let start = place.configured(&(socket + options));
        let limit = format!("--nofile={descriptors}");
        let daemon = start.under(&["prlimit", &limit]).ready();
        assert!(!daemon.log().contains("[warn]"), "{}", daemon.log());
        let (of_first, _) = fill(&place, USER);
        let (of_second, why) = fill(&place, USER + 1);
        assert_eq!((of_first.len(), of_second.len()), (first, second));
        assert!(why.contains(&format!("({reason})")), "{why}");
        let mut of_root = daemon.connect();
        of_root.ok("GETINFO version");
        // A place that becomes free is a place for all again.
        drop(of_first);
        eventually("a place for the other", || {
            !fill(&place, USER + 1).0.is_empty()
        });
    }

    // More places while it runs need more descriptors than it had at its start.
    let place = Place::open_to_all();
    let socket = format!("BusSocket {} Mode=0666\n", place.socket().display());
    let start = place.configured(&(socket + "BusMaxControllers 100\n"));
    let daemon = start.under(&["prlimit", "--nofile=256:4096"]).ready();
    daemon.connect().ok("SETCONF BusMaxControllers=600");
    let (of_first, why) = fill(&place, USER);
    assert_eq!((of_first.len(), &why[..3]), (568, "551"), "{why}");
}
