//! The judgement of a command, where a policy is in force: each is judged by its fields, when it is
//! carried out, and goes on as it is written from them. Where actions are told, what is told of it
//! stands here too.

use super::plan::Plan;
use crate::audit::{Action, Watch};
use crate::command::Verb;
use crate::policy::{
    Allowed, Guard, Known, Law, Refused, Sequel, Verdict, judge, kind_of_key, needed,
};
use crate::tor::translate::{self, Question};
use crate::tor::upstream::Upstream;
use crate::wire::fields::{self, Fields};
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;
use crate::wire::request::Request;
use crate::wire::text::{self, Command, Framed, Framer};

/// The command that asks whether another would be allowed.
const CHECK: &[u8] = b"POLICYCHECK";

/// The judgement of one command.
#[derive(Debug, Default)]
pub struct Judgement {
    /// The command as it is written anew; none where it goes on as it came.
    pub octets: Option<Vec<u8>>,
    /// What follows its answer.
    pub sequel: Option<Box<Sequel>>,
    /// What the policy refused, or would have.
    pub denied: Option<Box<Denied>>,
    /// What is told of it, if it is an action.
    pub action: Option<Box<Action>>,
    /// There is no verdict: it depends on what Tor has not said.
    pub lacks_facts: bool,
}

/// Something that the policy refused.
#[derive(Debug)]
pub struct Denied {
    /// The command.
    pub verb: Verb,
    /// The names of what was refused, never values; empty if it is the whole command.
    pub names: Vec<Vec<u8>>,
    /// The status of the reply.
    pub status: u16,
    /// It was done all the same.
    pub is_complaint: bool,
    /// The lines that would have allowed it.
    pub grant: String,
}

impl Denied {
    fn new(
        verb: Verb,
        (guard, law): (&Guard, &Law<'_>),
        fields: &Fields,
        refused: &Refused,
        is_complaint: bool,
    ) -> Self {
        let known = Known {
            spell: &|name| name.to_vec(),
            own: Some((law.ledger, &guard.grants)),
        };
        let names = refused.names.iter();
        let names = match fields {
            Fields::GetInfo(_) => names.map(|key| kind_of_key(key)).collect(),
            _ => names.cloned().collect(),
        };
        Self {
            grant: needed(fields, known).join("\n"),
            verb,
            names,
            status: refused.refusal.status(),
            is_complaint,
        }
    }
}

/// A plan, and how it came to be.
pub(super) type Judged<'a> = (Plan<'a>, Option<Box<Judgement>>);

fn refused<'a>(refusal: Refusal) -> Judged<'a> {
    (Plan::Refuse(refusal), None)
}

/// Whether there is no verdict on a command, since that depends on what Tor has not said.
fn lacks_facts(guard: &Guard, law: &Law<'_>, fields: &Fields, tor: Option<&Upstream>) -> bool {
    tor.is_some() && !guard.passes() && law.lacks_facts(fields)
}

/// A command without a verdict.
fn unjudged<'a>(law: &Law<'_>) -> Judged<'a> {
    let judgement = Judgement {
        lacks_facts: true,
        ..Judgement::default()
    };
    (Plan::Refuse(law.cannot_judge()), Some(Box::new(judgement)))
}

fn plan_for<'a>(
    command: &Command<'_>,
    request: Result<Request<'a>, Refusal>,
    tor: Option<&Upstream>,
) -> Plan<'a> {
    match tor {
        Some(_) => Plan::for_text(command, request),
        None => Plan::for_bus(request),
    }
}

/// The verdict on a command: what is allowed of it and what follows, or how it is refused.
fn ruling(
    guard: &Guard,
    law: &Law<'_>,
    verb: Verb,
    fields: &Fields,
) -> Result<(Allowed, Box<Judgement>), Judged<'static>> {
    let judgement = |sequel, denied| {
        Box::new(Judgement {
            sequel,
            denied,
            ..Judgement::default()
        })
    };
    match judge(&guard.grants, law.ledger, &law.behind, fields) {
        Verdict::Allow(allowed) => {
            let allowed = with_own_answers(guard, allowed);
            let complaint = allowed.complaint.as_ref();
            let denied =
                complaint.map(|why| Box::new(Denied::new(verb, (guard, law), fields, why, true)));
            let judgement = judgement(Sequel::of(&allowed).map(Box::new), denied);
            Ok((allowed, judgement))
        }
        Verdict::Refuse(why) => {
            let denied = Box::new(Denied::new(verb, (guard, law), fields, &why, false));
            Err((
                Plan::Refuse(why.refusal),
                Some(judgement(None, Some(denied))),
            ))
        }
    }
}

