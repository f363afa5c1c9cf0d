//! The ready profiles in contrib/policy: each allows the lines that its program sends, and not
//! those of its neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use onionbus::policy::{
    Behind, Grants, Identity, Ledger, Names, PROTECTED_PORTS, Policy, Source, Verdict, judge,
};
use onionbus::wire::fields::{self, Fields, Onion};
use onionbus::wire::text::{self, Framed, Framer};

const ONION: &str = "duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad";
const KEY: &str = "ED25519-V3:aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaA==";
const CLIENT: &str = "5BPBXQOAZWPSSXFKOIXHZDRDA2AJT2SWS2GIQTISCFKGVBFWBBDQ";

/// What nobody with a ready profile may do, whatever it is.
const NEVER: &[&str] = &[
    "SETCONF ClientTransportPlugin=\"x exec /bin/true\"",
    "SETCONF ControlPort=9999",
    "SETCONF SocksPort=9999",
    "SETCONF Log=\"notice file /tmp/x\"",
    "RESETCONF ControlPort",
    "+LOADCONF\r\nControlPort 1\r\n.",
    "SIGNAL HALT",
    "SIGNAL HUP",
    "TAKEOWNERSHIP",
    "GETCONF HashedControlPassword",
    "GETINFO config-text",
    "GETINFO address",
    "GETINFO hs/service/desc/id/{onion}",
    "GETINFO address-mappings/all",
    "MAPADDRESS a.example=b.example",
    "DROPGUARDS",
    "DROPTIMEOUTS",
    "DEL_ONION {onion}",
    "ONION_CLIENT_AUTH_REMOVE {onion}",
    "ADD_ONION NEW:BEST Port=80,127.0.0.1:9051",
    "ADD_ONION NEW:BEST Port=8333,127.0.0.1:8332",
    "ADD_ONION NEW:BEST Port=80,unix:/run/tor/control",
    "ADD_ONION NEW:BEST Port=80,10.0.0.1:80",
    "ADD_ONION NEW:BEST Flags=NonAnonymous Port=9999",
    "SETEVENTS DEBUG ADDRMAP",
    "SIGNAL BUSSHUTDOWN",
    "SETCONF BusLog=debug",
];

