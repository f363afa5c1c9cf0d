//! One controller: everything that belongs to it alone, without its socket.
//!
//! Octets go in, one [`Ask`] at a time comes out, and with it whether the controller must wait
//! before it is carried out. A command that waits is kept as it was understood, and not parsed
//! again, unless a policy judges it: that is done when it is carried out.

mod conversation;
mod judgement;
mod plan;

use std::collections::VecDeque;
use std::fmt;

pub use conversation::{Conversation, Entry, Secret, Step};
pub use judgement::{Denied, Judgement};
pub use plan::{MOST_KEYS, Plan, Work};

use crate::account::PARSED;
use crate::audit::{Action, Watch};
use crate::command::Verb;
use crate::keep::Note;
use crate::policy::{Guard, Law, Sequel};
use crate::tor::leg::Leg;
use crate::tor::upstream::Upstream;
use crate::wire::binary::Frame;
use crate::wire::fields::Onion;

/// One controller.
#[derive(Debug)]
pub struct Controller {
    /// Its conversation.
    pub conversation: Conversation,
    /// The octets that have come and are not consumed: the beginning of a command, or commands
    /// that wait.
    input: Vec<u8>,
    /// The first command of the input, if the command waits.
    held: Option<Box<Held>>,
    /// Replies that are not sent yet.
    pub replies: Vec<u8>,
    /// Its way to Tor, once it needs one.
    pub leg: Option<Box<Leg>>,
    /// The reason why its commands are not carried out now.
    pub wait: Wait,
    /// How much of its connection is left.
    pub stage: Stage,
    /// The fan-out knows of it.
    pub is_subscribed: bool,
    /// The daemon ends when this controller leaves (control-spec 3.23).
    pub is_owner: bool,
    /// Who it is and what it may do, where a policy is in force.
    pub guard: Option<Box<Guard>>,
    /// What is to be done once Tor has answered; most controllers have nothing of it.
    owed: Option<Box<Owed>>,
}

/// What is to be done for a controller once Tor has answered, or has ended.
#[derive(Debug, Default)]
pub struct Owed {
    /// What follows the answers that Tor owes, in their order.
    pub sequels: VecDeque<Box<Sequel>>,
    /// What is to be noted of the answers that Tor owes, in their order.
    pub notes: VecDeque<Note>,
    /// The actions among what Tor has not answered, in their order, each with the number by which it
    /// explains events.
    pub actions: VecDeque<(Box<Action>, u64)>,
    /// Those of them that the keeper does.
    pub kept_actions: VecDeque<(Box<Action>, u64)>,
    /// Its onion services, which end with its connection to Tor.
    pub onions: Vec<Onion>,
}

/// The reason why a controller's commands are not carried out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// None: whatever comes is taken.
    Nothing,
    /// It must read replies first.
    Reader,
    /// The fan-out has replies of it that are not sent.
    Delivery,
    /// Tor must answer everything before.
    Answers,
    /// Tor must answer some of what it was asked.
    Room,
    /// Tor must answer a SETEVENTS of it.
    Events,
    /// Tor must say what a policy judges by.
    Facts,
    /// Tor must answer what the keeper has asked for it.
    Kept,
    /// A new Tor must have back what the one before had.
    Restore,
    /// What it asks about all controllers must be gathered.
    Detail,
    /// Its command is work that takes long, and others come first.
    Work,
    /// Its turn was long enough.
    Turn,
}

/// How much of a controller's connection is left, from all to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Both halves.
    Open,
    /// It sends nothing more, and reads.
    Silent,
    /// It is gone: nobody reads replies, and what it sent is carried out.
    Gone,
    /// It ends with what was sent last.
    Finishing,
}

/// One command and the plan for it.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The octets that the command has, to be consumed.
    pub length: usize,
    /// The plan for it.
    pub plan: Plan<'a>,
    /// The controller is logged in by this command, without AUTHENTICATE.
    pub logs_in: bool,
    /// The judgement, where a policy is in force or it is an action.
    pub judgement: Option<Box<Judgement>>,
}

/// What comes next of a controller's input.
#[derive(Debug)]
pub enum Next<'a> {
    /// Nothing whole.
    Nothing,
    /// A web browser has lost its way.
    Http,
    /// A command.
    Ask(Ask<'a>),
}

