//! The login to Tor, by a way that its PROTOCOLINFO offers (control-spec 3.21 and 3.24).

use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use thiserror::Error;

use crate::session::Cookie;
use crate::wire::text::{Reader, read_c_string};

/// The most octets of a reply before the login; Tor's have a few hundred.
const MAX_REPLY: usize = 64 * 1024;

/// Why Tor does not let the daemon in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LoginError {
    /// Tor said no.
    #[error("Tor refused the login: {0}")]
    Refused(String),
    /// Tor asks for a password and none is configured.
    #[error("Tor asks for a password: set BusTorPassword, or give Tor CookieAuthentication 1")]
    NoPassword,
    /// Tor offers nothing that the daemon knows.
    #[error("Tor offers no login that is known here: {0}")]
    NoMethod(String),
    /// The cookie cannot be read.
    #[error("Tor's cookie {path} cannot be used: {cause}")]
    NoCookie {
        /// The place where the cookie should be.
        path: PathBuf,
        /// The reason.
        cause: String,
    },
    /// The peer did not prove that it knows the cookie.
    #[error("whoever answers at Tor's control port does not know Tor's cookie")]
    Impostor,
    /// The peer is no Tor.
    #[error("what answers at Tor's control port is no Tor: {0}")]
    NotTor(String),
}

/// The next step of a login.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait for more.
    Wait,
    /// Send this.
    Send(Vec<u8>),
    /// Read this file and give it to [`Login::cookie`].
    ReadCookie(PathBuf),
    /// The login is done.
    Done,
}

/// A login under way.
pub struct Login {
    stage: Stage,
    reader: Reader,
    client_nonce: [u8; 32],
    password: Option<Vec<u8>>,
    safe: bool,
    /// The version of the Tor that answered.
    pub version: String,
}

enum Stage {
    ProtocolInfo,
    Cookie,
    Challenge(Cookie),
    Authenticate,
}

impl Login {
    /// A login that begins with [`Login::FIRST`]. `client_nonce` must be random.
    #[must_use]
    pub fn new(password: Option<Vec<u8>>, client_nonce: [u8; 32]) -> Self {
        Self {
            stage: Stage::ProtocolInfo,
            reader: Reader::new(MAX_REPLY),
            client_nonce,
            password,
            safe: false,
            version: String::new(),
        }
    }

    /// The first command to send.
    pub const FIRST: &[u8] = b"PROTOCOLINFO 1\r\n";

    /// Takes the octets that Tor has sent.
    pub fn take(&mut self, octets: &[u8]) -> Result<Next, LoginError> {
        self.reader.handle_octets(octets);
        let reply = match self.reader.poll_message() {
            Ok(None) => return Ok(Next::Wait),
            Ok(Some(reply)) => reply.octets().to_vec(),
            Err(_) => return Err(LoginError::NotTor("it answers without end".into())),
        };
        if !reply.starts_with(b"250") {
            let text = String::from_utf8_lossy(&reply);
            let text = text.trim_end().escape_debug().to_string();
            return Err(match self.stage {
                Stage::ProtocolInfo => LoginError::NotTor(text),
                _ => LoginError::Refused(text),
            });
        }
        // Nothing more was asked.
        if !self.reader.rest().is_empty() {
            let why = "it answers more than it was asked";
            return Err(LoginError::NotTor(why.into()));
        }
        match std::mem::replace(&mut self.stage, Stage::Authenticate) {
            Stage::ProtocolInfo => self.choose(&reply),
            Stage::Cookie => Ok(Next::Wait),
            Stage::Challenge(cookie) => self.answer(&cookie, &reply),
            Stage::Authenticate => Ok(Next::Done),
        }
    }

