//! What the stream refuses and forgets, while answers are on their way and the bridge is killed.

mod support;

use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;
use support::way::Way;
use support::{Bridge, Bus, Controller, Nats, Place, has_nats};
use tokio::runtime::Runtime;

/// Whoever administers the NATS server.
struct Admin {
    runtime: Runtime,
    client: async_nats::Client,
}

impl Admin {
    fn of(nats: &Nats) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(async_nats::connect(nats.url()));
        Self {
            client: client.expect("it is there"),
            runtime,
        }
    }

    fn context(&self) -> jetstream::Context {
        let _inside = self.runtime.enter();
        jetstream::new(self.client.clone())
    }

    /// The stream of the group, with limits that no bridge gives it.
    fn make(&self, limits: stream::Config) {
        let config = stream::Config {
            name: "onionbus_test".into(),
            subjects: vec![
                "onionbus.test.*.all".into(),
                "onionbus.test.*.to.*.*".into(),
            ],
            ..limits
        };
        let context = self.context();
        let made = self.runtime.block_on(context.create_stream(config));
        made.expect("a stream");
    }

    fn update(&self, change: impl FnOnce(&mut stream::Config)) {
        let context = self.context();
        self.runtime.block_on(async {
            let stream = context.get_stream("onionbus_test").await.expect("a stream");
            let mut config = stream.cached_info().config.clone();
            change(&mut config);
            context.update_stream(config).await.expect("it may");
        });
    }

    fn purge(&self) {
        let context = self.context();
        self.runtime.block_on(async {
            let stream = context.get_stream("onionbus_test").await.expect("a stream");
            stream.purge().await.expect("it may");
        });
    }

    /// Does something, and waits until this is said on a subject.
    fn hear(&self, subject: &'static str, text: &str, act: impl FnOnce()) {
        self.runtime.block_on(async {
            let mut heard = self.client.subscribe(subject).await.expect("it may");
            self.client.flush().await.expect("it is there");
            act();
            let said = async {
                while let Some(message) = heard.next().await {
                    if String::from_utf8_lossy(&message.payload).contains(text) {
                        return;
                    }
                }
            };
            let said = tokio::time::timeout(support::PATIENCE, said).await;
            said.unwrap_or_else(|_| panic!("nobody says {text}"));
        });
    }
}

/// Two buses, of which the first has its answers from NATS over a way that can be shut.
struct Joined {
    first: Bridge,
    second: Bridge,
    alice: Controller,
    bob: Controller,
    one: Bus,
    _two: Bus,
    way: Way,
}

fn joined(place: &Place, nats: &Nats) -> Joined {
    let way = Way::to(nats.port);
    let [one, two] = ["one", "two"].map(|host| place.bus(host, &["BusHistory 1000"]));
    let first = place.bridge("one", &way.url(), &[]).started();
    let second = place.bridge("two", &nats.url(), &[]).started();
    let alice = one.controller("alice");
    let mut bob = two.controller("bob");
    bob.ask("SETEVENTS POSTMESSAGE");
    one.wait_for("bob_at_two", true);
    Joined {
        first,
        second,
        alice,
        bob,
        one,
        _two: two,
        way,
    }
}

fn post(alice: &mut Controller, text: &str) {
    let reply = alice.ask(&format!("POSTMESSAGE @bob_at_two {text}"));
    assert_eq!(reply, "250 OK");
}

#[test]
fn what_the_stream_finds_too_long_is_counted_through_a_kill() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let nats = place.nats("");
    Admin::of(&nats).make(stream::Config {
        max_message_size: 1000,
        ..stream::Config::default()
    });
    let mut here = joined(&place, &nats);
    here.way.shut();
    post(&mut here.alice, &"x".repeat(2000));
    post(&mut here.alice, "short");
    assert_eq!(here.bob.message().2, b"short");
    here.first.kill();
    here.way.open();
    here.first.start();
    here.one.wait_for("bob_at_two", true);
    post(&mut here.alice, "after");
    assert_eq!(here.bob.message().2, b"after");
    assert_eq!(here.first.stop().shown(), " too-long-for-nats=1");
}

