//! The leg, fed octet by octet.

use super::*;
use crate::tor::merge::Share;
use crate::wire::request::{Request, Setting};

const MOST: usize = 1000;

fn fence() -> Fence {
    Fence::new([0xAB; 16])
}

fn leg(fences: bool) -> Leg {
    let mut leg = Leg::default();
    leg.handle_open(fences, &fence());
    leg
}

fn command(leg: &mut Leg, octets: &[u8], replies: Replies) {
    leg.handle_command(octets, 1, replies, &fence());
}

fn query(leg: &mut Leg, keys: &[&[u8]]) {
    match Share::of(&Request::GetInfo(keys.to_vec())) {
        Share::Both(query) => leg.handle_query(query, &fence()),
        other => panic!("{other:?}"),
    }
}

/// Everything that comes out, answers in brackets, and the number of dropped octets.
fn heard(leg: &mut Leg, octets: &[u8], size: usize) -> (String, usize) {
    let (mut out, mut dropped) = (String::new(), 0);
    for part in octets.chunks(size) {
        let mut outputs = Vec::new();
        dropped += leg.handle_octets(part, &fence(), MOST, &mut outputs);
        for output in outputs {
            match output {
                Output::Replies(octets) => out += &String::from_utf8_lossy(&octets),
                Output::Answer(_, Some(answer)) => {
                    out += "[";
                    out += &String::from_utf8_lossy(&answer);
                    out += "]";
                }
                Output::Answer(_, None) => out += "[too long]",
                Output::Gist(gist) => {
                    out += "<";
                    out += &gist.status().unwrap_or(0).to_string();
                    out += ">";
                }
            }
        }
    }
    (out, dropped)
}

#[test]
fn a_noted_commands_gist_comes_with_its_replies_which_go_on_as_they_came() {
    let answer = String::from_utf8_lossy(fence().answer()).into_owned();
    let text = format!("250 OK\r\n512 a\r\n250 OK\r\n{answer}551 x\r\n");
    for size in 1..text.len() {
        let mut leg = leg(true);
        command(&mut leg, b"SIGNAL NEWNYM\r\n", Replies::One);
        leg.note_last();
        command(&mut leg, b"ONION_CLIENT_AUTH_ADD x\r\n", Replies::Any);
        leg.note_last();
        command(&mut leg, b"GETINFO version\r\n", Replies::One);
        let (out, dropped) = heard(&mut leg, text.as_bytes(), size);
        let plain = out.replace("<250>", "");
        assert_eq!((plain, dropped), (text.replace(&answer, ""), 0), "{out}");
        assert_eq!(out.matches("<250>").count(), 2, "{size}: {out}");
    }
    let mut early = Leg::default();
    command(&mut early, b"SIGNAL NEWNYM\r\n", Replies::One);
    early.note_last();
    command(&mut early, b"GETINFO version\r\n", Replies::One);
    early.handle_open(true, &fence());
    let (out, _) = heard(&mut early, b"250 OK\r\n", 1000);
    assert_eq!(out, "<250>250 OK\r\n");
}

#[test]
fn commands_of_one_cost_are_counted_together_and_answered_one_by_one() {
    let reply = "250-a=b\r\n250 OK\r\n";
    let text = format!("{reply}650 BW 1 2\r\n{}552 x\r\n", reply.repeat(5));
    for size in 1..=text.len() {
        let mut leg = leg(true);
        for sent in 1..=7 {
            command(&mut leg, b"GETINFO a\r\n", Replies::One);
            if sent == 4 {
                leg.note_last();
            }
        }
        assert_eq!((leg.pending.len(), leg.owed()), (3, Some(7)));
        let (out, dropped) = heard(&mut leg, text.as_bytes(), size);
        let plain = out.replace("<250>", "");
        assert_eq!(plain, text.replace("650 BW 1 2\r\n", ""), "cut in {size}");
        assert_eq!((dropped, out.matches("<250>").count()), (12, 1), "{size}");
        assert_eq!((leg.is_quiet(), leg.owed()), (true, Some(0)));
        assert_eq!(heard(&mut leg, b"250 OK\r\n", size), (String::new(), 8));
    }
    let mut leg = leg(true);
    for weight in [0, 0, 1, 1, 0] {
        leg.handle_command(b"X\r\n", weight, Replies::One, &fence());
    }
    assert_eq!(leg.pending.len(), 3, "each has its cost");
    heard(&mut leg, b"250 OK\r\n250 OK\r\n250-a\r\n", 100);
    assert_eq!((leg.owed(), leg.cost), (None, 2 * SHORT + 1));
}

