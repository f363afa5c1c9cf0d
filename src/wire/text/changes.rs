//! Tor's events about changes of itself: which options, which signal.

/// The options of a `CONF_CHANGED`, as Tor spells them.
pub fn changed_options(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = event.split(|&octet| octet == b'\n').skip(1);
    lines.filter_map(|line| {
        let line = line
            .strip_suffix(b"\r")
            .unwrap_or(line)
            .strip_prefix(b"650-")?;
        line.split(|&octet| octet == b'=').next()
    })
}

/// The signal of a `SIGNAL`, by its long name.
#[must_use]
pub fn signal_name(event: &[u8]) -> Option<&[u8]> {
    let line = event.split(|&octet| octet == b'\n').next()?;
    let name = line.strip_prefix(b"650 SIGNAL ")?;
    Some(name.strip_suffix(b"\r").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_tor_writes_them() {
        let options = |event| changed_options(event).collect::<Vec<_>>();
        // Tor 0.4.9.11: an option with a value, one of two lines, and one at its default.
        let event = b"650-CONF_CHANGED\r\n650-Log=notice file a=b\r\n650-Log=x\r\n\
            650-SocksPort\r\n650 OK\r\n";
        assert_eq!(options(event), [&b"Log"[..], b"Log", b"SocksPort"]);
        assert!(options(b"650 CONF_CHANGED\r\n").is_empty());
        assert!(options(b"").is_empty());
        assert_eq!(signal_name(b"650 SIGNAL RELOAD\r\n"), Some(&b"RELOAD"[..]));
        for none in [&b"650 SIGNALS X\r\n"[..], b"650-CONF_CHANGED\r\n", b""] {
            assert_eq!(signal_name(none), None);
        }
    }
}
