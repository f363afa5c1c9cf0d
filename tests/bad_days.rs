//! What controllers do that nobody should, and what the system refuses: the daemon lives on, and
//! nobody else notices.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::{Controller, Place};

/// A command with a reply much longer than itself.
const LONG: &str = "GETINFO info/names\r\n";

#[test]
fn what_was_asked_before_the_end_is_answered_to_the_last_octet() {
    let place = Place::new();
    let daemon = place.daemon();
    let keys = " config/names".repeat(5000);
    for farewell in ["QUIT\r\n", ""] {
        let mut controller = daemon.connect();
        // More than the kernel takes at once: the daemon has to wait for its reader.
        controller.send(format!("GETINFO{keys}\r\n{farewell}"));
        let half = controller.stream().shutdown(Shutdown::Write);
        half.expect("it is connected");
        daemon.connect().ok("GETINFO version");
        let read = String::from_utf8(controller.rest()).expect("ASCII");
        assert!(read.contains("\r\n250 OK\r\n"), "{} octets", read.len());
        assert_eq!(
            read.ends_with("250 closing connection\r\n"),
            !farewell.is_empty()
        );
    }
}

#[test]
fn asking_faster_than_reading_costs_no_memory() {
    let place = Place::new();
    let daemon = place.daemon();
    let mut reader = daemon.connect();
    let mut other = daemon.connect();
    let mut writer = reader.stream().try_clone().expect("a descriptor");
    let before = daemon.memory();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let flood = LONG.repeat(5000);
            while !enough.load(Ordering::Relaxed) && writer.write_all(flood.as_bytes()).is_ok() {}
        });
        let mut buffer = vec![0; 256 << 10];
        for _ in 0..500 {
            reader.read_exact(&mut buffer);
            // Meanwhile the daemon has made as many replies as it wants to.
            for _ in 0..10 {
                other.ok("GETINFO version");
            }
        }
        let grown = daemon.memory().saturating_sub(before);
        enough.store(true, Ordering::Relaxed);
        // Wakes the writer, whose words nobody takes any more.
        let _ = reader.stream().shutdown(Shutdown::Both);
        assert!(grown < 8 * 1024, "{grown} KiB more");
    });
    daemon.connect().ok("GETINFO version");
}
