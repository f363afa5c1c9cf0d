//! Requests: what a controller asks for, whichever dialect it asks in.

use super::event::EventMask;
use super::refusal::Refusal;

macro_rules! verbs {
    ($($(#[$doc:meta])* $variant:ident $keyword:literal),+ $(,)?) => {
        /// A command that the daemon carries out itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb { $($(#[$doc])* $variant),+ }

        impl Verb {
            /// The command's keyword in the text protocol; `+` begins those with a body.
            #[must_use]
            pub const fn keyword(self) -> &'static str {
                match self { $(Self::$variant => $keyword),+ }
            }

            /// The command of this keyword, in any letter case.
            #[must_use]
            pub fn parse(keyword: &[u8]) -> Option<Self> {
                $(if keyword.eq_ignore_ascii_case($keyword.as_bytes()) {
                    return Some(Self::$variant);
                })+
                None
            }
        }
    };
}

verbs! {
    /// Proposal 197.
    PostMessage "POSTMESSAGE",
    /// Proposal 197.
    ControllerName "CONTROLLERNAME",
    /// Control-spec 3.9.
    GetInfo "GETINFO",
    /// Control-spec 3.4.
    SetEvents "SETEVENTS",
    /// Control-spec 3.3.
    GetConf "GETCONF",
    /// Control-spec 3.1.
    SetConf "SETCONF",
    /// Control-spec 3.2.
    ResetConf "RESETCONF",
    /// Control-spec 3.28.
    LoadConf "+LOADCONF",
    /// Control-spec 3.6.
    SaveConf "SAVECONF",
    /// Control-spec 3.7.
    Signal "SIGNAL",
    /// Control-spec 3.5.
    Authenticate "AUTHENTICATE",
    /// Control-spec 3.24.
    AuthChallenge "AUTHCHALLENGE",
    /// Control-spec 3.21.
    ProtocolInfo "PROTOCOLINFO",
    /// Control-spec 3.20.
    UseFeature "USEFEATURE",
    /// Control-spec 3.23.
    TakeOwnership "TAKEOWNERSHIP",
    /// Control-spec 3.33.
    DropOwnership "DROPOWNERSHIP",
    /// Control-spec 3.19.
    Quit "QUIT",
}

/// The commands of Tor that only a Tor can carry out (control-spec 3).
pub const TOR_COMMANDS: &[&str] = &[
    "MAPADDRESS",
    "EXTENDCIRCUIT",
    "SETCIRCUITPURPOSE",
    "SETROUTERPURPOSE",
    "ATTACHSTREAM",
    "+POSTDESCRIPTOR",
    "REDIRECTSTREAM",
    "CLOSESTREAM",
    "CLOSECIRCUIT",
    "RESOLVE",
    "HSFETCH",
    "+HSPOST",
    "ADD_ONION",
    "DEL_ONION",
    "ONION_CLIENT_AUTH_ADD",
    "ONION_CLIENT_AUTH_REMOVE",
    "ONION_CLIENT_AUTH_VIEW",
    "DROPGUARDS",
    "DROPTIMEOUTS",
];

/// A signal, by what the daemon does on it (control-spec 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Read the option file again.
    Reload,
    /// End, after what is queued has been delivered.
    Shutdown,
    /// Log what is connected and queued.
    Dump,
    /// Log everything from now on.
    Debug,
    /// End, after what is queued has been delivered.
    Halt,
    /// Log that the daemon lives.
    Heartbeat,
    /// As [`Signal::Reload`], where that one is the Tor's behind the bus.
    BusReload,
    /// As [`Signal::Shutdown`], where that one is the Tor's behind the bus.
    BusShutdown,
    /// One that means something to a Tor only.
    Tor(&'static str),
}

/// Every signal name and what it means, in the order of `GETINFO signal/names`.
pub const SIGNALS: &[(&str, Signal)] = &[
    ("RELOAD", Signal::Reload),
    ("HUP", Signal::Reload),
    ("SHUTDOWN", Signal::Shutdown),
    ("DUMP", Signal::Dump),
    ("USR1", Signal::Dump),
    ("DEBUG", Signal::Debug),
    ("USR2", Signal::Debug),
    ("HALT", Signal::Halt),
    ("TERM", Signal::Halt),
    ("INT", Signal::Shutdown),
    ("NEWNYM", Signal::Tor("NEWNYM")),
    ("CLEARDNSCACHE", Signal::Tor("CLEARDNSCACHE")),
    ("HEARTBEAT", Signal::Heartbeat),
    ("ACTIVE", Signal::Tor("ACTIVE")),
    ("DORMANT", Signal::Tor("DORMANT")),
    ("BUSRELOAD", Signal::BusReload),
    ("BUSSHUTDOWN", Signal::BusShutdown),
];

impl Signal {
    /// The signal of this name, in any letter case.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        SIGNALS
            .iter()
            .find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
            .map(|(_, signal)| *signal)
    }

    /// The name that the SIGNAL event carries (control-spec 4.1.16).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reload => "RELOAD",
            Self::Shutdown => "SHUTDOWN",
            Self::Dump => "DUMP",
            Self::Debug => "DEBUG",
            Self::Halt => "HALT",
            Self::Heartbeat => "HEARTBEAT",
            Self::BusReload => "BUSRELOAD",
            Self::BusShutdown => "BUSSHUTDOWN",
            Self::Tor(name) => name,
        }
    }
}

