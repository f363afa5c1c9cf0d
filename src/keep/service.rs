//! One onion service that is kept, and the forms of it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::wire::fields::{AddOnion, Flag, Key, Onion};

/// The octets of a secret key of ED25519-V3: the scalar, from which the address follows, and what
/// signatures are salted with.
const KEY: usize = 64;

/// Decodes as Tor does, which minds neither missing padding nor bits that are left over.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The part of a secret key that a service's address follows from.
pub(super) type Scalar = Zeroizing<[u8; KEY / 2]>;

/// The scalar of a service's key, whatever the key's spelling; none of one that Tor is to make or
/// does not take.
pub(super) fn scalar(key: &Key) -> Option<Scalar> {
    let Key::Ed25519(text) = key else { return None };
    let mut decoded = Zeroizing::new([0; KEY + 2]);
    let length = DECODER.decode_slice(&**text, &mut decoded[..]).ok()?;
    let mut scalar = Scalar::default();
    scalar.copy_from_slice(decoded.get(..KEY / 2)?);
    (length == KEY).then_some(scalar)
}

/// Whether two commands make the same service of the same key: who owns it, and who is told the
/// key, is not Tor's.
pub(super) fn is_same(one: &AddOnion, other: &AddOnion) -> bool {
    let form = |fields: &AddOnion| {
        let mut ports: Vec<_> = fields
            .ports
            .iter()
            .map(|port| (port.virtual_port, format!("{:?}", port.target)))
            .collect();
        ports.sort_unstable();
        let mut clients = fields.clients.clone();
        clients.sort_unstable();
        let pow = (fields.pow, fields.pow_rate, fields.pow_burst);
        (ports, clients, pow, fields.max_streams, plain(fields).flags)
    };
    form(one) == form(other)
}

/// The command as it goes to Tor: the service is the keeper's, who must know the key.
pub(super) fn plain(fields: &AddOnion) -> AddOnion {
    let mut fields = fields.clone();
    fields.flags.remove(&Flag::Detach);
    fields.flags.remove(&Flag::DiscardPK);
    fields
}

/// The answer that Tor has for a key which it is given.
pub(super) fn answer(onion: &Onion, fields: &AddOnion) -> Vec<u8> {
    let mut answer = [b"250-ServiceID=", onion.as_bytes(), b"\r\n"].concat();
    for client in &fields.clients {
        answer.extend_from_slice(b"250-ClientAuthV3=");
        answer.extend_from_slice(client);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"250 OK\r\n");
    answer
}

/// What Tor has made: the address, and the key if Tor has told one.
pub(super) fn made(answer: &[u8]) -> Option<(Onion, Option<Key>)> {
    let value = |name: &[u8]| {
        let mut lines = answer.split(|&octet| octet == b'\n');
        lines.find_map(|line| line.strip_prefix(name))
    };
    let onion = Onion::parse(value(b"250-ServiceID=")?.trim_ascii())?;
    let key = value(b"250-PrivateKey=ED25519-V3:");
    let key = key.map(|key| Key::Ed25519(key.trim_ascii().to_vec().into()));
    Some((onion.lower(), key))
}

/// An answer without the line that tells the key.
pub(super) fn without_key(answer: &[u8]) -> Vec<u8> {
    let lines = answer.split_inclusive(|&octet| octet == b'\n');
    let lines = lines.filter(|line| !line.starts_with(b"250-PrivateKey="));
    lines.collect::<Vec<_>>().concat()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::wire::fields::{self, Fields};
    use crate::wire::text::{self, Framed, Framer};

    pub fn add(line: &str) -> AddOnion {
        let octets = format!("ADD_ONION {line}\r\n");
        let Framed::Command(command) = Framer::new().next(octets.as_bytes()) else {
            panic!("{line}")
        };
        match fields::parse(text::verb(command.keyword).unwrap(), &command) {
            Ok(Fields::AddOnion(fields)) => fields,
            other => panic!("{other:?}"),
        }
    }

    const KEY: &str =
        "WMBeS6DjDVdbdE0uANMhf5ihr8Ei+yqLgmXgZQCEDVBufRAp40TXotYGCPYLRs2WXFzRbz7ouDV1cuF3cELh3";

    #[test]
    fn one_key_has_many_spellings() {
        let scalars: Vec<_> = ["w==", "w", "x==", "x"]
            .map(|end| scalar(&Key::Ed25519(format!("{KEY}{end}").into_bytes().into())))
            .to_vec();
        assert!(scalars[0].is_some());
        assert!(scalars.iter().all(|other| *other == scalars[0]));
        for wrong in ["", "w==w", "!", "wAAA"] {
            let key = Key::Ed25519(format!("{KEY}{wrong}").into_bytes().into());
            assert_eq!(scalar(&key), None, "{wrong}");
        }
        assert_eq!(scalar(&Key::NewBest), None);
    }

    #[test]
    fn a_form_is_what_tor_makes_of_it() {
        let first = add("NEW:BEST Port=80 Port=81,127.0.0.1:8081 Flags=Detach");
        let second = add("NEW:BEST Flags=DiscardPK Port=81,8081 Port=80,localhost:80");
        assert!(is_same(&first, &second));
        for other in [
            "NEW:BEST Port=80",
            "NEW:BEST Port=80 Port=81,8081 MaxStreams=1",
            "NEW:BEST Port=80 Port=81,8081 PoWDefensesEnabled=1",
            "NEW:BEST Port=80 Port=81,8081 Flags=MaxStreamsCloseCircuit",
        ] {
            assert!(!is_same(&first, &add(other)), "{other}");
        }
    }

    #[test]
    fn the_answer_is_read_and_the_key_left_out() {
        let id = "jwjntyrfiu75d46dcxq4wzhhm3astlz35sigyd4iibgufvhb2uopo3id";
        let answer =
            format!("250-ServiceID={id}\r\n250-PrivateKey=ED25519-V3:{KEY}w==\r\n250 OK\r\n");
        let (onion, key) = made(answer.as_bytes()).unwrap();
        assert_eq!(onion.as_bytes(), id.as_bytes());
        assert_eq!(
            key,
            Some(Key::Ed25519(format!("{KEY}w==").into_bytes().into()))
        );
        let shown = format!("250-ServiceID={id}\r\n250 OK\r\n");
        assert_eq!(without_key(answer.as_bytes()), shown.as_bytes());
        assert_eq!(
            super::answer(&onion, &add("NEW:BEST Port=80")),
            shown.as_bytes()
        );
        assert_eq!(made(b"512 Bad\r\n"), None);
    }
}
