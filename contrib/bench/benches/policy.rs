//! The policy: what judging a command costs, by fifty rules, and what reading and writing its fields
//! cost on the way.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use onionbus::policy::{
    Behind, Grants, Identity, Ledger, Names, PROTECTED_PORTS, Policy, Source, judge,
};
use onionbus::wire::fields::{self, Fields};
use onionbus::wire::text::{self, Framed, Framer};

/// Fifty lines, as a desktop with many programs has them; what is asked for stands last.
fn policy() -> String {
    let mut text = String::from("Profile desk\nMatch any\n");
    for number in 0..20 {
        writeln!(text, "Allow getinfo key/{number}/* other/{number}").expect("a String takes all");
    }
    for number in 0..10 {
        writeln!(
            text,
            "Allow add_onion ports=1{number}=2{number},3{number} flags=Detach"
        )
        .expect("a String takes all");
        writeln!(text, "Allow setconf Option{number}=0|1|10-20").expect("a String takes all");
    }
    text += "Allow getconf *\nAllow events CIRC:own STREAM:own BW\nAllow signal NEWNYM\n";
    text += "Allow circuits close own\nAllow setconf MaxCircuitDirtiness=10-600\n";
    text += "Deny getinfo secret/*\nDeny setconf ControlPort\nAllow getinfo version ns/id/*\n";
    text + "Allow add_onion ports=80=17600-17659 force=DiscardPK\nAllow del_onion own\n"
}

fn commands() -> [(&'static str, &'static [u8]); 6] {
    [
        ("getinfo", b"GETINFO version ns/id/0000\r\n"),
        ("setconf", b"SETCONF MaxCircuitDirtiness=300\r\n"),
        ("setevents", b"SETEVENTS CIRC STREAM BW\r\n"),
        ("signal", b"SIGNAL NEWNYM\r\n"),
        ("add_onion", b"ADD_ONION NEW:BEST Port=80,17612\r\n"),
        (
            "refused",
            b"SETCONF ClientTransportPlugin=\"x exec /bin/true\"\r\n",
        ),
    ]
}

fn fields(octets: &[u8]) -> Fields {
    let Framed::Command(command) = Framer::default().next(octets) else {
        unreachable!("the commands here are whole");
    };
    let verb = text::verb(command.keyword).expect("a command");
    fields::parse(verb, &command).expect("the commands here are right")
}

fn judging(criterion: &mut Criterion) {
    let text = policy();
    let source = Source {
        file: "bench",
        text: text.as_bytes(),
        group: 0,
    };
    let policy = Policy::parse(&[source], &Names::default()).expect("the policy is right");
    let identity = Identity::default();
    let grants = Grants::unite(&policy, &identity);
    let options = (0..400).map(|number| format!("option{number}").into_bytes());
    let known = [&b"maxcircuitdirtiness"[..], b"clienttransportplugin"].map(<[u8]>::to_vec);
    let options: BTreeSet<_> = options.chain(known).collect();
    let behind = Behind {
        options: Some(&options),
        control_ports: &[9051],
        ports: &[9050],
        protected: PROTECTED_PORTS,
        ..Behind::default()
    };
    let ledger = Ledger::default();

    let mut group = criterion.benchmark_group("policy judge");
    for (name, octets) in commands() {
        let fields = fields(octets);
        group.bench_function(name, |bencher| {
            bencher.iter(|| judge(&grants, &ledger, &behind, black_box(&fields)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("policy whole");
    for (name, octets) in commands() {
        let mut out = Vec::new();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let fields = fields(black_box(octets));
                out.clear();
                fields.write(&mut out);
                judge(&grants, &ledger, &behind, &fields)
            });
        });
    }
    group.finish();

    criterion.bench_function("policy unite", |bencher| {
        bencher.iter(|| Grants::unite(black_box(&policy), &identity));
    });
}

criterion_group!(benches, judging);
criterion_main!(benches);
