//! The bus's own commands among Tor's: every reply in its place, every change made whole or not at
//! all.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::tor::{Pair, has_tor};
use crate::wire::Wire;

/// Adds a key for a client, without a name.
const CLIENT_KEY: &str = "ONION_CLIENT_AUTH_ADD \
    duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad \
    x25519:aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=";

/// A command and its reply, with a number by which they are known.
#[derive(Clone, Debug)]
struct Known {
    command: String,
    reply: String,
}

fn known(command: impl Into<String>, reply: impl Into<String>) -> Known {
    let (command, reply) = (command.into(), reply.into());
    Known { command, reply }
}

fn any_known() -> impl Strategy<Value = Known> {
    let of_tor = any::<u16>().prop_flat_map(|n| {
        prop_oneof![
            Just(known(
                format!("UNKNOWN{n}\r\n"),
                format!("510 Unrecognized command \"UNKNOWN{n}\"\r\n")
            )),
            Just(known(
                format!("GETINFO none/{n}\r\n"),
                format!("552 Unrecognized key \"none/{n}\"\r\n")
            )),
            Just(known(
                format!("signal x{n}\r\n"),
                format!("552 Unrecognized signal code \"x{n}\"\r\n")
            )),
            Just(known(
                format!("SETCONF ContactInfo={n}\r\nGETCONF ContactInfo\r\n"),
                format!("250 OK\r\n250 ContactInfo={n}\r\n")
            )),
            Just(known(
                format!("+LOADCONF\r\nGETINFO new-messages\r\nUnknown{n} 1\r\n.\r\n"),
                "(UNKNOWN OPTION)"
            )),
        ]
    });
    let of_none = prop_oneof![
        Just(known("+HSPOST\r\nx\r\nSETEVENTS BW\r\n.\r\n", "")),
        Just(known("SETCIRCUITPURPOSE\r\n", {
            "512 Bad arguments to SETCIRCUITPURPOSE: Need at least 1 argument(s)\r\n"
        })),
        Just(known(
            format!("{CLIENT_KEY} ClientName=seventeen_letters\r\n"),
            "(TWO REPLIES)"
        )),
    ];
    let of_bus = any::<u16>().prop_flat_map(|n| {
        let history = n % 100;
        prop_oneof![
            Just(known(
                format!("SETEVENTS NONE{n}\r\n"),
                format!("552 Unrecognized event \"NONE{n}\"\r\n")
            )),
            Just(known(
                format!("SETCONF BusHistory={history}\r\nGETCONF bushistory\r\n"),
                format!("250 OK\r\n250 BusHistory={history}\r\n")
            )),
            Just(known(
                "GETINFO new-messages\r\n",
                "250-new-messages=\r\n250 OK\r\n"
            )),
            Just(known("POSTMESSAGE @unset x\r\n", {
                "552 Invalid destination controller name\r\n"
            })),
            Just(known("AUTHENTICATE\r\n", "250 OK\r\n")),
            Just(known(
                "SETEVENTS SIGNAL\r\nSETEVENTS\r\n",
                "250 OK\r\n250 OK\r\n"
            )),
        ]
    });
    let of_both = any::<u16>().prop_flat_map(|n| {
        let history = n % 100;
        prop_oneof![
            Just(known(
                format!("GETINFO none/{n} new-messages\r\n"),
                format!("552 Unrecognized key \"none/{n}\"\r\n")
            )),
            Just(known(
                format!("GETINFO none/{n} info/names\r\n"),
                format!("552 Unrecognized key \"none/{n}\"\r\n")
            )),
            Just(known("GETINFO config/names\r\n", "(OPTIONS)")),
            Just(known("GETINFO new-messages accounting/enabled\r\n", {
                "250-new-messages=\r\n250-accounting/enabled=0\r\n250 OK\r\n"
            })),
            Just(known(
                format!(
                    "SETCONF ContactInfo={n} BusHistory={history}\r\n\
                     GETCONF BusHistory ContactInfo\r\n"
                ),
                format!("250 OK\r\n250-BusHistory={history}\r\n250 ContactInfo={n}\r\n")
            )),
        ]
    });
    prop_oneof![4 => of_tor, 2 => of_none, 3 => of_bus, 2 => of_both]
}

