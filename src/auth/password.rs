//! A password that is kept as Tor keeps one: salted, hashed many times over, never in clear.

use std::fmt;

use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

/// The octet in Tor's form that says how much is hashed. Tor itself writes no other.
const INDICATOR: u8 = 96;

/// What Tor's form begins with.
const PREFIX: &[u8] = b"16:";

/// A hash in Tor's form, `16:` and 58 hexadecimal digits (control-spec 5.1, RFC 2440 3.6.1.3).
#[derive(Clone, PartialEq, Eq)]
pub struct HashedPassword {
    salt: [u8; 8],
    indicator: u8,
    digest: [u8; 20],
}

/// A hash is never logged: a weak password can be found from it.
impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashedPassword")
    }
}

/// The form that the option file and Tor have.
impl fmt::Display for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = [&self.salt[..], &[self.indicator], &self.digest].concat();
        write!(f, "16:{}", hex::encode_upper(octets))
    }
}

impl HashedPassword {
    /// Hashes a password with a salt that was drawn for it.
    #[must_use]
    pub fn new(password: &[u8], salt: [u8; 8]) -> Self {
        Self {
            salt,
            indicator: INDICATOR,
            digest: digest(salt, INDICATOR, password),
        }
    }

    /// Reads Tor's form. Fails with what would be right.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let octets = text
            .strip_prefix(PREFIX)
            .and_then(|digits| hex::decode(digits).ok())
            .and_then(|octets| <[u8; 29]>::try_from(octets).ok())
            .ok_or("it takes 16: and 58 hexadecimal digits, as 'onionbus hash-password' prints")?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, indicator, digest @ ..] = octets;
        // Every try would cost that much, and whoever connects may try.
        if indicator > INDICATOR {
            return Err(format!(
                "it hashes {} KB for each try, and 64 KB is the most: make it with \
                 'onionbus hash-password' or 'tor --hash-password'",
                count(indicator) >> 10
            ));
        }
        Ok(Self {
            salt: [s0, s1, s2, s3, s4, s5, s6, s7],
            indicator,
            digest,
        })
    }

    /// Whether this is the password, compared in constant time.
    #[must_use]
    pub fn is_of(&self, password: &[u8]) -> bool {
        bool::from(digest(self.salt, self.indicator, password).ct_eq(&self.digest))
    }
}

/// How many octets are hashed, by RFC 2440's coding of it.
const fn count(indicator: u8) -> usize {
    (16 + (indicator & 15) as usize) << ((indicator >> 4) + 6)
}

/// Hashes salt and password again and again, and cuts the last turn off.
fn digest(salt: [u8; 8], indicator: u8, password: &[u8]) -> [u8; 20] {
    let once = [&salt[..], password].concat();
    let mut hash = Sha1::new();
    let mut left = count(indicator);
    while left > 0 {
        let turn = once.get(..left).unwrap_or(&once);
        hash.update(turn);
        left -= turn.len();
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Printed by `tor --hash-password foo` of Tor 0.4.9.
    const OF_TOR: &str = "16:79D397D7B1F03F9360AFCCC3E7DC30F4FECCF37865F2B5D3081733A33D";

    #[test]
    fn the_hash_is_tors() {
        let hash = HashedPassword::parse(OF_TOR.as_bytes()).unwrap();
        assert!(hash.is_of(b"foo"));
        for wrong in [&b""[..], b"fo", b"foo ", b"Foo"] {
            assert!(!hash.is_of(wrong), "{wrong:?}");
        }
        let again = HashedPassword::new(b"foo", hash.salt);
        assert_eq!(again.to_string(), OF_TOR);
        assert_eq!(format!("{again:?}"), "HashedPassword");
    }

    #[test]
    fn what_is_wrong_is_told_with_what_would_be_right() {
        let costly = OF_TOR.replace("9360AF", "9361AF");
        for (text, part) in [
            ("", "58 hexadecimal digits"),
            ("foo", "onionbus hash-password"),
            (&OF_TOR[3..], "16:"),
            (&OF_TOR[..60], "58 hexadecimal digits"),
            (&costly, "hashes 68 KB for each try, and 64 KB is the most"),
        ] {
            let error = HashedPassword::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(HashedPassword::parse(OF_TOR.to_lowercase().as_bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn a_hash_is_of_its_password_alone(password: Vec<u8>, other: Vec<u8>, salt: [u8; 8]) {
            let hash = HashedPassword::new(&password, salt);
            let hash = HashedPassword::parse(hash.to_string().as_bytes()).unwrap();
            prop_assert!(hash.is_of(&password));
            prop_assert_eq!(hash.is_of(&other), password == other);
        }

        #[test]
        fn no_octets_make_it_panic(text: Vec<u8>, digits in "16:[0-9A-Fa-f]{56,60}") {
            let _ = HashedPassword::parse(&text);
            let _ = HashedPassword::parse(digits.as_bytes()).map(|hash| hash.is_of(b"x"));
        }
    }
}
