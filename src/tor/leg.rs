//! One controller's way to Tor: what Tor was asked, and what of its octets answers that.
//!
//! Tor answers commands in their order, nearly always with one reply each, so replies are counted.
//! Behind a command whose replies cannot be counted goes a [fence](super::fence). Where something
//! between answers fences otherwise than Tor, one reply is expected of every command.

use std::borrow::Cow;
use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::fence::Fence;
use super::merge::Query;
use crate::account::PIECE;
use crate::command::Replies;
use crate::wire::gist::Gist;
use crate::wire::text::Replies as Ends;

/// The most commands with long replies that Tor has not answered: Tor holds every reply that is
/// not read yet.
pub const WINDOW: usize = 192;

/// The most long replies that one command counts as, however many it asks for.
const LARGE: usize = WINDOW / 3;

/// The commands with short replies that count as one with a long reply.
const SHORT: usize = 8;

/// The number of unanswered commands at which Tor is sent those that wait, before more are parsed.
const HEAD_START: usize = 8;

/// The least octets that room is made for when the first command comes: mostly, others follow.
const FEW: usize = 512;

/// The most octets of commands that wait for Tor to take them before more are accepted.
const WAITING: usize = 64 * 1024;

/// The way of one controller's commands to Tor and of their replies back. Octets and no sockets.
#[derive(Debug, Default)]
pub struct Leg {
    /// The login is done.
    open: bool,
    /// Tor answers fences with their keyword.
    fences: bool,
    /// Commands from before the login was done.
    early: Vec<Early>,
    /// The commands that Tor was sent and has not answered, oldest first.
    pending: VecDeque<Pending>,
    /// The number of them.
    unanswered: usize,
    /// The sum of their costs.
    cost: usize,
    /// The number of them that a fence ends.
    fenced: usize,
    transmit: Vec<u8>,
    ends: Ends,
    /// Octets that cannot be judged yet: the beginning of a fence's answer or of an event.
    kept: Vec<u8>,
    /// Within a reply or event that nobody has asked for.
    dropping: bool,
}

#[derive(Debug)]
struct Early {
    octets: Zeroizing<Vec<u8>>,
    cost: usize,
    replies: Replies,
    query: Option<Query>,
    /// The gist of its replies is wanted.
    is_noted: bool,
}

/// One command, or more of the same cost of which nothing is wanted but that their replies be
/// counted.
#[derive(Debug)]
struct Pending {
    /// The number of the commands, at least 1.
    count: usize,
    /// The cost of each.
    cost: usize,
    /// A fence ends its replies.
    fenced: bool,
    /// A whole reply to it has come.
    replied: bool,
    /// The query whose answer is collected; without one replies go to the controller.
    query: Option<Box<Collected>>,
    /// The gist of its replies, if it is wanted.
    gist: Option<Box<Gist>>,
}

#[derive(Debug)]
struct Collected {
    query: Query,
    /// The octets of memory that the query takes.
    held: usize,
    answer: Vec<u8>,
    is_too_long: bool,
}

/// Something for the controller.
#[derive(Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// Replies, or a part of one, as Tor sent them.
    Replies(Cow<'a, [u8]>),
    /// Tor's answer to a query; none if it has more octets than a reply may have.
    Answer(Box<Query>, Option<Vec<u8>>),
    /// The gist of the replies to a [noted](Leg::note_last) command: behind its answer, and behind
    /// or before the [`Output::Replies`] that it is of, which are in the same octets.
    Gist(Box<Gist>),
}

