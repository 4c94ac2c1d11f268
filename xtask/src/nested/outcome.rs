//! What the outer machine tells about its tests, line by line.

use std::io::{BufRead, BufReader, Read};
use std::time::Instant;

use anyhow::Result;

/// One line of the outer machine.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A test begins.
    Started,
    /// A test ended.
    Ended {
        /// Its name.
        name: String,
        /// `ok`, or how it failed.
        how: String,
    },
    /// All were run.
    Done,
}

fn parse(line: &str) -> Option<Line> {
    let mut words = line.trim().splitn(3, ' ');
    match (words.next()?, words.next(), words.next()) {
        ("done", None, None) => Some(Line::Done),
        ("test", Some(_), Some("started")) => Some(Line::Started),
        ("test", Some(name), Some(how)) => Some(Line::Ended {
            name: name.to_owned(),
            how: how.to_owned(),
        }),
        _ => None,
    }
}

/// Reads until the machine ends, and tells each outcome as it comes, with the test's time and what the machine
/// `used` meanwhile, in seconds of processor time: what differs least from one host, or one hour, to the next.
pub fn read(from: impl Read, used: impl Fn() -> Result<f64>) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let (mut started, mut before) = (Instant::now(), 0.0);
    for line in BufReader::new(from).split(b'\n') {
        let Some(line) = parse(&String::from_utf8_lossy(&line?)) else {
            continue;
        };
        match &line {
            Line::Started => (started, before) = (Instant::now(), used()?),
            Line::Ended { name, how } => {
                let (seconds, used) = (started.elapsed().as_secs_f64(), used()? - before);
                println!(
                    "test nested::{name} ... {how} ({seconds:.1} s, {used:.1} s of processors)"
                );
            }
            Line::Done => {}
        }
        lines.push(line);
    }
    println!("the outer machine used {:.0} s of processors", used()?);
    Ok(lines)
}

/// Which of `wanted` did not end well, by name; prints the sum.
pub fn failed<'a>(wanted: &'a [String], lines: &[Line]) -> Vec<&'a str> {
    let well = |name: &str| {
        lines.iter().any(
            |line| matches!(line, Line::Ended { name: ended, how } if ended == name && how == "ok"),
        )
    };
    let names = wanted.iter().map(String::as_str);
    let failed: Vec<&str> = names.filter(|name| !well(name)).collect();
    let passed = wanted.len() - failed.len();
    println!("\nnested: {passed} passed, {} failed", failed.len());
    failed
}

/// What a test wrote to the console, from the line that names it on; at most its last lines.
pub fn said<'a>(console: &'a str, name: &str) -> &'a str {
    const MOST: usize = 120;
    let head = format!("==== {name}");
    let Some(start) = console.lines().find(|line| line.trim() == head) else {
        return "it was never started";
    };
    let from = start.as_ptr() as usize - console.as_ptr() as usize;
    let text = &console[from..];
    let end = text[4..].find("\n==== ").map_or(text.len(), |at| at + 4);
    let text = &text[..end];
    let cut = text.rmatch_indices('\n').nth(MOST);
    cut.map_or(text, |(at, _)| &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_never_ended_counts_as_failed() {
        let wanted = ["a", "b", "c"].map(str::to_owned);
        let lines = read(
            &b"\0garbage\r\ntest a ok\r\ntest b failed 1\r\n"[..],
            || Ok(0.0),
        )
        .unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(failed(&wanted, &lines), ["b", "c"]);
        let text = b"test a started\ntest a ok\ntest b ok\ntest c ok\ndone\n";
        let lines = read(&text[..], || Ok(0.0)).unwrap();
        assert!(failed(&wanted, &lines).is_empty());
        assert_eq!(lines.last(), Some(&Line::Done));
    }

    #[test]
    fn a_test_that_skipped_itself_counts_as_failed() {
        let lines = read(
            &b"test a failed: skipped a: no kernel\r\ntest b ok\r\ndone\r\n"[..],
            || Ok(0.0),
        )
        .unwrap();
        assert_eq!(failed(&["a", "b"].map(str::to_owned), &lines), ["a"]);
        let how = "failed: skipped a: no kernel".to_owned();
        let name = "a".to_owned();
        assert_eq!(lines.first(), Some(&Line::Ended { name, how }));
    }

    #[test]
    fn a_failure_is_shown_with_its_own_words() {
        let console = "boot\n==== a\none\ntwo\n==== ab\nthree\n==== b\n";
        assert_eq!(said(console, "a"), "==== a\none\ntwo");
        assert_eq!(said(console, "ab"), "==== ab\nthree");
        assert_eq!(said(console, "b"), "==== b\n");
        assert_eq!(said(console, "c"), "it was never started");
        let long = format!("==== a\n{}end", "line\n".repeat(500));
        assert_eq!(said(&long, "a").lines().count(), 121);
    }
}
