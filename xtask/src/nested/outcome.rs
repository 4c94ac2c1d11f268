//! What the outer machine tells about its tests, line by line.

use std::io::{BufRead, BufReader, Read};

use anyhow::Result;

/// One line of the outer machine.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
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
        ("test", Some(name), Some(how)) => Some(Line::Ended {
            name: name.to_owned(),
            how: how.to_owned(),
        }),
        _ => None,
    }
}

/// Reads until the machine ends, and tells each outcome as it comes.
pub fn read(from: impl Read) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for line in BufReader::new(from).split(b'\n') {
        if let Some(line) = parse(&String::from_utf8_lossy(&line?)) {
            if let Line::Ended { name, how } = &line {
                println!("test nested::{name} ... {how}");
            }
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Prints the sum; returns how many of `wanted` did not end well.
pub fn report(wanted: &[String], lines: &[Line]) -> usize {
    let well = |name: &&String| {
        lines.iter().any(|line| {
            matches!(line, Line::Ended { name: ended, how } if ended == *name && how == "ok")
        })
    };
    let passed = wanted.iter().filter(well).count();
    if !lines.contains(&Line::Done) {
        println!("the outer machine ended before it had run every test");
    }
    let failed = wanted.len() - passed;
    println!("\nnested: {passed} passed, {failed} failed");
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_never_ended_counts_as_failed() {
        let wanted = ["a", "b", "c"].map(str::to_owned);
        let lines = read(&b"\0garbage\r\ntest a ok\r\ntest b failed 1\r\n"[..]).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(report(&wanted, &lines), 2);
        let lines = read(&b"test a ok\ntest b ok\ntest c ok\ndone\n"[..]).unwrap();
        assert_eq!(
            (report(&wanted, &lines), lines.last()),
            (0, Some(&Line::Done))
        );
    }
}