/// The lines of each program, from its source or its tests, and some that it may not send.
const PROGRAMS: &[(&str, &[&str], &[&str])] = &[
    (
        "monitor",
        // nyx 2.1.0.
        &[
            "SETEVENTS ",
            "GETCONF __owningcontrollerprocess",
            "GETINFO version",
            "SETEVENTS SIGNAL CONF_CHANGED STATUS_SERVER",
            "GETINFO process/user",
            "GETINFO process/pid",
            "GETINFO fingerprint",
            "GETINFO config-file",
            "GETINFO config/names",
            "GETINFO events/names",
            "GETINFO traffic/read traffic/written",
            "GETINFO bw-event-cache",
            "GETINFO status/version/current status/clients-seen",
            "GETINFO process/descriptor-limit",
            "GETINFO ns/all",
            "GETINFO circuit-status",
            "GETINFO accounting/enabled",
            "GETINFO ip-to-country/1.2.3.4",
            "GETINFO net/listeners/control net/listeners/or",
            "GETINFO exit-policy/full",
            "GETCONF Nickname DirPort ControlSocket Log HiddenServiceOptions",
            "SETEVENTS SIGNAL CONF_CHANGED STATUS_SERVER BW NOTICE WARN ERR NEWCONSENSUS NEWDESC \
             CIRC",
        ],
        &[
            "SIGNAL NEWNYM",
            "GETINFO onions/current",
            "SETEVENTS STREAM_BW",
        ],
    ),
    (
        "newnym",
        &[
            "SIGNAL NEWNYM",
            "signal newnym ",
            "GETINFO status/circuit-established",
        ],
        &["SIGNAL RELOAD", "GETINFO circuit-status"],
    ),
    (
        "onionshare",
        // OnionShare 2.7 by stem.
        &[
            "GETINFO version",
            "GETINFO status/bootstrap-phase",
            "GETCONF HiddenServiceSingleHopMode",
            "GETCONF __OwningControllerProcess",
            "SETEVENTS HS_DESC",
            "ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=1,1 ClientAuthV3={client}",
            "ADD_ONION NEW:ED25519-V3 Port=80,17612",
            "ADD_ONION {key} Flags=V3Auth Port=80,17659 ClientAuthV3={client}",
            "GETINFO onions/current",
            "ONION_CLIENT_AUTH_ADD {onion} x25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4=",
        ],
        &[
            "ADD_ONION NEW:ED25519-V3 Port=80,17660",
            "ADD_ONION NEW:ED25519-V3 Port=22,17612",
            "ADD_ONION NEW:ED25519-V3 Flags=Detach Port=80,17612",
            "GETINFO circuit-status",
            "ONION_CLIENT_AUTH_VIEW",
        ],
    ),
    (
        "bitcoind",
        &[
            "GETINFO net/listeners/socks",
            "ADD_ONION NEW:ED25519-V3 PoWDefensesEnabled=1 Port=8333,127.0.0.1:8334",
            "ADD_ONION {key} Port=8333,127.0.0.1:8334",
            "ADD_ONION {key} Port=18444,127.0.0.1:18445",
            "ADD_ONION {key} Port=38333,127.0.0.1:38334",
        ],
        &[
            "ADD_ONION {key} Port=8333,127.0.0.1:18443",
            "ADD_ONION {key} Port=80,127.0.0.1:8334",
        ],
    ),
    (
        "lnd",
        &[
            "ADD_ONION NEW:ED25519-V3 Port=9735,9735 ",
            "ADD_ONION {key} Port=9911,9911 ",
        ],
        &["ADD_ONION NEW:ED25519-V3 Port=9735,10009 "],
    ),
    (
        "bisq",
        &[
            "SETEVENTS CIRC ORCONN INFO NOTICE WARN ERR HS_DESC HS_DESC_CONTENT",
            "GETINFO status/bootstrap-phase",
            "SETCONF DisableNetwork=0",
            "ADD_ONION NEW:BEST Port=9999,127.0.0.1:35123",
            "ADD_ONION {key} Port=9999,127.0.0.1:35123",
            "HSFETCH {onion}",
        ],
        &[
            "SETCONF DisableNetwork=1",
            "ADD_ONION NEW:BEST Port=80,127.0.0.1:35123",
        ],
    ),
    (
        "haveno",
        &[
            "SETEVENTS CIRC ORCONN INFO NOTICE WARN ERR HS_DESC HS_DESC_CONTENT",
            "ADD_ONION NEW:BEST Port=9999,127.0.0.1:35123",
            "HSFETCH {onion}",
        ],
        &["SETCONF DisableNetwork=1"],
    ),
    (
        "cwtch",
        &[
            "GETINFO network-liveness",
            "GETINFO status/bootstrap-phase",
            "GETCONF DisableNetwork",
            "ADD_ONION {key} Flags=DiscardPK,Detach Port=9878,[::1]:15000",
            "ADD_ONION {key} Flags=DiscardPK,Detach Port=9878,127.0.0.1:15378",
            "HSFETCH {onion}",
        ],
        &["ADD_ONION NEW:BEST Flags=DiscardPK,Detach Port=9878,127.0.0.1:15000"],
    ),
    (
        "ricochet",
        &[
            "GETINFO status/circuit-established status/bootstrap-phase net/listeners/socks",
            "SETEVENTS STATUS_CLIENT",
            "GETCONF DisableNetwork",
            "ADD_ONION {key} Port=9878,127.0.0.1:40001",
        ],
        &["SETCONF DisableNetwork=0"],
    ),
    (
        "wahay",
        &[
            "GETINFO version",
            "ADD_ONION NEW:BEST Port=8181,127.0.0.1:8181 Port=64738,127.0.0.1:64738",
            "SETEVENTS STREAM",
        ],
        &["ADD_ONION {key} Port=8181,127.0.0.1:8181"],
    ),
    (
        "zeronet",
        &[
            "GETCONF hiddenservicesinglehopmode",
            "ADD_ONION NEW:ED25519-V3 port=15441",
            "ADD_ONION {key} Port=33750,33750",
        ],
        &["ADD_ONION {key} Port=43110,43110"],
    ),
    (
        "onion-auth",
        &[
            "ONION_CLIENT_AUTH_ADD {onion} x25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4= \
             ClientName=bob Flags=Permanent",
            "ONION_CLIENT_AUTH_VIEW",
            "ONION_CLIENT_AUTH_VIEW {onion}",
        ],
        &["GETINFO version"],
    ),
    (
        "tor-browser",
        &[
            "SETEVENTS STREAM CIRC",
            "SIGNAL NEWNYM",
            "GETINFO circuit-status",
            "GETINFO ns/id/0000000000000000000000000000000000000000",
            "GETINFO ip-to-country/1.2.3.4",
            "GETINFO net/listeners/socks",
            "GETCONF bridge",
            "ONION_CLIENT_AUTH_ADD {onion} x25519:ODtLJUcvNJVwgBXAmqzUYC0yhRQqfnwnLUrkCMY1wA4=",
            "ONION_CLIENT_AUTH_VIEW",
        ],
        &[
            "SETCONF UseBridges=1",
            "CLOSECIRCUIT 1",
            "GETINFO onions/current",
        ],
    ),
    (
        "onioncircuits",
        &[
            "GETINFO version",
            "SETEVENTS SIGNAL CONF_CHANGED STATUS_SERVER STREAM CIRC",
            "GETINFO circuit-status",
            "GETINFO stream-status",
            "GETCONF usemicrodescriptors",
            "CLOSECIRCUIT 12 ",
        ],
        &["CLOSESTREAM 1 1", "EXTENDCIRCUIT 0"],
    ),
    (
        "tor-connection-assistant",
        &[
            "GETINFO status/bootstrap-phase status/circuit-established",
            "SETCONF DisableNetwork=\"0\"",
            "SETCONF UseBridges=1 Bridge=\"obfs4 1.2.3.4:5 AAAA cert=x\" Bridge=\"6.7.8.9:1\"",
            "RESETCONF Bridge UseBridges",
            "SETCONF Socks5Proxy=127.0.0.1:1 Socks5ProxyUsername=a Socks5ProxyPassword=b",
            "SAVECONF",
            "SETEVENTS STATUS_CLIENT STATUS_SERVER SIGNAL CONF_CHANGED NOTICE WARN ERR",
        ],
        &[
            "SETCONF DisableNetwork=1 NewCircuitPeriod=31",
            "GETCONF Socks5ProxyPassword",
        ],
    ),
    (
        "onionbalance",
        // Onionbalance 0.2.4.
        &[
            "SIGNAL ACTIVE",
            "GETINFO version",
            "GETINFO dir/status-vote/current/consensus-microdesc",
            "GETINFO md/all",
            "SETEVENTS STATUS_CLIENT HS_DESC HS_DESC_CONTENT",
            "HSFETCH {onion}",
            "+HSPOST SERVER=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA HSADDRESS={onion}\r\n\
             hs-descriptor 3\r\n.",
        ],
        &["ADD_ONION NEW:BEST Port=80,8080", "SETCONF HSLayer2Nodes=x"],
    ),
    (
        "vanguards",
        // vanguards 0.3.1.
        &[
            "GETINFO version",
            "GETINFO network-liveness",
            "GETINFO orconn-status",
            "GETINFO ns/all",
            "GETCONF DataDirectory",
            "GETCONF ExcludeNodes",
            "GETINFO ip-to-country/ipv4-available",
            "SETCONF NumEntryGuards=2",
            "SETCONF GuardLifetime=\"30 days\"",
            "SETCONF HSLayer2Nodes=AAAA,BBBB",
            "SETEVENTS CIRC CIRC_BW CIRC_MINOR BW ORCONN NETWORK_LIVENESS BUILDTIMEOUT_SET SIGNAL",
            "CLOSECIRCUIT 7",
        ],
        &[
            "ADD_ONION NEW:BEST Port=80,8080",
            "CLOSESTREAM 1 1",
            "GETINFO stream-status",
        ],
    ),
    (
        "bridge",
        &[
            "GETINFO bus/chain",
            "GETCONF BusMaxMessageLength BusHistory",
            "SETEVENTS POSTMESSAGE CONTROLLER",
            "CONTROLLERNAME bridge_relays",
            "CONTROLLERNAME alice_at_relay2",
            "GETINFO list-controllers",
            "GETINFO recent-messages",
            "POSTMESSAGE @bob hi",
            "POSTMESSAGE @all hi",
        ],
        &["GETINFO version", "SETCONF BusHistory=1", "SIGNAL NEWNYM"],
    ),
    (
        "bus-user",
        &[
            "CONTROLLERNAME alice_wallet",
            "POSTMESSAGE @all hi",
            "SETEVENTS POSTMESSAGE CONTROLLER",
            "GETINFO list-controllers new-messages recent-messages",
        ],
        &[
            "CONTROLLERNAME bob_wallet",
            "CONTROLLERNAME alice",
            "GETINFO version",
        ],
    ),
];

