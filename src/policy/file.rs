//! Policy files: blocks, whom they match, and what stands in them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::identity::{Identity, UNMAPPED};
use super::ledger::OwnSocks;
use super::table::Table;
use super::word::Word;
use crate::wire::fields::number;
use crate::wire::shown::shown;
use crate::wire::torrc::{self, is_blank, unquote};

/// The most octets of a block's name.
const MOST_NAME: usize = 64;

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its path, as it is told to people.
    pub file: &'a str,
    /// What it holds.
    pub text: &'a [u8],
    /// The number of the `BusPolicy` line that names it: each yields at least one block.
    pub group: usize,
}

/// Users and groups, looked up once while the files are read.
pub struct Names<'a> {
    /// The number of a user's name.
    pub user: &'a dyn Fn(&str) -> Option<u32>,
    /// The number of a group's name.
    pub group: &'a dyn Fn(&str) -> Option<u32>,
    /// The names of the users that can be listed, for `{user}`.
    pub users: BTreeMap<u32, String>,
    /// The name of one that a Match line is about, who may be in no list.
    pub name: &'a dyn Fn(u32) -> Option<String>,
}

#[cfg(test)]
impl Policy {
    /// The policy of one block with these lines, for everybody.
    pub(crate) fn of_lines(lines: &str) -> Self {
        let text = format!("Profile p\nMatch any\n{lines}\n");
        let source = Source {
            file: "p",
            text: text.as_bytes(),
            group: 0,
        };
        let policy = Self::parse(&[source], &Names::default());
        policy.unwrap_or_else(|problems| panic!("{problems:?}"))
    }
}

/// No user and no group has a name.
impl Default for Names<'_> {
    fn default() -> Self {
        Self {
            user: &|_| None,
            group: &|_| None,
            users: BTreeMap::new(),
            name: &|_| None,
        }
    }
}

/// One thing that is wrong with a file, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file's path.
    pub file: String,
    /// The line, from 1; none for the whole file.
    pub line: Option<usize>,
    /// What is wrong, without control octets.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}

impl std::error::Error for Problem {}

/// A line after Allow or Deny, by its words; `{user}` and `{uid}` still stand in them.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub is_deny: bool,
    pub words: Vec<Vec<u8>>,
    line: usize,
}

/// A block of a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    matches: Vec<Vec<Word>>,
    uses: BTreeSet<String>,
    pub rules: Vec<Rule>,
    pub answers: BTreeMap<Vec<u8>, Vec<u8>>,
    pub keep: Option<u64>,
    pub own_socks: BTreeSet<OwnSocks>,
    complain: bool,
    file: String,
    /// The lines of its name and of each `Use`.
    line: usize,
    use_lines: BTreeMap<String, usize>,
}

/// All blocks of all files.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    blocks: BTreeMap<String, Block>,
    pub(super) users: BTreeMap<u32, String>,
}

impl Policy {
    /// Whether onion services are kept for anybody.
    #[must_use]
    pub fn keeps_onions(&self) -> bool {
        let keeps = |block: &Block| block.keep.is_some_and(|seconds| seconds > 0);
        self.blocks.values().any(keeps)
    }

    /// Reads files whose names are all different, or tells all that is wrong with them.
    pub fn parse(sources: &[Source<'_>], names: &Names<'_>) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader {
            names,
            blocks: BTreeMap::new(),
            problems: Vec::new(),
            with_blocks: BTreeSet::new(),
        };
        for source in sources {
            reader.file(source);
        }
        let groups: BTreeSet<_> = sources.iter().map(|source| source.group).collect();
        for group in groups {
            let mut of_group = sources.iter().filter(|source| source.group == group);
            let has_block = |source: &Source<'_>| reader.with_blocks.contains(source.file);
            if let Some(first) = of_group.clone().next()
                && !of_group.any(has_block)
                && !reader
                    .problems
                    .iter()
                    .any(|problem| problem.file == first.file)
            {
                reader.problems.push(Problem {
                    file: first.file.to_owned(),
                    line: None,
                    text: "it has no block, which begins with Profile NAME".into(),
                });
            }
        }
        reader.check_uses();
        if !reader.problems.is_empty() {
            reader.problems.sort();
            return Err(reader.problems);
        }
        let mut users = names.users.clone();
        let blocks = reader.blocks;
        let words = blocks.values().flat_map(|block| &block.matches).flatten();
        for uid in words.filter_map(Word::one_user) {
            if let Entry::Vacant(entry) = users.entry(uid)
                && let Some(name) = (names.name)(uid)
            {
                entry.insert(name);
            }
        }
        Ok(Self { blocks, users })
    }

