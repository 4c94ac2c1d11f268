//! One process as `/proc` tells of it, and what of the machine is needed to understand that.

use std::fs::File;
use std::io::{self, Read as _};

use crate::clock::Timestamp;

/// Clock ticks a second in what the kernel tells programs: a constant on every architecture here.
const TICKS: u64 = 100;

/// Most that is read of one process's arguments: as much as `ps` shows of a line.
const MOST_OF_ONE: u64 = 128 << 10;
/// Most that is read of all arguments together. Processes that share the pages of theirs have them for
/// nothing; whoever reads them has a copy of each.
pub(super) const MOST_OF_ALL: u64 = 8 << 20;

/// The machine at the moment of the look.
#[derive(Debug)]
pub(super) struct Machine {
    /// When it came up, seconds since 1970.
    booted: u64,
    /// Seconds since then.
    uptime: f64,
    pub(super) memory_kib: u64,
    /// Bytes of a page.
    pub(super) page: u64,
}

impl Machine {
    pub(super) fn read() -> io::Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime "));
        let uptime = std::fs::read_to_string("/proc/uptime")?;
        let uptime = uptime.split(' ').next().and_then(|text| text.parse().ok());
        let missing = || io::Error::other("the machine does not tell its age");
        Ok(Self {
            booted: booted
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(missing)?,
            uptime: uptime.ok_or_else(missing)?,
            memory_kib: crate::info::memory_total()? / 1024,
            page: rustix::param::page_size() as u64,
        })
    }

    fn now(&self) -> Timestamp {
        at(self.booted as f64 + self.uptime)
    }
}

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_unix_ns((seconds * 1e9) as i64)
}

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) state: char,
    pub(super) rss_kib: u64,
    /// The fields of `stat` from the state on.
    stat: Vec<String>,
    status: String,
    name: String,
    arguments: String,
    waits_in: String,
}

