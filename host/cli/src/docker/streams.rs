//! A container's streams and the person's terminal, joined.

use std::io::{self, Read, Write};
use std::time::Duration;

use lighter_platform::sys::{RawTerminal, Resizes, terminal_size};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::api::{Api, Hijacked, with_query};
use super::detach::{DetachKeys, Seen};
use crate::exit::{CliError, Code};

/// What is joined.
pub struct Join {
    /// Whether the caller's input goes in.
    pub stdin: bool,
    /// Whether the container's streams are one terminal.
    pub tty: bool,
    /// The keys that let go.
    pub keys: DetachKeys,
}

/// How a joined stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The container's side is over.
    Remote,
    /// The person let go; the container runs on.
    Detached,
    /// This process was told to end by a signal.
    Told(i32),
}

impl Ended {
    /// The code of a client that goes while the program runs on, as it does when docker is ended; somebody who let go
    /// reads so.
    pub fn left(self) -> Option<Code> {
        match self {
            Self::Remote => None,
            Self::Detached => {
                // The cursor is wherever the container left it.
                eprintln!("\r\nread escape sequence");
                Some(Code::OK)
            }
            Self::Told(signal) => Some(Code::of_signal(signal)),
        }
    }
}

/// Bytes for one of the caller's outputs.
enum Output {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// Carries bytes both ways until the container's side ends or the person lets go.
pub async fn join(hijacked: Hijacked, join: Join) -> Result<Ended, CliError> {
    let raw = hijacked.raw || join.tty;
    let (reader, writer) = tokio::io::split(hijacked.stream);
    let writer_threads = OutputThread::start()?;
    let keyboard = if join.stdin { Some(keyboard()?) } else { None };
    let terminal = if join.tty && join.stdin && io::IsTerminal::is_terminal(&io::stdin()) {
        Some(RawTerminal::enter()?)
    } else {
        None
    };
    let sender = writer_threads.sender.clone();
    let outwards = async move { copy_out(reader, raw, &sender).await };
    let keys = terminal.is_some().then_some(join.keys);
    let inwards = copy_in(writer, keyboard, keys);
    let ended = carry(outwards, inwards).await;
    drop(terminal);
    writer_threads.finish();
    ended.map_err(|error| CliError::of(&error))
}

/// Both directions, until the container's ends or the person lets go.
async fn carry(
    outwards: impl Future<Output = io::Result<()>>,
    inwards: impl Future<Output = Seen>,
) -> io::Result<Ended> {
    tokio::pin!(outwards, inwards);
    let mut typing = true;
    loop {
        tokio::select! {
            copied = &mut outwards => return copied.map(|()| Ended::Remote),
            typed = &mut inwards, if typing => match typed {
                Seen::Detach => return Ok(Ended::Detached),
                Seen::End => typing = false,
            },
        }
    }
}

/// Prints a stream that only comes, with frames unless `raw`.
pub async fn print(reader: impl AsyncRead + Unpin, raw: bool) -> Result<(), CliError> {
    let output = OutputThread::start()?;
    let copied = copy_out(reader, raw, &output.sender).await;
    output.finish();
    copied.map_err(|error| CliError::of(&error))
}

/// Writes apart from the runtime, so that a slow reader of ours does not stop the keyboard.
struct OutputThread {
    sender: mpsc::Sender<Output>,
    thread: std::thread::JoinHandle<()>,
}

impl OutputThread {
    fn start() -> io::Result<Self> {
        let (sender, mut receiver) = mpsc::channel::<Output>(16);
        let write = move || {
            while let Some(part) = receiver.blocking_recv() {
                let written = match &part {
                    Output::Out(bytes) => put(io::stdout().lock(), bytes),
                    Output::Err(bytes) => put(io::stderr().lock(), bytes),
                };
                if written.is_err() {
                    // Whoever read us has gone: what follows is for nobody.
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("output".to_owned())
            .spawn(write)?;
        Ok(Self { sender, thread })
    }

    fn finish(self) {
        drop(self.sender);
        // A thread that panicked has said so itself.
        let _ = self.thread.join();
    }
}

fn put(mut stream: impl Write, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}

async fn copy_out(
    mut reader: impl AsyncRead + Unpin,
    raw: bool,
    output: &mpsc::Sender<Output>,
) -> io::Result<()> {
    if raw {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let count = reader.read(&mut buffer).await?;
            let part = Output::Out(buffer[..count].to_vec());
            if count == 0 || output.send(part).await.is_err() {
                return Ok(());
            }
        }
    }
    let mut head = [0_u8; 8];
    loop {
        match reader.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        // In parts: the length is the other side's word.
        while left > 0 {
            let mut part = vec![0; left.min(64 << 10)];
            reader.read_exact(&mut part).await?;
            left -= part.len();
            let part = match head[0] {
                0 | 1 => Output::Out(part),
                2 => Output::Err(part),
                3 => {
                    return Err(io::Error::other(
                        String::from_utf8_lossy(&part).into_owned(),
                    ));
                }
                other => return Err(io::Error::other(format!("unknown stream {other}"))),
            };
            if output.send(part).await.is_err() {
                return Ok(());
            }
        }
    }
}

/// What is typed or piped in. A thread: reading a terminal cannot be given up otherwise, and this
/// one ends with the process.
fn keyboard() -> io::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(4);
    let read = move || {
        let mut buffer = vec![0; 32 << 10];
        let mut stdin = io::stdin();
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    };
    std::thread::Builder::new()
        .name("keyboard".to_owned())
        .spawn(read)?;
    Ok(receiver)
}

async fn copy_in(
    mut writer: impl AsyncWrite + Unpin,
    keyboard: Option<mpsc::Receiver<Vec<u8>>>,
    mut keys: Option<DetachKeys>,
) -> Seen {
    if let Some(mut keyboard) = keyboard {
        while let Some(typed) = keyboard.recv().await {
            let (bytes, detach) = match &mut keys {
                Some(keys) => keys.pass(&typed),
                None => (typed, false),
            };
            // A container that reads no more does not stop its output.
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return Seen::End;
            }
            if detach {
                return Seen::Detach;
            }
        }
    }
    // The end of our input is the end of the container's, while its output goes on.
    let _ = writer.shutdown().await;
    Seen::End
}

/// Tells the engine the terminal's size now and at each change, for as long as it is polled.
pub async fn follow_size(api: &Api, target: &str) {
    let Ok(mut resizes) = Resizes::watch() else {
        return;
    };
    // The process may not be up yet at the first attempts.
    for attempt in 0..10_u64 {
        if send_size(api, target).await {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10 * (attempt + 1))).await;
    }
    loop {
        resizes.next().await;
        send_size(api, target).await;
    }
}

