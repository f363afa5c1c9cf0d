//! One controller's conversation: what it speaks, whether it is logged in, what it asks next.
//!
//! Octets go in, one [`Step`] at a time comes out. Nothing here touches a socket, a clock or
//! another controller.

use std::sync::Arc;

use crate::auth::{Cookie, HashedPassword};
use crate::command::Verb;
use crate::sys::peer::Peer;
use crate::wire::Dialect;
use crate::wire::binary::{self, Fragments, Frame, Gathered, Version};
use crate::wire::detect::{Detected, detect, is_http};
use crate::wire::message::SessionId;
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::text::{self, Framed, Framer};

/// The octets that are too many for one command of a controller that must log in, its line ends
/// included.
const MOST_OF_STRANGERS: usize = 8 << 10;

/// One controller's conversation.
#[derive(Debug)]
pub struct Conversation {
    id: SessionId,
    peer: Peer,
    /// `None` until the first octets tell.
    dialect: Option<Dialect>,
    framer: Framer,
    fragments: Fragments,
    entry: Entry,
    login: Login,
    /// Commands that were parsed.
    #[cfg(test)]
    pub parsed: usize,
}

/// The way in, once the socket's permissions have let the controller connect.
#[derive(Clone, Debug)]
pub enum Entry {
    /// The first command logs in by itself.
    Open,
    /// AUTHENTICATE is needed and always succeeds, as at a Tor without authentication.
    Explicit,
    /// AUTHENTICATE must prove that the controller knows one of these.
    Secret(Box<Secret>),
}

/// Secrets of which one opens the way in.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The cookie, where it counts.
    pub cookie: Option<Arc<Cookie>>,
    /// The passwords that count.
    pub passwords: Arc<[HashedPassword]>,
}

impl Secret {
    /// The way in for whoever knows one of them.
    #[must_use]
    pub fn entry(cookie: Option<Arc<Cookie>>, passwords: Arc<[HashedPassword]>) -> Entry {
        Entry::Secret(Box::new(Self { cookie, passwords }))
    }
}

#[derive(Debug)]
enum Login {
    /// Not yet.
    Before {
        /// PROTOCOLINFO was answered; it is only once.
        greeted: bool,
        /// What AUTHENTICATE must send, if AUTHCHALLENGE came before.
        expected: Option<Box<[u8; 32]>>,
    },
    Done,
}

/// What the octets so far ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Nothing whole yet.
    Incomplete,
    /// A web browser has lost its way.
    Http,
    /// One message of the v0 dialect that came in fragments, to be given to
    /// [`Conversation::message`].
    Gathered {
        /// How many octets its fragments had.
        length: usize,
        /// Its type.
        kind: u16,
        /// Its body.
        body: Vec<u8>,
    },
    /// One command of the text protocol, to be given to [`Conversation::command`] where it must be
    /// parsed. Until then it logs nobody in.
    Line(text::Command<'a>),
    /// One command, parsed, or the reason why it cannot be.
    Command {
        /// How many octets it has, to be consumed.
        length: usize,
        /// What it asks for, or why not.
        request: Result<Request<'a>, Refusal>,
        /// The controller is logged in by this command, without AUTHENTICATE.
        logs_in: bool,
        /// The command as it came, in the text protocol.
        text: Option<text::Command<'a>>,
    },
}

impl Conversation {
    /// A conversation that begins. `dialect` is what its socket was declared for.
    #[must_use]
    pub const fn new(id: SessionId, peer: Peer, dialect: Option<Dialect>, entry: Entry) -> Self {
        Self {
            id,
            peer,
            dialect,
            framer: Framer::new(),
            fragments: Fragments::new(),
            entry,
            login: Login::Before {
                greeted: false,
                expected: None,
            },
            #[cfg(test)]
            parsed: 0,
        }
    }

    /// The session's number.
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Who is at the other end.
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// What it speaks; text, until it is known.
    pub fn dialect(&self) -> Dialect {
        self.dialect.unwrap_or(Dialect::Text)
    }

