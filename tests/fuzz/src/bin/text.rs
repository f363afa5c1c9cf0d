//! The text protocol: commands are the same however the octets arrive, and an answer that quotes
//! them is still one answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbus::wire::detect::{Detected, detect};
use onionbus::wire::text::{self, Framed, Framer};
use onionbus::wire::{Refusal, Request};

/// What `data` asks for when it arrives in pieces of `step` octets.
fn requests(data: &[u8], step: usize) -> Vec<Result<Request<'_>, Refusal>> {
    let mut framer = Framer::default();
    let (mut begin, mut end) = (0, 0);
    let mut requests = Vec::new();
    while end < data.len() {
        end = data.len().min(end + step);
        loop {
            match framer.next(&data[begin..end]) {
                Framed::Incomplete => break,
                Framed::TooLong => return requests,
                Framed::Command(command) => {
                    let verb = text::verb(command.keyword);
                    requests.push(verb.and_then(|verb| text::parse(verb, &command)));
                    assert!(command.length > 0, "nothing consumed");
                    begin += command.length;
                }
            }
        }
    }
    requests
}

fuzz_target!(|data: &[u8]| {
    let whole = requests(data, data.len());
    assert_eq!(whole, requests(data, 1));
    assert_eq!(whole, requests(data, 7));

    for refusal in whole.iter().filter_map(|request| request.as_ref().err()) {
        let mut answer = Vec::new();
        text::encode_refusal(refusal, &mut answer);
        let lines = answer.strip_suffix(b"\r\n").expect("a line has an end");
        // A lone CR in what is quoted stays, as in Tor's answers; LF would begin another one.
        for line in lines.split(|&octet| octet == b'\n') {
            assert!(line.len() >= 4 && line[..3].iter().all(u8::is_ascii_digit));
            assert!(matches!(line[3], b' ' | b'-'));
        }
    }

    // What is once decided never changes with what comes after it.
    let found = (0..data.len()).map(|length| detect(&data[..length]));
    for decided in found.take(8).filter(|&found| found != Detected::Undecided) {
        assert_eq!(decided, detect(data));
    }
});
