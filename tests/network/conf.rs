//! How binary controllers change and read the options of the Tor behind the bus (TC draft 3.3 to
//! 3.5). What it makes of them, Tor is asked directly.

use crate::support::Controller;
use crate::tor::{Pair, has_tor};
use crate::wire::Wire;

/// Message types.
const ERROR: u16 = 0;
const DONE: u16 = 1;
const SETCONF: u16 = 2;
const GETCONF: u16 = 3;
const CONFVALUE: u16 = 4;

/// A Tor behind the bus, a binary controller of the bus, and a text controller of Tor itself.
struct Both {
    binary: Controller,
    direct: Wire,
    _pair: Pair,
}

impl Both {
    #[track_caller]
    fn start() -> Self {
        let pair = Pair::start();
        let mut direct = Wire::at(&pair.home.socket());
        direct.ask("AUTHENTICATE");
        Self {
            binary: pair.daemon.connect(),
            direct,
            _pair: pair,
        }
    }

    /// Sends strings, and returns the type and the body of the answer.
    #[track_caller]
    fn ask(&mut self, kind: u16, strings: &[&str]) -> (u16, String) {
        let body = strings.iter().flat_map(|string| [string, "\0"]);
        let body: String = body.collect();
        self.binary.send_frame(kind, body.as_bytes());
        let (kind, body) = self.binary.frame();
        (kind, String::from_utf8(body).expect("the tests send UTF-8"))
    }

    #[track_caller]
    fn set(&mut self, name: &str, value: &str) {
        let answer = self.ask(SETCONF, &[name, value]);
        assert_eq!(answer, (DONE, String::new()), "{name} {value}");
    }

    /// Checks what GETCONF gives, and under which name.
    #[track_caller]
    fn is(&mut self, asked: &str, name: &str, value: &str) {
        let expected = (CONFVALUE, format!("{name}\0{value}\0"));
        assert_eq!(self.ask(GETCONF, &[asked]), expected, "{asked}");
    }

    /// Sends a command to Tor itself, and returns the reply.
    #[track_caller]
    fn direct(&mut self, command: &str) -> String {
        self.direct.ask(command)
    }

    /// Checks that a message is refused with this code, and with what Tor says to a command that
    /// asks for the same.
    #[track_caller]
    fn refuses(&mut self, kind: u16, strings: &[&str], code: u16, command: &str) {
        let reply = self.direct(command);
        let said = reply.trim_end().as_bytes();
        let (kind, body) = self.ask(kind, strings);
        assert_eq!(kind, ERROR, "{command}: {body:?}");
        let (got, text) = body.as_bytes().split_first_chunk().expect("a code");
        assert_eq!(u16::from_be_bytes(*got), code, "{command}: {body:?}");
        assert_eq!(
            text.escape_ascii().to_string(),
            said["552 ".len()..].escape_ascii().to_string()
        );
    }
}

#[test]
fn options_are_read_and_changed() {
    if !has_tor() {
        return;
    }
    let mut both = Both::start();
    // Its default, under Tor's own spelling of the name, or of the one who asks.
    both.is("MaxCircuitDirtiness", "MaxCircuitDirtiness", "600");
    let reply = both.direct("GETCONF maxcircuitdirtiness");
    let (name, _) = reply[4..].split_once('=').expect("it has a value");
    both.is("maxcircuitdirtiness", name, "600");
    both.set("maxCircuitDirtiness", "77");
    both.is("MaxCircuitDirtiness", "MaxCircuitDirtiness", "77");
    assert_eq!(
        both.direct("GETCONF MaxCircuitDirtiness"),
        "250 MaxCircuitDirtiness=77\r\n"
    );
    // An empty value is the default.
    both.set("MaxCircuitDirtiness", "");
    both.is("MaxCircuitDirtiness", "MaxCircuitDirtiness", "600");
    both.is("ContactInfo", "ContactInfo", "");
    both.set("ContactInfo", "somebody");
    both.set("ContactInfo", "");
    both.is("ContactInfo", "ContactInfo", "");
}

