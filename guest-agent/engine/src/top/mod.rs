//! `docker top`: the processes of a container, in the columns of procps.
//!
//! Called by the API. The machine has no `ps`: the options are read by `options`, a process by
//! `process`, and `columns` says what a column shows of one. What dockerd makes of the text of
//! `ps` is made of ours as well, so that clients see the same rows; a process that ends while it
//! is read is left out. Never looks at processes that are not the container's.

mod columns;
mod options;
mod process;

use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

use columns::Column;
use options::View;
use process::{Machine, Process};

/// Processes of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// Headings of the columns.
    pub titles: Vec<String>,
    /// A row a process.
    pub processes: Vec<Vec<String>>,
}

impl Engine {
    /// The processes of a container that runs, as `ps` with `options` shows them.
    ///
    /// # Errors
    ///
    /// Options of `ps` that are wrong or not known here; a container that does not run.
    pub fn container_top(&self, reference: &str, options: &str) -> Result<Top> {
        let options = if options.is_empty() { "-ef" } else { options };
        options::check(options).map_err(failed)?;
        let container = self.containers().find(reference)?;
        let live = self.running(&container)?;
        let mut pids = live
            .cgroup
            .processes()
            .map_err(|error| Error::internal("the container's processes cannot be read", error))?;
        pids.sort_unstable();
        let view = options::parse(options).map_err(failed)?;
        let machine = Machine::read()
            .map_err(|error| Error::internal("the machine's clock cannot be read", error))?;
        let mut room = process::MOST_OF_ALL;
        let read = |pid| Process::read(pid, &mut room);
        let processes: Vec<Process> = pids.into_iter().filter_map(read).collect();
        let top = rows(&view, &machine, &processes).map_err(failed)?;
        self.container_event(&container, "top", &[]);
        Ok(top)
    }
}

fn failed(text: String) -> Error {
    Error::new(Kind::Internal, text)
}

/// The rows that dockerd makes of the lines of `ps`: split at blanks, what is too much joined to
/// the last column.
fn rows(view: &View, machine: &Machine, processes: &[Process]) -> std::result::Result<Top, String> {
    let titles: Vec<String> = view.columns.iter().map(Column::title).collect();
    let titles = fields(&titles.join(" "));
    if !view.headings || !titles.iter().any(|title| title == "PID") {
        return Err("Couldn't find PID field in ps output".into());
    }
    let row = |process: &Process| {
        let cells = view.columns.iter().map(|c| c.show(process, machine));
        let mut cells = fields(&cells.collect::<Vec<_>>().join(" "));
        let rest = cells.split_off((titles.len() - 1).min(cells.len()));
        cells.push(rest.join(" "));
        cells
    };
    Ok(Top {
        processes: processes.iter().map(row).collect(),
        titles,
    })
}

