//! What happens while Tor has not answered yet, or not at all.

use super::*;

impl Scene {
    /// `ADD_ONION` with these words, which Tor is asked for.
    fn add(&mut self, asker: &Asker, words: &str) -> Outcome {
        let (fields, now) = (add(&format!("ED25519-V3:{KEY} {words}")), self.now);
        self.keeper
            .handle_add(asker.clone(), fields, 32, now, &mut |_| Ok(()))
    }

    fn delete(&mut self, asker: &Asker) -> Outcome {
        let (owner, onion) = (asker.owner.clone(), Onion::parse(ID.as_bytes()).unwrap());
        let asker = Some(asker.clone());
        self.keeper
            .handle_delete(asker, Some(&owner), &onion, &mut |_| Ok(()))
    }

    fn key(&self) -> ClientKey {
        let kept = self.keeper.items.iter();
        let mut keys = kept.filter_map(|kept| match &kept.what {
            What::Key(key) => Some(key.clone()),
            _ => None,
        });
        keys.next().unwrap()
    }

    fn note(&mut self, asker: Option<&Asker>, fields: &Fields) {
        let note = self.keeper.note(fields).unwrap();
        self.keeper
            .handle_noted(note, asker, b"250 OK\r\n", self.now);
    }

    /// The keeper's connection ends, and is made anew.
    fn breaks(&mut self) {
        self.keeper.handle_gone(self.now);
        self.pass(GLANCE);
        self.keeper.handle_open(true);
    }

    #[track_caller]
    fn is_there(&self) {
        let (_, service) = self.keeper.services().next().unwrap();
        let kept = self.keeper.services().next().unwrap().0;
        assert_eq!(kept.state, State::There, "{service:?}");
    }
}

const GONE: &[u8] = b"250 OK\r\n";
const COLLISION_LINE: &str = "550 Onion address collision\r\n";

#[test]
fn what_tor_takes_after_its_owner_has_left_goes_too() {
    let mut scene = Scene::new();
    let asker = scene.asker(100);
    scene.keeper.handle_left(100, scene.now);
    let note = scene.keeper.note(&Fields::MapAddress(Vec::new())).unwrap();
    let now = scene.now;
    scene
        .keeper
        .handle_noted(note, Some(&asker), b"250 a=b\r\n", now);
    assert_eq!(scene.keeper.poll_timeout(), Some(now + MINUTE));
    scene.pass(MINUTE);
    assert!(scene.keeper.is_idle());
}

#[test]
fn a_service_that_is_deleted_while_it_is_tried_again_does_not_stay_in_tor() {
    let mut scene = Scene::new();
    let asker = scene.fill();
    scene.breaks();
    let commands = scene.commands();
    scene.answer(&commands[..2]);
    scene.hear("551 Failed\r\n", true);
    scene.pass(Duration::from_secs(1));
    assert!(scene.commands()[0].starts_with("ADD_ONION "));
    assert_eq!(scene.delete(&asker), Outcome::Later);
    assert_eq!(scene.commands(), [format!("DEL_ONION {ID}")]);
    scene.hear(&format!("250-ServiceID={ID}\r\n250 OK\r\n"), true);
    scene.hear("250 OK\r\n", false);
    assert_eq!(scene.keeper.services().count(), 0);
    let reply = Output::Reply(asker, GONE.to_vec());
    assert!(scene.outputs().contains(&reply));
}

#[test]
fn a_service_is_taken_up_while_tor_is_asked_for_it() {
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_left(100, scene.now);
    scene.breaks();
    let commands = scene.commands();
    are_all(&commands);
    let asker = scene.asker(101);
    assert_eq!(scene.add(&asker, "Port=80"), Outcome::Later);
    let more = scene.commands();
    assert_eq!(more[0], format!("DEL_ONION {ID}"), "Tor may have it by now");
    scene.answer(&commands);
    scene.answer(&more);
    let reply = format!("250-ServiceID={ID}\r\n250 OK\r\n").into_bytes();
    assert!(scene.outputs().contains(&Output::Reply(asker, reply)));
    scene.is_there();
    scene.pass(MINUTE);
    assert_eq!(scene.commands(), [""; 0]);
    // Before it is asked for, it is asked for once.
    let asker = scene.asker(102);
    scene.keeper.handle_left(101, scene.now);
    scene.keeper.handle_gone(scene.now);
    assert_eq!(scene.add(&asker, "Port=81"), Outcome::Later);
    scene.pass(GLANCE);
    scene.keeper.handle_open(true);
    let commands = scene.commands();
    let added = commands
        .iter()
        .filter(|command| command.starts_with("ADD_ONION"));
    assert_eq!(added.count(), 1, "{commands:?}");
    scene.answer(&commands);
    scene.is_there();
}

