//! Identity: what the kernel says of who has connected.

use crate::wire::fields::number;

/// The user and group that a failed mapping of a user namespace shows as.
pub const UNMAPPED: u32 = 65534;

/// The user and group of who comes over TCP: the kernel tells none.
pub const NOBODY: u32 = u32::MAX;

/// What a connection's peer was when it was accepted; it never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// The label that a security module gives it, as [`label`] has it; empty for none.
    pub label: Vec<u8>,
    /// Its unit of the service manager; empty for none or an unknown one.
    pub unit: Vec<u8>,
    /// Its process.
    pub pid: i32,
    /// The path or address of the socket it came through.
    pub socket: Vec<u8>,
    /// The socket as the service manager passed it, `fd:NAME`; empty for one of the daemon's own.
    pub passed: Vec<u8>,
}

/// The owner of what a connection makes; never a process, which forks and ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The label.
    pub label: Vec<u8>,
}

impl Identity {
    /// The owner of what it makes. A user that may be a failed mapping owns nothing. Those who come
    /// over TCP have proved that they know a secret, and are one owner for each port.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        let label = if self.uid == NOBODY {
            self.socket.clone()
        } else {
            self.label.clone()
        };
        (self.uid != UNMAPPED).then_some(Owner {
            uid: self.uid,
            label,
        })
    }

    /// The value of `GETINFO whoami`.
    #[must_use]
    pub fn whoami(&self, session: u64, name: &str, profiles: &[String]) -> Vec<u8> {
        let mut groups = self.groups.clone();
        groups.sort_unstable();
        let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
        let (uid, gid, groups) = (self.uid, self.gid, groups.join(","));
        let mut out = format!("ID={session} NAME={name} UID={uid} GID={gid} GROUPS={groups}");
        let mut out = {
            out.push_str(" LABEL=");
            out.into_bytes()
        };
        quote(&self.label, &mut out);
        out.extend_from_slice(b" UNIT=");
        quote(&self.unit, &mut out);
        out.extend_from_slice(format!(" PID={} SOCKET=", self.pid).as_bytes());
        quote(&self.socket, &mut out);
        out.extend_from_slice(format!(" PROFILES={}", profiles.join(",")).as_bytes());
        out
    }
}

/// Appends a `QuotedString`: a backslash before a quote or a backslash, and nothing that ends a
/// line.
fn quote(octets: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &octet in octets {
        match octet {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', octet]),
            b'\r' | b'\n' | 0 => out.push(b'?'),
            octet => out.push(octet),
        }
    }
    out.push(b'"');
}

/// A label as it is compared: without a NUL at its end and without the mode that `AppArmor` adds.
#[must_use]
pub fn label(octets: &[u8]) -> &[u8] {
    let octets = octets.strip_suffix(b"\0").unwrap_or(octets);
    let octets = octets.strip_suffix(b"\n").unwrap_or(octets);
    [
        &b" (enforce)"[..],
        b" (complain)",
        b" (kill)",
        b" (unconfined)",
        b" (mixed)",
    ]
    .iter()
    .find_map(|mode| octets.strip_suffix(*mode))
    .unwrap_or(octets)
}

/// The unit of a process, by the text of its `/proc/PID/cgroup`: the first component behind the
/// slices, so that a user's own manager, which is below `user@UID.service`, cannot forge one.
#[must_use]
pub fn unit(cgroup: &[u8]) -> Option<&[u8]> {
    let lines = || cgroup.split(|&octet| octet == b'\n');
    let named = |line: &'_ [u8]| memchr::memchr(b':', line).map(|colon| colon + 1);
    let path = lines()
        .find_map(|line| line.strip_prefix(b"0::"))
        .filter(|path| *path != b"/")
        .or_else(|| lines().find_map(|line| line[named(line)?..].strip_prefix(b"name=systemd:")))?;
    let mut components = path.strip_prefix(b"/")?.split(|&octet| octet == b'/');
    let unit = components.find(|component| !component.ends_with(b".slice"))?;
    // The service manager puts this before a name that a file of the kernel's could have.
    let unit = unit.strip_prefix(b"_").unwrap_or(unit);
    let is_unit = unit.ends_with(b".service") || unit.ends_with(b".scope");
    is_unit.then_some(unit)
}

