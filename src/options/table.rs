//! Every option there is: the one list that parsing, checking, saving, `GETINFO config/names`
//! and the manual page are made from.

/// When a value can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changeable {
    /// At any time.
    Running,
    /// When the option file is read again, and when the daemon starts.
    AtReload,
    /// Only when the daemon starts.
    AtStart,
}

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 0 or 1.
    Boolean,
    /// An integer.
    Count {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A number of octets, with a unit such as KB or MB if wanted (powers of 1024).
    Octets {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A span of whole seconds, with a unit such as minutes if wanted.
    Seconds {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// An absolute path.
    Path,
    /// An absolute path; the option can be given several times.
    Paths,
    /// Ports, between blanks or commas.
    Ports,
    /// Names of options, between blanks or commas.
    Words,
    /// The least severity that is logged.
    Severity,
    /// Where Tor's control port is, or none.
    Tor,
    /// A password, or `file:` and where it is.
    Secret,
    /// The hash of a password; the option can be given several times, for several passwords.
    Passwords,
    /// The name of a user.
    User,
    /// A socket; the option can be given several times, for several sockets.
    Sockets,
}

impl Kind {
    /// Whether an option of this kind can be given several times.
    pub fn repeatable(self) -> bool {
        matches!(self, Self::Sockets | Self::Paths | Self::Passwords)
    }

    /// What Tor calls this kind in `GETINFO config/names` (control-spec 3.9).
    pub fn tor_name(self) -> &'static str {
        match self {
            Self::Boolean => "Boolean",
            Self::Count { .. } => "Integer",
            Self::Octets { .. } => "DataSize",
            Self::Seconds { .. } => "TimeInterval",
            Self::Path => "Filename",
            Self::Ports | Self::Words => "CommaList",
            Self::Severity | Self::Tor | Self::Secret | Self::User => "String",
            Self::Sockets | Self::Paths | Self::Passwords => "LineList",
        }
    }

    /// What it takes, in words that follow "it takes".
    pub fn takes(self) -> String {
        match self {
            Self::Boolean => "0 or 1".into(),
            Self::Count { min, max } => format!("an integer from {min} to {max}"),
            Self::Octets { min, max } => {
                let (min, max) = (size(min), size(max));
                format!("a size from {min} to {max}, such as 524288 or 512 KB")
            }
            Self::Seconds { min, max } => {
                format!("a time from {min} to {max} seconds, such as 30 or 5 minutes")
            }
            Self::Path | Self::Paths => "an absolute path".into(),
            Self::Ports => "ports from 1 to 65535, such as 8332 18332".into(),
            Self::Words => "names of options, such as DisableNetwork".into(),
            Self::Tor => "unix:PATH, HOST:PORT or none".into(),
            Self::Secret => "a text".into(),
            Self::Passwords => "16: and 58 hexadecimal digits".into(),
            Self::User => "the name of a user".into(),
            Self::Severity => "debug, info, notice, warn or err".into(),
            Self::Sockets => "a socket".into(),
        }
    }
}

/// A number of octets in the largest unit that says it exactly, if any does.
fn size(octets: u64) -> String {
    let units = [("GB", 30), ("MB", 20), ("KB", 10)];
    match units
        .iter()
        .find(|(_, bits)| octets.trailing_zeros() >= *bits)
    {
        Some((unit, bits)) => format!("{} {unit}", octets >> bits),
        None => octets.to_string(),
    }
}

/// One option.
#[derive(Debug)]
pub struct Spec {
    /// Its name in its own spelling; read in any letter case.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The value it has when nobody sets it; empty where that depends on who runs the daemon.
    pub default: &'static str,
    /// When it can change.
    pub change: Changeable,
    /// What it does, for the manual page.
    pub doc: &'static str,
}

/// All options, in the order in which they are listed everywhere.
pub const TABLE: &[Spec] = &[
    Spec {
        name: "BusSocket",
        kind: Kind::Sockets,
        default: "",
        change: Changeable::AtStart,
        doc: "A Unix socket on which controllers are served. Without BusPolicy whoever may connect \
              to it may do everything, so its permissions are the door. Each further line is one \
              more socket.",
    },
    Spec {
        name: "BusStateDirectory",
        kind: Kind::Path,
        default: "",
        change: Changeable::AtStart,
        doc: "The directory for what outlives the daemon: the reserved message numbers and the \
              authentication cookie. It is made, for its owner only, if it is missing.",
    },
    Spec {
        name: "BusUser",
        kind: Kind::User,
        default: "",
        change: Changeable::AtStart,
        doc: "The user that a daemon started by root becomes for good, with the user's groups and \
              no capability, before it opens anything. Missing directories for sockets and state \
              are made first, and belong to this user.",
    },
    Spec {
        name: "BusConfine",
        kind: Kind::Boolean,
        default: "1",
        change: Changeable::AtStart,
        doc: "With 1 the daemon gives up what it will never need, as far as the kernel has it: it \
              executes nothing, writes only where its sockets, state and option file are, and \
              leaves no core. With 0, which is for debugging, it does not.",
    },
    Spec {
        name: "BusCookieAuthentication",
        kind: Kind::Boolean,
        default: "0",
        change: Changeable::AtStart,
        doc: "With 1 a controller must also prove that it can read a cookie of 32 octets, fresh at \
              every start, in the state directory.",
    },
    Spec {
        name: "BusHashedPassword",
        kind: Kind::Passwords,
        default: "",
        change: Changeable::AtStart,
        doc: "The hash of a password that gets in at a port, and where a socket has \
              Login=password, as 'onionbus hash-password' prints it, or 'tor --hash-password'. \
              Each further line is one more password.",
    },
    Spec {
        name: "BusLoginTimeout",
        kind: Kind::Seconds { min: 1, max: 3600 },
        default: "30",
        change: Changeable::Running,
        doc: "How long a controller that must prove that it knows cookie or password may take for \
              that. Then it is told so with 514 and disconnected. Before, a command of it has less than \
              8 KB.",
    },
    Spec {
        name: "BusPolicy",
        kind: Kind::Paths,
        default: "",
        change: Changeable::AtReload,
        doc: "A file with profiles, or a directory of which each *.policy is read, that say what \
              each controller may do, by what the kernel says of it. Each further line is one more \
              place; of two files of one name the later place's counts. With none whoever is let \
              in may do everything.",
    },
    Spec {
        name: "BusAudit",
        kind: Kind::Path,
        default: "",
        change: Changeable::AtStart,
        doc: "A file that a line of JSON is written to for each command that changes something, \
              and for each that the policy refuses: who, what and when, and never a value. Only \
              its owner can read it; it is opened anew when the options are read again. With none \
              nothing is written.",
    },
    Spec {
        name: "BusAuditRequired",
        kind: Kind::Boolean,
        default: "0",
        change: Changeable::AtReload,
        doc: "With 1 a command that changes something is written to BusAudit before it is done, \
              and refused where that fails.",
    },
    Spec {
        name: "BusProtectedPorts",
        kind: Kind::Ports,
        default: "8332 18332 18443 10009",
        change: Changeable::Running,
        doc: "Ports of this machine that no onion service of a controller with a profile may lead \
              to, unless a line of it names them: those of wallets that do what they are told.",
    },
    Spec {
        name: "BusTor",
        kind: Kind::Tor,
        default: "none",
        change: Changeable::AtStart,
        doc: "The control port of the Tor behind the bus: unix:PATH, HOST:PORT or none. As with \
              Tor's own tools an absolute path alone is a socket, and a port alone one on this \
              machine. A host with a name is looked up whenever the daemon connects to it anew, \
              within BusTorTimeout; each of its addresses has its turn. Controllers then have all \
              of Tor's control protocol too.",
    },
    Spec {
        name: "BusTorPassword",
        kind: Kind::Secret,
        default: "",
        change: Changeable::AtStart,
        doc: "The password that Tor asks for, where it offers HASHEDPASSWORD; empty is none. With \
              file:PATH it is the first line of a file that only the daemon's user may read.",
    },
    Spec {
        name: "BusTorAllowCookie",
        kind: Kind::Boolean,
        default: "0",
        change: Changeable::AtStart,
        doc: "With 1 a Tor that offers COOKIE and not SAFECOOKIE, as none does since 2012, is told \
              the content of its cookie file. So is whoever answers in its place, and names \
              another file of 32 octets.",
    },
    Spec {
        name: "BusTorTimeout",
        kind: Kind::Seconds { min: 1, max: 3600 },
        default: "30",
        change: Changeable::Running,
        doc: "How long Tor may take to let a connection in and to answer what the daemon itself \
              asks, and how long it may take to answer a controller that has left.",
    },
    Spec {
        name: "BusKeepControllers",
        kind: Kind::Boolean,
        default: "0",
        change: Changeable::Running,
        doc: "With 1 a controller stays when Tor goes away, and its next command goes to the next \
              Tor. With 0 one that used Tor is disconnected, as Tor itself would do.",
    },
    Spec {
        name: "BusKeepOnions",
        kind: Kind::Seconds {
            min: 0,
            max: 31_536_000,
        },
        default: "0",
        change: Changeable::Running,
        doc: "How long an onion service waits for its owner after the controller that made it has \
              left. What a controller has told Tor to make, keys and address maps included, is \
              also given to the next Tor when Tor has been restarted. With 0 nothing is kept.",
    },
    Spec {
        name: "BusMaxOnions",
        kind: Kind::Count {
            min: 1,
            max: 10_000,
        },
        default: "32",
        change: Changeable::Running,
        doc: "How many onion services are kept for each user. Beyond that the one that has waited \
              longest goes.",
    },
    Spec {
        name: "BusOnionStore",
        kind: Kind::Path,
        default: "",
        change: Changeable::AtStart,
        doc: "The file in which kept onion services are written down, with their keys, so that \
              they are there again when the daemon has been restarted. By default there is none.",
    },
    Spec {
        name: "BusLease",
        kind: Kind::Words,
        default: "",
        change: Changeable::Running,
        doc: "Options of Tor's that a controller which changes one holds until it is as before: \
              nobody else can change it meanwhile, and when its holder leaves, it is set back.",
    },
    Spec {
        name: "BusHistory",
        kind: Kind::Count {
            min: 0,
            max: 10_000,
        },
        default: "100",
        change: Changeable::Running,
        doc: "How many of the last messages are kept for GETINFO recent-messages, and how many of the \
              last actions and refusals for GETINFO recent-actions.",
    },
    Spec {
        name: "BusMaxMessageLength",
        kind: Kind::Octets {
            min: 1,
            max: 1_048_000,
        },
        default: "65536",
        change: Changeable::Running,
        doc: "The longest text that POSTMESSAGE takes. A longer one is refused with 513.",
    },
    Spec {
        name: "BusMaxQueue",
        kind: Kind::Octets {
            min: 256 << 10,
            max: 1 << 30,
        },
        default: "16 MB",
        change: Changeable::Running,
        doc: "How much may wait for one controller that does not read. At more than this it is \
              disconnected, and nobody else notices.",
    },
    Spec {
        name: "BusMaxMemory",
        kind: Kind::Octets {
            min: 4 << 20,
            max: 1 << 40,
        },
        default: "256 MB",
        change: Changeable::Running,
        doc: "How much all controllers together may make the daemon keep: commands, replies, \
              events, messages and what Tor has answered. At more than this the user with the most \
              loses the connection that has the most, or the oldest messages.",
    },
    Spec {
        name: "BusMaxMemoryPerUser",
        kind: Kind::Octets {
            min: 0,
            max: 1 << 40,
        },
        default: "0",
        change: Changeable::Running,
        doc: "How much of it the controllers of one user may, or 0 for half of it. At more than \
              this the user loses the connection that has the most, or the oldest messages.",
    },
    Spec {
        name: "BusMaxControllers",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
        },
        default: "16384",
        change: Changeable::Running,
        doc: "How many controllers may be connected at once. One more is told so with 551 and \
              disconnected. The last 32, or a quarter where there are less than 128, are for root \
              and the daemon's own user.",
    },
    Spec {
        name: "BusMaxControllersPerUser",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
        },
        default: "12288",
        change: Changeable::Running,
        doc: "How many of them may belong to one user, so that no user can take every place.",
    },
    Spec {
        name: "BusBandwidthInterval",
        kind: Kind::Seconds {
            min: 1,
            max: 86_400,
        },
        default: "1",
        change: Changeable::Running,
        doc: "How often the BW event is sent.",
    },
    Spec {
        name: "BusLog",
        kind: Kind::Severity,
        default: "notice",
        change: Changeable::Running,
        doc: "The least severity that is logged.",
    },
];