    /// The names of the blocks, in order.
    pub fn profiles(&self) -> impl Iterator<Item = &str> {
        self.blocks.keys().map(String::as_str)
    }

    /// Lines that grant more than it seems, and that nobody may read the files again, if so.
    #[must_use]
    pub fn warnings(&self) -> Vec<Problem> {
        let mut warnings = Vec::new();
        let mut may_reload = false;
        for block in self.blocks.values() {
            for rule in block.rules.iter().filter(|rule| !rule.is_deny) {
                let words: Vec<_> = rule
                    .words
                    .iter()
                    .map(|word| word.to_ascii_lowercase())
                    .collect();
                let what = words.first().map(Vec::as_slice).unwrap_or_default();
                may_reload |= what == b"all" || words.iter().any(|word| word == b"busreload");
                let text = match what {
                    b"loadconf" => Some("loadconf gives every setconf".to_owned()),
                    b"setconf" => {
                        let options = words.iter().skip(1).map(|word| {
                            word.split(|&octet| octet == b'=')
                                .next()
                                .unwrap_or_default()
                        });
                        let risky: Vec<_> =
                            options.filter(|name| is_risky(name)).map(shown).collect();
                        let names = risky.join(", ");
                        let what = "takes a program, a file, a directory or a listener";
                        (!risky.is_empty()).then(|| format!("{names} {what}, or can end Tor"))
                    }
                    _ => None,
                };
                warnings.extend(text.map(|text| Problem {
                    file: block.file.clone(),
                    line: Some(rule.line),
                    text,
                }));
            }
        }
        if !may_reload {
            warnings.push(Problem {
                file: "BusPolicy".into(),
                line: None,
                text: "nobody is allowed bussignal BUSRELOAD: only SIGHUP reads it again".into(),
            });
        }
        warnings
    }

    /// The names of the blocks that match.
    pub(super) fn matching(&self, identity: &Identity) -> Vec<String> {
        let is_matching = |block: &Block| {
            block.matches.iter().any(|words| {
                let admits = identity.uid != UNMAPPED || words.contains(&Word::Any);
                admits && words.iter().all(|word| word.holds(identity))
            })
        };
        let matching = self.blocks.iter().filter(|(_, block)| is_matching(block));
        matching.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a block only complains.
    pub(super) fn complains(&self, name: &str) -> bool {
        self.blocks.get(name).is_some_and(|block| block.complain)
    }

    /// These blocks and all that they use, in the order of their names.
    pub(super) fn with_used<'a>(&'a self, names: &[String]) -> BTreeMap<&'a str, &'a Block> {
        let mut found = BTreeMap::new();
        let mut open: Vec<&str> = names.iter().map(String::as_str).collect();
        while let Some(name) = open.pop() {
            if let Some((name, block)) = self.blocks.get_key_value(name)
                && found.insert(name.as_str(), block).is_none()
            {
                open.extend(block.uses.iter().map(String::as_str));
            }
        }
        found
    }
}

struct Reader<'a> {
    names: &'a Names<'a>,
    blocks: BTreeMap<String, Block>,
    problems: Vec<Problem>,
    /// The files that have a block, whether it is right or not.
    with_blocks: BTreeSet<String>,
}

