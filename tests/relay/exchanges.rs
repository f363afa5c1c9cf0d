//! What the differ says to both.

use std::fmt::Write as _;

/// One connection, from the first octet to the last.
pub struct Exchange {
    /// Its title, for whoever reads a failure.
    pub title: String,
    pub steps: Vec<Step>,
}

pub enum Step {
    Send(Vec<u8>),
    /// Wait until these octets come.
    Until(Vec<u8>),
    /// Say that nothing more will be sent.
    HalfClose,
}

use Step::{HalfClose, Send, Until};

impl Exchange {
    fn new(title: &str, steps: Vec<Step>) -> Self {
        let title = title.into();
        Self { title, steps }
    }

    /// A login, and then these octets at once.
    fn of(octets: &[u8]) -> Self {
        let mut title = octets.escape_ascii().to_string();
        title.truncate(100);
        let octets = [b"AUTHENTICATE\r\n", octets].concat();
        Self::new(&title, vec![Send(octets)])
    }
}

/// Commands of one line, each on a connection of its own.
pub const LINES: &[&str] = &[
    // Nothing, and what is no command.
    "",
    " ",
    " GETINFO version",
    "\t",
    "FOO",
    "foo bar",
    "650 OK",
    "250 OK",
    "GETINFOversion",
    "GETINFO\tversion",
    "LOADCONF",
    "LOADCONF x",
    "POSTDESCRIPTOR x",
    "HSPOST x",
    "LINE_WITH_CR\rGETINFO version",
    // Login, once more.
    "AUTHENTICATE",
    "AUTHENTICATE ",
    "AUTHENTICATE \"\"",
    "AUTHENTICATE \"pass\\\"word\"",
    "AUTHENTICATE 00ff",
    "authenticate 00FF ",
    "AUTHENTICATE 00f",
    "AUTHENTICATE zz",
    "AUTHENTICATE \"open",
    "AUTHENTICATE 00 11",
    "AUTHCHALLENGE",
    "AUTHCHALLENGE SAFECOOKIE",
    "AUTHCHALLENGE SAFECOOKIE 00",
    "AUTHCHALLENGE SAFECOOKIE 0",
    "AUTHCHALLENGE COOKIE 00",
    "PROTOCOLINFO",
    "PROTOCOLINFO 1",
    "PROTOCOLINFO 1 2",
    "PROTOCOLINFO 2",
    "PROTOCOLINFO abc",
    "protocolinfo",
    // GETINFO.
    "GETINFO",
    "GETINFO ",
    "GETINFO version",
    "getinfo version",
    "GETINFO VERSION",
    "GETINFO version version",
    "GETINFO  version   config-file ",
    "GETINFO nothing",
    "GETINFO version nothing more nothing",
    "GETINFO nothing version",
    "GETINFO \"version\"",
    "GETINFO version=1",
    "GETINFO ns/id/0000000000000000000000000000000000000000",
    "GETINFO ns/id/xyz",
    "GETINFO ns/name/moria1",
    "GETINFO ns/purpose/bridge",
    "GETINFO ns/purpose/general desc/id/00 version",
    "GETINFO desc/name/moria1",
    "GETINFO desc/id/0000000000000000000000000000000000000000",
    "GETINFO desc-annotations/id/0000000000000000000000000000000000000000",
    "GETINFO extra-info/digest/0000000000000000000000000000000000000000",
    "GETINFO md/id/0000000000000000000000000000000000000000",
    "GETINFO md/name/moria1",
    "GETINFO dir/server/all",
    "GETINFO dir/status/all",
    "GETINFO dir/nothing",
    "GETINFO hs/client/desc/id/duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
    "GETINFO hs/client/desc/id/short",
    "GETINFO hs/service/desc/id/duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
    "GETINFO ip-to-country/ipv4-available",
    "GETINFO ip-to-country/127.0.0.1",
    "GETINFO ip-to-country/nowhere",
    "GETINFO consensus/valid-after",
    "GETINFO consensus/packages",
    "GETINFO net/listeners/socks",
    "GETINFO net/listeners/control",
    "GETINFO net/listeners/nothing",
    "GETINFO downloads/networkstatus/nothing",
    "GETINFO downloads/cert/fp/0000000000000000000000000000000000000000",
    "GETINFO downloads/desc/0000000000000000000000000000000000000000",
    "GETINFO downloads/bridge/0000000000000000000000000000000000000000",
    "GETINFO config/SocksPort",
    "GETINFO config/Nothing",
    "GETINFO stats/ntor/nothing",
    "GETINFO fingerprint version",
    // Options.
    "GETCONF",
    "GETCONF ",
    "GETCONF Log",
    "getconf log",
    "GETCONF Log Log ContactInfo",
    "GETCONF Nothing",
    "GETCONF Nothing Log Never",
    "GETCONF Log=1",
    "GETCONF \"Log\"",
    "GETCONF __owningcontrollerprocess",
    "GETCONF HiddenServiceOptions",
    "GETCONF HiddenServiceDir",
    "GETCONF ContactInfo MaxCircuitDirtiness NewCircuitPeriod ORPort UseBridges",
    "SETCONF",
    "SETCONF ",
    "SETCONF ContactInfo=one",
    "SETCONF ContactInfo = one",
    "SETCONF contactinfo=\"two \\\"words\\\" \\\\ \\n\"",
    "SETCONF ContactInfo=\"open",
    "SETCONF ContactInfo=\"a\"b",
    "SETCONF ContactInfo",
    "SETCONF ContactInfo=",
    "SETCONF ContactInfo=x Nothing=1",
    "SETCONF Nothing",
    "SETCONF =1",
    "SETCONF MaxCircuitDirtiness=ten",
    "SETCONF MaxCircuitDirtiness=20 NewCircuitPeriod=40",
    "SETCONF MaxCircuitDirtiness=20 MaxCircuitDirtiness=30",
    "SETCONF DataDirectory=/nowhere",
    "SETCONF User=nobody",
    "SETCONF Sandbox=1",
    "SETCONF Log=\"bad level\"",
    "SETCONF HiddenServicePort=80",
    "RESETCONF",
    "RESETCONF ContactInfo",
    "RESETCONF MaxCircuitDirtiness NewCircuitPeriod=25",
    "RESETCONF NewCircuitPeriod",
    "RESETCONF Nothing",
    "RESETCONF ContactInfo=\"open",
    "SAVECONF",
    "SAVECONF FORCE",
    "SAVECONF x",
    // Events.
    "SETEVENTS",
    "SETEVENTS ",
    "setevents conf_changed",
    "SETEVENTS CIRC STREAM ORCONN NEWDESC ADDRMAP GUARD NS STATUS_CLIENT HS_DESC",
    "SETEVENTS CIRC CIRC CIRC",
    "SETEVENTS EXTENDED",
    "SETEVENTS EXTENDED CIRC",
    "SETEVENTS CIRC EXTENDED STREAM",
    "SETEVENTS NOTHING",
    "SETEVENTS CIRC NOTHING STREAM MORE",
    "SETEVENTS \"CIRC\"",
    "SETEVENTS CIRC,STREAM",
    "SETEVENTS CIRC=1",
    "USEFEATURE",
    "USEFEATURE VERBOSE_NAMES",
    "USEFEATURE extended_events VERBOSE_NAMES",
    "USEFEATURE NOTHING",
    "USEFEATURE VERBOSE_NAMES NOTHING",
    // Signals.
    "SIGNAL",
    "SIGNAL ",
    "SIGNAL NOTHING",
    "SIGNAL nothing",
    "SIGNAL USR1 USR2",
    "SIGNAL CLEARDNSCACHE",
    "signal cleardnscache",
    "SIGNAL HEARTBEAT",
    "SIGNAL DUMP",
    "SIGNAL ACTIVE",
    "SIGNAL \"DUMP\"",
    // Addresses.
    "MAPADDRESS",
    "MAPADDRESS one.example=two.example",
    "MAPADDRESS 1.2.3.4=three.example one.example=1.2.3.5",
    "MAPADDRESS bad one.example=one.example three.example=four.example",
    "MAPADDRESS one.example",
    "MAPADDRESS one.example=",
    "MAPADDRESS =one.example",
    "MAPADDRESS 0.0.0.0=automatic.example",
    "MAPADDRESS .=automatic.example five.example=six.example",
    "MAPADDRESS *.example=.exit",
    "GETINFO address-mappings/all address-mappings/control address-mappings/nothing",
    "GETINFO address-mappings/config",
    "RESOLVE",
    "RESOLVE mode=nothing",
    "RESOLVE mode=reverse one.example",
    // Circuits and streams, of which there are none.
    "EXTENDCIRCUIT",
    "EXTENDCIRCUIT 0",
    "EXTENDCIRCUIT 0 purpose=general",
    "EXTENDCIRCUIT 0 nobody",
    "EXTENDCIRCUIT 5 nobody",
    "EXTENDCIRCUIT x",
    "SETCIRCUITPURPOSE 5",
    "SETCIRCUITPURPOSE 5 purpose=general",
    "SETCIRCUITPURPOSE 5 purpose=nothing",
    "SETCIRCUITPURPOSE x purpose=general",
    "ATTACHSTREAM",
    "ATTACHSTREAM 1",
    "ATTACHSTREAM 1 2",
    "ATTACHSTREAM x y",
    "REDIRECTSTREAM",
    "REDIRECTSTREAM 1 one.example",
    "CLOSESTREAM",
    "CLOSESTREAM 1",
    "CLOSESTREAM 1 1",
    "CLOSESTREAM x 1",
    "CLOSECIRCUIT",
    "CLOSECIRCUIT 1",
    "CLOSECIRCUIT 1 IfUnused",
    "CLOSECIRCUIT x",
    "DROPGUARDS",
    "DROPGUARDS x",
    "DROPTIMEOUTS",
    "DROPOWNERSHIP",
    "DROPOWNERSHIP x",
    // Onion services and their clients.
    "ADD_ONION",
    "ADD_ONION NEW:BEST",
    "ADD_ONION NEW:BEST Port=80",
    "ADD_ONION NEW:ED25519-V3 Flags=DiscardPK Port=80,127.0.0.1:8080 Port=81",
    "ADD_ONION NEW:RSA1024 Port=80",
    "ADD_ONION NEW:NOTHING Port=80",
    "ADD_ONION NEW Port=80",
    "ADD_ONION ED25519-V3:short Port=80",
    "ADD_ONION NEW:BEST Port=eighty",
    "ADD_ONION NEW:BEST Port=80 Port=",
    "ADD_ONION NEW:BEST Flags=Nothing Port=80",
    "ADD_ONION NEW:BEST Flags=NonAnonymous Port=80",
    "ADD_ONION NEW:BEST Flags=V3Auth Port=80",
    "ADD_ONION NEW:BEST Flags=V3Auth Port=80 ClientAuthV3=short",
    "ADD_ONION NEW:BEST Port=80 MaxStreams=70000",
    "ADD_ONION NEW:BEST Port=80 Nothing=1",
    "ADD_ONION NEW:BEST Port=80,unix:/nowhere",
    "DEL_ONION",
    "DEL_ONION short",
    "DEL_ONION duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
    "DEL_ONION a b",
    "GETINFO onions/current",
    "GETINFO onions/detached onions/nothing",
    "HSFETCH",
    "HSFETCH short",
    "HSFETCH duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
    "HSFETCH duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad SERVER=nobody",
    "ONION_CLIENT_AUTH_ADD",
    "ONION_CLIENT_AUTH_ADD short x25519:short",
    "ONION_CLIENT_AUTH_REMOVE",
    "ONION_CLIENT_AUTH_REMOVE short",
    "ONION_CLIENT_AUTH_REMOVE duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
    "ONION_CLIENT_AUTH_VIEW",
    "ONION_CLIENT_AUTH_VIEW short",
    "ONION_CLIENT_AUTH_VIEW duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad",
    "QUIT",
    "quit",
    "QUIT now",
];