#[test]
fn replies_stand_in_the_order_of_the_commands() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = Wire::at(&pair.home.socket());
    direct.ask("AUTHENTICATE");
    let two_replies = direct.ask(&format!("{CLIENT_KEY} ClientName=seventeen_letters"));
    assert_eq!(two_replies.matches("\r\n").count(), 2, "{two_replies}");

    let unknown_option = direct.ask("+LOADCONF\r\nGETINFO new-messages\r\n.");
    let options = Wire::at(&pair.place.socket()).ask("GETINFO config/names");
    assert!(options.contains("BusHistory"), "{options}");
    let strategy = (vec(any_known(), 1..60), vec(1..2000_usize, 0..6));
    let config = Config {
        cases: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let told = TestRunner::new(config).run(&strategy, |(all, cuts)| {
        let mut commands = String::new();
        let mut expected = String::new();
        for Known { command, reply } in &all {
            commands += command;
            let reply = reply.replace("(UNKNOWN OPTION)", &unknown_option);
            let reply = reply.replace("(OPTIONS)", &options);
            expected += &reply.replace("(TWO REPLIES)", &two_replies);
        }
        let mut controller = Wire::at(&pair.place.socket());
        let mut rest = commands.as_bytes();
        for cut in cuts {
            let (piece, others) = rest.split_at(cut.min(rest.len()));
            controller.send(piece);
            rest = others;
        }
        controller.send(rest);
        controller.fence();
        let got = String::from_utf8(controller.take()).expect("ASCII");
        // Tor forgets such keys when an option changes: whether it had this one is not the point.
        let got = got.replace("251 Client for onion existed and replaced", "250 OK");
        if got == expected {
            return Ok(());
        }
        Err(TestCaseError::fail(format!("{got}\nis not\n{expected}")))
    });
    told.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn keys_of_both_are_answered_in_the_asked_order() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = Wire::at(&pair.home.socket());
    direct.ask("AUTHENTICATE");
    let of_tor = |direct: &mut Wire, key: &str| {
        let said = direct.ask(&format!("GETINFO {key}"));
        said.strip_suffix("250 OK\r\n")
            .expect("it is known")
            .to_owned()
    };
    let version = of_tor(&mut direct, "version");
    let lines = of_tor(&mut direct, "config-text");
    assert!(lines.starts_with("250+"), "{lines}");

    let mut controller = Wire::at(&pair.place.socket());
    controller.ask("CONTROLLERNAME me");
    for (keys, values) in [
        (
            "list-controllers version",
            vec!["250-list-controllers=me\r\n", &version],
        ),
        (
            "version list-controllers",
            vec![&version, "250-list-controllers=me\r\n"],
        ),
        (
            "config-text new-messages version new-messages config-text",
            vec![
                &lines,
                "250-new-messages=\r\n",
                &version,
                "250-new-messages=\r\n",
                &lines,
            ],
        ),
    ] {
        let expected = values.concat() + "250 OK\r\n";
        assert_eq!(controller.ask(&format!("GETINFO {keys}")), expected);
    }
    for keys in [
        "none new-messages",
        "new-messages none",
        "version none list-controllers",
    ] {
        let said = controller.ask(&format!("GETINFO {keys}"));
        assert_eq!(said, "552 Unrecognized key \"none\"\r\n", "{keys}");
    }
    let said = controller.ask("GETINFO one new-messages two version");
    assert_eq!(said, direct.ask("GETINFO one two version"));
    // A key that Tor has but no value for.
    let said = controller.ask("GETINFO new-messages fingerprint");
    assert_eq!(said, direct.ask("GETINFO fingerprint"));
}

/// What an unread message is worth: a GETINFO that fails has not read it.
#[test]
fn a_message_is_not_read_by_a_command_that_fails() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut controller = Wire::at(&pair.place.socket());
    controller.ask("CONTROLLERNAME me");
    controller.ask("POSTMESSAGE @me hello");
    controller.ask("GETINFO new-messages none");
    let said = controller.ask("GETINFO accounting/enabled new-messages");
    assert!(said.contains("me @me hello"), "{said}");
    assert!(
        said.starts_with("250-accounting/enabled=0\r\n250"),
        "{said}"
    );
}

/// Asks for a history and a contact, as `both` has them.
#[track_caller]
fn is_now(controller: &mut Wire, history: u32, contact: &str) {
    let said = controller.ask("GETCONF ContactInfo BusHistory");
    let expected = format!("250-{contact}\r\n250 BusHistory={history}\r\n");
    assert_eq!(said, expected);
}

