//! What is one's own, and what is another's.

use std::time::{Duration, Instant};

use super::Delivery::{No, Wait, Yes};
use super::*;
use crate::wire::fields::Onion;
use crate::wire::message::{ControllerId, Destination, Message};

const OTHER: &str = "5mopv5h6fi7vx77g4ypi6nrgndhtxnk3e7fljqddkbmjptpbej7cdwqd";

#[test]
fn what_is_anothers_is_not_there() {
    let lines = "Allow del_onion own\nAllow client_auth add remove view own\n\
        Allow circuits close extend build purpose own\nAllow streams attach close redirect own\n\
        Own-Socks unix:/run/s";
    let (mine, theirs) = (grants_of(&alice(), lines), grants_of(&bob(), lines));
    let owner = mine.owner().cloned().unwrap();
    let mut ledger = Ledger::default();
    let onion = Onion::parse(ONION.as_bytes()).unwrap();
    ledger.handle_onion(Some(&owner), Some(&onion));
    ledger.handle_key(&onion, owner.clone(), false);
    ledger.handle_circuit(7, owner);
    ledger.handle_event(b"650 STREAM 3 NEW 0 a:80 SOURCE_ADDR=/run/s:0 PURPOSE=USER\r\n");
    let del = format!("DEL_ONION {ONION}");
    let upper = format!("DEL_ONION {}", ONION.to_uppercase());
    let add = format!("ONION_CLIENT_AUTH_ADD {ONION} x25519:AAAA");
    let remove = format!("ONION_CLIENT_AUTH_REMOVE {ONION}");
    let other = format!("ONION_CLIENT_AUTH_ADD {OTHER} x25519:AAAA");
    let no_key = format!("251 No credentials for \"{ONION}\"");
    for (line, own, foreign) in [
        (&del[..], "", "552 Unknown Onion Service id"),
        (
            &upper,
            "552 Unknown Onion Service id",
            "552 Unknown Onion Service id",
        ),
        (&add, "", FILTERED),
        (&other, "", ""),
        (&remove, "", &no_key),
        ("CLOSECIRCUIT 7", "", "552 Unknown circuit \"7\""),
        (
            "CLOSECIRCUIT 8",
            "552 Unknown circuit \"8\"",
            "552 Unknown circuit \"8\"",
        ),
        ("EXTENDCIRCUIT 7 a", "", "552 Unknown circuit \"7\""),
        ("EXTENDCIRCUIT 0 a", "", ""),
        (
            "SETCIRCUITPURPOSE 7 purpose=general",
            "",
            "552 Unknown circuit \"7\"",
        ),
        // The same listener is the way of both.
        ("CLOSESTREAM 3 1", "", ""),
        (
            "CLOSESTREAM 4 1",
            "552 Unknown stream \"4\"",
            "552 Unknown stream \"4\"",
        ),
        ("REDIRECTSTREAM 3 b", "", ""),
        (
            "REDIRECTSTREAM 4 b",
            "552 Unknown stream \"4\"",
            "552 Unknown stream \"4\"",
        ),
        ("TAKEOWNERSHIP", FILTERED, FILTERED),
        ("ATTACHSTREAM 3 7", "", "552 Unknown circuit \"7\""),
        ("ATTACHSTREAM 3 0", "", ""),
    ] {
        for (grants, expected) in [(&mine, own), (&theirs, foreign)] {
            let expected = if expected.is_empty() { line } else { expected };
            assert_eq!(outcome(grants, &ledger, line), expected, "{line}");
        }
    }
    assert!(allowed_of(&mine, "ONION_CLIENT_AUTH_VIEW").views.own_keys);
    let any = grants_of(
        &bob(),
        "Allow client_auth view any\nAllow client_auth remove any",
    );
    assert!(!allowed_of(&any, "ONION_CLIENT_AUTH_VIEW").views.own_keys);
    assert_eq!(outcome(&any, &ledger, &remove), remove);
}