#[derive(Debug)]
struct Held {
    length: usize,
    plan: Plan<'static>,
    judgement: Option<Box<Judgement>>,
}

/// The most octets of a command whose plan is kept while it waits. A longer one is parsed again
/// rather than kept twice, unless it is a text that is work.
const LONG: usize = 4096;

impl Held {
    /// The octets of memory that it takes at most.
    const fn held(&self) -> usize {
        let each = if self.length > LONG { TEXT } else { PARSED };
        size_of::<Self>() + self.length * each
    }
}

/// The most octets that an octet of a text takes: for Tor, for the bus, and with stuffed dots.
const TEXT: usize = 4;

impl Controller {
    /// A controller that has just connected.
    #[must_use]
    pub const fn new(conversation: Conversation) -> Self {
        Self {
            conversation,
            input: Vec::new(),
            held: None,
            replies: Vec::new(),
            leg: None,
            wait: Wait::Nothing,
            stage: Stage::Open,
            is_subscribed: false,
            is_owner: false,
            guard: None,
            owed: None,
        }
    }

    /// Whether anything may be to be done once Tor has answered.
    #[must_use]
    pub const fn is_owed(&self) -> bool {
        self.owed.is_some()
    }

    /// What is to be done once Tor has answered.
    pub fn owed(&mut self) -> &mut Owed {
        self.owed.get_or_insert_default()
    }