impl Leg {
    /// Whether the login is done.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Whether Tor has answered everything.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.early.is_empty()
    }

    /// The octets of memory that everything takes which Tor was not sent or has not answered.
    #[must_use]
    pub fn held(&self) -> usize {
        let early = self.early.iter().map(|one| {
            let query = one.query.as_ref().map_or(0, Query::held);
            one.octets.capacity() + size_of::<Early>() + PIECE + query
        });
        let collected = self.pending.iter().filter_map(|one| one.query.as_ref());
        let answers = collected.map(|one| one.held + one.answer.capacity());
        let gists = self.pending.iter().filter_map(|one| one.gist.as_ref());
        let gists = gists.map(|gist| gist.held() + PIECE).sum::<usize>();
        let pending = self.pending.capacity() * size_of::<Pending>() + gists;
        let octets = self.transmit.capacity() + self.kept.capacity();
        octets + pending + early.sum::<usize>() + answers.sum::<usize>()
    }

    /// Whether the controller has the beginning of a reply and not its end.
    #[must_use]
    pub fn is_inside_reply(&self) -> bool {
        let collected = self.pending.front().is_some_and(|one| one.query.is_some());
        self.ends.is_inside() && !self.dropping && !collected
    }

    /// Whether Tor may be asked for so many long replies more; 0 for one short reply.
    #[must_use]
    pub fn has_room(&self, weight: usize) -> bool {
        self.is_quiet()
            || (self.cost + cost(weight) <= WINDOW * SHORT && self.transmit.len() <= WAITING)
    }

    /// Whether a controller that waits for room should try again: at half of it, so that not each
    /// reply gives it a turn.
    #[must_use]
    pub fn is_half_empty(&self) -> bool {
        self.cost * 2 <= WINDOW * SHORT && self.transmit.len() <= WAITING
    }

    /// The login is done; Tor answers fences, or something between does not let them through.
    pub fn handle_open(&mut self, fences: bool, fence: &Fence) {
        self.open = true;
        self.fences = fences;
        self.cost = 0;
        for early in std::mem::take(&mut self.early) {
            self.send(&early.octets, early.cost, early.replies, early.query, fence);
            if early.is_noted {
                self.note_last();
            }
        }
    }

    /// Takes a command whose replies go to the controller as they come.
    pub fn handle_command(
        &mut self,
        octets: &[u8],
        weight: usize,
        replies: Replies,
        fence: &Fence,
    ) {
        self.send(octets, cost(weight), replies, None, fence);
    }

    /// Whether Tor should have what waits for it now: it may have nothing else to do while the rest of
    /// a batch is parsed.
    #[must_use]
    pub fn is_head_start(&self) -> bool {
        self.unanswered == HEAD_START
    }

    /// Takes a query, whose answer comes out when it is whole.
    pub fn handle_query(&mut self, mut query: Query, fence: &Fence) {
        // It may be about a key.
        let command = Zeroizing::new(std::mem::take(&mut query.command));
        let (cost, replies) = (cost(query.weight()), query.replies);
        self.send(&command, cost, replies, Some(query), fence);
    }

    /// Wants the gist of the replies to the command that was taken last, which has none yet.
    pub fn note_last(&mut self) {
        if let Some(early) = self.early.last_mut() {
            early.is_noted = true;
            return;
        }
        let Some(last) = self.pending.back_mut() else {
            return;
        };
        if last.count > 1 {
            last.count -= 1;
            let cost = last.cost;
            self.pending.push_back(Pending::new(cost));
        }
        if let Some(last) = self.pending.back_mut() {
            last.gist = Some(Box::default());
        }
    }

    fn send(
        &mut self,
        octets: &[u8],
        cost: usize,
        replies: Replies,
        query: Option<Query>,
        fence: &Fence,
    ) {
        self.cost += cost;
        if !self.open {
            let octets = octets.to_vec().into();
            self.early.push(Early {
                octets,
                cost,
                replies,
                query,
                is_noted: false,
            });
            return;
        }
        if self.transmit.capacity() == 0 {
            self.transmit.reserve(octets.len().max(FEW));
        }
        self.transmit.extend_from_slice(octets);
        let fenced = self.fences && replies == Replies::Any;
        if fenced {
            self.fenced += 1;
            self.transmit.extend_from_slice(fence.command());
        }
        self.unanswered += 1;
        let query = query.map(|query| Box::new(Collected::new(query)));
        let is_plain = !fenced && query.is_none();
        match self.pending.back_mut() {
            Some(last) if is_plain && last.is_plain() && last.cost == cost => last.count += 1,
            _ => self.pending.push_back(Pending {
                fenced,
                query,
                ..Pending::new(cost)
            }),
        }
    }

    /// The octets for Tor; whoever sends some of them drains those.
    pub const fn poll_transmit(&mut self) -> &mut Vec<u8> {
        &mut self.transmit
    }

    /// The number of replies that Tor owes the controller; none where it broke off within one.
    #[must_use]
    pub fn owed(&self) -> Option<usize> {
        let begun = self.pending.front();
        let begun = begun.is_some_and(|one| one.replied && one.query.is_none());
        let pending = self.unanswered - usize::from(begun);
        (!self.is_inside_reply()).then_some(pending + self.early.len())
    }

    /// Takes what Tor has sent, and appends what the controller gets to `outputs`, in order. An
    /// answer to a query has at most `most` octets. Returns the number of octets that answer
    /// nothing, and so are dropped.
    pub fn handle_octets<'a>(
        &mut self,
        octets: &'a [u8],
        fence: &Fence,
        most: usize,
        outputs: &mut Vec<Output<'a>>,
    ) -> usize {
        let dropped = if self.kept.is_empty() {
            self.judge(octets, fence, most, outputs)
        } else {
            let mut all = std::mem::take(&mut self.kept);
            all.extend_from_slice(octets);
            let mut of_all = Vec::new();
            let dropped = self.judge(&all, fence, most, &mut of_all);
            outputs.extend(of_all.into_iter().map(Output::into_owned));
            dropped
        };
        if self.is_quiet() && self.transmit.is_empty() {
            // Most controllers rest most of the time, and thousands of them hold no memory for it.
            self.pending = VecDeque::new();
            self.transmit = Vec::new();
        }
        dropped
    }

    fn judge<'a>(
        &mut self,
        octets: &'a [u8],
        fence: &Fence,
        most: usize,
        outputs: &mut Vec<Output<'a>>,
    ) -> usize {
        let mut rest = octets;
        let mut dropped = 0;
        while self.fenced > 0
            && let Some(found) = fence.find(rest)
        {
            dropped += self.take_replies(&rest[..found], most, outputs);
            rest = &rest[found + fence.answer().len()..];
            self.handle_fence(outputs);
        }
        let keep = if self.fenced > 0 {
            fence.beginning(rest)
        } else {
            0
        };
        let (through, kept) = rest.split_at(rest.len() - keep);
        dropped += self.take_replies(through, most, outputs);
        self.kept.extend_from_slice(kept);
        dropped
    }

    /// A fence has come back: whatever the commands before it were answered with has come.
    fn handle_fence(&mut self, outputs: &mut Vec<Output<'_>>) {
        self.ends = Ends::default();
        self.dropping = false;
        self.kept.clear();
        while let Some(fenced) = self.end_first(outputs)
            && !fenced
        {}
    }

    /// Takes this many commands off the first place: their replies have come.
    fn end_plain(&mut self, count: usize) {
        let Some(first) = self.pending.front_mut() else {
            return;
        };
        self.unanswered -= count;
        self.cost -= count * first.cost;
        first.count -= count;
        if first.count == 0 {
            self.pending.pop_front();
        }
    }

    /// Takes the first command off, whose replies have come, and says whether it had a fence.
    fn end_first(&mut self, outputs: &mut Vec<Output<'_>>) -> Option<bool> {
        if self.pending.front()?.is_plain() {
            self.end_plain(1);
            return Some(false);
        }
        let first = self.pending.pop_front()?;
        self.unanswered -= 1;
        self.cost -= first.cost;
        self.fenced -= usize::from(first.fenced);
        if let Some(collected) = first.query {
            let answer = (!collected.is_too_long).then_some(collected.answer);
            outputs.push(Output::Answer(Box::new(collected.query), answer));
        }
        outputs.extend(first.gist.map(Output::Gist));
        Some(first.fenced)
    }

    fn take_replies<'a>(
        &mut self,
        octets: &'a [u8],
        most: usize,
        outputs: &mut Vec<Output<'a>>,
    ) -> usize {
        let (mut at, mut dropped) = (0, 0);
        // Octets that go to the controller and are not in `outputs` yet begin here.
        let mut run = 0;
        let pass = |run: usize, at: usize, outputs: &mut Vec<Output<'a>>| {
            if run < at {
                outputs.push(Output::Replies(Cow::Borrowed(&octets[run..at])));
            }
        };
        while at < octets.len() {
            let rest = &octets[at..];
            if !self.ends.is_inside() {
                if rest.len() < EVENT.len() && EVENT.starts_with(rest) {
                    pass(run, at, outputs);
                    self.kept.extend_from_slice(rest);
                    return dropped;
                }
                // This connection subscribes to nothing.
                self.dropping = rest.starts_with(EVENT) || self.pending.is_empty();
                if !self.dropping && self.pending.front().is_some_and(Pending::is_plain) {
                    at += self.take_plain(rest);
                    continue;
                }
            }
            let end = self.ends.end(rest);
            let part = &rest[..end.unwrap_or(rest.len())];
            let first = self.pending.front_mut().filter(|_| !self.dropping);
            at += part.len();
            match first {
                None => {
                    pass(run, at - part.len(), outputs);
                    run = at;
                    dropped += part.len();
                }
                Some(first) => {
                    if let Some(collected) = &mut first.query {
                        pass(run, at - part.len(), outputs);
                        run = at;
                        collected.take(part, most);
                    }
                    if let Some(gist) = &mut first.gist {
                        gist.handle_octets(part);
                    }
                    if end.is_some() && first.fenced {
                        first.replied = true;
                    } else if end.is_some() {
                        self.end_first(outputs);
                    }
                }
            }
        }
        pass(run, at, outputs);
        dropped
    }

    /// Takes replies to the commands of the first place, which are plain, until all are answered or an
    /// event comes, or what may be one. Returns the number of octets.
    fn take_plain(&mut self, octets: &[u8]) -> usize {
        let most = self.pending.front().map_or(0, |first| first.count);
        let (mut rest, mut replies) = (octets, 0);
        loop {
            let Some(end) = self.ends.end(rest) else {
                rest = &[];
                break;
            };
            rest = &rest[end..];
            replies += 1;
            if replies == most || rest.len() < EVENT.len() || rest.starts_with(EVENT) {
                break;
            }
        }
        self.end_plain(replies);
        octets.len() - rest.len()
    }
}

