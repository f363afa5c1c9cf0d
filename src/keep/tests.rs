//! Keeping on a time of its own, with a Tor that says what the test wants.

mod overlaps;

use proptest::prelude::*;

use super::service::tests::add;
use super::*;
use crate::wire::fields::ClientKey;

const ID: &str = "jwjntyrfiu75d46dcxq4wzhhm3astlz35sigyd4iibgufvhb2uopo3id";
const KEY: &str =
    "WMBeS6DjDVdbdE0uANMhf5ihr8Ei+yqLgmXgZQCEDVBufRAp40TXotYGCPYLRs2WXFzRbz7ouDV1cuF3cELh3w==";
const MINUTE: Duration = Duration::from_secs(60);

/// A keeper, its time, and what it wrote and said.
struct Scene {
    keeper: Keeper,
    now: Instant,
    stored: Option<Vec<u8>>,
    disk_is_full: bool,
}

fn owner(uid: u32) -> Owner {
    let label = Vec::new();
    Owner { uid, label }
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self {
            keeper: Keeper::new(Fence::new([0xAB; 16])),
            now: Instant::now(),
            stored: None,
            disk_is_full: false,
        };
        scene.up();
        scene
    }

    fn asker(&mut self, session: SessionId) -> Asker {
        let owner = owner(u32::try_from(session / 100).unwrap());
        self.keeper.handle_entered(session, &owner);
        Asker {
            key: 0,
            session,
            owner,
            grace: MINUTE,
        }
    }

    /// Tor comes; returns whether commands wait.
    fn up(&mut self) -> bool {
        let waits = self.keeper.handle_tor_up(self.now);
        self.keeper.handle_open(true);
        waits
    }

    /// The commands that Tor is sent, without fences.
    fn commands(&mut self) -> Vec<String> {
        let sent = std::mem::take(self.keeper.poll_transmit());
        let sent = String::from_utf8(sent).unwrap();
        let lines = sent
            .lines()
            .filter(|line| !line.starts_with("ONIONBUS_FENCE"));
        lines.map(str::to_owned).collect()
    }

    fn hear(&mut self, reply: &str, fence: bool) {
        let mut octets = reply.as_bytes().to_vec();
        if fence {
            octets.extend_from_slice(Fence::new([0xAB; 16]).answer());
        }
        let (stored, is_full) = (&mut self.stored, self.disk_is_full);
        self.keeper.handle_octets(&octets, self.now, &mut |text| {
            if is_full {
                return Err("The onion store cannot be written: full".into());
            }
            *stored = Some(text.to_vec());
            Ok(())
        });
    }

    /// Tor answers these commands as a Tor does that has nothing against them.
    fn answer(&mut self, commands: &[String]) {
        for command in commands {
            let has_fence = !command.starts_with("DEL_ONION") && !command.starts_with("MAPADDRESS");
            let reply = match command.split(' ').next() {
                Some("ADD_ONION") if command.contains(KEY) => {
                    format!("250-ServiceID={ID}\r\n250 OK\r\n")
                }
                Some("MAPADDRESS") => "250 a=b\r\n".into(),
                _ => "250 OK\r\n".into(),
            };
            self.hear(&reply, has_fence);
        }
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.keeper.poll_output()).collect()
    }

    /// What is told about restored things, and `READY`.
    fn told(&mut self) -> Vec<String> {
        let told = self
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Ready => Some("READY".to_owned()),
                Output::Restored(owner, line) => Some(format!("{} {line}", owner.uid)),
                _ => None,
            });
        told.collect()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.keeper.handle_time(self.now, true, &mut |_| Ok(()));
    }

    /// Each of the three kinds, of one owner.
    fn fill(&mut self) -> Asker {
        let asker = self.asker(100);
        let fields = add(&format!("ED25519-V3:{KEY} Port=80"));
        let made = self
            .keeper
            .handle_add(asker.clone(), fields, 32, self.now, &mut |_| Ok(()));
        assert_eq!(made, Outcome::Later);
        let commands = self.commands();
        self.answer(&commands);
        let key = ClientKey {
            onion: Onion::parse(ID.as_bytes()).unwrap(),
            key: b"secret".to_vec().into(),
            name: None,
            permanent: false,
        };
        let note = self.keeper.note(&Fields::ClientAuthAdd(key)).unwrap();
        self.keeper
            .handle_noted(note, Some(&asker), b"250 OK\r\n", self.now);
        let note = self.keeper.note(&Fields::MapAddress(Vec::new())).unwrap();
        self.keeper
            .handle_noted(note, Some(&asker), b"250-a=b\r\n250 x=x\r\n", self.now);
        self.outputs();
        asker
    }
}

