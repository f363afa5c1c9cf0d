//! Both codecs: what a command costs to be read, and a reply and an event to be written.

use std::hint::black_box;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use onionbus::wire::binary::{self, Version, kind};
use onionbus::wire::message::{ControllerId, Destination, Message};
use onionbus::wire::text::{self, Framed, Framer};
use onionbus::wire::{Dialect, Event, Refusal, Reply};

/// How many commands or events one measurement takes, as one read of a busy daemon has many.
const MANY: usize = 512;

fn commands() -> [(&'static str, Vec<u8>); 3] {
    let text = "x".repeat(64);
    [
        (
            "post 64 B",
            format!("POSTMESSAGE @all {text}\r\n").into_bytes(),
        ),
        (
            "post 1 KiB",
            format!("POSTMESSAGE @all {}\r\n", text.repeat(16)).into_bytes(),
        ),
        (
            "getinfo",
            b"GETINFO new-messages list-controllers\r\n".to_vec(),
        ),
    ]
}

fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("bodies here are short");
    [&length.to_be_bytes()[..], &kind.to_be_bytes(), body].concat()
}

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("text parse");
    for (name, command) in commands() {
        let octets = command.repeat(MANY);
        let mut read = || {
            let mut framer = Framer::default();
            let mut rest = &octets[..];
            while let Framed::Command(command) = framer.next(rest) {
                let verb = text::verb(command.keyword);
                let request = verb.and_then(|verb| text::parse(verb, &command));
                assert!(black_box(request).is_ok());
                rest = &rest[command.length..];
            }
            assert!(rest.is_empty());
        };
        measure(&mut group, name, octets.len(), &mut read);
    }
    group.finish();

    let mut group = criterion.benchmark_group("binary parse");
    let text = [b'x'; 1024];
    let post = |size| {
        frame(
            kind::POSTMESSAGE,
            &[b"all\0", &text[..size], b"\0"].concat(),
        )
    };
    let getconf = frame(kind::GETCONF, b"BusHistory\0");
    for (name, frame) in [
        ("post 64 B", post(64)),
        ("post 1 KiB", post(1024)),
        ("getconf", getconf),
    ] {
        let octets = frame.repeat(MANY);
        let mut read = || {
            let mut rest = &octets[..];
            while let Some(frame) = binary::next(rest) {
                let verb = binary::verb(Version::Tc, frame);
                let request = verb.and_then(|verb| binary::parse(Version::Tc, verb, frame));
                assert!(black_box(request).is_ok());
                rest = &rest[frame.length()..];
            }
            assert!(rest.is_empty());
        };
        measure(&mut group, name, octets.len(), &mut read);
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let message = |size: usize| {
        Event::Message(Arc::new(Message {
            id: 1_234_567,
            source: ControllerId::parse(b"alice"),
            destination: Destination::All,
            text: vec![b'x'; size].into(),
        }))
    };
    let bandwidth = Event::Bandwidth {
        read: 123_456,
        written: 654_321,
    };
    let refusal = Refusal::UnrecognizedType(0x4711);
    for (dialect, name) in [(Dialect::Text, "text"), (Dialect::Tc, "binary")] {
        let mut group = criterion.benchmark_group(format!("{name} encode"));
        let events = [
            ("event 64 B", message(64)),
            ("event 1 KiB", message(1024)),
            ("event BW", bandwidth.clone()),
        ];
        for (name, event) in &events {
            write(&mut group, name, |out| {
                dialect.encode_event(event, out);
            });
        }
        write(&mut group, "done", |out| {
            dialect.encode_reply(&Reply::Done, out);
        });
        write(&mut group, "refusal", |out| {
            dialect.encode_refusal(&refusal, out);
        });
        group.finish();
    }
}

/// Encodes the same thing many times into a buffer that is used again.
fn write(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, encode: impl Fn(&mut Vec<u8>)) {
    let mut once = Vec::new();
    encode(&mut once);
    let mut out = Vec::new();
    let mut write = || {
        out.clear();
        (0..MANY).for_each(|_| encode(&mut out));
        black_box(&out);
    };
    measure(group, name, once.len() * MANY, &mut write);
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    octets: usize,
    work: &mut impl FnMut(),
) {
    let (elements, bytes) = (MANY as u64, octets as u64);
    group.throughput(Throughput::ElementsAndBytes { elements, bytes });
    group.bench_function(name, |bencher| bencher.iter(&mut *work));
}

criterion_group!(benches, parse, encode);
criterion_main!(benches);