/// Alice's grants by a ready profile, as the file says it.
fn grants(name: &str) -> Grants {
    let path = directory().join(format!("{name}.policy"));
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let own = format!("Profile own\nMatch any\nUse {name}\n");
    let source = |file, text| Source {
        file,
        text,
        group: 0,
    };
    let sources = [source(name, &text), source("own", own.as_bytes())];
    let names = Names {
        users: BTreeMap::from([(1000, "alice".into())]),
        ..Names::default()
    };
    let policy = Policy::parse(&sources, &names).unwrap_or_else(|problems| panic!("{problems:?}"));
    let profiles: Vec<_> = policy.profiles().collect();
    assert_eq!(BTreeSet::from_iter(profiles), BTreeSet::from([name, "own"]));
    let identity = Identity {
        uid: 1000,
        ..Identity::default()
    };
    Grants::unite(&policy, &identity)
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/policy")
}

fn fields(line: &str) -> Fields {
    let line = line.replace("{onion}", ONION).replace("{key}", KEY);
    let octets = format!("{}\r\n", line.replace("{client}", CLIENT));
    let Framed::Command(command) = Framer::default().next(octets.as_bytes()) else {
        panic!("{line}");
    };
    let fields = text::verb(command.keyword).and_then(|verb| fields::parse(verb, &command));
    fields.unwrap_or_else(|refusal| panic!("{line}: {refusal:?}"))
}

