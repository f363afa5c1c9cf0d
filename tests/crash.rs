//! What a crash, a restart and a full disk may not do: use a `MessageID` twice, or spoil a file.

mod support;

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use support::{Controller, Daemon, Place, can, eventually, is_root};

/// Posts without end and returns the ids that came back, until the daemon is killed.
fn ids_until_killed(daemon: &mut Daemon, at_least: usize) -> Vec<u64> {
    let mut reader = daemon.connect();
    reader.ok("SETEVENTS POSTMESSAGE");
    let poster = daemon.connect();
    thread::scope(|scope| {
        scope.spawn(move || {
            let flood = "POSTMESSAGE @all x\r\n".repeat(500);
            while poster.stream().write_all(flood.as_bytes()).is_ok() {
                let mut replies = vec![0; "250 OK\r\n".len() * 500];
                if poster.stream().read_exact(&mut replies).is_err() {
                    break;
                }
            }
        });
        let mut ids: Vec<u64> = (0..at_least).map(|_| reader.next_message().0).collect();
        daemon.kill();
        let rest = reader.rest();
        // The last line may be half.
        for line in String::from_utf8(rest)
            .expect("ASCII")
            .split_inclusive("\r\n")
        {
            if let Some(line) = line.strip_suffix("\r\n") {
                ids.push(
                    line.split(' ')
                        .nth(2)
                        .expect("an id")
                        .parse()
                        .expect("a number"),
                );
            }
        }
        ids
    })
}

#[test]
fn ids_ascend_over_crashes_in_a_flood() {
    let place = Place::new();
    let mut last = 0;
    // The first rounds end within a block of reserved ids, the last goes over its end.
    for at_least in [1, 700, 10_000, 1, 70_000, 1] {
        let ids = ids_until_killed(&mut place.daemon(), at_least);
        assert!(ids[0] > last, "{} after {last}", ids[0]);
        assert!(ids.windows(2).all(|pair| pair[0] + 1 == pair[1]));
        last = ids[ids.len() - 1];
    }
}

#[test]
fn the_next_id_after_a_clean_end_is_the_next_number() {
    let place = Place::new();
    for id in 1..=5 {
        let mut daemon = place.daemon();
        let mut controller = daemon.connect();
        controller.ok("SETEVENTS POSTMESSAGE");
        controller.ok("POSTMESSAGE @all x");
        assert_eq!(controller.next_message().0, id);
        daemon.stop();
    }
}

/// Cleaners of temporary directories do that, and people do.
#[test]
fn a_state_directory_that_is_removed_is_no_reason_to_use_an_id_twice() {
    let place = Place::new();
    let state = place.path("state");
    // A confined daemon makes no directories.
    let open = || place.serve().set("BusConfine 0");
    let start = || open().set("BusCookieAuthentication 1");
    let mut last = 0;
    let removals: [&dyn Fn() -> io::Result<()>; 3] = [
        &|| fs::remove_dir_all(&state),
        &|| fs::rename(&state, place.path("moved")),
        &|| fs::remove_file(state.join("lock")),
    ];
    for remove in removals {
        let mut daemon = open().ready();
        last = posts(&daemon, last);
        remove().expect("it is ours");
        daemon.logs("the state directory was removed, and is taken again");
        let other = place.path("other");
        let other = place.serve_bare().arg("--socket").arg(other);
        let said = other.state(&state).fails(1);
        assert!(said.contains("is in use by process"), "{said}");
        last = posts(&daemon, last);
        daemon.stop();
    }
    let mut daemon = start().ready();
    let cookie = || fs::read(state.join("control_auth_cookie"));
    let before = cookie().expect("it is required");
    fs::remove_dir_all(&state).expect("it is ours");
    daemon.logs("the state directory was removed, and is taken again");
    assert_eq!(cookie().expect("it is required"), before);
    daemon.stop();
    posts(&place.daemon(), last);
}

/// Posts a message, and returns its id, which is the next after `last`.
#[track_caller]
fn posts(daemon: &Daemon, last: u64) -> u64 {
    let mut controller = daemon.connect();
    controller.ok("SETEVENTS POSTMESSAGE");
    controller.ok("POSTMESSAGE @all x");
    let id = controller.next_message().0;
    assert_eq!(id, last + 1);
    id
}

/// Whoever could write there before could leave a link for the next start.
#[test]
fn no_link_in_the_state_directory_is_followed() {
    let place = Place::new();
    let state = place.path("state");
    fs::create_dir(&state).expect("it is new");
    let precious = place.file("precious", "as it was");
    symlink(&precious, state.join("lock")).expect("it is new");
    let said = place.serve().fails(1);
    let link = state.join("lock").display().to_string();
    let advice = format!("{link} is no plain file that is only there: remove it");
    assert!(said.contains(&advice), "{said}");
    let text = fs::read_to_string(&precious).expect("it is there");
    assert_eq!(text, "as it was");
}

#[test]
fn a_state_directory_in_the_hands_of_others_is_refused() {
    let place = Place::new();
    let state = place.path("state");
    fs::create_dir(&state).expect("it is new");
    for mode in [0o770, 0o1777] {
        fs::set_permissions(&state, Permissions::from_mode(mode)).expect("it is ours");
        let said = place.serve().fails(1);
        let advice = format!("run 'chmod go-w {}'", state.display());
        assert!(said.contains(&advice), "{said}");
        assert_eq!(fs::read_dir(&state).expect("it is ours").count(), 0);
    }
    fs::set_permissions(&state, Permissions::from_mode(0o755)).expect("it is ours");
    if is_root() {
        chown(&state, Some(64_321), None).expect("we are root");
        let said = place.serve().fails(1);
        assert!(said.contains("belongs to uid 64321"), "{said}");
    }
}

