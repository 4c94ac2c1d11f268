//! `lighter-agent`: see the library.

use std::process::ExitCode;

use lighter_agent::AgentError;
use lighter_agent::options::Options;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("lighter-agent: {error}");
            return ExitCode::from(2);
        }
    };
    let level = if std::env::var_os("LIGHTER_DEBUG").is_some() {
        tracing::Level::DEBUG
    } else {
        tracing::Level::INFO
    };
    // To the console, which the host keeps: no colours, and the host knows the time.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_max_level(level)
        .init();
    // At least two workers: one may be busy with a large answer while the other keeps the link
    // alive. At most four: what is heavy goes elsewhere, and each has a stack and an arena.
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 4));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(64)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(lighter_agent::run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                AgentError::TakeUp(_) => ExitCode::from(lighter_init::NOT_OPENED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}
