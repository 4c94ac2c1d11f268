//! `cargo xtask bench`: ours and the peer, measured in turn in one run.
//!
//! Each benchmark is a file that returns rows; this file prints them as a table or as one JSON object
//! `{"bench", "machine", "rows": [{"name", "unit", "ours", "peer", "peer_name", "floor", "ratio"}]}`
//! with `ratio` above 1 where ours is better. A row's name is `bench`, `bench/PART`, or ends in `/PEER` where the
//! peer is another than dockerd. Nothing here passes or fails: it measures.

use anyhow::Result;
use serde_json::{Value, json};

mod boot;
mod clock;
mod engine;
mod flush;
pub mod machine;
mod memory;
mod net;
mod ours;
mod peer;
mod processes;
mod pull;
mod pull_image;
mod run;
mod samples;
mod sides;
mod size;
mod vmm;

pub use engine::floor;
use samples::Samples;

/// Measure ours and the peer side by side.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_parser = ["boot", "run", "memory", "size", "pull", "engine", "net", "vmm", "clock"])]
    name: String,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Interleaved pairs to measure; fewer than five only show that it runs
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    pairs: usize,
    /// Of `engine` and `net`: only what has this in the names of its rows
    #[arg(long, value_name = "ROW")]
    only: Option<String>,
    /// Measure what was built last, whatever the sources say now
    #[arg(long)]
    as_built: bool,
}

/// One line of a result.
pub struct Row {
    /// As the JSON has it.
    name: &'static str,
    /// What was measured, for people.
    what: &'static str,
    unit: &'static str,
    ours: Samples,
    peer: Samples,
    peer_name: &'static str,
    /// What nobody can get below, where that is known.
    floor: Option<f64>,
}

/// Measures and prints.
///
/// # Errors
///
/// When one of the two cannot be built or started.
pub fn run(args: &Args) -> Result<()> {
    let pairs = args.pairs;
    let rows = match args.name.as_str() {
        "boot" => boot::boot(pairs, args.as_built)?,
        "run" => run::run(pairs, args.as_built)?,
        "memory" => memory::memory(pairs, args.as_built)?,
        "pull" => pull::pull(pairs, args.as_built)?,
        "engine" => engine::engine(pairs, args.as_built, args.only.as_deref())?,
        "net" => net::net(pairs, args.as_built, args.only.as_deref())?,
        "vmm" => vmm::vmm(pairs)?,
        "clock" => clock::clock(args.as_built)?,
        _ => size::size(args.as_built)?,
    };
    if args.json {
        println!("{}", to_json(&args.name, &rows));
    } else {
        print_table(&args.name, &rows);
    }
    Ok(())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least one".to_owned()),
        Ok(pairs) => Ok(pairs),
        Err(error) => Err(format!("{error}")),
    }
}

fn to_json(bench: &str, rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name, "unit": row.unit,
                "ours": row.ours.median(), "peer": row.peer.median(),
                "peer_name": row.peer_name, "floor": row.floor, "ratio": row.ratio(),
            })
        })
        .collect();
    json!({ "bench": bench, "machine": machine::describe(), "rows": rows })
}

fn print_table(bench: &str, rows: &[Row]) {
    println!("{bench} on {}", machine::describe());
    println!(
        "{:<24} {:>26} {:>28} {:>8}",
        "", "ours (min–max)", "peer (min–max)", "ratio"
    );
    for row in rows {
        let floor = row
            .floor
            .map_or(String::new(), |floor| format!(", floor {floor:.1}"));
        println!(
            "{:<24} {:>26} {:>28} {:>8}  {}: {}{floor}; peer: {}",
            row.name,
            row.ours.shown(),
            row.peer.shown(),
            row.shown_ratio(),
            row.unit,
            row.what,
            row.peer_name
        );
    }
}

impl Row {
    /// Says the row as soon as it is there: the next may take minutes, or fail.
    fn said(self) -> Self {
        eprintln!(
            "{}: ours {}, peer {} {} ({})",
            self.name,
            self.ours.shown(),
            self.peer.shown(),
            self.unit,
            self.shown_ratio()
        );
        self
    }

    /// The ratio, or a dash where the peer has no value.
    fn shown_ratio(&self) -> String {
        let ratio = self.ratio();
        match ratio.is_nan() {
            true => "–".to_owned(),
            false => format!("{ratio:.1}x"),
        }
    }

    /// How many times better ours is: of most units less is better.
    fn ratio(&self) -> f64 {
        let (ours, peer) = (self.ours.median(), self.peer.median());
        match self.unit {
            "MB/s" | "1/s" | "%" => ours / peer,
            _ => peer / ours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pairs_are_measured_as_were_asked_for() {
        assert_eq!(at_least_one("1"), Ok(1));
        assert_eq!(at_least_one("7"), Ok(7));
        assert!(at_least_one("0").is_err() && at_least_one("x").is_err());
    }

    #[test]
    fn json_has_the_form_that_every_later_benchmark_keeps() {
        let row = Row {
            name: "run/flush5ms",
            what: "a run",
            unit: "ms",
            ours: Samples::new(vec![20.0, 10.0, 30.0]),
            peer: Samples::new(vec![200.0]),
            peer_name: "dockerd in a Debian VM",
            floor: None,
        };
        let json = to_json("run", &[row]);
        assert!(json["machine"].is_string());
        let expected = json!([{
            "name": "run/flush5ms", "unit": "ms", "ours": 20.0, "peer": 200.0,
            "peer_name": "dockerd in a Debian VM", "floor": null, "ratio": 10.0,
        }]);
        assert_eq!((&json["bench"], &json["rows"]), (&json!("run"), &expected));
    }
}