/// The option of this name, in any letter case.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    TABLE
        .iter()
        .find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// The option that somebody who wrote `name` most likely meant, if any is near.
pub(super) fn nearest(name: &[u8]) -> Option<&'static str> {
    nearest_of(name, TABLE.iter().map(|spec| spec.name))
}

/// The one of `names` that somebody who wrote `name` most likely meant, if any is near.
pub fn nearest_of<'a>(name: &[u8], names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Names are short; what is much longer than any of them is near none.
    if name.len() > 64 {
        return None;
    }
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    names
        .into_iter()
        .map(|known| {
            let distance = strsim::osa_distance(&known.to_ascii_lowercase(), &name);
            (distance, known)
        })
        // A short name has much that is near by mere chance.
        .filter(|&(distance, _)| distance <= 3 && 2 * distance < name.len())
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_ours_unique_and_has_a_good_default() {
        for (index, spec) in TABLE.iter().enumerate() {
            assert!(spec.name.starts_with("Bus"), "{}", spec.name);
            assert!(
                spec.default.is_empty() || spec.kind.parse(spec.default.as_bytes()).is_ok(),
                "{}",
                spec.name
            );
            let others = TABLE[..index].iter();
            assert!(
                !others
                    .clone()
                    .any(|o| o.name.eq_ignore_ascii_case(spec.name))
            );
        }
    }

    #[test]
    fn names_are_found_in_any_letter_case() {
        assert_eq!(
            find(b"bushISTORY").map(|spec| spec.name),
            Some("BusHistory")
        );
        assert!(find(b"BusHistor").is_none());
        assert!(find(b"").is_none());
    }

    #[test]
    fn a_typo_finds_the_option_meant() {
        assert_eq!(nearest(b"BusHistry"), Some("BusHistory"));
        assert_eq!(nearest(b"bussockets"), Some("BusSocket"));
        assert_eq!(
            nearest(b"BusMaxControllerPerUser"),
            Some("BusMaxControllersPerUser")
        );
        assert_eq!(nearest(b"SocksPort"), None);
        assert_eq!(nearest(&b"BusHistory".repeat(9)), None);
    }

    #[test]
    fn a_short_name_has_few_neighbours() {
        let of = |name: &[u8]| nearest_of(name, ["BW", "CIRC", "STREAM"]);
        assert_eq!(of(b"CRIC"), Some("CIRC"));
        assert_eq!(of(b"strem"), Some("STREAM"));
        assert_eq!(of(b"BWX"), Some("BW"));
        for name in [&b"XY"[..], b"", b"B", b"CI"] {
            assert_eq!(of(name), None, "{name:?}");
        }
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(256 << 10), "256 KB");
        assert_eq!(size(1 << 30), "1 GB");
        assert_eq!(size(1_048_000), "1048000");
        assert_eq!(size(1), "1");
    }
}
