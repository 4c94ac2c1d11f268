//! The one program of ours in the image in which another engine runs inside a machine of ours: starts that
//! engine, carries connections to it, and asks it (or our own engine, the same way) what a benchmark wants to know.
//!
//! Built static by `xtask`, which puts it into that image; run by `tests/src/inner.rs` and by `cargo xtask bench
//! engine`. It never decides anything: what it prints is judged outside.
//!
//! ```text
//!   inner serve WORDS…                 become WORDS, in a group below which every controller is there
//!   inner bridge SOCKET                carry standard input and output to and from a socket
//!   inner once SOCKET COUNT            one reading each of containers s0, s1, …: microseconds
//!   inner readers SOCKET COUNT SECONDS PROGRAMS   that many streams: milliseconds of processor
//!                                              time of PROGRAMS, and how many readings came
//! ```

use std::fs;
use std::io::{self, BufRead, BufReader, Error, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["serve", program, ref rest @ ..] => serve(program, rest),
        ["bridge", socket] => bridge(socket),
        ["once", socket, count] => once(socket, number(count)?),
        ["readers", socket, count, seconds, programs] => readers(
            socket,
            number(count)?,
            Duration::from_secs(number(seconds)?),
            &programs.split(',').collect::<Vec<_>>(),
        ),
        _ => Err(Error::other("see the top of inner.rs")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse()
        .map_err(|_| Error::other(format!("{text} is no number")))
}

const GROUP: &str = "/sys/fs/cgroup";

/// A group that hands controllers down may have no processes of its own: they go one level down first.
fn serve(program: &str, rest: &[&str]) -> io::Result<()> {
    let own = format!("{GROUP}/daemon");
    fs::create_dir(&own)?;
    let limit = Instant::now() + PATIENCE;
    let all = fs::read_to_string(format!("{GROUP}/cgroup.controllers"))?;
    for controller in all.split_whitespace() {
        loop {
            leave(&own)?;
            match fs::write(
                format!("{GROUP}/cgroup.subtree_control"),
                format!("+{controller}"),
            ) {
                // Somebody came meanwhile, to ask whether the engine listens.
                Err(error)
                    if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < limit => {}
                done => break done?,
            }
        }
    }
    Err(Command::new(program).args(rest).exec())
}

/// Has all processes of the group go to this one.
fn leave(own: &str) -> io::Result<()> {
    loop {
        let here = fs::read_to_string(format!("{GROUP}/cgroup.procs"))?;
        if here.trim().is_empty() {
            return Ok(());
        }
        for process in here.lines() {
            // One that has ended meanwhile is gone from the list.
            let _ = fs::write(format!("{own}/cgroup.procs"), process);
        }
    }
}

/// Longest until the engine runs, and until it listens.
const PATIENCE: Duration = Duration::from_secs(120);

/// Connects as soon as somebody listens.
fn connect(socket: &str) -> io::Result<UnixStream> {
    use io::ErrorKind::{ConnectionRefused, NotFound};
    let limit = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(socket) {
            Err(error)
                if matches!(error.kind(), ConnectionRefused | NotFound) && Instant::now() < limit =>
            {
                // It has no event for being ready.
                std::thread::sleep(Duration::from_millis(50));
            }
            done => return done,
        }
    }
}

fn bridge(socket: &str) -> io::Result<()> {
    let mut from = connect(socket)?;
    let mut to = from.try_clone()?;
    std::thread::spawn(move || {
        let carried = io::copy(&mut io::stdin().lock(), &mut to);
        // The end of what a client says is said too; a client that is gone altogether is gone.
        let _ = to.shutdown(Shutdown::Write);
        carried
    });
    let mut out = io::stdout().lock();
    let mut block = [0; 32 << 10];
    loop {
        match from.read(&mut block)? {
            0 => return Ok(()),
            count => {
                out.write_all(&block[..count])?;
                out.flush()?;
            }
        }
    }
}

fn request(stream: &mut UnixStream, path: &str) -> io::Result<()> {
    write!(stream, "GET /v1.41{path} HTTP/1.1\r\nHost: docker\r\n\r\n")
}

/// The head of a good answer: the length of its body, or that it comes in chunks.
fn head(answer: &mut impl BufRead) -> io::Result<Option<u64>> {
    let mut line = String::new();
    answer.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200") {
        return Err(Error::other(line));
    }
    let mut length = None;
    loop {
        line.clear();
        answer.read_line(&mut line)?;
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            return Ok(length);
        }
        if let Some(value) = text.strip_prefix("content-length:") {
            length = Some(number(value.trim())?);
        }
    }
}

fn skip(answer: &mut impl BufRead, length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut answer.take(length), &mut io::sink())?;
    if skipped < length {
        return Err(Error::other("an answer was cut short"));
    }
    Ok(())
}

/// The next chunk of a body; how long it is.
fn chunk(answer: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let size = u64::from_str_radix(line.trim(), 16).map_err(Error::other)?;
    skip(answer, size + 2)?;
    Ok(size)
}

fn once(socket: &str, count: usize) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    let mut answer = BufReader::new(stream.try_clone()?);
    let start = Instant::now();
    for container in 0..count {
        request(
            &mut stream,
            &format!("/containers/s{container}/stats?stream=0&one-shot=1"),
        )?;
        match head(&mut answer)? {
            Some(length) => skip(&mut answer, length)?,
            None => while chunk(&mut answer)? > 0 {},
        }
    }
    println!("{}", start.elapsed().as_micros());
    Ok(())
}

fn readers(socket: &str, count: usize, time: Duration, programs: &[&str]) -> io::Result<()> {
    let mut streams = Vec::new();
    for container in 0..count {
        let mut stream = UnixStream::connect(socket)?;
        request(&mut stream, &format!("/containers/s{container}/stats?stream=1"))?;
        streams.push(BufReader::new(stream));
    }
    // Every stream has begun before the time does.
    for stream in &mut streams {
        head(stream)?;
        chunk(stream)?;
    }
    let begin = used_by(programs)?;
    std::thread::sleep(time);
    let used = used_by(programs)?.saturating_sub(begin);
    // What came meanwhile is in the sockets: a frame is small.
    let mut frames = 0;
    for stream in &mut streams {
        stream.get_ref().set_nonblocking(true)?;
        while chunk(stream).is_ok() {
            frames += 1;
        }
    }
    println!("{} {frames}", used.as_millis());
    Ok(())
}

/// Processor time that all processes of these names have had so far.
fn used_by(programs: &[&str]) -> io::Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let name = name.split_once('(').map_or("", |(_, name)| name);
        // The kernel keeps 15 letters of a name.
        if programs.iter().any(|program| program.get(..15).unwrap_or(program) == name) {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            for field in fields.get(11..13).unwrap_or_default() {
                ticks += number::<u32>(field)?;
            }
        }
    }
    Ok(TICK * ticks)
}
