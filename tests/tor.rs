//! The same octets to a real Tor and to the daemon: the answers must be the same.
//!
//! What differs for a reason is replaced first, see [`Side::substitute`]. Options are the only
//! words that differ on the way in: `{Number}` and the like stand for a Tor option on one side
//! and one of the bus on the other.

#[path = "tor/blanks.rs"]
mod blanks;
#[path = "relay/tor.rs"]
mod real_tor;
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;

use real_tor::{Home, has_tor};
use support::{PATIENCE, Place};

/// After it the connection is known to be open, and what came before to be answered.
const FENCE: &str = "FENCE\r\n";

/// One of the two.
struct Side {
    socket: PathBuf,
    /// Where the cookie is, if one is required.
    cookie: PathBuf,
    /// What a placeholder stands for.
    words: [(&'static str, &'static str); 4],
}

const TOR_WORDS: [(&str, &str); 4] = [
    ("{Number}", "MaxClientCircuitsPending"),
    ("{number}", "maxclientcircuitspending"),
    ("{Size}", "BandwidthRate"),
    ("{Frozen}", "DataDirectory"),
];

const BUS_WORDS: [(&str, &str); 4] = [
    ("{Number}", "BusHistory"),
    ("{number}", "bushistory"),
    ("{Size}", "BusMaxMessageLength"),
    ("{Frozen}", "BusStateDirectory"),
];

impl Side {
    fn cookie_hex(&self) -> String {
        fs::read(&self.cookie).map_or_else(|_| String::new(), hex::encode)
    }

    /// Sends octets, ends, and returns all that came back, with placeholders for what may differ.
    fn ask(&self, octets: &[u8]) -> String {
        let mut question = octets.to_vec();
        for (placeholder, word) in self.words {
            question = replace(&question, placeholder, word);
        }
        question = replace(&question, "{cookie}", &self.cookie_hex());
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time that is not 0");
        let mut writer = stream.try_clone().expect("a descriptor");
        // Each may close before it has read all.
        let writer = thread::spawn(move || {
            let _ = writer.write_all(&question);
            let _ = writer.shutdown(Shutdown::Write);
        });
        let mut answer = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match stream.read(&mut buffer) {
                // It closed with octets unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error} after {}", answer.escape_ascii()),
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&buffer[..length]),
            }
        }
        writer.join().expect("it does not panic");
        self.substitute(answer)
    }

    fn substitute(&self, answer: Vec<u8>) -> String {
        let mut answer = answer;
        for (placeholder, word) in self.words {
            answer = replace(&answer, word, placeholder);
        }
        // The daemon says which Tor's protocol it speaks, and then who it is.
        let version = concat!(" (onionbus-", env!("CARGO_PKG_VERSION"), ")");
        answer = replace(&answer, version, "");
        // Each has a cookie of its own.
        let cookie = self.cookie.to_str().expect("a path of this test");
        answer = replace(&answer, cookie, "{cookie file}");
        let mut lines = Vec::new();
        for line in answer.escape_ascii().to_string().split_inclusive("\\n") {
            lines.push(substitute_line(line));
        }
        lines.join("\n")
    }
}

/// What differs within a line.
fn substitute_line(line: &str) -> String {
    // The Tor at hand may be an older or a newer one than that whose protocol the daemon speaks.
    for start in ["250-version=", "250-VERSION Tor=\\\""] {
        if let Some(version) = line.strip_prefix(start) {
            let rest =
                version.trim_start_matches(|octet: char| octet.is_ascii_digit() || octet == '.');
            return format!("{start}{{version}}{rest}");
        }
    }
    // Nonces are random, and hashes follow from them.
    if line.starts_with("250 AUTHCHALLENGE SERVERHASH=") {
        return format!("a challenge of {} octets", line.len());
    }
    // Why a value is wrong, each says in its own words: the values are different ones.
    for start in [
        "513 Unacceptable option value: ",
        "553 Transition not allowed: ",
        "552 Invalid config file: ",
    ] {
        if line.starts_with(start) {
            return start.to_owned();
        }
    }
    line.to_owned()
}