    /// Chooses the best login that PROTOCOLINFO offers.
    fn choose(&mut self, reply: &[u8]) -> Result<Next, LoginError> {
        let text = String::from_utf8_lossy(reply);
        let find = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let version = find("250-VERSION Tor=\"").and_then(|rest| rest.split('"').next());
        let (Some(version), Some(auth)) = (version, find("250-AUTH METHODS=")) else {
            return Err(LoginError::NotTor(
                "its PROTOCOLINFO says too little".into(),
            ));
        };
        version.clone_into(&mut self.version);
        let methods = auth.split(' ').next().unwrap_or_default();
        let offers = |method| methods.split(',').any(|offered| offered == method);
        if offers("NULL") {
            return Ok(Next::Send(b"AUTHENTICATE\r\n".to_vec()));
        }
        let cookies = offers("SAFECOOKIE") || offers("COOKIE");
        if let Some(password) = self.password.take()
            && offers("HASHEDPASSWORD")
        {
            return Ok(Next::Send(
                format!("AUTHENTICATE {}\r\n", hex::encode(password)).into(),
            ));
        }
        if cookies {
            self.safe = offers("SAFECOOKIE");
            let path = memchr::memmem::find(reply, b"COOKIEFILE=")
                .and_then(|found| read_c_string(&reply[found + b"COOKIEFILE=".len()..]))
                .ok_or_else(|| LoginError::NotTor("it names no cookie file".into()))?;
            self.stage = Stage::Cookie;
            return Ok(Next::ReadCookie(PathBuf::from(
                std::ffi::OsString::from_vec(path),
            )));
        }
        Err(if offers("HASHEDPASSWORD") {
            LoginError::NoPassword
        } else {
            LoginError::NoMethod(methods.to_owned())
        })
    }

    /// Goes on with the content of the cookie file.
    pub fn cookie(
        &mut self,
        path: PathBuf,
        content: Result<Vec<u8>, String>,
    ) -> Result<Next, LoginError> {
        let octets = content
            .and_then(|octets| {
                <[u8; 32]>::try_from(octets).map_err(|_| "it has not 32 octets".to_owned())
            })
            .map_err(|cause| LoginError::NoCookie { path, cause })?;
        if !self.safe {
            self.stage = Stage::Authenticate;
            return Ok(Next::Send(
                format!("AUTHENTICATE {}\r\n", hex::encode(octets)).into(),
            ));
        }
        self.stage = Stage::Challenge(Cookie::from(octets));
        let nonce = hex::encode(self.client_nonce);
        Ok(Next::Send(
            format!("AUTHCHALLENGE SAFECOOKIE {nonce}\r\n").into(),
        ))
    }

    /// Checks that Tor knows the cookie, and proves the same to it.
    fn answer(&self, cookie: &Cookie, reply: &[u8]) -> Result<Next, LoginError> {
        let text = String::from_utf8_lossy(reply);
        let value = |key: &str| {
            text.split_ascii_whitespace()
                .find_map(|word| word.strip_prefix(key))
                .and_then(|value| hex::decode(value).ok())
        };
        let (Some(hash), Some(nonce)) = (value("SERVERHASH="), value("SERVERNONCE=")) else {
            return Err(LoginError::NotTor("its challenge cannot be read".into()));
        };
        let expected = cookie.server_hash(&self.client_nonce, &nonce);
        if !Cookie::proves(&expected, &hash) {
            return Err(LoginError::Impostor);
        }
        let proof = hex::encode(cookie.client_hash(&self.client_nonce, &nonce));
        Ok(Next::Send(format!("AUTHENTICATE {proof}\r\n").into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &[u8] = b"250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
        250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n";

    fn login() -> Login {
        Login::new(None, [7; 32])
    }

    #[test]
    fn a_login_goes_on_with_each_whole_reply() {
        for size in 1..=INFO.len() {
            let mut login = login();
            let nexts: Vec<_> = INFO
                .chunks(size)
                .map(|piece| login.take(piece).unwrap())
                .collect();
            let (last, others) = nexts.split_last().unwrap();
            assert!(others.iter().all(|next| *next == Next::Wait));
            assert_eq!(*last, Next::Send(b"AUTHENTICATE\r\n".to_vec()));
            assert_eq!(login.version, "0.4.9.11");
            assert_eq!(login.take(b"250 O"), Ok(Next::Wait));
            assert_eq!(login.take(b"K\r\n"), Ok(Next::Done));
        }
    }

    #[test]
    fn what_is_no_tor_is_found_out() {
        for octets in [
            &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n",
            b"220 mail ready\r\n",
            b"250 OK\r\n",
            &[INFO, b"250 OK\r\n"].concat(),
            &[INFO, b"2"].concat(),
            &vec![b'x'; MAX_REPLY + 1],
        ] {
            let next = login().take(octets);
            let shown = octets.get(..100).unwrap_or(octets).escape_ascii();
            assert!(matches!(next, Err(LoginError::NotTor(_))), "{shown}");
        }
    }
}