/// The complaint about a command that passes though it cannot be parsed, where the policy complains.
fn unparsed(guard: &Guard, verb: Verb, refusal: &Refusal) -> Option<Box<Judgement>> {
    let denied = Denied {
        verb,
        names: Vec::new(),
        status: refusal.status(),
        is_complaint: true,
        // No line of a policy allows what is not understood.
        grant: String::new(),
    };
    guard.grants.complains().then(|| {
        Box::new(Judgement {
            denied: Some(Box::new(denied)),
            ..Judgement::default()
        })
    })
}

/// What is told of a command that is watched.
pub(super) fn action(
    watch: &Watch<'_>,
    judge: Option<(&Guard, &Law<'_>)>,
    command: Option<&Command<'_>>,
    request: &Result<Request<'_>, Refusal>,
) -> Action {
    let own = judge.map(|(guard, law)| (law.ledger, &*guard.grants));
    if let (Ok(request @ (Request::SetConf(_) | Request::ResetConf(_))), false, Some(_)) =
        (request, watch.is_written, command)
    {
        // Its names are known already, and it may be as long as a file.
        return Action::of_settings(request, watch.names);
    }
    let fields = match (command, request) {
        (Some(command), _) => {
            let verb = Verb::parse(command.keyword);
            verb.and_then(|verb| fields::parse(verb, command).ok())
        }
        (None, Ok(request)) => Fields::of_request(request),
        (None, Err(_)) => None,
    };
    match (fields, request, command) {
        (Some(fields), ..) => Action::of_fields(&fields, watch, own),
        (None, Ok(request @ (Request::SetConf(_) | Request::ResetConf(_))), _) => {
            Action::of_request(request, watch.names)
        }
        (None, _, Some(command)) => {
            Action::of_words(Verb::parse(command.keyword), command.arguments)
        }
        (None, Ok(request), None) => Action::of_request(request, watch.names),
        (None, Err(_), None) => Action::of_words(None, b""),
    }
}

/// Puts what is told of a command beside its judgement, unless it is not done.
pub(super) fn attach(
    action: Option<Action>,
    watch: Option<&Watch<'_>>,
    judge: Option<(&Guard, &Law<'_>)>,
    plan: &Plan<'_>,
    judgement: &mut Option<Box<Judgement>>,
) {
    let (Some(mut action), Some(watch)) = (action, watch) else {
        return;
    };
    let complains = judge.is_some_and(|(guard, _)| guard.grants.complains());
    if matches!(plan, Plan::Refuse(_)) && !complains {
        return;
    }
    let own = judge.map(|(guard, law)| (law.ledger, &*guard.grants));
    // What only a Tor can take apart has the form of a command on its way there.
    if let (true, Plan::Ask(query)) = (!action.is_parsed, plan)
        && let Framed::Command(command) = Framer::new().next(&query.command)
        && let Ok(Ok(fields)) = text::verb(command.keyword).map(|v| fields::parse(v, &command))
    {
        action = Action::of_fields(&fields, watch, own);
    }
    judgement.get_or_insert_default().action = Some(Box::new(action));
}

/// Judges a command of the text protocol.
pub(super) fn of_text<'a>(
    guard: &Guard,
    law: &Law<'_>,
    command: &Command<'_>,
    request: Result<Request<'a>, Refusal>,
    tor: Option<&Upstream>,
) -> Judged<'a> {
    if command.keyword.eq_ignore_ascii_case(CHECK) {
        return check(guard, law, command.arguments, tor);
    }
    let Some(verb) = Verb::parse(command.keyword) else {
        if guard.passes() {
            return (plan_for(command, request, tor), None);
        }
        return refused(Refusal::UnrecognizedCommand(command.keyword.to_vec()));
    };
    if guard.passes() && !is_looked_at(verb, command, guard) {
        return (plan_for(command, request, tor), None);
    }
    let fields = match fields::parse(verb, command) {
        // The bus answers these itself, by more than the fields.
        Ok(Fields::Session(_)) => return (plan_for(command, request, tor), None),
        Ok(fields) => fields,
        // What is wrong with it, Tor says best.
        Err(refusal) if guard.passes() => {
            let complaint = unparsed(guard, verb, &refusal);
            return (plan_for(command, request, tor), complaint);
        }
        Err(refusal) => return refused(refusal),
    };
    if lacks_facts(guard, law, &fields, tor) {
        return unjudged(law);
    }
    let (allowed, mut judgement) = match ruling(guard, law, verb, &fields) {
        Ok(ruling) => ruling,
        Err(refused) => return refused,
    };
    let sequel = judgement.sequel.as_deref();
    if guard.passes() && !sequel.is_some_and(Sequel::has_answers) {
        return (plan_for(command, request, tor), Some(judgement));
    }
    if changes_nothing(&allowed.fields) {
        return (Plan::Reply(Reply::Done), Some(judgement));
    }
    if let Some(reply) = judgement.sequel.as_ref().and_then(|sequel| sequel.whole()) {
        return (Plan::Reply(reply), Some(judgement));
    }
    let mut octets = Vec::new();
    open(allowed, judgement.sequel.as_deref()).write(&mut octets);
    let plan = match Framer::new().next(&octets) {
        Framed::Command(command) => {
            let request = text::verb(command.keyword).and_then(|v| text::parse(v, &command));
            plan_for(&command, request, tor).into_owned()
        }
        Framed::Incomplete | Framed::TooLong => Plan::Refuse(Refusal::LineTooLong),
    };
    judgement.octets = Some(octets);
    (plan, Some(judgement))
}