impl Reader<'_> {
    fn problem(&mut self, file: &str, line: usize, text: impl Into<String>) {
        self.problems.push(Problem {
            file: file.to_owned(),
            line: Some(line),
            text: text.into(),
        });
    }

    fn file(&mut self, source: &Source<'_>) {
        let (lines, mistakes) = torrc::scan(source.text);
        for mistake in mistakes {
            self.problem(source.file, mistake.line, mistake.text);
        }
        // The block that lines are of; its name is empty where the line with it is wrong.
        let mut current: Option<(String, Block)> = None;
        for line in lines {
            let is_profile = line.key.eq_ignore_ascii_case(b"Profile");
            if is_profile {
                self.end(current.take());
                self.with_blocks.insert(source.file.to_owned());
                let name = match self.name(&line.value) {
                    Ok(name) => name,
                    Err(why) => {
                        self.problem(source.file, line.number, why);
                        String::new()
                    }
                };
                let block = Block {
                    file: source.file.to_owned(),
                    line: line.number,
                    ..Block::default()
                };
                current = Some((name, block));
                continue;
            }
            let read = match &mut current {
                Some((_, block)) => self.line(block, &line),
                None => Err("a line before the first Profile: a block begins with its name".into()),
            };
            if let Err(why) = read {
                self.problem(source.file, line.number, why);
            }
        }
        self.end(current);
    }

    fn end(&mut self, block: Option<(String, Block)>) {
        if let Some((name, block)) = block.filter(|(name, _)| !name.is_empty()) {
            self.blocks.insert(name, block);
        }
    }

    fn name(&self, value: &[u8]) -> Result<String, String> {
        let is_letter = |octet: &u8| octet.is_ascii_alphanumeric() || b"_.-".contains(octet);
        let is_good = (1..=MOST_NAME).contains(&value.len()) && value.iter().all(is_letter);
        let text = shown(value);
        let name = str::from_utf8(value)
            .ok()
            .filter(|_| is_good)
            .ok_or_else(|| {
                format!("'{text}': a name has 1 to {MOST_NAME} letters, digits, _ . or -")
            })?;
        match self.blocks.get(name) {
            Some(other) => Err(format!(
                "the name {name} is taken by {}:{}",
                other.file, other.line
            )),
            None => Ok(name.to_owned()),
        }
    }

    /// Reads a line of a block, or says what is wrong.
    fn line(&mut self, block: &mut Block, line: &torrc::Line) -> Result<(), String> {
        let value = &line.value;
        match &line.key.to_ascii_lowercase()[..] {
            b"match" => {
                let words = words(value)?;
                if words.is_empty() {
                    return Err(
                        "Match needs words: user=, group=, label=, unit=, socket= or any".into(),
                    );
                }
                let words = words.iter().map(|word| Word::parse(word, self.names));
                block.matches.push(words.collect::<Result<_, _>>()?);
            }
            b"use" => {
                let words = words(value)?;
                if words.is_empty() {
                    return Err("Use needs the names of profiles".into());
                }
                for word in words {
                    let name = String::from_utf8_lossy(&word).into_owned();
                    block.use_lines.entry(name.clone()).or_insert(line.number);
                    block.uses.insert(name);
                }
            }
            b"allow" | b"deny" => {
                let is_deny = line.key.eq_ignore_ascii_case(b"deny");
                let words = words(value)?;
                let rule = Rule {
                    is_deny,
                    words,
                    line: line.number,
                };
                // Told now and with the line, whatever the user will be.
                let sample = rule.words_for(Some("user"), 0).unwrap_or_default();
                Table::default().add(&sample, is_deny)?;
                block.rules.push(rule);
            }
            b"answer" => {
                let (key, text) = answer(value)?;
                if block.answers.insert(key.clone(), text).is_some() {
                    return Err(format!("another Answer of this block has {}", shown(&key)));
                }
            }
            b"keep" => {
                let seconds = match &words(value)?[..] {
                    [what, seconds] if what.eq_ignore_ascii_case(b"onions") => number(seconds),
                    _ => None,
                };
                let seconds = seconds.ok_or("Keep takes onions and a number of seconds")?;
                block.keep = block.keep.max(Some(seconds));
            }
            b"own-socks" => {
                block.own_socks.insert(own_socks(value)?);
            }
            b"complain" if value.is_empty() => block.complain = true,
            b"complain" => return Err("Complain takes nothing".into()),
            b"%include" => return Err("a policy file includes none; name it by BusPolicy".into()),
            other => {
                return Err(format!(
                    "'{}' is no keyword: Profile, Match, Use, Allow, Deny, Answer, Keep, \
                     Own-Socks, Complain",
                    shown(other)
                ));
            }
        }
        Ok(())
    }

    /// Every name after Use is a block's, and none leads back to itself.
    fn check_uses(&mut self) {
        let mut problems = Vec::new();
        for (name, block) in &self.blocks {
            for (used, &line) in &block.use_lines {
                let text = if !self.blocks.contains_key(used) {
                    format!("there is no profile '{}'", shown(used.as_bytes()))
                } else if self.reaches(used, name) {
                    format!("{name} uses itself by way of {used}")
                } else {
                    continue;
                };
                problems.push(Problem {
                    file: block.file.clone(),
                    line: Some(line),
                    text,
                });
            }
        }
        self.problems.append(&mut problems);
    }

    fn reaches(&self, from: &str, to: &str) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(name) = open.pop() {
            if name == to {
                return true;
            }
            if seen.insert(name)
                && let Some(block) = self.blocks.get(name)
            {
                open.extend(block.uses.iter().map(String::as_str));
            }
        }
        false
    }
}

