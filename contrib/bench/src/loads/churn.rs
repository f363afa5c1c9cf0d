//! Ten thousand controllers, a hundred of whom come and go each second: what the others notice.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::directed::controller;
use super::{Case, Figure, Scale, alone, figure, median, percentile};
use crate::peers::{Server, speaker, take, text};

/// Joining and leaving each second.
const RATE: u32 = 100;

/// Without churn, and with it.
pub fn cases(scale: &Scale) -> Vec<Case> {
    let controllers = scale.of(10_000, 20);
    let time = Duration::from_millis(if scale.quick { 500 } else { 3000 });
    let mut cases = Vec::new();
    for churn in [false, true] {
        for server in [Server::Floor2, Server::Onionbus] {
            let program = scale.onionbus.clone();
            let form = if churn {
                "100 come and go each second"
            } else {
                "at rest"
            };
            cases.push(Case {
                load: "churn",
                variant: format!("{controllers} controllers, {form}"),
                server,
                start: alone(move || run(server, &program, controllers, churn, time)),
            });
        }
    }
    cases
}

fn run(
    server: Server,
    program: &Path,
    controllers: usize,
    churn: bool,
    time: Duration,
) -> Result<Vec<Figure>> {
    let running = speaker(server, program).start()?;
    let mut residents = (0..controllers)
        .map(|number| controller(&running.socket, &format!("controller{number}")))
        .collect::<Result<Vec<_>>>()?;
    let mut poster = controller(&running.socket, "poster")?;
    let ended = AtomicBool::new(false);
    let mut times = Vec::new();
    thread::scope(|scope| {
        let guests = churn.then(|| scope.spawn(|| come_and_go(&running.socket, &ended)));
        let mut post = || -> Result<()> {
            let begun = Instant::now();
            for number in 1.. {
                if begun.elapsed() > time {
                    break;
                }
                let to = fastrand::usize(..controllers);
                let text = String::from_utf8(text(number, 64))?;
                let post = format!("POSTMESSAGE @controller{to} {text}\r\n");
                let event = format!("650 POSTMESSAGE {number} poster @controller{to} {text}\r\n");
                let sent = Instant::now();
                poster.write_all(post.as_bytes())?;
                take(&mut residents[to], event.as_bytes())?;
                times.push(sent.elapsed().as_secs_f64() * 1e6);
                take(&mut poster, b"250 OK\r\n")?;
            }
            Ok(())
        };
        let outcome = post();
        ended.store(true, Ordering::Relaxed);
        let churned = guests.map_or(Ok(Ok(())), thread::ScopedJoinHandle::join);
        outcome.and(churned.unwrap_or_else(|_| anyhow::bail!("the guests' thread has panicked")))
    })?;
    Ok(vec![
        figure("post to delivery", "us", median(&mut times)),
        figure("post to delivery (p99)", "us", percentile(&mut times, 0.99)),
    ])
}

/// One comes and the oldest goes, at even intervals.
fn come_and_go(socket: &Path, ended: &AtomicBool) -> Result<()> {
    let mut guests = VecDeque::new();
    let mut next = Instant::now();
    for number in 0.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        guests.push_back(controller(socket, &format!("guest{number}"))?);
        if guests.len() > 10 {
            guests.pop_front();
        }
        next += Duration::from_secs(1) / RATE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