#[test]
fn a_service_that_collides_with_itself_is_taken_up() {
    let mut scene = Scene::new();
    scene.fill();
    scene.breaks();
    let commands = scene.commands();
    scene.answer(&commands[..2]);
    scene.hear(COLLISION_LINE, true);
    scene.keeper.handle_left(100, scene.now);
    let asker = scene.asker(101);
    assert_eq!(scene.add(&asker, "Port=80"), Outcome::Later);
    let commands = scene.commands();
    assert_eq!(commands[0], format!("DEL_ONION {ID}"));
    scene.answer(&commands);
    scene.is_there();
}

#[test]
fn a_service_that_is_deleted_while_it_is_replaced_is_not_put_back() {
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_left(100, scene.now);
    let asker = scene.asker(101);
    assert_eq!(scene.add(&asker, "Port=81"), Outcome::Later);
    assert_eq!(scene.delete(&asker), Outcome::Later);
    let commands = scene.commands();
    scene.answer(&commands[..1]);
    scene.hear("512 No\r\n", true);
    assert_eq!(scene.commands(), [""; 0]);
    scene.hear("552 Unknown Onion Service id\r\n", false);
    let reply = Output::Reply(asker, GONE.to_vec());
    assert!(scene.outputs().contains(&reply), "it was its owner's");
    assert_eq!(scene.keeper.services().count(), 0);
}

#[test]
fn a_service_that_tors_end_keeps_from_being_replaced_waits_again() {
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_left(100, scene.now);
    let asker = scene.asker(101);
    assert_eq!(scene.add(&asker, "Port=81"), Outcome::Later);
    scene.keeper.handle_tor_gone("x", scene.now);
    scene.keeper.handle_left(101, scene.now);
    scene.pass(MINUTE);
    assert!(scene.keeper.is_idle());
}

#[test]
fn nobody_waits_for_a_tor_that_is_away() {
    let mut scene = Scene::new();
    let asker = scene.fill();
    scene.keeper.handle_tor_gone("x", scene.now);
    let refused = Outcome::Reply(b"551 Tor is not reachable: it is away\r\n".to_vec());
    let other = scene.asker(200);
    for asker in [&asker, &other] {
        assert_eq!(scene.add(asker, "Port=80"), refused);
        assert_eq!(scene.delete(asker), refused);
    }
    let fields = add("NEW:BEST Port=80");
    let now = scene.now;
    let outcome = scene
        .keeper
        .handle_add(asker, fields, 32, now, &mut |_| Ok(()));
    assert_eq!(outcome, refused);
    assert_eq!(scene.keeper.services().count(), 1);
    // Nor for one that goes while it is not known whether it has gone.
    let mut scene = Scene::new();
    scene.keeper.handle_gone(scene.now);
    let asker = scene.asker(100);
    assert_eq!(scene.add(&asker, "Port=80"), Outcome::Later);
    scene.now += GLANCE;
    scene.keeper.handle_time(scene.now, false, &mut |_| Ok(()));
    let outputs = scene.outputs();
    assert!(
        outputs.iter().any(|one| matches!(one, Output::Reply(..))),
        "{outputs:?}"
    );
}

#[test]
fn a_tor_that_is_full_is_not_tried_all_the_time_and_nobody_waits_for_it() {
    let mut scene = Scene::new();
    let asker = scene.fill();
    scene.keeper.handle_tor_gone("x", scene.now);
    assert!(scene.up());
    let (begun, mut tries, mut told) = (scene.now, 0, None);
    while scene.now < begun + 10 * MINUTE {
        if scene.keeper.wants_link() {
            tries += 1;
            scene.keeper.handle_gone(scene.now);
        }
        scene.now = scene.keeper.poll_timeout().unwrap();
        scene.pass(Duration::ZERO);
        if !scene.told().is_empty() {
            told.get_or_insert(scene.now);
        }
    }
    assert!(tries < 20, "{tries}");
    assert_eq!(told, Some(begun + HOLD));
    assert!(!scene.keeper.is_restoring());
    scene.keeper.handle_gone(scene.now);
    assert!(matches!(scene.add(&asker, "Port=80"), Outcome::Reply(_)));
    // Once it has room, everything is there.
    scene.pass(MINUTE);
    scene.keeper.handle_open(true);
    let commands = scene.commands();
    are_all(&commands);
    scene.answer(&commands);
    scene.is_there();
}

