//! Messages a second, and the time that one takes: from a controller of one bus to one of another,
//! and between two clients of the same NATS server, through a stream like that and through none.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, consumer, stream};
use futures_util::StreamExt as _;
use support::{Controller, Place, has_nats};

/// The octets of a message.
const OCTETS: usize = 64;

/// The messages that are on their way at once when it is about how many there are.
const WINDOW: usize = 200;

/// One way, measured.
struct Figures {
    rate: f64,
    median: Duration,
    worst: Duration,
}

fn main() {
    if std::env::args().any(|argument| argument == "--help") {
        println!(
            "usage: contrib/bridge/bench [--quick]\n\nPrints messages a second and latencies."
        );
        return;
    }
    if !has_nats() {
        return;
    }
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (many, few) = if quick { (2000, 100) } else { (50_000, 2000) };
    let place = Place::new();
    let nats = place.nats("");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let rows = [
        ("NATS alone", runtime.block_on(core(&nats.url(), many, few))),
        (
            "JetStream alone",
            runtime.block_on(jetstream(&nats.url(), many, few)),
        ),
        (
            "bus, bridge, JetStream, bridge, bus",
            bridged(&place, &nats.url(), many, few),
        ),
    ];
    println!("{OCTETS} octets each; {many} messages for the rate, {few} for the time\n");
    println!(
        "{:<36} {:>12} {:>12} {:>12}",
        "", "a second", "median", "99 of 100"
    );
    for (name, figures) in rows {
        let Figures {
            rate,
            median,
            worst,
        } = figures;
        println!("{name:<36} {rate:>12.0} {median:>12.0?} {worst:>12.0?}");
    }
}

fn figures(many: usize, took: Duration, mut times: Vec<Duration>) -> Figures {
    times.sort();
    Figures {
        rate: f64::from(u32::try_from(many).expect("few")) / took.as_secs_f64(),
        median: times[times.len() / 2],
        worst: times[times.len() * 99 / 100],
    }
}

fn text() -> String {
    "x".repeat(OCTETS)
}

async fn core(url: &str, many: usize, few: usize) -> Figures {
    let sender = async_nats::connect(url).await.expect("it is there");
    let reader = async_nats::connect(url).await.expect("it is there");
    let mut messages = reader.subscribe("bench").await.expect("a subscription");
    // It comes back when the server has the subscription.
    let first = reader.publish("bench", text().into()).await;
    first.expect("it is sent");
    messages.next().await.expect("it arrives");
    let begin = Instant::now();
    for number in 0..many {
        sender
            .publish("bench", text().into())
            .await
            .expect("it is sent");
        if number >= WINDOW {
            messages.next().await.expect("it arrives");
        }
    }
    for _ in 0..WINDOW {
        messages.next().await.expect("it arrives");
    }
    let took = begin.elapsed();
    let mut times = Vec::new();
    for _ in 0..few {
        let begin = Instant::now();
        sender
            .publish("bench", text().into())
            .await
            .expect("it is sent");
        messages.next().await.expect("it arrives");
        times.push(begin.elapsed());
    }
    figures(many, took, times)
}

async fn jetstream(url: &str, many: usize, few: usize) -> Figures {
    let sender = jetstream::new(async_nats::connect(url).await.expect("it is there"));
    let reader = jetstream::new(async_nats::connect(url).await.expect("it is there"));
    let config = stream::Config {
        name: "bench".into(),
        subjects: vec!["stored".into()],
        ..stream::Config::default()
    };
    sender.create_stream(config).await.expect("a stream");
    let stream = reader.get_stream("bench").await.expect("a stream");
    let config = consumer::pull::Config {
        durable_name: Some("reader".into()),
        ..consumer::pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.expect("a consumer");
    let messages = consumer.stream().max_messages_per_batch(200);
    let mut messages = messages.messages().await.expect("messages");
    let begin = Instant::now();
    for number in 0..many {
        let _ = sender
            .publish("stored", text().into())
            .await
            .expect("it is sent");
        if number >= WINDOW {
            let message = messages.next().await.expect("it arrives").expect("whole");
            message.ack().await.expect("it is there");
        }
    }
    for _ in 0..WINDOW {
        let message = messages.next().await.expect("it arrives").expect("whole");
        message.ack().await.expect("it is there");
    }
    let took = begin.elapsed();
    let mut times = Vec::new();
    for _ in 0..few {
        let begin = Instant::now();
        let _ = sender
            .publish("stored", text().into())
            .await
            .expect("it is sent");
        let message = messages.next().await.expect("it arrives").expect("whole");
        message.ack().await.expect("it is there");
        times.push(begin.elapsed());
    }
    figures(many, took, times)
}

fn bridged(place: &Place, url: &str, many: usize, few: usize) -> Figures {
    let one = place.bus("one", &[]);
    let two = place.bus("two", &[]);
    let mut bridges = ["one", "two"].map(|host| place.bridge(host, url, &[]));
    for bridge in &mut bridges {
        bridge.set("--log", "info");
        bridge.start();
    }
    let mut alice = one.controller("alice");
    let mut bob = two.controller("bob");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    let post = |alice: &mut Controller| {
        alice.send(format!("POSTMESSAGE @bob_at_two {}\r\n", text()).as_bytes());
    };
    let begin = Instant::now();
    for number in 0..many {
        post(&mut alice);
        if number >= WINDOW {
            bob.message();
            assert_eq!(alice.reply(), "250 OK");
        }
    }
    for _ in 0..WINDOW {
        bob.message();
        assert_eq!(alice.reply(), "250 OK");
    }
    let took = begin.elapsed();
    let mut times = Vec::new();
    for _ in 0..few {
        let begin = Instant::now();
        post(&mut alice);
        bob.message();
        times.push(begin.elapsed());
        assert_eq!(alice.reply(), "250 OK");
    }
    for mut bridge in bridges {
        assert_eq!(bridge.stop().lost(), 0, "nothing is dropped");
    }
    figures(many, took, times)
}
