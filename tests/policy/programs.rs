//! Programs as they are, with the profile that is made for them.

use std::process::Command;

use crate::people::{ALICE, has_people, place, serve};
use crate::support::{python_with, run};
use crate::tor::{Home, has_tor};

const WATCH: &str = "
import sys, time, stem.control
c = stem.control.Controller.from_socket_file(sys.argv[1])
c.authenticate()
print('version', str(c.get_version()).startswith('0.'))
print('listeners', len(c.get_info('net/listeners/control')) > 0)
print('streams', c.get_info('stream-status') == '')
def tried(what):
    try:
        what()
        return 'done'
    except stem.ControllerError as e:
        return str(e)
print(tried(lambda: c.set_conf('ContactInfo', 'x')))
print(tried(lambda: c.signal('HALT')))
print(tried(lambda: c.get_conf('HashedControlPassword')))
print(tried(lambda: c.create_ephemeral_hidden_service({80: 17600})))
events = []
c.add_event_listener(events.append, 'BW')
while not events:
    time.sleep(0.01)
print('bandwidth')
c.close()
";

#[test]
fn stem_watches_and_may_change_nothing() {
    let Some(python) = python_with("stem") else {
        return;
    };
    if !has_people() || !has_tor() {
        return;
    }
    let home = Home::new();
    let _tor = home.start();
    let policy = format!("Profile a\nMatch user={ALICE}\nUse monitor\n");
    let place = place(&policy, &format!("BusTor {}", home.address()));
    let daemon = serve(&place).ready();
    daemon.logs("is there, at");
    let user = ALICE.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
    command
        .args([python, "-c", WATCH])
        .arg(place.socket())
        .current_dir("/");
    let said = run(&mut command);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[..3],
        ["version True", "listeners True", "streams True"],
        "{said}"
    );
    for (line, part) in lines[3..].iter().zip([
        "Unknown option 'ContactInfo'",
        "Unrecognized signal code \"HALT\"",
        "unrecognized",
        "Command filtered (a)",
        "bandwidth",
    ]) {
        assert!(line.contains(part), "{part}: {said}");
    }
}
