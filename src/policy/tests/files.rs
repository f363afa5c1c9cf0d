//! Files: whom a block matches, how blocks unite, and what is wrong with them.

use super::*;

#[test]
fn match_words_hold_together_and_lines_apart() {
    for (lines, expected) in [
        ("Match user=alice", true),
        ("Match user=1000", true),
        ("Match user=900-1100", true),
        ("Match user=bob", false),
        ("Match user=bob\nMatch user=alice", true),
        ("Match group=tor", true),
        ("Match group=1000", true),
        ("Match group=28", false),
        ("Match user=alice group=tor", true),
        ("Match user=alice group=28", false),
        ("Match socket=/run/bus", true),
        ("Match socket=/run/other", false),
        ("Match socket=fd:control", true),
        ("Match socket=fd:other", false),
        ("Match unit=bitcoind.service", true),
        ("Match unit=bit*", true),
        ("Match unit=lnd*", false),
        ("Match label=/usr/bin/*", true),
        ("Match label=x", false),
        ("Match any", true),
        ("", false),
    ] {
        let policy = read(&[&format!("Profile p\n{lines}\nAllow all")]).unwrap();
        let grants = Grants::unite(&policy, &alice());
        assert_eq!(grants.is_everything(), expected, "{lines}");
    }
}

#[test]
fn a_port_is_known_by_each_spelling_that_a_socket_line_takes() {
    for (spelled, known) in [
        ("localhost:9051", "127.0.0.1:9051"),
        ("127.0.0.1:9051", "127.0.0.1:9051"),
        ("[0:0:0:0:0:0:0:1]:9051", "[::1]:9051"),
    ] {
        let identity = Identity {
            socket: known.into(),
            ..alice()
        };
        let lines = format!("Profile p\nMatch socket={spelled}\nAllow all");
        let policy = read(&[&lines]).unwrap();
        assert!(
            Grants::unite(&policy, &identity).is_everything(),
            "{spelled}"
        );
    }
}

#[test]
fn a_name_has_64_octets_at_most_and_a_line_goes_on_behind_a_backslash() {
    for (length, is_good) in [(1, true), (64, true), (65, false)] {
        let text = format!("Profile {}\nAllow all", "x".repeat(length));
        assert_eq!(read(&[&text]).is_ok(), is_good, "{length}");
    }
    let policy =
        read(&["Profile p # x\nMatch any\nALLOW getinfo version \\\n # no\n  \"up\"time\n"]);
    let grants = Grants::unite(&policy.unwrap(), &alice());
    assert_eq!(
        grants.list(),
        ["Allow getinfo uptime", "Allow getinfo version"]
    );
}

#[test]
fn each_line_of_the_option_file_yields_a_block() {
    let source = |file, text: &'static str, group| Source {
        file,
        text: text.as_bytes(),
        group,
    };
    let names = Names {
        user: &user,
        group: &group,
        ..Names::default()
    };
    let block = source("a", "Profile a\nMatch any", 0);
    let (empty, other) = (source("b", "# none", 1), source("c", "Profile c", 1));
    let problems = Policy::parse(&[block, empty], &names).unwrap_err();
    let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["b: it has no block, which begins with Profile NAME"]
    );
    // One file of a directory may be empty.
    assert!(Policy::parse(&[block, empty, other], &names).is_ok());
}

#[test]
fn a_failed_mapping_matches_any_and_nothing_else() {
    let nobody = Identity {
        uid: 65534,
        gid: 65534,
        groups: vec![65534],
        ..alice()
    };
    for (lines, expected) in [
        ("Match user=65534", false),
        ("Match user=0-70000", false),
        ("Match group=65534", false),
        ("Match socket=/run/bus", false),
        ("Match any", true),
        ("Match any socket=/run/bus", true),
        ("Match any socket=/run/x", false),
    ] {
        let policy = read(&[&format!("Profile p\n{lines}\nAllow all")]).unwrap();
        assert_eq!(
            Grants::unite(&policy, &nobody).is_everything(),
            expected,
            "{lines}"
        );
    }
    let unknown = Identity {
        unit: Vec::new(),
        label: Vec::new(),
        ..alice()
    };
    for line in ["Match unit=*", "Match label=*"] {
        let policy = read(&[&format!("Profile p\n{line}\nAllow all")]).unwrap();
        assert!(!Grants::unite(&policy, &unknown).is_everything(), "{line}");
    }
}