/// What comes before a login, which the bus does not need: only what both answer alike.
const WITHOUT_LOGIN: &[&str] = &[
    "PROTOCOLINFO\r\nAUTHENTICATE\r\n",
    "PROTOCOLINFO 1\r\nAUTHENTICATE\r\n",
    "PROTOCOLINFO 1\r\nPROTOCOLINFO 1\r\n",
    "PROTOCOLINFO 1\r\nPROTOCOLINFO 1\r\nAUTHENTICATE\r\n",
    "PROTOCOLINFO abc\r\nAUTHENTICATE\r\n",
    "AUTHENTICATE \r\nPROTOCOLINFO\r\nPROTOCOLINFO\r\n",
    "AUTHENTICATE \"x\" \r\n",
    "AUTHENTICATE zz\r\nGETINFO version\r\n",
    "AUTHENTICATE \"open\r\nAUTHENTICATE\r\n",
    "AUTHCHALLENGE SAFECOOKIE 00\r\nAUTHENTICATE\r\n",
    "AUTHCHALLENGE\r\nAUTHENTICATE\r\n",
    "QUIT\r\n",
    "QUIT\r\nAUTHENTICATE\r\n",
];

/// Several commands at once, and commands of several lines.
pub const BATCHES: &[&[u8]] = &[
    b"GETINFO version\r\nGETINFO nothing\r\nFOO\r\n\r\nGETCONF Log\r\nSETEVENTS\r\nUSEFEATURE X\r\n",
    b"GETINFO version\nGETINFO nothing\n\nFOO\n",
    b"GETINFO version\r\r\nFOO\r\r\n",
    b"GETINFO version\r\n\r\n\r\n \r\nGETINFO version\r\n",
    b"GETINFO config-file\0nothing\r\nGETINFO version\0\r\n",
    b"\0\r\n\0GETINFO version\r\nFOO\0BAR\r\n",
    b"SETCONF ContactInfo=\xe4\xff\x80\r\nGETCONF ContactInfo\r\nSETCONF ContactInfo\r\n",
    b"SETCONF ContactInfo=\"\\344\\t\\x41\"\r\nGETCONF ContactInfo\r\nRESETCONF ContactInfo\r\n",
    b"\xff\xfe\xfd\xfc\r\nF\xd6\xd6 bar\r\nGETINFO \xe9t\xe9\r\n",
    b"QUIT\r\nGETINFO version\r\nFOO\r\n",
    b"GETINFO version\r\nQUIT\r\n+LOADCONF\r\n",
    b"SETCONF MaxCircuitDirtiness=77\r\nQUIT\r\nSETCONF MaxCircuitDirtiness=88\r\n",
    b"GETCONF MaxCircuitDirtiness\r\nRESETCONF MaxCircuitDirtiness\r\n",
    b"GETINFO version\r\nAUTHENTICATE zz\r\nGETINFO version\r\n",
    b"GETINFO version\r\nPROTOCOLINFO abc\r\nGETINFO version\r\n",
    b"SETEVENTS CONF_CHANGED\r\nSETEVENTS NOTHING\r\nGETINFO version\r\nSETEVENTS\r\nFOO\r\n",
    b"SETEVENTS CIRC\r\nMAPADDRESS a.example=b.example\r\nSETEVENTS\r\nGETINFO nothing\r\n",
    // One reply that may have no end of its own, between others.
    b"FOO\r\nONION_CLIENT_AUTH_ADD \
      duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad \
      x25519:aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg= ClientName=seventeen_letters\r\nBAR\r\n\
      ONION_CLIENT_AUTH_VIEW\r\nONION_CLIENT_AUTH_ADD \
      duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad \
      x25519:cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA= ClientName=short\r\n\
      ONION_CLIENT_AUTH_VIEW duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad\r\n\
      ONION_CLIENT_AUTH_ADD duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad \
      x25519:cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA= Flags=Permanent\r\n\
      ONION_CLIENT_AUTH_REMOVE duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad\r\n\
      ONION_CLIENT_AUTH_VIEW\r\n",
    b"MAPADDRESS bad a.example=b.example worse c.example=d.example\r\nFOO\r\n",
    // With a body.
    b"+LOADCONF\r\n.\r\n",
    b"+LOADCONF\r\n\r\n.\r\nFOO\r\n",
    b"+LOADCONF\r\nNothing 1\r\n.\r\nFOO\r\n",
    b"+LOADCONF\r\nMaxCircuitDirtiness ten\r\n.\r\nFOO\r\n",
    b"+loadconf x\r\nNothing 1\r\n.\r\nFOO\r\n",
    b"+LOADCONF\nNothing 2\n.\nFOO\n",
    b"+LOADCONF\r\nQUIT\r\nAUTHENTICATE zz\r\nGETINFO version\r\n.\r\nFOO\r\n",
    b"+LOADCONF\r\n..Nothing\r\n...\r\n.\r\nFOO\r\n",
    b"+LOADCONF\r\nNothing\0Hidden\r\n.\r\nFOO\r\n",
    b"+POSTDESCRIPTOR\r\n.\r\nFOO\r\n",
    b"+POSTDESCRIPTOR purpose=general cache=no\r\nrouter x\r\n.\r\nFOO\r\n",
    b"+POSTDESCRIPTOR purpose=nothing\r\nrouter x\r\n.\r\nFOO\r\n",
    b"+POSTDESCRIPTOR nothing=x\r\nrouter x\r\n.\r\nFOO\r\n",
    b"+HSPOST\r\nhs-descriptor 3\r\n.\r\nFOO\r\n",
    b"+HSPOST\r\nx\r\n.\r\n+HSPOST\r\nx\r\n.\r\nFOO\r\nGETINFO version\r\n+HSPOST\r\nx\r\n.\r\n",
    b"+HSPOST SERVER=nobody\r\nhs-descriptor 3\r\n.\r\nFOO\r\n",
    b"+HSPOST HSADDRESS=short\r\nhs-descriptor 3\r\n.\r\nFOO\r\n",
    b"+HSPOST HSADDRESS=duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad\r\nx\r\n.\r\nFOO\r\n",
    b"+HSPOST HSADDRESS=duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad\r\n.\r\nFOO\r\n",
    b"+FOO\r\nGETINFO version\r\n.\r\n",
    b"+GETINFO version\r\n.\r\nGETINFO version\r\n",
    b"+\r\nx\r\n.\r\nFOO\r\n",
    b"+QUIT\r\nGETINFO version\r\n.\r\nFOO\r\n",
    b"+AUTHENTICATE zz\r\n.\r\nFOO\r\n",
];

