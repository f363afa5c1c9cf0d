//! The binary protocol: a frame is there when its last octet is and not before, and what is wrong
//! with it can be said in a frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbus::wire::binary::{self, Version, kind};

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Some(frame) = binary::next(rest) {
        for length in 0..frame.length() {
            assert_eq!(binary::next(&rest[..length]), None);
        }
        assert_eq!(binary::next(&rest[..frame.length()]), Some(frame));
        rest = &rest[frame.length()..];

        for version in [Version::Tc, Version::V0] {
            if let Err(refusal) = binary::parse(version, frame) {
                let mut answer = Vec::new();
                binary::encode_refusal(version, &refusal, &mut answer);
                let error = binary::next(&answer).expect("a whole frame");
                assert_eq!((error.kind, error.length()), (kind::ERROR, answer.len()));
                assert!(error.body.len() > 2 && !error.body[2..].contains(&0));
            }
        }
    }
});
