//! The login to Tor, by a way that its PROTOCOLINFO offers (control-spec 3.21 and 3.24).

use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use thiserror::Error;

use super::fence::Fence;
use crate::auth::Cookie;
use crate::command::keys::Key;
use crate::wire::shown::shown;
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
    /// Tor wants the cookie itself, and that is not allowed.
    #[error(
        "Tor offers only COOKIE, which tells the cookie to whoever answers there: set \
         BusTorAllowCookie 1 if that can only be Tor"
    )]
    PlainCookie,
    /// Tor offers nothing that the daemon knows.
    #[error("Tor offers no login that is known here: {0}")]
    NoMethod(String),
    /// The cookie cannot be read.
    #[error("Tor's cookie {} cannot be used: {cause}", shown(path.as_os_str().as_bytes()))]
    NoCookie {
        /// The place where the cookie should be.
        path: PathBuf,
        /// The reason.
        cause: String,
    },
    /// The peer did not prove that it knows the cookie.
    #[error("whoever answers at Tor's control port does not know Tor's cookie")]
    Impostor,
    /// The way to it leads back here.
    #[error(
        "the bus would be behind itself: BusTor must name a Tor, or a bus that is nearer to one"
    )]
    Loop,
    /// It is no Tor.
    #[error("what answers at Tor's control port is no Tor: {0}")]
    NotTor(String),
}

/// The means of the bus to log in, besides the cookie.
#[derive(Clone, Debug, Default)]
pub struct Means {
    /// The password, if there is one.
    pub password: Option<Vec<u8>>,
    /// The cookie may be told to a Tor that does not prove that it knows it (COOKIE).
    pub plain_cookie: bool,
}

/// A login under way.
#[derive(Debug)]
pub struct Login {
    stage: Stage,
    reader: Reader,
    client_nonce: [u8; 32],
    means: Means,
    safe: bool,
    /// The number of this bus.
    number: Box<str>,
    fence: Fence,
    /// The octets for Tor; whoever sends some of them drains those.
    pub transmit: Vec<u8>,
    /// The version of the Tor that answered, fit to be shown.
    pub version: String,
    /// The numbers of the buses on the way to it, the nearest first, between blanks.
    pub chain: Vec<u8>,
    /// The answer to a fence that is not Tor's: something between does not let fences through.
    pub filter: Option<String>,
}

#[derive(Debug)]
enum Stage {
    ProtocolInfo,
    Cookie,
    Challenge(Cookie),
    Authenticate,
    Chain,
    Fence,
    Done,
}

impl Login {
    /// A login of the bus of this `number`. `client_nonce` must be random.
    #[must_use]
    pub fn new(means: Means, client_nonce: [u8; 32], number: &str, fence: &Fence) -> Self {
        Self {
            stage: Stage::ProtocolInfo,
            reader: Reader::new(MAX_REPLY),
            client_nonce,
            means,
            safe: false,
            number: number.into(),
            fence: fence.clone(),
            transmit: b"PROTOCOLINFO 1\r\n".to_vec(),
            version: String::new(),
            chain: Vec::new(),
            filter: None,
        }
    }

