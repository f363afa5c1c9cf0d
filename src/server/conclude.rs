//! Tor's answer to a command that concerns both, or that a binary controller has asked, and what
//! the bus adds to it: together they are the reply.

use super::Server;
use super::relay::Asked;
use crate::options::Options;
use crate::tor::mixed::{self, Then};
use crate::tor::translate;
use crate::wire::refusal::Refusal;
use crate::wire::reply::Reply;

impl Server {
    /// Makes Tor's answer to a command of both into the reply, which is still to be sent.
    pub(super) fn conclude(&mut self, key: usize, asked: Asked) {
        let Asked {
            then,
            question,
            reply,
            too_long,
            ..
        } = asked;
        let dialect = self.connections[key].session.dialect();
        let session = self.connections[key].session.id();
        let agreed = last_line(&reply).starts_with(b"250");
        let outcome = match then {
            _ if too_long => Err(self.reply_too_long()),
            Then::Info(keys) if agreed => self.conclude_info(session, &keys, &reply),
            Then::Conf(names) => self.conclude_conf(&names, &reply),
            Then::Set(own) if agreed => self.set_conf(&own).map(|_| reply),
            Then::Load(own) if agreed => self.load_conf(&own).map(|_| reply),
            // A Tor that may not write its file keeps nobody from writing the bus's.
            Then::Save { force } if self.options.file().is_some() => match self.save_conf(force) {
                Err(refusal) if agreed => Err(refusal),
                _ => Ok(reply),
            },
            _ => Ok(reply),
        };
        let outcome = outcome.and_then(|reply| {
            if let (Some(question), Some(tor)) = (question, &mut self.tor) {
                let answer = translate::answer(&question, &reply, &mut tor.identifiers)?;
                dialect.encode_reply(&answer, &mut self.replies);
            } else {
                self.replies.extend_from_slice(&reply);
            }
            Ok(())
        });
        if let Err(refusal) = outcome {
            dialect.encode_refusal(&refusal, &mut self.replies);
        }
    }

    fn conclude_info(
        &mut self,
        session: u64,
        keys: &[Vec<u8>],
        reply: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let mut of_tor = mixed::parts(reply).into_iter();
        let mut made = Vec::new();
        for key in keys {
            if mixed::is_own_key(key) {
                let value = self.value(session, key);
                let mut one = Vec::new();
                let pair = vec![(key.clone(), value)];
                crate::wire::text::encode_reply(&Reply::Info(pair), &mut one);
                made.extend_from_slice(one.strip_suffix(b"250 OK\r\n").unwrap_or(&one));
            } else if let Some(part) = of_tor.next() {
                made.extend_from_slice(&match &key[..] {
                    b"info/names" => mixed::united(part, "", &Self::own_info_names()),
                    b"events/names" => mixed::united(part, "POSTMESSAGE CONTROLLER TOR", b""),
                    b"signal/names" => mixed::united(part, "BUSRELOAD BUSSHUTDOWN", b""),
                    b"config/names" => mixed::united(part, "", &Options::names()),
                    b"config/defaults" => mixed::united(part, "", &self.options.defaults_text()),
                    _ => part.to_vec(),
                });
            }
            if made.len() > self.reply_room() {
                return Err(self.reply_too_long());
            }
        }
        made.extend_from_slice(b"250 OK\r\n");
        Ok(made)
    }

    fn conclude_conf(&self, names: &[Vec<u8>], reply: &[u8]) -> Result<Vec<u8>, Refusal> {
        let unknown_here =
            |name: &&Vec<u8>| crate::options::is_own(name) && self.options.get(name).is_none();
        let agreed = last_line(reply).starts_with(b"250");
        if !agreed || names.iter().any(|name| unknown_here(&name)) {
            // Tor quotes each name that it does not know.
            let quoted_by_tor = |name: &Vec<u8>| {
                let quoted = [b"\"", &name[..], b"\""].concat();
                !agreed && memchr::memmem::find(reply, &quoted).is_some()
            };
            let unknown: Vec<_> = names
                .iter()
                .filter(|name| unknown_here(name) || quoted_by_tor(name))
                .cloned()
                .collect();
            return if unknown.is_empty() {
                Ok(reply.to_vec())
            } else {
                Err(Refusal::UnrecognizedOptions(unknown))
            };
        }
        let lines = mixed::conf(names, reply, |name| {
            self.options.get(name).unwrap_or_default()
        });
        let last = lines.len().saturating_sub(1);
        let mut made = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            made.extend_from_slice(if index == last { b"250 " } else { b"250-" });
            made.extend_from_slice(line);
            made.extend_from_slice(b"\r\n");
        }
        Ok(made)
    }
}

fn last_line(reply: &[u8]) -> &[u8] {
    let reply = reply.strip_suffix(b"\r\n").unwrap_or(reply);
    memchr::memrchr(b'\n', reply).map_or(reply, |found| &reply[found + 1..])
}