    /// Whether it has logged in.
    pub const fn is_logged_in(&self) -> bool {
        matches!(self.login, Login::Done)
    }

    /// Whether it must still prove that it knows a secret.
    pub const fn must_log_in(&self) -> bool {
        matches!(self.entry, Entry::Secret(_)) && !self.is_logged_in()
    }

    /// The way in that its socket has.
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The next command in `octets`: those that were not consumed, and what has come since.
    pub fn step<'a>(&mut self, octets: &'a [u8]) -> Step<'a> {
        if !self.must_log_in() {
            return self.any_step(octets);
        }
        let step = self.any_step(octets);
        let length = match &step {
            Step::Incomplete => octets.len(),
            Step::Line(command) => command.length,
            Step::Command { length, .. } | Step::Gathered { length, .. } => *length,
            Step::Http => 0,
        };
        if length >= MOST_OF_STRANGERS {
            return Step::Command {
                length: octets.len(),
                request: Err(Refusal::LineTooLong),
                logs_in: false,
                text: None,
            };
        }
        step
    }

    fn any_step<'a>(&mut self, octets: &'a [u8]) -> Step<'a> {
        let dialect = match self.dialect {
            Some(dialect) => dialect,
            None => match detect(octets) {
                Detected::Undecided => return Step::Incomplete,
                Detected::Text => Dialect::Text,
                Detected::Binary => Dialect::Tc,
            },
        };
        self.dialect = Some(dialect);
        match dialect.version() {
            None => self.text_step(octets),
            Some(version) => self.binary_step(version, octets),
        }
    }

    fn text_step<'a>(&mut self, octets: &'a [u8]) -> Step<'a> {
        match self.framer.next(octets) {
            Framed::Incomplete => Step::Incomplete,
            Framed::Command(_) if !self.is_logged_in() && is_http(octets) => Step::Http,
            Framed::Command(command) => Step::Line(command),
            Framed::TooLong => Step::Command {
                length: octets.len(),
                request: Err(Refusal::LineTooLong),
                logs_in: false,
                text: None,
            },
        }
    }

    /// What a whole command of the text protocol asks for.
    pub fn command<'a>(&mut self, command: text::Command<'a>) -> Step<'a> {
        #[cfg(test)]
        {
            self.parsed += 1;
        }
        let verb = text::verb(command.keyword);
        let (mut request, logs_in) = match self.admit(verb.as_ref().ok().copied()) {
            Err(refusal) => (Err(refusal), false),
            Ok(logs_in) => (verb.and_then(|verb| text::parse(verb, &command)), logs_in),
        };
        if let Err(Refusal::NoSuchVersion { close, .. }) = &mut request {
            *close = !self.is_logged_in();
        }
        Step::Command {
            length: command.length,
            request,
            logs_in,
            text: Some(command),
        }
    }

    fn binary_step<'a>(&mut self, version: Version, octets: &'a [u8]) -> Step<'a> {
        if version == Version::V0 {
            match self.fragments.next(octets) {
                Gathered::None => {}
                Gathered::Incomplete => return Step::Incomplete,
                Gathered::Message { length, kind, body } => {
                    return Step::Gathered { length, kind, body };
                }
                Gathered::Broken { length, refusal } => {
                    // What is too long ends the connection, logged in or not.
                    let is_too_long = refusal == Refusal::LineTooLong;
                    let (refusal, logs_in) = match self.admit(None) {
                        Err(unauthorized) if !is_too_long => (unauthorized, false),
                        admitted => (refusal, admitted == Ok(true)),
                    };
                    return Step::Command {
                        length,
                        request: Err(refusal),
                        logs_in,
                        text: None,
                    };
                }
            }
        }
        match binary::next(octets) {
            Some(frame) => self.message(frame.length(), frame),
            None => Step::Incomplete,
        }
    }

    /// The command of the last step is consumed.
    pub const fn consumed(&mut self) {
        self.fragments.consumed();
    }

    /// A whole binary message, for which `length` octets came.
    pub fn message<'a>(&mut self, length: usize, frame: Frame<'a>) -> Step<'a> {
        #[cfg(test)]
        {
            self.parsed += 1;
        }
        let version = self.dialect().version().unwrap_or(Version::Tc);
        let verb = binary::verb(version, frame);
        let (request, logs_in) = match self.admit(verb.as_ref().ok().copied()) {
            Err(refusal) => (Err(refusal), false),
            Ok(logs_in) => (
                verb.and_then(|verb| binary::parse(version, verb, frame)),
                logs_in,
            ),
        };
        Step::Command {
            length,
            request,
            logs_in,
            text: None,
        }
    }

    /// Whether a command is let in, and whether it is what logs the controller in.
    fn admit(&mut self, verb: Option<Verb>) -> Result<bool, Refusal> {
        let Login::Before { greeted, expected } = &mut self.login else {
            return Ok(false);
        };
        match verb {
            Some(Verb::Authenticate | Verb::Quit) => Ok(false),
            Some(Verb::ProtocolInfo) if !*greeted && expected.is_none() => {
                *greeted = true;
                Ok(false)
            }
            Some(Verb::AuthChallenge) if expected.is_none() => Ok(false),
            Some(Verb::ProtocolInfo | Verb::AuthChallenge) => Err(Refusal::AuthenticationRequired),
            _ if !matches!(self.entry, Entry::Open) => Err(Refusal::AuthenticationRequired),
            _ => {
                self.login = Login::Done;
                Ok(true)
            }
        }
    }

    /// AUTHCHALLENGE, with a server nonce that nobody could guess (control-spec 3.24).
    pub fn challenge(
        &mut self,
        client_nonce: Result<Vec<u8>, Refusal>,
        server_nonce: [u8; 32],
    ) -> Result<Reply, Refusal> {
        let cookie = match &self.entry {
            Entry::Secret(secret) => secret.cookie.as_ref(),
            Entry::Open | Entry::Explicit => None,
        };
        let cookie = cookie.ok_or(Refusal::CookieDisabled)?;
        let client_nonce = client_nonce?;
        if let Login::Before { expected, .. } = &mut self.login {
            let hash = cookie.client_hash(&client_nonce, &server_nonce);
            *expected = Some(Box::new(hash));
        }
        Ok(Reply::Challenge {
            server_hash: cookie.server_hash(&client_nonce, &server_nonce),
            server_nonce,
        })
    }

    /// Whether AUTHENTICATE would compare a proof with passwords, which is dear.
    pub fn tries_passwords(&self, proof: &[u8]) -> bool {
        let Entry::Secret(secret) = &self.entry else {
            return false;
        };
        let Secret { cookie, passwords } = &**secret;
        let is_challenged = matches!(
            self.login,
            Login::Before {
                expected: Some(_),
                ..
            }
        );
        let is_cookie = || {
            cookie
                .as_ref()
                .is_some_and(|cookie| cookie.matches(proof).is_ok())
        };
        !is_challenged && !passwords.is_empty() && !is_cookie()
    }

    /// AUTHENTICATE: `true` if the controller was not logged in before.
    pub fn authenticate(&mut self, proof: &[u8]) -> Result<bool, Refusal> {
        if let Entry::Secret(secret) = &self.entry {
            match &self.login {
                Login::Before {
                    expected: Some(expected),
                    ..
                } => Cookie::compare(
                    expected,
                    proof,
                    "Wrong length for safe cookie response.",
                    "Safe cookie response did not match expected value.",
                ),
                _ => prove(secret.cookie.as_deref(), &secret.passwords, proof),
            }
            .map_err(Refusal::AuthenticationFailed)?;
        }
        let newly = !self.is_logged_in();
        self.login = Login::Done;
        Ok(newly)
    }
}

