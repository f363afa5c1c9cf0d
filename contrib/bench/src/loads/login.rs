//! From connect to the first reply of Tor, again and again.

use std::io::Write as _;
use std::time::Instant;

use anyhow::Result;

use super::relay::{WAYS, way};
use super::{Case, Figure, Scale, alone, figure, median, percentile};
use crate::peers::{Running, ask, connect, take, tor};

/// One controller after the other.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let logins = scale.of(2000, 20);
    WAYS.into_iter()
        .map(|server| {
            let program = scale.onionbus.clone();
            Case {
                load: "login",
                variant: "connect, AUTHENTICATE, GETINFO version".into(),
                server,
                start: alone(move || log_in(&way(server, &program, tor()?)?, logins)),
            }
        })
        .collect()
}

fn log_in(running: &Running, logins: usize) -> Result<Vec<Figure>> {
    let reply = super::relay::reply(&running.socket, b"GETINFO version\r\n")?;
    let mut times = Vec::with_capacity(logins);
    for _ in 0..logins {
        let begun = Instant::now();
        let mut stream = connect(&running.socket)?;
        ask(&mut stream, b"AUTHENTICATE\r\n", b"250 OK\r\n")?;
        stream.write_all(b"GETINFO version\r\n")?;
        take(&mut stream, &reply)?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(vec![
        figure("first reply after", "us", median(&mut times)),
        figure(
            "first reply after (p99)",
            "us",
            percentile(&mut times, 0.99),
        ),
    ])
}
