//! The agent as a process: its start, its two sockets, and when to start it again.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::{Duration, Instant};

use lighter_init::{EVENTS_FD, NOT_OPENED, SUPERVISOR_FD};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::options::Mode;

/// What to execute, laid out so that nothing has to be allocated between fork and exec.
#[derive(Debug)]
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// The agent's command line and environment.
    pub fn new(mode: &Mode) -> io::Result<Self> {
        let mut arguments: Vec<OsString> = vec![
            "--supervisor-fd".into(),
            SUPERVISOR_FD.to_string().into(),
            "--events-fd".into(),
            EVENTS_FD.to_string().into(),
        ];
        let (path, environment) = match mode {
            Mode::Guest => (OsStr::new("/usr/bin/lighter-agent"), guest_environment()),
            Mode::Native(options) => {
                arguments.extend([
                    "--native".into(),
                    "--dir".into(),
                    options.dir.clone().into(),
                ]);
                arguments.extend(["--enter".into(), options.enter.clone().into()]);
                (options.agent.as_os_str(), own_environment())
            }
        };
        arguments.insert(0, path.to_owned());
        let c_strings = |words: Vec<OsString>| -> io::Result<Vec<CString>> {
            words
                .into_iter()
                .map(|word| Ok(CString::new(word.into_vec())?))
                .collect()
        };
        Ok(Self {
            path: CString::new(path.as_bytes())?,
            arguments: c_strings(arguments)?,
            environment: c_strings(environment)?,
        })
    }
}

/// What the kernel gave to init stays with init.
fn guest_environment() -> Vec<OsString> {
    // Few arenas: the agent's threads allocate little, and each arena keeps what it was given.
    ["PATH=/usr/bin:/bin", "HOME=/root", "MALLOC_ARENA_MAX=2"]
        .map(Into::into)
        .into()
}

fn own_environment() -> Vec<OsString> {
    std::env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        })
        .collect()
}

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Its process id; not reaped yet, so it means this process and no other.
    pub pid: i32,
    /// Our end of the request socket.
    pub requests: OwnedFd,
    /// Our end of the event socket.
    pub events: OwnedFd,
    /// The last exit it was told of.
    pub told: u64,
    /// When it closed its end of the request socket, if it did.
    closed: Option<Instant>,
    /// True once we have killed it for breaking the rules.
    condemned: bool,
}

/// How long an agent may take to end after it has closed its end of the request socket. Killed at
/// once, one that ends by itself would look like one that others have killed.
const TIME_TO_END: Duration = Duration::from_secs(2);

impl Agent {
    /// Starts it. Exits up to `told` are left to the journal.
    pub fn start(program: &Program, told: u64) -> io::Result<Self> {
        let pair = || {
            let flags = SocketFlags::CLOEXEC;
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            // Away from the numbers it is to have, or putting one there could close the other.
            Ok::<_, Errno>((ours, fcntl_dupfd_cloexec(&theirs, 10)?))
        };
        let (requests, their_requests) = pair()?;
        let (events, their_events) = pair()?;
        let pid = spawn(
            program,
            their_requests.as_raw_fd(),
            their_events.as_raw_fd(),
        )?;
        Ok(Self {
            pid,
            requests,
            events,
            told,
            closed: None,
            condemned: false,
        })
    }

    /// Kills it for breaking the rules; its end is reaped like any other.
    pub fn kill(&mut self) {
        self.condemned = true;
        // SAFETY: `kill` takes two integers.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
    }

    /// It has closed its end of the request socket: most often it is on its way out.
    pub fn has_closed(&mut self, now: Instant) {
        self.closed.get_or_insert(now);
    }

    /// Whether it still asks.
    pub fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// How long it may still take to end; none while it has not closed its end, or once it was
    /// killed.
    pub fn time_to_end(&self, now: Instant) -> Option<Duration> {
        let closed = self.closed.filter(|_| !self.condemned)?;
        Some((closed + TIME_TO_END).saturating_duration_since(now))
    }

    /// Who is to blame for its end, as `waitpid` tells it.
    pub fn blame(&self, status: i32) -> Blame {
        match status & 0x7f {
            0 if status >> 8 == i32::from(NOT_OPENED) => Blame::NotOpened,
            libc::SIGKILL if !self.condemned => Blame::Others,
            _ => Blame::Itself,
        }
    }
}

/// What the end of an agent says of its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Somebody killed it.
    Others,
    /// It left, crashed, or broke the rules.
    Itself,
    /// It could not open the engine.
    NotOpened,
}

fn spawn(program: &Program, requests: RawFd, events: RawFd) -> io::Result<i32> {
    let pointers = |words: &[CString]| -> Vec<*const c_char> {
        words
            .iter()
            .map(|word| word.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let arguments = pointers(&program.arguments);
    let environment = pointers(&program.environment);
    // SAFETY: init has one thread, so the child may do whatever its parent may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: the arrays end with a null pointer and live in this child until exec; the
            // descriptors are open, and neither has the number that the other is to get.
            unsafe { become_agent(program, &arguments, &environment, requests, events) }
        }
        pid => Ok(pid),
    }
}

