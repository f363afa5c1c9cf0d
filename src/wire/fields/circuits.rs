//! The fields of commands about circuits and streams (control-spec 3.10 to 3.17).

use super::{Fields, find, first_of, has_flag, keywords, number, words, write_pair};
use crate::command::Verb;
use crate::wire::refusal::Refusal;
use crate::wire::text::arguments::{self, pairs};
use crate::wire::text::parse::{CANNOT_PARSE, bad_arguments};

/// The fields of EXTENDCIRCUIT. The purpose is for Tor to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtendCircuit {
    /// The circuit, or 0 for a new one.
    pub circuit: u32,
    /// The relays, between commas; without them Tor chooses.
    pub path: Option<Vec<u8>>,
    /// The purpose of a new circuit.
    pub purpose: Option<Vec<u8>>,
}

/// The fields of ATTACHSTREAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachStream {
    /// The stream.
    pub stream: u64,
    /// The circuit, or 0 to leave the choice to Tor.
    pub circuit: u32,
    /// The hop of the circuit that the stream leaves from.
    pub hop: Option<u32>,
}

/// The fields of REDIRECTSTREAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectStream {
    /// The stream.
    pub stream: u64,
    /// The address it goes to.
    pub address: Vec<u8>,
    /// The port; as it was without one.
    pub port: Option<u16>,
}

pub(super) fn parse(verb: Verb, keyword: &[u8], line: &[u8]) -> Result<Fields, Refusal> {
    match verb {
        Verb::ExtendCircuit => extend(keyword, line),
        Verb::SetCircuitPurpose => {
            // Tor 0.4.9 ends when it gets this one without arguments.
            let (id, rest) = first_of(keyword, line)?;
            let pairs = pairs(rest, false).ok_or_else(|| bad_arguments(keyword, CANNOT_PARSE))?;
            Ok(Fields::SetCircuitPurpose {
                circuit: circuit(id)?,
                purpose: find(&pairs, b"purpose").map(<[u8]>::to_vec),
            })
        }
        Verb::AttachStream => attach(keyword, line),
        Verb::RedirectStream => {
            let [id, address, rest] = two(keyword, line)?;
            let stream = stream(id)?;
            let (port, _) = arguments::first_word(rest);
            let port = match (port, number(port)) {
                (b"", _) => None,
                (port, None | Some(0)) => return Err(words::bad_port(port)),
                (_, port) => port,
            };
            let address = address.to_vec();
            Ok(Fields::RedirectStream(RedirectStream {
                stream,
                address,
                port,
            }))
        }
        Verb::CloseStream => {
            let [id, reason, _] = two(keyword, line)?;
            let stream = stream(id)?;
            let reason = number(reason).ok_or_else(|| words::unknown_reason(reason))?;
            Ok(Fields::CloseStream { stream, reason })
        }
        _ => {
            let (id, rest) = first_of(keyword, line)?;
            let flags = pairs(rest, true).ok_or_else(|| bad_arguments(keyword, CANNOT_PARSE))?;
            Ok(Fields::CloseCircuit {
                circuit: circuit(id)?,
                if_unused: has_flag(&flags, b"IfUnused"),
            })
        }
    }
}

/// The path is the first word without a value, or one that begins with `$`, which may have a name
/// behind its `=`; as in Tor.
fn extend(keyword: &[u8], line: &[u8]) -> Result<Fields, Refusal> {
    let (id, rest) = first_of(keyword, line)?;
    let pairs = pairs(rest, true).ok_or_else(|| bad_arguments(keyword, CANNOT_PARSE))?;
    let (path, options) = match &pairs[..] {
        [(path, b""), options @ ..] => (Some(path.to_vec()), options),
        [(router @ [b'$', ..], name), options @ ..] => {
            (Some([router, &b"="[..], name].concat()), options)
        }
        options => (None, options),
    };
    let purpose = find(options, b"purpose").map(<[u8]>::to_vec);
    let circuit = match circuit(id) {
        Ok(circuit) => circuit,
        // A wrong purpose comes first; then Tor says which of both it is.
        Err(refusal) => match &purpose {
            Some(purpose) if !is_purpose(purpose) => {
                let text = format!("Unknown purpose \"{}\"", String::from_utf8_lossy(purpose));
                return Err(words::refusal(552, &text));
            }
            _ => return Err(refusal),
        },
    };
    Ok(Fields::ExtendCircuit(ExtendCircuit {
        circuit,
        path,
        purpose,
    }))
}

fn is_purpose(purpose: &[u8]) -> bool {
    let start = purpose.get(..8).unwrap_or_default();
    let purpose = if start.eq_ignore_ascii_case(b"purpose=") {
        &purpose[8..]
    } else {
        purpose
    };
    [&b"general"[..], b"controller"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(purpose))
}

fn attach(keyword: &[u8], line: &[u8]) -> Result<Fields, Refusal> {
    let [stream_id, circuit_id, rest] = two(keyword, line)?;
    let pairs = keywords(keyword, rest, &[b"HOP"])?;
    let stream = stream(stream_id)?;
    let circuit = circuit(circuit_id)?;
    let hop = match find(&pairs, b"HOP") {
        None => None,
        Some(hop) => Some(number(hop).ok_or_else(|| {
            let text = format!("Bad value hop={}", String::from_utf8_lossy(hop));
            words::refusal(552, &text)
        })?),
    };
    Ok(Fields::AttachStream(AttachStream {
        stream,
        circuit,
        hop,
    }))
}

/// The first two words of a line that needs as many, and the rest.
fn two<'a>(keyword: &[u8], line: &'a [u8]) -> Result<[&'a [u8]; 3], Refusal> {
    let (first, rest) = arguments::first_word(line);
    let (second, rest) = arguments::first_word(rest);
    if second.is_empty() {
        return Err(bad_arguments(keyword, "Need at least 2 argument(s)"));
    }
    Ok([first, second, rest])
}

fn circuit(id: &[u8]) -> Result<u32, Refusal> {
    number(id).ok_or_else(|| words::unknown_circuit(id))
}

fn stream(id: &[u8]) -> Result<u64, Refusal> {
    number(id).ok_or_else(|| words::unknown_stream(id))
}

impl ExtendCircuit {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(" {}", self.circuit).as_bytes());
        super::write_words(&self.path, out);
        if let Some(purpose) = &self.purpose {
            write_pair("purpose", purpose, out);
        }
    }
}

impl AttachStream {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(" {} {}", self.stream, self.circuit).as_bytes());
        if let Some(hop) = self.hop {
            out.extend_from_slice(format!(" HOP={hop}").as_bytes());
        }
    }
}

impl RedirectStream {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(" {} ", self.stream).as_bytes());
        out.extend_from_slice(&self.address);
        if let Some(port) = self.port {
            out.extend_from_slice(format!(" {port}").as_bytes());
        }
    }
}