    /// The number of octets that wait to be understood or carried out.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.input.len()
    }

    /// Whether Tor has answered everything, as far as the controller asked.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.leg.as_ref().is_none_or(|leg| leg.is_quiet())
    }

    /// Takes the input out, with what is `fresh` behind it. It is to be given back to
    /// [`Self::keep`].
    pub fn take_input(&mut self, fresh: &[u8]) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(fresh);
        input
    }

    /// Whether nothing is left from before, so that fresh octets need not be copied.
    #[must_use]
    pub const fn has_no_input(&self) -> bool {
        self.input.is_empty()
    }

    /// Keeps what is not consumed.
    pub fn keep(&mut self, rest: Vec<u8>) {
        self.input = rest;
    }

    /// The next command at the beginning of `octets`, which are the input: the one that waits, or
    /// the first whole one. `tor` is the one behind the bus; `law` is there where a policy is in
    /// force, and `watch` where actions are told.
    pub fn poll_ask<'a>(
        &mut self,
        octets: &'a [u8],
        tor: Option<&Upstream>,
        law: Option<&Law<'_>>,
        watch: Option<&Watch<'_>>,
    ) -> Next<'a> {
        if let Some(held) = self.held.take() {
            return Next::Ask(Ask {
                length: held.length,
                plan: held.plan,
                logs_in: false,
                judgement: held.judgement,
            });
        }
        match self.conversation.step(octets) {
            Step::Incomplete => Next::Nothing,
            Step::Http => Next::Http,
            Step::Gathered { length, kind, body } => {
                let frame = Frame { kind, body: &body };
                let step = self.conversation.message(length, frame);
                match self.ask(step, tor, law, watch) {
                    Some(ask) => Next::Ask(Ask {
                        plan: ask.plan.into_owned(),
                        ..ask
                    }),
                    None => Next::Nothing,
                }
            }
            Step::Line(command) => {
                // A login and a policy look at every command, and without a Tor the bus answers.
                let is_open = self.conversation.is_logged_in() && self.guard.is_none();
                if is_open
                    && tor.is_some()
                    && let Some(plan) = Plan::for_getinfo(&command)
                {
                    return Next::Ask(Ask {
                        length: command.length,
                        plan,
                        logs_in: false,
                        judgement: None,
                    });
                }
                let step = self.conversation.command(command);
                self.ask(step, tor, law, watch)
                    .map_or(Next::Nothing, Next::Ask)
            }
            step @ Step::Command { .. } => self
                .ask(step, tor, law, watch)
                .map_or(Next::Nothing, Next::Ask),
        }
    }

    fn ask<'a>(
        &self,
        step: Step<'a>,
        tor: Option<&Upstream>,
        law: Option<&Law<'_>>,
        watch: Option<&Watch<'_>>,
    ) -> Option<Ask<'a>> {
        let Step::Command {
            length,
            request,
            logs_in,
            text,
        } = step
        else {
            return None;
        };
        let tor = tor.filter(|_| self.conversation.is_logged_in());
        let is_binary = self.conversation.dialect().version().is_some();
        let judge = self.guard.as_deref().zip(law);
        let judge = judge.filter(|_| self.conversation.is_logged_in());
        let is_watched = |watch: &&Watch<'_>| {
            let verb = match (&request, &text) {
                (Ok(request), _) => Some(request.verb()),
                (Err(_), Some(command)) => Verb::parse(command.keyword),
                (Err(_), None) => None,
            };
            let complains = |(guard, _): (&Guard, &Law<'_>)| guard.grants.complains();
            verb.is_some_and(Verb::changes) || (watch.is_written && judge.is_some_and(complains))
        };
        let watch = watch.filter(is_watched);
        let action = watch.map(|watch| judgement::action(watch, judge, text.as_ref(), &request));
        if let Some((guard, law)) = judge {
            let (plan, mut judgement) = match text {
                Some(command) => judgement::of_text(guard, law, &command, request, tor),
                None if is_binary => judgement::of_frame(guard, law, request, tor),
                None => (Plan::for_bus(request), None),
            };
            judgement::attach(action, watch, judge, &plan, &mut judgement);
            return Some(Ask {
                length,
                plan,
                logs_in,
                judgement,
            });
        }
        let plan = match (tor, text) {
            (Some(tor), None) if is_binary => Plan::for_frame(request, &tor.identifiers),
            (Some(_), Some(command)) => Plan::for_text(&command, request),
            // A text without an end is refused behind Tor's last answers too.
            _ => Plan::for_bus(request),
        };
        let mut judgement = None;
        judgement::attach(action, watch, judge, &plan, &mut judgement);
        Some(Ask {
            length,
            plan,
            logs_in,
            judgement,
        })
    }

    /// The reason why a command must wait. Messages of whoever is gone need not, since nobody reads
    /// the replies in their order; what changes options takes its place behind what Tor was asked.
    #[must_use]
    pub fn must_wait(&self, plan: &Plan<'_>) -> Option<Wait> {
        let leg = self.leg.as_ref()?;
        if self.stage == Stage::Gone && plan.is_for_bus_alone() {
            return None;
        }
        let room = |weight| (!leg.has_room(weight)).then_some(Wait::Room);
        let quiet = || (!leg.is_quiet()).then_some(Wait::Answers);
        match plan {
            Plan::Relay { weight, .. } => room(*weight),
            Plan::Ask(query) if query.only_adds() => room(query.weight()),
            Plan::Bus(_) | Plan::Refuse(_) | Plan::Reply(_) | Plan::Ask(_) => quiet(),
        }
    }

    /// Keeps a command that must wait. What a policy judges is judged when it is carried out, by what
    /// is whose then; work is judged by what the policy says alone.
    pub fn hold(&mut self, ask: Ask<'_>, wait: Wait) {
        let is_judged = self.guard.as_ref().is_some_and(|guard| !guard.passes());
        if (ask.length <= LONG && !is_judged) || ask.plan.work().is_some() {
            self.held = Some(Box::new(Held {
                length: ask.length,
                plan: ask.plan.into_owned(),
                judgement: ask.judgement,
            }));
        }
        self.wait = wait;
    }

    /// Forgets the judgement of a command that waits, unless it is work which has begun: the policy
    /// is another.
    pub fn forget_verdict(&mut self) {
        if self.wait != Wait::Work {
            self.held = None;
        }
    }

    /// The work that the command which waits is.
    #[must_use]
    pub fn held_work(&self) -> Option<Work> {
        self.held.as_ref().and_then(|held| held.plan.work())
    }

    /// The octets of memory that it takes beyond those of one that rests.
    #[must_use]
    pub fn held(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |held| held.held());
        let leg = self.leg.as_ref().map_or(0, |leg| leg.held());
        let owed = self.owed.iter().flat_map(|owed| &owed.actions);
        let actions = owed.map(|(action, _)| action.held());
        let actions = actions.sum::<usize>();
        self.input.capacity() + self.replies.capacity() + held + leg + actions
    }

    /// The command of the last ask is consumed.
    pub const fn consumed(&mut self) {
        self.conversation.consumed();
    }

    /// Whether nothing is left to do for a controller that is gone.
    #[must_use]
    pub fn is_done(&mut self) -> bool {
        let waits = matches!(
            self.wait,
            Wait::Answers
                | Wait::Room
                | Wait::Facts
                | Wait::Kept
                | Wait::Restore
                | Wait::Work
                | Wait::Turn
        );
        let is_kept = |owed: &Owed| !owed.kept_actions.is_empty();
        if self.owed.as_deref().is_some_and(is_kept) {
            return false;
        }
        let leg = self.leg.as_mut();
        !waits && leg.is_none_or(|leg| leg.is_quiet() && leg.poll_transmit().is_empty())
    }

    /// Whether a command waits that is judged already.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Whether a command cannot be judged before Tor has answered those before it.
    #[must_use]
    pub fn awaits_verdict(&self) -> bool {
        let is_awaited = |owed: &Owed| owed.sequels.iter().any(|sequel| sequel.is_awaited());
        self.guard.is_some() && self.owed.as_deref().is_some_and(is_awaited)
    }

    /// Drops what was not carried out yet: the controller is cut off.
    pub fn drop_input(&mut self) {
        self.input = Vec::new();
        self.held = None;
        self.wait = Wait::Nothing;
    }

    /// Whether the controller waits for what Tor has answered by now, and for nothing else.
    #[must_use]
    pub fn can_go_on(&self) -> bool {
        match (self.wait, &self.leg) {
            (Wait::Answers, Some(leg)) => leg.is_quiet(),
            (Wait::Room, Some(leg)) => leg.is_half_empty(),
            (Wait::Answers | Wait::Room, None) => true,
            _ => false,
        }
    }
}