#[test]
fn a_change_to_both_is_made_whole_or_not_at_all() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = Wire::at(&pair.home.socket());
    direct.ask("AUTHENTICATE");
    let mut controller = Wire::at(&pair.place.socket());
    let ok = "250 OK\r\n";
    assert_eq!(
        controller.ask("SETCONF BusHistory=7 ContactInfo=\"a \\\"b\\\"\""),
        ok
    );
    is_now(&mut controller, 7, "ContactInfo=a \"b\"");
    assert_eq!(
        direct.ask("GETCONF ContactInfo"),
        "250 ContactInfo=a \"b\"\r\n"
    );

    for refused in [
        "SETCONF ContactInfo=x BusHistory=many",
        "SETCONF BusHistory=many ContactInfo=x",
        "RESETCONF ContactInfo BusHistory=many",
        "SETCONF ContactInfo=x BusNothing=1",
        "SETCONF ContactInfo=x BusStateDirectory=/nowhere",
    ] {
        let said = controller.ask(refused);
        assert!(said.starts_with('5'), "{refused}: {said}");
        is_now(&mut controller, 7, "ContactInfo=a \"b\"");
    }
    for (refused, of_tor) in [
        ("SETCONF BusHistory=8 Nothing=1", "SETCONF Nothing=1"),
        (
            "SETCONF Nothing=1 BusHistory=8 ContactInfo=x",
            "SETCONF Nothing=1 ContactInfo=x",
        ),
        (
            "SETCONF MaxCircuitDirtiness=ten BusHistory=8",
            "SETCONF MaxCircuitDirtiness=ten",
        ),
        ("RESETCONF BusHistory Nothing", "RESETCONF Nothing"),
        (
            "SETCONF BusHistory=8 DataDirectory=/nowhere",
            "SETCONF DataDirectory=/nowhere",
        ),
    ] {
        assert_eq!(controller.ask(refused), direct.ask(of_tor));
        is_now(&mut controller, 7, "ContactInfo=a \"b\"");
    }

    assert_eq!(controller.ask("RESETCONF ContactInfo BusHistory"), ok);
    is_now(&mut controller, 100, "ContactInfo");
    assert_eq!(controller.ask("RESETCONF BusHistory=3 ContactInfo=y"), ok);
    is_now(&mut controller, 3, "ContactInfo=y");
    assert_eq!(controller.ask("SETCONF ContactInfo BusHistory"), ok);
    is_now(&mut controller, 100, "ContactInfo");
}

#[test]
fn a_configuration_of_both_is_loaded_whole_or_not_at_all() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut controller = Wire::at(&pair.place.socket());
    let torrc = fs::read_to_string(pair.home.path().join("torrc")).expect("it is there");
    let body = torrc.replace('\n', "\r\n");
    let load = |controller: &mut Wire, lines: &str| {
        controller.ask(&format!("+LOADCONF\r\n{lines}{body}."))
    };
    // Tor forgets what the body does not have, and so does the bus, if it has a word for the bus.
    assert_eq!(
        load(&mut controller, "BusHistory 5\r\nContactInfo z\r\n"),
        "250 OK\r\n"
    );
    is_now(&mut controller, 5, "ContactInfo=z");
    for lines in [
        "BusHistory many\r\nContactInfo x\r\n",
        "BusHistory 6\r\nContactInfo x\r\nNothing 1\r\n",
        "ContactInfo x\r\nbushistory 6\r\nMaxCircuitDirtiness ten\r\n",
    ] {
        let said = load(&mut controller, lines);
        assert!(said.starts_with('5'), "{lines}: {said}");
        is_now(&mut controller, 5, "ContactInfo=z");
    }
    assert_eq!(
        load(&mut controller, "ContactInfo only-tor\r\n"),
        "250 OK\r\n"
    );
    is_now(&mut controller, 5, "ContactInfo=only-tor");
}

#[test]
fn values_of_both_are_answered_in_the_asked_order() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut controller = Wire::at(&pair.place.socket());
    controller.ask("SETCONF Log=\"notice stdout\" Log=\"warn stdout\"");
    let said = controller.ask("GETCONF BusHistory log ContactInfo bushistory Log");
    let logs = "250-Log=notice stdout\r\n250-Log=warn stdout\r\n";
    let last = "250-Log=notice stdout\r\n250 Log=warn stdout\r\n";
    let history = "250-BusHistory=100\r\n";
    assert_eq!(
        said,
        format!("{history}{logs}250-ContactInfo\r\n{history}{last}")
    );
    let said = controller.ask("GETCONF Nothing BusHistory");
    assert_eq!(said, "552 Unrecognized configuration key \"Nothing\"\r\n");
    let said = controller.ask("GETCONF BusNothing ContactInfo");
    assert_eq!(
        said,
        "552 Unrecognized configuration key \"BusNothing\"\r\n"
    );
    let said = controller.ask("GETCONF BusNothing Nothing ContactInfo");
    assert_eq!(said.matches("552").count(), 2, "{said}");
}