impl Rule {
    /// The words for a user. Without a name, a line with `{user}` covers nothing in an Allow, and
    /// everything in a Deny.
    pub fn words_for(&self, user: Option<&str>, uid: u32) -> Option<Vec<Vec<u8>>> {
        let mut words = Vec::with_capacity(self.words.len());
        for word in &self.words {
            let has_user = memchr::memmem::find(word, b"{user}").is_some();
            let word = match (has_user, user) {
                (true, None) if self.is_deny => return Some(self.words[..1].to_vec()),
                (true, None) => return None,
                (true, Some(user)) => replaced(word, b"{user}", user.as_bytes()),
                (false, _) => word.clone(),
            };
            words.push(replaced(&word, b"{uid}", uid.to_string().as_bytes()));
        }
        Some(words)
    }
}

fn replaced(text: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, old) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(new);
        rest = &rest[at + old.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Whether an option of Tor's, in lower case, gives more than its value: it takes a program, a file,
/// a directory or a listener, or its value is a process that Tor ends with.
fn is_risky(name: &[u8]) -> bool {
    const ENDS: [&[u8]; 9] = [
        b"plugin",
        b"file",
        b"dir",
        b"directory",
        b"port",
        b"socket",
        b"exec",
        b"listenaddr",
        b"listenaddress",
    ];
    const NAMES: [&[u8]; 6] = [
        b"log",
        b"user",
        b"__owningcontrollerprocess",
        b"controlsocketsgroupwritable",
        b"controlportwritetofile",
        b"dirportfrontpage",
    ];
    ENDS.iter().any(|end| name.ends_with(end))
        || NAMES.contains(&name)
        || name.starts_with(b"hiddenservice")
}

/// The words of a value, between blanks; a part in quotes, anywhere in a word, belongs to it.
fn words(value: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = value;
    loop {
        let blanks = rest.iter().take_while(|octet| is_blank(**octet)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        while let Some((&first, after)) = rest.split_first().filter(|(first, _)| !is_blank(**first))
        {
            if first == b'"' {
                let (part, length) = unquote(rest)?;
                word.extend_from_slice(&part);
                rest = &rest[length..];
            } else {
                word.push(first);
                rest = after;
            }
        }
        if word.iter().any(u8::is_ascii_control) {
            return Err(format!(
                "'{}': a word holds no control octets",
                shown(&word)
            ));
        }
        words.push(word);
    }
}

/// `KEY=TEXT`, where the text may be in quotes.
fn answer(value: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let equals = memchr::memchr(b'=', value).filter(|&equals| equals > 0);
    let equals = equals.ok_or("Answer takes KEY=TEXT")?;
    let (key, text) = (&value[..equals], &value[equals + 1..]);
    let text = match text.first() {
        Some(b'"') => match unquote(text)? {
            (text_read, length) if length == text.len() => text_read,
            _ => text.to_vec(),
        },
        _ => text.to_vec(),
    };
    if key.iter().chain(&text).any(u8::is_ascii_control) || key.contains(&b' ') {
        return Err("Answer takes KEY=TEXT, one word and one line".into());
    }
    Ok((key.to_vec(), text))
}

fn own_socks(value: &[u8]) -> Result<OwnSocks, String> {
    let takes = "Own-Socks takes unix:PATH, an absolute one, or user=PREFIX";
    match &words(value)?[..] {
        [word] => match (word.strip_prefix(b"unix:"), word.strip_prefix(b"user=")) {
            (Some(path), _) if path.starts_with(b"/") => Ok(OwnSocks::Unix(path.to_vec())),
            (_, Some(prefix)) if !prefix.is_empty() => Ok(OwnSocks::User(prefix.to_vec())),
            _ => Err(takes.into()),
        },
        _ => Err(takes.into()),
    }
}