/// How the log names a controller.
impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.conversation.peer();
        let id = self.conversation.id();
        write!(f, "session {id} (uid {}, pid {})", peer.uid, peer.pid)
    }
}

/// How the log names what a controller waits for.
impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "commands",
            Self::Reader => "its replies to be read",
            Self::Delivery => "its replies to be sent",
            Self::Answers => "all of Tor's answers",
            Self::Room => "some of Tor's answers",
            Self::Events => "Tor to send events",
            Self::Facts => "Tor to say what a policy judges by",
            Self::Detail => "a look at all controllers",
            Self::Kept => "Tor's answer about what is kept",
            Self::Restore => "Tor to have back what is kept",
            Self::Work => "files to be read or written",
            Self::Turn => "others to have their turn",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::peer::Peer;
    use crate::wire::request::RequestOf;

    fn controller() -> Controller {
        let peer = Peer {
            pid: 1,
            uid: 2,
            gid: 3,
        };
        Controller::new(Conversation::new(1, peer, None, Entry::Open))
    }

    fn tor() -> Upstream {
        Upstream::new([0; 16])
    }

    /// Does what the loop does, with a leg to a Tor that `answers` are from. Returns the texts that
    /// were posted.
    fn play(controller: &mut Controller, octets: &[u8], tor: &Upstream) -> Vec<String> {
        let mut posted = Vec::new();
        let input = controller.take_input(octets);
        let mut consumed = 0;
        while consumed < input.len() {
            let Next::Ask(ask) = controller.poll_ask(&input[consumed..], Some(tor), None, None)
            else {
                break;
            };
            if let Some(wait) = controller.must_wait(&ask.plan) {
                controller.hold(ask, wait);
                break;
            }
            controller.consumed();
            let command = &input[consumed..consumed + ask.length];
            consumed += ask.length;
            match ask.plan {
                Plan::Relay {
                    weight, replies, ..
                } => {
                    let leg = controller.leg.get_or_insert_default();
                    leg.handle_open(true, &tor.fence);
                    leg.handle_command(command, weight, replies, &tor.fence);
                }
                Plan::Bus(RequestOf::PostMessage { text, .. }) => {
                    posted.push(String::from_utf8_lossy(&text).into_owned());
                }
                other => panic!("{other:?}"),
            }
        }
        controller.keep(input[consumed..].to_vec());
        posted
    }

    #[test]
    fn a_command_that_waits_is_parsed_once() {
        let (mut controller, tor) = (controller(), tor());
        let octets = b"GETINFO version\r\nPOSTMESSAGE @all a\r\nPOSTMESSAGE @all b\r\n";
        // The first GETINFO logs in; the others are Tor's, and nobody parses them.
        for parsed in [2, 1, 1] {
            assert!(play(&mut controller, octets, &tor).is_empty());
            assert_eq!(controller.wait, Wait::Answers);
            assert!(!controller.can_go_on());
            assert_eq!(controller.conversation.parsed, parsed);
            controller.keep(b"POSTMESSAGE @all a\r\nPOSTMESSAGE @all b\r\n".to_vec());
            assert!(play(&mut controller, b"", &tor).is_empty());
            let mut leg = controller.leg.take().unwrap();
            leg.handle_octets(b"250 OK\r\n", &tor.fence, 100, &mut Vec::new());
            controller.leg = Some(leg);
            assert!(controller.can_go_on());
            assert_eq!(play(&mut controller, b"", &tor), ["a", "b"]);
            let reparsed = controller.conversation.parsed - parsed;
            assert_eq!(reparsed, 1, "the second, and nothing again");
            controller.conversation.parsed = 0;
        }
    }

    #[test]
    fn a_getinfo_of_tors_still_logs_in_and_is_refused_before_the_login() {
        let octets = b"GETINFO version\r\n";
        let next = |controller: &mut Controller, tor: Option<&Upstream>| {
            let Next::Ask(ask) = controller.poll_ask(octets, tor, None, None) else {
                panic!("nothing")
            };
            assert_eq!(ask.length, octets.len());
            (format!("{:.7}", format!("{:?}", ask.plan)), ask.logs_in)
        };
        let tor = tor();
        let mut open = controller();
        assert_eq!(next(&mut open, Some(&tor)), ("Relay {".into(), true));
        assert_eq!(next(&mut open, Some(&tor)), ("Relay {".into(), false));
        assert_eq!(next(&mut open, None), ("Bus(Get".into(), false));
        let mut closed = controller();
        closed.conversation = Conversation::new(1, open.conversation.peer(), None, Entry::Explicit);
        assert_eq!(next(&mut closed, Some(&tor)), ("Refuse(".into(), false));
        closed.conversation.authenticate(b"").unwrap();
        assert_eq!(next(&mut closed, Some(&tor)), ("Relay {".into(), false));
    }

    #[test]
    fn all_that_waits_is_charged_and_a_long_command_is_kept_once() {
        let (mut controller, tor) = (controller(), tor());
        assert_eq!(controller.held(), 0);
        play(&mut controller, b"GETINFO version\r\n", &tor);
        let leg = controller.held();
        assert!(leg > 0);
        for (length, most) in [(100, 64), (60_000, 1)] {
            let text = "x".repeat(length);
            let command = format!("POSTMESSAGE @all {text}\r\n");
            assert!(play(&mut controller, command.as_bytes(), &tor).is_empty());
            let held = controller.held() - leg;
            assert!((command.len()..command.len() * (most + 1) + 200).contains(&held));
            controller.stage = Stage::Gone;
            assert_eq!(play(&mut controller, b"", &tor), [text]);
            controller.stage = Stage::Open;
        }
        let command = format!("LOADCONF {}\r\n", "x".repeat(60_000));
        let plan = Plan::Bus(RequestOf::LoadConf(command.as_bytes().into()));
        let ask = Ask {
            length: command.len(),
            plan,
            logs_in: false,
            judgement: None,
        };
        controller.hold(ask, Wait::Work);
        assert_eq!(controller.held_work(), Some(Work::Load));
        assert!(controller.held() > command.len());
    }

    #[test]
    fn who_is_gone_waits_for_nobody() {
        let (mut controller, tor) = (controller(), tor());
        play(
            &mut controller,
            b"GETINFO version\r\nPOSTMESSAGE @all a\r\n",
            &tor,
        );
        assert_eq!(controller.wait, Wait::Answers);
        controller.stage = Stage::Gone;
        assert_eq!(play(&mut controller, b"", &tor), ["a"]);
    }
}
