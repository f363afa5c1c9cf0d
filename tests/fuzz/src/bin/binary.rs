//! The binary protocols: a frame is there when its last octet is and not before, what is wrong with
//! it can be said in a frame, fragments make the same message however they arrive, and nothing that
//! Tor is asked becomes a second command.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbus::tor::identifiers::Identifiers;
use onionbus::tor::translate::{self, Question};
use onionbus::wire::Request;
use onionbus::wire::binary::{self, Fragments, Gathered, Version, kind};
use onionbus::wire::request::TorRequest;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Some(frame) = binary::next(rest) {
        for length in 0..frame.length() {
            assert_eq!(binary::next(&rest[..length]), None);
        }
        assert_eq!(binary::next(&rest[..frame.length()]), Some(frame));
        rest = &rest[frame.length()..];

        for version in [Version::Tc, Version::V0] {
            let verb = binary::verb(version, frame);
            match verb.and_then(|verb| binary::parse(version, verb, frame)) {
                Ok(request) => translates(&request),
                Err(refusal) => {
                    let mut answer = Vec::new();
                    binary::encode_refusal(version, &refusal, &mut answer);
                    let error = binary::next(&answer).expect("a whole frame");
                    assert_eq!((error.kind, error.length()), (kind::ERROR, answer.len()));
                    assert!(error.body.len() > 2 && !error.body[2..].contains(&0));
                }
            }
        }
    }
    gathers(data);
});

/// One request is one command.
fn translates(request: &Request<'_>) {
    if Question::of(request).is_none() || translate::check(request).is_err() {
        return;
    }
    let Ok(command) = translate::command(request, &Identifiers::default()) else {
        return;
    };
    let lines = command.split(|&octet| octet == b'\n').count() - 1;
    assert!(command.ends_with(b"\r\n"));
    if matches!(request, Request::Tor(TorRequest::PostDescriptor(_))) {
        // Only the last line ends the data.
        let ends = command.windows(5).filter(|octets| octets == b"\r\n.\r\n");
        assert_eq!(ends.count(), 1);
    } else {
        assert_eq!(lines, 1);
        assert!(!command[..command.len() - 2].contains(&b'\r'));
    }
    assert!(!command.contains(&0));
}

/// Octets that come one by one make what they make at once.
fn gathers(data: &[u8]) {
    let mut slow = Fragments::new();
    for end in 0..=data.len() {
        let gathered = slow.next(&data[..end]);
        if matches!(gathered, Gathered::Message { .. } | Gathered::Broken { .. }) {
            assert_eq!(gathered, Fragments::new().next(&data[..end]));
            assert_eq!(gathered, Fragments::new().next(data));
            return;
        }
    }
}
