//! Texts of options.

use super::*;

#[test]
fn a_text_with_options_of_the_bus_needs_a_grant_of_them_all() {
    const TOR: &str = "+LOADCONF\r\nLog x\r\n.";
    let texts = [
        "+LOADCONF\r\nLog x\r\nBusHistory 3\r\n.",
        "+LOADCONF\r\n\t bushistory 3\r\n.",
        // A comment does not go on in the next line.
        "+LOADCONF\r\n# \\\r\nBusHistory 3\r\n.",
        "+LOADCONF\r\nLog x\r\n\x0bBusHistory 3\r\n.",
        // Without a Tor it sets every option of the bus back.
        "+LOADCONF\r\n# nothing\r\n.",
    ];
    for (lines, tor, bus) in [
        ("Allow all", true, true),
        ("Allow loadconf", true, false),
        ("Allow loadconf\nAllow busconf set BusHistory", true, false),
        ("Allow loadconf\nAllow busconf set *", true, true),
        ("Allow all\nDeny busconf", false, false),
        ("Allow all\nDeny busconf set BusLog", false, false),
        ("Allow all\nDeny busconf get BusLog", true, true),
        (
            "Allow loadconf\nAllow busconf set *\nDeny all",
            false,
            false,
        ),
    ] {
        let grants = grants_of(&alice(), lines);
        for (text, is_allowed) in texts
            .map(|text| (text, bus))
            .into_iter()
            .chain([(TOR, tor)])
        {
            let is_refused = outcome(&grants, &Ledger::default(), text) == FILTERED;
            assert_eq!(!is_refused, is_allowed, "{lines}: {text}");
        }
    }
}