#[test]
fn blocks_unite_and_a_deny_is_above_all() {
    let policy = read(&[
        "Profile a\nMatch any\nUse base\nAllow getinfo version\n",
        "Profile b\nMatch user=alice\nAllow signal NEWNYM\nDeny getinfo uptime\n",
        "Profile base\nAllow getinfo uptime config-file\nComplain\n",
    ])
    .unwrap();
    let grants = Grants::unite(&policy, &alice());
    assert_eq!(grants.profiles(), ["a", "b"]);
    judged(
        &grants,
        &[
            ("GETINFO version config-file", ""),
            ("SIGNAL NEWNYM", ""),
            ("GETINFO version uptime", "552 Unrecognized key \"uptime\""),
            ("DROPGUARDS", "510 Command filtered (a,b)"),
        ],
    );
    judged(&Grants::unite(&policy, &bob()), &[("GETINFO uptime", "")]);
}

#[test]
fn files_are_told_all_that_is_wrong() {
    for (text, line, part) in [
        ("Allow all", 1, "before the first Profile"),
        ("", 0, "has no block"),
        ("# Profile a", 0, "has no block"),
        ("Profile a b", 1, "1 to 64 letters"),
        ("Profile a\nProfile a", 2, "taken by f0:1"),
        ("Profile a\nFoo x", 2, "is no keyword"),
        ("Profile a\nMatch user=nobody-here", 2, "there is no user"),
        ("Profile a\nMatch {user}", 2, "before Match has told"),
        ("Profile a\nMatch", 2, "needs words"),
        ("Profile a\nMatch foo=1", 2, "Match takes"),
        ("Profile a\nUse b", 2, "there is no profile 'b'"),
        ("Profile a\nUse a", 2, "uses itself"),
        ("Profile a\nAllow foo", 2, "nothing that can be granted"),
        ("Profile a\nAllow", 2, "what?"),
        ("Profile a\nAllow getinfo", 2, "needs words"),
        ("Profile a\nAllow getinfo a*b", 2, "only end"),
        ("Profile a\nAllow setconf *", 2, "without a *"),
        ("Profile a\nAllow setconf Foo*", 2, "without a *"),
        ("Profile a\nAllow resetconf *", 2, "without a *"),
        ("Profile a\nAllow events NOTHING", 2, "no event"),
        ("Profile a\nAllow events BW:own", 2, "own form"),
        ("Profile a\nAllow events CIRC:x", 2, ":own or :quiet"),
        ("Profile a\nAllow events CONTROLLER", 2, "Allow list"),
        ("Profile a\nAllow events POSTMESSAGE", 2, "no event"),
        ("Profile a\nAllow signal FOO", 2, "no signal"),
        ("Profile a\nAllow signal BUSRELOAD", 2, "no signal"),
        ("Profile a\nAllow bussignal HUP", 2, "no signal"),
        ("Profile a\nAllow post all", 2, "@all or @NAME"),
        ("Profile a\nAllow circuits close", 2, "own or any"),
        ("Profile a\nAllow circuits own", 2, "at least one"),
        ("Profile a\nAllow circuits eat own", 2, "no word"),
        ("Profile a\nAllow del_onion any", 2, "takes own"),
        ("Profile a\nAllow hsfetch x", 2, "takes no words"),
        ("Profile a\nAllow add_onion key=new", 2, "needs ports="),
        ("Profile a\nAllow add_onion ports=0", 2, "ports are"),
        ("Profile a\nAllow add_onion ports=80 flags=x", 2, "no flag"),
        ("Profile a\nAllow add_onion ports=80 ports=81", 2, "twice"),
        ("Profile a\nDeny add_onion force=Detach", 2, "says nothing"),
        (
            "Profile a\nAllow busconf get SocksPort",
            2,
            "no option of the bus",
        ),
        ("Profile a\nAnswer x", 2, "KEY=TEXT"),
        ("Profile a\nKeep onions x", 2, "number of seconds"),
        ("Profile a\nOwn-Socks 9050", 2, "unix:PATH"),
        ("Profile a\nComplain x", 2, "takes nothing"),
        ("Profile a\n%include /x", 2, "includes none"),
        ("Profile a\nAllow \"x", 2, "closing"),
    ] {
        let problems = read(&[text]).unwrap_err();
        let shown = problems[0].to_string();
        assert!(
            shown.starts_with(&format!("f0:{line}: ")) || (line == 0 && shown.starts_with("f0: ")),
            "{text}: {shown}"
        );
        assert!(shown.contains(part), "{text}: {shown}");
    }
    let circle = read(&["Profile a\nUse b", "Profile b\nUse c", "Profile c\nUse a"]).unwrap_err();
    assert_eq!(circle.len(), 3, "{circle:?}");
    let twice = read(&["Profile a\nProfile b\nAllow x", "Allow y\nProfile a"]).unwrap_err();
    assert_eq!(twice.len(), 3, "{twice:?}");
}

