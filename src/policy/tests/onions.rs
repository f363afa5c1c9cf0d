//! Grants of `ADD_ONION`.

use super::*;
use crate::wire::fields::Onion;

#[test]
fn onion_services_are_granted_by_their_fields() {
    let filtered = |keyword: &str| format!("512 Bad arguments to ADD_ONION: filtered: {keyword}");
    let grants = grants_of(
        &alice(),
        "Allow add_onion ports=80,8333=8334,443=17600-17659 max=2",
    );
    let new = |port: &str| format!("ADD_ONION NEW:BEST Port={port}");
    for (port, expected) in [
        ("80,127.0.0.1:8080", None),
        ("8333,127.0.0.1:8334", None),
        ("443,127.0.0.1:17659", None),
        ("80,[::1]:8080", None),
        ("80,[::ffff:127.0.0.1]:8080", None),
        ("8333,127.0.0.1:8333", Some("Port")),
        ("443,127.0.0.1:17660", Some("Port")),
        ("81,127.0.0.1:8080", Some("Port")),
        // Below 1024, a listener of Tor's, its control port, a wallet's.
        ("80,127.0.0.1:80", Some("Port")),
        ("80,127.0.0.1:9050", Some("Port")),
        ("80,127.0.0.1:9051", Some("Port")),
        ("80,127.0.0.1:8332", Some("Port")),
        ("80,10.0.0.1:8080", Some("Port")),
        ("80,unix:/safe/x", Some("Port")),
    ] {
        let expected = expected.map(filtered).unwrap_or_default();
        judged(&grants, &[(&new(port), &expected)]);
    }
    judged(
        &grants,
        &[
            ("ADD_ONION ED25519-V3:AAAA Port=80,127.0.0.1:8080", ""),
            (
                "ADD_ONION NEW:BEST Flags=DiscardPK Port=80,127.0.0.1:8080",
                "",
            ),
            (
                "ADD_ONION NEW:BEST Flags=Detach Port=80,127.0.0.1:8080",
                &filtered("Flags"),
            ),
            (
                "ADD_ONION NEW:BEST Port=80,127.0.0.1:8080 PoWDefensesEnabled=1",
                "",
            ),
            ("ADD_ONION NEW:BEST MaxStreams=5 Port=80,127.0.0.1:8080", ""),
            (
                "ADD_ONION NEW:BEST Port=80,127.0.0.1:8080 Port=81,127.0.0.1:8080",
                &filtered("Port"),
            ),
            (
                "ADD_ONION NEW:BEST Flags=V3Auth Port=80,127.0.0.1:8080 \
                 ClientAuthV3=5BPBXQOAZWPSSXFKOIXHZDRDA2AJT2SWS2GIQTISCFKGVBFWBBDQ",
                &filtered("Flags"),
            ),
        ],
    );
    let grants = grants_of(
        &alice(),
        "Allow add_onion ports=* key=new target=loopback:1-9051 target=10.0.0.1:1-90 \
         target=unix:/safe/*.sock target=unix:/tmp/x flags=Detach force=DiscardPK strip=Detach \
         maxstreams=1-9 clientauth=1",
    );
    judged(
        &grants,
        &[
            (
                "ADD_ONION NEW:BEST MaxStreams=1 Port=80,127.0.0.1:80",
                "ADD_ONION NEW:BEST Flags=DiscardPK MaxStreams=1 Port=80,127.0.0.1:80",
            ),
            (
                "ADD_ONION NEW:BEST Flags=Detach MaxStreams=9 Port=80,10.0.0.1:90",
                "ADD_ONION NEW:BEST Flags=DiscardPK MaxStreams=9 Port=80,10.0.0.1:90",
            ),
            (
                "ADD_ONION NEW:BEST MaxStreams=1 Port=80,unix:/safe/a.sock",
                "ADD_ONION NEW:BEST Flags=DiscardPK MaxStreams=1 Port=80,unix:/safe/a.sock",
            ),
            (
                "ADD_ONION NEW:BEST MaxStreams=1 Port=80,unix:/safe/a/b.sock",
                &filtered("Port"),
            ),
            (
                "ADD_ONION NEW:BEST MaxStreams=1 Port=80,unix:/safe/../x.sock",
                &filtered("Port"),
            ),
            // Somebody could put a link there.
            (
                "ADD_ONION NEW:BEST MaxStreams=1 Port=80,unix:/tmp/x",
                &filtered("Port"),
            ),
            // Tor's control port is nobody's, whatever is granted.
            (
                "ADD_ONION NEW:BEST MaxStreams=1 Port=80,127.0.0.1:9051",
                &filtered("Port"),
            ),
            (
                "ADD_ONION NEW:BEST MaxStreams=1 Port=80,127.9.9.9:9051",
                &filtered("Port"),
            ),
            (
                "ADD_ONION ED25519-V3:AAAA MaxStreams=1 Port=80,127.0.0.1:80",
                &filtered("KeyType"),
            ),
            (
                "ADD_ONION NEW:BEST Port=80,127.0.0.1:80",
                &filtered("MaxStreams"),
            ),
        ],
    );
    let control = grants_of(&alice(), "Allow add_onion ports=* target=unix:/safe/*");
    judged(
        &control,
        &[(
            "ADD_ONION NEW:BEST Port=80,unix:/safe/control",
            &filtered("Port"),
        )],
    );
    // Of lines that cover a command, the one that forces least.
    let both = grants_of(
        &alice(),
        "Allow add_onion ports=8080 force=DiscardPK\nAllow add_onion ports=8080-8081",
    );
    judged(
        &both,
        &[("ADD_ONION NEW:BEST Port=8080,127.0.0.1:8080", "")],
    );
}