/// Whether the cookie or one of the passwords is proved; why not, as Tor says.
fn prove(
    cookie: Option<&Cookie>,
    passwords: &[HashedPassword],
    proof: &[u8],
) -> Result<(), &'static str> {
    let by_cookie = cookie.map(|cookie| cookie.matches(proof));
    match by_cookie {
        Some(Ok(())) => Ok(()),
        Some(Err(why)) if passwords.is_empty() => Err(why),
        _ if passwords.iter().any(|password| password.is_of(proof)) => Ok(()),
        Some(Err(_)) => {
            Err("Password did not match HashedControlPassword *or* authentication cookie.")
        }
        None => Err("Password did not match HashedControlPassword value from configuration"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Peer = Peer {
        pid: 1,
        uid: 2,
        gid: 3,
    };

    fn entry(cookie: Option<[u8; 32]>) -> Entry {
        cookie.map_or(Entry::Open, |octets| {
            Secret::entry(Some(Arc::new(Cookie::from(octets))), Arc::new([]))
        })
    }

    fn session(cookie: Option<[u8; 32]>) -> Conversation {
        Conversation::new(1, PEER, None, entry(cookie))
    }

    fn step<'a>(session: &mut Conversation, octets: &'a [u8]) -> Step<'a> {
        match session.step(octets) {
            Step::Line(line) => session.command(line),
            step => step,
        }
    }

    fn refusal(session: &mut Conversation, octets: &[u8]) -> Option<Refusal> {
        match step(session, octets) {
            Step::Command { request, .. } => request.err(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_ordinary_command_logs_in_by_itself() {
        for (octets, expected) in [
            (&b"GETINFO version\r\n"[..], true),
            (b"\r\n", true),
            (b"FOO\r\n", true),
            (b"\0\0\xF0\x04", true),
            (b"\0\0\0\x07", false),
            (b"PROTOCOLINFO\r\n", false),
            (b"AUTHENTICATE\r\n", false),
            (b"QUIT\r\n", false),
        ] {
            let mut session = session(None);
            let Step::Command { logs_in, .. } = step(&mut session, octets) else {
                panic!("{octets:?}")
            };
            assert_eq!(logs_in, expected, "{octets:?}");
            assert_eq!(session.is_logged_in(), expected);
        }
    }

    #[test]
    fn a_second_protocolinfo_before_any_login_ends_it() {
        let mut session = session(None);
        assert_eq!(refusal(&mut session, b"PROTOCOLINFO 1\r\n"), None);
        let second = refusal(&mut session, b"PROTOCOLINFO 1\r\n");
        assert_eq!(second, Some(Refusal::AuthenticationRequired));
        assert_eq!(session.authenticate(b""), Ok(true));
        for _ in 0..3 {
            assert_eq!(refusal(&mut session, b"PROTOCOLINFO 1\r\n"), None);
        }
        assert_eq!(session.authenticate(b"again"), Ok(false));
    }

    #[test]
    fn a_bad_version_closes_only_before_the_login() {
        let mut session = session(None);
        let refused = refusal(&mut session, b"PROTOCOLINFO x\r\n").unwrap();
        assert!(refused.closes(Dialect::Text));
        session.authenticate(b"").unwrap();
        let refused = refusal(&mut session, b"PROTOCOLINFO x\r\n").unwrap();
        assert!(!refused.closes(Dialect::Text));
    }

    #[test]
    fn where_the_login_is_explicit_nothing_goes_before_it() {
        let mut session = Conversation::new(1, PEER, None, Entry::Explicit);
        assert_eq!(refusal(&mut session, b"PROTOCOLINFO 1\r\n"), None);
        let refused = refusal(&mut session, b"GETINFO version\r\n");
        assert_eq!(refused, Some(Refusal::AuthenticationRequired));
        assert_eq!(session.authenticate(b"anything"), Ok(true));
        assert_eq!(refusal(&mut session, b"GETINFO version\r\n"), None);
    }

    #[test]
    fn with_a_cookie_nothing_goes_before_it() {
        for octets in [
            &b"GETINFO version\r\n"[..],
            b"\r\n",
            b"\0\0\xF0\x04",
            b"\0\0\x0D\x0A",
        ] {
            let mut session = session(Some([7; 32]));
            let refused = refusal(&mut session, octets);
            assert_eq!(refused, Some(Refusal::AuthenticationRequired), "{octets:?}");
        }
        let mut session = session(Some([7; 32]));
        assert!(session.authenticate(&[7; 31]).is_err());
        assert!(session.authenticate(&[8; 32]).is_err());
        assert_eq!(session.authenticate(&[7; 32]), Ok(true));
    }

    #[test]
    fn broken_fragments_are_a_command_like_any_other() {
        let octets = b"\0\0\0\x11";
        let v0 = |cookie| Conversation::new(1, PEER, Some(Dialect::V0), entry(cookie));
        let mut open = v0(None);
        let Step::Command { logs_in, .. } = open.step(octets) else {
            panic!()
        };
        assert!(logs_in && open.is_logged_in());
        let mut closed = v0(Some([7; 32]));
        let refused = refusal(&mut closed, octets);
        assert_eq!(refused, Some(Refusal::AuthenticationRequired));
        let endless = b"\0\x06\0\x10\0\x02\xFF\xFF\xFF\xFF";
        assert_eq!(refusal(&mut closed, endless), Some(Refusal::LineTooLong));
    }

    #[test]
    fn a_challenge_is_answered_once_and_replaces_the_cookie() {
        let mut session = session(Some([7; 32]));
        session.challenge(Ok(b"nonce".to_vec()), [9; 32]).unwrap();
        let again = refusal(&mut session, b"AUTHCHALLENGE SAFECOOKIE 00\r\n");
        assert_eq!(again, Some(Refusal::AuthenticationRequired));
        assert!(session.authenticate(&[7; 32]).is_err());
        let answer = Cookie::from([7; 32]).client_hash(b"nonce", &[9; 32]);
        assert_eq!(session.authenticate(&answer), Ok(true));
    }

    #[test]
    fn a_challenge_needs_a_cookie_before_it_needs_a_nonce() {
        let refused = session(None).challenge(Err(Refusal::WrongChallenge), [0; 32]);
        assert_eq!(refused, Err(Refusal::CookieDisabled));
        let refused = session(Some([0; 32])).challenge(Err(Refusal::WrongChallenge), [0; 32]);
        assert_eq!(refused, Err(Refusal::WrongChallenge));
    }

    #[test]
    fn a_browser_is_told_apart_only_before_the_login() {
        assert_eq!(session(None).step(b"GET / HTTP/1.1\r\n"), Step::Http);
        let mut session = session(None);
        session.authenticate(b"").unwrap();
        assert!(refusal(&mut session, b"GET / HTTP/1.1\r\n").is_some());
    }

    #[test]
    fn a_password_or_the_cookie_gets_in() {
        let tried = |cookie: Option<[u8; 32]>, proof: &[u8]| {
            let hash = |text: &[u8]| HashedPassword::new(text, [3; 8]);
            let cookie = cookie.map(|octets| Arc::new(Cookie::from(octets)));
            let entry = Secret::entry(cookie, [hash(b"one"), hash(b"two")].into());
            Conversation::new(1, PEER, None, entry).authenticate(proof)
        };
        for cookie in [None, Some([7; 32])] {
            for right in [&b"one"[..], b"two"] {
                assert_eq!(tried(cookie, right), Ok(true));
            }
            for wrong in [&b""[..], b"onetwo", &[8; 32]] {
                let Err(Refusal::AuthenticationFailed(why)) = tried(cookie, wrong) else {
                    panic!("{wrong:?} gets in");
                };
                assert_eq!(why.contains("cookie"), cookie.is_some(), "{why}");
            }
        }
        assert_eq!(tried(Some([7; 32]), &[7; 32]), Ok(true));
        assert!(tried(None, &[7; 32]).is_err());
    }
}