/// The beginning of every event (control-spec 4.1).
const EVENT: &[u8] = b"650";

/// The cost of a command: no more than a third of the window, so that a large one can go too.
const fn cost(weight: usize) -> usize {
    match weight {
        0 => 1,
        1..LARGE => weight * SHORT,
        _ => LARGE * SHORT,
    }
}

impl Pending {
    const fn new(cost: usize) -> Self {
        Self {
            count: 1,
            cost,
            fenced: false,
            replied: false,
            query: None,
            gist: None,
        }
    }

    /// Whether nothing is wanted of its replies but that they be counted.
    const fn is_plain(&self) -> bool {
        !self.fenced && self.query.is_none() && self.gist.is_none()
    }
}

impl Collected {
    fn new(query: Query) -> Self {
        Self {
            held: query.held(),
            query,
            answer: Vec::new(),
            is_too_long: false,
        }
    }

    fn take(&mut self, part: &[u8], most: usize) {
        if self.answer.len() + part.len() > most {
            self.is_too_long = true;
            self.answer = Vec::new();
        }
        if !self.is_too_long {
            self.answer.extend_from_slice(part);
        }
    }
}

impl Output<'_> {
    fn into_owned<'b>(self) -> Output<'b> {
        match self {
            Self::Replies(octets) => Output::Replies(Cow::Owned(octets.into_owned())),
            Self::Answer(query, answer) => Output::Answer(query, answer),
            Self::Gist(gist) => Output::Gist(gist),
        }
    }
}

#[cfg(test)]
mod tests;
