//! Names: hosts, groups, and what a remote controller is called on the bus here.

use std::fmt;
use std::str::FromStr;

use onionbus::wire::ControllerId;
use thiserror::Error;

/// What stands between the name of a controller and its host.
const AT: &str = "_at_";

/// The most octets of the name of a host or a group.
const MAX: usize = 32;

/// The name of a machine in its group: letters and digits, so that the last `_at_` of a name is
/// always the one before the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(String);

/// The name of a group of buses: letters, digits and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group(String);

/// A name that cannot be that of a host or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadName {
    /// No host.
    #[error("a host is 1 to {MAX} ASCII letters and digits")]
    Host,
    /// No group.
    #[error("a group is 1 to {MAX} ASCII letters, digits and _")]
    Group,
}

impl FromStr for Host {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let fine = is_host(name);
        fine.then(|| Self(name.into())).ok_or(BadName::Host)
    }
}

impl FromStr for Group {
    type Err = BadName;

    fn from_str(name: &str) -> Result<Self, BadName> {
        let fine = (1..=MAX).contains(&name.len())
            && name
                .bytes()
                .all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
        fine.then(|| Self(name.into())).ok_or(BadName::Group)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Group {
    /// The name that the bridge itself has on its bus.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("bridge_{self}")
    }
}

fn is_host(name: &str) -> bool {
    (1..=MAX).contains(&name.len()) && name.bytes().all(|octet| octet.is_ascii_alphanumeric())
}

/// The name of a remote controller on the bus here; `None` if it would be too long for one.
/// Messages of a controller without a name come from `unset_at_HOST`.
#[must_use]
pub fn local_name(name: &str, host: &Host) -> Option<ControllerId> {
    ControllerId::parse(format!("{name}{AT}{host}").as_bytes())
}

/// Whether a name is made as [`local_name`] makes them. What has such a name came over NATS, or
/// looks like it, and is never sent there: so there are no loops, whoever holds the name now.
#[must_use]
pub fn is_remote(name: &str) -> bool {
    name.rsplit_once(AT)
        .is_some_and(|(name, host)| !name.is_empty() && is_host(host))
}

/// Whether a controller of this name is told to the other hosts, and gets messages from there.
#[must_use]
pub fn is_shared(name: &ControllerId) -> bool {
    !name.is_reserved() && !is_remote(name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        name.parse().unwrap()
    }

    #[test]
    fn hosts_and_groups_are_short_words() {
        for good in ["a", "relay2", "R2D2", &"x".repeat(32)] {
            assert!(good.parse::<Host>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a_b",
            "a.b",
            "a-b",
            "a b",
            "ä",
            "*",
            ">",
            &"x".repeat(33),
        ] {
            assert_eq!(bad.parse::<Host>(), Err(BadName::Host), "{bad}");
        }
        assert!("my_relays".parse::<Group>().is_ok());
        for bad in ["", "a.b", "a b", ">", &"x".repeat(33)] {
            assert_eq!(bad.parse::<Group>(), Err(BadName::Group), "{bad}");
        }
    }

    #[test]
    fn a_remote_controller_is_called_after_its_host() {
        let name = |name: String| local_name(&name, &host("relay2")).map(|name| name.to_string());
        assert_eq!(name("alice".into()).as_deref(), Some("alice_at_relay2"));
        assert_eq!(name("x".repeat(54)).map(|name| name.len()), Some(64));
        assert_eq!(name("x".repeat(55)), None, "too long");
    }

    #[test]
    fn no_two_remote_controllers_share_a_name() {
        let pairs = [
            ("a", "b"),
            ("a_at", "b"),
            ("a_at_b", "c"),
            ("a", "at"),
            ("a_at_at", "b"),
        ];
        let mut names: Vec<_> = pairs
            .iter()
            .map(|(name, at)| local_name(name, &host(at)).unwrap().to_string())
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), pairs.len(), "{names:?}");
    }

    #[test]
    fn names_from_afar_are_known_by_their_form() {
        for remote in ["alice_at_relay2", "a_at_b_at_c", "unset_at_x", "__at_x"] {
            assert!(is_remote(remote), "{remote}");
        }
        for local in [
            "alice",
            "at",
            "_at_b",
            "a_at_",
            "look_at_this_one",
            "a_at_b_c",
        ] {
            assert!(!is_remote(local), "{local}");
        }
    }
}
