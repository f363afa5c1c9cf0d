//! The store: services are there again after the end of the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn serve(place: &Place, home: &Home) -> support::Start {
    let store = place.path("onions").display().to_string();
    tor::serve(place, home)
        .set("BusKeepOnions 600")
        .set(&format!("BusOnionStore {store}"))
}

#[test]
fn services_are_there_after_a_kill_and_what_was_deleted_is_not() {
    if !has_tor() {
        return;
    }
    let (home, place) = (Home::new(), Place::new());
    let mut tor = home.start();
    let mut daemon = serve(&place, &home).ready();
    is_connected(&daemon);
    let mut owner = daemon.connect();
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    let detached = service(&owner.ask("ADD_ONION NEW:BEST Flags=Detach Port=80"));
    let deleted = service(&owner.ask("ADD_ONION NEW:BEST Port=80"));
    let secret = service(&owner.ask("ADD_ONION NEW:BEST Flags=DiscardPK Port=80"));
    assert_eq!(owner.ask(&format!("DEL_ONION {deleted}")), "250 OK");
    let store = place.path("onions");
    assert_eq!(
        fs::metadata(&store).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = fs::read_to_string(&store).unwrap();
    for (onion, is_in) in [
        (ONION, true),
        (&detached, true),
        (&deleted, false),
        (&secret, false),
    ] {
        assert_eq!(text.contains(onion), is_in, "{text}");
    }
    daemon.kill();
    tor.kill();
    let _tor = home.start();
    let daemon = serve(&place, &home).ready();
    is_connected(&daemon);
    let mut owner = daemon.connect();
    let (current, mut waiting) = lists(&mut owner);
    waiting.sort();
    let mut expected = vec![ONION.to_owned(), detached];
    expected.sort();
    assert_eq!((current, waiting), (Vec::new(), expected));
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    assert!(tor_has(&home));
}

#[test]
fn a_store_that_cannot_be_trusted_or_understood_ends_the_start() {
    if !has_tor() {
        return;
    }
    let (home, place) = (Home::new(), Place::new());
    let path = place.file("onions", "");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let said = serve(&place, &home).fails(1);
    assert!(said.contains("run 'chmod 600' on it"), "{said}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    drop(serve(&place, &home).ready());
    fs::write(&path, "onionbus onion store 1\nwhatever\n").unwrap();
    let said = serve(&place, &home).fails(1);
    assert!(
        said.contains("line 2 is none that onionbus has written"),
        "{said}"
    );
    let said = tor::serve(&place, &home)
        .set(&format!("BusOnionStore {}", path.display()))
        .fails(1);
    assert!(said.contains("set BusKeepOnions"), "{said}");
}

#[test]
fn what_cannot_be_written_is_not_made_and_not_deleted() {
    if !has_tor() || !support::is_root() {
        return;
    }
    let (home, place) = (Home::new(), Place::new());
    let _tor = home.start();
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    support::run(
        std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(&disk),
    );
    let daemon = tor::serve(&place, &home)
        .set("BusKeepOnions 600")
        .set(&format!("BusOnionStore {}", disk.join("onions").display()))
        .ready();
    is_connected(&daemon);
    let mut owner = daemon.connect();
    assert_eq!(owner.ask(&add("Port=80")), MADE);
    // Nothing more can be written.
    let full = disk.join("full");
    let _ = fs::write(&full, vec![0; 128 * 1024]);
    let refused = owner.ask("ADD_ONION NEW:BEST Port=80");
    assert!(
        refused.starts_with("551 The onion store cannot be written: "),
        "{refused}"
    );
    let refused = owner.ask(&format!("DEL_ONION {ONION}"));
    assert!(
        refused.starts_with("551 The onion store cannot be written: "),
        "{refused}"
    );
    assert_eq!(lists(&mut owner).0, [ONION]);
    assert!(tor_has(&home));
    fs::remove_file(&full).unwrap();
    assert_eq!(owner.ask(&format!("DEL_ONION {ONION}")), "250 OK");
    drop(daemon);
    support::run(std::process::Command::new("umount").arg(&disk));
}