#[test]
fn a_fence_ends_commands_that_were_never_answered() {
    for replies in ["250 OK\r\n", "250 OK\r\n250-a=b\r\n25"] {
        let octets = [replies.as_bytes(), fence().answer()].concat();
        for size in 1..=octets.len() {
            let mut leg = leg(true);
            for _ in 0..3 {
                command(&mut leg, b"GETINFO a\r\n", Replies::One);
            }
            command(&mut leg, b"SETCONF x\r\n", Replies::Any);
            leg.poll_transmit().clear();
            let (out, dropped) = heard(&mut leg, &octets, size);
            assert_eq!((out.as_str(), dropped), (replies, 0), "cut in {size}");
            assert_eq!((leg.owed(), leg.cost, leg.unanswered), (Some(0), 0, 0));
            assert!(leg.is_quiet());
        }
    }
}

#[test]
fn replies_are_told_apart_wherever_they_are_cut() {
    let fence = fence();
    let answer = String::from_utf8_lossy(fence.answer()).into_owned();
    let octets = format!(
        "250-a=b\r\n250 OK\r\n512 x\r\n250 OK\r\n{answer}250+info/names=\r\n650 x\r\n.\r\n\
         250 OK\r\n510 Unrecognized"
    );
    for size in 1..=octets.len() {
        let mut leg = leg(true);
        command(&mut leg, b"GETINFO a\r\n", Replies::One);
        command(&mut leg, b"ONION_CLIENT_AUTH_ADD\r\n", Replies::Any);
        query(&mut leg, &[b"info/names"]);
        command(&mut leg, b"FOO\r\n", Replies::One);
        let sent = std::mem::take(leg.poll_transmit());
        let expected = [
            &b"GETINFO a\r\nONION_CLIENT_AUTH_ADD\r\n"[..],
            fence.command(),
            b"GETINFO info/names\r\nFOO\r\n",
        ];
        assert_eq!(sent, expected.concat());
        let (out, dropped) = heard(&mut leg, octets.as_bytes(), size);
        assert_eq!(
            out,
            "250-a=b\r\n250 OK\r\n512 x\r\n250 OK\r\n[250+info/names=\r\n650 x\r\n.\r\n\
             250 OK\r\n]510 Unrecognized",
            "cut in {size}"
        );
        assert_eq!((dropped, leg.owed(), leg.is_quiet()), (0, None, false));
        assert_eq!(heard(&mut leg, b" x\r\n", size).0, " x\r\n");
        assert_eq!((leg.owed(), leg.is_quiet()), (Some(0), true));
    }
}

#[test]
fn nothing_that_was_not_asked_for_gets_through() {
    let octets = b"250 OK\r\n650 POSTMESSAGE 7 a @b x\r\n250 b\r\n250-junk\r\n250 junk\r\n650-A\r\n650 OK\r\n6";
    for size in 1..=octets.len() {
        let mut leg = leg(true);
        command(&mut leg, b"GETINFO a\r\n", Replies::One);
        command(&mut leg, b"GETINFO b\r\n", Replies::One);
        let (out, dropped) = heard(&mut leg, octets, size);
        assert_eq!(out, "250 OK\r\n250 b\r\n", "cut in {size}");
        assert_eq!(dropped, octets.len() - "250 OK\r\n250 b\r\n6".len());
        command(&mut leg, b"GETINFO c\r\n", Replies::One);
        assert_eq!(heard(&mut leg, b"50 X\r\n250 c\r\n", size).0, "250 c\r\n");
    }
}

#[test]
fn a_refused_value_cannot_end_a_reply_too_early() {
    let forged = b"513 Unacceptable: \"a\r\n250-version=FORGED\r\n250 OK\r\n250+x=\r\n\"\r\n";
    let fence = fence();
    let octets = [forged, fence.answer(), b"250 OK\r\n"].concat();
    for size in 1..=octets.len() {
        let mut leg = leg(true);
        command(&mut leg, b"SETCONF x\r\n", Replies::Any);
        command(&mut leg, b"GETINFO a\r\n", Replies::One);
        let (out, _) = heard(&mut leg, &octets, size);
        assert_eq!(out.as_bytes(), [&forged[..], b"250 OK\r\n"].concat());
        assert!(leg.is_quiet());
    }
}