#[test]
fn lines_of_answers_are_own_or_not() {
    let (mine, theirs) = (grants_of(&alice(), ""), grants_of(&bob(), ""));
    let owner = mine.owner().cloned().unwrap();
    let mut ledger = Ledger::default();
    let onion = Onion::parse(ONION.as_bytes()).unwrap();
    ledger.handle_onion(Some(&owner), Some(&onion));
    ledger.handle_key(&onion, owner.clone(), false);
    ledger.handle_circuit(7, owner);
    let client = format!("CLIENT {ONION} x25519:AAAA");
    for (key, line) in [
        ("circuit-status", "7 BUILT $A PURPOSE=GENERAL"),
        ("onions/current", ONION),
        ("onions/detached", ONION),
        ("CLIENT", &client),
    ] {
        let own = |grants| ledger.is_own_line(key.as_bytes(), line.as_bytes(), grants);
        assert!(own(&mine) && !own(&theirs), "{key}");
    }
    for (key, line) in [
        ("circuit-status", "8 BUILT $A"),
        ("circuit-status", ""),
        ("stream-status", "7 SUCCEEDED 7 a:80"),
        ("onions/current", OTHER),
        ("CLIENT", ONION),
        ("version", "7"),
    ] {
        assert!(
            !ledger.is_own_line(key.as_bytes(), line.as_bytes(), &mine),
            "{key} {line}"
        );
    }
}

#[test]
fn a_failed_mapping_owns_nothing_that_it_makes() {
    let nobody = Identity {
        uid: 65534,
        ..alice()
    };
    let grants = grants_of(&nobody, "Allow del_onion own\nAllow circuits close own");
    let mut ledger = Ledger::default();
    ledger.handle_onion(None, Some(&Onion::parse(ONION.as_bytes()).unwrap()));
    let line = format!("DEL_ONION {ONION}");
    assert_eq!(
        outcome(&grants, &ledger, &line),
        "552 Unknown Onion Service id"
    );
}

#[test]
fn a_circuit_is_own_by_its_builder_or_by_all_its_streams() {
    let grants = grants_of(
        &alice(),
        "Own-Socks user=alice:\nAllow events CIRC:own STREAM:own CIRC_BW:own CIRC_MINOR:own",
    );
    let mut ledger = Ledger::default();
    let now = Instant::now();
    let mut hear = |event: &str| {
        ledger.handle_event(event.as_bytes());
        ledger.deliver(&grants, 1, event.as_bytes(), None, now)
    };
    let (yes, no) = (Delivery::Yes, Delivery::No);
    for (event, expected) in [
        ("650 CIRC 5 BUILT $A PURPOSE=GENERAL\r\n", no),
        (
            "650 CIRC_MINOR 5 CANNIBALIZED $A OLD_PURPOSE=GENERAL\r\n",
            no,
        ),
        // A name cannot forge a keyword, since it is in quotes.
        (
            "650 STREAM 1 NEW 0 a:80 SOCKS_USERNAME=\"x SOCKS_USERNAME=alice:\" X=1\r\n",
            no,
        ),
        (
            "650 STREAM 1 NEW 0 a:80 SOCKS_USERNAME=\"\\\" SOCKS_USERNAME=alice:\"\r\n",
            no,
        ),
        (
            "650 STREAM 2 NEW 0 a:80 PURPOSE=USER SOCKS_USERNAME=\"alice:1\"\r\n",
            yes,
        ),
        ("650 STREAM 2 SENTCONNECT 5 a:80\r\n", yes),
        ("650 CIRC 5 BUILT $A\r\n", yes),
        ("650 CIRC_BW ID=5 READ=1\r\n", yes),
        (
            "650 CIRC_MINOR 5 PURPOSE_CHANGED $A OLD_PURPOSE=GENERAL\r\n",
            yes,
        ),
        (
            "650 CIRC_MINOR 6 PURPOSE_CHANGED $A OLD_PURPOSE=GENERAL\r\n",
            no,
        ),
        ("650 CIRC_MINOR x PURPOSE_CHANGED\r\n", no),
        ("650 STREAM 1 SENTCONNECT 5 a:80\r\n", no),
        ("650 CIRC 5 BUILT $A\r\n", no),
        ("650 CIRC_MINOR 5 PURPOSE_CHANGED $A\r\n", no),
        ("650 STREAM 1 DETACHED 5 a:80\r\n", no),
        ("650 CIRC 5 BUILT $A\r\n", yes),
        ("650 STREAM 2 CLOSED 5 a:80 REASON=END\r\n", yes),
        ("650 STREAM 2 CLOSED 5 a:80 REASON=END\r\n", no),
        ("650 STREAM x NEW 0 a:80 SOCKS_USERNAME=alice:\r\n", no),
        ("650 STREAM\r\n", no),
        ("650 \r\n", no),
        ("", no),
        // A stream whose beginning was not seen.
        (
            "650 STREAM 9 SUCCEEDED 6 a:80 SOCKS_USERNAME=\"alice:\"\r\n",
            no,
        ),
    ] {
        assert_eq!(hear(event), expected, "{event}");
    }
}

