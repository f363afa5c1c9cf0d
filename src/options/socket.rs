//! The value of `BusSocket`: where controllers connect, and who may.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::wire::message::ControllerId;
use crate::wire::shown::shown;
use crate::wire::torrc::{self, is_blank, quote, unquote};

/// The mode of a socket unless `Mode=` says otherwise: its owner, nobody else.
const DEFAULT_MODE: u32 = 0o600;

/// The longest path a Unix socket can have, in octets: the kernel's 108, less the NUL.
const MAX_SOCKET_PATH: usize = 107;

/// The longest name of a descriptor that a service manager passes, in octets.
const MAX_DESCRIPTOR_NAME: usize = 255;

/// Where a socket comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAddress {
    /// The daemon makes it at this absolute path.
    Path(PathBuf),
    /// The service manager passes it under this name (its `FileDescriptorName`).
    Inherited(String),
    /// The daemon listens at this port of a loopback address.
    Port(SocketAddr),
}

/// As a `BusSocket` line has it, without quotes.
impl SocketAddress {
    /// Its octets.
    pub fn to_octets(&self) -> Vec<u8> {
        match self {
            Self::Path(path) => path.as_os_str().as_bytes().to_vec(),
            Self::Inherited(name) => format!("fd:{name}").into_bytes(),
            Self::Port(address) => address.to_string().into_bytes(),
        }
    }
}

/// What a connection to a socket speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Its first four octets tell.
    #[default]
    Auto,
    /// Tor's text control protocol.
    Text,
    /// The binary protocol of the TC draft of 2004.
    Tc,
    /// The last binary protocol, control-spec-v0. Nothing in its octets tells it from the draft.
    V0,
}

impl Protocol {
    const ALL: [(&'static str, Self); 4] = [
        ("auto", Self::Auto),
        ("text", Self::Text),
        ("tc", Self::Tc),
        ("v0", Self::V0),
    ];

    /// Its name in the option file.
    pub fn name(self) -> &'static str {
        // ALL holds every variant in the order of declaration.
        Self::ALL[self as usize].0
    }
}

/// The way in for those whom the permissions of a socket let connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// The first command logs in by itself.
    #[default]
    Implicit,
    /// AUTHENTICATE must come first, as at a Tor without authentication.
    Explicit,
    /// AUTHENTICATE must come first, with a password of `BusHashedPassword`.
    Password,
}

impl Login {
    const ALL: [(&'static str, Self); 3] = [
        ("implicit", Self::Implicit),
        ("explicit", Self::Explicit),
        ("password", Self::Password),
    ];
}

/// One `BusSocket`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketSpec {
    /// Where it comes from.
    pub address: SocketAddress,
    /// Its permissions, 0 to 0777. Means nothing for an inherited socket.
    pub mode: u32,
    /// The user, by name or number, who shall own it; none leaves it to the daemon's own.
    pub owner: Option<String>,
    /// The group, by name or number, that shall own it.
    pub group: Option<String>,
    /// What its connections speak.
    pub protocol: Protocol,
    /// Whether its connections must log in.
    pub login: Login,
    /// The programs that are named when they connect, a `*` standing for any octets; none are
    /// where it is empty.
    pub names: Vec<u8>,
}

