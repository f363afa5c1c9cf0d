//! The cookie that `BusCookieAuthentication` requires besides the socket's permissions.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

/// 32 octets that nobody could guess, fresh at every start.
pub struct Cookie([u8; 32]);

impl From<[u8; 32]> for Cookie {
    fn from(octets: [u8; 32]) -> Self {
        Self(octets)
    }
}

/// A cookie is never printed.
impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie")
    }
}

impl Cookie {
    /// `SERVERHASH`: proves to the controller that the daemon knows the cookie
    /// (control-spec 3.24).
    #[must_use]
    pub fn server_hash(&self, client_nonce: &[u8], server_nonce: &[u8]) -> [u8; 32] {
        let key = b"Tor safe cookie authentication server-to-controller hash";
        self.hash(key, client_nonce, server_nonce)
    }

    /// What the controller answers a challenge with (control-spec 3.24).
    #[must_use]
    pub fn client_hash(&self, client_nonce: &[u8], server_nonce: &[u8]) -> [u8; 32] {
        let key = b"Tor safe cookie authentication controller-to-server hash";
        self.hash(key, client_nonce, server_nonce)
    }

    fn hash(&self, key: &[u8], client_nonce: &[u8], server_nonce: &[u8]) -> [u8; 32] {
        let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
        hmac.update(&self.0);
        hmac.update(client_nonce);
        hmac.update(server_nonce);
        hmac.finalize().into_bytes().into()
    }

    /// Compares what a controller sent with the cookie, in constant time; why not, as Tor says.
    pub fn matches(&self, proof: &[u8]) -> Result<(), &'static str> {
        Self::compare(
            &self.0,
            proof,
            "Wrong length on authentication cookie.",
            "Authentication cookie did not match expected value.",
        )
    }

    /// Compares in constant time.
    pub fn compare(
        expected: &[u8; 32],
        proof: &[u8],
        wrong_length: &'static str,
        wrong: &'static str,
    ) -> Result<(), &'static str> {
        if proof.len() != expected.len() {
            return Err(wrong_length);
        }
        if Self::proves(expected, proof) {
            Ok(())
        } else {
            Err(wrong)
        }
    }

    /// Whether `proof` is what was expected, in constant time.
    #[must_use]
    pub fn proves(expected: &[u8; 32], proof: &[u8]) -> bool {
        bool::from(expected.ct_eq(proof))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with another implementation, which a Tor 0.4.9.11 agreed with.
    #[test]
    fn the_hashes_are_tors() {
        let cookie = Cookie::from([0x11; 32]);
        assert_eq!(
            hex::encode(cookie.server_hash(b"a", &[0x22; 32])),
            "dd9f5a5a20226ec1bda511db7e8af6dae8888925ceb845816cc608210b193257"
        );
        assert_eq!(
            hex::encode(cookie.client_hash(b"a", &[0x22; 32])),
            "00b71f111386c39c038fff7fa713a7a2eed60a27a2d07e91937b5668351112be"
        );
    }
}