fn replace(octets: &[u8], what: &str, with: &str) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(octets.len());
    let mut rest = octets;
    while !what.is_empty()
        && let Some(at) = memchr::memmem::find(rest, what.as_bytes())
    {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(with.as_bytes());
        rest = &rest[at + what.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// Asks both, and says everything that differs at once.
fn compare(cookie: bool, questions: &[Vec<u8>]) {
    if !has_tor() {
        return;
    }
    let home = Home::new();
    let cookie_file = home.path().join("cookie");
    let option = format!("CookieAuthentication {}", u8::from(cookie));
    home.add(&format!(
        "{option}\nCookieAuthFile {}",
        cookie_file.display()
    ));
    let _tor = home.start_with_arguments();
    let place = Place::new();
    let _daemon = place.serve().set(&format!("Bus{option}")).ready();
    let tor_side = Side {
        socket: home.socket(),
        cookie: cookie_file,
        words: TOR_WORDS,
    };
    let bus_side = Side {
        socket: place.socket(),
        cookie: place.path("state/control_auth_cookie"),
        words: BUS_WORDS,
    };
    let mut different = 0;
    for question in questions {
        let (tor, bus) = (tor_side.ask(question), bus_side.ask(question));
        if tor != bus {
            different += 1;
            let some = &question[..question.len().min(200)];
            eprintln!("asked    {}", some.escape_ascii());
            eprintln!("Tor says {}", &tor[..tor.len().min(1000)]);
            eprintln!("we say   {}\n", &bus[..bus.len().min(1000)]);
        }
    }
    assert_eq!(different, 0, "of {} answers differ", questions.len());
}

/// Lines, and a fence behind them.
fn fenced(start: &str, lines: &[&str]) -> Vec<Vec<u8>> {
    lines
        .iter()
        .map(|line| format!("{start}{line}\r\n{FENCE}").into_bytes())
        .collect()
}

#[test]
fn login_without_authentication() {
    // Before the login the bus lets in what Tor does not, so a login is what tells whether the
    // connection is still open.
    let questions: Vec<_> = LOGIN
        .iter()
        .map(|line| format!("{line}\r\nAUTHENTICATE\r\n{FENCE}").into_bytes())
        .collect();
    compare(false, &questions);
}

#[test]
fn blanks_at_the_login() {
    compare(false, &blanks::questions(false));
}

#[test]
fn blanks_at_the_login_with_a_cookie() {
    compare(true, &blanks::questions(true));
}

#[test]
fn login_with_a_cookie() {
    let mut questions = fenced("", LOGIN);
    questions.extend(fenced("", COOKIE));
    questions.extend(fenced("", COMMANDS));
    compare(true, &questions);
}

#[test]
fn commands() {
    let mut questions = fenced("AUTHENTICATE\r\n", COMMANDS);
    questions.extend(fenced("AUTHENTICATE\r\n", LOGIN));
    compare(false, &questions);
}

#[test]
fn framing() {
    let start = b"AUTHENTICATE\r\n".to_vec();
    let questions: Vec<Vec<u8>> = FRAMING
        .iter()
        .map(|octets| [&start[..], octets, FENCE.as_bytes()].concat())
        .collect();
    compare(false, &questions);
}

#[test]
fn the_limit_of_a_command() {
    const MEBIOCTET: usize = 1 << 20;
    let mut questions = Vec::new();
    for length in (MEBIOCTET - 4..=MEBIOCTET + 1).chain([MEBIOCTET + 70_000]) {
        for end in ["\r\n", "\n"] {
            let mut question = b"AUTHENTICATE\r\n".to_vec();
            // Tor quotes as much of an argument as its log lines hold, so it must not be quoted.
            let line = [b"SETEVENTS ", &vec![b' '; length][..]].concat();
            question.extend_from_slice(&line[..length - end.len()]);
            question.extend_from_slice(end.as_bytes());
            question.extend_from_slice(FENCE.as_bytes());
            questions.push(question);
        }
    }
    for length in MEBIOCTET - 3..=MEBIOCTET + 3 {
        let mut question = b"AUTHENTICATE\r\n".to_vec();
        let body = length - "+NOBODY\r\n.\r\n".len();
        question.extend_from_slice(b"+NOBODY\r\n");
        question.extend(b"x\r\n".repeat(body / 3));
        question.truncate(question.len() - 2);
        question.extend(vec![b'y'; body % 3]);
        question.extend_from_slice(b"\r\n.\r\n");
        question.extend_from_slice(FENCE.as_bytes());
        questions.push(question);
    }
    compare(false, &questions);
}

const LOGIN: &[&str] = &[
    "PROTOCOLINFO",
    "PROTOCOLINFO 1",
    "protocolinfo 1 2 3",
    "PROTOCOLINFO abc",
    "PROTOCOLINFO 1x",
    "PROTOCOLINFO 1 abc",
    "PROTOCOLINFO -1",
    "PROTOCOLINFO +1",
    "PROTOCOLINFO -0",
    "PROTOCOLINFO ++1",
    "PROTOCOLINFO 9223372036854775807",
    "PROTOCOLINFO 9223372036854775808",
    "PROTOCOLINFO \\x'\u{1}\t\u{7f}\u{e9}",
    "PROTOCOLINFO 0x1",
    "PROTOCOLINFO 99999999999",
    "PROTOCOLINFO 99999999999999999999",
    "PROTOCOLINFO  1  ",
    "PROTOCOLINFO \"1\"",
    "PROTOCOLINFO\r\nPROTOCOLINFO",
    "PROTOCOLINFO x\r\nPROTOCOLINFO",
    "PROTOCOLINFO\r\nAUTHCHALLENGE SAFECOOKIE 00",
    "AUTHENTICATE",
    "AUTHENTICATE ",
    "AUTHENTICATE\t",
    "authenticate \"\"",
    "AUTHENTICATE \"a password\"",
    "AUTHENTICATE \"a \\\"quoted\\\" \\\\ one\\n\"",
    "AUTHENTICATE 00",
    "AUTHENTICATE 00fF",
    "AUTHENTICATE   00  ",
    "AUTHENTICATE 0",
    "AUTHENTICATE 0x00",
    "AUTHENTICATE password",
    "AUTHENTICATE \"open",
    "AUTHENTICATE \"open\\\"",
    "AUTHENTICATE \"a\"b",
    "AUTHENTICATE \"a\" ",
    "AUTHENTICATE ab\"c\"",
    "AUTHENTICATE 'ab'",
    "AUTHENTICATE 00 00",
    "AUTHENTICATE \"a\" \"b\"",
    "AUTHENTICATE a=b",
    "AUTHENTICATE a=\"b\"",
    "AUTHENTICATE =",
    "AUTHENTICATE =00",
    "AUTHENTICATE 00=",
    "AUTHENTICATE 00\0garbage",
    "AUTHENTICATE \u{e9}",
    "AUTHENTICATE\r\nAUTHENTICATE",
    "AUTHENTICATE \"open\r\nAUTHENTICATE 00",
    "AUTHCHALLENGE",
    "AUTHCHALLENGE ",
    "AUTHCHALLENGE SAFECOOKIE",
    "AUTHCHALLENGE SAFECOOKIE 00112233",
    "authchallenge safecookie 00112233",
    "AUTHCHALLENGE SAFECOOKIE \"nonce\"",
    "AUTHCHALLENGE SAFECOOKIE \"open",
    "AUTHCHALLENGE SAFECOOKIE \"\"",
    "AUTHCHALLENGE SAFECOOKIE xyz",
    "AUTHCHALLENGE SAFECOOKIE 001",
    "AUTHCHALLENGE SAFECOOKIE 00 00",
    "AUTHCHALLENGE SAFECOOKIE a=b",
    "AUTHCHALLENGE SAFECOOKIE =b",
    "AUTHCHALLENGE COOKIE 00112233",
    "AUTHCHALLENGE COOKIE",
    "AUTHCHALLENGE SAFECOOKIE=00",
    "AUTHCHALLENGE  SAFECOOKIE  00112233 ",
    "AUTHCHALLENGE SAFECOOKIE 00\r\nAUTHCHALLENGE SAFECOOKIE 00",
    "AUTHCHALLENGE SAFECOOKIE 00\r\nPROTOCOLINFO",
    "AUTHCHALLENGE SAFECOOKIE 00\r\nAUTHENTICATE",
    "QUIT",
    "quit",
    "QUIT now",
    "QUIT\r\nQUIT",
];

const COOKIE: &[&str] = &[
    "AUTHENTICATE {cookie}",
    "AUTHENTICATE \"{cookie}\"",
    "AUTHENTICATE {cookie}00",
    "AUTHENTICATE {cookie} 00",
    "PROTOCOLINFO\r\nAUTHENTICATE {cookie}\r\nPROTOCOLINFO\r\nPROTOCOLINFO",
    "AUTHENTICATE {cookie}\r\nAUTHENTICATE {cookie}",
    "AUTHENTICATE {cookie}\r\nAUTHENTICATE",
    "AUTHENTICATE {cookie}\r\nAUTHENTICATE 00",
    "AUTHENTICATE {cookie}\r\nAUTHCHALLENGE SAFECOOKIE 00112233",
    "AUTHENTICATE {cookie}\r\nAUTHCHALLENGE SAFECOOKIE x",
    "AUTHENTICATE 0000000000000000000000000000000000000000000000000000000000000000",
    "AUTHCHALLENGE SAFECOOKIE 00\r\nAUTHENTICATE {cookie}",
    "AUTHCHALLENGE SAFECOOKIE 00\r\nAUTHENTICATE 00",
    "+LOADCONF\r\nAUTHENTICATE {cookie}\r\n.",
    "",
    " ",
    "NOBODY",
];

const COMMANDS: &[&str] = &[
    "",
    " ",
    "\t",
    " GETINFO version",
    "NOBODY",
    "nobody at all",
    "NOB\u{e9}DY \u{e9}",
    "+NOBODY\r\nx\r\n.",
    "+GETINFO version\r\n.",
    "+QUIT\r\n.",
    "+\r\n.",
    "LOADCONF",
    ".",
    "\"",
    "SETEVENTS",
    "SETEVENTS ",
    "SETEVENTS NS nobody",
    "SETEVENTS nobody CIRC",
    "SETEVENTS circ Stream ORCONN",
    "SETEVENTS EXTENDED CIRC",
    "SETEVENTS extended",
    "SETEVENTS CIRC  STREAM ",
    "SETEVENTS CIRC,STREAM",
    "SETEVENTS CIRC\tSTREAM",
    "SETEVENTS \"CIRC\"",
    "SETEVENTS CIRC=1",
    "SETEVENTS CIRC CIRC",
    "GETINFO",
    "GETINFO ",
    "GETINFO version",
    "getinfo version",
    "GETINFO VERSION",
    "GETINFO version version",
    "GETINFO  version  version ",
    "GETINFO version\tversion",
    "GETINFO nobody",
    "GETINFO nobody version nothing",
    "GETINFO \"version\"",
    "GETINFO version=1",
    "GETINFO features/names",
    "GETINFO \u{e9}",
    "GETCONF",
    "GETCONF ",
    "GETCONF nobody",
    "GETCONF nobody {Number} nothing",
    "GETCONF \"{Number}\"",
    "GETCONF {Number}=1",
    "SETCONF",
    "SETCONF ",
    "SETCONF {Number}=7\r\nGETCONF {Number}",
    "SETCONF {number}=8\r\nGETCONF {number} {Number}",
    "SETCONF {Number}=\"9\"\r\nGETCONF {Number}",
    "SETCONF {Number}=\"\\x31\\060\"\r\nGETCONF {Number}",
    "SETCONF {Number}=11 {Size}=90000\r\nGETCONF {Number} {Size}",
    "SETCONF {Size}=\"100 KB\"\r\nGETCONF {Size}",
    "SETCONF {Size}=100KB\r\nGETCONF {Size}",
    "SETCONF {Size}=\"100 kilobytes\"\r\nGETCONF {Size}",
    "SETCONF {Number}=12 {Number}=13\r\nGETCONF {Number}",
    "SETCONF {Number}=14 nobody=1\r\nGETCONF {Number}",
    "SETCONF {Number}=14 {Size}=x\r\nGETCONF {Number}",
    "SETCONF {Number}=x",
    "SETCONF {Number}=-1",
    "SETCONF {Number}=1e3",
    "SETCONF {Number}=\"open",
    "setconf {Number}=\"open",
    "ResetConf =1",
    "signal",
    "Signal DUMP HEARTBEAT",
    "+loadconf\r\n.",
    "+LoadConf now\r\nx\r\n.",
    "SETCONF \u{c}{Number}=7\u{c}\r\nGETCONF {Number}",
    "SETCONF {Number}=7 \u{c}\r\nGETCONF {Number}",
    "SETCONF {Number}=\"\\X31\\x32\"\r\nGETCONF {Number}",
    "SETCONF {Number}=\"\\8\"",
    "SETCONF {Number}=\"\\q\"",
    "SETCONF {Number}=\"\\xg0\"",
    "SETCONF {Number}=\"\\400\"",
    "SETCONF {Number}=\"15\"16",
    "SETCONF {Number} = 1",
    "SETCONF {Number}= 1",
    "SETCONF =1",
    "SETCONF \"{Number}\"=1",
    "SETCONF \"{Number}=1\"",
    "SETCONF nobody",
    "SETCONF nobody=1",
    "SETCONF nobody=1 nothing=2",
    "SETCONF {Number}=16\0 {Number}=17\r\nGETCONF {Number}",
    "SETCONF {Frozen}=/elsewhere",
    "SETCONF {Number}=18\r\nRESETCONF {Number}=19\r\nGETCONF {Number}",
    "RESETCONF",
    "RESETCONF nobody",
    "RESETCONF nobody=1",
    "RESETCONF {Number}=x",
    "RESETCONF {Number}=\"open",
    "RESETCONF {Frozen}=/elsewhere",
    "USEFEATURE",
    "USEFEATURE ",
    "USEFEATURE VERBOSE_NAMES EXTENDED_EVENTS",
    "usefeature verbose_names",
    "USEFEATURE NOBODY",
    "USEFEATURE VERBOSE_NAMES NOBODY NOTHING",
    "USEFEATURE \"VERBOSE_NAMES\"",
    "SIGNAL",
    "SIGNAL ",
    "SIGNAL NOBODY",
    "SIGNAL DUMP HEARTBEAT",
    "SIGNAL HEARTBEAT",
    "signal heartbeat",
    "SIGNAL  HEARTBEAT ",
    "SIGNAL \"HEARTBEAT\"",
    "SIGNAL HEARTBEAT=1",
    "SIGNAL 1",
    "TAKEOWNERSHIP\r\nDROPOWNERSHIP",
    "TAKEOWNERSHIP now\r\nDROPOWNERSHIP",
    "DROPOWNERSHIP",
    "DROPOWNERSHIP now",
    "TAKEOWNERSHIP\r\nTAKEOWNERSHIP\r\nDROPOWNERSHIP\r\nDROPOWNERSHIP",
    "+LOADCONF\r\n.",
    "+LOADCONF now\r\n.",
    "+LOADCONF now\r\n{Number} 5\r\n.",
    "+LOADCONF\r\nnobody 1\r\n.",
    "+LOADCONF\r\n{Number} x\r\n.",
    "+LOADCONF\r\nQUIT\r\nAUTHENTICATE x\r\n.",
    "+LOADCONF \r\n.",
    "+LOADCONF\r\n.\r\n.",
];

// Not compared: GETINFO and GETCONF of a key with a CR in it. Tor answers with `552+=` and data
// lines, which no client reads; ours is the one line that every other key gets.
const FRAMING: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\r\r\n",
    b"\r\r\r\n",
    b"\0\n",
    b"\0\r\n",
    b"\0GETINFO version\r\n",
    b"GETINFO\0 version\r\n",
    b"GETINFO \0version\r\n",
    b"GETINFO version\0\r\n",
    b"GETINFO version\0 nobody\r\n",
    b"GETINFO version\n",
    b"GETINFO version\r\r\n",
    b"GETINFO version \r\r\n",
    b"GETINFO\rversion\r\n",
    b"GETINFO\tversion\r\n",
    b"GETINFO \t version\r\n",
    b"GETINFO \x0bversion\r\n",
    b"GETINFO\x0bversion\r\n",
    b"GETINFO\x0cversion\r\n",
    b"GETINFO\r\nGETINFO\nGETINFO\r\n",
    b"NO\x01BODY\r\n",
    b"NO\x7fBODY\r\n",
    b"NO\xff\xfeBODY \xff\r\n",
    b"NO\"BODY\r\n",
    b"NO\\BODY\r\n",
    b"NO=BODY\r\n",
    b"NO\rBODY\r\n",
    b"GETINFO no\xff\r\n",
    b"GETINFO no\x01body\r\n",
    b"SETEVENTS no\rbody\r\n",
    b"SETEVENTS no\xffbody\r\n",
    b"SIGNAL no\rbody\r\n",
    b"SETCONF nothing\rbody=1\r\n",
    b"SETCONF no\xffbody=1\r\n",
    b"USEFEATURE no\rbody\r\n",
    b"PROTOCOLINFO no\rbody\r\n",
    b"+LOADCONF\r\n\r\n.\r\n",
    b"+LOADCONF\n\n.\n",
    b"+LOADCONF\r\n..\r\n.\r\n",
    b"+LOADCONF\r\n. \r\n.\r\n",
    b"+LOADCONF\r\n .\r\n.\r\n",
    b"+LOADCONF\r\n.x\r\n.\r\n",
    b"+LOADCONF\r\n\r.\r\n.\r\n",
    b"+LOADCONF\r\n.\r\r\n.\r\n",
    b"+LOADCONF\r\n# a comment\r\n.\r\n",
    b"+NOBODY\0\r\nx\r\n.\r\n",
    b"+ NOBODY\r\nx\r\n.\r\n",
    b" +NOBODY\r\n.\r\n",
    b"+NOBODY x\r\n.\n",
    b"+NOBODY x\n.\r\n",
    b"++\r\n.\r\n",
];