/// The features that USEFEATURE takes; both have always been on since Tor 0.2.
pub const FEATURES: &[&str] = &["VERBOSE_NAMES", "EXTENDED_EVENTS"];

/// One `name=value` of SETCONF or RESETCONF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The option, in any letter case.
    pub name: Vec<u8>,
    /// The value, unquoted; none, or an empty one, sets it back to its default.
    pub value: Option<Vec<u8>>,
}

/// What only a Tor can carry out, as the v0 dialect asks for it (control-spec-v0 3.11 to 3.21).
/// Identifiers are the numbers that the events of that dialect have given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are what the message's layout names")]
pub enum TorRequest<'a> {
    /// Each address with what replaces it.
    MapAddress(Vec<(&'a [u8], &'a [u8])>),
    /// Circuit 0 is a new one.
    ExtendCircuit {
        circuit: u32,
        path: &'a [u8],
    },
    /// Circuit 0 leaves the choice to Tor.
    AttachStream {
        stream: u32,
        circuit: u32,
    },
    PostDescriptor(&'a [u8]),
    RedirectStream {
        stream: u32,
        address: &'a [u8],
    },
    CloseStream {
        stream: u32,
        reason: u8,
    },
    CloseCircuit {
        circuit: u32,
        if_unused: bool,
    },
}

impl TorRequest<'_> {
    /// The keyword of the text protocol's command for it.
    #[must_use]
    pub const fn keyword(&self) -> &'static str {
        match self {
            Self::MapAddress(_) => "MAPADDRESS",
            Self::ExtendCircuit { .. } => "EXTENDCIRCUIT",
            Self::AttachStream { .. } => "ATTACHSTREAM",
            Self::PostDescriptor(_) => "+POSTDESCRIPTOR",
            Self::RedirectStream { .. } => "REDIRECTSTREAM",
            Self::CloseStream { .. } => "CLOSESTREAM",
            Self::CloseCircuit { .. } => "CLOSECIRCUIT",
        }
    }
}

/// One command of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are what the command's grammar names")]
pub enum Request<'a> {
    ProtocolInfo,
    /// The client nonce; whether a challenge is possible at all is asked before its form.
    AuthChallenge(Result<Vec<u8>, Refusal>),
    /// The octets that prove the right to be here: a cookie or an answer to a challenge.
    Authenticate(Vec<u8>),
    Quit,
    ControllerName(&'a [u8]),
    PostMessage {
        destination: &'a [u8],
        text: &'a [u8],
    },
    SetEvents(EventMask),
    GetInfo(Vec<&'a [u8]>),
    GetConf(Vec<&'a [u8]>),
    SetConf(Vec<Setting>),
    ResetConf(Vec<Setting>),
    LoadConf(Vec<u8>),
    SaveConf {
        force: bool,
    },
    Signal(Signal),
    UseFeature,
    TakeOwnership,
    DropOwnership,
    /// `GETINFO recent-messages`, as the binary dialects ask for it.
    RecentMessages,
    /// `GETINFO new-messages`, as the binary dialects ask for it.
    NewMessages,
    /// `GETINFO list-controllers`, as the binary dialects ask for it.
    ListControllers,
    Tor(TorRequest<'a>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_found_in_any_letter_case_and_the_plus_belongs_to_them() {
        assert_eq!(Verb::parse(b"getinfo"), Some(Verb::GetInfo));
        assert_eq!(Verb::parse(b"+LoadConf"), Some(Verb::LoadConf));
        assert_eq!(Verb::parse(b"LOADCONF"), None);
        assert_eq!(Verb::parse(b"+GETINFO"), None);
        assert_eq!(Verb::parse(b""), None);
    }

    #[test]
    fn aliases_of_a_signal_mean_the_same() {
        assert_eq!(Signal::parse(b"hup"), Signal::parse(b"RELOAD"));
        assert_eq!(Signal::parse(b"USR2").map(Signal::name), Some("DEBUG"));
        assert_eq!(Signal::parse(b"KILL"), None);
    }
}