impl Process {
    /// Reads a process; none if it has ended. `room` is what may still be read of arguments: once it is
    /// used up, a process is known by its name only.
    pub(super) fn read(pid: i32, room: &mut u64) -> Option<Self> {
        let file = |name: &str, most: u64| {
            let mut bytes = Vec::new();
            let file = File::open(format!("/proc/{pid}/{name}"))?;
            file.take(most).read_to_end(&mut bytes).map(|_| bytes)
        };
        let text = |name: &str, most: u64| {
            file(name, most).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let stat = text("stat", MOST_OF_ONE).ok()?;
        let status = text("status", MOST_OF_ONE).ok()?;
        let arguments = text("cmdline", MOST_OF_ONE.min(*room)).unwrap_or_default();
        *room = room.saturating_sub(arguments.len() as u64);
        let waits_in = text("wchan", MOST_OF_ONE).unwrap_or_default();
        Self::parse(pid, &stat, status, &arguments, waits_in)
    }

    fn parse(
        pid: i32,
        stat: &str,
        status: String,
        arguments: &str,
        waits_in: String,
    ) -> Option<Self> {
        // The name may have anything in it, parentheses too.
        let (head, rest) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1;
        let stat: Vec<String> = rest.split_ascii_whitespace().map(str::to_owned).collect();
        let mut process = Self {
            pid,
            state: stat.first()?.chars().next()?,
            rss_kib: 0,
            stat,
            status,
            name: printable(name),
            arguments: printable(arguments.trim_end_matches('\0')),
            waits_in,
        };
        let rss = process
            .line("VmRSS")
            .and_then(|text| text.split(' ').next());
        process.rss_kib = rss.and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(process)
    }

    /// A number of `stat`, counted from the state.
    pub(super) fn number(&self, field: usize) -> i64 {
        let text = self.stat.get(field);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The same, of those that are never negative.
    pub(super) fn stat(&self, field: usize) -> u64 {
        let text = self.stat.get(field);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn line(&self, name: &str) -> Option<&str> {
        self.status.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then_some(value.trim())
        })
    }

    /// Real, effective, saved, of the file system.
    pub(super) fn id(&self, name: &str, which: usize) -> u32 {
        let all = self.line(name).unwrap_or_default();
        let one = all.split_ascii_whitespace().nth(which);
        one.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub(super) fn signals(&self, name: &str) -> String {
        self.line(name).unwrap_or("-").to_owned()
    }

    /// Bytes of its program.
    pub(super) fn text_bytes(&self) -> u64 {
        self.stat(24).saturating_sub(self.stat(23))
    }

    pub(super) fn cpu_seconds(&self) -> u64 {
        (self.stat(11) + self.stat(12)) / TICKS
    }

    pub(super) fn elapsed_seconds(&self, machine: &Machine) -> f64 {
        (machine.uptime - self.stat(19) as f64 / TICKS as f64).max(0.0)
    }

    pub(super) fn percent_cpu(&self, machine: &Machine) -> f64 {
        let elapsed = self.elapsed_seconds(machine);
        let used = (self.stat(11) + self.stat(12)) as f64 / TICKS as f64;
        if elapsed > 0.0 {
            used * 100.0 / elapsed
        } else {
            0.0
        }
    }

    /// Its arguments, or its name where it has none.
    pub(super) fn command(&self, _: &Machine) -> String {
        match (self.state, self.arguments.is_empty()) {
            ('Z', _) => format!("[{}] <defunct>", self.name),
            (_, true) => format!("[{}]", self.name),
            _ => self.arguments.clone(),
        }
    }

    pub(super) fn name(&self, _: &Machine) -> String {
        match self.state {
            'Z' => format!("{} <defunct>", self.name),
            _ => self.name.clone(),
        }
    }

    /// Its state, with what is special about it.
    pub(super) fn state_code(&self) -> String {
        let mut code = self.state.to_string();
        match self.number(16) {
            nice if nice < 0 => code.push('<'),
            0 => {}
            _ => code.push('N'),
        }
        if self
            .line("VmLck")
            .is_some_and(|text| !text.starts_with("0 "))
        {
            code.push('L');
        }
        if self.number(3) == i64::from(self.pid) {
            code.push('s');
        }
        if self.stat(17) > 1 {
            code.push('l');
        }
        if self.number(5) == self.number(2) {
            code.push('+');
        }
        code
    }

    pub(super) fn terminal(&self) -> String {
        let device = self.stat(4);
        let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
        match (major, minor) {
            (0, _) => "?".into(),
            (4, 0..64) => format!("tty{minor}"),
            (4, _) => format!("ttyS{}", minor - 64),
            (136..144, _) => format!("pts/{}", (major - 136) * 256 + minor),
            (5, 1) => "console".into(),
            (229, _) => format!("hvc{minor}"),
            _ => "?".into(),
        }
    }

    /// Where in the kernel it waits.
    pub(super) fn waits_in(&self) -> String {
        match self.waits_in.trim() {
            "" | "0" => "-".into(),
            place => place.to_owned(),
        }
    }

    pub(super) fn class(&self, _: &Machine) -> String {
        let class = match self.stat(38) {
            0 => "TS",
            1 => "FF",
            2 => "RR",
            3 => "B",
            5 => "IDL",
            6 => "DLN",
            _ => "?",
        };
        class.into()
    }

    fn started(&self, machine: &Machine) -> Timestamp {
        at(machine.booted as f64 + self.stat(19) as f64 / TICKS as f64)
    }

    /// The time today, the day this year, or the year.
    pub(super) fn started_short(&self, machine: &Machine) -> String {
        let (started, now) = (self.started(machine).calendar(), machine.now().calendar());
        if started.year() != now.year() {
            return started.year().to_string();
        }
        if started.ordinal() == now.ordinal() {
            format!("{:02}:{:02}", started.hour(), started.minute())
        } else {
            format!("{}{:02}", month(started), started.day())
        }
    }

    /// The time in the first day, then the day.
    pub(super) fn started_bsd(&self, machine: &Machine) -> String {
        let started = self.started(machine).calendar();
        if self.elapsed_seconds(machine) > 86_400.0 {
            format!("{}{:02}", month(started), started.day())
        } else {
            format!("{:02}:{:02}", started.hour(), started.minute())
        }
    }

    /// The same with seconds.
    pub(super) fn started_day(&self, machine: &Machine) -> String {
        let started = self.started(machine).calendar();
        if self.elapsed_seconds(machine) > 86_400.0 {
            format!("{} {:02}", month(started), started.day())
        } else {
            time_of(started)
        }
    }

    /// As `ctime` writes it.
    pub(super) fn started_long(&self, machine: &Machine) -> String {
        let started = self.started(machine).calendar();
        let weekday = started.weekday().to_string();
        format!(
            "{} {} {:2} {} {}",
            weekday.get(..3).unwrap_or_default(),
            month(started),
            started.day(),
            time_of(started),
            started.year()
        )
    }
}

fn month(time: time::OffsetDateTime) -> String {
    time.month().to_string().chars().take(3).collect()
}

fn time_of(time: time::OffsetDateTime) -> String {
    format!(
        "{:02}:{:02}:{:02}",
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Words apart, and nothing that does something to a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\0' => ' ',
            letter if letter.is_control() => '?',
            letter => letter,
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read as _;

    use super::*;

    /// A machine two minutes after [`shell`] was started in it.
    pub(in crate::top) fn machine() -> Machine {
        Machine {
            booted: 1_795_657_294,
            uptime: 221.9,
            memory_kib: 24_684_092,
            page: 4096,
        }
    }

    /// A shell as the kernel told of it.
    pub(in crate::top) fn shell() -> Process {
        let stat = "31083 (sh) S 31056 31083 31083 0 -1 4194560 215 0 0 0 300 200 0 0 39 19 1 0 10000 \
                    4034560 765 18446744073709551615 4194304 4983617 140721 0 0 0 65536 4 65538 0 0 0 \
                    17 1 0 0 0 0 0 0 0 0 0 0 0 0 0";
        let status = "Name:\tsh\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nVmLck:\t       0 kB\n\
                      VmRSS:\t    3060 kB\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000010000\n\
                      SigIgn:\t0000000000000004\nSigCgt:\t0000000000010002\n";
        let arguments = "sh\0-c\0sleep 1000 & sleep 1001; :\0";
        Process::parse(31083, stat, status.into(), arguments, "do_wait".into()).unwrap()
    }

    #[test]
    fn terminals_have_their_names() {
        for (device, name) in [(0, "?"), (1025, "tty1"), (34817, "pts/1"), (1088, "ttyS0")] {
            let mut process = shell();
            process.stat[4] = device.to_string();
            assert_eq!(process.terminal(), name);
        }
    }

    #[test]
    fn names_and_arguments_may_be_anything() {
        let stat = "7 (a) b(c) Z 1 7";
        let process = Process::parse(7, stat, String::new(), "", String::new()).unwrap();
        assert_eq!(process.command(&machine()), "[a) b(c] <defunct>");
        assert_eq!(printable("a\0b\x1b[2J\n"), "a b?[2J?");
    }

    #[test]
    fn arguments_are_read_up_to_a_limit_for_each_and_for_all() {
        let long = "x".repeat(100_000);
        let words = ["-c", "echo; read line", "sh", &long, &long, &long];
        let mut process = std::process::Command::new("/bin/sh");
        let process = process.args(words).stdin(std::process::Stdio::piped());
        let process = process.stdout(std::process::Stdio::piped());
        let mut process = process.spawn().unwrap();
        // A program that has only just been started has no arguments for a moment.
        let said = process.stdout.as_mut().unwrap().read(&mut [0]);
        assert_eq!(said.unwrap(), 1);
        let pid = process.id().cast_signed();
        let shown = |room: &mut u64| Process::read(pid, room).unwrap().command(&machine());
        let mut room = MOST_OF_ALL;
        let whole = shown(&mut room);
        let one = usize::try_from(MOST_OF_ONE).unwrap();
        assert!(whole.starts_with("/bin/sh -c echo; read line sh xxx"));
        assert_eq!((whole.len(), room), (one, MOST_OF_ALL - MOST_OF_ONE));
        room = 10;
        assert_eq!((shown(&mut room).as_str(), room), ("/bin/sh -c", 0));
        assert_eq!(shown(&mut room), "[sh]");
        drop(process.stdin.take());
        process.wait().unwrap();
    }

    #[test]
    fn a_process_of_another_day_shows_the_day() {
        let mut machine = machine();
        machine.uptime += 3.0 * 86_400.0;
        let process = shell();
        assert_eq!(process.started_short(&machine), "Nov26");
        assert_eq!(process.started_bsd(&machine), "Nov26");
        assert_eq!(process.started_day(&machine), "Nov 26");
    }
}
