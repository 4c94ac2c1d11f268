//! Command lines in order; after each one the exit code and what was said must be the same.
//!
//! A line is what a person types behind `docker`, with single quotes where a shell wants them.
//! `R` stands for `run --rm --network none`, `C` for `create --network none`, `D` for `run -d
//! --network none`, `$DIR` for a folder of each engine's own. `<<< 'text'` at the end is standard
//! input. Lines that begin with `#` are comments. A line that begins with `~` must differ: the
//! comment above it says why, and only whether it succeeds is compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use lighter_tests::{Finished, Host, Reference};

use crate::{both, normal};

/// Runs docker's words with standard input; both engines are asked at the same time.
type Docker<'a> = dyn Fn(&[&str], &[u8]) -> Finished + Sync + 'a;

/// Two engines, and where they may keep things.
pub struct Pair<'a> {
    /// A folder of this pair's own.
    pub home: &'a Path,
    /// Runs docker against ours.
    pub ours: &'a Docker<'a>,
    /// The same against dockerd.
    pub dockerd: &'a Docker<'a>,
}

/// Runs the same lines on both engines and compares each answer.
pub fn same(test: &str, lines: &str) {
    let Some(both) = both(test) else { return };
    same_of(both.ours, &both.reference(), lines);
}

/// The same on these two.
pub fn same_of(host: &Host, reference: &Reference, lines: &str) {
    let pair = Pair {
        home: host.home(),
        ours: &|words, input| host.docker_with(words, input),
        dockerd: &|words, input| reference.docker_with(words, input),
    };
    compare(&pair, lines);
}

/// The same for any two.
pub fn compare(pair: &Pair<'_>, lines: &str) {
    let folder = |name: &str| -> PathBuf {
        let folder = pair.home.join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    };
    let (mine, its) = (folder("ours"), folder("dockerd"));
    let mut differences = Vec::new();
    for line in lines.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (differs, line) = match line.strip_prefix('~') {
            Some(line) => (true, line.trim()),
            None => (false, line),
        };
        if let Some(shell) = line.strip_prefix('!') {
            for folder in [&mine, &its] {
                let mut sh = Command::new("sh");
                let done = sh.args(["-ec", shell]).current_dir(folder).status();
                assert!(done.expect("sh starts").success(), "{shell}");
            }
            continue;
        }
        let run = |folder: &PathBuf, ours: bool| {
            let (words, input) = words(&line.replace("$DIR", &folder.display().to_string()));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let docker = if ours { pair.ours } else { pair.dockerd };
            let done = docker(&words, input.as_bytes());
            let clean =
                |text: String| normal::text(&text.replace(&folder.display().to_string(), "$DIR"));
            (done.code.to_string(), clean(done.out()), clean(done.err()))
        };
        let (a, b) = std::thread::scope(|scope| {
            let theirs = scope.spawn(|| run(&its, false));
            let ours = run(&mine, true);
            (ours, theirs.join().expect("dockerd is asked"))
        });
        let kind = |code: &str| {
            if differs {
                (code == "0").to_string()
            } else {
                code.to_owned()
            }
        };
        let said = [("stdout", a.1, b.1), ("stderr", a.2, b.2)];
        let said = said.into_iter().filter(|_| !differs);
        let code = [("code", kind(&a.0), kind(&b.0))];
        for (what, ours, theirs) in code.into_iter().chain(said) {
            if ours != theirs {
                differences.push(format!(
                    "docker {line}\n  {what} ours:    {}\n  {what} dockerd: {}",
                    ours.trim_end(),
                    theirs.trim_end()
                ));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences\n{}",
        differences.len(),
        differences.join("\n")
    );
}

/// The words of a line, and its standard input.
fn words(line: &str) -> (Vec<String>, String) {
    let (line, input) = line.split_once(" <<< ").unwrap_or((line, ""));
    let input = input.trim_matches('\'').replace("\\n", "\n");
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(mut c) = characters.next() {
        let literal = c == '\\' && characters.peek() == Some(&'\'');
        if literal {
            c = characters.next().unwrap_or_default();
        }
        match c {
            '\'' if !literal => {
                quoted = !quoted;
                if !open {
                    words.push(String::new());
                    open = true;
                }
            }
            ' ' if !quoted => open = false,
            c => {
                if !open {
                    words.push(String::new());
                    open = true;
                }
                words.last_mut().expect("one was pushed").push(c);
            }
        }
    }
    let long: &[&str] = match words.first().map(String::as_str) {
        Some("R") => &["run", "--rm", "--network", "none"],
        Some("C") => &["create", "--network", "none"],
        Some("D") => &["run", "-d", "--network", "none"],
        _ => return (words, input),
    };
    words.splice(..1, long.iter().map(|word| (*word).to_owned()));
    (words, input)
}

/// Runs the same lines on both engines, which must both like them.
pub fn both_run(test: &str, lines: &[&str]) {
    let Some(both) = both(test) else { return };
    let reference = both.reference();
    for line in lines {
        let (words, _) = words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (a, b) = (both.ours.docker(&words), reference.docker(&words));
        assert_eq!(
            a.code,
            b.code,
            "docker {line}\nours: {}\ndockerd: {}",
            a.err(),
            b.err()
        );
    }
}