/// Events as Tor 0.4.9.11 wrote them, of SOCKS listeners at two paths and a port, whatever path the
/// client itself was bound to.
#[test]
fn a_stream_is_own_by_the_listener_that_it_came_through() {
    let end = "PURPOSE=USER SOCKS_USERNAME=\"alice\" SOCKS_PASSWORD=\"p\" CLIENT_PROTOCOL=SOCKS5 \
        NYM_EPOCH=0 SESSION_GROUP=-4 ISO_FIELDS=SOCKS_USERNAME,SOCKS_PASSWORD,SESSION_GROUP\r\n";
    let mut ledger = Ledger::default();
    for (id, source) in [
        (6, "/run/h/socks:0"),
        (7, "/run/h/so cks:0"),
        (8, "127.0.0.1:49188"),
    ] {
        let event = format!("650 STREAM {id} NEW 0 example.com:80 SOURCE_ADDR={source} {end}");
        ledger.handle_event(event.as_bytes());
    }
    for (path, own) in [
        ("/run/h/socks", Some(6)),
        // Tor writes a blank in a path as it is, where it looks like the end.
        ("/run/h/so", None),
        ("/run/h/sock", None),
        ("/run/h/socks:0", None),
        ("/run/h", None),
        ("/socks", None),
    ] {
        let grants = grants_of(&alice(), &format!("Own-Socks unix:{path}"));
        for id in 6..=8 {
            let is_own = ledger.is_own_stream(id, &grants);
            assert_eq!(is_own, own == Some(id), "{path} {id}");
        }
    }
}

#[test]
fn what_has_ended_takes_no_memory() {
    let mut ledger = Ledger::default();
    let owner = alice().owner().unwrap();
    for id in 1..50 {
        ledger.handle_circuit(id, owner.clone());
        for event in [
            format!("650 STREAM {id} NEW 0 a:80 SOURCE_ADDR=1.2.3.4:5\r\n"),
            format!("650 STREAM {id} SENTCONNECT {id} a:80\r\n"),
            format!("650 STREAM {id} DETACHED {id} a:80\r\n"),
            format!("650 STREAM {id} SENTCONNECT 9{id} a:80\r\n"),
            format!("650 STREAM {id} CLOSED 9{id} a:80\r\n"),
            format!("650 CIRC {id} CLOSED REASON=FINISHED\r\n"),
            "650 SIGNAL NEWNYM\r\n".to_owned(),
        ] {
            ledger.handle_event(event.as_bytes());
        }
        ledger.handle_signal("NEWNYM", owner.clone(), Instant::now());
    }
    ledger.handle_event(b"650 SIGNAL NEWNYM\r\n");
    ledger.handle_event(b"650 BW 1 1\r\n");
    assert_eq!(format!("{ledger:?}"), format!("{:?}", Ledger::default()));
}