const ALL: [&str; 3] = [
    "MAPADDRESS a=b",
    "ONION_CLIENT_AUTH_ADD",
    "ADD_ONION ED25519-V3:",
];

#[track_caller]
fn are_all(commands: &[String]) {
    assert_eq!(commands.len(), ALL.len(), "{commands:?}");
    for (command, start) in commands.iter().zip(ALL) {
        assert!(command.starts_with(start), "{commands:?}");
    }
}

#[test]
fn a_tor_that_ends_at_any_point_of_a_restore_is_begun_with_anew() {
    for answered in 0..=ALL.len() {
        let mut scene = Scene::new();
        scene.fill();
        scene.keeper.handle_tor_gone("x", scene.now);
        assert!(scene.up());
        let commands = scene.commands();
        are_all(&commands);
        scene.answer(&commands[..answered]);
        scene.keeper.handle_tor_gone("x", scene.now);
        scene.told();
        assert!(scene.up());
        let commands = scene.commands();
        are_all(&commands);
        scene.answer(&commands);
        let expected = [
            "READY".to_owned(),
            "1 MAP a OK".into(),
            format!("1 CLIENTAUTH {ID} OK"),
            format!("1 ONION {ID} OK"),
            "1 DONE KEPT=3 FAILED=0".into(),
        ];
        assert_eq!(scene.told(), expected);
    }
}

#[test]
fn a_hundred_restarts_leave_what_was() {
    let mut scene = Scene::new();
    scene.fill();
    for _ in 0..100 {
        scene.keeper.handle_tor_gone("x", scene.now);
        assert!(scene.up() && scene.keeper.is_restoring());
        let commands = scene.commands();
        are_all(&commands);
        scene.answer(&commands);
        assert!(!scene.keeper.is_restoring());
        assert_eq!(scene.told().len(), 5);
    }
    assert_eq!((scene.keeper.items.len(), scene.keeper.tasks.len()), (3, 0));
}

#[test]
fn commands_wait_for_a_silent_tor_for_a_while_only() {
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_tor_gone("x", scene.now);
    scene.up();
    let commands = scene.commands();
    scene.answer(&commands[..1]);
    assert_eq!(scene.keeper.poll_timeout(), Some(scene.now + HOLD));
    scene.pass(HOLD);
    let expected = ["READY", "1 MAP a OK", "1 DONE KEPT=1 FAILED=2"];
    assert_eq!(scene.told(), expected);
    assert!(!scene.keeper.is_restoring());
    scene.answer(&commands[1..]);
    let late = [format!("1 CLIENTAUTH {ID} OK"), format!("1 ONION {ID} OK")];
    assert_eq!(scene.told(), late);
}

#[test]
fn what_tor_refuses_is_tried_less_and_less_often() {
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_tor_gone("x", scene.now);
    scene.up();
    let commands = scene.commands();
    scene.answer(&commands[..2]);
    scene.hear("551 Failed to \"add\"\r\n", true);
    let told = scene.told();
    assert_eq!(
        told[3],
        format!("1 ONION {ID} FAILED \"551 Failed to \\\"add\\\"\"")
    );
    assert_eq!(told[4], "1 DONE KEPT=2 FAILED=1");
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(scene.commands(), [""; 0]);
        let due = scene.now + Duration::from_secs(seconds);
        assert_eq!(scene.keeper.poll_timeout(), Some(due));
        scene.pass(Duration::from_secs(seconds));
        assert_eq!(scene.commands().len(), 1);
        scene.hear("551 Failed\r\n", true);
        assert_eq!(scene.told(), [""; 0]);
    }
    scene.pass(MINUTE);
    let commands = scene.commands();
    scene.answer(&commands);
    assert_eq!(scene.told(), [format!("1 ONION {ID} OK")]);
}

