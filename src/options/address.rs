//! Where Tor's control port is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where Tor's control port is: `unix:PATH` or `HOST:PORT`.
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
    /// a name server at every reconnection.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path
                .strip_prefix('"')
                .and_then(|path| path.strip_suffix('"'))
                .unwrap_or(path);
            let path = PathBuf::from(path);
            return path.is_absolute().then_some(Self::Unix(path));
        }
        if let Ok(address) = text.parse() {
            return Some(Self::Tcp(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let ip = if host.eq_ignore_ascii_case("localhost") {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            host.parse().ok()?
        };
        Some(Self::Tcp(SocketAddr::new(ip, port.parse().ok()?)))
    }
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
        ] {
            let address = Address::parse(text).map(|address| address.to_string());
            assert_eq!(address.as_deref(), Some(written));
        }
        for text in [
            "",
            "9051",
            "unix:control",
            "unix:",
            "example.org:9051",
            "127.0.0.1:x",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