async fn send_size(api: &Api, target: &str) -> bool {
    let Some((rows, columns)) = terminal_size() else {
        return true;
    };
    let query = [("h", rows.to_string()), ("w", columns.to_string())];
    api.post(&with_query(&format!("{target}/resize"), &query))
        .await
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn copied(bytes: &[u8], raw: bool) -> (Vec<u8>, Vec<u8>, io::Result<()>) {
        let (sender, mut receiver) = mpsc::channel(64);
        let result = copy_out(bytes, raw, &sender).await;
        drop(sender);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        while let Some(part) = receiver.recv().await {
            match part {
                Output::Out(bytes) => out.extend(bytes),
                Output::Err(bytes) => err.extend(bytes),
            }
        }
        (out, err, result)
    }

    #[tokio::test]
    async fn frames_go_to_their_streams() {
        let bytes = b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x03two\x01\0\0\0\0\0\0\0";
        let (out, err, result) = copied(bytes, false).await;
        result.unwrap();
        assert_eq!((out.as_slice(), err.as_slice()), (&b"one"[..], &b"two"[..]));
    }

    #[tokio::test]
    async fn a_cut_frame_is_an_error_and_a_cut_between_frames_is_the_end() {
        assert!(copied(b"\x01\0\0\0\0\0\0\x09short", false).await.2.is_err());
        assert!(copied(b"\x07\0\0\0\0\0\0\x01x", false).await.2.is_err());
        assert!(copied(b"\x01\0\0\0\0\0\0\x01x", false).await.2.is_ok());
    }

    #[tokio::test]
    async fn a_terminal_has_no_frames() {
        assert_eq!(copied(b"\x01\0raw", true).await.0, b"\x01\0raw");
    }
}
