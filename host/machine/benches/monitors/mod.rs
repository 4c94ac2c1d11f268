//! The order of the measurements.

mod machine;
mod measures;
mod touch;
mod usage;
mod way_in;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use machine::{SIDES, Side};

/// Whatever went wrong, in words.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let done = match words.as_slice() {
        [name, rest @ ..] if way_in::is_named(name) => way_in::pass_on(rest),
        [_, image, guest] if Path::new(image).is_dir() => measure(Path::new(image), guest),
        _ => return ExitCode::SUCCESS,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("monitors: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What machines are made of.
pub struct Files {
    kernel: PathBuf,
    disk: PathBuf,
    guest: PathBuf,
}

fn measure(image: &Path, guest: &str) -> Result<()> {
    let files = Files {
        kernel: image.join("vmlinux"),
        disk: image.join("data-disk.sparse"),
        guest: guest.into(),
    };
    touch::first()?;
    let without = usage::resident(std::process::id())?;
    // The first to start would pay for what stays afterwards: files in the cache, and KVM's own code in the translation
    // of the emulator below it. They stay until all have booted: pages that held the code of a machine which has ended
    // cost whoever writes to them next ten times as much, as the emulator throws its translations away one by one.
    let mut running = Vec::new();
    for side in SIDES {
        running.push(measures::warm_up(&files, side)?);
    }
    for side in SIDES {
        running.push(measures::boot(&files, side)?);
    }
    drop(running);
    for side in SIDES {
        measures::idle(&files, side, without)?;
    }
    for side in SIDES {
        measures::guest(&files, side)?;
    }
    Ok(())
}

/// Says one number.
pub fn row(name: &str, side: Side, number: f64) {
    println!("row {name} {} {number:.3}", side.name());
}
