//! Plays a transcript of a client to a daemon.

use std::collections::BTreeMap;

use crate::World;
use crate::script::{Piece, Step, Transcript};
use crate::support::Controller;

const DONE: u16 = 0x0001;
const SETEVENTS: u16 = 0x0005;
const EVENT: u16 = 0x0006;
const FRAGMENTHEADER: u16 = 0x0010;
const FRAGMENT: u16 = 0x0011;

/// One connection of the client.
struct Connection {
    controller: Controller,
    /// Events since the last SETEVENTS that was agreed to, by their codes: where they come between
    /// other messages is up to Tor and the clock.
    events: BTreeMap<[u8; 2], Vec<u8>>,
    /// SETEVENTS was sent, and not answered.
    asked: bool,
}

/// Sends what the client sent, and wants what came to it.
#[track_caller]
pub fn play(transcript: &Transcript, world: &World) {
    let variables: BTreeMap<&str, Vec<u8>> = world.variables().into_iter().collect();
    let mut connections: BTreeMap<&str, Connection> = BTreeMap::new();
    for (line, step) in &transcript.steps {
        let line = format!("{}: line {line}", transcript.title);
        match step {
            Step::Connect { who, .. } => {
                let connection = Connection {
                    controller: Controller::at(&world.socket()),
                    events: BTreeMap::new(),
                    asked: false,
                };
                connections.insert(who, connection);
            }
            Step::Send { who, pieces } => {
                let connection = connections
                    .get_mut(who.as_str())
                    .expect("it connects first");
                for piece in pieces {
                    if let Piece::Frame { kind, body } = piece {
                        connection.asked = *kind == SETEVENTS;
                        let octets = literal(&known(body, &variables));
                        connection.controller.send_frame(*kind, &octets);
                    } else {
                        let octets = literal(std::slice::from_ref(piece));
                        connection.controller.send(octets);
                    }
                }
            }
            Step::Expect { who, pieces } => {
                let connection = connections
                    .get_mut(who.as_str())
                    .expect("it connects first");
                for piece in pieces {
                    let Piece::Frame { kind, body } = piece else {
                        panic!("{line}: {piece:?} is no message");
                    };
                    connection.expect(*kind, &known(body, &variables), &line);
                }
            }
            Step::Closes(who) => {
                let mut connection = connections.remove(who.as_str()).expect("it connects first");
                let rest = connection.controller.rest();
                assert!(rest.is_empty(), "{line}: {}", rest.escape_ascii());
            }
            other => panic!("{line}: no client does this: {other:?}"),
        }
    }
}

/// Pieces with the values of variables.
fn known(pieces: &[Piece], variables: &BTreeMap<&str, Vec<u8>>) -> Vec<Piece> {
    let known = |piece: &Piece| match piece {
        Piece::Variable(name) => Piece::Octets(variables[name.as_str()].clone()),
        other => other.clone(),
    };
    pieces.iter().map(known).collect()
}

fn literal(pieces: &[Piece]) -> Vec<u8> {
    let octets = pieces.iter().map(|piece| match piece {
        Piece::Octets(octets) => octets.as_slice(),
        other => panic!("{other:?} cannot be sent"),
    });
    octets.collect::<Vec<_>>().concat()
}

impl Connection {
    #[track_caller]
    fn expect(&mut self, kind: u16, pieces: &[Piece], line: &str) {
        if kind == EVENT {
            let code = match pieces.first() {
                Some(Piece::Octets(octets)) => [octets[0], octets[1]],
                other => panic!("{line}: {other:?} is no code"),
            };
            while !self.events.contains_key(&code) {
                let (kind, body) = self.controller.frame();
                assert_eq!(kind, EVENT, "{line}: {}", body.escape_ascii());
                self.remember(body);
            }
            check(pieces, &self.events[&code], line);
            return;
        }
        let mut message = self.controller.frame();
        while message.0 == EVENT {
            self.remember(message.1);
            message = self.controller.frame();
        }
        let (found, mut body) = message;
        if std::mem::take(&mut self.asked) && found == DONE {
            self.events.clear();
        }
        if found == FRAGMENTHEADER {
            self.gather(&mut body, line);
        }
        assert_eq!(found, kind, "{line}: {}", body.escape_ascii());
        check(pieces, &body, line);
    }

    fn remember(&mut self, body: Vec<u8>) {
        let code = *body.first_chunk().expect("every event has a code");
        self.events.entry(code).or_insert(body);
    }

    /// Puts the fragments behind what came with their header (control-spec-v0 3.17).
    #[track_caller]
    fn gather(&mut self, body: &mut Vec<u8>, line: &str) {
        let total = body[2..6].try_into().expect("four octets");
        let whole = 6 + usize::try_from(u32::from_be_bytes(total)).expect("no more than there is");
        assert!(
            whole > 6 + 65535,
            "{line}: {whole} octets need no fragments"
        );
        while body.len() < whole {
            assert!(
                body.len().is_multiple_of(65535),
                "{line}: a fragment is not full"
            );
            let (kind, more) = self.controller.frame();
            assert_eq!(kind, FRAGMENT, "{line}: {}", more.escape_ascii());
            body.extend(more);
        }
    }
}

#[track_caller]
fn check(pieces: &[Piece], octets: &[u8], line: &str) {
    let shown = |piece: &Piece| match piece {
        Piece::Octets(octets) => octets.escape_ascii().to_string(),
        other => format!("{{{other:?}}}"),
    };
    let expected: String = pieces.iter().map(shown).collect();
    let got = octets.escape_ascii().to_string();
    let beginning = |text: &str| text.chars().take(500).collect::<String>();
    assert!(
        matches(pieces, octets),
        "{line}: expected {}\nand got {}",
        beginning(&expected),
        beginning(&got)
    );
}

/// Whether the octets are as the pieces say. What may be anything ends where the next piece begins.
fn matches(pieces: &[Piece], octets: &[u8]) -> bool {
    match pieces {
        [] => octets.is_empty(),
        [Piece::Octets(first), rest @ ..] => octets
            .strip_prefix(first.as_slice())
            .is_some_and(|octets| matches(rest, octets)),
        [Piece::Any(length), rest @ ..] => octets
            .get(*length..)
            .is_some_and(|octets| matches(rest, octets)),
        [Piece::Anything] => !octets.is_empty(),
        [Piece::Anything, Piece::Octets(next), rest @ ..] => memchr::memmem::find(octets, next)
            .is_some_and(|at| at > 0 && matches(rest, &octets[at + next.len()..])),
        [other, ..] => panic!("{other:?} cannot be expected"),
    }
}
