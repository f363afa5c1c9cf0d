//! The commands: one table of all that is known about each, apart from its grammar and its effect.
//!
//! A new command is a row here, a parser in [`wire`](crate::wire) and a handler in the server; the
//! compiler asks for the two others. Whatever stands in no row is nobody's but Tor's.

pub mod keys;

/// Whether an option of this name is the bus's own, known or not, and no Tor's.
#[must_use]
pub fn is_own_option(name: &[u8]) -> bool {
    name.get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"Bus"))
}

/// The party that carries out a command where a Tor stands behind the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The bus, always.
    Bus,
    /// Tor; without one, nobody.
    Tor,
    /// Tor; without one, the bus.
    Either,
    /// Tor or the bus or both, by the keys and options that the command names.
    Both,
}

/// The number of replies to a command (control-spec 2.3 promises one each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// One.
    One,
    /// None, one or two, by its arguments; or one that only the controller can take apart, since
    /// Tor quotes a refused value with the line ends in it.
    Any,
}

/// The type of the frames that ask for a command in the binary dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// Neither dialect has the command.
    None,
    /// Both have it under this type.
    Both(u16),
    /// Only the last version has it (control-spec-v0 3).
    V0(u16),
}

impl FrameType {
    /// The type in octets of a header; `None` for a command that frames cannot ask for.
    #[must_use]
    pub const fn number(self) -> Option<u16> {
        match self {
            Self::None => None,
            Self::Both(kind) | Self::V0(kind) => Some(kind),
        }
    }
}

macro_rules! commands {
    ($($(#[$doc:meta])* $variant:ident: $keyword:literal, $owner:ident, $replies:ident,
        $frame:ident $(($kind:literal))?;)+) => {
        /// A command, by its keyword or by its frame's type.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb { $($(#[$doc])* $variant),+ }

        impl Verb {
            /// Every command, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The command's keyword in the text protocol, where `+` begins one with a body; empty
            /// for what only frames ask for.
            #[must_use]
            pub const fn keyword(self) -> &'static str {
                match self { $(Self::$variant => $keyword),+ }
            }

            /// The party that carries the command out.
            #[must_use]
            pub const fn owner(self) -> Owner {
                match self { $(Self::$variant => Owner::$owner),+ }
            }

            /// The number of replies that Tor gives.
            #[must_use]
            pub const fn replies(self) -> Replies {
                match self { $(Self::$variant => Replies::$replies),+ }
            }

            /// The type of the command's frames.
            #[must_use]
            pub const fn frame_type(self) -> FrameType {
                match self { $(Self::$variant => FrameType::$frame $(($kind))?),+ }
            }

            /// The command of this keyword, in any letter case.
            #[must_use]
            pub fn parse(keyword: &[u8]) -> Option<Self> {
                $(if !$keyword.is_empty() && keyword.eq_ignore_ascii_case($keyword.as_bytes()) {
                    return Some(Self::$variant);
                })+
                None
            }
        }
    };
}

commands! {
    /// Proposal 197.
    PostMessage: "POSTMESSAGE", Bus, One, Both(0xF001);
    /// Control-spec 3.9.
    GetInfo: "GETINFO", Both, One, V0(0x000B);
    /// Proposal 197.
    ControllerName: "CONTROLLERNAME", Bus, One, Both(0xF000);
    /// `GETINFO recent-messages` (proposal 197), as frames ask for it.
    RecentMessages: "", Bus, One, Both(0xF002);
    /// `GETINFO new-messages` (proposal 197), as frames ask for it.
    NewMessages: "", Bus, One, Both(0xF003);
    /// `GETINFO list-controllers` (proposal 197), as frames ask for it.
    ListControllers: "", Bus, One, Both(0xF004);
    /// Control-spec 3.4.
    SetEvents: "SETEVENTS", Bus, One, Both(0x0005);
    /// Control-spec 3.3.
    GetConf: "GETCONF", Both, One, Both(0x0003);
    /// Control-spec 3.1.
    SetConf: "SETCONF", Both, Any, Both(0x0002);
    /// Control-spec 3.2.
    ResetConf: "RESETCONF", Both, Any, None;
    /// Control-spec 3.28.
    LoadConf: "+LOADCONF", Both, Any, None;
    /// Control-spec 3.6.
    SaveConf: "SAVECONF", Both, One, V0(0x0008);
    /// Control-spec 3.7.
    Signal: "SIGNAL", Both, One, V0(0x0009);
    /// Control-spec 3.5.
    Authenticate: "AUTHENTICATE", Bus, One, Both(0x0007);
    /// Control-spec 3.24.
    AuthChallenge: "AUTHCHALLENGE", Bus, One, None;
    /// Control-spec 3.21.
    ProtocolInfo: "PROTOCOLINFO", Bus, One, None;
    /// Control-spec 3.20.
    UseFeature: "USEFEATURE", Either, One, None;
    /// Control-spec 3.23.
    TakeOwnership: "TAKEOWNERSHIP", Either, One, None;
    /// Control-spec 3.33.
    DropOwnership: "DROPOWNERSHIP", Either, One, None;
    /// Control-spec 3.19.
    Quit: "QUIT", Bus, One, None;
    /// Control-spec 3.8.
    MapAddress: "MAPADDRESS", Tor, One, V0(0x000A);
    /// Control-spec 3.10.
    ExtendCircuit: "EXTENDCIRCUIT", Tor, One, V0(0x000D);
    /// Control-spec 3.11.
    SetCircuitPurpose: "SETCIRCUITPURPOSE", Tor, One, None;
    /// Control-spec 3.12.
    SetRouterPurpose: "SETROUTERPURPOSE", Tor, One, None;
    /// Control-spec 3.13.
    AttachStream: "ATTACHSTREAM", Tor, One, V0(0x000E);
    /// Control-spec 3.14.
    PostDescriptor: "+POSTDESCRIPTOR", Tor, One, V0(0x000F);
    /// Control-spec 3.15.
    RedirectStream: "REDIRECTSTREAM", Tor, One, V0(0x0012);
    /// Control-spec 3.16.
    CloseStream: "CLOSESTREAM", Tor, One, V0(0x0013);
    /// Control-spec 3.17.
    CloseCircuit: "CLOSECIRCUIT", Tor, One, V0(0x0014);
    /// Control-spec 3.22.
    Resolve: "RESOLVE", Tor, One, None;
    /// Control-spec 3.26.
    HsFetch: "HSFETCH", Tor, One, None;
    /// Control-spec 3.29. Tor 0.4.9 does not reply where `HSADDRESS=` is missing.
    HsPost: "+HSPOST", Tor, Any, None;
    /// Control-spec 3.27. Tor 0.4.9 does not reply to the old `ClientAuth=`.
    AddOnion: "ADD_ONION", Tor, Any, None;
    /// Control-spec 3.27.
    DelOnion: "DEL_ONION", Tor, One, None;
    /// Control-spec 3.30. Tor 0.4.9 replies twice where the `ClientName` is too long.
    OnionClientAuthAdd: "ONION_CLIENT_AUTH_ADD", Tor, Any, None;
    /// Control-spec 3.31.
    OnionClientAuthRemove: "ONION_CLIENT_AUTH_REMOVE", Tor, One, None;
    /// Control-spec 3.32.
    OnionClientAuthView: "ONION_CLIENT_AUTH_VIEW", Tor, One, None;
    /// Control-spec 3.25.
    DropGuards: "DROPGUARDS", Tor, One, None;
    /// Control-spec 3.34.
    DropTimeouts: "DROPTIMEOUTS", Tor, One, None;
}