#[test]
fn refusals_have_their_codes_and_the_words_of_tor() {
    if !has_tor() {
        return;
    }
    let mut both = Both::start();
    both.refuses(SETCONF, &["Nothing", "1"], 2, "SETCONF Nothing=1");
    both.refuses(GETCONF, &["Nothing"], 2, "GETCONF Nothing");
    let bad = "SETCONF MaxCircuitDirtiness=ten";
    both.refuses(SETCONF, &["MaxCircuitDirtiness", "ten"], 3, bad);
    let bad = "SETCONF Nickname=\"a b\"";
    both.refuses(SETCONF, &["Nickname", "a b"], 3, bad);
    let frozen = "SETCONF DataDirectory=/nowhere";
    both.refuses(SETCONF, &["DataDirectory", "/nowhere"], 0, frozen);
    both.is("MaxCircuitDirtiness", "MaxCircuitDirtiness", "600");
    both.is("Nickname", "Nickname", "");
}

#[test]
fn what_would_be_another_command_is_none() {
    if !has_tor() {
        return;
    }
    let mut both = Both::start();
    for name in [
        "",
        " ",
        "ContactInfo=x Nickname",
        "ContactInfo Nickname",
        "ContactInfo\r\nSIGNAL HALT\r\nX",
        "ContactInfo\nSIGNAL HALT\nX",
    ] {
        for (kind, strings) in [
            (GETCONF, &[name][..]),
            (SETCONF, &[name, "x"]),
            (SETCONF, &[name, ""]),
        ] {
            let (kind, body) = both.ask(kind, strings);
            assert_eq!(kind, ERROR, "{name:?}: {body:?}");
            assert!(body.starts_with("\0\x02"), "{name:?}: {body:?}");
        }
    }
    let value = "x\r\nSIGNAL HALT\r\nSETCONF Nickname=y";
    both.set("ContactInfo", value);
    both.is("ContactInfo", "ContactInfo", value);
    both.is("Nickname", "Nickname", "");
}

/// Whatever octets a value has, Tor gets them, and gives them back.
#[test]
fn values_are_octets() {
    if !has_tor() {
        return;
    }
    let mut both = Both::start();
    for (value, in_text) in [
        ("plain", r"plain"),
        ("two words", r#""two words""#),
        (" blanks around ", r#"" blanks around ""#),
        (r#"a "word" in quotes"#, r#""a \"word\" in quotes""#),
        (r#""quoted""#, r#""\"quoted\"""#),
        (r#"""#, r#""\"""#),
        (r"back\slash \n \\", r#""back\\slash \\n \\\\""#),
        (
            "one line\nand another\r\n",
            r#""one line\nand another\r\n""#,
        ),
        (
            "a tabulator\t and # no comment",
            r#""a tabulator\t and # no comment""#,
        ),
        ("K\u{e4}se", r#""K\303\244se""#),
        ("a=b c=d", r#""a=b c=d""#),
    ] {
        let set = format!("SETCONF ContactInfo={in_text}");
        assert_eq!(both.direct(&set), "250 OK\r\n", "{set}");
        let kept = both.direct("GETCONF ContactInfo");
        both.is("ContactInfo", "ContactInfo", value);
        assert_eq!(both.direct("RESETCONF ContactInfo"), "250 OK\r\n");
        both.set("ContactInfo", value);
        assert_eq!(both.direct("GETCONF ContactInfo"), kept);
        both.is("ContactInfo", "ContactInfo", value);
    }
}

#[test]
fn a_list_is_joined_by_newline() {
    if !has_tor() {
        return;
    }
    let mut both = Both::start();
    let set = "SETCONF SocksPort=9050 SocksPort=\"9051 IsolateDestAddr\" SocksPort=auto";
    assert_eq!(both.direct(set), "250 OK\r\n");
    both.is("SocksPort", "SocksPort", "9050\n9051 IsolateDestAddr\nauto");
    // One message sets one value.
    both.set("SocksPort", "9052");
    assert_eq!(both.direct("GETCONF SocksPort"), "250 SocksPort=9052\r\n");
    both.set("SocksPort", "");
    assert_eq!(both.direct("GETCONF SocksPort"), "250 SocksPort\r\n");
    both.is("SocksPort", "SocksPort", "");
}