/// Cut off by the controller, which half-closes.
const LEFT: &[&[u8]] = &[
    b"",
    b"GETINFO version\r\n",
    b"GETINFO version\r\nFOO\r\nGETCONF Log\r\n",
    b"GETINFO version\r\nGETINFO ver",
    b"+LOADCONF\r\nNothing 1\r\n",
    b"+HSPOST\r\nx\r\n.\r\n",
    b"SETEVENTS CONF_CHANGED\r\n",
    b"SETCONF MaxCircuitDirtiness=99\r\n",
];

/// The private key of an onion service, one for each of some letters.
fn onion_key(letter: u8) -> String {
    // What a key's clamping asks of its first and 32nd octet holds for these.
    assert!(b"hpx".contains(&letter));
    let group = match letter {
        b'h' => ["aGho", "aA=="],
        b'p' => ["cHBw", "cA=="],
        _ => ["eHh4", "eA=="],
    };
    format!("ED25519-V3:{}{}", group[0].repeat(21), group[1])
}

/// Every exchange, in the order in which both get them. `info_names` is what Tor has said.
pub fn all(info_names: &str) -> Vec<Exchange> {
    let mut all = Vec::new();
    // Before anything is mapped: Tor lists mappings in an order of chance.
    let keys: Vec<_> = info_names
        .lines()
        .filter_map(|line| line.split_once(" -- "))
        .map(|(key, _)| key)
        .filter(|key| !key.contains(['*', '<']))
        .collect();
    assert!(keys.len() > 60, "GETINFO info/names has only {keys:?}");
    for key in &keys {
        all.push(Exchange::of(format!("GETINFO {key}\r\n").as_bytes()));
    }
    for line in LINES {
        all.push(Exchange::of(format!("{line}\r\n").as_bytes()));
    }
    for octets in WITHOUT_LOGIN {
        let title = format!("without login: {}", octets.escape_default());
        all.push(Exchange::new(
            &title,
            vec![Send(octets.as_bytes().to_vec())],
        ));
    }
    for batch in BATCHES {
        all.push(Exchange::of(batch));
    }
    for batch in LEFT {
        let mut left = Exchange::of(batch);
        left.title = format!("then half-closed: {}", left.title);
        left.steps.push(HalfClose);
        all.push(left);
    }
    all.extend(with_onions());
    all.extend(with_events());
    all.extend(big());
    // They change what other exchanges ask for.
    let mut hup = Exchange::of(b"SETEVENTS SIGNAL\r\nSIGNAL HUP\r\n");
    hup.steps.push(Until(b"650 SIGNAL RELOAD\r\n".into()));
    all.push(hup);
    let last = b"AUTHENTICATE\r\nSETEVENTS SIGNAL\r\nSIGNAL HALT\r\nGETINFO version\r\n".to_vec();
    all.push(Exchange::new("the end", vec![Send(last)]));
    all
}

