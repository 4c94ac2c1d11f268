//! Attach and exec: the connection is handed over, and both directions live their own lives.
//!
//! The end of what the client sends is not the end of the session: `docker run` without `-i`
//! closes its half right away and waits for the output.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lighter_engine::io::{Output, Stdin};
use lighter_engine::logs::{Message, StreamKind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};

use crate::containers::{Form, encode};
use crate::error::ApiError;
use crate::serve::HEADERS;
use crate::stream::frame;
use crate::version::ApiVersion;
use crate::wire::Wire;

const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// How long a client may take to notice the end of the output.
const LINGER: Duration = Duration::from_secs(10);
const RAW: &str = "application/vnd.docker.raw-stream";

/// The type of a stream with or without a terminal.
pub(crate) fn content_type(tty: bool, version: ApiVersion) -> &'static str {
    if tty || !version.since(42) {
        RAW
    } else {
        MULTIPLEXED
    }
}

/// The keys that detach: `ctrl-p,ctrl-q` unless the client says otherwise.
pub(crate) fn detach_keys(text: Option<&str>) -> Result<Vec<u8>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(vec![16, 17]);
    };
    let key = |word: &str| -> Option<u8> {
        if let [byte] = word.as_bytes() {
            return Some(*byte);
        }
        let letter = word.strip_prefix("ctrl-")?;
        match letter.as_bytes() {
            [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
            [b'@'] => Some(0),
            [b'['] => Some(27),
            [b'\\'] => Some(28),
            [b']'] => Some(29),
            [b'^'] => Some(30),
            [b'_'] => Some(31),
            _ => None,
        }
    };
    let keys = text.split(',').map(|word| {
        key(word)
            .ok_or_else(|| ApiError::bad_request(format!("Invalid detach keys ({text}) provided")))
    });
    keys.collect()
}

/// What a session connects.
pub(crate) struct Session {
    pub(crate) tty: bool,
    pub(crate) replay: Option<mpsc::Receiver<Message>>,
    pub(crate) output: Option<Output>,
    pub(crate) stdin: Option<watch::Receiver<Option<Arc<Stdin>>>>,
    /// A text that is sent instead of any output.
    pub(crate) failure: Option<String>,
    pub(crate) keys: Vec<u8>,
    /// Called when the client has sent all it will send.
    pub(crate) at_end: Box<dyn FnOnce() + Send>,
    /// Called when the client detached by its keys.
    pub(crate) at_detach: Box<dyn FnOnce() + Send>,
}

/// Marks an answer that a session gives instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandedOver;

/// A connection that is no HTTP any more, before the head of its last answer.
pub(crate) struct Hijacked {
    head: Vec<u8>,
    session: Session,
}

impl Hijacked {
    /// With `upgrade` the client asked for another protocol; without, it reads what follows the
    /// head to the end of the connection.
    pub(crate) fn new(upgrade: bool, kind: &'static str, session: Session) -> Self {
        let mut head = if upgrade {
            format!(
                "HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\n\
                 Upgrade: tcp\r\n"
            )
        } else {
            format!("HTTP/1.1 200 OK\r\nContent-Type: {RAW}\r\n")
        };
        for (name, value) in HEADERS {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Self {
            head: head.into_bytes(),
            session,
        }
    }

    /// Sends the head and lives the session; `read` is what was read behind the request.
    pub(crate) async fn run(self, mut wire: Wire, read: Bytes) {
        match wire.write_all(&self.head).await {
            Ok(()) => self.session.run(wire, read).await,
            Err(error) => tracing::debug!(%error, "a client left before its session"),
        }
    }
}

impl Session {
    /// One that says `failure`, if there is one, and ends.
    pub(crate) fn silent(tty: bool, failure: Option<String>) -> Self {
        Self {
            tty,
            replay: None,
            output: None,
            stdin: None,
            failure,
            keys: Vec::new(),
            at_end: Box::new(|| {}),
            at_detach: Box::new(|| {}),
        }
    }

