//! Commands that have no verdict as long as nobody knows which options and listeners Tor has.

use super::*;

const CLIENT_KEY: &str = "ONION_CLIENT_AUTH_ADD \
    2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid \
    x25519:iJ1tjKCrMAbiFT2bVrCjhbfMDnE1fpaRbIS5ZHKUvEQ=";

fn guard(lines: &str) -> Guard {
    Guard {
        session: 1,
        name: "x".into(),
        identity: Arc::default(),
        grants: Arc::new(grants(ALICE, lines)),
    }
}

fn lacks_facts((_, judgement): &Judged<'_>) -> bool {
    judgement.as_ref().is_some_and(|one| one.lacks_facts)
}

#[test]
fn only_what_is_about_options_and_listeners_has_no_verdict_without_them() {
    let (tor, ledger, options) = (Upstream::new([0; 16]), Ledger::default(), [].into());
    let [unknown, known] = [None, Some(&options)].map(|options| Law {
        ledger: &ledger,
        is_told: options.is_some(),
        behind: Behind {
            options,
            ..Behind::default()
        },
    });
    let restricted = guard("Allow getinfo version");
    let passes = ["Allow all", "Complain"].map(guard);
    let cases = [
        ("GETCONF Log", true),
        ("GETCONF BusLog log", true),
        ("SETCONF Log=x", true),
        ("RESETCONF Log", true),
        ("ADD_ONION NEW:BEST Port=80", true),
        ("POLICYCHECK GETCONF Log", true),
        (CLIENT_KEY, true),
        ("GETCONF", false),
        ("GETCONF BusLog", false),
        ("SETCONF BusLog=x", false),
        ("GETINFO version whoami config/names", false),
        ("POLICYCHECK GETINFO version", false),
        ("PROTOCOLINFO", false),
        ("CONTROLLERNAME x", false),
        ("SETEVENTS CIRC", false),
        ("SIGNAL NEWNYM", false),
        ("DEL_ONION x", false),
        ("NONESUCH", false),
        ("QUIT", false),
    ];
    for (line, expected) in cases {
        let octets = format!("{line}\r\n");
        let Framed::Command(command) = Framer::new().next(octets.as_bytes()) else {
            panic!("{line}");
        };
        let judged = |guard: &Guard, law: &Law<'_>, tor: Option<&Upstream>| {
            let request = text::verb(command.keyword).and_then(|v| text::parse(v, &command));
            lacks_facts(&of_text(guard, law, &command, request, tor))
        };
        assert_eq!(
            judged(&restricted, &unknown, Some(&tor)),
            expected,
            "{line}"
        );
        assert!(!judged(&restricted, &known, Some(&tor)), "{line}");
        assert!(!judged(&restricted, &unknown, None), "{line}");
        for guard in &passes {
            assert!(!judged(guard, &unknown, Some(&tor)), "{line}");
        }
    }
    let frames = [
        (Request::GetConf(vec![b"Log"]), true),
        (Request::GetInfo(vec![b"version"]), false),
        (Request::RecentMessages, false),
    ];
    for (request, expected) in frames {
        let judged = of_frame(&restricted, &unknown, Ok(request), Some(&tor));
        assert_eq!(lacks_facts(&judged), expected, "{:?}", judged.0);
    }
}