/// The child's way to the agent.
///
/// # Safety
///
/// Both arrays end with a null pointer and point to strings that end with a zero byte;
/// `requests` and `events` are open descriptors other than the two standard numbers.
unsafe fn become_agent(
    program: &Program,
    arguments: &[*const c_char],
    environment: &[*const c_char],
    requests: RawFd,
    events: RawFd,
) -> ! {
    // SAFETY: plain system calls on integers and, as the caller promises, well-formed arrays. The
    // set is zeroed integers, which `sigprocmask` takes as the empty set.
    unsafe {
        libc::setsid();
        let nothing: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const nothing, std::ptr::null_mut());
        // Ignored by every Rust program, and inherited: containers would start with it.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::dup2(requests, SUPERVISOR_FD);
        libc::dup2(events, EVENTS_FD);
        // The kernel is to take any other process first when memory runs out. The runtime sets
        // containers back to what they ask for.
        let score = libc::open(
            c"/proc/self/oom_score_adj".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        );
        if score >= 0 {
            libc::write(score, c"-1000".as_ptr().cast(), 5);
        }
        libc::execve(
            program.path.as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
        );
        // The parent sees the exit code; 127 is the shell's word for a program that is not there.
        libc::_exit(127)
    }
}

/// How a process ended, in words.
pub fn describe(status: i32) -> String {
    match status & 0x7f {
        0 => format!("exit code {}", (status >> 8) & 0xff),
        signal => format!("signal {signal}"),
    }
}

/// A life shorter than this counts as a failed start.
const SHORT_LIFE: Duration = Duration::from_millis(200);
/// So many failed starts in a row are taken for bad luck.
const FREE_TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// When the agent is to be started again.
#[derive(Debug, Default)]
pub struct Restarts {
    starts: u32,
    /// Failed starts in a row.
    failed: u32,
    started: Option<Instant>,
    not_before: Option<Instant>,
}

impl Restarts {
    /// How often it was started.
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// Failed starts in a row.
    pub fn failed(&self) -> u32 {
        self.failed
    }

    /// It was started.
    pub fn started(&mut self, now: Instant) {
        self.starts = self.starts.saturating_add(1);
        self.started = Some(now);
    }

    /// It died; works out when to try again.
    pub fn died(&mut self, now: Instant, blame: Blame) {
        let lived = self
            .started
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let failed = match blame {
            Blame::Others => false,
            Blame::Itself => lived < SHORT_LIFE,
            Blame::NotOpened => true,
        };
        self.failed = if failed {
            self.failed.saturating_add(1)
        } else {
            0
        };
        self.not_before = Some(now + self.pause());
    }

    /// True once it may be started.
    pub fn due(&self, now: Instant) -> bool {
        self.wait(now).is_zero()
    }

    /// How long until it may be started.
    pub fn wait(&self, now: Instant) -> Duration {
        self.not_before
            .map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    /// What to add to the line about its death.
    pub fn describe(&self) -> String {
        if self.failed <= FREE_TRIES {
            return String::new();
        }
        let (failed, pause) = (self.failed, self.pause().as_millis());
        format!(" in {pause} ms: {failed} starts in a row have failed at once")
    }

    fn pause(&self) -> Duration {
        match self.failed.checked_sub(FREE_TRIES + 1) {
            None => Duration::ZERO,
            Some(more) => FIRST_PAUSE
                .saturating_mul(1 << more.min(10))
                .min(LONGEST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_pause_when_they_fail_in_a_row() {
        let mut restarts = Restarts::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..16 {
            restarts.started(now);
            restarts.died(now, Blame::Itself);
            pauses.push(restarts.wait(now));
            now += restarts.wait(now);
            assert!(restarts.due(now));
        }
        assert!(pauses[..5].iter().all(Duration::is_zero), "{pauses:?}");
        assert_eq!(pauses[5], FIRST_PAUSE);
        assert_eq!(pauses[15], LONGEST_PAUSE);
        assert!(restarts.describe().contains("16 starts"));

        restarts.started(now);
        restarts.died(now + SHORT_LIFE, Blame::Itself);
        assert!(
            restarts.due(now + SHORT_LIFE),
            "a life of some length clears the record"
        );
        assert_eq!((restarts.describe().as_str(), restarts.starts()), ("", 17));
    }

    #[test]
    fn an_engine_that_is_slow_to_fail_has_failed_all_the_same() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for failed in 1..4 {
            restarts.started(now);
            restarts.died(now + Duration::from_secs(60), Blame::NotOpened);
            assert_eq!(restarts.failed(), failed);
        }
    }

    #[test]
    fn blame_is_with_whoever_ended_it() {
        let mut agent = Agent {
            pid: -1,
            requests: std::fs::File::open("/dev/null").unwrap().into(),
            events: std::fs::File::open("/dev/null").unwrap().into(),
            told: 0,
            closed: None,
            condemned: false,
        };
        assert_eq!(agent.blame(libc::SIGKILL), Blame::Others);
        assert_eq!(agent.blame(libc::SIGSEGV), Blame::Itself);
        assert_eq!(agent.blame(1 << 8), Blame::Itself);
        assert_eq!(agent.blame(i32::from(NOT_OPENED) << 8), Blame::NotOpened);
        agent.condemned = true;
        assert_eq!(agent.blame(libc::SIGKILL), Blame::Itself);
    }

    #[test]
    fn agent_killed_by_others_is_always_back_at_once() {
        let mut restarts = Restarts::default();
        let now = Instant::now();
        for _ in 0..16 {
            restarts.started(now);
            restarts.died(now, Blame::Others);
            assert!(restarts.due(now));
        }
    }
}
