//! `cargo xtask bench`: ours and the peer, measured in turn in one run.
//!
//! Each benchmark returns rows; this file prints them as a table or as one JSON object
//! `{"bench", "machine", "rows": [{"name", "unit", "ours", "peer", "peer_name", "floor", "ratio"}]}`
//! with `ratio` above 1 where ours is better. Nothing here passes or fails: it measures.

use anyhow::Result;
use serde_json::{Value, json};

pub mod machine;
mod ours;
mod peer;
mod samples;
mod size;
mod start;

use samples::Samples;

/// Measure ours and the peer side by side.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_parser = ["boot", "run", "memory", "size"])]
    name: String,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Interleaved pairs to measure, at least five
    #[arg(long, default_value_t = 5)]
    pairs: usize,
}

/// One line of a result.
pub struct Row {
    name: &'static str,
    unit: &'static str,
    ours: Samples,
    peer: Samples,
    peer_name: &'static str,
}

/// Measures and prints.
///
/// # Errors
///
/// When one of the two cannot be built or started.
pub fn run(args: &Args) -> Result<()> {
    let pairs = args.pairs.max(5);
    let rows = match args.name.as_str() {
        "boot" => start::boot(pairs)?,
        "run" => start::run(pairs)?,
        "memory" => start::memory()?,
        _ => size::size()?,
    };
    if args.json {
        println!("{}", to_json(&args.name, &rows));
    } else {
        print_table(&args.name, &rows);
    }
    Ok(())
}

fn to_json(bench: &str, rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name, "unit": row.unit,
                "ours": row.ours.median(), "peer": row.peer.median(),
                "peer_name": row.peer_name, "floor": Value::Null, "ratio": row.ratio(),
            })
        })
        .collect();
    json!({ "bench": bench, "machine": machine::describe(), "rows": rows })
}

fn print_table(bench: &str, rows: &[Row]) {
    println!("{bench} on {}", machine::describe());
    println!(
        "{:<28} {:>22} {:>22}  {:>7}",
        "", "ours (min–max)", "peer (min–max)", "ratio"
    );
    for row in rows {
        println!(
            "{:<28} {:>22} {:>22}  {:>6.1}x  {} · peer: {}",
            row.name,
            row.ours.shown(),
            row.peer.shown(),
            row.ratio(),
            row.unit,
            row.peer_name
        );
    }
}

impl Row {
    /// How many times better ours is; every unit here is "less is better".
    fn ratio(&self) -> f64 {
        self.peer.median() / self.ours.median()
    }
}
