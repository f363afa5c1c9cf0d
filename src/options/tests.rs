//! The options as the rest of the daemon meets them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

fn defaults() -> Defaults {
    Defaults {
        socket: "/run/onionbus/control".into(),
        state_directory: "/var/lib/onionbus".into(),
    }
}

/// Options from a file of this text and these overrides.
fn options(text: &str, overrides: &[&str]) -> (tempfile::TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("onionbus.conf");
    fs::write(&path, text).unwrap();
    let overrides: Vec<_> = overrides.iter().map(|o| o.as_bytes().to_vec()).collect();
    let options = Options::load(Some(&path), &overrides, defaults()).unwrap();
    (dir, options)
}

fn bare() -> Options {
    Options::load(None, &[], defaults()).unwrap()
}

/// `name=value`, or `name` alone.
fn assignments(words: &[&str]) -> Vec<Setting> {
    let assignment = |word: &&str| match word.split_once('=') {
        Some((name, value)) => Setting {
            name: name.into(),
            value: Some(value.into()),
        },
        None => Setting {
            name: (*word).into(),
            value: None,
        },
    };
    words.iter().map(assignment).collect()
}

fn set(options: &Options, words: &[&str]) -> Result<Change, OptionError> {
    options.set(&assignments(words))
}

fn refusal(options: &Options, words: &[&str]) -> String {
    set(options, words).unwrap_err().to_string()
}

fn get(options: &Options, name: &str) -> Vec<String> {
    let values = options.get(name.as_bytes()).unwrap();
    let line = |(name, value): &crate::wire::reply::OptionValue| {
        let value = String::from_utf8(value.clone().unwrap()).unwrap();
        format!("{name}={value}")
    };
    values.iter().map(line).collect()
}

/// `name=value,value` for each option that a change changes.
fn changed(change: &Change) -> Vec<String> {
    let line = |changed: &Changed| {
        let values: Vec<_> = changed
            .values
            .iter()
            .map(|v| String::from_utf8_lossy(v))
            .collect();
        format!("{}={}", changed.name, values.join(","))
    };
    change.changed.iter().map(line).collect()
}

#[test]
fn nobody_sets_anything() {
    let options = bare();
    assert_eq!(
        *options.settings(),
        Settings {
            sockets: vec![SocketSpec::at("/run/onionbus/control")],
            state_directory: "/var/lib/onionbus".into(),
            user: None,
            confine: true,
            cookie_authentication: false,
            hashed_passwords: Vec::new(),
            history: 100,
            max_message_length: 65_536,
            max_queue: 16 << 20,
            max_memory: 256 << 20,
            max_memory_per_user: 0,
            max_controllers: 16_384,
            max_controllers_per_user: 12_288,
            bandwidth_interval: Duration::from_secs(1),
            log: LevelFilter::Info,
            policy: Vec::new(),
            audit: None,
            audit_required: false,
            protected_ports: vec![8332, 18332, 18443, 10009],
            tor: None,
            tor_password: Vec::new(),
            tor_allow_cookie: false,
            login_timeout: Duration::from_secs(30),
            tor_timeout: Duration::from_secs(30),
            keep_controllers: false,
            keep_onions: Duration::ZERO,
            lease: Vec::new(),
            max_onions: 32,
            onion_store: PathBuf::new(),
        }
    );
    assert_eq!(options.file(), None);
    assert_eq!(options.config_text(), b"");
    assert_eq!(
        get(&options, "bussocket"),
        ["BusSocket=/run/onionbus/control"]
    );
    assert_eq!(get(&options, "BUSMAXQUEUE"), ["BusMaxQueue=16777216"]);
    assert_eq!(options.get(b"SocksPort"), None);
}