impl SocketSpec {
    /// A socket at `path` with everything else as it is by default.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::new(SocketAddress::Path(path.into()))
    }

    /// A socket with everything but its address as it is by default.
    pub fn new(address: SocketAddress) -> Self {
        Self {
            address,
            mode: DEFAULT_MODE,
            owner: None,
            group: None,
            protocol: Protocol::Auto,
            login: Login::Implicit,
            names: Vec::new(),
        }
    }

    /// Reads `PATH [Mode=OCTAL] [Owner=USER] [Group=GROUP] [Protocol=auto|text|tc|v0]
    /// [Login=implicit|explicit|password] [Name=GLOB]`, `fd:NAME` with the last three, or
    /// `ADDRESS:PORT [Protocol=...]`; what comes first may be in quotes. Fails with what is wrong
    /// and what would be right.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let (address, rest) = if text.starts_with(b"\"") {
            let (address, length) = unquote(text)?;
            if text.get(length).is_some_and(|&octet| !is_blank(octet)) {
                return Err("a blank belongs after the quoted path".into());
            }
            (address, &text[length..])
        } else {
            let end = text.iter().position(|&octet| is_blank(octet));
            let (address, rest) = text.split_at(end.unwrap_or(text.len()));
            (address.to_vec(), rest)
        };
        let mut spec = Self::new(parse_address(address)?);
        let mut seen: Vec<&'static str> = Vec::new();
        for word in rest
            .split(|&octet| is_blank(octet))
            .filter(|word| !word.is_empty())
        {
            let keyword = spec.keyword(word)?;
            if seen.contains(&keyword) {
                return Err(format!("{keyword}= is given twice"));
            }
            seen.push(keyword);
        }
        let (taken, why): (&[_], _) = match spec.address {
            SocketAddress::Path(_) => return Ok(spec),
            SocketAddress::Inherited(_) => (
                &["Protocol", "Login", "Name"],
                "a socket that the service manager passes: it made the socket and decides who may \
                 connect (SocketMode=, SocketUser= and SocketGroup= of its socket unit)",
            ),
            SocketAddress::Port(_) => (
                &["Protocol"],
                "a port: it has no file, it always asks for a login, and nothing is known of \
                 the programs that connect",
            ),
        };
        match seen.iter().find(|keyword| !taken.contains(keyword)) {
            Some(keyword) => Err(format!("{keyword}= means nothing for {why}")),
            None => Ok(spec),
        }
    }

    /// Takes one `Keyword=Value` and gives the keyword in its own spelling.
    fn keyword(&mut self, word: &[u8]) -> Result<&'static str, String> {
        let known = "Mode=, Owner=, Group=, Protocol=, Login= or Name=";
        let Some(equals) = memchr::memchr(b'=', word) else {
            return Err(format!(
                "'{}' is not {known} (a path with blanks is written \"/like this\" Mode=0600)",
                shown(word)
            ));
        };
        let (keyword, value) = (&word[..equals], &word[equals + 1..]);
        if keyword.eq_ignore_ascii_case(b"mode") {
            self.mode = parse_mode(value)?;
            Ok("Mode")
        } else if keyword.eq_ignore_ascii_case(b"owner") {
            self.owner = Some(parse_account("Owner=", value)?);
            Ok("Owner")
        } else if keyword.eq_ignore_ascii_case(b"group") {
            self.group = Some(parse_account("Group=", value)?);
            Ok("Group")
        } else if keyword.eq_ignore_ascii_case(b"protocol") {
            let of_name = Protocol::ALL
                .iter()
                .find(|(name, _)| value.eq_ignore_ascii_case(name.as_bytes()));
            self.protocol = of_name
                .ok_or_else(|| {
                    let value = shown(value);
                    format!("Protocol= cannot be '{value}': it takes auto, text, tc or v0")
                })?
                .1;
            Ok("Protocol")
        } else if keyword.eq_ignore_ascii_case(b"login") {
            let of_name = Login::ALL
                .iter()
                .find(|(name, _)| value.eq_ignore_ascii_case(name.as_bytes()));
            self.login = of_name
                .ok_or_else(|| {
                    let value = shown(value);
                    format!("Login= cannot be '{value}': it takes implicit, explicit or password")
                })?
                .1;
            Ok("Login")
        } else if keyword.eq_ignore_ascii_case(b"name") {
            self.names = parse_names(value)?;
            Ok("Name")
        } else {
            Err(format!("'{}=' is not {known}", shown(keyword)))
        }
    }

    /// The value of `BusSocket` that means this one, without what is so by default. A path of
    /// any octets but control ones can so be put into an override of the command line.
    pub fn to_value(&self) -> Vec<u8> {
        let bare = self.address.to_octets();
        let has_file = matches!(self.address, SocketAddress::Path(_));
        let quoted = bare.starts_with(b"\"") || bare.iter().any(|&octet| is_blank(octet));
        let mut value = if quoted { quote(&bare) } else { bare };
        // A quoted path is never the whole value: the file would take its quotes for those
        // of the value, and need a second pair.
        if has_file && (quoted || self.mode != DEFAULT_MODE) {
            value.extend_from_slice(format!(" Mode={:04o}", self.mode).as_bytes());
        }
        for (keyword, account) in [("Owner", &self.owner), ("Group", &self.group)] {
            if let Some(account) = account {
                value.extend_from_slice(format!(" {keyword}={account}").as_bytes());
            }
        }
        if self.protocol != Protocol::Auto || (!has_file && quoted) {
            value.extend_from_slice(format!(" Protocol={}", self.protocol.name()).as_bytes());
        }
        match self.login {
            Login::Implicit => {}
            Login::Explicit => value.extend_from_slice(b" Login=explicit"),
            Login::Password => value.extend_from_slice(b" Login=password"),
        }
        if !self.names.is_empty() {
            value.extend_from_slice(b" Name=");
            value.extend_from_slice(&self.names);
        }
        value
    }
}

