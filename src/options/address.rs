//! Where Tor's control port is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::socket::absolute_path;

/// Where Tor's control port is: a socket in the file system, or a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Tor's `ControlSocket`. Absolute.
    Unix(PathBuf),
    /// Tor's `ControlPort`.
    Tcp(SocketAddr),
}

impl Address {
    /// Reads `unix:PATH`, a quoted path included, or `HOST:PORT`, where HOST is an IP address or
    /// `localhost`. A name that must be looked up is refused: that would make the daemon wait for
    /// a name server at every reconnection. As with Tor's own tools, `unix:` and `localhost:` may
    /// be missing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = path_in(text) {
            return absolute_path(path.as_bytes().to_vec()).map(Self::Unix);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0).then_some(Self::Tcp(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
        let ip = if host.eq_ignore_ascii_case("localhost") {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            host.parse().ok()?
        };
        let port = port.parse().ok().filter(|&port| port != 0)?;
        Some(Self::Tcp(SocketAddr::new(ip, port)))
    }
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
            "example.org:9051",
            "127.0.0.1:x",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
