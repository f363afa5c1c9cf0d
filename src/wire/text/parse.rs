//! Commands to requests: each command's arguments, refused as Tor refuses them.

use super::arguments::{self, Argument, Style};
use super::data::unstuff;
use super::framing::{Command, is_space};
use crate::command::Verb;
use crate::wire::event::{EventKind, EventMask};
use crate::wire::refusal::Refusal;
use crate::wire::request::{FEATURES, Request, Setting, Signal};

pub(in crate::wire) const CANNOT_PARSE: &str = "Cannot parse keyword argument(s)";
const NEED_ONE: &str = "Need at least 1 argument(s)";

/// The command of a keyword.
pub fn verb(keyword: &[u8]) -> Result<Verb, Refusal> {
    Verb::parse(keyword).ok_or_else(|| Refusal::UnrecognizedCommand(keyword.to_vec()))
}

/// The request that `command` with this verb makes.
pub fn parse<'a>(verb: Verb, command: &Command<'a>) -> Result<Request<'a>, Refusal> {
    // Tor holds arguments in a C string, so a NUL ends them. Names and messages are not Tor's:
    // there a NUL is refused rather than a message cut.
    let line = match memchr::memchr(0, command.arguments) {
        Some(nul) => &command.arguments[..nul],
        None => command.arguments,
    };
    let keyword = command.keyword;
    match verb {
        Verb::PostMessage => post_message(keyword, command.arguments),
        Verb::ControllerName => controller_name(command.arguments),
        Verb::GetInfo => Ok(Request::GetInfo(arguments::words(line).collect())),
        Verb::GetConf => Ok(Request::GetConf(arguments::words(line).collect())),
        Verb::SetConf => Ok(Request::SetConf(settings(keyword, line)?)),
        Verb::ResetConf => Ok(Request::ResetConf(settings(keyword, line)?)),
        Verb::LoadConf => load_conf(keyword, line, command.data.unwrap_or_default()),
        Verb::SaveConf => Ok(Request::SaveConf {
            force: arguments::words(line)
                .next()
                .is_some_and(|word| word.eq_ignore_ascii_case(b"FORCE")),
        }),
        Verb::SetEvents => Ok(set_events(line)),
        Verb::Signal => signal(keyword, line),
        Verb::Authenticate => authenticate(keyword, line),
        Verb::AuthChallenge => auth_challenge(keyword, line),
        Verb::ProtocolInfo => protocol_info(line),
        Verb::UseFeature => use_feature(line),
        Verb::TakeOwnership => Ok(Request::TakeOwnership),
        Verb::DropOwnership => Ok(Request::DropOwnership),
        Verb::Quit => Ok(Request::Quit),
        // Frames ask for these; a line asks GETINFO.
        Verb::RecentMessages => Ok(Request::RecentMessages),
        Verb::NewMessages => Ok(Request::NewMessages),
        Verb::ListControllers => Ok(Request::ListControllers),
        Verb::MapAddress
        | Verb::ExtendCircuit
        | Verb::SetCircuitPurpose
        | Verb::SetRouterPurpose
        | Verb::AttachStream
        | Verb::PostDescriptor
        | Verb::RedirectStream
        | Verb::CloseStream
        | Verb::CloseCircuit
        | Verb::Resolve
        | Verb::HsFetch
        | Verb::HsPost
        | Verb::AddOnion
        | Verb::DelOnion
        | Verb::OnionClientAuthAdd
        | Verb::OnionClientAuthRemove
        | Verb::OnionClientAuthView
        | Verb::DropGuards
        | Verb::DropTimeouts => relayed(verb, keyword, line),
    }
}

/// A refusal of a command's arguments, which names the command as its controller spelled it.
pub(in crate::wire) fn bad_arguments(keyword: &[u8], why: &'static str) -> Refusal {
    let keyword = String::from_utf8_lossy(keyword).into_owned();
    Refusal::BadArguments(keyword, why)
}

/// `"POSTMESSAGE" SP "@" DestControllerID SP LineItem CRLF` (proposal 197)
pub(in crate::wire) fn post_message<'a>(
    keyword: &[u8],
    line: &'a [u8],
) -> Result<Request<'a>, Refusal> {
    let bad = |why| bad_arguments(keyword, why);
    let rest = line
        .strip_prefix(b"@")
        .ok_or_else(|| bad("Need a destination that begins with @"))?;
    let (destination, text) = match memchr::memchr(b' ', rest) {
        Some(space) => (&rest[..space], &rest[space + 1..]),
        None => (rest, &[][..]),
    };
    if destination.is_empty() {
        return Err(bad("Need a name after @"));
    }
    if text.is_empty() {
        return Err(bad("Need a text after the destination"));
    }
    if memchr::memchr2(0, b'\r', text).is_some() {
        return Err(bad("A text cannot contain NUL or CR"));
    }
    Ok(Request::PostMessage { destination, text })
}

