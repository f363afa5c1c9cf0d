//! Where onion services may lead, with a real Tor and sockets of every kind.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;

use crate::people::{ADMIN, ALICE, BOB, connect, has_people, place, serve};
use crate::replies;
use crate::support::Controller;
use crate::tor::{Home, has_tor};

/// The port of a listener of Tor's.
fn port(controller: &mut Controller, listeners: &str) -> String {
    let found = controller.info(&format!("net/listeners/{listeners}"));
    let port = found.trim_matches('"').rsplit(':').next();
    port.expect("a port").to_owned()
}

#[test]
fn no_service_leads_to_a_listener_of_tors_or_of_the_daemons() {
    if !has_people() || !has_tor() {
        return;
    }
    let everybody = fs::Permissions::from_mode(0o755);
    // Only root can write to any directory on the way.
    let run = tempfile::Builder::new()
        .permissions(everybody)
        .tempdir_in("/run")
        .expect("root can make it");
    let at = |name: &str| run.path().join(name);
    fs::create_dir(at("tor")).expect("it is new");
    fs::set_permissions(at("tor"), fs::Permissions::from_mode(0o700)).expect("it is ours");
    symlink("tor", at("link")).expect("it is new");
    symlink(".", at("again")).expect("it is new");
    let passed = UnixListener::bind(at("passed")).expect("a socket");
    let home = Home::bare();
    // It opens its listeners, and there is nobody to connect to.
    home.add(&format!(
        "SocksPort auto\nDNSPort auto\nControlPort auto\nUseBridges 1\nBridge 127.0.0.1:1\n\
         ControlSocket unix:{}",
        at("tor/control").display()
    ));
    let tor = home.start();
    let control = tor.port.expect("it has one").port().to_string();
    let run = run.path().display().to_string();
    let policy = format!(
        "Profile a\nMatch user={ALICE}\nAllow getinfo *\nAllow add_onion ports=* max=9 \
         target=unix:{run}/* target=unix:{run}/*/* target=loopback\n\
         Profile b\nMatch user={BOB}\nAllow all\nDeny add_onion target=unix:{run}/x\n\
         Profile c\nMatch user={ADMIN}\nAllow add_onion ports=* target=loopback:1-65535\n"
    );
    let lines = format!(
        "BusTor {}\nBusProtectedPorts 17777\nBusSocket {run}/own",
        home.address()
    );
    let place = place(&policy, &lines);
    let daemon = serve(&place).passing(Some("control"), vec![passed]).ready();
    daemon.logs("is there, at");
    let (mut alice, mut bob) = (connect(&place, ALICE, &[]), connect(&place, BOB, &[]));
    let (socks, dns) = (port(&mut alice, "socks"), port(&mut alice, "dns"));
    let (made, filtered) = (
        "250-ServiceID=",
        "512 Bad arguments to ADD_ONION: filtered: Port",
    );
    for (target, expected) in [
        (format!("unix:{run}/x"), made),
        (format!("unix:{run}/again/x"), made),
        (format!("unix:{run}/tor/control"), filtered),
        (format!("unix:{run}/link/control"), filtered),
        (format!("unix:{run}/own"), filtered),
        (format!("unix:{run}/again/own"), filtered),
        (format!("unix:{run}/passed"), filtered),
        (format!("unix:{run}/again/passed"), filtered),
        ("17600".into(), made),
        ("17777".into(), filtered),
        (socks.clone(), filtered),
        (dns, filtered),
        (control.clone(), filtered),
    ] {
        let line = format!("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,{target}");
        replies(&mut alice, &[(&line, expected)]);
    }
    let mut named = connect(&place, ADMIN, &[]);
    for (target, expected) in [
        (format!("127.0.0.1:{socks}"), made),
        ("17777".into(), made),
        (format!("127.0.0.1:{control}"), filtered),
        (format!("[::1]:{control}"), filtered),
    ] {
        let line = format!("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,{target}");
        replies(&mut named, &[(&line, expected)]);
    }
    let denied = "510 Command filtered (b)";
    for (target, expected) in [
        (format!("unix:{run}/y"), made),
        (format!("unix:{run}/x"), denied),
        (format!("unix:{run}/./x"), denied),
        (format!("unix:{run}//x"), denied),
        (format!("unix:{run}/again/x"), denied),
    ] {
        let line = format!("ADD_ONION NEW:BEST Flags=DiscardPK Port=80,{target}");
        replies(&mut bob, &[(&line, expected)]);
    }
}