    /// Whether the login is done.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// The octets that wait for Tor, and those of a reply that has no end yet.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.transmit.capacity() + self.reader.held()
    }

    /// Takes what Tor has said. Returns the cookie file that is to be read and given to
    /// [`Self::handle_cookie`], if one is.
    pub fn handle_octets(&mut self, octets: &[u8]) -> Result<Option<PathBuf>, LoginError> {
        self.reader.handle_octets(octets);
        loop {
            let reply = match self.reader.poll_message() {
                Ok(None) => return Ok(None),
                Ok(Some(reply)) => reply.octets().to_vec(),
                Err(_) => return Err(LoginError::NotTor("it answers without end".into())),
            };
            let path = self.handle_reply(&reply)?;
            // Up to the proof, nothing more is asked at a time.
            let asked_more = matches!(self.stage, Stage::Chain | Stage::Fence | Stage::Done);
            if !asked_more && !self.reader.rest().is_empty() {
                let why = "it answers more than it was asked";
                return Err(LoginError::NotTor(why.into()));
            }
            if path.is_some() {
                return Ok(path);
            }
        }
    }

    fn handle_reply(&mut self, reply: &[u8]) -> Result<Option<PathBuf>, LoginError> {
        let text = || shown(reply.trim_ascii_end());
        let agreed = reply.starts_with(b"250");
        match std::mem::replace(&mut self.stage, Stage::Authenticate) {
            Stage::ProtocolInfo if agreed => return self.choose(reply),
            Stage::ProtocolInfo => return Err(LoginError::NotTor(text())),
            Stage::Challenge(_) | Stage::Authenticate if !agreed => {
                return Err(LoginError::Refused(text()));
            }
            Stage::Challenge(cookie) => self.answer(&cookie, reply)?,
            Stage::Cookie => self.stage = Stage::Cookie,
            Stage::Authenticate => self.stage = Stage::Chain,
            Stage::Chain => {
                self.chain = chain(reply)?;
                let is_here = |number: &[u8]| number == self.number.as_bytes();
                if self.chain.split(|&octet| octet == b' ').any(is_here) {
                    return Err(LoginError::Loop);
                }
                self.stage = Stage::Fence;
            }
            Stage::Fence => {
                self.filter = (reply != self.fence.answer()).then(text);
                self.stage = Stage::Done;
            }
            Stage::Done => self.stage = Stage::Done,
        }
        Ok(None)
    }

    /// Authenticates, and asks in the same breath what must be known of whoever answers: that
    /// costs no round trip.
    fn authenticate(&mut self, proof: Option<String>) {
        self.stage = Stage::Authenticate;
        let proof = proof.map_or(String::new(), |proof| format!(" {proof}"));
        let chain = Key::BusChain.name();
        let commands = format!("AUTHENTICATE{proof}\r\nGETINFO {chain}\r\n");
        self.transmit.extend_from_slice(commands.as_bytes());
        self.transmit.extend_from_slice(self.fence.command());
    }

    /// Chooses the best of what PROTOCOLINFO offers.
    fn choose(&mut self, reply: &[u8]) -> Result<Option<PathBuf>, LoginError> {
        let text = String::from_utf8_lossy(reply);
        let find = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
        let version = find("250-VERSION Tor=\"").and_then(|rest| rest.split('"').next());
        let (Some(version), Some(auth)) = (version, find("250-AUTH METHODS=")) else {
            return Err(LoginError::NotTor(
                "its PROTOCOLINFO says too little".into(),
            ));
        };
        self.version = shown(version.as_bytes());
        let methods = auth.split(' ').next().unwrap_or_default();
        let offers = |method| methods.split(',').any(|offered| offered == method);
        if offers("NULL") {
            self.authenticate(None);
            return Ok(None);
        }
        if let Some(password) = self.means.password.take()
            && offers("HASHEDPASSWORD")
        {
            self.authenticate(Some(hex::encode(password)));
            return Ok(None);
        }
        self.safe = offers("SAFECOOKIE");
        if self.safe || (self.means.plain_cookie && offers("COOKIE")) {
            let path = memchr::memmem::find(reply, b"COOKIEFILE=")
                .and_then(|found| read_c_string(&reply[found + b"COOKIEFILE=".len()..]))
                .ok_or_else(|| LoginError::NotTor("it names no cookie file".into()))?;
            self.stage = Stage::Cookie;
            return Ok(Some(PathBuf::from(std::ffi::OsString::from_vec(path))));
        }
        Err(if offers("HASHEDPASSWORD") {
            LoginError::NoPassword
        } else if offers("COOKIE") {
            LoginError::PlainCookie
        } else {
            LoginError::NoMethod(shown(methods.as_bytes()))
        })
    }

    /// Goes on with what the cookie file held.
    pub fn handle_cookie(
        &mut self,
        path: PathBuf,
        content: Result<Vec<u8>, String>,
    ) -> Result<(), LoginError> {
        let octets = content
            .and_then(|octets| {
                <[u8; 32]>::try_from(octets).map_err(|_| "it has not 32 octets".to_owned())
            })
            .map_err(|cause| LoginError::NoCookie { path, cause })?;
        if !self.safe {
            self.authenticate(Some(hex::encode(octets)));
            return Ok(());
        }
        self.stage = Stage::Challenge(Cookie::from(octets));
        let nonce = hex::encode(self.client_nonce);
        let command = format!("AUTHCHALLENGE SAFECOOKIE {nonce}\r\n");
        self.transmit.extend_from_slice(command.as_bytes());
        Ok(())
    }

    /// Checks that Tor knows the cookie, and proves the same to it.
    fn answer(&mut self, cookie: &Cookie, reply: &[u8]) -> Result<(), LoginError> {
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
        self.authenticate(Some(proof));
        Ok(())
    }
}

