//! Requests: what a controller asks for, whichever dialect it asks in.

use super::event::EventMask;
use super::refusal::Refusal;
use crate::command::Verb;

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

    /// Whether only the bus takes it, and no Tor.
    #[must_use]
    pub const fn is_own(self) -> bool {
        matches!(self, Self::BusReload | Self::BusShutdown)
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

/// A request that only a Tor can carry out, as the v0 dialect asks for it (control-spec-v0 3.11 to
/// 3.21). Identifiers are the numbers that the events of that dialect have given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are what the message's layout names")]
pub enum TorRequest<B> {
    /// Each address with what replaces it.
    MapAddress(Vec<(B, B)>),
    /// Circuit 0 is a new one.
    ExtendCircuit {
        circuit: u32,
        path: B,
    },
    /// Circuit 0 leaves the choice to Tor.
    AttachStream {
        stream: u32,
        circuit: u32,
    },
    PostDescriptor(B),
    RedirectStream {
        stream: u32,
        address: B,
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

impl<B> TorRequest<B> {
    /// The command of the text protocol for the request.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            Self::MapAddress(_) => Verb::MapAddress,
            Self::ExtendCircuit { .. } => Verb::ExtendCircuit,
            Self::AttachStream { .. } => Verb::AttachStream,
            Self::PostDescriptor(_) => Verb::PostDescriptor,
            Self::RedirectStream { .. } => Verb::RedirectStream,
            Self::CloseStream { .. } => Verb::CloseStream,
            Self::CloseCircuit { .. } => Verb::CloseCircuit,
        }
    }

    fn map<C>(self, mut octets: impl FnMut(B) -> C) -> TorRequest<C> {
        match self {
            Self::MapAddress(mappings) => TorRequest::MapAddress(
                mappings
                    .into_iter()
                    .map(|(from, to)| (octets(from), octets(to)))
                    .collect(),
            ),
            Self::ExtendCircuit { circuit, path } => TorRequest::ExtendCircuit {
                circuit,
                path: octets(path),
            },
            Self::AttachStream { stream, circuit } => TorRequest::AttachStream { stream, circuit },
            Self::PostDescriptor(descriptor) => TorRequest::PostDescriptor(octets(descriptor)),
            Self::RedirectStream { stream, address } => TorRequest::RedirectStream {
                stream,
                address: octets(address),
            },
            Self::CloseStream { stream, reason } => TorRequest::CloseStream { stream, reason },
            Self::CloseCircuit { circuit, if_unused } => {
                TorRequest::CloseCircuit { circuit, if_unused }
            }
        }
    }
}

/// One command of a controller, its octets still where they came.
pub type Request<'a> = RequestOf<&'a [u8]>;

/// One command of a controller, with its octets as `B`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are what the command's grammar names")]
pub enum RequestOf<B> {
    ProtocolInfo,
    /// The client nonce; whether a challenge is possible at all is asked before its form.
    AuthChallenge(Result<Vec<u8>, Refusal>),
    /// The octets that prove the right to be here: a cookie or an answer to a challenge.
    Authenticate(Vec<u8>),
    Quit,
    ControllerName(B),
    PostMessage {
        destination: B,
        text: B,
    },
    SetEvents {
        events: EventMask,
        /// Names that only a newer Tor can know.
        others: Vec<B>,
    },
    GetInfo(Vec<B>),
    GetConf(Vec<B>),
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
    RecentMessages,
    NewMessages,
    ListControllers,
    /// A command of the text protocol that only a Tor can take apart and carry out.
    Relayed(Verb),
    Tor(TorRequest<B>),
}

impl<B> RequestOf<B> {
    /// The command that the request is.
    #[must_use]
    pub const fn verb(&self) -> Verb {
        match self {
            Self::ProtocolInfo => Verb::ProtocolInfo,
            Self::AuthChallenge(_) => Verb::AuthChallenge,
            Self::Authenticate(_) => Verb::Authenticate,
            Self::Quit => Verb::Quit,
            Self::ControllerName(_) => Verb::ControllerName,
            Self::PostMessage { .. } => Verb::PostMessage,
            Self::SetEvents { .. } => Verb::SetEvents,
            Self::GetInfo(_) => Verb::GetInfo,
            Self::GetConf(_) => Verb::GetConf,
            Self::SetConf(_) => Verb::SetConf,
            Self::ResetConf(_) => Verb::ResetConf,
            Self::LoadConf(_) => Verb::LoadConf,
            Self::SaveConf { .. } => Verb::SaveConf,
            Self::Signal(_) => Verb::Signal,
            Self::UseFeature => Verb::UseFeature,
            Self::TakeOwnership => Verb::TakeOwnership,
            Self::DropOwnership => Verb::DropOwnership,
            Self::RecentMessages => Verb::RecentMessages,
            Self::NewMessages => Verb::NewMessages,
            Self::ListControllers => Verb::ListControllers,
            Self::Relayed(verb) => *verb,
            Self::Tor(request) => request.verb(),
        }
    }

    /// The same request, with its octets held otherwise.
    pub fn map<C>(self, mut octets: impl FnMut(B) -> C) -> RequestOf<C> {
        let mut all = |words: Vec<B>| words.into_iter().map(&mut octets).collect();
        match self {
            Self::ProtocolInfo => RequestOf::ProtocolInfo,
            Self::AuthChallenge(nonce) => RequestOf::AuthChallenge(nonce),
            Self::Authenticate(proof) => RequestOf::Authenticate(proof),
            Self::Quit => RequestOf::Quit,
            Self::ControllerName(name) => RequestOf::ControllerName(octets(name)),
            Self::PostMessage { destination, text } => RequestOf::PostMessage {
                destination: octets(destination),
                text: octets(text),
            },
            Self::SetEvents { events, others } => RequestOf::SetEvents {
                events,
                others: all(others),
            },
            Self::GetInfo(keys) => RequestOf::GetInfo(all(keys)),
            Self::GetConf(names) => RequestOf::GetConf(all(names)),
            Self::SetConf(settings) => RequestOf::SetConf(settings),
            Self::ResetConf(settings) => RequestOf::ResetConf(settings),
            Self::LoadConf(text) => RequestOf::LoadConf(text),
            Self::SaveConf { force } => RequestOf::SaveConf { force },
            Self::Signal(signal) => RequestOf::Signal(signal),
            Self::UseFeature => RequestOf::UseFeature,
            Self::TakeOwnership => RequestOf::TakeOwnership,
            Self::DropOwnership => RequestOf::DropOwnership,
            Self::RecentMessages => RequestOf::RecentMessages,
            Self::NewMessages => RequestOf::NewMessages,
            Self::ListControllers => RequestOf::ListControllers,
            Self::Relayed(verb) => RequestOf::Relayed(verb),
            Self::Tor(request) => RequestOf::Tor(request.map(octets)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_a_signal_mean_the_same() {
        assert_eq!(Signal::parse(b"hup"), Signal::parse(b"RELOAD"));
        assert_eq!(Signal::parse(b"USR2").map(Signal::name), Some("DEBUG"));
        assert_eq!(Signal::parse(b"KILL"), None);
    }
}
