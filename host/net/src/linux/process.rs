//! `lighter net`: takes its sockets from the daemon, serves until the virtual machine is gone.
//!
//! Called by the command line's hidden `net` verb. Standard input is a listening vhost-user socket, standard output
//! the listening control socket, in which a first connection waits: the lifeline, whose end is this process's.
//! Nothing else is inherited, and nothing is opened by name.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::ExitCode;
use std::sync::Mutex;

use lighter_platform::BoundedLog;
use lighter_vmm::vhost_user;
use rustix::event::{Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::device::{Card, Handle};
use super::sandbox;
use crate::control::{MAX_LINE, Reply, Request, Status};
use crate::nat::Limits;
use crate::nat::plan::Plan;

/// Stack of each thread of our own.
const STACK: usize = 256 << 10;

/// Between two tries to take a connection.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// A system call that must work did not.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
struct ProcessError {
    /// What was tried.
    what: &'static str,
    /// Why not.
    source: io::Error,
}

/// Runs the net process to its end: all of `lighter net`.
#[must_use]
pub fn process_main() -> ExitCode {
    sandbox::close_inherited();
    // Without a descriptor for its log, a process can still serve.
    if let Ok(log) = BoundedLog::inherited() {
        let _ = tracing_subscriber::fmt()
            .with_writer(Mutex::new(log))
            .with_ansi(false)
            .try_init();
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), ProcessError> {
    let system = |what| move |source| ProcessError { what, source };
    let listener = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(system("taking the vhost-user socket"))?;
    let control = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(system("taking the control socket"))?;
    let descriptors = sandbox::prepare().map_err(system("giving up what is not needed"))?;
    let limits = Limits::within(descriptors);
    let (card, handle) = Card::new(Plan::default(), limits).map_err(system("making the card"))?;
    let control = UnixListener::from(control);
    let (lifeline, _) = control.accept().map_err(system("taking the lifeline"))?;
    thread("lifeline", move || hold_on(&lifeline))?;
    thread("card", move || {
        if let Err(error) = card.run() {
            tracing::error!(%error, "the card cannot go on");
            std::process::exit(1);
        }
    })?;
    let pid = std::process::id();
    let asked = handle.clone();
    thread("control", move || serve(&control, &asked, pid))?;
    let (front, _) = UnixListener::from(listener)
        .accept()
        .map_err(system("waiting for the machine"))?;
    let front = vhost_user::serve(front, handle).map_err(system("serving the machine"))?;
    // Every thread runs by now, so none of them need ever start another.
    sandbox::confine().map_err(system("confining this process"))?;
    // It ends when the machine has gone, politely or not; a panic of its thread was printed already.
    let _ = front.join();
    Ok(())
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), ProcessError> {
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(work)
        .map(drop)
        .map_err(|source| ProcessError {
            what: "starting a thread",
            source,
        })
}

/// Ends the process with its virtual machine, or with what should have become one.
fn hold_on(mut lifeline: &UnixStream) {
    // Nobody writes to it: whatever this returns is its end.
    let _ = lifeline.read(&mut [0]);
    std::process::exit(0);
}

/// Answers daemons, one after another: each connects for a question or a few.
fn serve(listener: &UnixListener, card: &Handle, pid: u32) {
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a daemon cannot be listened to");
                // Whoever connects waits until there is a descriptor again; of that nobody is told.
                let _ = poll(&mut [], Some(&PAUSE));
                continue;
            }
        };
        let converse = || {
            // The directory and the mode already keep others out; this is the second wall.
            if socket_peercred(&stream)?.uid == geteuid() {
                answer(&stream, card, pid)?;
            }
            Ok::<_, io::Error>(())
        };
        if let Err(error) = converse() {
            tracing::debug!(%error, "a conversation with the daemon ended");
        }
    }
}

fn answer(mut stream: &UnixStream, card: &Handle, pid: u32) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        let count = (&mut lines)
            .take(MAX_LINE as u64)
            .read_until(b'\n', &mut line)?;
        if count == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_slice(&line) {
            Ok(Request::Names { server, others }) => {
                let servers = server.into_iter().chain(others).collect();
                card.with_nat(move |nat| nat.set_names(servers));
                Reply::Done
            }
            Ok(Request::Status) => {
                let counts = card.with_nat(|nat| nat.counts()).unwrap_or_default();
                Reply::Status(Status {
                    pid,
                    tcp: counts.tcp,
                    udp: counts.udp,
                    icmp: counts.icmp,
                })
            }
            Err(error) => Reply::Refused {
                message: error.to_string(),
            },
        };
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        stream.write_all(&line)?;
    }
}
