//! The shell without a terminal: the lines of standard input in turn, each answered before the
//! next.

use std::io::{self, BufRead, Read, Write};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select_biased};

use super::lines::Lines;
use crate::cli::Stop;
use crate::cli::args::Bus;
use crate::cli::client::{Client, MAX_COMMAND};
use crate::cli::names;
use crate::cli::reply::Message;

/// The most lines and messages that wait for their turn.
const WAITING: usize = 64;

/// How long the end of the input may take to be seen once the connection has ended.
const MOMENT: Duration = Duration::from_secs(1);

pub fn run(client: Client, bus: &Bus, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut sender = client.sender().context("cannot use the connection twice")?;
    let messages = messages(client);
    let input = input();
    let mut lines = Lines::default();
    let mut is_refused = false;
    loop {
        out.flush()?;
        // At the end of the input it is no matter that the last command has ended the connection.
        let line = select_biased! {
            recv(input) -> line => line,
            recv(messages) -> message => match message? {
                Ok(message) => {
                    out.write_all(&message.raw())?;
                    continue;
                }
                Err(lost) => match input.recv_timeout(MOMENT) {
                    Err(RecvTimeoutError::Disconnected) => break,
                    Ok(_) | Err(RecvTimeoutError::Timeout) => return Err(lost),
                },
            },
        };
        let Ok(line) = line else { break };
        let Some(command) = lines.handle_line(&line?)? else {
            continue;
        };
        sender.send(&command.octets)?;
        loop {
            let message = messages.recv()??;
            out.write_all(&message.raw())?;
            if !message.is_event() {
                is_refused |= !message.is_success();
                out.flush()?;
                names::tell(&message, |kind| kind.fetch(bus));
                break;
            }
            if messages.is_empty() {
                out.flush()?;
            }
        }
        if command.is_last {
            break;
        }
    }
    if lines.is_inside() {
        let text = "standard input ends within a command: a line with a single dot ends it";
        return Err(Stop::Usage(text.to_owned()).into());
    }
    if is_refused {
        return Err(Stop::RefusedAndPrinted.into());
    }
    Ok(())
}

/// What the daemon says, as it comes; at its end the reason.
fn messages(mut client: Client) -> Receiver<anyhow::Result<Message>> {
    let (sender, receiver) = bounded(WAITING);
    thread::spawn(move || {
        loop {
            let message = client.message();
            let is_last = message.is_err();
            if sender.send(message).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// The lines of standard input without their ends, as they come.
fn input() -> Receiver<anyhow::Result<Vec<u8>>> {
    let (sender, receiver) = bounded(WAITING);
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            // One octet more than any command has, which is refused then.
            let read = (&mut input)
                .take(MAX_COMMAND + 2)
                .read_until(b'\n', &mut line);
            let line = match read.context("cannot read standard input") {
                Ok(0) => return,
                Ok(_) => {
                    line.pop_if(|octet| *octet == b'\n');
                    Ok(line)
                }
                Err(error) => Err(error),
            };
            let is_last = line.is_err();
            if sender.send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}
