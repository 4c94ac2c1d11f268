//! The one door for developers.
//!
//! One file or folder a task, each with `Args` (clap) and `pub fn run(&Args) -> anyhow::Result<()>`.
//! A new task is a module, a variant of [`Task`] and an arm in [`main`]; its logic stays in its own module.
//! CI calls these tasks and holds no logic of its own.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod cmd;
mod cross;
mod docker_py;
mod guards;
mod image;
mod image_archive;
mod inner_image;
mod nested;
mod packages;
mod paths;
mod rooms;
mod sanitized;
mod test;
mod test_image;
mod try_it;
mod usage;

/// Develops Lighter: builds, tries, tests and measures it.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Try(try_it::Args),
    Test(test::Args),
    Bench(bench::Args),
    Image(image::Args),
    Cross(cross::Args),
    Rooms(rooms::Args),
    #[command(hide = true)]
    BenchFloor(bench::floor::Args),
    #[command(hide = true)]
    TestBinary(test::runner::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.task {
        Task::Try(args) => try_it::run(args),
        Task::Test(args) => test::run(args),
        Task::Bench(args) => bench::run(args),
        Task::Image(args) => image::run(args),
        Task::Cross(args) => cross::run(args),
        Task::Rooms(args) => rooms::run(args),
        Task::BenchFloor(args) => bench::floor::run(args),
        Task::TestBinary(args) => match test::runner::run(args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