fn with_onions() -> Vec<Exchange> {
    let (h, p, x) = (onion_key(b'h'), onion_key(b'p'), onion_key(b'x'));
    // The address that belongs to `p`.
    let address = "5mopv5h6fi7vx77g4ypi6nrgndhtxnk3e7fljqddkbmjptpbej7cdwqd";
    [
        format!("ADD_ONION {h} Port=80\r\nGETINFO onions/current\r\nADD_ONION {h} Port=81\r\n"),
        format!(
            "ADD_ONION {p} Flags=Detach Port=80\r\nGETINFO onions/current onions/detached\r\n\
             ADD_ONION {x} Port=80\r\nGETINFO onions/detached onions/current\r\n"
        ),
        // Another connection sees the detached one only, and may remove it.
        "GETINFO onions/detached\r\nGETINFO onions/current\r\n".to_owned(),
        format!("DEL_ONION {address}\r\nDEL_ONION {address}\r\nGETINFO onions/detached\r\n"),
        format!("ADD_ONION {p} Flags=Detach Port=80\r\nDEL_ONION {address}\r\n"),
    ]
    .into_iter()
    .map(|commands| Exchange::of(commands.as_bytes()))
    .collect()
}

/// What changes something and tells those who asked: they hear of it behind the reply.
fn with_events() -> Vec<Exchange> {
    [
        (
            "SETEVENTS CONF_CHANGED\r\n",
            "SETCONF ContactInfo=one\r\n",
            "650 OK\r\n",
        ),
        (
            "SETEVENTS CONF_CHANGED SIGNAL\r\n",
            "RESETCONF ContactInfo\r\n",
            "650 OK\r\n",
        ),
        (
            "SETEVENTS CONF_CHANGED\r\n",
            "SETCONF MaxCircuitDirtiness=21 NewCircuitPeriod=41 ContactInfo=\"a b\"\r\n",
            "650 OK\r\n",
        ),
        (
            "SETEVENTS conf_changed\r\n",
            "RESETCONF MaxCircuitDirtiness NewCircuitPeriod ContactInfo\r\n",
            "650 OK\r\n",
        ),
        (
            "SETEVENTS SIGNAL\r\n",
            "SIGNAL CLEARDNSCACHE\r\n",
            "650 SIGNAL CLEARDNSCACHE\r\n",
        ),
        (
            "SETEVENTS EXTENDED SIGNAL\r\n",
            "SIGNAL DUMP\r\n",
            "650 SIGNAL DUMP\r\n",
        ),
        (
            "SETEVENTS SIGNAL CIRC\r\nSETEVENTS SIGNAL\r\n",
            "signal active\r\n",
            "650 SIGNAL ACTIVE\r\n",
        ),
    ]
    .into_iter()
    .map(|(subscribe, change, event)| {
        let subscribe = format!("AUTHENTICATE\r\n{subscribe}").into_bytes();
        let title = format!("event of {}", change.escape_default());
        let steps = vec![
            Send(subscribe),
            Send(change.into()),
            Until(event.into()),
            Send(b"SETEVENTS\r\n".into()),
        ];
        Exchange::new(&title, steps)
    })
    .collect()
}