/// The supplementary groups of a process, by the text of its `/proc/PID/status`, for where the
/// socket does not have them.
#[must_use]
pub fn groups(status: &[u8]) -> Option<Vec<u32>> {
    let mut lines = status.split(|&octet| octet == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"Groups:"))?;
    let words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    words.map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoami_says_all_of_it() {
        let identity = Identity {
            uid: 1000,
            gid: 1000,
            groups: vec![1001, 27],
            pid: 4711,
            socket: b"/run/onionbus/control".to_vec(),
            label: b"a\"b\\c".to_vec(),
            unit: b"x.service".to_vec(),
            passed: b"fd:control".to_vec(),
        };
        let profiles = ["base".to_owned(), "nyx".to_owned()];
        let line = String::from_utf8(identity.whoami(7, "alice", &profiles)).unwrap();
        assert_eq!(
            line,
            "ID=7 NAME=alice UID=1000 GID=1000 GROUPS=27,1001 LABEL=\"a\\\"b\\\\c\" \
             UNIT=\"x.service\" PID=4711 SOCKET=\"/run/onionbus/control\" PROFILES=base,nyx"
        );
    }

    #[test]
    fn a_failed_mapping_owns_nothing() {
        let mut identity = Identity::default();
        assert!(identity.owner().is_some());
        identity.uid = UNMAPPED;
        assert_eq!(identity.owner(), None);
    }

    #[test]
    fn each_port_is_an_owner() {
        let of = |socket: &[u8]| {
            let socket = socket.to_vec();
            let uid = NOBODY;
            Identity {
                uid,
                socket,
                ..Identity::default()
            }
            .owner()
            .unwrap()
        };
        assert_eq!(of(b"127.0.0.1:1"), of(b"127.0.0.1:1"));
        assert_ne!(of(b"127.0.0.1:1"), of(b"127.0.0.1:2"));
    }

    #[test]
    fn labels_are_compared_without_their_ends() {
        for (given, expected) in [
            (&b"unconfined\n"[..], &b"unconfined"[..]),
            (b"/usr/bin/x (enforce)\0", b"/usr/bin/x"),
            (b"/usr/bin/x (enforce)", b"/usr/bin/x"),
            (b"u:r:t:s0\0", b"u:r:t:s0"),
            (b"", b""),
        ] {
            assert_eq!(label(given), expected);
        }
    }

    #[test]
    fn groups_are_those_of_the_status() {
        let status = b"Name:\tx\nGid:\t1\t1\t1\t1\nGroups:\t27 1001 \nNStgid:\t7\n";
        assert_eq!(groups(status), Some(vec![27, 1001]));
        assert_eq!(groups(b"Groups:\t \n"), Some(Vec::new()));
        assert_eq!(groups(b"Groups:\t-1\n"), None);
        assert_eq!(groups(b"Name:\tGroups:\n"), None);
    }

    #[test]
    fn a_unit_is_the_first_behind_the_slices() {
        for (text, expected) in [
            (
                "0::/system.slice/bitcoind.service\n",
                Some("bitcoind.service"),
            ),
            (
                "0::/system.slice/a-b.slice/x@1.service/sub\n",
                Some("x@1.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/bitcoind.service\n",
                Some("user@1000.service"),
            ),
            (
                "0::/user.slice/user-1000.slice/session-3.scope\n",
                Some("session-3.scope"),
            ),
            (
                "12:pids:/x\n1:name=systemd:/system.slice/a.service\n0::/\n",
                Some("a.service"),
            ),
            ("0::/\n", None),
            ("0::/../x.service\n", None),
            ("0::/system.slice\n", None),
            ("", None),
        ] {
            assert_eq!(unit(text.as_bytes()), expected.map(str::as_bytes), "{text}");
        }
    }
}
