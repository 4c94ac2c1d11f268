//! The columns: their headings and what each shows of a process, as procps has them.

use super::process::{Machine, Process};

type Show = fn(&Process, &Machine) -> String;

/// A column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    title: &'static str,
    /// The user's own heading.
    pub(super) heading: Option<String>,
    /// Characters it has at most.
    pub(super) width: Option<usize>,
    show: Show,
}

impl Column {
    /// The column that `-o name` asks for.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (_, title, show) = COLUMNS
            .iter()
            .find(|(names, ..)| names.split(' ').any(|known| known == name))?;
        let width = match *title {
            "WCHAN" => Some(6),
            "COMMAND" | "CMD" | "EXE" | "CGROUP" => Some(27),
            _ => None,
        };
        Some(Self {
            title,
            heading: None,
            width,
            show: *show,
        })
    }

    pub(super) fn title(&self) -> String {
        self.heading.clone().unwrap_or_else(|| self.title.into())
    }

    /// Shows a program's name where it would show its arguments.
    pub(super) fn only_the_name(&mut self) {
        if matches!(self.title, "COMMAND" | "CMD") {
            self.show = Process::name;
        }
    }

    pub(super) fn show(&self, process: &Process, machine: &Machine) -> String {
        let text = (self.show)(process, machine);
        match self.width {
            Some(width) => text.chars().take(width).collect(),
            None => text,
        }
    }
}

/// The formats that are ready, by what chooses them.
pub(super) const FORMATS: &[(&str, &str)] = &[
    ("-", "pid tname time ucmd"),
    ("bsd", "pid tname stat bsdtime args"),
    ("-f", "uid_hack pid ppid c stime tname time cmd"),
    ("-F", "uid_hack pid ppid c sz rss psr stime tname time cmd"),
    (
        "-l",
        "f s uid pid ppid c opri ni _addr sz wchan tname time ucmd",
    ),
    (
        "-ly",
        "s uid pid ppid c opri ni rss sz wchan tname time ucmd",
    ),
    (
        "-lf",
        "f s uid_hack pid ppid c opri ni _addr sz wchan stime tname time cmd",
    ),
    (
        "-lfy",
        "s uid_hack pid ppid c opri ni rss sz wchan stime tname time cmd",
    ),
    ("-j", "pid pgid sid tname time ucmd"),
    ("-jf", "uid_hack pid ppid pgid sid c stime tname time cmd"),
    (
        "u",
        "user pid %cpu %mem vsz rss tname stat bsdstart bsdtime args",
    ),
    (
        "l",
        "f uid pid ppid priority ni vsz rss wchan stat tname bsdtime args",
    ),
    ("j", "ppid pid pgid sid tname tpgid stat uid bsdtime args"),
    (
        "s",
        "uid pid pending blocked ignored caught stat tname bsdtime args",
    ),
    ("v", "pid tname stat bsdtime maj_flt trs drs rss %mem args"),
];