#[test]
fn everything_is_set() {
    let (_dir, options) = options(
        "BusSocket /a Mode=0660\nBusSocket fd:b Protocol=tc\nBusStateDirectory /s\n\
         BusUser one\nBusConfine 0\n\
         BusCookieAuthentication 1\nBusHistory 1\nBusMaxMessageLength 2\nBusMaxQueue 256 KB\n\
         BusMaxMemory 64 MB\nBusMaxMemoryPerUser 16 MB\n\
         BusMaxControllers 3\nBusMaxControllersPerUser 4\nBusBandwidthInterval 5 minutes\n\
         BusLog err\nBusTorTimeout 2 minutes\nBusPolicy /p\nBusPolicy /q\n\
         BusAudit /audit\nBusAuditRequired 1\nBusProtectedPorts 1, 22\n",
        &[],
    );
    let settings = options.settings();
    assert_eq!(
        *settings,
        Settings {
            sockets: settings.sockets.clone(),
            state_directory: "/s".into(),
            user: Some("one".into()),
            confine: false,
            cookie_authentication: true,
            hashed_passwords: Vec::new(),
            history: 1,
            max_message_length: 2,
            max_queue: 256 << 10,
            max_memory: 64 << 20,
            max_memory_per_user: 16 << 20,
            max_controllers: 3,
            max_controllers_per_user: 4,
            bandwidth_interval: Duration::from_secs(5 * 60),
            log: LevelFilter::Error,
            policy: vec!["/p".into(), "/q".into()],
            audit: Some("/audit".into()),
            audit_required: true,
            protected_ports: vec![1, 22],
            tor: None,
            tor_password: Vec::new(),
            tor_allow_cookie: false,
            login_timeout: Duration::from_secs(30),
            tor_timeout: Duration::from_secs(2 * 60),
            keep_controllers: false,
            keep_onions: Duration::ZERO,
            lease: Vec::new(),
            max_onions: 32,
            onion_store: PathBuf::new(),
        }
    );
    assert_eq!(settings.sockets.len(), 2);
    assert_eq!(
        get(&options, "BusSocket"),
        ["BusSocket=/a Mode=0660", "BusSocket=fd:b Protocol=tc"]
    );
    // What GETINFO config-text says can be sent back with LOADCONF.
    let change = options.load_text(&options.config_text()).unwrap();
    assert!(change.changed.is_empty());
    assert_eq!(change.options.settings(), settings);
}

#[test]
fn the_command_line_is_above_the_file() {
    let (_dir, options) = options(
        "BusSocket /a\nBusSocket /b\nBusHistory 1\nBusLog warn\n",
        &["BusSocket /c", "BusHistory 2", "BusLog"],
    );
    assert_eq!(get(&options, "BusSocket"), ["BusSocket=/c"]);
    assert_eq!(options.settings().history, 2);
    assert_eq!(options.settings().log, LevelFilter::Info);
}

#[test]
fn a_start_tells_all_that_is_wrong_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("onionbus.conf");
    fs::write(&path, "Foo 1\nBusSocket /a Mode=9\n").unwrap();
    let overrides = [b"BusHistory -1".to_vec()];
    let problems = Options::load(Some(&path), &overrides, defaults()).unwrap_err();
    let text = problems
        .to_string()
        .replace(&*path.to_string_lossy(), "FILE");
    assert_eq!(
        text,
        "FILE:1: Unknown option 'Foo'; onionbus.conf(5) lists all options\n\
         FILE:2: BusSocket cannot be '/a Mode=9': Mode= cannot be '9': it takes an octal number \
         up to 0777, such as 0660\n\
         on the command line: BusHistory cannot be '-1': it takes an integer from 0 to 10000"
    );
    let problems = Options::load(None, &overrides, defaults()).unwrap_err();
    assert_eq!(problems.0.len(), 1);
}

#[test]
fn set_gives_what_differs() {
    let options = bare();
    let change = set(
        &options,
        &["bushistory=7", "BusMaxQueue=16 MB", "BusLog=warn"],
    )
    .unwrap();
    assert_eq!(changed(&change), ["BusHistory=7", "BusLog=warn"]);
    assert_eq!(change.options.settings().history, 7);
    assert_eq!(options.settings().history, 100, "not yet in force");

    let change = set(&change.options, &["BusHistory"]).unwrap();
    assert_eq!(changed(&change), ["BusHistory="]);
    assert_eq!(change.options.settings().history, 100);
    assert_eq!(change.options.settings().log, LevelFilter::Warn);

    let assignments = assignments(&["BusLog=", "BusHistory=8"]);
    let change = change.options.reset(&assignments).unwrap();
    assert_eq!(changed(&change), ["BusHistory=8", "BusLog="]);
    assert!(set(&change.options, &[]).unwrap().changed.is_empty());
}