/// `"CONTROLLERNAME" SP ControllerID` (proposal 197)
pub(in crate::wire) fn controller_name(line: &[u8]) -> Result<Request<'_>, Refusal> {
    let mut words = arguments::words(line);
    match (words.next(), words.next()) {
        (Some(name), None) => Ok(Request::ControllerName(name)),
        _ => Err(Refusal::BadControllerId),
    }
}

pub(in crate::wire) fn settings(keyword: &[u8], line: &[u8]) -> Result<Vec<Setting>, Refusal> {
    let arguments =
        arguments::parse(line, Style::Keys).ok_or_else(|| bad_arguments(keyword, CANNOT_PARSE))?;
    Ok(arguments
        .into_iter()
        .map(|Argument { key, value }| Setting {
            name: key.unwrap_or_default().to_vec(),
            value,
        })
        .collect())
}

pub(in crate::wire) fn load_conf<'a>(
    keyword: &[u8],
    line: &[u8],
    data: &[u8],
) -> Result<Request<'a>, Refusal> {
    let bad = |why| Err(bad_arguments(keyword, why));
    if data.is_empty() {
        return bad("Empty body");
    }
    if arguments::words(line).next().is_some() {
        return bad("Cannot accept more than 0 argument(s)");
    }
    let mut text = Vec::with_capacity(data.len());
    unstuff(data, &mut text);
    Ok(Request::LoadConf(text))
}

/// The words that SETEVENTS takes and that mean nothing any more.
const FORMER_EVENTS: [&[u8]; 2] = [b"EXTENDED", b"AUTHDIR_NEWDESCS"];

fn set_events(line: &[u8]) -> Request<'_> {
    let mut events = EventMask::NONE;
    let mut others = Vec::new();
    for word in arguments::words(line) {
        match EventKind::parse(word) {
            Some(kind) => events.insert(kind),
            None if FORMER_EVENTS
                .iter()
                .any(|former| word.eq_ignore_ascii_case(former)) => {}
            None => others.push(word),
        }
    }
    Request::SetEvents { events, others }
}

/// A command that goes to Tor as it came.
fn relayed<'a>(verb: Verb, keyword: &[u8], line: &[u8]) -> Result<Request<'a>, Refusal> {
    // Tor 0.4.9 ends when it gets this one without arguments.
    if verb == Verb::SetCircuitPurpose && line.iter().all(|&octet| is_space(octet)) {
        return Err(bad_arguments(keyword, NEED_ONE));
    }
    Ok(Request::Relayed(verb))
}

fn signal<'a>(keyword: &[u8], line: &'a [u8]) -> Result<Request<'a>, Refusal> {
    let bad = |why| bad_arguments(keyword, why);
    let mut words = arguments::words(line);
    let name = words.next().ok_or_else(|| bad(NEED_ONE))?;
    if words.next().is_some() {
        return Err(bad("Cannot accept more than 1 argument(s)"));
    }
    Signal::parse(name)
        .map(Request::Signal)
        .ok_or_else(|| Refusal::UnrecognizedSignal(name.to_vec()))
}

fn authenticate<'a>(keyword: &[u8], line: &[u8]) -> Result<Request<'a>, Refusal> {
    let mut arguments = arguments::parse(line, Style::Values)
        .ok_or_else(|| bad_arguments(keyword, CANNOT_PARSE))?;
    let Some(argument) = arguments.pop() else {
        return Ok(Request::Authenticate(Vec::new()));
    };
    if !arguments.is_empty() {
        return Err(Refusal::TooManyProofs);
    }
    if argument.key.is_some() {
        return Err(Refusal::KeywordArgument(Verb::Authenticate.keyword()));
    }
    octets(line, argument)
        .map(Request::Authenticate)
        .ok_or(Refusal::InvalidHex)
}

fn auth_challenge<'a>(keyword: &[u8], line: &[u8]) -> Result<Request<'a>, Refusal> {
    let (method, rest) = arguments::first_word(line);
    if method.is_empty() {
        return Err(bad_arguments(keyword, NEED_ONE));
    }
    let mut arguments = arguments::parse(rest, Style::Values)
        .ok_or_else(|| bad_arguments(keyword, CANNOT_PARSE))?;
    if !method.eq_ignore_ascii_case(b"SAFECOOKIE") {
        return Err(Refusal::NotSafeCookie);
    }
    let nonce = match (arguments.pop(), arguments.is_empty()) {
        (Some(Argument { key: Some(_), .. }), true) => {
            Err(Refusal::KeywordArgument(Verb::AuthChallenge.keyword()))
        }
        (Some(argument), true) => octets(rest, argument).ok_or(Refusal::InvalidNonce),
        _ => Err(Refusal::WrongChallenge),
    };
    Ok(Request::AuthChallenge(nonce))
}

