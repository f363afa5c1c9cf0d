//! `onionbus post`: one message from the arguments, or one for each line of standard input.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;

use anyhow::Context;

use super::Stop;
use super::args::Post;
use super::client::{self, Client};

/// The most messages on their way without an answer. Their replies fit any socket's buffer, so the
/// daemon can always answer and neither side waits for the other.
const WINDOW: usize = 64;

const INPUT_OCTETS: usize = 1 << 16;

pub fn run(arguments: &Post) -> anyhow::Result<()> {
    let destination = client::word("@DEST", &arguments.destination)?;
    if !destination.starts_with(b"@") {
        let text = "the destination begins with @: @NAME, or @all for everybody";
        return Err(Stop::Usage(text.to_owned()).into());
    }
    let start = [b"POSTMESSAGE ", destination, b" "].concat();
    if arguments.text.is_empty() {
        let mut client = Client::connect(&arguments.bus)?;
        let mut input = BufReader::with_capacity(INPUT_OCTETS, io::stdin().lock());
        return post_lines(&mut client, &start, &mut input);
    }
    let text = arguments.text.join(OsStr::new(" "));
    let text = client::one_line("TEXT", text.as_bytes())?;
    Client::connect(&arguments.bus)?.ask(&[&start, text].concat())?;
    Ok(())
}

/// Posts each line up to the first that is refused or cannot be sent.
fn post_lines<R: Read>(
    client: &mut Client,
    start: &[u8],
    input: &mut BufReader<R>,
) -> anyhow::Result<()> {
    let mut batch = Batch::default();
    let mut text = Vec::new();
    loop {
        // Whoever types, or follows a log, wants each line out before the next one comes.
        if batch.is_full() || !input.buffer().contains(&b'\n') {
            batch.post(client)?;
        }
        text.clear();
        let mut limited = input.by_ref().take(client::MAX_COMMAND);
        let read = limited.read_until(b'\n', &mut text);
        if read.context("cannot read standard input")? == 0 {
            return batch.post(client);
        }
        let what = format!("line {}", batch.posted + batch.lines + 1);
        let ended = text.pop_if(|octet| *octet == b'\n').is_some();
        let checked = if !ended && text.len() as u64 == client::MAX_COMMAND {
            Err(Stop::Usage(format!("{what} is longer than 1 MiB")))
        } else {
            client::one_line(&what, &text)
        };
        match checked {
            Ok(text) => batch.add(start, text),
            Err(unsendable) => {
                batch.post(client)?;
                return Err(unsendable.into());
            }
        }
    }
}

/// Lines that go out together.
#[derive(Default)]
struct Batch {
    octets: Vec<u8>,
    lines: usize,
    /// Lines of earlier batches, all accepted.
    posted: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.lines == WINDOW || self.octets.len() as u64 >= client::MAX_COMMAND
    }

    fn add(&mut self, start: &[u8], text: &[u8]) {
        for part in [start, text, b"\r\n"] {
            self.octets.extend_from_slice(part);
        }
        self.lines += 1;
    }

    /// Sends the batch and reads all its replies, so that the first refusal is reported and the
    /// replies behind it do not stay unread. Leaves the batch empty.
    fn post(&mut self, client: &mut Client) -> anyhow::Result<()> {
        if self.lines == 0 {
            return Ok(());
        }
        client.send(&self.octets)?;
        let mut refused = None;
        for number in self.posted + 1..=self.posted + self.lines {
            let reply = client.reply();
            let reply = reply.with_context(|| format!("line {number} was not answered"))?;
            if !reply.is_success() && refused.is_none() {
                let text = format!("line {number}: {}", client::wording(&reply));
                refused = Some(Stop::Refused(text));
            }
        }
        self.posted += self.lines;
        self.lines = 0;
        self.octets.clear();
        refused.map_or(Ok(()), |refused| Err(refused.into()))
    }
}