#[test]
fn one_connection_that_ends_is_made_anew_and_nobody_told() {
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_gone(scene.now);
    assert!(
        !scene.keeper.wants_link(),
        "whether Tor has ended, shows soon"
    );
    assert_eq!(scene.keeper.poll_timeout(), Some(scene.now + GLANCE));
    scene.pass(GLANCE);
    assert!(scene.keeper.wants_link() && !scene.keeper.is_restoring());
    scene.keeper.handle_open(true);
    let commands = scene.commands();
    are_all(&commands);
    scene.answer(&commands[..2]);
    for _ in 0..COLLISION.1 {
        scene.hear("550 Onion address collision\r\n", true);
        assert_eq!(scene.keeper.poll_timeout(), Some(scene.now + COLLISION.0));
        scene.pass(COLLISION.0);
        assert_eq!(scene.commands().len(), 1);
    }
    scene.answer(&commands[2..]);
    assert_eq!(scene.told(), [""; 0]);
    // And if Tor has ended, it is the next one that gets everything.
    scene.keeper.handle_gone(scene.now);
    scene.now += GLANCE;
    scene.keeper.handle_time(scene.now, false, &mut |_| Ok(()));
    assert!(!scene.keeper.wants_link() && scene.up());
}

#[test]
fn keys_that_are_lost_twice_are_repaired_twice_at_most() {
    let mut scene = Scene::new();
    let owner = scene.fill().owner;
    scene.outputs();
    for _ in 0..1000 {
        scene.keeper.handle_keys_lost();
    }
    for _ in 0..2 {
        let commands = scene.commands();
        assert_eq!(commands.len(), 1, "{commands:?}");
        scene.answer(&commands);
        // Whose it is, is known again.
        let outputs = scene.outputs();
        let is_known = matches!(&outputs[..], [Output::Unlocked(_, known), ..] if *known == owner);
        assert!(is_known, "{outputs:?}");
    }
    assert_eq!(scene.commands(), [""; 0]);
    assert_eq!(scene.told(), [""; 0]);
}

#[test]
fn a_form_that_tor_refuses_leaves_the_old_one() {
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_left(100, scene.now);
    let asker = scene.asker(101);
    let fields = add(&format!("ED25519-V3:{KEY} Port=81"));
    let now = scene.now;
    let outcome = scene
        .keeper
        .handle_add(asker.clone(), fields, 32, now, &mut |_| Ok(()));
    assert_eq!(outcome, Outcome::Later);
    let commands = scene.commands();
    assert_eq!(commands[0], format!("DEL_ONION {ID}"));
    assert!(
        commands[1].ends_with("Port=81,127.0.0.1:81"),
        "{commands:?}"
    );
    // Until that is answered nobody else of the owner's gets it.
    let other = scene.asker(102);
    let fields = add(&format!("ED25519-V3:{KEY} Port=80"));
    let outcome = scene
        .keeper
        .handle_add(other, fields, 32, now, &mut |_| Ok(()));
    assert_eq!(outcome, Outcome::Reply(COLLIDES.to_vec()));
    scene.answer(&commands[..1]);
    scene.hear("512 No\r\n", true);
    let reply = Output::Reply(asker, b"512 No\r\n".to_vec());
    assert_eq!(scene.outputs(), [reply]);
    let back = scene.commands();
    assert!(back[0].ends_with("Port=80,127.0.0.1:80"), "{back:?}");
    scene.answer(&back);
    assert_eq!(
        scene.keeper.poll_timeout(),
        Some(now + MINUTE),
        "it waits again"
    );
}

