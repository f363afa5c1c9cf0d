//! The benchmark of onionbus: the same load for it, for the floor and for its peers, side by side.
//! See `README.md`.

mod fake_tor;
mod floor;
mod loads;
mod machine;
mod marks;
mod peers;
mod process;
mod report;
mod results;
mod script;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use loads::{Case, LOADS, Scale};
use peers::Server;
use results::Results;

#[derive(Parser)]
#[command(name = "contrib/bench/run", about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Serve>,
    #[command(flatten)]
    choice: Choice,
}

/// What the benchmark starts beside itself.
#[derive(Subcommand)]
enum Serve {
    /// The floor server
    #[command(hide = true)]
    Floor {
        #[arg(long)]
        threads: u8,
        socket: PathBuf,
    },
    /// A Tor that gives replies of 10 MB
    #[command(hide = true)]
    FakeTor { socket: PathBuf },
}

#[derive(Args)]
struct Choice {
    /// Only these loads, with commas between them: broadcast, window, single, relay, login, idle ...
    #[arg(long, value_delimiter = ',', value_parser = LOADS.iter().map(|load| load.0).collect::<Vec<_>>())]
    loads: Vec<String>,
    /// Only those of their forms whose name contains one of these: "batches", "64 B to 1000" ...
    #[arg(long, value_delimiter = ',')]
    forms: Vec<String>,
    /// Only these servers; those that are not installed are left out anyway
    #[arg(long, value_delimiter = ',')]
    servers: Vec<Server>,
    /// How often everything is measured, the servers taking turns; 5 unless --quick says 1
    #[arg(long)]
    rounds: Option<usize>,
    /// How many subscribers a pipelined broadcast has
    #[arg(long, value_delimiter = ',', default_values_t = [10, 100, 1000])]
    subscribers: Vec<usize>,
    /// How many octets its messages have
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1024])]
    sizes: Vec<usize>,
    /// A twentieth of the work, once: it shows that everything is delivered, not how fast
    #[arg(long)]
    quick: bool,
    /// The onionbus to measure
    #[arg(long, default_value = "target/release/onionbus")]
    onionbus: PathBuf,
    /// Another onionbus, measured beside it in each round as "other"
    #[arg(long)]
    against: Option<PathBuf>,
    /// Where results.txt, results.tsv and results.svg go
    #[arg(long, default_value = "target/bench-results")]
    out: PathBuf,
}

impl Choice {
    fn has(&self, case: &Case) -> bool {
        // The other one is chosen with this one.
        let server = match case.server {
            Server::Other => Server::Onionbus,
            server => server,
        };
        let is_named = |part: &String| case.variant.contains(&part[..]);
        (self.servers.is_empty() || self.servers.contains(&server))
            && (self.forms.is_empty() || self.forms.iter().any(is_named))
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Serve::Floor { threads, socket }) => floor::serve(socket, *threads)?,
        Some(Serve::FakeTor { socket }) => fake_tor::serve(socket)?,
        None => return measure(&arguments.choice),
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(choice: &Choice) -> Result<ExitCode> {
    machine::raise_descriptor_limit()?;
    let scale = Scale {
        onionbus: std::path::absolute(&choice.onionbus)?,
        quick: choice.quick,
        subscribers: choice.subscribers.clone(),
        sizes: choice.sizes.clone(),
        tors: Rc::default(),
    };
    let against = choice
        .against
        .as_ref()
        .map(std::path::absolute)
        .transpose()?;
    let rounds = choice.rounds.unwrap_or(if choice.quick { 1 } else { 5 });
    let mut results = Results::default();
    for (name, load) in LOADS {
        if !choice.loads.is_empty() && !choice.loads.iter().any(|chosen| chosen == name) {
            continue;
        }
        let mut forms = loads::forms(*load, &scale, against.clone());
        forms.retain_mut(|form| {
            form.retain(|case| choice.has(case));
            !form.is_empty()
        });
        // Forms are compared too: each round has all of them.
        for round in 1..=rounds {
            for form in &forms {
                results.run(form, round);
            }
        }
        for form in forms {
            print!("{}", report::table(&results, name, &form[0].variant));
        }
    }
    let machine = machine::description(&scale.onionbus);
    let marks = if choice.quick {
        Vec::new()
    } else {
        marks::verdicts(&results)
    };
    let verdicts = report::verdicts(&marks) + &report::ratios(&results);
    print!("\n{verdicts}\n{machine}");
    fs::create_dir_all(&choice.out).context("--out")?;
    let text = format!("{machine}\n{}\n{verdicts}", report::tables(&results));
    fs::write(choice.out.join("results.txt"), text)?;
    fs::write(choice.out.join("results.tsv"), report::tsv(&results))?;
    let plot = report::svg::plot(&results, &machine);
    fs::write(choice.out.join("results.svg"), plot)?;
    println!(
        "\nresults.txt, results.tsv and results.svg are in {}",
        choice.out.display()
    );
    if results.failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!();
    for failure in &results.failures {
        println!("FAILED: {failure}");
    }
    Ok(ExitCode::FAILURE)
}