#[test]
fn the_time_for_tor_is_a_second_at_least_and_an_hour_at_most() {
    for (value, seconds) in [("1", 1), ("1 hour", 3600), ("45 seconds", 45)] {
        let change = set(&bare(), &[&format!("BusTorTimeout={value}")]).unwrap();
        let timeout = change.options.settings().tor_timeout;
        assert_eq!(timeout, Duration::from_secs(seconds), "{value}");
    }
    for value in ["0", "3601", "2 hours", "-1", "soon"] {
        assert_eq!(
            refusal(&bare(), &[&format!("BusTorTimeout={value}")]),
            format!(
                "Unacceptable option value: BusTorTimeout cannot be '{value}': it takes a time \
                 from 1 to 3600 seconds, such as 30 or 5 minutes"
            )
        );
    }
}

#[test]
fn the_last_of_several_values_counts() {
    let change = set(&bare(), &["BusHistory=7", "BUSHISTORY=8"]).unwrap();
    assert_eq!(changed(&change), ["BusHistory=8"]);
    assert!(set(&bare(), &["BusHistory=x", "BusHistory=8"]).is_err());
}

#[test]
fn a_refusal_says_why_in_words_of_tor_and_changes_nothing() {
    let options = bare();
    assert_eq!(
        refusal(&options, &["BusHistory=7", "Foo=1"]),
        "Unrecognized option: Unknown option 'Foo'.  Failing."
    );
    assert_eq!(
        refusal(&options, &["BusHistory=10001"]),
        "Unacceptable option value: BusHistory cannot be '10001': it takes an integer from 0 to \
         10000"
    );
    assert_eq!(
        refusal(&options, &["BusSocket=/other"]),
        "Transition not allowed: While onionbus is running, changing BusSocket is not allowed"
    );
    assert_eq!(
        refusal(&options, &["a\r\n250 OK=1"]),
        "Unrecognized option: Unknown option 'a\\r\\n250 OK'.  Failing."
    );
    assert_eq!(
        refusal(&options, &["BusLog=\u{0}\n"]),
        "Unacceptable option value: BusLog cannot be '\\x00': it takes debug, info, notice, warn \
         or err"
    );
}

#[test]
fn what_changes_only_at_a_start_may_be_set_to_what_it_is() {
    let options = bare();
    let same = [
        "BusSocket=/run/onionbus/control mode=0600",
        "BusStateDirectory=/var/lib/onionbus",
        "BusCookieAuthentication=0",
    ];
    assert!(set(&options, &same).unwrap().changed.is_empty());
    for other in [
        "BusStateDirectory=/x",
        "BusCookieAuthentication=1",
        "BusSocket=/run/onionbus/control Mode=0660",
        "BusUser=nobody",
        "BusConfine=0",
        "BusTor=unix:/run/tor/control",
        "BusTorPassword=x",
        "BusPolicy=/x",
        "BusAudit=/x",
        "BusAuditRequired=1",
    ] {
        assert!(
            matches!(set(&options, &[other]), Err(OptionError::Frozen(_))),
            "{other}"
        );
    }
    let at_start = TABLE
        .iter()
        .filter(|spec| spec.change == Changeable::AtStart);
    let names: Vec<_> = at_start.map(|spec| spec.name).collect();
    assert_eq!(
        names,
        [
            "BusSocket",
            "BusStateDirectory",
            "BusUser",
            "BusConfine",
            "BusCookieAuthentication",
            "BusHashedPassword",
            "BusAudit",
            "BusTor",
            "BusTorPassword",
            "BusTorAllowCookie",
            "BusOnionStore"
        ]
    );
}