/// Judges a message of a binary dialect, of which this is the plan without a policy.
pub(super) fn of_frame<'a>(
    guard: &Guard,
    law: &Law<'_>,
    request: Result<Request<'a>, Refusal>,
    tor: Option<&Upstream>,
) -> Judged<'a> {
    let fields = request.as_ref().ok().map(|asked| match asked {
        Request::GetInfo(keys) => Some(Fields::GetInfo(translate::modern_keys(keys))),
        asked => Fields::of_request(asked),
    });
    let asked = match &request {
        Ok(Request::GetInfo(keys)) => keys.iter().map(|key| key.to_vec()).collect(),
        _ => Vec::new(),
    };
    let mut plan_of_all = plan_for_frame(request, tor);
    let is_translated = matches!(fields, Some(None));
    let fields = match (fields, &plan_of_all) {
        (Some(Some(fields)), _) => fields,
        // What only a Tor can take apart is judged as the command that it becomes.
        (Some(None), Plan::Ask(query)) => {
            let Framed::Command(command) = Framer::new().next(&query.command) else {
                return refused(Refusal::LineTooLong);
            };
            match text::verb(command.keyword).and_then(|verb| fields::parse(verb, &command)) {
                Ok(fields) => fields,
                Err(refusal) if guard.passes() => {
                    let verb = Verb::parse(command.keyword);
                    let complaint = verb.and_then(|verb| unparsed(guard, verb, &refusal));
                    return (plan_of_all, complaint);
                }
                Err(refusal) => return refused(refusal),
            }
        }
        (None | Some(None), _) => return (plan_of_all, None),
    };
    if let (Fields::SetConf(settings) | Fields::ResetConf(settings), false) =
        (&fields, guard.passes())
        && let Err(refusal) = fields::check_values(fields.verb().keyword().as_bytes(), settings)
    {
        return refused(refusal);
    }
    if lacks_facts(guard, law, &fields, tor) {
        return unjudged(law);
    }
    let (allowed, judgement) = match ruling(guard, law, fields.verb(), &fields) {
        Ok(ruling) => ruling,
        Err(refused) => return refused,
    };
    if !guard.passes() && changes_nothing(&allowed.fields) {
        return (Plan::Reply(Reply::Done), Some(judgement));
    }
    if let Plan::Ask(query) = &mut plan_of_all
        && is_translated
        && !guard.passes()
    {
        query.command.clear();
        allowed.fields.write(&mut query.command);
    }
    let Some(sequel) = &judgement.sequel else {
        return (plan_of_all, Some(judgement));
    };
    if let Some(reply) = sequel.whole() {
        return (Plan::Reply(reply), Some(judgement));
    }
    if sequel.has_answers() {
        let items = sequel.open_items();
        plan_of_all = plan_of_items(&items, matches!(fields, Fields::GetConf(_)), tor);
        if let (Plan::Ask(query), Fields::GetInfo(_)) = (&mut plan_of_all, &fields) {
            query.question = Some(Question::Info(asked));
        }
    }
    (plan_of_all, Some(judgement))
}

