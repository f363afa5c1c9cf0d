//! Refusals: why a request was not carried out, worded as Tor words it.
//!
//! Both dialects say the same text; a status (text) or a code (binary) goes before it.

use super::Dialect;
use super::shown::escaped;
use super::text::write_c_string;

/// The reason why a request was refused. Words of the request are quoted in octets, because all
/// octets are legal there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A command before the login.
    AuthenticationRequired,
    /// The cookie, or the answer to a challenge, was wrong; why.
    AuthenticationFailed(&'static str),
    /// AUTHCHALLENGE where no cookie is required.
    CookieDisabled,
    /// AUTHCHALLENGE for anything but SAFECOOKIE.
    NotSafeCookie,
    /// The client nonce of AUTHCHALLENGE is not base 16.
    InvalidNonce,
    /// AUTHCHALLENGE with too few or too many nonces.
    WrongChallenge,
    /// AUTHENTICATE with something that is neither quoted nor base 16.
    InvalidHex,
    /// AUTHENTICATE with more than one thing.
    TooManyProofs,
    /// `KEY=VALUE` where the command, named here, takes none.
    KeywordArgument(&'static str),
    /// PROTOCOLINFO asked for something that is no version.
    NoSuchVersion {
        /// The octets that should be a version.
        version: Vec<u8>,
        /// Before the login the connection ends with it.
        close: bool,
    },
    /// A command or line over 1 MiB.
    LineTooLong,
    /// Nobody knows this command.
    UnrecognizedCommand(Vec<u8>),
    /// A binary frame of a type that nobody knows, or that only a server sends.
    UnrecognizedType(u16),
    /// Bad arguments to the command named first, as its controller spelled it; why.
    BadArguments(String, &'static str),
    /// A binary body that does not have its type's form; why.
    Malformed(&'static str),
    /// GETINFO keys that nobody knows.
    UnrecognizedKeys(Vec<Vec<u8>>),
    /// GETCONF of options that nobody knows.
    UnrecognizedOptions(Vec<Vec<u8>>),
    /// SETEVENTS of an event that nobody knows.
    UnrecognizedEvent(Vec<u8>),
    /// SIGNAL of a name that nobody knows.
    UnrecognizedSignal(Vec<u8>),
    /// USEFEATURE of a feature that nobody knows.
    UnrecognizedFeature(Vec<u8>),
    /// A name without the form of a `ControllerID`.
    BadControllerId,
    /// The name is another controller's, or reserved.
    NameInUse,
    /// No controller has the destination's name.
    NoSuchDestination,
    /// The `LineItem` is longer than `BusMaxMessageLength`, in octets.
    MessageTooLong,
    /// SETCONF or RESETCONF of an option that nobody knows.
    UnknownOption(String),
    /// SETCONF or RESETCONF to a value that the option cannot have.
    InvalidValue(String),
    /// A change that only a restart can make.
    Transition(String),
    /// LOADCONF of a text that is no valid option file.
    InvalidFile(String),
    /// SAVECONF could not write.
    CannotSave(String),
    /// Tor's own refusal: the lines of its reply, status included, without the end of the last.
    OfTor(Vec<u8>),
    /// A refusal of what only a Tor carries out, in its words: status and line.
    InTorsWords(u16, Vec<u8>),
    /// A refusal by the policy. In the text protocol it has the words of what it looks like there,
    /// so that what is another's is not told from what there is not; frames have a code for it.
    Unauthorized(Box<Self>),
    /// A request that today's Tor no longer has; its name, and what to ask instead.
    NoLonger(&'static str),
    /// A request that only a Tor can do, where none is configured; its name.
    NeedsTor(String),
    /// A request that the daemon cannot do now; why.
    Failed(String),
    /// More connections than `BusMaxControllers` or `BusMaxControllersPerUser`; which.
    TooManyControllers(&'static str),
}

impl Refusal {
    /// The status of the text protocol (control-spec 4).
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::LineTooLong => 500,
            Self::OfTor(line) => of_tor(line),
            Self::InTorsWords(status, _) => *status,
            Self::Unauthorized(refusal) => refusal.status(),
            Self::UnrecognizedCommand(_) | Self::UnrecognizedType(_) => 510,
            Self::WrongChallenge
            | Self::TooManyProofs
            | Self::KeywordArgument(_)
            | Self::BadArguments(..)
            | Self::Malformed(_)
            | Self::BadControllerId => 512,
            Self::NotSafeCookie
            | Self::InvalidNonce
            | Self::NoSuchVersion { .. }
            | Self::MessageTooLong
            | Self::InvalidValue(_) => 513,
            Self::AuthenticationRequired => 514,
            Self::AuthenticationFailed(_) | Self::CookieDisabled => 515,
            Self::InvalidHex
            | Self::CannotSave(_)
            | Self::NoLonger(_)
            | Self::NeedsTor(_)
            | Self::Failed(_)
            | Self::TooManyControllers(_) => 551,
            Self::UnrecognizedKeys(_)
            | Self::UnrecognizedOptions(_)
            | Self::UnrecognizedEvent(_)
            | Self::UnrecognizedSignal(_)
            | Self::UnrecognizedFeature(_)
            | Self::NoSuchDestination
            | Self::UnknownOption(_)
            | Self::InvalidFile(_) => 552,
            Self::NameInUse | Self::Transition(_) => 553,
        }
    }

    /// Whether the connection ends with the refusal. The binary dialects end the connection only
    /// for a wrong cookie, where there is no room for one more, and for a message too long.
    #[must_use]
    pub const fn closes(&self, dialect: Dialect) -> bool {
        match self {
            Self::AuthenticationFailed(_) | Self::TooManyControllers(_) | Self::LineTooLong => true,
            Self::AuthenticationRequired
            | Self::CookieDisabled
            | Self::NotSafeCookie
            | Self::InvalidNonce
            | Self::WrongChallenge
            | Self::InvalidHex
            | Self::TooManyProofs
            | Self::KeywordArgument(_) => matches!(dialect, Dialect::Text),
            Self::NoSuchVersion { close, .. } => *close,
            _ => false,
        }
    }

    /// Whether the refusal is about an event that nobody knows.
    #[must_use]
    pub fn is_unrecognized_event(&self) -> bool {
        match self {
            Self::UnrecognizedEvent(_) => true,
            Self::OfTor(reply) => reply
                .get(4..)
                .unwrap_or_default()
                .starts_with(b"Unrecognized event"),
            _ => false,
        }
    }

    /// The human-readable text, without status or code; more than one line only for several
    /// unrecognized keys.
    #[must_use]
    pub fn lines(&self) -> Vec<Vec<u8>> {
        let quoted = |what: &str, name: &[u8]| {
            let mut line = what.as_bytes().to_vec();
            line.extend_from_slice(b" \"");
            line.extend_from_slice(name);
            line.push(b'"');
            line
        };
        let line = match self {
            Self::UnrecognizedKeys(keys) => {
                return keys
                    .iter()
                    .map(|key| quoted("Unrecognized key", key))
                    .collect();
            }
            Self::UnrecognizedOptions(names) => {
                return names
                    .iter()
                    .map(|name| quoted("Unrecognized configuration key", name))
                    .collect();
            }
            Self::OfTor(reply) => return lines_of_tor(reply),
            Self::Unauthorized(refusal) => return refusal.lines(),
            Self::InTorsWords(_, line) => line.clone(),
            Self::UnrecognizedCommand(keyword) => quoted("Unrecognized command", keyword),
            Self::UnrecognizedEvent(name) => quoted("Unrecognized event", name),
            Self::UnrecognizedSignal(name) => quoted("Unrecognized signal code", name),
            Self::UnrecognizedFeature(name) => quoted("Unrecognized feature", name),
            Self::NoSuchVersion { version, .. } => {
                // The one place where Tor escapes what it quotes.
                let mut line = b"No such version ".to_vec();
                write_c_string(version, &mut line);
                line
            }
            other => other.text().into_bytes(),
        };
        vec![line]
    }

    /// The text of a refusal that quotes no octets of its controller.
    fn text(&self) -> String {
        match self {
            Self::AuthenticationRequired => "Authentication required.".into(),
            Self::AuthenticationFailed(why) => format!("Authentication failed: {why}"),
            Self::CookieDisabled => "Cookie authentication is disabled".into(),
            Self::NotSafeCookie => "AUTHCHALLENGE only supports SAFECOOKIE authentication".into(),
            Self::InvalidNonce => "Invalid base16 client nonce".into(),
            Self::WrongChallenge => "Wrong number of arguments for AUTHCHALLENGE".into(),
            Self::InvalidHex => "Invalid hexadecimal encoding.  Maybe you tried a plain text \
                password?  If so, the standard requires that you put it in double quotes."
                .into(),
            Self::TooManyProofs => "Too many arguments to AUTHENTICATE.".into(),
            Self::KeywordArgument(verb) => format!("{verb} does not accept keyword arguments."),
            Self::LineTooLong => "Line too long.".into(),
            Self::UnrecognizedType(kind) => format!("Unrecognized message type 0x{kind:04X}"),
            Self::BadArguments(keyword, why) => format!("Bad arguments to {keyword}: {why}"),
            Self::Malformed(why) => format!("Malformed message: {why}"),
            Self::BadControllerId => {
                "Bad arguments to CONTROLLERNAME: A ControllerID is 1 to 64 letters, digits or _"
                    .into()
            }
            Self::NameInUse => "Controller name already in use".into(),
            Self::NoSuchDestination => "Invalid destination controller name".into(),
            Self::MessageTooLong => "Message too long".into(),
            Self::UnknownOption(text)
            | Self::InvalidValue(text)
            | Self::Transition(text)
            | Self::InvalidFile(text)
            | Self::CannotSave(text)
            | Self::Failed(text) => text.clone(),
            Self::NoLonger(what) => format!("Today's Tor no longer has {what}"),
            Self::NeedsTor(what) => {
                format!("{what} needs a Tor, and no Tor is configured behind this bus")
            }
            Self::TooManyControllers(which) => {
                format!("Too many controllers are connected ({which}); try again later")
            }
            Self::UnrecognizedCommand(_)
            | Self::UnrecognizedKeys(_)
            | Self::UnrecognizedOptions(_)
            | Self::UnrecognizedEvent(_)
            | Self::UnrecognizedSignal(_)
            | Self::UnrecognizedFeature(_)
            | Self::OfTor(_)
            | Self::InTorsWords(..)
            | Self::Unauthorized(_)
            | Self::NoSuchVersion { .. } => String::new(),
        }
    }
}

/// The lines of a reply of Tor's, without their statuses, fit to stand in one of the bus's.
fn lines_of_tor(reply: &[u8]) -> Vec<Vec<u8>> {
    reply
        .split(|&octet| octet == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .map(|line| escaped(line.get(4..).unwrap_or_default(), |_| false).into_bytes())
        .collect()
}

/// The status of a line of Tor's; 551 if the line has none.
fn of_tor(line: &[u8]) -> u16 {
    match line {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => [a, b, c]
            .iter()
            .fold(0, |status, &digit| status * 10 + u16::from(digit - b'0')),
        _ => 551,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_control_octet_of_tors_is_left_in_a_refusal() {
        let refusal = Refusal::OfTor(b"552-a \x1b]0;x\x07\r\n552 b\rc\x7f".to_vec());
        let lines: [&[u8]; 2] = [b"a \\x1b]0;x\\x07", b"b\\rc\\x7f"];
        assert_eq!(refusal.lines(), lines);
    }
}
