//! The option file: no octets make the parser panic, and what it says about a text is true.
//! SAVECONF relies on that when it rewrites a file in place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use onionbus::wire::torrc;

fuzz_target!(|data: &[u8]| {
    let lines = match torrc::parse(data) {
        Ok(lines) => lines,
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            return;
        }
    };
    let mut end = 0;
    for line in lines {
        assert!(!line.key.is_empty());
        assert!(line.span.start >= end, "lines overlap");
        assert!(line.span.start <= line.value_span.start && line.value_span.end <= line.span.end);
        end = line.span.end;
        // Each line means the same on its own.
        let alone = torrc::parse(&data[line.span]).expect("a part of a good text is good");
        assert_eq!(alone.len(), 1);
        assert_eq!((&alone[0].key, &alone[0].value), (&line.key, &line.value));
    }
    assert!(end <= data.len());
});
