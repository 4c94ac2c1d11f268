//! `lighter files`: takes its sockets from the daemon, serves until the virtual machine is gone.
//!
//! Called by the command line's hidden `files` verb. Standard input is the daemon's setup socket; nothing
//! else is inherited and nothing is opened by name but `/proc/self/fd`.

use std::io::stdin;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use super::control_server;
use super::fs::shares::Shares;
use super::packet::{self, PacketError};
use crate::control::{Reply, Request};

/// The process could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Standard input is not the daemon's setup socket.
    #[error("`lighter files` is started by the daemon, with its setup socket as standard input")]
    NotSetUp(#[source] PacketError),
    /// The setup message was another message, or lacked a descriptor.
    #[error("the setup message is not one")]
    BadSetup,
    /// A system call that must work did not.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What the daemon hands over at the start.
struct Setup {
    reply: OwnedFd,
    vhost_user: OwnedFd,
    control: OwnedFd,
    side_file: OwnedFd,
}

/// Runs the files process to its end.
///
/// `arguments` are those after `lighter files`; there are none.
#[must_use]
pub fn process_main(arguments: &[String]) -> ExitCode {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    if !arguments.is_empty() {
        eprintln!("error: `lighter files` takes no arguments: the daemon starts it");
        return ExitCode::from(2);
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), ProcessError> {
    let setup = take_setup()?;
    let shares = Arc::new(Shares::default());
    let serve = control_server::Server::new(setup.control, Arc::clone(&shares));
    packet::send(&setup.reply, &Reply::Done, &[]).map_err(ProcessError::NotSetUp)?;
    serve
        .run(Some(setup.reply))
        .map_err(|source| ProcessError::System {
            what: "serving the control socket",
            source: source.into(),
        })?;
    drop((setup.vhost_user, setup.side_file));
    Ok(())
}

fn take_setup() -> Result<Setup, ProcessError> {
    let reply = stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| ProcessError::System {
            what: "duplicating standard input",
            source,
        })?;
    let (request, descriptors) =
        packet::receive::<Request>(&reply).map_err(ProcessError::NotSetUp)?;
    let three: Result<[OwnedFd; 3], _> = descriptors.try_into();
    match (request, three) {
        (Request::Setup, Ok([vhost_user, control, side_file])) => Ok(Setup {
            reply,
            vhost_user,
            control,
            side_file,
        }),
        _ => Err(ProcessError::BadSetup),
    }
}
