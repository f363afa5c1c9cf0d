//! The keys of GETINFO (control-spec 3.9, proposal 197): one table of all that is known of each.

use super::Owner;

macro_rules! keys {
    ($($variant:ident: $name:literal, $owner:ident, $about:literal;)+) => {
        /// A key that the daemon has a value for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Key { $(#[doc = $about] $variant),+ }

        impl Key {
            /// Every key, in the order of `GETINFO info/names`.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The key as controllers write it; its letter case counts.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The party whose value counts where a Tor stands behind the bus; [`Owner::Both`] is
            /// Tor's with the bus's behind it.
            #[must_use]
            pub const fn owner(self) -> Owner {
                match self { $(Self::$variant => Owner::$owner),+ }
            }

            /// The description that `GETINFO info/names` gives.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about),+ }
            }

            /// The key of this name.
            #[must_use]
            pub fn parse(name: &[u8]) -> Option<Self> {
                $(if name == $name.as_bytes() {
                    return Some(Self::$variant);
                })+
                None
            }
        }
    };
}

keys! {
    BusChain: "bus/chain", Bus,
        "The daemon's number, and those of the buses from it to Tor.";
    ConfigFile: "config-file", Either, "Where the option file is; empty if there is none.";
    ConfigText: "config-text", Either, "What SAVECONF would write.";
    ConfigDefaults: "config/defaults", Both, "The default of each option.";
    ConfigNames: "config/names", Both, "Every option and the kind of its value.";
    ControllersDetail: "controllers/detail", Bus, "A line about each connected controller.";
    TimeLocal: "current-time/local", Either, "The time, in the system's time zone.";
    TimeUtc: "current-time/utc", Either, "The time, in UTC.";
    EventsNames: "events/names", Both, "Every event that SETEVENTS takes.";
    FeaturesNames: "features/names", Either, "Every feature that USEFEATURE takes.";
    InfoNames: "info/names", Both, "Every key of GETINFO.";
    KeptOnions: "kept-onions", Bus, "The onion services that are kept, and whose they are.";
    Leases: "leases", Bus, "Who holds which leased option.";
    ListControllers: "list-controllers", Bus, "The name of each connected controller, or unset.";
    NewMessages: "new-messages", Bus, "The newest unread messages; they are read then.";
    PostedMessage: "posted-message", Bus,
        "The number of the last message that one has posted, or 0.";
    Confinement: "process/confinement", Bus, "What the daemon's process has given up.";
    DescriptorLimit: "process/descriptor-limit", Either,
        "How many descriptors the daemon may have open.";
    Pid: "process/pid", Either, "The daemon's process.";
    Uid: "process/uid", Either, "The daemon's user, as a number.";
    User: "process/user", Either, "The daemon's user.";
    RecentActions: "recent-actions", Bus, "The last actions and refusals.";
    RecentMessages: "recent-messages", Bus, "The last messages to all and to one's name.";
    SignalNames: "signal/names", Both, "Every signal that SIGNAL takes.";
    Status: "status", Bus, "How the daemon is, and what it has done since its start.";
    TrafficRead: "traffic/read", Either, "Octets read from controllers.";
    TrafficWritten: "traffic/written", Either, "Octets written to controllers.";
    Uptime: "uptime", Either, "Seconds since the daemon started.";
    Version: "version", Either, "The daemon's version.";
}

/// The beginnings of the keys that only a Tor has values for (control-spec 3.9).
const TOR_KEYS: &[&str] = &[
    "accounting/",
    "address",
    "bw-event-cache",
    "circuit-status",
    "config-can-saveconf",
    "config-defaults-file",
    "consensus/",
    "desc",
    "dir/",
    "dormant",
    "downloads/",
    "entry-guards",
    "exit-policy/",
    "extra-info/",
    "fingerprint",
    "hs/",
    "ip-to-country/",
    "limits/",
    "md/",
    "net/",
    "network-",
    "ns/",
    "onions/",
    "orconn-status",
    "sr/",
    "stats/",
    "status/",
    "stream-status",
];

/// The keys of Tor's alone whose value is one short line, whatever Tor does; controllers ask for
/// some of them again and again.
const SHORT_KEYS: &[&str] = &[
    "dormant",
    "network-liveness",
    "accounting/enabled",
    "status/bootstrap-phase",
    "status/circuit-established",
    "status/enough-dir-info",
];

impl Key {
    /// Whether the bus has a part in the value where a Tor stands behind it.
    #[must_use]
    pub const fn concerns_bus(self) -> bool {
        matches!(self.owner(), Owner::Bus | Owner::Both)
    }

    /// Whether Tor's value of the key is one short line, whatever Tor does.
    const fn is_short(self) -> bool {
        match self {
            Self::TimeLocal
            | Self::TimeUtc
            | Self::DescriptorLimit
            | Self::Pid
            | Self::Uid
            | Self::User
            | Self::TrafficRead
            | Self::TrafficWritten
            | Self::Uptime
            | Self::Version => true,
            Self::BusChain
            | Self::Confinement
            | Self::ConfigFile
            | Self::ConfigText
            | Self::ConfigDefaults
            | Self::ConfigNames
            | Self::EventsNames
            | Self::FeaturesNames
            | Self::ControllersDetail
            | Self::InfoNames
            | Self::KeptOnions
            | Self::Leases
            | Self::ListControllers
            | Self::NewMessages
            | Self::PostedMessage
            | Self::RecentActions
            | Self::RecentMessages
            | Self::SignalNames
            | Self::Status => false,
        }
    }
}

/// Whether only the bus has this key.
#[must_use]
pub fn is_own(name: &[u8]) -> bool {
    Key::parse(name).is_some_and(|key| key.owner() == Owner::Bus)
}

/// Whether the bus puts something behind Tor's value of this key.
#[must_use]
pub fn is_shared(name: &[u8]) -> bool {
    Key::parse(name).is_some_and(|key| key.owner() == Owner::Both)
}

/// Whether only a Tor has values for this key.
#[must_use]
pub fn needs_tor(name: &[u8]) -> bool {
    Key::parse(name).is_none()
        && TOR_KEYS
            .iter()
            .any(|start| name.starts_with(start.as_bytes()))
}

/// Whether Tor's value of this key is known to be one short line; none if the bus has a part in the
/// value.
#[must_use]
pub fn is_short_of_tor(name: &[u8]) -> Option<bool> {
    match Key::parse(name) {
        Some(key) if key.concerns_bus() => None,
        Some(key) => Some(key.is_short()),
        None => Some(SHORT_KEYS.iter().any(|short| name == short.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_found_by_its_name_and_no_other() {
        for &key in Key::ALL {
            assert_eq!(Key::parse(key.name().as_bytes()), Some(key));
            assert!(!needs_tor(key.name().as_bytes()));
        }
        assert_eq!(Key::parse(b"Version"), None);
        assert!(needs_tor(b"ns/all") && !needs_tor(b"nothing"));
        assert!(Key::ALL.is_sorted_by_key(|key| key.name()));
    }
}