/// The value of `Name=`: a pattern that a name can match.
fn parse_names(value: &[u8]) -> Result<Vec<u8>, String> {
    let is_of_names = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'*');
    if value.is_empty() || value.len() > ControllerId::MAX || !value.iter().all(is_of_names) {
        return Err(format!(
            "Name= cannot be '{}': it takes up to {} letters, digits, _ and *, such as nyx or *",
            shown(value),
            ControllerId::MAX
        ));
    }
    Ok(value.to_vec())
}

fn parse_address(address: Vec<u8>) -> Result<SocketAddress, String> {
    if let Some(name) = address.strip_prefix(b"fd:") {
        let good = |&octet: &u8| (b' '..=b'~').contains(&octet) && octet != b':';
        return match std::str::from_utf8(name) {
            Ok(name)
                if (1..=MAX_DESCRIPTOR_NAME).contains(&name.len())
                    && name.as_bytes().iter().all(good) =>
            {
                Ok(SocketAddress::Inherited(name.to_owned()))
            }
            _ => Err(format!(
                "fd: is followed by a FileDescriptorName: 1 to {MAX_DESCRIPTOR_NAME} printable \
                 ASCII characters other than ':'"
            )),
        };
    }
    if let Some(port) = port(&address) {
        return port.map(SocketAddress::Port);
    }
    if address.len() > MAX_SOCKET_PATH {
        return Err(format!(
            "the path of a socket has at most {MAX_SOCKET_PATH} octets, this one has {}",
            address.len()
        ));
    }
    absolute_path(address)
        .map(SocketAddress::Path)
        .ok_or_else(|| {
            "it takes an absolute path, fd:NAME or a loopback ADDRESS:PORT such as \
             127.0.0.1:9051, then any of Mode=, Owner=, Group=, Protocol=, Login= and Name="
                .into()
        })
}

/// The port of this machine alone that an address names, if it is one of a port.
fn port(address: &[u8]) -> Option<Result<SocketAddr, String>> {
    let address = torrc::port(address)?;
    if !address.ip().to_canonical().is_loopback() {
        return Some(Err(format!(
            "{address} could be reached from other machines, whose users nothing keeps out but a \
             secret that everybody on the way can read: it takes a loopback address, such as \
             127.0.0.1:{}",
            address.port()
        )));
    }
    let is_port = address.port() != 0;
    Some(is_port.then_some(address).ok_or_else(|| {
        "port 0 would be another one each time: it takes a number from 1 to 65535".into()
    }))
}

/// A path that begins with `/` and that no message, reply or file is broken by.
pub(super) fn absolute_path(octets: Vec<u8>) -> Option<PathBuf> {
    let path = PathBuf::from(OsString::from_vec(octets));
    let clean = !path.as_os_str().as_bytes().iter().any(u8::is_ascii_control);
    (Path::is_absolute(&path) && clean).then_some(path)
}