#[test]
fn what_an_owner_who_has_left_set_is_not_restored_for_ever() {
    let mut scene = Scene::new();
    scene.fill();
    scene.asker(101);
    scene.keeper.handle_left(100, scene.now);
    scene.keeper.handle_tor_gone("x", scene.now);
    scene.pass(MINUTE);
    assert_eq!(
        scene.keeper.items.len(),
        2,
        "somebody of the owner's is there"
    );
    scene.keeper.handle_left(101, scene.now);
    scene.pass(MINUTE / 2);
    scene.asker(102);
    scene.pass(MINUTE);
    assert_eq!(scene.keeper.items.len(), 2, "and came again");
    scene.keeper.handle_left(102, scene.now);
    scene.pass(MINUTE);
    assert!(scene.keeper.is_idle() && !scene.up());
}

#[test]
fn nothing_is_made_that_cannot_be_stored() {
    let mut scene = Scene::new();
    scene.keeper.handle_store(b"", scene.now).unwrap();
    let asker = scene.asker(100);
    scene.disk_is_full = true;
    let fields = add(&format!("ED25519-V3:{KEY} Port=80"));
    let now = scene.now;
    scene
        .keeper
        .handle_add(asker.clone(), fields, 32, now, &mut |_| Ok(()));
    let commands = scene.commands();
    scene.answer(&commands);
    let reply = b"551 The onion store cannot be written: full\r\n".to_vec();
    assert!(scene.outputs().contains(&Output::Reply(asker, reply)));
    assert_eq!(scene.commands(), [format!("DEL_ONION {ID}")]);
    scene.hear("250 OK\r\n", false);
    assert!(scene.keeper.is_idle());
}

#[test]
fn a_store_is_read_as_it_was_written() {
    let mut scene = Scene::new();
    scene.keeper.handle_store(b"", scene.now).unwrap();
    scene.fill();
    let text = scene.stored.take().unwrap();
    let mut other = Scene::new();
    other.keeper.handle_store(&text, other.now).unwrap();
    let listed = other.keeper.list(7, &owner(1), true);
    assert_eq!(listed, [ID.as_bytes()]);
    let mut again = None;
    let mut write = |text: &[u8]| {
        again = Some(text.to_vec());
        Ok(())
    };
    other.keeper.store(&mut write).unwrap();
    assert_eq!(again, Some(text.clone()));
    // Without its last line end it is whole.
    for end in 1..text.len() - 1 {
        let cut = Scene::new().keeper.handle_store(&text[..end], scene.now);
        assert!(cut.is_err(), "{end}");
    }
}

proptest! {
    /// Whatever Tor says, nothing panics, and what is kept stays kept.
    #[test]
    fn a_tor_that_lies_breaks_nothing(
        says in prop::collection::vec("[0-9 +=A-Za-z.-]{0,20}(\r\n)?", 0..60)
    ) {
        let mut scene = Scene::new();
        scene.fill();
        scene.keeper.handle_tor_gone("x", scene.now);
        scene.up();
        for (index, text) in says.iter().enumerate() {
            scene.hear(text, index % 7 == 0);
            scene.pass(Duration::from_millis(100));
        }
        scene.keeper.handle_tor_gone("x", scene.now);
        scene.outputs();
        scene.up();
        prop_assert!(scene.commands().len() <= ALL.len());
    }
}

/// A change that sets one option.
fn set(option: &str, value: &str) -> ConfChange {
    ConfChange::Settings(vec![crate::wire::request::Setting {
        name: option.into(),
        value: Some(value.into()),
    }])
}

impl Scene {
    /// A controller begins a change; whether it must wait.
    fn waits(&mut self, session: SessionId, change: &ConfChange) -> bool {
        let keeper = &mut self.keeper;
        keeper.must_wait_for_lease(session, "x", false, change)
    }

