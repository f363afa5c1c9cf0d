//! What follows a command: what is noted of its answer, and how much of that is shown.

use std::time::Instant;

use super::*;
use crate::policy::Sequel;
use crate::wire::fields::Onion;
use crate::wire::reply::Reply;

fn sequel(grants: &Grants, line: &str) -> Option<Sequel> {
    Sequel::of(&allowed_of(grants, line))
}

#[track_caller]
fn shown(grants: &Grants, ledger: &Ledger, line: &str, reply: &str) -> String {
    let sequel = sequel(grants, line).expect("something follows");
    let shown = sequel.shown(reply.as_bytes().to_vec(), grants, ledger);
    String::from_utf8(shown).unwrap().replace("\r\n", "|")
}

#[test]
fn lists_have_the_lines_that_are_ones_own() {
    let lines = "Allow getinfo circuit-status version\nAllow circuits build own";
    let grants = grants_of(&alice(), lines);
    let owner = grants.owner().cloned().unwrap();
    let mut ledger = Ledger::default();
    let line = "GETINFO version circuit-status";
    let reply = "250-version=1\r\n250+circuit-status=\r\n1 BUILT\r\n2 BUILT\r\n3 BUILT\r\n.\r\n\
                 250 OK\r\n";
    for (circuit, expected) in [
        (9, "250-circuit-status="),
        (2, "250-circuit-status=2 BUILT"),
        (3, "250+circuit-status=|2 BUILT|3 BUILT|."),
    ] {
        ledger.handle_circuit(circuit, owner.clone());
        let whole = format!("250-version=1|{expected}|250 OK|");
        assert_eq!(shown(&grants, &ledger, line, reply), whole);
    }
    let one = "250-version=1\r\n250-circuit-status=4 BUILT\r\n250 OK\r\n";
    let whole = "250-version=1|250-circuit-status=|250 OK|";
    assert_eq!(shown(&grants, &ledger, line, one), whole);
    let refused = "551 no\r\n";
    assert_eq!(shown(&grants, &ledger, line, refused), "551 no|");
}

#[test]
fn answers_stand_in_their_places() {
    let lines = "Allow getinfo version\nAllow getconf Log\nAnswer a/b=\"x y\"\nAnswer Foo=1";
    let grants = grants_of(&alice(), lines);
    let ledger = Ledger::default();
    let reply = "250-version=1\r\n250 OK\r\n";
    let line = "GETINFO a/b version a/b";
    let whole = "250-a/b=x y|250-version=1|250-a/b=x y|250 OK|";
    assert_eq!(shown(&grants, &ledger, line, reply), whole);
    assert_eq!(
        sequel(&grants, line).unwrap().open_items(),
        [b"version".to_vec()]
    );
    let line = "GETCONF foo log FOO";
    let reply = "250-Log=a\r\n250 Log=b\r\n";
    let whole = "250-foo=1|250-Log=a|250-Log=b|250 FOO=1|";
    assert_eq!(shown(&grants, &ledger, line, reply), whole);
    let reply = sequel(&grants, "GETCONF foo").unwrap().whole();
    let expected = Reply::Conf(vec![("foo".into(), Some(b"1".to_vec()))]);
    assert_eq!(reply, Some(expected));
    assert_eq!(sequel(&grants, "GETINFO version"), None);
}

#[test]
fn what_was_made_is_its_owners() {
    let grants = grants_of(&alice(), "Allow add_onion ports=80\nAllow del_onion own");
    let owner = grants.owner().cloned();
    let mut ledger = Ledger::default();
    let onion = Onion::parse(ONION.as_bytes()).unwrap();
    let made = format!("250-ServiceID={ONION}\r\n250 OK\r\n");
    let add = sequel(&grants, "ADD_ONION NEW:BEST Port=80,8000").unwrap();
    assert!(add.needs_answer() && add.is_awaited());
    add.begin(&grants, &mut ledger, Instant::now());
    assert_eq!(ledger.count_onions(owner.as_ref()), 1);
    add.end(Some(b"512 no\r\n"), &grants, &mut ledger, Instant::now());
    assert_eq!(ledger.count_onions(owner.as_ref()), 0);
    add.begin(&grants, &mut ledger, Instant::now());
    let change = add.end(Some(made.as_bytes()), &grants, &mut ledger, Instant::now());
    assert_eq!(change, Some(crate::policy::Change::Onion(onion.clone())));
    assert!(ledger.owns_onion(&onion, owner.as_ref()));
    let del = Sequel::of(&match judge(
        &grants,
        &ledger,
        &Behind::default(),
        &fields(&format!("DEL_ONION {ONION}")),
    ) {
        Verdict::Allow(allowed) => allowed,
        Verdict::Refuse(refused) => panic!("{refused:?}"),
    })
    .unwrap();
    del.end(None, &grants, &mut ledger, Instant::now());
    assert!(
        ledger.owns_onion(&onion, owner.as_ref()),
        "it was not answered"
    );
    del.end(Some(b"250 OK\r\n"), &grants, &mut ledger, Instant::now());
    assert!(!ledger.owns_onion(&onion, owner.as_ref()));
}

#[test]
fn what_is_fetched_or_posted_is_told_of() {
    let grants = grants_of(
        &alice(),
        "Allow hsfetch\nAllow hspost\nAllow events HS_DESC:own",
    );
    for line in [
        format!("HSFETCH {ONION}"),
        format!("+HSPOST HSADDRESS={ONION}\r\nhs-descriptor 3\r\n."),
    ] {
        let mut ledger = Ledger::default();
        let deliver = |ledger: &Ledger| {
            let event = format!("650 HS_DESC FAILED {ONION} NO_AUTH $A REASON=UPLOAD_REJECTED\r\n");
            ledger.deliver(&grants, 1, event.as_bytes(), None, Instant::now())
        };
        assert_eq!(deliver(&ledger), Delivery::No);
        let sequel = sequel(&grants, &line).unwrap();
        sequel.begin(&grants, &mut ledger, Instant::now());
        assert_eq!(deliver(&ledger), Delivery::Yes, "{line}");
    }
}