/// What is long, or too long.
fn big() -> Vec<Exchange> {
    let mut all = Vec::new();
    let long = |title: &str, octets: String| {
        let octets = ["AUTHENTICATE\r\n", &octets].concat().into_bytes();
        Exchange::new(title, vec![Send(octets)])
    };
    let filler = "x".repeat(1 << 20);
    all.push(long("a long value", {
        format!(
            "SETCONF ContactInfo={}\r\nGETCONF ContactInfo\r\n",
            &filler[..100_000]
        )
    }));
    all.push(long("no longer", "RESETCONF ContactInfo\r\n".into()));
    all.push(long(
        "a long keyword",
        format!("{}\r\nBAR\r\n", &filler[..50_000]),
    ));
    all.push(long("a long key", {
        format!("GETINFO {}\r\nGETINFO version\r\n", &filler[..500_000])
    }));
    all.push(long("a line that is too long", format!("FOO {filler}\r\n")));
    all.push(long(
        "a line without end",
        format!("FOO\r\nGETINFO {filler}{filler}"),
    ));
    all.push(long("a body that is too long", {
        format!(
            "+LOADCONF\r\n{}\r\n.\r\nFOO\r\n",
            format!("{}\r\n", &filler[..1000]).repeat(1100)
        )
    }));
    let mut many_lines = String::from("+LOADCONF\r\n");
    for number in 0..20_000 {
        // It fails, so that nothing changes.
        let _ = write!(many_lines, "# line {number}\r\n");
    }
    all.push(long(
        "a long body",
        many_lines + "Nothing 1\r\n.\r\nFOO\r\n",
    ));
    let mut many = String::new();
    for number in 0..2000 {
        let _ = write!(many, "GETINFO nothing/{number}\r\n");
    }
    all.push(long("many commands", many));
    all.push(long(
        "large replies",
        "GETINFO info/names config/names\r\n".repeat(30),
    ));
    all
}