fn is_allowed(grants: &Grants, line: &str) -> bool {
    // Another owner's service, and a path that only root can change.
    let mut ledger = Ledger::default();
    let onion = Onion::parse(ONION.as_bytes()).expect("an address");
    ledger.handle_onion(None, Some(&onion));
    let behind = Behind {
        control_ports: &[9051],
        ports: &[9050],
        protected: PROTECTED_PORTS,
        is_safe: Some(&|_| true),
        ..Behind::default()
    };
    matches!(
        judge(grants, &ledger, &behind, &fields(line)),
        Verdict::Allow(_)
    )
}

#[test]
fn each_program_may_do_what_it_does_and_no_more() {
    let mut wrong = Vec::new();
    for (name, lines, others) in PROGRAMS {
        let grants = grants(name);
        for line in *lines {
            if !is_allowed(&grants, line) {
                wrong.push(format!("{name} may not {line}"));
            }
        }
        for line in others.iter().chain(NEVER) {
            if is_allowed(&grants, line) {
                wrong.push(format!("{name} may {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_ready_profile_is_tested() {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(directory()).expect("it is there") {
        let name = entry.expect("an entry").file_name();
        let name = name.into_string().expect("ASCII");
        files.insert(name.strip_suffix(".policy").expect("a policy").to_owned());
    }
    let tested = PROGRAMS.iter().map(|(name, ..)| (*name).to_owned());
    assert_eq!(files, tested.collect());
}

#[test]
fn what_goes_to_tor_is_what_a_profile_forces() {
    let allowed = |name: &str, line: &str| {
        let behind = Behind::default();
        match judge(&grants(name), &Ledger::default(), &behind, &fields(line)) {
            Verdict::Allow(allowed) => allowed,
            Verdict::Refuse(refused) => panic!("{line}: {refused:?}"),
        }
    };
    let line = "ADD_ONION NEW:BEST Port=8181,127.0.0.1:8181 Port=64738,127.0.0.1:64738";
    let mut written = Vec::new();
    allowed("wahay", line).fields.write(&mut written);
    let expected = "ADD_ONION NEW:BEST Flags=DiscardPK Port=8181,127.0.0.1:8181 \
        Port=64738,127.0.0.1:64738\r\n";
    assert_eq!(String::from_utf8_lossy(&written), expected);
    // Nobody else's circuits, streams, services and keys are shown.
    let views = allowed("monitor", "GETINFO circuit-status stream-status").views;
    assert!(views.own_circuits && views.own_streams);
    assert!(
        allowed("onionshare", "GETINFO onions/current")
            .views
            .own_onions
    );
    assert!(
        allowed("tor-browser", "ONION_CLIENT_AUTH_VIEW")
            .views
            .own_keys
    );
}