impl Verb {
    /// Whether the command does nothing but ask, so that without its reply it is of no use.
    #[must_use]
    pub const fn only_asks(self) -> bool {
        matches!(
            self,
            Self::GetInfo | Self::GetConf | Self::ProtocolInfo | Self::OnionClientAuthView
        )
    }

    /// Whether the command changes something that others can notice.
    #[must_use]
    pub const fn changes(self) -> bool {
        match self {
            Self::SetConf
            | Self::ResetConf
            | Self::LoadConf
            | Self::SaveConf
            | Self::Signal
            | Self::TakeOwnership
            | Self::DropOwnership
            | Self::MapAddress
            | Self::ExtendCircuit
            | Self::SetCircuitPurpose
            | Self::AttachStream
            | Self::PostDescriptor
            | Self::RedirectStream
            | Self::CloseStream
            | Self::CloseCircuit
            | Self::Resolve
            | Self::HsFetch
            | Self::HsPost
            | Self::AddOnion
            | Self::DelOnion
            | Self::OnionClientAuthAdd
            | Self::OnionClientAuthRemove
            | Self::DropGuards
            | Self::DropTimeouts => true,
            Self::PostMessage
            | Self::GetInfo
            | Self::ControllerName
            | Self::RecentMessages
            | Self::NewMessages
            | Self::ListControllers
            | Self::SetEvents
            | Self::GetConf
            | Self::Authenticate
            | Self::AuthChallenge
            | Self::ProtocolInfo
            | Self::UseFeature
            | Self::Quit
            | Self::SetRouterPurpose
            | Self::OnionClientAuthView => false,
        }
    }

    /// The command that frames of this type ask for; `is_v0` for the last version.
    #[must_use]
    pub fn of_frame(kind: u16, is_v0: bool) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|verb| match verb.frame_type() {
                FrameType::None => false,
                FrameType::Both(known) => known == kind,
                FrameType::V0(known) => is_v0 && known == kind,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_are_found_in_any_letter_case_and_the_plus_belongs_to_them() {
        assert_eq!(Verb::parse(b"getinfo"), Some(Verb::GetInfo));
        assert_eq!(Verb::parse(b"+LoadConf"), Some(Verb::LoadConf));
        for unknown in [&b"LOADCONF"[..], b"+GETINFO", b""] {
            assert_eq!(Verb::parse(unknown), None);
        }
    }

    #[test]
    fn no_two_commands_share_a_keyword_or_a_type() {
        for &verb in Verb::ALL {
            if !verb.keyword().is_empty() {
                assert_eq!(Verb::parse(verb.keyword().as_bytes()), Some(verb));
            }
            match verb.frame_type() {
                FrameType::None => {}
                FrameType::Both(kind) => {
                    assert_eq!(Verb::of_frame(kind, false), Some(verb));
                    assert_eq!(Verb::of_frame(kind, true), Some(verb));
                }
                FrameType::V0(kind) => {
                    assert_eq!(Verb::of_frame(kind, false), None);
                    assert_eq!(Verb::of_frame(kind, true), Some(verb));
                }
            }
        }
    }
}
