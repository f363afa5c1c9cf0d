//! `onionbus post`: one message from the arguments, or one for each line of standard input.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;

use anyhow::Context;

use super::Stop;
use super::args::Post;
use super::client::{self, Client};
use super::info::print_value;
use super::reply::Message;

/// The most messages on their way without an answer. Their replies fit any socket's buffer, so the
/// daemon can always answer and neither side waits for the other.
const WINDOW: usize = 64;

const INPUT_OCTETS: usize = 1 << 16;

/// Asks for the number of the message before.
const ASK_ID: &[u8] = b"GETINFO posted-message";

pub fn run(arguments: &Post, out: &mut dyn Write) -> anyhow::Result<()> {
    let destination = client::word("@DEST", &arguments.destination)?;
    if !destination.starts_with(b"@") {
        let text = "the destination begins with @: @NAME, or @all for everybody";
        return Err(Stop::Usage(text.to_owned()).into());
    }
    let start = [b"POSTMESSAGE ", destination, b" "].concat();
    if arguments.text.is_empty() {
        let mut client = Client::connect(&arguments.bus)?;
        let mut input = BufReader::with_capacity(INPUT_OCTETS, io::stdin().lock());
        let mut batch = Batch::of(arguments.id, out);
        return post_lines(
            &mut client,
            &start,
            &mut input,
            arguments.strict,
            &mut batch,
        );
    }
    let text = arguments.text.join(OsStr::new(" "));
    let text = client::one_line("TEXT", text.as_bytes())?;
    let mut client = Client::connect(&arguments.bus)?;
    client.ask_bus(&[&start, text].concat())?;
    if arguments.id {
        print_id(&client.ask(ASK_ID)?, out)?;
    }
    Ok(())
}

fn print_id(reply: &Message, out: &mut dyn Write) -> io::Result<()> {
    reply
        .entries()
        .iter()
        .try_for_each(|entry| print_value(entry, out))
}

/// A reader of the ids that has seen enough ends nothing: the other lines are to be posted.
fn unless_closed(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

/// Posts each line up to the first that is refused or cannot be sent. Unless `strict`, empty lines
/// are left out, and a line may end with CR LF as elsewhere.
fn post_lines<R: Read>(
    client: &mut Client,
    start: &[u8],
    input: &mut BufReader<R>,
    strict: bool,
    batch: &mut Batch<'_>,
) -> anyhow::Result<()> {
    let mut text = Vec::new();
    let mut left_out = 0_u64;
    for number in 1.. {
        // Whoever types, or follows a log, wants each line out before the next one comes.
        if batch.is_full() || !input.buffer().contains(&b'\n') {
            batch.post(client)?;
        }
        text.clear();
        let mut limited = input.by_ref().take(client::MAX_COMMAND);
        let read = limited.read_until(b'\n', &mut text);
        if read.context("cannot read standard input")? == 0 {
            break;
        }
        let what = format!("line {number}");
        let ended = text.pop_if(|octet| *octet == b'\n').is_some();
        if ended && !strict {
            text.pop_if(|octet| *octet == b'\r');
        }
        if text.is_empty() && !strict {
            left_out += 1;
            continue;
        }
        let checked = if !ended && text.len() as u64 == client::MAX_COMMAND {
            Err(Stop::Usage(format!("{what} is longer than 1 MiB")))
        } else {
            client::one_line(&what, &text)
        };
        match checked {
            Ok(text) => batch.add(start, text, number),
            Err(unsendable) => {
                batch.post(client)?;
                return Err(unsendable.into());
            }
        }
    }
    batch.post(client)?;
    if left_out > 0 {
        let lines = if left_out == 1 {
            "line was"
        } else {
            "lines were"
        };
        // Nobody can be told that standard error is gone.
        let _ = writeln!(io::stderr(), "onionbus: {left_out} empty {lines} left out");
    }
    Ok(())
}

/// Lines that go out together.
struct Batch<'a> {
    octets: Vec<u8>,
    /// The number of each line in the input.
    numbers: Vec<u64>,
    /// Where the ids of the messages are printed, if they are.
    ids: Option<&'a mut dyn Write>,
}

impl<'a> Batch<'a> {
    fn of(prints_ids: bool, out: &'a mut dyn Write) -> Self {
        Self {
            octets: Vec::new(),
            numbers: Vec::new(),
            ids: prints_ids.then_some(out),
        }
    }

    fn is_full(&self) -> bool {
        self.numbers.len() == WINDOW || self.octets.len() as u64 >= client::MAX_COMMAND
    }

    fn add(&mut self, start: &[u8], text: &[u8], number: u64) {
        for part in [start, text, b"\r\n"] {
            self.octets.extend_from_slice(part);
        }
        if self.ids.is_some() {
            self.octets.extend_from_slice(ASK_ID);
            self.octets.extend_from_slice(b"\r\n");
        }
        self.numbers.push(number);
    }

    /// Sends the batch and reads all its replies, so that the first refusal is reported and the
    /// replies behind it do not stay unread. Leaves the batch empty.
    fn post(&mut self, client: &mut Client) -> anyhow::Result<()> {
        if self.numbers.is_empty() {
            return Ok(());
        }
        client.send(&self.octets)?;
        self.octets.clear();
        let mut refused = None;
        for number in self.numbers.drain(..) {
            let reply = client.reply();
            let reply = reply.with_context(|| format!("line {number} was not answered"))?;
            if !reply.is_success() && refused.is_none() {
                let text = format!("line {number}: {}", client::wording(&reply));
                refused = Some(Stop::Refused(text));
            }
            if let Some(out) = &mut self.ids {
                let id = client.reply()?;
                if reply.is_success() && id.is_success() {
                    unless_closed(print_id(&id, *out))?;
                } else if refused.is_none() {
                    refused = Some(Stop::Refused(client::wording(&id)));
                }
            }
        }
        if let Some(out) = &mut self.ids {
            // Whoever types sees each before the next.
            unless_closed(out.flush())?;
        }
        refused.map_or(Ok(()), |refused| Err(client.explained(refused.into())))
    }
}