    async fn run(self, wire: Wire, read: Bytes) {
        let mut reader = std::io::Cursor::new(read).chain(wire.clone());
        let Self {
            tty,
            replay,
            output,
            stdin,
            failure,
            keys,
            at_end,
            at_detach,
        } = self;
        let keys = if tty { keys } else { Vec::new() };
        let input = async {
            match stdin {
                Some(stdin) => {
                    if feed(&mut reader, stdin, &keys).await == Fed::Detached {
                        at_detach();
                        return;
                    }
                    at_end();
                }
                None => discard(&mut reader).await,
            }
            // The output goes on.
            std::future::pending::<()>().await;
        };
        let out = send(wire, tty, replay, output, failure);
        tokio::select! {
            () = input => return,
            () = out => {}
        }
        // A connection that is closed with bytes unread is reset, and the client would lose the
        // last of the output.
        let _ = tokio::time::timeout(LINGER, discard(&mut reader)).await;
    }
}

/// How often a session of a silent container looks whether its client is still there: the end of what
/// a client sends does not say that it has gone.
const LOOK: Duration = Duration::from_secs(5);

async fn send(
    mut writer: Wire,
    tty: bool,
    replay: Option<mpsc::Receiver<Message>>,
    output: Option<Output>,
    failure: Option<String>,
) {
    // There are clients that read the head through a buffer and go on with the bare socket: what came
    // together with the head would be lost to them.
    writer.read_by_client().await;
    let mut buffer = Vec::new();
    let form = Form {
        tty,
        timestamps: false,
        details: false,
    };
    if let Some(text) = failure {
        put(&mut buffer, tty, StreamKind::Stdout, text.as_bytes());
        if writer.write_all(&buffer).await.is_err() {
            return;
        }
    }
    if let Some(mut replay) = replay {
        while let Some(message) = replay.recv().await {
            buffer.clear();
            encode(&mut buffer, &message, form);
            if writer.write_all(&buffer).await.is_err() {
                return;
            }
        }
    }
    if let Some(mut output) = output {
        let mut look = tokio::time::interval(LOOK);
        loop {
            let chunk = tokio::select! {
                chunk = output.next() => chunk,
                _ = look.tick() => {
                    // Nothing is written; a client that has closed both directions shows as an error.
                    if writer.write(&[]).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let Some(chunk) = chunk else { break };
            buffer.clear();
            put(&mut buffer, tty, chunk.stream, &chunk.bytes);
            if writer.write_all(&buffer).await.is_err() {
                return;
            }
        }
    }
    // The client sees the end of the stream; a failure means that it has gone already.
    let _ = writer.shutdown().await;
}

fn put(buffer: &mut Vec<u8>, tty: bool, kind: StreamKind, bytes: &[u8]) {
    if tty {
        buffer.extend_from_slice(bytes);
    } else {
        frame(buffer, kind, &[bytes]);
    }
}

#[derive(PartialEq, Eq)]
enum Fed {
    Ended,
    Detached,
}

/// Writes what the client sends to the container's input, once there is one.
async fn feed(
    reader: &mut (impl AsyncRead + Unpin),
    mut stdin: watch::Receiver<Option<Arc<Stdin>>>,
    keys: &[u8],
) -> Fed {
    let mut target = None;
    let mut held = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = reader.read(&mut buffer).await.unwrap_or(0);
        if target.is_none() {
            // A client may send before the container runs, and its end may be all it sends.
            let there = stdin
                .wait_for(Option::is_some)
                .await
                .map(|stdin| stdin.clone());
            match there {
                Ok(stdin) => target = stdin,
                Err(_) => return Fed::Ended,
            }
        }
        if count == 0 {
            return Fed::Ended;
        }
        let (bytes, detached) = scan(&mut held, &buffer[..count], keys);
        let Some(to) = &target else { return Fed::Ended };
        let mut gone = stdin.clone();
        tokio::select! {
            written = to.write_all(&bytes) => if written.is_err() { return Fed::Ended },
            // The container has ended, or another client has closed its input.
            () = ended(&mut gone) => {
                discard(reader).await;
                return Fed::Ended;
            }
        }
        if detached {
            return Fed::Detached;
        }
    }
}

/// Waits until there is no input any more.
async fn ended(stdin: &mut watch::Receiver<Option<Arc<Stdin>>>) {
    // Without a sender there is none either.
    let _ = stdin.wait_for(Option::is_none).await;
}

/// Takes the detach keys out of `bytes`. What may be their beginning is held back.
fn scan(held: &mut Vec<u8>, bytes: &[u8], keys: &[u8]) -> (Vec<u8>, bool) {
    if keys.is_empty() {
        return (bytes.to_vec(), false);
    }
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        held.push(*byte);
        while !held.is_empty() && !keys.starts_with(held) {
            out.push(held.remove(0));
        }
        if held.len() == keys.len() {
            return (out, true);
        }
    }
    (out, false)
}

/// Reads until the client has sent all it will send.
async fn discard(reader: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 4096];
    while reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_docker_writes_them() {
        assert_eq!(detach_keys(None).unwrap(), [16, 17]);
        assert_eq!(detach_keys(Some("ctrl-a,d,ctrl-@")).unwrap(), [1, b'd', 0]);
        assert!(detach_keys(Some("ctrl-1")).is_err());
    }

    #[test]
    fn detach_keys_are_found_across_reads_and_let_others_pass() {
        let mut held = Vec::new();
        assert_eq!(
            scan(&mut held, b"ab\x10", &[16, 17]),
            (b"ab".to_vec(), false)
        );
        assert_eq!(
            scan(&mut held, b"\x10c", &[16, 17]),
            (b"\x10\x10c".to_vec(), false)
        );
        assert_eq!(
            scan(&mut held, b"x\x10\x11y", &[16, 17]),
            (b"x".to_vec(), true)
        );
        assert_eq!(
            scan(&mut Vec::new(), b"\x10\x11", &[]),
            (b"\x10\x11".to_vec(), false)
        );
    }
}