#[test]
fn events_of_ones_own_are_delivered() {
    let lines = "Allow events HS_DESC:own HS_DESC_CONTENT:own SIGNAL:own CONF_CHANGED:own \
        CONTROLLER:own ACTION:own BW:quiet";
    let (mine, theirs) = (grants_of(&alice(), lines), grants_of(&bob(), lines));
    let (me, them) = (
        mine.owner().cloned().unwrap(),
        theirs.owner().cloned().unwrap(),
    );
    let onion = Onion::parse(ONION.as_bytes()).unwrap();
    let now = Instant::now();
    let mut ledger = Ledger::default();
    let desc = format!("650 HS_DESC UPLOAD {ONION} UNKNOWN $A\r\n");
    let content = format!("650+HS_DESC_CONTENT {ONION} x $A\r\n.\r\n650 OK\r\n");
    let to = |ledger: &Ledger, grants: &Grants, event: &str, after: u64| {
        let now = now + Duration::from_millis(after);
        ledger.deliver(grants, 1, event.as_bytes(), Some(&them), now)
    };
    assert_eq!(to(&ledger, &mine, &desc, 0), No);
    ledger.handle_add_onion(Some(&me));
    assert_eq!(
        (to(&ledger, &mine, &desc, 0), to(&ledger, &theirs, &desc, 0)),
        (Wait, Wait)
    );
    ledger.handle_onion(Some(&me), Some(&onion));
    assert_eq!(
        (to(&ledger, &mine, &desc, 0), to(&ledger, &theirs, &desc, 0)),
        (Yes, No)
    );
    ledger.handle_fetch(&onion, them.clone());
    assert_eq!(to(&ledger, &theirs, &content, 0), Yes);
    ledger.handle_signal("RELOAD", me.clone(), now);
    assert_eq!(to(&ledger, &mine, "650 SIGNAL RELOAD\r\n", 900), Yes);
    assert_eq!(to(&ledger, &mine, "650 SIGNAL RELOAD\r\n", 1100), No);
    assert_eq!(to(&ledger, &theirs, "650 SIGNAL RELOAD\r\n", 0), No);
    for owner in [&me, &them] {
        ledger.handle_signal("NEWNYM", owner.clone(), now);
    }
    let newnym = "650 SIGNAL NEWNYM\r\n";
    ledger.handle_event(newnym.as_bytes());
    assert_eq!(
        (
            to(&ledger, &mine, newnym, 9000),
            to(&ledger, &theirs, newnym, 9000)
        ),
        (Yes, Yes)
    );
    ledger.handle_event(newnym.as_bytes());
    assert_eq!(to(&ledger, &mine, newnym, 9000), No);
    ledger.handle_option(b"Log", me.clone(), now);
    ledger.handle_option_answered(b"LOG", me.clone(), now);
    let changed = "650-CONF_CHANGED\r\n650-Log=notice\r\n650 OK\r\n";
    let more = "650-CONF_CHANGED\r\n650-Log=notice\r\n650-SocksPort\r\n650 OK\r\n";
    assert_eq!(
        (
            to(&ledger, &mine, changed, 0),
            to(&ledger, &theirs, changed, 0)
        ),
        (Yes, No)
    );
    assert_eq!(to(&ledger, &mine, more, 0), No);
    assert_eq!(
        to(
            &ledger,
            &mine,
            "650 CONTROLLER CONNECTED 1 a UID=1 PID=1\r\n",
            0
        ),
        Yes
    );
    assert_eq!(
        to(
            &ledger,
            &mine,
            "650 CONTROLLER CONNECTED 11 a UID=1 PID=1\r\n",
            0
        ),
        No
    );
    assert_eq!(to(&ledger, &theirs, "650 ACTION 1\r\n", 0), Yes);
    assert_eq!(to(&ledger, &mine, "650 ACTION 1\r\n", 0), No);
    assert_eq!(to(&ledger, &mine, "650 BW 1 2\r\n", 0), No);
    assert_eq!(to(&ledger, &mine, "650 TOR UP\r\n", 0), Yes);
}

