//! The login of the client commands.

use std::fs;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::peer::{Conversation, Peer};

/// The daemon's side of SAFECOOKIE with `cookie`, while the file holds another one or the same.
fn asking_for_cookie(in_file: &[u8], cookie: [u8; 32]) -> (tempfile::TempDir, Peer) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("a \"cookie\"");
    fs::write(&file, in_file).expect("a file");
    let peer = Peer::before_login(move |peer| {
        let file = file.to_str().expect("a path of ours").replace('"', "\\\"");
        peer.hear("PROTOCOLINFO 1");
        peer.say("250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE=");
        peer.say(format!("\"{file}\"\r\n250-VERSION Tor=\"x\"\r\n250 OK\r\n"));
        safe_cookie(peer, &cookie);
    });
    (directory, peer)
}

fn safe_cookie(peer: &mut Conversation, cookie: &[u8]) {
    let Some(line) = peer.line() else { return };
    let nonce = line.strip_prefix(b"AUTHCHALLENGE SAFECOOKIE ");
    let nonce = hex::decode(nonce.expect("a challenge")).expect("hexadecimal");
    let proof = |key: &str| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("any length");
        mac.update(&[cookie, &nonce, &[7; 32]].concat());
        hex::encode_upper(mac.finalize().into_bytes())
    };
    let hash = proof("Tor safe cookie authentication server-to-controller hash");
    let server_nonce = "07".repeat(32);
    peer.say(format!(
        "250 AUTHCHALLENGE SERVERHASH={hash} SERVERNONCE={server_nonce}\r\n"
    ));
    let Some(line) = peer.line() else { return };
    let hash = proof("Tor safe cookie authentication controller-to-server hash");
    let expected = format!("AUTHENTICATE {hash}").into_bytes();
    assert!(line.eq_ignore_ascii_case(&expected));
    peer.say("250 OK\r\n");
    peer.hear("POSTMESSAGE @all hi");
    peer.say("250 OK\r\n");
}

#[test]
fn a_cookie_is_proved_where_it_is_wanted() {
    let (_directory, peer) = asking_for_cookie(&[5; 32], [5; 32]);
    peer.run(&["post", "@all", "hi"], 0).printed(b"");

    let (_directory, peer) = asking_for_cookie(&[6; 32], [5; 32]);
    peer.run(&["post", "@all", "hi"], 1)
        .complained("does not know the cookie");

    for size in [31, 33] {
        let (_directory, peer) = asking_for_cookie(&vec![5; size], [5; 32]);
        peer.run(&["post", "@all", "hi"], 1)
            .complained("does not have 32 octets");
    }

    let (directory, peer) = asking_for_cookie(&[5; 32], [5; 32]);
    drop(directory);
    peer.run(&["post", "@all", "hi"], 1)
        .complained("the daemon wants the cookie in ");
}

#[test]
fn a_login_that_is_not_known_is_no_riddle() {
    for methods in ["FUTURE", "COOKIE COOKIEFILE=\"/etc/hostname\""] {
        let peer = Peer::before_login(move |peer| {
            peer.hear("PROTOCOLINFO 1");
            peer.say(format!("250-AUTH METHODS={methods}\r\n250 OK\r\n"));
            assert_eq!(peer.line(), None);
        });
        peer.run(&["controllers"], 1)
            .complained("a login that this client");
    }
}
