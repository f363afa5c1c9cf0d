//! Tor's words for what it refuses in commands that only it carries out.

use crate::wire::refusal::Refusal;
use crate::wire::text::write_c_string;

/// A refusal of one line, as Tor words it.
pub(super) fn refusal(status: u16, text: &str) -> Refusal {
    Refusal::InTorsWords(status, text.as_bytes().to_vec())
}

/// A refusal that quotes what it refuses, raw as Tor does.
fn quoting(status: u16, text: &str, quoted: &[u8]) -> Refusal {
    let line = [text.as_bytes(), b" \"", quoted, b"\""].concat();
    Refusal::InTorsWords(status, line)
}

/// A refusal that quotes what it refuses as a `CString`.
fn escaping(status: u16, text: &[u8], quoted: &[u8]) -> Refusal {
    let mut line = [text, b" "].concat();
    write_c_string(quoted, &mut line);
    Refusal::InTorsWords(status, line)
}

/// The refusal of a command of which no grant speaks; programs look for its first words.
#[must_use]
pub fn filtered(profiles: &[String]) -> Refusal {
    let profiles = match profiles {
        [] => String::new(),
        names => format!(" ({})", names.join(",")),
    };
    refusal(510, &format!("Command filtered{profiles}"))
}

/// A circuit that there is not, or that is not to be known of.
#[must_use]
pub fn unknown_circuit(id: &[u8]) -> Refusal {
    quoting(552, "Unknown circuit", id)
}

/// A stream that there is not, or that is not to be known of.
#[must_use]
pub fn unknown_stream(id: &[u8]) -> Refusal {
    quoting(552, "Unknown stream", id)
}

/// An onion service that there is not, or that is not to be known of.
#[must_use]
pub fn unknown_onion() -> Refusal {
    refusal(552, "Unknown Onion Service id")
}

/// The removal of a client key that there is not, or that is not to be known of.
#[must_use]
pub fn no_credentials(address: &[u8]) -> Refusal {
    quoting(251, "No credentials for", address)
}

/// The refusal of an argument of `ADD_ONION` by a policy; `bitcoind` tries again without what is
/// newer on this status.
#[must_use]
pub fn filtered_keyword(keyword: &str) -> Refusal {
    let text = format!("Bad arguments to ADD_ONION: filtered: {keyword}");
    refusal(512, &text)
}

/// The refusal of one more onion service by a policy.
#[must_use]
pub fn too_many_onions() -> Refusal {
    refusal(551, "Too many onion services")
}

/// The refusal of a value of an option by a policy.
#[must_use]
pub fn filtered_value(option: &[u8]) -> Refusal {
    let option = String::from_utf8_lossy(option);
    Refusal::InvalidValue(format!("Unacceptable option value: {option} is filtered"))
}

/// An option of SETCONF or RESETCONF that there is not, or that is not to be known of.
#[must_use]
pub fn unknown_option(option: &[u8]) -> Refusal {
    let option = String::from_utf8_lossy(option);
    Refusal::UnknownOption(format!(
        "Unrecognized option: Unknown option '{option}'.  Failing."
    ))
}

/// A reason of CLOSESTREAM that is no number up to 255.
pub(super) fn unknown_reason(reason: &[u8]) -> Refusal {
    quoting(552, "Unrecognized reason", reason)
}

/// A port of REDIRECTSTREAM that is none.
pub(super) fn bad_port(port: &[u8]) -> Refusal {
    quoting(512, "Cannot parse port", port)
}

/// An address of an onion service that is none, as `HSFETCH` words it.
pub(super) fn invalid_argument(address: &[u8]) -> Refusal {
    quoting(513, "Invalid argument", address)
}

/// An address of an onion service that is none, as client keys word it.
pub(super) fn invalid_address(address: &[u8]) -> Refusal {
    quoting(512, "Invalid v3 address", address)
}

/// A kind of key that is none.
pub(super) fn unknown_key_type(kind: &[u8]) -> Refusal {
    quoting(552, "Unrecognized key type", kind)
}

/// A flag that is none.
pub(super) fn unknown_flag(flag: &[u8]) -> Refusal {
    escaping(512, b"Invalid 'Flags' argument:", flag)
}

/// A keyword that the command, as its controller spelled it, does not have.
pub(super) fn unknown_keyword(command: &[u8], keyword: &[u8]) -> Refusal {
    let text = [
        b"Bad arguments to ",
        command,
        b": Unrecognized keyword argument",
    ]
    .concat();
    escaping(512, &text, keyword)
}