#[test]
fn keys_that_tor_has_dropped_are_nobodys() {
    let lines = "Allow client_auth add own\nAllow setconf Log";
    let (alice, bob) = (grants_of(&alice(), lines), grants_of(&bob(), lines));
    let add = format!("ONION_CLIENT_AUTH_ADD {ONION} x25519:{}=", "A".repeat(43));
    let sequel = |grants: &Grants, line: &str| Sequel::of(&allowed_of(grants, line)).unwrap();
    let mut ledger = Ledger::default();
    let set = |ledger: &mut Ledger, line: &str| {
        let sequel = sequel(&alice, line);
        sequel.end(Some(b"250 OK\r\n"), &alice, ledger, Instant::now());
    };
    let may = |ledger: &Ledger| outcome(&bob, ledger, &add) == add;
    for dropped in [
        "650-CONF_CHANGED\r\n650-Log=notice\r\n650 OK\r\n",
        "650 SIGNAL RELOAD\r\n",
    ] {
        set(&mut ledger, &add);
        assert!(!may(&ledger));
        ledger.handle_event(b"650 SIGNAL NEWNYM\r\n");
        assert!(!may(&ledger), "only a Tor with a proxy has dropped it");
        ledger.handle_event(dropped.as_bytes());
        assert!(may(&ledger), "{dropped}");
    }
    // Of a value that is the same Tor tells nothing, and drops them too.
    set(&mut ledger, &add);
    let change = sequel(&alice, "SETCONF Log=notice");
    assert!(change.needs_answer() && !change.is_awaited());
    change.end(Some(b"513 no\r\n"), &alice, &mut ledger, Instant::now());
    assert!(!may(&ledger));
    change.end(Some(b"250 OK\r\n"), &alice, &mut ledger, Instant::now());
    assert!(may(&ledger));
    // Those on disk stay.
    set(&mut ledger, &format!("{add} Flags=Permanent"));
    ledger.handle_configuration();
    assert!(!may(&ledger));
}

#[test]
fn a_key_is_its_owners_as_long_as_tor_has_it() {
    let lines = "Allow client_auth add remove own";
    let (mine, theirs) = (grants_of(&alice(), lines), grants_of(&bob(), lines));
    let [onion, other] = [ONION, OTHER].map(|one| Onion::parse(one.as_bytes()).unwrap());
    let may = |ledger: &Ledger, grants: &Grants, address: &str| {
        let add = format!("ONION_CLIENT_AUTH_ADD {address} x25519:{}=", "A".repeat(43));
        let remove = format!("ONION_CLIENT_AUTH_REMOVE {address}");
        [add, remove].map(|line| outcome(grants, ledger, &line) == line)
    };
    let (owner, anybody, nobody) = ([true, true], [true, false], [false, false]);
    let restarted = |is_permanent, listed: Option<&[(Onion, bool)]>| {
        let mut ledger = Ledger::default();
        ledger.handle_key(&onion, mine.owner().cloned().unwrap(), is_permanent);
        ledger.clear();
        assert_eq!(may(&ledger, &theirs, ONION), nobody, "before Tor has said");
        let listed = listed.map(|listed| listed.iter().cloned().collect());
        ledger.handle_keys(listed.as_ref());
        ledger
    };
    // Also where only the daemon's connection has ended.
    for is_permanent in [true, false] {
        let ledger = restarted(is_permanent, Some(&[(onion.clone(), is_permanent)]));
        assert_eq!(may(&ledger, &mine, ONION), owner);
        assert_eq!(may(&ledger, &theirs, ONION), nobody);
        let ledger = restarted(is_permanent, Some(&[]));
        assert_eq!(may(&ledger, &theirs, ONION), anybody);
    }
    // A Tor that does not say has what is on disk.
    assert_eq!(may(&restarted(true, None), &theirs, ONION), nobody);
    assert_eq!(may(&restarted(false, None), &theirs, ONION), anybody);
    // One that nobody has set through the daemon is another's for everybody, as long as it is there.
    let listed = [(onion.clone(), true), (other.clone(), false)];
    let mut ledger = restarted(true, Some(&listed));
    assert_eq!(may(&ledger, &mine, OTHER), nobody);
    assert_eq!(may(&ledger, &theirs, OTHER), nobody);
    ledger.handle_configuration();
    assert_eq!(may(&ledger, &theirs, OTHER), anybody);
    // One that was set since Tor was asked is not among those that it lists.
    ledger.handle_key(&other, theirs.owner().cloned().unwrap(), false);
    ledger.handle_keys(Some(&[(onion.clone(), true)].into()));
    assert_eq!(may(&ledger, &theirs, OTHER), owner);
    assert_eq!(may(&ledger, &mine, OTHER), nobody);
}