#[test]
fn it_is_told_that_tor_is_there_when_nothing_is_left_to_restore() {
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_left(100, scene.now);
    scene.keeper.handle_tor_gone("x", scene.now);
    scene.now += MINUTE.saturating_sub(GLANCE / 2);
    assert!(scene.up());
    scene.keeper.handle_gone(scene.now);
    assert!(scene.keeper.is_restoring());
    scene.pass(GLANCE);
    scene.pass(Duration::ZERO);
    assert!(!scene.keeper.is_restoring());
    assert_eq!(scene.told()[0], "READY");
}

#[test]
fn keys_that_are_lost_while_they_are_restored_come_again() {
    for answered in 0..=ALL.len() {
        let mut scene = Scene::new();
        scene.fill();
        scene.keeper.handle_tor_gone("x", scene.now);
        scene.up();
        let commands = scene.commands();
        scene.answer(&commands[..answered]);
        scene.keeper.handle_keys_lost();
        scene.answer(&commands[answered..]);
        let again = scene.commands();
        assert_eq!(again.len(), 1, "{answered}: {again:?}");
        assert!(again[0].starts_with("ONION_CLIENT_AUTH_ADD "), "{again:?}");
    }
    // Also while its owner is away, who finds it when it comes again.
    let mut scene = Scene::new();
    scene.fill();
    scene.keeper.handle_left(100, scene.now);
    scene.keeper.handle_keys_lost();
    assert_eq!(scene.commands().len(), 1);
}

#[test]
fn a_key_that_changes_while_it_is_repaired_is_as_it_was_changed() {
    let mut scene = Scene::new();
    let asker = scene.fill();
    let key = scene.key();
    // Tor can have removed it before it was asked for it again.
    scene.keeper.handle_keys_lost();
    scene.commands();
    scene.note(None, &Fields::ClientAuthRemove(key.onion.clone()));
    assert_eq!(scene.commands(), [format!("ONION_CLIENT_AUTH_REMOVE {ID}")]);
    for permanent in [false, true] {
        let mut scene = Scene::new();
        scene.fill();
        scene.keeper.handle_keys_lost();
        scene.commands();
        let other = ClientKey {
            key: b"other".to_vec().into(),
            permanent,
            ..key.clone()
        };
        scene.note(Some(&asker), &Fields::ClientAuthAdd(other));
        let again = scene.commands();
        assert!(again[0].contains("other"), "{again:?}");
        assert_eq!(again[0].contains("Permanent"), permanent);
        assert_eq!(scene.keeper.has_keys(), !permanent);
    }
}

#[test]
fn a_change_is_heard_of_before_the_first_key_is_there() {
    let scene = Scene::new();
    assert!(scene.keeper.note(&Fields::SetConf(Vec::new())).is_some());
}

#[test]
fn who_waits_longest_stays_if_the_new_one_cannot_be_stored() {
    let mut scene = Scene::new();
    scene.keeper.handle_store(b"", scene.now).unwrap();
    scene.fill();
    scene.keeper.handle_left(100, scene.now);
    let asker = scene.asker(101);
    let (fields, now) = (add("NEW:BEST Port=80"), scene.now);
    scene
        .keeper
        .handle_add(asker, fields, 1, now, &mut |_| Ok(()));
    scene.commands();
    scene.disk_is_full = true;
    let other = "a".repeat(56);
    let reply = format!("250-ServiceID={other}\r\n250-PrivateKey=ED25519-V3:{KEY}\r\n250 OK\r\n");
    scene.hear(&reply, true);
    assert_eq!(scene.commands(), [format!("DEL_ONION {other}")]);
    scene.is_there();
    let stored = scene.keeper.services().filter(|(kept, _)| !kept.is_leaving);
    assert_eq!(stored.count(), 1);
}