fn parse_mode(value: &[u8]) -> Result<u32, String> {
    std::str::from_utf8(value)
        .ok()
        .filter(|value| value.bytes().all(|octet| octet.is_ascii_digit()))
        .and_then(|value| u32::from_str_radix(value, 8).ok())
        .filter(|&mode| mode <= 0o777)
        .ok_or_else(|| {
            let value = shown(value);
            format!("Mode= cannot be '{value}': it takes an octal number up to 0777, such as 0660")
        })
}

fn parse_account(keyword: &str, value: &[u8]) -> Result<String, String> {
    std::str::from_utf8(value)
        .ok()
        .filter(|name| !name.is_empty() && !name.chars().any(char::is_control))
        .map(str::to_owned)
        .ok_or_else(|| {
            let value = shown(value);
            format!("{keyword} cannot be '{value}': it takes a name or a number")
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<SocketSpec, String> {
        SocketSpec::parse(text.as_bytes())
    }

    #[test]
    fn a_path_alone_is_for_its_owner() {
        let spec = parse("/run/onionbus/control").unwrap();
        assert_eq!(spec, SocketSpec::at("/run/onionbus/control"));
        assert_eq!(spec.mode, 0o600);
        assert_eq!(spec.protocol, Protocol::Auto);
        assert_eq!(spec.to_value(), b"/run/onionbus/control");
    }

    #[test]
    fn keywords_in_any_order_and_letter_case() {
        let spec = parse("/s  protocol=TC\tGROUP=bus Owner=1000 login=Explicit mode=660 ").unwrap();
        assert_eq!(
            spec,
            SocketSpec {
                mode: 0o660,
                owner: Some("1000".into()),
                group: Some("bus".into()),
                protocol: Protocol::Tc,
                login: Login::Explicit,
                ..SocketSpec::at("/s")
            }
        );
        assert_eq!(
            spec.to_value(),
            b"/s Mode=0660 Owner=1000 Group=bus Protocol=tc Login=explicit"
        );
    }

    #[test]
    fn a_path_may_be_quoted() {
        let spec = parse(r#""/a b\"c" Mode=0600"#).unwrap();
        assert_eq!(spec, SocketSpec::at("/a b\"c"));
        assert_eq!(spec.to_value(), br#""/a b\"c" Mode=0600"#);
        assert_eq!(parse(r#""/a""#), Ok(SocketSpec::at("/a")));
    }

    #[test]
    fn a_passed_socket_has_a_name_and_a_protocol() {
        let spec = parse("fd:onionbus.socket Protocol=text").unwrap();
        assert_eq!(
            spec.address,
            SocketAddress::Inherited("onionbus.socket".into())
        );
        assert_eq!(spec.protocol, Protocol::Text);
        assert_eq!(spec.login, Login::Implicit);
        assert_eq!(spec.to_value(), b"fd:onionbus.socket Protocol=text");
        let spec = parse("fd:b Login=EXPLICIT").unwrap();
        assert_eq!(spec.login, Login::Explicit);
        assert_eq!(spec.to_value(), b"fd:b Login=explicit");
        assert_eq!(parse("fd:b Login=implicit").unwrap().to_value(), b"fd:b");
    }

    #[test]
    fn a_port_of_this_machine_has_an_address_and_a_protocol() {
        for (text, written) in [
            ("127.0.0.1:9051", "127.0.0.1:9051"),
            ("localhost:9051", "127.0.0.1:9051"),
            ("[::1]:9051 protocol=text", "[::1]:9051 Protocol=text"),
            ("\"127.1.2.3:1\"", "127.1.2.3:1"),
        ] {
            let spec = parse(text).unwrap();
            assert!(matches!(spec.address, SocketAddress::Port(_)), "{text}");
            assert_eq!(String::from_utf8(spec.to_value()).unwrap(), written);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        let long = format!("/{}", "x".repeat(107));
        for (text, part) in [
            ("relative", "takes an absolute path, fd:NAME or"),
            ("\"\"", "takes an absolute path, fd:NAME or"),
            ("@abstract", "takes an absolute path, fd:NAME or"),
            ("/a\nb", "takes an absolute path, fd:NAME or"),
            ("127.0.0.1:", "takes an absolute path, fd:NAME or"),
            ("127.0.0.1:65536", "takes an absolute path, fd:NAME or"),
            ("127.0.0.1:0", "from 1 to 65535"),
            ("0.0.0.0:9051", "such as 127.0.0.1:9051"),
            ("[::]:9051", "such as 127.0.0.1:9051"),
            ("192.0.2.1:9051", "could be reached from other machines"),
            ("127.0.0.1:9051 Mode=0600", "Mode= means nothing for a port"),
            ("127.0.0.1:9051 Login=explicit", "always asks for a login"),
            ("127.0.0.1:9051 Name=*", "nothing is known of the programs"),
            ("/a Name=", "letters, digits, _ and *"),
            ("/a Name=a-b", "letters, digits, _ and *"),
            (&long, "at most 107 octets, this one has 108"),
            (
                "/a b",
                "'b' is not Mode=, Owner=, Group=, Protocol=, Login= or Name= (a path with blanks",
            ),
            ("/a Mod=0660", "'Mod=' is not Mode="),
            ("/a Mode=888", "such as 0660"),
            ("/a Mode=1777", "such as 0660"),
            ("/a Mode=+660", "such as 0660"),
            ("/a Mode=", "such as 0660"),
            ("/a Mode=rw", "Mode= cannot be 'rw'"),
            ("/a Mode=600 mode=660", "Mode= is given twice"),
            ("/a Owner=", "Owner= cannot be ''"),
            ("/a Group=a\u{7}", "Group= cannot be 'a\\x07'"),
            ("/a Protocol=v1", "takes auto, text, tc or v0"),
            (
                "/a Login=no",
                "Login= cannot be 'no': it takes implicit, explicit or password",
            ),
            ("/a Login=", "takes implicit, explicit or password"),
            ("/a Login=explicit login=implicit", "Login= is given twice"),
            ("\"/a", "no closing"),
            ("\"/a\"Mode=0600", "a blank belongs after"),
            ("fd:", "FileDescriptorName"),
            ("fd:a:b", "FileDescriptorName"),
            ("fd:\u{e9}", "FileDescriptorName"),
            (
                "fd:x Mode=0660",
                "Mode= means nothing for a socket that the service manager passes",
            ),
            ("fd:x Owner=me", "Owner= means nothing"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(parse(&long[..107]).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            path in "/[ -~\u{a0}-\u{ff}]{0,40}",
            inherited: bool,
            mode in 0_u32..=0o777,
            owner in proptest::option::of("[a-z0-9_=\"#]{1,8}"),
            group in proptest::option::of("[a-z]{1,8}"),
            protocol in 0_usize..4,
            login in 0_usize..3,
            names in "[A-Z0-9_*]{0,4}",
        ) {
            let mut spec = SocketSpec::at(path.trim_end());
            spec.protocol = Protocol::ALL[protocol].1;
            spec.login = Login::ALL[login].1;
            spec.names = names.into_bytes();
            if inherited {
                let name = path.replace(|c: char| c == ':' || !c.is_ascii(), "");
                spec.address = SocketAddress::Inherited(name);
            } else {
                (spec.mode, spec.owner, spec.group) = (mode, owner, group);
            }
            prop_assert_eq!(SocketSpec::parse(&spec.to_value()), Ok(spec));
        }

        #[test]
        fn no_octets_make_it_panic(text: Vec<u8>) {
            if let Ok(spec) = SocketSpec::parse(&text) {
                prop_assert_eq!(SocketSpec::parse(&spec.to_value()), Ok(spec));
            }
        }
    }
}
