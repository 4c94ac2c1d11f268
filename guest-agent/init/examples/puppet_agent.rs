//! An agent for tests of init: does what it is told over the control socket, line by line.
//!
//! Started by init in place of the real one. Every answer is one line; `!` begins an error.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use lighter_init::{
    EVENTS_FD, End, Events, SUPERVISOR_FD, Supervisor, name, take_inherited, vsock,
};
use rustix::event::{PollFd, PollFlags, poll};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Puppet {
    supervisor: Supervisor,
    events: Events,
}

fn main() -> Result<()> {
    let puppet = Puppet {
        supervisor: Supervisor::from_fd(take_inherited(SUPERVISOR_FD)?)?,
        events: Events::from_fd(take_inherited(EVENTS_FD)?)?,
    };
    let listener = puppet.held(name::LISTEN_CONTROL)?;
    loop {
        wait_for(&listener)?;
        let (stream, _) = vsock::accept(listener.as_fd())?;
        let stream = UnixStream::from(stream);
        stream.set_nonblocking(false)?;
        let mut answers = stream.try_clone()?;
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = puppet
                .obey(&words)
                .unwrap_or_else(|error| format!("!{error}"));
            writeln!(answers, "{answer}")?;
        }
    }
}

fn wait_for(descriptor: &impl AsFd) -> Result<()> {
    poll(&mut [PollFd::new(descriptor, PollFlags::IN)], None)?;
    Ok(())
}

impl Puppet {
    fn held(&self, name: &str) -> Result<OwnedFd> {
        let found = self
            .supervisor
            .list()?
            .into_iter()
            .find(|(held, _)| held == name);
        found
            .map(|(_, descriptor)| descriptor)
            .ok_or_else(|| format!("no {name}").into())
    }

    fn obey(&self, words: &[&str]) -> Result<String> {
        Ok(match words {
            ["pid"] => std::process::id().to_string(),
            ["list"] => {
                let names: Vec<_> = self
                    .supervisor
                    .list()?
                    .into_iter()
                    .map(|one| one.0)
                    .collect();
                names.join(" ")
            }
            // A process that waits for the pipe at the path to be closed by its writer.
            ["child", code, gate] => child(code.parse()?, gate)?.to_string(),
            ["await-exit", pid] => self.await_exit(pid.parse()?)?,
            ["exits"] => {
                let exits = self.supervisor.exits()?;
                exits
                    .iter()
                    .map(|exit| format!("{}:{}", exit.pid, exit.code()))
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            ["forget", pid] => {
                self.supervisor.forget_exit(pid.parse()?)?;
                "forgotten".to_owned()
            }
            // A pipe whose both ends live in the store only.
            ["put-pipe", name, text] => {
                let (reader, mut writer) = std::io::pipe()?;
                writer.write_all(text.as_bytes())?;
                self.supervisor.put(name, reader.as_fd())?;
                "held".to_owned()
            }
            ["read-pipe", name] => {
                let mut bytes = [0; 64];
                let length = rustix::io::read(self.held(name)?, &mut bytes)?;
                String::from_utf8_lossy(&bytes[..length]).into_owned()
            }
            ["put-many", prefix, count] => {
                let null = std::fs::File::open("/dev/null")?;
                for n in 0..count.parse::<u32>()? {
                    self.supervisor.put(&format!("{prefix}{n}"), null.as_fd())?;
                }
                "held".to_owned()
            }
            ["remove-prefix", prefix] => self.supervisor.remove_prefix(prefix)?.to_string(),
            ["info"] => format!("{:?}", self.supervisor.info()?),
            ["oom"] => std::fs::read_to_string("/proc/self/oom_score_adj")?
                .trim()
                .to_owned(),
            ["netns"] => format!(
                "{:?}",
                rustix::fs::fstat(self.held(name::HOST_NETWORK)?)?.st_ino
            ),
            ["own-netns"] => format!("{:?}", rustix::fs::stat("/proc/self/ns/net")?.st_ino),
            ["die"] => {
                // SAFETY: `kill` takes two integers.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                String::new()
            }
            ["garbage"] => {
                // SAFETY: `send` reads three bytes of a string that is longer.
                unsafe { libc::send(SUPERVISOR_FD, c"\xffxx".as_ptr().cast(), 3, 0) };
                std::thread::park();
                String::new()
            }
            ["close"] => {
                // SAFETY: shutting a socket down touches no memory.
                unsafe { libc::shutdown(self.events.as_raw_fd(), libc::SHUT_RDWR) };
                // SAFETY: as above.
                unsafe { libc::shutdown(SUPERVISOR_FD, libc::SHUT_RDWR) };
                std::thread::park();
                String::new()
            }
            ["end"] => {
                self.supervisor.reboot(End::Restart)?;
                "ending".to_owned()
            }
            other => return Err(format!("unknown: {other:?}").into()),
        })
    }

    /// The exit code of a process, from the journal or as it happens.
    fn await_exit(&self, pid: i32) -> Result<String> {
        loop {
            if let Some(exit) = self
                .supervisor
                .exits()?
                .into_iter()
                .find(|exit| exit.pid == pid)
            {
                return Ok(exit.code().to_string());
            }
            wait_for(&self.events)?;
            if let Some(exit) = self.events.try_next()?
                && exit.pid == pid
            {
                return Ok(exit.code().to_string());
            }
        }
    }
}

/// Starts a sibling: a child of init, as containers are.
fn child(code: i32, gate: &str) -> Result<i32> {
    // Opened before there is a child: its writer may be gone by the time the child runs.
    let gate = std::fs::File::open(gate)?;
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: without CLONE_VM and with a null stack this is a fork; the program has one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    if pid == 0 {
        // SAFETY: system calls on an open descriptor and a local byte.
        unsafe {
            let mut byte = 0u8;
            libc::read(gate.as_raw_fd(), (&raw mut byte).cast(), 1);
            libc::_exit(code)
        }
    }
    i32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or_else(|| "no child".into())
}