/// The numbers in the reply to `GETINFO bus/chain`; a Tor has none. Controllers are told them, so
/// nothing else may stand there.
fn chain(reply: &[u8]) -> Result<Vec<u8>, LoginError> {
    let numbers = reply
        .strip_prefix(b"250-")
        .and_then(|rest| rest.strip_prefix(Key::BusChain.name().as_bytes()))
        .and_then(|rest| rest.strip_prefix(b"="));
    let numbers = numbers.unwrap_or_default();
    let end = numbers
        .iter()
        .position(|&octet| octet == b'\r' || octet == b'\n');
    let numbers = &numbers[..end.unwrap_or(numbers.len())];
    let is_number = |octet: &u8| octet.is_ascii_hexdigit() || *octet == b' ';
    if numbers.iter().all(is_number) {
        Ok(numbers.to_vec())
    } else {
        let why = format!("its {} is \"{}\"", Key::BusChain.name(), shown(numbers));
        Err(LoginError::NotTor(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str = "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n\
        250-VERSION Tor=\"0.4.9.11\"\r\n250 OK\r\n";

    fn login() -> Login {
        Login::new(Means::default(), [0; 32], "AB12", &Fence::new([7; 16]))
    }

    /// Lets Tor say `octets`, in pieces of `size`.
    fn heard(login: &mut Login, octets: &[u8], size: usize) -> Result<(), LoginError> {
        for part in octets.chunks(size) {
            assert_eq!(login.handle_octets(part)?, None);
        }
        Ok(())
    }

    #[test]
    fn a_login_finds_out_who_answers() {
        let fence = Fence::new([7; 16]);
        let of_tor = [
            "552 Unrecognized key \"bus/chain\"\r\n".as_bytes(),
            fence.answer(),
        ]
        .concat();
        let of_bus = [b"250-bus/chain=CD EF\r\n250 OK\r\n", fence.answer()].concat();
        let of_filter = b"510 Command filtered\r\n510 Command filtered\r\n".to_vec();
        for (answers, chain, fences) in [
            (of_tor, "", true),
            (of_bus, "CD EF", true),
            (of_filter, "", false),
        ] {
            let octets = [b"250 OK\r\n", &answers[..]].concat();
            for size in 1..=octets.len() {
                let mut login = login();
                heard(&mut login, GREETING.as_bytes(), size).unwrap();
                heard(&mut login, &octets, size).unwrap();
                assert!(login.is_done(), "cut in {size}");
                assert_eq!(login.version, "0.4.9.11");
                assert_eq!(login.filter.is_none(), fences);
                assert_eq!(login.chain, chain.as_bytes());
            }
        }
    }

    #[test]
    fn what_is_no_tor_is_found_out() {
        for octets in [
            &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n",
            b"220 mail ready\r\n",
            b"250 OK\r\n",
            &[GREETING.as_bytes(), b"250 OK\r\n"].concat(),
            &[GREETING.as_bytes(), b"2"].concat(),
            &vec![b'x'; MAX_REPLY + 1],
        ] {
            let outcome = login().handle_octets(octets);
            let shown = octets.get(..100).unwrap_or(octets).escape_ascii();
            assert!(matches!(outcome, Err(LoginError::NotTor(_))), "{shown}");
        }
    }

    #[test]
    fn a_bus_behind_itself_is_refused() {
        let mut login = login();
        heard(&mut login, GREETING.as_bytes(), 9).unwrap();
        let answers = b"250 OK\r\n250-bus/chain=CD AB12\r\n250 OK\r\n";
        assert_eq!(heard(&mut login, answers, 9), Err(LoginError::Loop));
    }

    #[test]
    fn a_refused_login_says_so() {
        let mut login = login();
        heard(&mut login, GREETING.as_bytes(), 9).unwrap();
        assert!(login.transmit.ends_with(Fence::new([7; 16]).command()));
        let refused = heard(&mut login, b"515 no\r\n", 9);
        assert_eq!(refused, Err(LoginError::Refused("515 no".into())));
    }

    fn greeting(methods: &str, version: &str) -> Vec<u8> {
        let auth = format!("250-AUTH METHODS={methods} COOKIEFILE=\"/\\033]0;x\\n\"\r\n");
        format!("250-PROTOCOLINFO 1\r\n{auth}250-VERSION Tor=\"{version}\"\r\n250 OK\r\n")
            .into_bytes()
    }

    #[test]
    fn the_cookie_itself_is_told_only_where_that_is_allowed() {
        for (methods, allowed, outcome) in [
            ("COOKIE", false, Err(LoginError::PlainCookie)),
            ("COOKIE", true, Ok(true)),
            ("COOKIE,SAFECOOKIE", false, Ok(false)),
            ("COOKIE,SAFECOOKIE", true, Ok(false)),
            ("SAFECOOKIE", true, Ok(false)),
            ("COOKIE,HASHEDPASSWORD", false, Err(LoginError::NoPassword)),
        ] {
            let means = Means {
                password: None,
                plain_cookie: allowed,
            };
            let mut login = Login::new(means, [0; 32], "AB12", &Fence::new([7; 16]));
            let told = login
                .handle_octets(&greeting(methods, "0.4.9.11"))
                .map(|path| {
                    login.transmit.clear();
                    let path = path.expect("a cookie is wanted");
                    login.handle_cookie(path, Ok(vec![0xab; 32])).unwrap();
                    let cookie = "ab".repeat(32);
                    String::from_utf8_lossy(&login.transmit).contains(&cookie)
                });
            assert_eq!(told, outcome, "{methods}, {allowed}");
        }
    }

    /// Everything that Tor says before and in the login, and that comes into the log or a reply.
    #[test]
    fn no_control_octet_of_tors_is_left_in_words() {
        let evil = "\x1b]0;owned\x07\u{9b}6n\x7f\x08\rx";
        let is_clean = |text: &str| !text.chars().any(char::is_control);
        let fail = |login: &mut Login, octets: &[u8]| {
            let error = login.handle_octets(octets).unwrap_err();
            assert!(is_clean(&error.to_string()), "{:?}", error.to_string());
            error
        };

        let mut known = login();
        heard(&mut known, &greeting("NULL", evil), 1000).unwrap();
        assert!(known.version.contains("\\x1b]0;owned"), "{}", known.version);
        assert!(is_clean(&known.version), "{:?}", known.version);
        let refused = format!("515 {evil}{}\r\n", "x".repeat(60_000));
        let refused = fail(&mut known, refused.as_bytes());
        assert!(refused.to_string().len() < 300, "a log line has an end");

        let mut known = login();
        heard(&mut known, &greeting("NULL", "0.4.9.11"), 1000).unwrap();
        let chain = format!("250 OK\r\n250-bus/chain=CD {evil}\r\n250 OK\r\n");
        fail(&mut known, chain.as_bytes());

        let mut known = login();
        heard(&mut known, &greeting("NULL", "0.4.9.11"), 1000).unwrap();
        let filtered = format!("250 OK\r\n510 {evil}\r\n510 {evil}\r\n");
        heard(&mut known, filtered.as_bytes(), 1000).unwrap();
        assert!(is_clean(known.filter.as_deref().expect("it is no fence")));

        fail(&mut login(), &greeting(evil, "0.4.9.11"));
        fail(&mut login(), format!("510 {evil}\r\n").as_bytes());
        let mut known = login();
        let path = known.handle_octets(&greeting("SAFECOOKIE", "0.4.9.11"));
        let path = path.unwrap().expect("a cookie is wanted");
        let cause = Err("it is not there".to_owned());
        let error = known.handle_cookie(path, cause).unwrap_err().to_string();
        assert!(
            is_clean(&error) && error.contains("/\\x1b]0;x\\n"),
            "{error}"
        );
    }
}