fn fields(line: &str) -> Vec<String> {
    line.split_ascii_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(options: &str) -> std::result::Result<Top, String> {
        let view = options::parse(options)?;
        rows(
            &view,
            &process::tests::machine(),
            &[process::tests::shell()],
        )
    }

    fn text(options: &str) -> String {
        match shown(options) {
            Ok(top) => format!("{}|{}", top.titles.join(" "), top.processes[0].join(" ")),
            Err(error) => error,
        }
    }

    #[test]
    fn columns_are_those_of_procps() {
        for (options, expected) in [
            (
                "-ef",
                "UID PID PPID C STIME TTY TIME CMD|root 31083 31056 4 01:43 ? 00:00:05 sh -c sleep 1000 & sleep 1001; :",
            ),
            (
                "aux",
                "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND|root 31083 4.1 0.0 3940 3060 ? SNs 01:43 0:05 sh -c sleep 1000 & sleep 1001; :",
            ),
            ("-eo pid,comm", "PID COMMAND|31083 sh"),
            (
                "axo pid,ppid,user,args",
                "PID PPID USER COMMAND|31083 31056 root sh -c sleep 1000 & sleep 1001; :",
            ),
            (
                "-l",
                "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD|4 S 0 31083 31056 4 99 19 - 985 do_wai ? 00:00:05 sh",
            ),
            (
                "-elf",
                "F S UID PID PPID C PRI NI ADDR SZ WCHAN STIME TTY TIME CMD|4 S root 31083 31056 4 99 19 - 985 do_wai 01:43 ? 00:00:05 sh -c sleep 1000 & sleep 1001; :",
            ),
            (
                "-F",
                "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD|root 31083 31056 4 985 3060 1 01:43 ? 00:00:05 sh -c sleep 1000 & sleep 1001; :",
            ),
            ("-e", "PID TTY TIME CMD|31083 ? 00:00:05 sh"),
            (
                "ax",
                "PID TTY STAT TIME COMMAND|31083 ? SNs 0:05 sh -c sleep 1000 & sleep 1001; :",
            ),
            (
                "l",
                "F UID PID PPID PRI NI VSZ RSS WCHAN STAT TTY TIME COMMAND|4 0 31083 31056 39 19 3940 3060 do_wai SNs ? 0:05 sh -c sleep 1000 & sleep 1001; :",
            ),
            (
                "j",
                "PPID PID PGID SID TTY TPGID STAT UID TIME COMMAND|31056 31083 31083 31083 ? -1 SNs 0 0:05 sh -c sleep 1000 & sleep 1001; :",
            ),
            (
                "-j",
                "PID PGID SID TTY TIME CMD|31083 31083 31083 ? 00:00:05 sh",
            ),
            (
                "s",
                "UID PID PENDING BLOCKED IGNORED CAUGHT STAT TTY TIME COMMAND|0 31083 0000000000000000 0000000000010000 0000000000000004 0000000000010002 SNs ? 0:05 sh -c sleep 1000 & sleep 1001; :",
            ),
            (
                "v",
                "PID TTY STAT TIME MAJFL TRS DRS RSS %MEM COMMAND|31083 ? SNs 0:05 0 770 3169 3060 0.0 sh -c sleep 1000 & sleep 1001; :",
            ),
            // What dockerd does with a column of many words.
            (
                "-eo pid,lstart,args",
                "PID STARTED COMMAND|31083 Thu Nov 26 01:43:14 2026 sh -c sleep 1000 & sleep 1001; :",
            ),
            (
                "-eo pid,etime,time,ni,pri,start,wchan",
                "PID ELAPSED TIME NI PRI STARTED WCHAN|31083 02:01 00:00:05 19 0 01:43:14 do_wait",
            ),
            ("-eo pid -o user:20,group", "PID USER GROUP|31083 root root"),
            (
                "-eopid,cmd=THIS",
                "PID THIS|31083 sh -c sleep 1000 & sleep 1001; :",
            ),
            ("--format pid,comm", "PID COMMAND|31083 sh"),
        ] {
            assert_eq!(text(options), expected, "{options}");
        }
    }

    #[test]
    fn wrong_options_are_refused_as_dockerd_passes_it_on() {
        for (options, expected) in [
            ("-o user", "Couldn't find PID field in ps output"),
            ("-o pid= -o comm=", "Couldn't find PID field in ps output"),
            ("--no-headers -ef", "Couldn't find PID field in ps output"),
            (
                "-o pid,bogus",
                "ps: error: unknown user-defined format specifier \"bogus\"",
            ),
            ("bogus", "ps: error: unsupported option (BSD syntax)"),
            ("-C sleep", "ps: the option \"-C\" is not supported"),
            ("--forest", "ps: the option \"--forest\" is not supported"),
            ("axf", "ps: the option \"f\" is not supported"),
        ] {
            assert_eq!(text(options), expected, "{options}");
        }
        let renamed = options::check("-o pid -o comm=PIDX").unwrap_err();
        assert_eq!(renamed, "specifying \"comm=PIDX\" is not allowed");
        assert!(options::check("-eo pid,comm").is_ok());
    }
}