#[test]
fn without_fences_one_reply_is_expected_of_each() {
    let mut leg = leg(false);
    command(&mut leg, b"ADD_ONION x\r\n", Replies::Any);
    query(&mut leg, &[b"info/names"]);
    assert_eq!(
        leg.poll_transmit(),
        b"ADD_ONION x\r\nGETINFO info/names\r\n"
    );
    let (out, _) = heard(&mut leg, b"510 Command filtered\r\n250 OK\r\n", 5);
    assert_eq!(out, "510 Command filtered\r\n[250 OK\r\n]");
    assert!(leg.is_quiet());
}

#[test]
fn commands_from_before_the_login_follow_it() {
    let mut leg = Leg::default();
    command(&mut leg, b"ADD_ONION x\r\n", Replies::Any);
    assert_eq!(leg.owed(), Some(1));
    assert!(leg.poll_transmit().is_empty() && !leg.is_quiet());
    leg.handle_open(true, &fence());
    let expected = [b"ADD_ONION x\r\n", fence().command()].concat();
    assert_eq!(leg.poll_transmit(), &expected);
}

#[test]
fn tor_is_never_asked_for_more_than_the_window() {
    let mut leg = leg(true);
    for _ in 0..3 {
        assert!(leg.has_room(10_000), "a third of the window each");
        leg.handle_command(b"X\r\n", 10_000, Replies::One, &fence());
    }
    assert!(!leg.has_room(0));
    heard(&mut leg, &b"250 OK\r\n".repeat(3), 8);
    leg.poll_transmit().clear();
    for _ in 0..WINDOW {
        assert!(leg.has_room(1));
        command(&mut leg, b"GETINFO ns/all\r\n", Replies::One);
    }
    assert!(!leg.has_room(1) && !leg.has_room(0) && !leg.is_half_empty());
    heard(&mut leg, b"250 OK\r\n", 8);
    leg.poll_transmit().clear();
    assert!(leg.has_room(1) && !leg.is_half_empty());
    heard(&mut leg, &b"250 OK\r\n".repeat(WINDOW / 2), 4096);
    assert!(leg.is_half_empty());
}

#[test]
fn the_replies_that_a_broken_leg_owes_are_counted() {
    let mut leg = leg(true);
    command(&mut leg, b"SETCONF x\r\n", Replies::Any);
    command(&mut leg, b"GETINFO a\r\n", Replies::One);
    assert_eq!(leg.owed(), Some(2));
    heard(&mut leg, b"250 OK\r\n510 Unrec", 100);
    assert_eq!(leg.owed(), Some(1), "the fence's answer had begun");
    heard(&mut leg, b"xx\r\n", 100);
    query(&mut leg, &[b"info/names"]);
    assert_eq!(leg.owed(), Some(2));
}

#[test]
fn an_answer_that_is_still_collected_is_owed() {
    let mut leg = leg(true);
    let settings = ["BusHistory", "Log"].map(|name| Setting {
        name: name.into(),
        value: None,
    });
    match Share::of(&Request::SetConf(settings.to_vec())) {
        Share::Both(query) => leg.handle_query(query, &fence()),
        other => panic!("{other:?}"),
    }
    heard(&mut leg, b"250 OK\r\n", 100);
    assert_eq!(leg.owed(), Some(1), "its fence has not come back");
}

#[test]
fn an_answer_that_is_too_long_is_not_kept() {
    let mut leg = leg(true);
    query(&mut leg, &[b"info/names"]);
    let long = format!("250-a={}\r\n250 OK\r\n", "x".repeat(MOST));
    assert_eq!(heard(&mut leg, long.as_bytes(), 100).0, "[too long]");
    assert!(leg.is_quiet());
}

#[test]
fn a_leg_at_rest_holds_little() {
    let mut leg = leg(true);
    for _ in 0..100 {
        command(&mut leg, b"GETINFO version\r\n", Replies::One);
    }
    leg.poll_transmit().clear();
    heard(&mut leg, &b"250-version=1\r\n250 OK\r\n".repeat(100), 7);
    assert_eq!(leg.held(), 0);
    // Thousands of controllers have one, and the next size that the allocator has is 192.
    assert!(size_of::<Leg>() <= 160, "{}", size_of::<Leg>());
}

#[test]
fn an_idle_tor_is_given_the_beginning_of_a_batch_at_once() {
    let mut leg = leg(true);
    for sent in 1..=3 * HEAD_START {
        command(&mut leg, b"GETINFO version\r\n", Replies::One);
        assert_eq!(leg.is_head_start(), sent == HEAD_START, "{sent}");
    }
}