/// Options of Tor 0.4.9 that take a program, a file, a directory or a listener, and that which takes
/// a process. Every option that `GETINFO config/names` calls a `Filename` is among them.
const RISKY: &[&str] = &[
    "__ControlPort",
    "__OwningControllerProcess",
    "__SocksPort",
    "AccelDir",
    "CacheDirectory",
    "ClientOnionAuthDir",
    "ClientTransportPlugin",
    "ControlPort",
    "ControlPortWriteToFile",
    "ControlSocket",
    "ControlSocketsGroupWritable",
    "CookieAuthFile",
    "DataDirectory",
    "DirPort",
    "DirPortFrontPage",
    "DNSPort",
    "ExtORPort",
    "ExtORPortCookieAuthFile",
    "FamilyKeyDirectory",
    "GeoIPFile",
    "GeoIPv6File",
    "GuardfractionFile",
    "HiddenServiceDir",
    "HiddenServicePort",
    "HTTPTunnelPort",
    "KeyDirectory",
    "Log",
    "MetricsPort",
    "NATDPort",
    "NoExec",
    "ORPort",
    "PidFile",
    "ServerDNSResolvConfFile",
    "ServerTransportListenAddr",
    "ServerTransportPlugin",
    "SocksPort",
    "TransPort",
    "User",
    "V3BandwidthsFile",
];

/// Options whose value is all that they give.
const HARMLESS: &[&str] = &[
    "Bridge",
    "ContactInfo",
    "DisableNetwork",
    "ExitNodes",
    "MaxCircuitDirtiness",
    "Nickname",
    "SafeLogging",
    "SocksPolicy",
    "UseBridges",
];

#[test]
fn lines_that_grant_more_than_it_seems_are_told() {
    let policy = read(&[
        "Profile a\nAllow setconf ClientTransportPlugin=x MaxCircuitDirtiness Log\n\
        Allow loadconf\nDeny setconf ControlPort\nAllow getinfo version",
    ]);
    let warnings: Vec<_> = policy
        .unwrap()
        .warnings()
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "f0:2: clienttransportplugin, log takes a program, a file, a directory or a listener, or \
         can end Tor",
        "f0:3: loadconf gives every setconf",
        "BusPolicy: nobody is allowed bussignal BUSRELOAD: only SIGHUP reads it again",
    ];
    assert_eq!(warnings, expected);
    for option in RISKY {
        let text = format!("Profile a\nAllow setconf {option}=x\nAllow bussignal BUSRELOAD");
        let warnings = read(&[&text]).unwrap().warnings();
        let shown = warnings.iter().map(ToString::to_string).collect::<String>();
        let start = format!("f0:2: {} takes a program, a file", option.to_lowercase());
        assert!(shown.starts_with(&start), "{option}: {shown}");
    }
    for option in HARMLESS {
        let text = format!("Profile a\nAllow setconf {option}=x\nAllow bussignal BUSRELOAD");
        let warnings = read(&[&text]).unwrap().warnings();
        assert!(warnings.is_empty(), "{option}: {warnings:?}");
    }
    for line in ["Allow all", "Allow bussignal BusReload"] {
        let policy = read(&[&format!("Profile a\n{line}")]).unwrap();
        assert!(policy.warnings().is_empty(), "{line}");
    }
}