    /// A controller changes a leased option, which Tor has as `before`, and then as `after`.
    fn change(&mut self, session: SessionId, option: &str, before: &str, after: &str) {
        let change = set(option, after);
        assert!(self.waits(session, &change));
        self.hear(&format!("250 {option}={before}\r\n"), false);
        assert!(!self.waits(session, &change));
        assert_eq!(self.keeper.judge_lease(session, &change), Ok(true));
        self.keeper.handle_lease_answered(session);
        self.hear(&format!("250 {option}={after}\r\n"), false);
    }

    fn leased(&mut self) -> Vec<String> {
        let told = self
            .outputs()
            .into_iter()
            .filter_map(|output| match output {
                Output::Lease(line) => Some(line),
                _ => None,
            });
        told.collect()
    }

    fn with_leases() -> Self {
        let mut scene = Self::new();
        scene.keeper.set_leases(&["A".to_owned(), "B".to_owned()]);
        scene
    }
}

#[test]
fn a_change_that_is_refused_before_tor_has_it_keeps_nobody_waiting() {
    let mut scene = Scene::with_leases();
    assert!(scene.waits(1, &set("A", "1")));
    scene.hear("250 A=0\r\n", false);
    assert!(!scene.waits(1, &set("A", "1")));
    assert!(scene.waits(2, &set("A", "1")));
    scene.outputs();
    scene.keeper.end_unsent(2);
    assert_eq!(scene.outputs(), []);
    scene.keeper.end_unsent(1);
    assert_eq!(scene.outputs(), [Output::News]);
    scene.change(2, "A", "0", "1");
    assert_eq!(scene.leased(), ["TAKEN A 2 x"]);
}

#[test]
fn the_values_before_one_change_are_not_taken_for_those_of_another() {
    let mut scene = Scene::with_leases();
    assert!(scene.waits(1, &set("A", "1")));
    scene.keeper.handle_left(1, scene.now);
    assert!(scene.waits(2, &set("B", "1")));
    scene.hear("250 A=0\r\n", false);
    assert!(scene.waits(2, &set("B", "1")), "that was of the first");
    scene.hear("250 B=0\r\n", false);
    assert!(!scene.waits(2, &set("B", "1")));
}

#[test]
fn what_is_set_back_meanwhile_is_not_the_value_before() {
    for is_sent in [true, false] {
        let mut scene = Scene::with_leases();
        scene.change(1, "A", "0", "1");
        let same = set("A", "1");
        assert!(scene.waits(2, &same));
        if is_sent {
            scene.hear("250 A=1\r\n", false);
            assert!(!scene.waits(2, &same));
            assert_eq!(scene.keeper.judge_lease(2, &same), Ok(true));
            scene.keeper.handle_left(1, scene.now);
            scene.hear("250 OK\r\n", true);
        } else {
            scene.keeper.handle_left(1, scene.now);
            scene.hear("250 A=1\r\n", false);
            scene.hear("250 OK\r\n", true);
            assert!(scene.waits(2, &same), "it is asked again");
            scene.hear("250 A=0\r\n", false);
            assert_eq!(scene.keeper.judge_lease(2, &same), Ok(true));
        }
        scene.keeper.handle_lease_answered(2);
        scene.hear("250 A=1\r\n", false);
        let told = ["TAKEN A 1 x", "ENDED A 1 x", "TAKEN A 2 x"];
        assert_eq!(scene.leased(), told, "{is_sent}");
        scene.commands();
        scene.keeper.handle_left(2, scene.now);
        assert_eq!(scene.commands(), ["SETCONF A=\"0\""], "{is_sent}");
    }
}

#[test]
fn an_option_that_is_leased_no_more_ends_with_its_lease() {
    let mut scene = Scene::with_leases();
    scene.change(1, "A", "0", "1");
    scene.commands();
    scene.keeper.set_leases(&["B".to_owned()]);
    assert_eq!(scene.leased(), ["TAKEN A 1 x", "ENDED A 1 x"]);
    assert!(scene.commands().is_empty() && scene.keeper.leases().is_empty());
}