/// The octets that an argument gives, quoted or in base 16.
fn octets(line: &[u8], argument: Argument<'_>) -> Option<Vec<u8>> {
    let value = argument.value.unwrap_or_default();
    if line.contains(&b'"') {
        return Some(value);
    }
    hex::decode(value).ok()
}

fn protocol_info(line: &[u8]) -> Result<Request<'_>, Refusal> {
    for word in arguments::words(line) {
        let version = std::str::from_utf8(word)
            .ok()
            .and_then(|word| word.parse::<i64>().ok())
            .filter(|&version| version >= 0);
        if version.is_none() {
            return Err(Refusal::NoSuchVersion {
                version: word.to_vec(),
                close: true,
            });
        }
    }
    Ok(Request::ProtocolInfo)
}

pub(in crate::wire) fn use_feature(line: &[u8]) -> Result<Request<'_>, Refusal> {
    let unknown = arguments::words(line).find(|word| {
        !FEATURES
            .iter()
            .any(|feature| word.eq_ignore_ascii_case(feature.as_bytes()))
    });
    match unknown {
        Some(word) => Err(Refusal::UnrecognizedFeature(word.to_vec())),
        None => Ok(Request::UseFeature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::text::{Framed, Framer};

    fn request(line: &[u8]) -> Result<Request<'_>, Refusal> {
        match Framer::default().next(line) {
            Framed::Command(command) => parse(verb(command.keyword)?, &command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_is_carried_unchanged() {
        for (line, text) in [
            (&b"POSTMESSAGE @all hi\r\n"[..], &b"hi"[..]),
            (b"postmessage @all  hi \r\n", b" hi "),
            (b"POSTMESSAGE @all  \n", b" "),
            (b"POSTMESSAGE @all \xff\x01\"\\@\r\n", b"\xff\x01\"\\@"),
        ] {
            let expected = Request::PostMessage {
                destination: b"all",
                text,
            };
            assert_eq!(request(line), Ok(expected));
        }
    }

    #[test]
    fn a_message_without_destination_or_text_is_refused() {
        for line in [
            &b"POSTMESSAGE\r\n"[..],
            b"POSTMESSAGE all hi\r\n",
            b"POSTMESSAGE @all\r\n",
            b"POSTMESSAGE @all \r\n",
            b"POSTMESSAGE @ hi\r\n",
            b"POSTMESSAGE @all a\0b\r\n",
            b"POSTMESSAGE @all a\rb\r\n",
        ] {
            assert_eq!(request(line).unwrap_err().status(), 512, "{line:?}");
        }
    }

    #[test]
    fn a_nul_cuts_the_arguments_of_tors_commands() {
        assert_eq!(
            request(b"GETINFO version\0 uptime\r\n"),
            Ok(Request::GetInfo(vec![b"version"]))
        );
        assert_eq!(
            request(b"CONTROLLERNAME a\0b\r\n"),
            Ok(Request::ControllerName(b"a\0b"))
        );
    }

    /// The octets of a login's proof or nonce, or the refusal.
    fn login(line: &[u8]) -> Result<Vec<u8>, String> {
        let octets = match request(line) {
            Ok(Request::Authenticate(proof)) => Ok(proof),
            Ok(Request::AuthChallenge(nonce)) => nonce,
            Ok(Request::ProtocolInfo) => Ok(Vec::new()),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal),
        };
        octets.map_err(|refusal| {
            let mut text = Vec::new();
            crate::wire::text::encode_refusal(&refusal, &mut text);
            String::from_utf8(text).unwrap().trim_end().to_owned()
        })
    }

    /// The answers of tor 0.4.9.11.
    #[test]
    fn white_space_at_the_login_is_tors() {
        const UNPARSED: &str =
            "512 Bad arguments to AUTHENTICATE: Cannot parse keyword argument(s)";
        const KEYWORD: &str = "512 AUTHENTICATE does not accept keyword arguments.";
        const HEX: &str = "551 Invalid hexadecimal encoding.  Maybe you tried a plain text \
            password?  If so, the standard requires that you put it in double quotes.";
        const ONE: &str = "512 Bad arguments to AUTHCHALLENGE: Need at least 1 argument(s)";
        const SPELLED: &str = "512 Bad arguments to AuthChallenge: Need at least 1 argument(s)";
        const NUMBER: &str = "512 Wrong number of arguments for AUTHCHALLENGE";
        const METHOD: &str = "513 AUTHCHALLENGE only supports SAFECOOKIE authentication";
        const NONCE: &str = "513 Invalid base16 client nonce";
        for (line, expected) in [
            (&b"AUTHENTICATE\x0C"[..], Ok(&b""[..])),
            (b"AUTHENTICATE \x0B\x0C ", Ok(b"")),
            (b"AUTHENTICATE\x0C00", Ok(b"\0")),
            (b"AUTHENTICATE\t\x0C 00", Ok(b"\0")),
            (b"AUTHENTICATE 00 \x0C\t", Ok(b"\0")),
            (b"AUTHENTICATE \"a\x0C\"\x0C", Ok(b"a\x0C")),
            (b"AUTHENTICATE 00\x0C00", Err(HEX)),
            (
                b"AUTHENTICATE 00\x0B00",
                Err("512 Too many arguments to AUTHENTICATE."),
            ),
            (
                b"AUTHENTICATE 00\r\t00",
                Err("512 Too many arguments to AUTHENTICATE."),
            ),
            (b"AUTHENTICATE \x0C=00", Err(UNPARSED)),
            (b"AUTHENTICATE 00\x0C=", Err(KEYWORD)),
            (b"AUTHENTICATE a=b \x0C", Err(KEYWORD)),
            (b"AUTHCHALLENGE SAFECOOKIE\t 00", Ok(b"\0")),
            (b"AUTHCHALLENGE SAFECOOKIE\x0C \x0B00\r", Ok(b"\0")),
            (b"AUTHCHALLENGE\x0BSAFECOOKIE 00", Ok(b"\0")),
            (b"AUTHCHALLENGE \x0C SAFECOOKIE \"a\"\x0C", Ok(b"a")),
            (b"AUTHCHALLENGE SAFECOOKIE\t00", Err(METHOD)),
            (b"AUTHCHALLENGE SAFECOOKIE\x0C00", Err(METHOD)),
            (b"AUTHCHALLENGE SAFECOOKIE\x0B", Err(NUMBER)),
            (b"AUTHCHALLENGE SAFECOOKIE 00\x0B00", Err(NUMBER)),
            (b"AUTHCHALLENGE SAFECOOKIE 00\x0C00", Err(NONCE)),
            (b"AUTHCHALLENGE \x0B", Err(ONE)),
            (b"AUTHCHALLENGE\x0C ", Err(ONE)),
            (b"AuthChallenge", Err(SPELLED)),
            (b"PROTOCOLINFO\x0C1\x0B 2\x0C", Ok(b"")),
            (
                b"PROTOCOLINFO 1\x0C2",
                Err("513 No such version \"1\\0142\""),
            ),
        ] {
            let expected = expected.map(<[u8]>::to_vec).map_err(str::to_owned);
            assert_eq!(
                login(&[line, b"\r\n"].concat()),
                expected,
                "{}",
                line.escape_ascii()
            );
        }
    }

    #[test]
    fn what_only_a_tor_knows_is_not_what_nobody_knows() {
        assert_eq!(request(b"newnym\r\n").unwrap_err().status(), 510);
        assert_eq!(request(b"HSPOST\r\n").unwrap_err().status(), 510);
        for (line, verb) in [
            (&b"add_onion NEW:BEST\r\n"[..], Verb::AddOnion),
            (b"+HSPOST\r\nx\r\n.\r\n", Verb::HsPost),
            (b"SETCIRCUITPURPOSE 1\r\n", Verb::SetCircuitPurpose),
        ] {
            assert_eq!(request(line), Ok(Request::Relayed(verb)));
        }
    }

    #[test]
    fn what_would_end_tor_is_refused() {
        for line in [
            &b"SETCIRCUITPURPOSE\r\n"[..],
            b"setcircuitpurpose  \r\n",
            b"SETCIRCUITPURPOSE \0 1\r\n",
            b"SETCIRCUITPURPOSE \x0B\r\n",
            b"SETCIRCUITPURPOSE\x0B\x0C\r\n",
        ] {
            assert_eq!(request(line).unwrap_err().status(), 512, "{line:?}");
        }
    }

    #[test]
    fn events_that_nobody_knows_here_may_be_tors() {
        let Ok(Request::SetEvents { events, others }) =
            request(b"SETEVENTS circ extended AUTHDIR_NEWDESCS NEWER\r\n")
        else {
            panic!()
        };
        assert_eq!(events, [EventKind::Circ].into_iter().collect());
        assert_eq!(others, [b"NEWER"]);
    }

    #[test]
    fn data_is_unstuffed() {
        assert_eq!(
            request(b"+LOADCONF\r\n..a\r\n.b\nc\r\n.\r\n"),
            Ok(Request::LoadConf(b".a\nb\nc\n".to_vec()))
        );
    }
}