#[test]
fn a_command_explains_its_event_however_long_it_takes() {
    let grants = grants_of(&alice(), "Allow setconf Log\nAllow events CONF_CHANGED:own");
    let sequel = Sequel::of(&allowed_of(&grants, "SETCONF Log=notice")).unwrap();
    let (mut ledger, begun) = (Ledger::default(), Instant::now());
    let after = |seconds| begun + Duration::from_secs(seconds);
    let event = b"650-CONF_CHANGED\r\n650-Log=notice\r\n650 OK\r\n";
    let deliver =
        |ledger: &Ledger, seconds| ledger.deliver(&grants, 1, event, None, after(seconds));
    sequel.begin(&grants, &mut ledger, begun);
    sequel.begin(&grants, &mut ledger, after(1));
    // Another command's is no reason to forget it.
    ledger.handle_option(b"Other", alice().owner().unwrap(), after(5));
    assert_eq!(deliver(&ledger, 9), Yes);
    sequel.end(Some(b"250 OK\r\n"), &grants, &mut ledger, after(10));
    assert_eq!(deliver(&ledger, 19), Yes, "one is not answered");
    sequel.end(None, &grants, &mut ledger, after(20));
    assert_eq!((deliver(&ledger, 21), deliver(&ledger, 22)), (Yes, No));
}

#[test]
fn what_is_built_is_ones_own() {
    let ledger = Ledger::default();
    for (lines, expected) in [
        ("Allow all\nDeny circuits build own", FILTERED),
        ("Allow all\nDeny circuits build any", FILTERED),
        (
            "Allow circuits build any\nDeny circuits build own",
            FILTERED,
        ),
        ("Allow circuits build own", ""),
        ("Allow circuits build any", ""),
        ("Allow all\nDeny circuits close own", ""),
    ] {
        let grants = grants_of(&alice(), lines);
        for line in ["EXTENDCIRCUIT 0", "EXTENDCIRCUIT 0 a,b"] {
            let expected = if expected.is_empty() { line } else { expected };
            assert_eq!(outcome(&grants, &ledger, line), expected, "{lines}");
        }
    }
}

#[test]
fn a_view_of_all_keys_is_denied_with_that_of_some() {
    let ledger = Ledger::default();
    let line = "ONION_CLIENT_AUTH_VIEW";
    for scope in ["own", "any"] {
        let lines = format!("Allow all\nDeny client_auth view {scope}");
        let grants = grants_of(&alice(), &lines);
        assert_eq!(outcome(&grants, &ledger, line), FILTERED, "{lines}");
    }
}

#[test]
fn a_circuit_that_was_built_is_known_until_it_ends() {
    let grants = grants_of(&alice(), "Allow all");
    let owner = grants.owner().cloned().unwrap();
    let mut ledger = Ledger::default();
    assert!(!ledger.has_built());
    ledger.handle_circuit(7, owner);
    assert!(ledger.has_built());
    ledger.handle_event(b"650 CIRC 7 CLOSED REASON=FINISHED\r\n");
    // It is known while that is delivered.
    assert!(ledger.has_built());
    ledger.handle_event(b"650 CIRC 8 LAUNCHED\r\n");
    assert!(!ledger.has_built());
}

#[test]
fn who_complains_gets_all_messages_and_names() {
    let message = |destination: Destination| Message {
        id: 1,
        source: None,
        destination,
        text: b"x".as_slice().into(),
    };
    let name = ControllerId::parse(b"x").unwrap();
    for (lines, expected) in [("Complain", true), ("", false)] {
        let grants = grants_of(&alice(), lines);
        assert_eq!(grants.may_be_named(&name), expected, "{lines}");
        for destination in [Destination::All, Destination::Name(name.clone())] {
            let message = message(destination);
            assert_eq!(grants.reads_message(&message), expected, "{lines}");
        }
    }
}