/// Names for `-o`, heading, and what is shown. Those with `_` in front are not for `-o`.
const COLUMNS: &[(&str, &str, Show)] = &[
    ("%cpu pcpu", "%CPU", |p, m| decimal(p.percent_cpu(m))),
    ("%mem pmem", "%MEM", |p, m| {
        decimal((p.rss_kib as f64 * 100.0 / m.memory_kib.max(1) as f64).min(99.9))
    }),
    ("_addr", "ADDR", |_, _| "-".into()),
    ("args command", "COMMAND", Process::command),
    ("blocked sig_block sigmask", "BLOCKED", |p, _| {
        p.signals("SigBlk")
    }),
    ("bsdstart", "START", Process::started_bsd),
    ("bsdtime", "TIME", |p, _| minutes(p.cpu_seconds())),
    ("c util", "C", |p, m| {
        (p.percent_cpu(m).min(99.0) as u64).to_string()
    }),
    ("caught sigcatch", "CAUGHT", |p, _| p.signals("SigCgt")),
    ("class cls", "CLS", Process::class),
    ("cmd", "CMD", Process::command),
    ("comm fname ucomm", "COMMAND", Process::name),
    ("cputime atime time", "TIME", |p, _| {
        clock(p.cpu_seconds(), true)
    }),
    ("cputimes times", "TIME", |p, _| p.cpu_seconds().to_string()),
    ("drs", "DRS", |p, _| {
        (p.stat(20).saturating_sub(p.text_bytes()) / 1024).to_string()
    }),
    ("egid", "EGID", |p, _| p.id("Gid", 1).to_string()),
    ("egroup", "EGROUP", |p, _| owner(p.id("Gid", 1))),
    ("etime", "ELAPSED", |p, m| {
        clock(p.elapsed_seconds(m) as u64, false)
    }),
    ("etimes", "ELAPSED", |p, m| {
        (p.elapsed_seconds(m) as u64).to_string()
    }),
    ("euid", "EUID", |p, _| p.id("Uid", 1).to_string()),
    ("euser", "EUSER", |p, _| owner(p.id("Uid", 1))),
    ("f flag flags", "F", |p, _| {
        format!("{:o}", p.stat(6) >> 6 & 0x7)
    }),
    ("gid", "GID", |p, _| p.id("Gid", 1).to_string()),
    ("group", "GROUP", |p, _| owner(p.id("Gid", 1))),
    ("ignored sigignore", "IGNORED", |p, _| p.signals("SigIgn")),
    ("lstart", "STARTED", Process::started_long),
    ("lwp", "LWP", |p, _| p.pid.to_string()),
    ("maj_flt", "MAJFL", |p, _| p.stat(9).to_string()),
    ("majflt", "MAJFLT", |p, _| p.stat(9).to_string()),
    ("min_flt", "MINFL", |p, _| p.stat(7).to_string()),
    ("minflt", "MINFLT", |p, _| p.stat(7).to_string()),
    ("ni nice", "NI", |p, _| p.number(16).to_string()),
    ("nlwp", "NLWP", |p, _| p.stat(17).to_string()),
    ("opri", "PRI", |p, _| (p.number(15) + 60).to_string()),
    ("pending sig", "PENDING", |p, _| p.signals("ShdPnd")),
    ("pgid", "PGID", |p, _| p.stat(2).to_string()),
    ("pgrp", "PGRP", |p, _| p.stat(2).to_string()),
    ("pid", "PID", |p, _| p.pid.to_string()),
    ("ppid", "PPID", |p, _| p.stat(1).to_string()),
    ("pri", "PRI", |p, _| (39 - p.number(15)).to_string()),
    ("priority", "PRI", |p, _| p.number(15).to_string()),
    ("psr", "PSR", |p, _| p.stat(36).to_string()),
    ("rgid", "RGID", |p, _| p.id("Gid", 0).to_string()),
    ("rgroup", "RGROUP", |p, _| owner(p.id("Gid", 0))),
    ("rss rssize", "RSS", |p, _| p.rss_kib.to_string()),
    ("rsz", "RSZ", |p, _| p.rss_kib.to_string()),
    ("ruid", "RUID", |p, _| p.id("Uid", 0).to_string()),
    ("ruser", "RUSER", |p, _| owner(p.id("Uid", 0))),
    ("s state", "S", |p, _| p.state.to_string()),
    ("sess session", "SESS", |p, _| p.stat(3).to_string()),
    ("sgid", "SGID", |p, _| p.id("Gid", 2).to_string()),
    ("sid", "SID", |p, _| p.stat(3).to_string()),
    ("spid", "SPID", |p, _| p.pid.to_string()),
    ("start", "STARTED", Process::started_day),
    ("start_time", "START", Process::started_short),
    ("stat", "STAT", |p, _| p.state_code()),
    ("stime", "STIME", Process::started_short),
    ("suid", "SUID", |p, _| p.id("Uid", 2).to_string()),
    ("svgid", "SVGID", |p, _| p.id("Gid", 2).to_string()),
    ("svuid", "SVUID", |p, _| p.id("Uid", 2).to_string()),
    ("sz", "SZ", |p, m| (p.stat(20) / m.page).to_string()),
    ("tgid", "TGID", |p, _| p.pid.to_string()),
    ("thcount", "THCNT", |p, _| p.stat(17).to_string()),
    ("tid", "TID", |p, _| p.pid.to_string()),
    ("tname tty4 tty8 longtname", "TTY", |p, _| p.terminal()),
    ("tpgid", "TPGID", |p, _| p.number(5).to_string()),
    ("trs", "TRS", |p, _| (p.text_bytes() / 1024).to_string()),
    ("trss", "TRSS", |p, _| (p.text_bytes() / 1024).to_string()),
    ("tsiz", "TSIZ", |p, _| (p.text_bytes() / 1024).to_string()),
    ("tt tty", "TT", |p, _| p.terminal()),
    ("ucmd", "CMD", Process::name),
    ("uid", "UID", |p, _| p.id("Uid", 1).to_string()),
    ("uid_hack", "UID", |p, _| owner(p.id("Uid", 1))),
    ("uname user", "USER", |p, _| owner(p.id("Uid", 1))),
    ("vsize vsz", "VSZ", |p, _| (p.stat(20) / 1024).to_string()),
    ("wchan wname", "WCHAN", |p, _| p.waits_in()),
];

/// A user or group by name: the machine knows one, and `ps` shows the others as numbers.
fn owner(id: u32) -> String {
    match id {
        0 => "root".into(),
        id => id.to_string(),
    }
}

fn decimal(value: f64) -> String {
    format!("{value:.1}")
}

/// `MM:SS`, as BSD has it.
fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// `[DD-][HH:]MM:SS`; the hours always if `whole`.
fn clock(seconds: u64, whole: bool) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let rest = format!("{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) if !whole => rest,
        (0, hours) => format!("{hours:02}:{rest}"),
        (days, hours) => format!("{days}-{hours:02}:{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_procps_writes_them() {
        assert_eq!(clock(5, true), "00:00:05");
        assert_eq!(clock(5, false), "00:05");
        assert_eq!(clock(3_600, false), "01:00:00");
        assert_eq!(clock(90_061, false), "1-01:01:01");
        assert_eq!(minutes(7_201), "120:01");
    }

    #[test]
    fn every_ready_format_has_only_known_columns() {
        for (name, columns) in FORMATS {
            for column in columns.split(' ') {
                assert!(Column::named(column).is_some(), "{name}: {column}");
            }
        }
    }
}