/// Whether a command changes no option. Everybody may send one, and Tor would drop the client keys
/// of all that are not permanent.
fn changes_nothing(fields: &Fields) -> bool {
    matches!(fields, Fields::SetConf(settings) | Fields::ResetConf(settings) if settings.is_empty())
}

fn plan_for_frame<'a>(request: Result<Request<'a>, Refusal>, tor: Option<&Upstream>) -> Plan<'a> {
    match tor {
        Some(tor) => Plan::for_frame(request, &tor.identifiers),
        None => Plan::for_bus(request),
    }
}

/// The plan for those items of GETCONF or GETINFO that have no answer yet.
fn plan_of_items(items: &[Vec<u8>], is_conf: bool, tor: Option<&Upstream>) -> Plan<'static> {
    let items = items.iter().map(Vec::as_slice).collect();
    let request = if is_conf {
        Request::GetConf(items)
    } else {
        Request::GetInfo(items)
    };
    plan_for_frame(Ok(request), tor).into_owned()
}

/// POLICYCHECK: whether a command would be allowed.
fn check<'a>(guard: &Guard, law: &Law<'_>, line: &[u8], tor: Option<&Upstream>) -> Judged<'a> {
    let allowed = || (Plan::Reply(Reply::Done), None);
    let line = line.trim_ascii_start();
    if line.is_empty() {
        return allowed();
    }
    let body: &[u8] = if line.starts_with(b"+") {
        b"\r\n \r\n."
    } else {
        b""
    };
    let octets = [line, body, b"\r\n"].concat();
    let Framed::Command(command) = Framer::new().next(&octets) else {
        return refused(Refusal::LineTooLong);
    };
    if command.keyword.eq_ignore_ascii_case(CHECK) {
        return allowed();
    }
    let fields = text::verb(command.keyword).and_then(|verb| fields::parse(verb, &command));
    let fields = match fields {
        Ok(fields) => fields,
        Err(refusal) => return refused(refusal),
    };
    if lacks_facts(guard, law, &fields, tor) {
        return unjudged(law);
    }
    match judge(&guard.grants, law.ledger, &law.behind, &fields) {
        Verdict::Allow(_) => allowed(),
        Verdict::Refuse(why) => refused(why.refusal),
    }
}

/// Whether a command that passes as it came is looked at all the same: for what is noted of it,
/// for what only a bus with a policy answers, and to complain.
fn is_looked_at(verb: Verb, command: &Command<'_>, guard: &Guard) -> bool {
    let has_own_key = || {
        let has = |key| memchr::memmem::find(command.arguments, key).is_some();
        has(WHOAMI) || has(POLICY)
    };
    guard.grants.complains()
        || match verb {
            Verb::AddOnion
            | Verb::DelOnion
            | Verb::OnionClientAuthAdd
            | Verb::OnionClientAuthRemove
            | Verb::ExtendCircuit
            | Verb::HsFetch
            | Verb::Signal
            | Verb::SetConf
            | Verb::ResetConf => true,
            Verb::GetInfo => has_own_key(),
            _ => false,
        }
}

const WHOAMI: &[u8] = b"whoami";
const POLICY: &[u8] = b"policy";

/// Gives the keys that only a bus with a policy has their answers.
fn with_own_answers(guard: &Guard, mut allowed: Allowed) -> Allowed {
    if let Fields::GetInfo(keys) = &allowed.fields {
        for (place, key) in keys.iter().enumerate() {
            match &key[..] {
                WHOAMI => allowed.answers.push((place, guard.whoami())),
                POLICY => allowed.answers.push((place, guard.policy())),
                _ => {}
            }
        }
        allowed.answers.sort_unstable_by_key(|(place, _)| *place);
    }
    allowed
}

/// The fields of what is still to be done: without items that have an answer, and without events
/// that are never delivered.
fn open(allowed: Allowed, sequel: Option<&Sequel>) -> Fields {
    let open = sequel
        .filter(|sequel| sequel.has_answers())
        .map(Sequel::open_items);
    match (allowed.fields, open) {
        (Fields::GetInfo(_), Some(items)) => Fields::GetInfo(items),
        (Fields::GetConf(_), Some(items)) => Fields::GetConf(items),
        (fields, _) => fields,
    }
}

#[cfg(test)]
mod tests;
