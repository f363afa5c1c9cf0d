//! Where Tor's control port is.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::socket::absolute_path;

/// The most octets of a host's name, RFC 1035.
const MAX_NAME: usize = 253;

/// The most octets between two dots of it.
const MAX_LABEL: usize = 63;

/// Where Tor's control port is: a socket in the file system, or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Tor's `ControlSocket`. Absolute.
    Unix(PathBuf),
    /// Tor's `ControlPort`.
    Tcp(SocketAddr),
    /// The same, of a host that must be looked up.
    Name(String, u16),
}

impl Address {
    /// Reads `unix:PATH`, a quoted path included, or `HOST:PORT`, where HOST is an IP address or a
    /// name. As with Tor's own tools, `unix:` and `localhost:` may be missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = path_in(text) {
            return absolute_path(path.as_bytes().to_vec()).map(Self::Unix);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0).then_some(Self::Tcp(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
        let port = port.parse().ok().filter(|&port| port != 0)?;
        if host.eq_ignore_ascii_case("localhost") {
            return Some(Self::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)));
        }
        is_name(host).then(|| Self::Name(host.to_owned(), port))
    }

    /// The port that is connected to, if it is one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(address) => Some(address.port()),
            Self::Name(_, port) => Some(*port),
        }
    }
}

/// Whether a name server may know a host. An onion address is for Tor alone, and a number at the
/// end is an IP address that is written wrongly or in a way that nobody expects.
fn is_name(host: &str) -> bool {
    let labels = || host.strip_suffix('.').unwrap_or(host).split('.');
    let is_label = |label: &str| {
        let is_known = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(is_known)
    };
    let last = labels().next_back().unwrap_or_default();
    host.len() <= MAX_NAME
        && labels().all(is_label)
        && !last.eq_ignore_ascii_case("onion")
        && !last.starts_with(|first: char| first.is_ascii_digit())
}

/// The path in an address, if it is one of a socket in the file system. The path may be relative.
#[must_use]
pub fn path_in(text: &str) -> Option<&str> {
    if let Some(path) = text.strip_prefix("unix:") {
        let bare = path
            .strip_prefix('"')
            .and_then(|path| path.strip_suffix('"'));
        return Some(bare.unwrap_or(path));
    }
    // No host and no port has a slash in it.
    text.contains('/').then_some(text)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
            Self::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_ports() {
        for (text, written) in [
            ("unix:/run/tor/control", "unix:/run/tor/control"),
            ("unix:\"/a b/c\"", "unix:/a b/c"),
            ("127.0.0.1:9051", "127.0.0.1:9051"),
            ("localhost:9051", "127.0.0.1:9051"),
            ("[::1]:9051", "[::1]:9051"),
            ("9051", "127.0.0.1:9051"),
            ("/run/tor/control", "unix:/run/tor/control"),
            ("tor:9051", "tor:9051"),
            ("My_Tor-2.example.org.:9051", "My_Tor-2.example.org.:9051"),
        ] {
            let address = Address::parse(text).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(written));
        }
        for text in [
            "",
            "0",
            "65536",
            "+9051x",
            ":9051",
            "127.0.0.1:0",
            "tor/control",
            "/run/tor/a\nb",
            "unix:/run/\x1b]0;x",
            "unix:control",
            "unix:",
            "127.0.0.1:x",
            "127.0.0.256:9051",
            "127.1:9051",
            "0x7f.1:9051",
            "::1:9051",
            "tor:",
            "tor:0",
            "tor",
            "a..b:1",
            ".:1",
            "-v:1",
            "t\u{f6}r:9051",
            "a b:1",
            "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:9051",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