#[test]
fn each_owner_has_so_many_onion_services() {
    let grants = grants_of(&alice(), "Allow add_onion ports=* max=2");
    let owner = grants.owner().cloned();
    let line = "ADD_ONION NEW:BEST Port=8080,127.0.0.1:8080";
    let mut ledger = Ledger::default();
    ledger.handle_add_onion(owner.as_ref());
    assert_eq!(outcome(&grants, &ledger, line), line);
    ledger.handle_add_onion(owner.as_ref());
    // Both are on their way.
    assert_eq!(
        outcome(&grants, &ledger, line),
        "551 Too many onion services"
    );
    let onion = Onion::parse(ONION.as_bytes()).unwrap();
    ledger.handle_onion(owner.as_ref(), Some(&onion));
    ledger.handle_onion(owner.as_ref(), None);
    assert_eq!(outcome(&grants, &ledger, line), line);
    let other = grants_of(&bob(), "Allow add_onion ports=* max=1");
    assert_eq!(outcome(&other, &ledger, line), line);
}

#[test]
fn no_way_leads_to_a_control_socket() {
    let filtered = "512 Bad arguments to ADD_ONION: filtered: Port";
    let lines = "Allow add_onion ports=* target=unix:/safe/* target=unix:/link/*";
    let grants = grants_of(&alice(), lines);
    for (path, expected) in [
        ("/safe/x", ""),
        ("/link/x", ""),
        ("/safe/control", filtered),
        ("/link/control", filtered),
        ("/safe//control", filtered),
        ("/link/./x", filtered),
    ] {
        let line = format!("ADD_ONION NEW:BEST Port=80,unix:{path}");
        judged(&grants, &[(&line, expected)]);
    }
}

#[test]
fn a_command_leads_to_so_many_sockets_only() {
    for (lines, name) in [
        ("Allow add_onion ports=* target=unix:/safe/*", "Port"),
        ("Allow all\nDeny add_onion target=unix:/x", "Port"),
        ("Allow all", ""),
    ] {
        let grants = grants_of(&alice(), lines);
        for (count, is_refused) in [(64, false), (65, !name.is_empty())] {
            let ports = " Port=1,unix:/safe/y".repeat(count);
            let line = format!("ADD_ONION NEW:BEST{ports}");
            let found = outcome(&grants, &Ledger::default(), &line);
            let refusal = format!("512 Bad arguments to ADD_ONION: filtered: {name}");
            assert_eq!(found == refusal, is_refused, "{lines}: {count}: {found}");
        }
    }
}

#[test]
fn a_deny_of_a_target_covers_every_way_there() {
    for (deny, target, expected) in [
        ("unix:/safe/x", "unix:/safe/x", FILTERED),
        ("unix:/safe/x", "unix:/safe/./x", FILTERED),
        ("unix:/safe/x", "unix:/safe//x", FILTERED),
        ("unix:/safe/x", "unix:/safe/y/../x", FILTERED),
        ("unix:/safe/x", "unix:/link/x", FILTERED),
        ("unix:/safe/x", "unix:/safe/y", ""),
        ("unix:/link/x*", "unix:/safe/xy", FILTERED),
        ("unix:/link/*/x", "unix:/safe/a/x", FILTERED),
        ("unix:/link/*/x", "unix:/safe/a/b/x", ""),
        ("unix:/*", "unix:/x", FILTERED),
        ("unix:/*", "unix:/x/y", ""),
        ("unix:/", "unix:/x", ""),
        // Nobody knows where it leads.
        ("unix:/run/tor/*", "unix:/safe/link", FILTERED),
        // All of this machine, also what an Allow of these words leaves out.
        ("loopback", "22", FILTERED),
        ("loopback", "[::1]:8332", FILTERED),
        ("loopback", "127.0.0.1:9050", FILTERED),
        ("loopback", "10.0.0.1:22", ""),
        ("loopback:22-23", "localhost:22", FILTERED),
        ("loopback:22-23", "[::ffff:127.0.0.1]:22", FILTERED),
        ("10.0.0.1:22-23", "[::ffff:10.0.0.1]:22", FILTERED),
        ("loopback", "unix:/safe/x", ""),
    ] {
        let lines = format!("Allow all\nDeny add_onion target={deny}");
        let grants = grants_of(&alice(), &lines);
        let line = format!("ADD_ONION NEW:BEST Port=80,{target}");
        let found = outcome(&grants, &Ledger::default(), &line);
        assert_eq!(
            found == FILTERED,
            expected == FILTERED,
            "{deny}: {target}: {found}"
        );
    }
}