#[test]
fn a_reload_takes_other_places_of_the_policy() {
    let (_dir, options) = options("BusPolicy /a\n", &[]);
    std::fs::write(options.file().unwrap(), "BusPolicy /b\nBusPolicy /a\n").unwrap();
    let change = options.reload().unwrap();
    assert_eq!(changed(&change), ["BusPolicy=/b,/a"]);
    std::fs::write(options.file().unwrap(), "BusTor 9051\n").unwrap();
    assert!(options.reload().is_err());
    let unset = vec![("BusPolicy".into(), None)];
    assert_eq!(bare().get(b"BusPolicy"), Some(unset));
}

#[test]
fn loadconf_takes_the_place_of_the_file() {
    let (_dir, options) = options("BusHistory 1\nBusLog warn\n", &["BusMaxControllers 5"]);
    let options = set(&options, &["BusMaxQueue=1 MB"]).unwrap().options;
    let change = options.load_text(b"# new\r\nBusHistory 2\r\n").unwrap();
    assert_eq!(
        changed(&change),
        ["BusHistory=2", "BusMaxQueue=", "BusLog="]
    );
    assert_eq!(change.options.settings().max_controllers, 5);

    let refusal = |text: &str| options.load_text(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(
        refusal("BusHistory 2\nFoo 1\n"),
        "Invalid config file: Failed to parse/validate config: Unknown option 'Foo'.  Failing."
    );
    assert_eq!(
        refusal("BusLog x"),
        "Invalid config file: Failed to parse/validate config: BusLog cannot be 'x': it takes \
         debug, info, notice, warn or err"
    );
    assert_eq!(
        refusal("BusLog \"x"),
        "Invalid config file: Failed to parse/validate config: line 1: a value begins with '\"' \
         but has no closing '\"'"
    );
    assert_eq!(
        refusal("%include /etc/shadow"),
        "Invalid config file: Failed to parse/validate config: line 1: %include works only in \
         the file itself"
    );
    assert_eq!(
        refusal("BusSocket /x"),
        "Transition not allowed: Failed to parse/validate config: While onionbus is running, \
         changing BusSocket is not allowed"
    );
}

#[test]
fn reload_reads_the_file_again_below_the_command_line() {
    let (_dir, options) = options("BusHistory 1\nBusLog warn\n", &["BusHistory 2"]);
    let options = set(&options, &["BusHistory=3", "BusMaxControllers=9"])
        .unwrap()
        .options;
    fs::write(options.file().unwrap(), "BusHistory 4\nBusLog err\n").unwrap();
    let change = options.reload().unwrap();
    assert_eq!(
        changed(&change),
        ["BusHistory=2", "BusMaxControllers=", "BusLog=err"]
    );
}

#[test]
fn reload_refuses_what_is_wrong_or_needs_a_start() {
    let (_dir, options) = options("", &[]);
    let path = options.file().unwrap().to_owned();
    let refusal = || {
        let text = options.reload().unwrap_err().to_string();
        text.replace(&*path.to_string_lossy(), "FILE")
    };
    fs::write(&path, "BusHistory 5\nBusLog x\n").unwrap();
    assert_eq!(
        refusal(),
        "FILE:2: BusLog cannot be 'x': it takes debug, info, notice, warn or err"
    );
    fs::write(&path, "BusHistory 5\nBusSocket /x\n").unwrap();
    assert_eq!(
        refusal(),
        "FILE: While onionbus is running, changing BusSocket is not allowed; nothing was \
         changed, restart it for that"
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(
        refusal(),
        "FILE: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn reload_without_a_file_goes_back_to_the_command_line() {
    let options = Options::load(None, &[b"BusHistory 2".to_vec()], defaults()).unwrap();
    let options = set(&options, &["BusHistory=3", "BusLog=err"])
        .unwrap()
        .options;
    assert_eq!(
        changed(&options.reload().unwrap()),
        ["BusHistory=2", "BusLog="]
    );
}

#[test]
fn save_writes_what_is_in_force() {
    let (_dir, options) = options("# mine\nBusHistory 1\n", &["BusLog warn"]);
    let options = set(&options, &["BusHistory=2"]).unwrap().options;
    options.save(false).unwrap();
    let path = options.file().unwrap();
    assert_eq!(
        fs::read(path).unwrap(),
        b"# mine\nBusHistory 2\nBusLog warn\n"
    );
    let again = Options::load(Some(path), &[], defaults()).unwrap();
    assert_eq!(again.settings(), options.settings());
    assert_eq!(
        bare().save(true).unwrap_err().to_string(),
        "Unable to write configuration to disk: onionbus was started without --config"
    );
}

#[test]
fn save_with_includes_needs_force_until_they_are_merged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("onionbus.conf");
    fs::write(dir.path().join("more"), "BusHistory 3\n").unwrap();
    fs::write(&path, "%include more\nBusLog err\n").unwrap();
    let options = Options::load(Some(&path), &[], defaults()).unwrap();
    assert!(matches!(options.save(false), Err(SaveError::Included(_))));
    options.save(true).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"BusLog err\nBusHistory 3\n");
    let change = options.reload().unwrap();
    assert!(change.changed.is_empty());
    change.options.save(false).unwrap();
}

#[test]
fn a_password_is_saved_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("onionbus.conf");
    fs::write(&path, "BusTorPassword secret\n").unwrap();
    let options = Options::load(Some(&path), &[], defaults()).unwrap();
    assert_eq!(options.settings().tor_password, b"secret");
    let shown = options.get(b"BusTorPassword").unwrap();
    assert_eq!(
        shown,
        [("BusTorPassword".into(), Some(b"(hidden)".to_vec()))]
    );
    assert_eq!(options.config_text(), b"BusTorPassword (hidden)\n");
    options.save(false).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"BusTorPassword secret\n");
}

