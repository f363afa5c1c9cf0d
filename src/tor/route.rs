//! Who carries out a command when a Tor stands behind the bus.

use super::mixed::Mixed;
use crate::wire::refusal::Refusal;
use crate::wire::request::{Request, Verb};
use crate::wire::text::is_space;

/// The most keys of one GETINFO. Tor makes the whole reply before it sends any of it, so one
/// command could take all its memory.
pub const MOST_KEYS: usize = 1000;

/// Keys of GETINFO whose value is one short line, whatever Tor does; controllers ask for some of
/// them again and again.
const SHORT_KEYS: [&[u8]; 16] = [
    b"version",
    b"uptime",
    b"process/pid",
    b"process/uid",
    b"process/user",
    b"process/descriptor-limit",
    b"traffic/read",
    b"traffic/written",
    b"current-time/local",
    b"current-time/utc",
    b"dormant",
    b"network-liveness",
    b"accounting/enabled",
    b"status/bootstrap-phase",
    b"status/circuit-established",
    b"status/enough-dir-info",
];

/// How many long replies, or parts of one, Tor may have to make for a command; 0 if what it
/// replies is known to be short.
#[must_use]
pub fn weight(octets: &[u8], request: &Result<Request<'_>, Refusal>) -> usize {
    // What it does not know, Tor quotes.
    let quoted = octets.len() / 1024;
    quoted
        + match request {
            Ok(Request::GetInfo(keys)) => {
                let long = keys.iter().filter(|key| !SHORT_KEYS.contains(key));
                long.count()
            }
            Ok(Request::GetConf(names)) => names.len(),
            _ => 1,
        }
}

/// Who carries out a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// The bus.
    Here,
    /// Tor, octet for octet.
    Tor,
    /// Both: Tor gets a part of it, and its answer is made into the reply.
    Both(Mixed),
    /// Nobody: it would harm Tor.
    Nobody(Refusal),
}

/// Says who carries out a command of the text protocol. `keyword` is its first word and
/// `arguments` what follows.
pub fn route(keyword: &[u8], arguments: &[u8], request: &Result<Request<'_>, Refusal>) -> Route {
    // Tor 0.4.9 ends when it gets this one without arguments.
    if keyword.eq_ignore_ascii_case(b"SETCIRCUITPURPOSE") {
        let end = memchr::memchr(0, arguments).unwrap_or(arguments.len());
        return if arguments[..end].iter().all(|&octet| is_space(octet)) {
            let why = "Need at least 1 argument(s)";
            Route::Nobody(Refusal::BadArguments("SETCIRCUITPURPOSE".into(), why))
        } else {
            Route::Tor
        };
    }
    let Some(verb) = Verb::parse(keyword) else {
        return Route::Tor;
    };
    match (verb, request) {
        (
            Verb::PostMessage
            | Verb::ControllerName
            | Verb::SetEvents
            | Verb::Authenticate
            | Verb::AuthChallenge
            | Verb::ProtocolInfo
            | Verb::Quit,
            _,
        ) => Route::Here,
        (_, Ok(request)) => route_request(request),
        // What is wrong with it, Tor says best.
        (_, Err(_)) => Route::Tor,
    }
}

/// Says who carries out a request that can be Tor's.
pub fn route_request(request: &Request<'_>) -> Route {
    match request {
        Request::GetInfo(keys) | Request::GetConf(keys) if keys.len() > MOST_KEYS => {
            let why = format!("Too many keys: Tor is asked for {MOST_KEYS} at a time at most");
            Route::Nobody(Refusal::Failed(why))
        }
        request => Mixed::of(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::text::{self, Framed, Framer};

    fn routed(line: &[u8]) -> Route {
        let Framed::Command(command) = Framer::default().next(line) else {
            panic!("{line:?}")
        };
        let request = text::verb(command.keyword).and_then(|verb| text::parse(verb, &command));
        route(command.keyword, command.arguments, &request)
    }

    #[test]
    fn the_bus_keeps_what_is_its_own_and_tor_gets_the_rest() {
        for line in [
            &b"POSTMESSAGE @all x\r\n"[..],
            b"POSTMESSAGE\r\n",
            b"SETEVENTS BW\r\n",
            b"GETINFO new-messages list-controllers\r\n",
            b"GETCONF BusHistory\r\n",
            b"setconf bushistory=4\r\n",
            b"SIGNAL BUSRELOAD\r\n",
            b"QUIT x\r\n",
        ] {
            assert_eq!(routed(line), Route::Here, "{line:?}");
        }
        for line in [
            &b"GETINFO version\r\n"[..],
            b"GETINFO\r\n",
            b"FOO\r\n",
            b"\r\n",
            b"ADD_ONION NEW:BEST\r\n",
            b"SIGNAL HUP\r\n",
            b"SIGNAL\r\n",
            b"TAKEOWNERSHIP\r\n",
            b"SETCONF ContactInfo=\"x\r\n",
            b"SETCIRCUITPURPOSE 1\r\n",
            b"+LOADCONF\r\nContactInfo x\r\n.\r\n",
        ] {
            assert_eq!(routed(line), Route::Tor, "{line:?}");
        }
    }

    #[test]
    fn only_what_is_known_to_be_short_weighs_nothing() {
        let weight = |line: &[u8]| {
            let Framed::Command(command) = Framer::default().next(line) else {
                panic!("{line:?}")
            };
            let request = text::verb(command.keyword).and_then(|verb| text::parse(verb, &command));
            weight(line, &request)
        };
        let many = format!("GETINFO{}\r\n", " config-text".repeat(1000));
        let long = format!("FOO {}\r\n", "x".repeat(10_000));
        for (line, expected) in [
            ("GETINFO version uptime\r\n", 0),
            ("GETINFO\r\n", 0),
            ("GETINFO version ns/all\r\n", 1),
            ("GETCONF Log ContactInfo\r\n", 2),
            ("SIGNAL NEWNYM\r\n", 1),
            ("FOO\r\n", 1),
            (&many, 1011),
            (&long, 10),
        ] {
            assert_eq!(weight(line.as_bytes()), expected, "{line:.40}");
        }
    }

    #[test]
    fn tor_makes_no_reply_to_more_keys_than_it_may() {
        for keyword in ["GETINFO version", "GETCONF Log"] {
            let (keyword, key) = keyword.split_once(' ').unwrap();
            let line = |count| format!("{keyword}{}\r\n", format!(" {key}").repeat(count));
            assert_eq!(routed(line(MOST_KEYS).as_bytes()), Route::Tor);
            let refused = routed(line(MOST_KEYS + 1).as_bytes());
            assert!(matches!(refused, Route::Nobody(_)), "{keyword}");
        }
    }

    #[test]
    fn what_would_end_tor_never_gets_there() {
        for line in [
            &b"SETCIRCUITPURPOSE\r\n"[..],
            b"setcircuitpurpose  \r\n",
            b"SETCIRCUITPURPOSE \0 1\r\n",
            b"SETCIRCUITPURPOSE \x0B\r\n",
            b"SETCIRCUITPURPOSE\x0B\x0C\r\n",
        ] {
            assert!(matches!(routed(line), Route::Nobody(_)), "{line:?}");
        }
    }
}