/// An option file of some length that says everything, so that saving changes one value only.
fn options(place: &Place, state: &Path, history: usize) -> String {
    let (socket, state) = (place.socket(), state.display());
    let comments = "# what must stay\n".repeat(2000);
    format!(
        "BusHistory {history}\n{comments}BusSocket {}\nBusStateDirectory {state}\n",
        socket.display()
    )
}

#[test]
fn the_option_file_is_whole_whenever_the_daemon_is_killed() {
    let place = Place::new();
    let whole = |history| options(&place, &place.path("state"), history);
    let file = place.file("onionbus.conf", &whole(0));
    for round in 0..20 {
        let mut daemon = place.serve_bare().arg("--config").arg(&file).ready();
        let controller = daemon.connect();
        thread::scope(|scope| {
            scope.spawn(move || {
                for value in 1..10_000 {
                    let commands = format!("SETCONF BusHistory={value}\r\nSAVECONF\r\n");
                    if controller.stream().write_all(commands.as_bytes()).is_err() {
                        break;
                    }
                    if controller.stream().read_exact(&mut [0; 16]).is_err() {
                        break;
                    }
                }
            });
            // Another instant each time: as many reads of the file as the round's number.
            let before = fs::read(&file).expect("it is there");
            eventually("saved", || fs::read(&file).expect("it is there") != before);
            for _ in 0..round * 3 {
                fs::read(&file).expect("it is there at every instant");
            }
            daemon.kill();
        });
        let text = fs::read_to_string(&file).expect("it is there");
        let value = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("BusHistory "));
        let value = value.and_then(|value| value.parse().ok()).expect("a value");
        assert!(text == whole(value), "{value}: {} octets", text.len());
    }
}

/// A daemon that has its option file and its state on a file system of 256 KiB of its own, and the
/// place of that as seen from here. None where the system lets nobody mount one.
fn on_small_disk(place: &Place, text: &str) -> Option<(Daemon, PathBuf)> {
    let disk = place.path("disk");
    fs::create_dir(&disk).expect("it is new");
    let root = nix::unistd::geteuid().is_root();
    // The mount is the daemon's alone, and goes with it.
    let unshare: &[&str] = if root {
        &["unshare", "--mount"]
    } else {
        &["unshare", "--mount", "--map-root-user"]
    };
    let probe = Command::new(unshare[0])
        .args(&unshare[1..])
        .args(["mount", "-t", "tmpfs", "none"])
        .arg(&disk)
        .output();
    if !can(
        "a mount namespace (root, or user namespaces)",
        probe.is_ok_and(|output| output.status.success()),
    ) {
        return None;
    }
    let file = place.file("options", text);
    let script = r#"mount -t tmpfs -o size=256k none "$0" && cp "$1" "$0/onionbus.conf" && shift && exec "$@""#;
    let arguments = [disk.to_str()?, file.to_str()?];
    let under = [unshare, &["sh", "-c", script], &arguments].concat();
    let start = place.serve_bare();
    let start = start.arg("--config").arg(disk.join("onionbus.conf"));
    let daemon = start.looked_into().under(&under).ready();
    let seen = format!("/proc/{}/root{}", daemon.pid(), disk.display());
    Some((daemon, seen.into()))
}

/// Writes until nothing more fits.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("filler");
    let mut file = fs::File::create(&path).expect("there is room for a name");
    let page = [b'x'; 4096];
    let error = (0..1000).find_map(|_| file.write_all(&page).err());
    let error = error.expect("the disk is small");
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    path
}

#[test]
fn a_full_disk_keeps_the_old_option_file() {
    let place = Place::new();
    let state = place.path("disk/state");
    let old = options(&place, &state, 3);
    let Some((daemon, disk)) = on_small_disk(&place, &old) else {
        return;
    };
    let filler = fill(&disk);
    let names = || {
        let entries = fs::read_dir(&disk).expect("it is there");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("a name").file_name())
            .collect();
        names.sort();
        names
    };
    let before = names();
    let mut controller = daemon.connect();
    controller.ok("SETCONF BusHistory=4");
    let reply = controller.ask("SAVECONF");
    assert!(
        reply.starts_with("551 Unable to write configuration to disk"),
        "{reply}"
    );
    assert!(reply.contains("No space left"), "{reply}");
    let file = disk.join("onionbus.conf");
    let text = || fs::read_to_string(&file).expect("it is there");
    assert!(text() == old, "the file has {} octets", text().len());
    assert_eq!(names(), before, "no temporary file stays");

    fs::remove_file(filler).expect("it is ours");
    controller.ok("SAVECONF");
    assert!(
        text() == options(&place, &state, 4),
        "{} octets",
        text().len()
    );
}

#[test]
fn a_full_disk_refuses_messages_until_there_is_room() {
    let place = Place::new();
    let Some((mut daemon, disk)) =
        on_small_disk(&place, &options(&place, &place.path("disk/state"), 3))
    else {
        return;
    };
    let mut controller: Controller = daemon.connect();
    controller.ok("SETEVENTS POSTMESSAGE");
    let filler = fill(&disk);
    for _ in 0..3 {
        let reply = controller.ask("POSTMESSAGE @all lost");
        assert!(
            reply.starts_with("551 Cannot reserve MessageIDs"),
            "{reply}"
        );
    }
    daemon.logs("no message can be posted");
    fs::remove_file(filler).expect("it is ours");
    controller.ok("POSTMESSAGE @all kept");
    assert_eq!(controller.next_message(), (1, "unset @all kept".to_owned()));

    // Reserved ids need no more room.
    fill(&disk);
    controller.ok("POSTMESSAGE @all kept");
    daemon.stop();
}
