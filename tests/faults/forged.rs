//! A refused value that looks like replies: Tor quotes it raw, and no reply may be taken from it.

use crate::tor::{Pair, has_tor};
use crate::wire::Wire;

/// The most octets that one read of Tor's socket may give.
const READ: usize = 64 * 1024;

/// The octets of Tor's reply before the value that it quotes, and a few more.
const AROUND: usize = 120;

#[test]
fn a_quoted_value_is_no_reply_wherever_a_read_ends() {
    if !has_tor() {
        return;
    }
    let pair = Pair::start();
    let mut direct = Wire::at(&pair.home.socket());
    direct.ask("AUTHENTICATE");
    let version = direct.ask("GETINFO version");
    let mut controller = Wire::at(&pair.place.socket());
    let history = "250 BusHistory=100\r\n";
    let boundary = READ - AROUND..READ + 8;
    for length in [10, 1000].into_iter().chain(boundary) {
        let value = format!(
            "AvoidDiskWrites=\"{}\\r\\n250-version=FORGED\\r\\n250 OK\"",
            "a".repeat(length)
        );
        // Tor's limit of a log line may shorten the value: what it says then counts.
        let refusal = direct.ask(&format!("SETCONF {value}"));
        assert!(refusal.starts_with("513 "), "{refusal}");
        controller.send(
            format!(
                "SETCONF BusHistory=9 {value}\r\nGETINFO version\r\nGETCONF BusHistory\r\n\
                 SETCONF {value} BusHistory=9\r\nPOSTMESSAGE @nobody x\r\nGETINFO version\r\n"
            )
            .as_bytes(),
        );
        assert!(controller.fence(), "with {length}");
        let said = String::from_utf8(controller.take()).expect("ASCII");
        let nobody = "552 Invalid destination controller name\r\n";
        let expected = [&refusal, &version, history, &refusal, nobody, &version].concat();
        let short = |text: &str| text.replace(&"a".repeat(length), "(a)");
        assert_eq!(short(&said), short(&expected), "with {length}");
    }
}
