//! Both ends of the connections by which a network is measured.
//!
//! Built static by `cargo xtask bench net`, which runs it on the host, in a virtual machine and in containers: as the
//! server on one side of what is measured, as the client on the other. It decides nothing: what it prints is judged
//! outside. Every byte that is sent is counted on both sides, and a difference is an error.
//!
//! ```text
//!   wire serve PORT                         answers on all addresses, a thread a connection
//!   wire up ADDRESS SECONDS FLOWS           sends:    bytes, microseconds, bytes of the slowest tenth's
//!   wire down ADDRESS SECONDS FLOWS         receives: mean flow, bytes of the flow in the middle
//!   wire echo ADDRESS COUNT                 the median nanoseconds until one byte is back
//!   wire connects ADDRESS SECONDS HANDS     connections that were made, answered and closed; microseconds
//! ```
//!
//! A connection begins with one byte that says what it is for. The server says that it is ready for `up` and `down`: many
//! begin when all have been let in, which a server that is busy with the first takes long for. `up` is answered with the
//! number of bytes that came, `down` begins at a byte of the client's and ends with the number of bytes that were sent. What
//! single flows received is what they had when the client's time was over.

use std::io::{self, Error, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is sent and read at once, by one flow alone.
const BLOCK: usize = 128 << 10;
/// And by one of many, which share a machine's memory.
const SMALL_BLOCK: usize = 16 << 10;
/// More flows than this are many.
const FEW: usize = 16;
/// How a client tells which of the two blocks.
const MANY: u8 = 0;
const ONE: u8 = 1;
/// Bytes that are kept of what was received last.
const KEPT: usize = 8;
/// What a server that is ready says.
const READY: &[u8] = b"r";
const STACK: usize = 64 << 10;
/// A side that says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(240);

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["serve", port] => serve(number(port)?),
        ["up", to, seconds, flows] => {
            flows_of(to, number(seconds)?, number(flows)?, (begin_up, up))
        }
        ["down", to, seconds, flows] => {
            flows_of(to, number(seconds)?, number(flows)?, (begin_down, down))
        }
        ["echo", to, count] => echo(to, number(count)?),
        ["connects", to, seconds, hands] => connects(to, number(seconds)?, number(hands)?),
        _ => Err(Error::other("see the top of wire.rs")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> io::Result<T> {
    text.parse()
        .map_err(|_| Error::other(format!("{text} is no number")))
}

fn spawn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().stack_size(STACK).spawn(work)
}

fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    queue_many(&listener)?;
    println!("serving");
    for stream in listener.incoming() {
        let stream = stream?;
        spawn(move || {
            // The client says itself that it was cut off.
            let _ = answer(stream);
        })?;
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut what = [0; 10];
    stream.read_exact(&mut what[..1])?;
    match what[0] {
        b'u' => {
            stream.read_exact(&mut what[..2])?;
            let mut bytes = bytes(what[0]);
            stream.write_all(READY)?;
            let count = read_all(&mut stream, &mut bytes, Instant::now())?.0.all;
            stream.write_all(&count.to_le_bytes())
        }
        b'd' => {
            stream.read_exact(&mut what)?;
            let [size, _, millis @ ..] = what;
            let bytes = ready_to_write(&stream, size)?;
            stream.write_all(READY)?;
            stream.read_exact(&mut [0])?;
            let time = Duration::from_millis(u64::from_le_bytes(millis));
            let count = write_until(&mut stream, Instant::now() + time, &bytes)?;
            stream.write_all(&(count + 8).to_le_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            // Until the other side has it all.
            stream.read(&mut what).map(drop)
        }
        b'e' => {
            stream.set_nodelay(true)?;
            let mut byte = [0];
            while stream.read(&mut byte)? == 1 {
                stream.write_all(&byte)?;
            }
            Ok(())
        }
        _ => stream.write_all(b"c"),
    }
}

/// What is sent or received into. It is there before the first byte: a thousand threads that ask for memory at a time wait
/// for each other, and are not measured by what they do then.
fn bytes(size: u8) -> Vec<u8> {
    let block = match size {
        MANY => SMALL_BLOCK,
        _ => BLOCK,
    };
    vec![0x5a; KEPT + block]
}

/// How many bytes came until nothing more does, and the last eight of them.
fn read_all(
    stream: &mut TcpStream,
    bytes: &mut [u8],
    end: Instant,
) -> io::Result<(Carried, [u8; KEPT])> {
    let (mut all, mut in_time) = (0, 0);
    loop {
        // The last eight stay in front of what comes next.
        let count = stream.read(&mut bytes[KEPT..])?;
        if count == 0 {
            let mut last = [0; KEPT];
            last.copy_from_slice(&bytes[..KEPT]);
            return Ok((Carried { all, in_time }, last));
        }
        all += count as u64;
        if Instant::now() < end {
            in_time = all;
        }
        bytes.copy_within(count..count + KEPT, 0);
    }
}

unsafe extern "C" {
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const i32, length: u32) -> i32;
    fn listen(fd: i32, backlog: i32) -> i32;
}

/// Has the kernel keep many that come before they are taken: of the library's 128 it forgets those that wait for some
/// seconds, and a machine that is emulated takes longer to let a thousand in.
fn queue_many(listener: &TcpListener) -> io::Result<()> {
    const WAITING: i32 = 4_096;
    // SAFETY: a socket that is open.
    match unsafe { listen(listener.as_raw_fd(), WAITING) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Has the kernel keep little of what is sent: else many flows are measured by what it keeps of each, and a minute of
/// them takes minutes to arrive.
fn keep_little(stream: &TcpStream) -> io::Result<()> {
    const SOL_SOCKET: i32 = 1;
    const SO_SNDBUF: i32 = 7;
    let bytes = 4 * SMALL_BLOCK as i32;
    // SAFETY: an open socket, and a whole number that outlives the call.
    match unsafe {
        setsockopt(
            stream.as_raw_fd(),
            SOL_SOCKET,
            SO_SNDBUF,
            &raw const bytes,
            4,
        )
    } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// What a flow that is about to send needs.
fn ready_to_write(stream: &TcpStream, size: u8) -> io::Result<Vec<u8>> {
    if size == MANY {
        keep_little(stream)?;
    }
    Ok(bytes(size))
}

fn write_until(stream: &mut TcpStream, end: Instant, bytes: &[u8]) -> io::Result<u64> {
    let mut total = 0;
    while Instant::now() < end {
        total += stream.write(&bytes[KEPT..])? as u64;
    }
    Ok(total)
}

/// What waking one flow may take in a machine that is emulated. All begin after the last is awake: it would else find no
/// room beside the first.
const WAKING: Duration = Duration::from_millis(10);

/// The part of its time by which a flow may begin late.
const LATE: u32 = 20;

/// How one flow begins, for so long and with blocks of this size; what it needs to go on.
type Begin = fn(&mut TcpStream, Duration, u8) -> io::Result<Vec<u8>>;

/// What a flow carried, in bytes.
struct Carried {
    all: u64,
    /// Until the instant at which all end: one that begins late has no longer than the others.
    in_time: u64,
}

/// What it does until then, and with what is under way.
type Flow = fn(&mut TcpStream, Instant, &mut [u8]) -> io::Result<Carried>;

/// Says what it is for, and waits until the server is ready.
fn begin(stream: &mut TcpStream, wanted: &[u8]) -> io::Result<()> {
    stream.write_all(wanted)?;
    stream.read_exact(&mut [0])
}

fn begin_up(stream: &mut TcpStream, _: Duration, size: u8) -> io::Result<Vec<u8>> {
    begin(stream, &[b'u', size, 0])?;
    ready_to_write(stream, size)
}

fn up(stream: &mut TcpStream, end: Instant, bytes: &mut [u8]) -> io::Result<Carried> {
    let sent = write_until(stream, end, bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut came = [0; 8];
    stream.read_exact(&mut came)?;
    let all = same(sent, u64::from_le_bytes(came))?;
    Ok(Carried { all, in_time: all })
}

fn begin_down(stream: &mut TcpStream, time: Duration, size: u8) -> io::Result<Vec<u8>> {
    let mut wanted = [b'd', size, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    wanted[3..].copy_from_slice(&(time.as_millis() as u64).to_le_bytes());
    begin(stream, &wanted)?;
    Ok(bytes(size))
}

fn down(stream: &mut TcpStream, end: Instant, bytes: &mut [u8]) -> io::Result<Carried> {
    stream.write_all(b"g")?;
    let (came, last) = read_all(stream, bytes, end)?;
    same(u64::from_le_bytes(last), came.all)?;
    Ok(came)
}

fn same(sent: u64, came: u64) -> io::Result<u64> {
    match sent == came {
        true => Ok(came),
        false => Err(Error::other(format!("{sent} bytes were sent, {came} came"))),
    }
}

fn connect(to: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// All connect, and begin at one instant when the server is ready for all.
fn flows_of(to: &str, seconds: f64, flows: usize, (begin, flow): (Begin, Flow)) -> io::Result<()> {
    let time = Duration::from_secs_f64(seconds);
    let size = match flows <= FEW {
        true => ONE,
        false => MANY,
    };
    let start = Arc::new(OnceLock::new());
    let mut running = Vec::new();
    for _ in 0..flows {
        let mut stream = connect(to)?;
        let mut bytes = begin(&mut stream, time, size)?;
        let start = Arc::clone(&start);
        running.push(spawn(move || {
            let start = told(&start);
            thread::sleep(start.saturating_duration_since(Instant::now()));
            if start.elapsed() > time / LATE {
                return Err(Error::other("a flow was woken too late"));
            }
            flow(&mut stream, start + time, &mut bytes)
        })?);
    }
    let start = *start.get_or_init(|| Instant::now() + WAKING * flows as u32);
    for flow in &running {
        flow.thread().unpark();
    }
    let (mut carried, mut total) = (Vec::new(), 0);
    for flow in running {
        let flow = flow.join().map_err(|_| Error::other("a thread"))??;
        carried.push(flow.in_time);
        total += flow.all;
    }
    let micros = start.elapsed().as_micros();
    carried.sort_unstable();
    let tenth = &carried[..flows.div_ceil(10)];
    let slowest = tenth.iter().sum::<u64>() / tenth.len() as u64;
    println!("{total} {micros} {slowest} {}", carried[flows / 2]);
    Ok(())
}

/// What is told by being set and unparking this thread: no lock, for which a thousand would queue.
fn told(instant: &OnceLock<Instant>) -> Instant {
    loop {
        if let Some(told) = instant.get() {
            return *told;
        }
        thread::park();
    }
}

fn echo(to: &str, count: usize) -> io::Result<()> {
    let mut stream = connect(to)?;
    stream.set_nodelay(true)?;
    stream.write_all(b"e")?;
    let mut taken = Vec::new();
    for at in 0..count + count / 10 {
        let byte = [at as u8];
        let mut back = [0];
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut back)?;
        // The first ones warm the way.
        if at >= count / 10 {
            taken.push(start.elapsed().as_nanos());
        }
        if back != byte {
            return Err(Error::other("another byte came back"));
        }
    }
    taken.sort_unstable();
    println!("{}", taken[count / 2]);
    Ok(())
}

fn connects(to: &str, seconds: f64, hands: usize) -> io::Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let mut running = Vec::new();
    for _ in 0..hands {
        let to = to.to_owned();
        running.push(spawn(move || connects_until(&to, end))?);
    }
    let mut total = 0;
    for hand in running {
        total += hand.join().map_err(|_| Error::other("a thread"))??;
    }
    println!("{total} {}", start.elapsed().as_micros());
    Ok(())
}

fn connects_until(to: &str, end: Instant) -> io::Result<u64> {
    let mut total = 0;
    while Instant::now() < end {
        let mut stream = connect(to)?;
        stream.write_all(b"c")?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said)?;
        if said != b"c" {
            return Err(Error::other("a connection was not answered"));
        }
        total += 1;
    }
    Ok(total)
}