/// The command line's part is saved too, so the file may have had none before.
#[test]
fn a_secret_is_saved_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("onionbus.conf");
    for (overrides, mode) in [
        (&["BusTorPassword secret"][..], 0o600),
        (&["BusTorPassword file:/secret"][..], 0o644),
        (&[][..], 0o644),
    ] {
        fs::write(&path, "BusHistory 3\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let overrides: Vec<_> = overrides
            .iter()
            .map(|line| line.as_bytes().to_vec())
            .collect();
        let options = Options::load(Some(&path), &overrides, defaults()).unwrap();
        options.save(false).unwrap();
        let found = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, mode, "{overrides:?}");
    }
}

#[test]
fn secrets_that_others_can_read_are_found_in_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("onionbus.conf");
    let included = dir.path().join("more");
    let text = "# x\nbustorpassword one\n%include more\nBusTorPassword file:/x\nBusTorPassword\n";
    fs::write(&path, text).unwrap();
    fs::write(&included, "BusHistory 1\nBusTorPassword two\n").unwrap();
    let options = Options::load(Some(&path), &[], defaults()).unwrap();
    let mode = |path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    for (of_file, of_included, lines) in [
        (0o600, 0o600, &[][..]),
        (0o640, 0o600, &["onionbus.conf:2: "][..]),
        (0o600, 0o604, &["more:2: "][..]),
        (0o644, 0o666, &["onionbus.conf:2: ", "more:2: "][..]),
    ] {
        mode(&path, of_file);
        mode(&included, of_included);
        let found: Vec<_> = options.exposed().iter().map(Problem::to_string).collect();
        assert_eq!(found.len(), lines.len(), "{found:?}");
        for (problem, line) in found.iter().zip(lines) {
            let line = dir.path().join(line).display().to_string();
            assert!(problem.starts_with(&line), "{problem}");
            let advice = problem.contains("chmod 600") && problem.contains("BusTorPassword");
            assert!(advice && !problem.contains("one"), "{problem}");
        }
    }
}

#[test]
fn names_and_defaults_are_listed_as_tor_lists_them() {
    let names = String::from_utf8(Options::names()).unwrap();
    assert!(names.starts_with("BusSocket LineList\nBusStateDirectory Filename\n"));
    assert!(names.contains("\nBusHistory Integer\n"));
    assert_eq!(names.lines().count(), TABLE.len());
    let defaults = String::from_utf8(bare().defaults_text()).unwrap();
    assert!(defaults.starts_with("BusSocket \"/run/onionbus/control\"\n"));
    assert!(defaults.contains("\nBusMaxQueue \"16 MB\"\n"));
    assert!(defaults.ends_with("\nBusLog \"notice\"\n"));
}
