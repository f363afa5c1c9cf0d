//! Messages for those who may read them, and frames, which are judged as what they stand for.

use crate::people::{ADMIN, ALICE, BOB, connect, has_people, place, serve};
use crate::replies;
use crate::support;

#[test]
fn frames_are_judged_as_the_commands_they_stand_for() {
    if !has_people() {
        return;
    }
    let place = place("Profile a\nMatch any\nAllow busconf get BusHistory\n", "");
    let options = place.path("onionbus.conf");
    let mut text = std::fs::read_to_string(&options).expect("it is text");
    // "Unauthorized" in the draft of 2004, and in the last version.
    let dialects = [
        ("tc", 5, &b"BusHistory\x00100\0"[..]),
        ("v0", 7, b"BusHistory 100\n"),
    ];
    for (dialect, ..) in dialects {
        let path = place.path(dialect).display().to_string();
        text += &["BusSocket ", &path, " Protocol=", dialect, "\n"].concat();
    }
    place.file("onionbus.conf", &text);
    let _daemon = serve(&place).ready();
    for (dialect, unauthorized, answer) in dialects {
        let mut controller = support::Controller::at(&place.path(dialect));
        controller.send_frame(0x0003, b"BusHistory\0");
        assert_eq!(controller.frame(), (0x0004, answer.to_vec()), "{dialect}");
        for (kind, body) in [(0x0003, &b"BusLog\0"[..]), (0xF000, b"x\0")] {
            controller.send_frame(kind, body);
            let (kind, body) = controller.frame();
            let refused = (0x0000, &[0, unauthorized][..]);
            let said = body.escape_ascii();
            assert_eq!((kind, &body[..2]), refused, "{dialect}: {said}");
        }
    }
}

#[test]
fn messages_are_for_those_who_may_read_them() {
    if !has_people() {
        return;
    }
    let policy = format!(
        "Profile a\nMatch user={ALICE}\nAllow name {{uid}}_*\nAllow post @all @{BOB}_x\n\
         Allow read @{ALICE}_x\n\
         Profile b\nMatch user={BOB}\nAllow name {{uid}}_*\nAllow post @all @{ALICE}_x\n\
         Allow read @all\nAllow list\n"
    );
    let place = place(&policy, "");
    let _daemon = serve(&place).ready();
    let (mut alice, mut bob) = (connect(&place, ALICE, &[]), connect(&place, BOB, &[]));
    alice.ok(&format!("CONTROLLERNAME {ALICE}_x"));
    bob.ok(&format!("CONTROLLERNAME {BOB}_x"));
    alice.ok("SETEVENTS POSTMESSAGE");
    bob.ok("SETEVENTS POSTMESSAGE");
    replies(
        &mut bob,
        &[
            ("POSTMESSAGE @nobody x", "510 Command filtered (b)"),
            ("GETINFO list-controllers", "250"),
        ],
    );
    // What each may read, of one to all and one to either.
    bob.send(format!(
        "POSTMESSAGE @all one\r\nPOSTMESSAGE @{ALICE}_x two\r\n"
    ));
    assert_eq!(alice.next_message().1, format!("{BOB}_x @{ALICE}_x two"));
    alice.send(format!(
        "POSTMESSAGE @{BOB}_x three\r\nPOSTMESSAGE @all four\r\n"
    ));
    let mut said: Vec<_> = (0..4).map(|_| bob.reply()).collect();
    said.retain(|reply| reply.starts_with("650"));
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].ends_with(" @all one") && said[1].ends_with(" @all four"),
        "{said:?}"
    );
    let recent = bob.ask("GETINFO recent-messages");
    assert!(
        recent.contains(" @all one") && !recent.contains(" three"),
        "{recent}"
    );
    assert_eq!(
        (alice.reply(), alice.reply()),
        ("250 OK".into(), "250 OK".into())
    );
    let recent = alice.ask("GETINFO recent-messages");
    assert!(
        recent.contains(" two") && !recent.contains("@all"),
        "{recent}"
    );
    replies(&mut alice, &[("GETINFO list-controllers", "552 ")]);
}

#[test]
fn frames_show_no_other_messages_than_text_does() {
    if !has_people() {
        return;
    }
    let policy = format!(
        "Profile a\nMatch user={ALICE}\nAllow read @{ALICE}_x\nAllow name {{uid}}_*\n\
         Profile admin\nMatch user={ADMIN}\nAllow all\n"
    );
    let place = place(&policy, "");
    let _daemon = serve(&place).ready();
    let (mut admin, mut alice) = (connect(&place, ADMIN, &[]), connect(&place, ALICE, &[]));
    alice.send_frame(0xF000, format!("{ALICE}_x\0").as_bytes());
    assert_eq!(alice.frame().0, 0x0001);
    admin.ok("POSTMESSAGE @all secret");
    admin.ok(&format!("POSTMESSAGE @{ALICE}_x hers"));
    // Of the unread ones, of the newest.
    for kind in [0xF003, 0xF002] {
        alice.send_frame(kind, b"");
        let (_, body) = alice.frame();
        let shown = body.escape_ascii().to_string();
        assert!(shown.contains("hers"), "{kind:x}: {shown}");
        assert!(!shown.contains("secret"), "{kind:x}: {shown}");
    }
}