/// A stream that takes one message and has it.
fn full(place: &Place, nats: &Nats) -> (Admin, Joined) {
    let admin = Admin::of(nats);
    admin.make(stream::Config {
        max_messages: 1,
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    });
    let mut here = joined(place, nats);
    post(&mut here.alice, "fills it");
    assert_eq!(here.bob.message().2, b"fills it");
    (admin, here)
}

#[test]
fn what_a_full_stream_refuses_arrives_later_through_a_kill() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let nats = place.nats("");
    let (admin, mut here) = full(&place, &nats);
    here.way.shut();
    admin.hear("_INBOX_one.>", "maximum messages exceeded", || {
        post(&mut here.alice, "refused");
    });
    admin.update(|config| config.max_messages = 10);
    post(&mut here.alice, "taken");
    assert_eq!(here.bob.message().2, b"taken");
    here.first.kill();
    here.way.open();
    here.first.start();
    assert_eq!(here.bob.message().2, b"refused");
    post(&mut here.alice, "after");
    assert_eq!(here.bob.message().2, b"after");
    assert_eq!(here.first.stop().shown(), " none");
}

#[test]
fn a_bridge_waits_for_a_full_stream() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let nats = place.nats("");
    let (admin, mut here) = full(&place, &nats);
    for number in 0..50 {
        post(&mut here.alice, &number.to_string());
    }
    here.first.log().wait("maximum messages exceeded");
    admin.update(|config| config.max_messages = 1000);
    for number in 0..50 {
        assert_eq!(here.bob.message().2, number.to_string().as_bytes());
    }
    let log = here.first.log().text();
    assert!(!log.contains("connecting to NATS again"), "{log}");
    assert_eq!(here.first.stop().shown(), " none");
}

/// The same as when its `max_age` has passed: what was in it is gone, and the server does not know
/// any more that it has taken it once.
fn forget(admin: &Admin, nats: &mut Nats) {
    admin.purge();
    nats.kill();
    nats.start();
}

#[test]
fn what_the_stream_has_forgotten_is_not_sent_twice() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let mut nats = place.nats("");
    let mut here = joined(&place, &nats);
    let admin = Admin::of(&nats);
    here.way.shut();
    post(&mut here.alice, "without an answer");
    assert_eq!(here.bob.message().2, b"without an answer");
    here.first.kill();
    here.way.open();
    forget(&admin, &mut nats);
    here.first.start();
    here.one.wait_for("bob_at_two", true);
    post(&mut here.alice, "after");
    assert_eq!(here.bob.message().2, b"after");
    assert_eq!(here.first.dropped().of("in-doubt"), 1);

    // The same while the bridge lives.
    here.way.shut();
    post(&mut here.alice, "without an answer");
    assert_eq!(here.bob.message().2, b"without an answer");
    forget(&Admin::of(&nats), &mut nats);
    here.way.open();
    here.first.log().wait("nobody can tell any more; 2 by now");
    post(&mut here.alice, "at last");
    assert_eq!(here.bob.message().2, b"at last");
    let dropped = here.first.stop();
    // The stream does not tell that what it has removed was this host's own.
    let lost = dropped.lost() - dropped.of("removed");
    assert_eq!((dropped.of("in-doubt"), lost), (2, 2));
}

#[test]
fn what_was_removed_before_it_was_read_is_counted() {
    if !has_nats() {
        return;
    }
    let place = Place::new();
    let mut nats = place.nats("");
    let mut here = joined(&place, &nats);
    let admin = Admin::of(&nats);
    here.second.kill();
    admin.hear("_INBOX_one.>", r#""seq":5"#, || {
        for number in 0..5 {
            post(&mut here.alice, &number.to_string());
        }
    });
    admin.purge();
    here.second.start();
    post(&mut here.alice, "after");
    assert_eq!(here.bob.message().2, b"after");

    // All that the server knew is gone.
    nats.kill();
    std::fs::remove_dir_all(place.path("jetstream")).expect("it was there");
    nats.start();
    here.one.wait_for("bob_at_two", true);
    post(&mut here.alice, "anew");
    assert_eq!(here.bob.message().2, b"anew");
    post(&mut here.alice, "the last");
    assert_eq!(here.bob.message().2, b"the last");
    assert_eq!(here.second.stop().shown(), " removed=5");
    assert_eq!(here.first.stop().of("in-doubt"), 0);
}
