//! Attach and exec: the connection is handed over, and both directions live their own lives.
//!
//! The end of what the client sends is not the end of the session: `docker run` without `-i`
//! closes its half right away and waits for the output. Nor is the end of what it reads: `docker run
//! -i -a stdin` leaves right behind its last byte, and all it has sent still goes to the container.
//!
//! Made by `attach` and `exec`, run by `serve`. Whatever becomes of the connection, the input of the
//! container must not stay open for a client that has gone: see [`AtEnd`]. What a WebSocket does
//! otherwise is in `websocket`.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lighter_engine::io::{Output, Stdin};
use lighter_engine::logs::{Message, StreamKind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};

use crate::containers::{Form, encode};
use crate::detach;
use crate::serve::HEADERS;
use crate::stream::frame;
use crate::version::ApiVersion;
use crate::websocket;
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

/// What a session connects.
pub(crate) struct Session {
    pub(crate) tty: bool,
    /// Whether output comes in frames that say which of the two it is.
    pub(crate) framed: bool,
    pub(crate) replay: Option<mpsc::Receiver<Message>>,
    pub(crate) output: Option<Output>,
    pub(crate) stdin: Option<watch::Receiver<Option<Arc<Stdin>>>>,
    /// A text that is sent instead of any output.
    pub(crate) failure: Option<String>,
    pub(crate) keys: Vec<u8>,
    /// Called when the client has sent all it will send.
    pub(crate) at_end: AtEnd,
    /// Called when the client detached by its keys.
    pub(crate) at_detach: Box<dyn FnOnce() + Send>,
}

/// Ends the container's input in every way out of a session but those where the input is not this
/// client's any more: it detached, or the run is over.
pub(crate) struct AtEnd(Option<Box<dyn FnOnce() + Send>>);

impl AtEnd {
    pub(crate) fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }

    /// For a session without input, or one whose end ends nothing.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }

    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// Marks an answer that a session gives instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandedOver;

/// A connection that is no HTTP any more, before the head of its last answer.
pub(crate) struct Hijacked {
    head: Vec<u8>,
    what: What,
}

/// What comes behind the head.
enum What {
    Session(Session),
    WebSocket(websocket::Kind, Session),
    Nothing,
}

/// Where the output of a session goes.
pub(crate) trait Outlet {
    /// Whether a client that has sent all it will send may go on reading.
    const HALF_CLOSES: bool;

    /// Waits until the client has read the head of the answer.
    async fn begun(&mut self);

    /// Sends output.
    async fn put(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Sends nothing; a client that has closed both directions shows as an error.
    async fn look(&mut self) -> io::Result<()>;

    /// Says that no more comes. A failure means that the client has gone already.
    async fn end(&mut self);
}

impl Outlet for Wire {
    const HALF_CLOSES: bool = true;

    async fn begun(&mut self) {
        // There are clients that read the head through a buffer and go on with the bare socket: what
        // came together with the head would be lost to them.
        self.read_by_client().await;
    }

    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes).await
    }

    async fn look(&mut self) -> io::Result<()> {
        self.write(&[]).await.map(drop)
    }

    async fn end(&mut self) {
        let _ = self.shutdown().await;
    }
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
            what: What::Session(session),
        }
    }

    /// With the head that answers a WebSocket's handshake.
    pub(crate) fn websocket(head: Vec<u8>, kind: websocket::Kind, session: Session) -> Self {
        let what = What::WebSocket(kind, session);
        Self { head, what }
    }

    /// One that is over with `last`.
    pub(crate) fn refusal(last: Vec<u8>) -> Self {
        Self {
            head: last,
            what: What::Nothing,
        }
    }

    /// Sends the head and lives the session; `read` is what was read behind the request.
    pub(crate) async fn run(self, mut wire: Wire, read: Bytes) {
        let here = wire.write_all(&self.head).await.is_ok();
        match self.what {
            What::Session(session) => {
                let reader = io::Cursor::new(read).chain(wire.clone());
                if here {
                    session.run(reader, wire).await;
                } else {
                    session.run_unseen(reader).await;
                }
            }
            What::WebSocket(kind, session) => {
                let (reader, outlet) = websocket::open(wire, read, kind).await;
                if here {
                    session.run(reader, outlet).await;
                } else {
                    session.run_unseen(reader).await;
                }
            }
            What::Nothing => {
                wire.end().await;
                let _ = tokio::time::timeout(LINGER, discard(&mut wire)).await;
            }
        }
    }

    /// Lives the session of a client whose connection is gone with all it has sent.
    pub(crate) async fn run_alone(self) {
        if let What::Session(session) | What::WebSocket(_, session) = self.what {
            session.run_unseen(tokio::io::empty()).await;
        }
    }
}

impl Session {
    /// One that says `failure`, if there is one, and ends.
    pub(crate) fn silent(tty: bool, failure: Option<String>) -> Self {
        Self {
            tty,
            framed: !tty,
            replay: None,
            output: None,
            stdin: None,
            failure,
            keys: Vec::new(),
            at_end: AtEnd::nothing(),
            at_detach: Box::new(|| {}),
        }
    }

    async fn run<O: Outlet>(self, mut reader: impl AsyncRead + Unpin, mut outlet: O) {
        let keys = if self.tty { self.keys } else { Vec::new() };
        let mut end = Some((self.at_end, self.at_detach));
        let left;
        {
            let input = async {
                let fed = take(&mut reader, self.stdin, &keys).await;
                if !O::HALF_CLOSES && fed == Fed::Ended {
                    // The container may read no more, and the client still wants its output.
                    discard(&mut reader).await;
                }
                fed
            };
            let framed = self.framed;
            let out = send(&mut outlet, framed, self.replay, self.output, self.failure);
            tokio::pin!(input, out);
            let sent = loop {
                tokio::select! {
                    // Whether the run is over is asked first: the next one's input is not this
                    // client's to end.
                    biased;
                    sent = &mut out => break sent,
                    fed = &mut input, if end.is_some() => {
                        if let Some((at_end, at_detach)) = end.take() {
                            finish(fed, at_end, at_detach);
                        }
                        if fed == Fed::Detached || !O::HALF_CLOSES {
                            break Sent::Left;
                        }
                        // The output goes on.
                    }
                }
            };
            left = matches!(sent, Sent::Left);
            match (sent, end) {
                (Sent::Gone(rest), Some((at_end, at_detach))) => {
                    let fed = while_it_runs(input, rest).await;
                    return finish(fed, at_end, at_detach);
                }
                (Sent::Gone(_), None) => return,
                (Sent::All | Sent::Left, Some((at_end, _))) => at_end.disarm(),
                (Sent::All | Sent::Left, None) => {}
            }
        }
        // The client need not read that.
        let _ = tokio::time::timeout(LINGER, outlet.end()).await;
        if left {
            return;
        }
        // A connection that is closed with bytes unread is reset, and the client would lose the
        // last of the output.
        let _ = tokio::time::timeout(LINGER, discard(&mut reader)).await;
    }

    /// The session of a client that reads nothing any more.
    async fn run_unseen(self, mut reader: impl AsyncRead + Unpin) {
        tracing::debug!("a client left before its session");
        let keys = if self.tty { self.keys } else { Vec::new() };
        let input = take(&mut reader, self.stdin, &keys);
        let fed = while_it_runs(input, self.output).await;
        finish(fed, self.at_end, self.at_detach);
    }
}

/// Reads what the client sends to its end and passes it on, if there is an input.
async fn take(
    reader: &mut (impl AsyncRead + Unpin),
    stdin: Option<watch::Receiver<Option<Arc<Stdin>>>>,
    keys: &[u8],
) -> Fed {
    match stdin {
        Some(stdin) => feed(reader, stdin, keys).await,
        None => {
            discard(reader).await;
            Fed::Ended
        }
    }
}

/// Waits for the end of `input`, or of the run. The output is taken, so that the container is not
/// held up, and given to nobody.
async fn while_it_runs(input: impl Future<Output = Fed>, output: Option<Output>) -> Fed {
    let over = async {
        match output {
            Some(mut output) => while output.next().await.is_some() {},
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = over => Fed::Over,
        fed = input => fed,
    }
}

/// Does what the end of the input asks for.
fn finish(fed: Fed, at_end: AtEnd, at_detach: Box<dyn FnOnce() + Send>) {
    match fed {
        Fed::Ended => drop(at_end),
        Fed::Over => at_end.disarm(),
        Fed::Detached => {
            at_end.disarm();
            at_detach();
        }
    }
}

/// How often a session of a silent container looks whether its client is still there: the end of what
/// a client sends does not say that it has gone.
const LOOK: Duration = Duration::from_secs(5);

/// How the sending of output ended.
enum Sent {
    /// There is no more.
    All,
    /// The client reads nothing any more; where the rest would come from.
    Gone(Option<Output>),
    /// The client wants no more.
    Left,
}

async fn send(
    outlet: &mut impl Outlet,
    framed: bool,
    replay: Option<mpsc::Receiver<Message>>,
    mut output: Option<Output>,
    failure: Option<String>,
) -> Sent {
    outlet.begun().await;
    let mut buffer = Vec::new();
    let form = Form {
        tty: !framed,
        timestamps: false,
        details: false,
    };
    if let Some(text) = failure {
        put(&mut buffer, framed, StreamKind::Stdout, text.as_bytes());
        if outlet.put(&buffer).await.is_err() {
            return Sent::Gone(output);
        }
    }
    if let Some(mut replay) = replay {
        while let Some(message) = replay.recv().await {
            buffer.clear();
            encode(&mut buffer, &message, form);
            if outlet.put(&buffer).await.is_err() {
                return Sent::Gone(output);
            }
        }
    }
    let mut look = tokio::time::interval(LOOK);
    while let Some(from) = &mut output {
        let chunk = tokio::select! {
            chunk = from.next() => chunk,
            _ = look.tick() => {
                if outlet.look().await.is_err() {
                    return Sent::Gone(output);
                }
                continue;
            }
        };
        let Some(chunk) = chunk else { break };
        buffer.clear();
        put(&mut buffer, framed, chunk.stream, &chunk.bytes);
        if outlet.put(&buffer).await.is_err() {
            return Sent::Gone(output);
        }
    }
    Sent::All
}

fn put(buffer: &mut Vec<u8>, framed: bool, kind: StreamKind, bytes: &[u8]) {
    if framed {
        frame(buffer, kind, &[bytes]);
    } else {
        buffer.extend_from_slice(bytes);
    }
}

/// How the passing on of input ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fed {
    /// The client has sent all it will send, or the container reads no more.
    Ended,
    /// The container has ended, or another client has closed its input.
    Over,
    /// The client detached.
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
                Err(_) => return Fed::Over,
            }
        }
        if count == 0 {
            return Fed::Ended;
        }
        let (bytes, detached) = detach::scan(&mut held, &buffer[..count], keys);
        let Some(to) = &target else { return Fed::Ended };
        let mut gone = stdin.clone();
        tokio::select! {
            written = to.write_all(&bytes) => if written.is_err() { return Fed::Ended },
            () = ended(&mut gone) => {
                discard(reader).await;
                return Fed::Over;
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

/// Reads until the client has sent all it will send.
async fn discard(reader: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = [0; 4096];
    while reader.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use lighter_engine::io::Hub;
    use tokio::net::UnixStream;

    use super::*;

    /// A run whose container waits to be started, and what it reads once it is.
    struct Run {
        hub: Arc<Hub>,
        input: io::PipeReader,
        writer: Arc<Stdin>,
    }

    impl Run {
        fn new() -> Self {
            let (input, writer) = io::pipe().unwrap();
            Self {
                hub: Hub::new(),
                input,
                writer: Arc::new(Stdin::new(writer.into()).unwrap()),
            }
        }

        /// The session of one who has attached input and no output, as `docker run -i -a stdin`.
        fn session(&self) -> Session {
            let hub = Arc::clone(&self.hub);
            Session {
                output: Some(self.hub.attach(false, false)),
                stdin: Some(self.hub.stdin()),
                at_end: AtEnd::new(move || hub.set_stdin(None)),
                ..Session::silent(false, None)
            }
        }

        /// Starts the container; everything it reads to the end of its input.
        async fn read_all(self) -> Vec<u8> {
            let Self {
                hub,
                mut input,
                writer,
            } = self;
            hub.set_stdin(Some(writer));
            let reading = tokio::task::spawn_blocking(move || {
                let mut bytes = Vec::new();
                input.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let limit = tokio::time::timeout(Duration::from_secs(60), reading);
            limit.await.expect("the input ends").unwrap()
        }
    }

    fn bytes(count: u32) -> Vec<u8> {
        (0..count)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect()
    }

    #[tokio::test]
    async fn input_of_a_client_that_has_left_comes_whole_and_ends() {
        let run = Run::new();
        let (mut client, server) = UnixStream::pair().unwrap();
        let sent = bytes(100_000);
        client.write_all(&sent).await.unwrap();
        drop(client);
        let hijacked = Hijacked {
            head: Vec::new(),
            what: What::Session(run.session()),
        };
        let session = tokio::spawn(hijacked.run(Wire::new(server), Bytes::from_static(b"first ")));
        // Long enough for the session to see that nobody reads.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let got = run.read_all().await;
        assert!(got == [b"first ", &sent[..]].concat(), "{}", got.len());
        session.await.unwrap();
    }

    #[tokio::test]
    async fn input_of_some_megabytes_comes_whole_from_a_client_that_leaves_behind_it() {
        let run = Run::new();
        let (mut client, server) = UnixStream::pair().unwrap();
        let sent = bytes(5_000_000);
        let hijacked = Hijacked::new(true, RAW, run.session());
        let session = tokio::spawn(hijacked.run(Wire::new(server), Bytes::new()));
        let sending = {
            let sent = sent.clone();
            tokio::spawn(async move { client.write_all(&sent).await.unwrap() })
        };
        let hub = Arc::clone(&run.hub);
        let got = run.read_all().await;
        assert!(got == sent, "{} of {}", got.len(), sent.len());
        sending.await.unwrap();
        hub.end();
        session.await.unwrap();
    }

    #[tokio::test]
    async fn input_ends_though_the_head_of_the_answer_could_not_be_sent() {
        let run = Run::new();
        let (client, server) = UnixStream::pair().unwrap();
        drop(client);
        let hijacked = Hijacked::new(true, RAW, run.session());
        let session = tokio::spawn(hijacked.run(Wire::new(server), Bytes::from_static(b"early")));
        assert_eq!(run.read_all().await, b"early");
        session.await.unwrap();

        let run = Run::new();
        let session = tokio::spawn(Hijacked::new(true, RAW, run.session()).run_alone());
        assert_eq!(run.read_all().await, b"");
        session.await.unwrap();
    }

    #[tokio::test]
    async fn a_session_that_is_cut_short_ends_the_input() {
        let run = Run::new();
        let (_client, server) = UnixStream::pair().unwrap();
        let hijacked = Hijacked::new(true, RAW, run.session());
        let stdin = run.hub.stdin();
        run.hub.set_stdin(Some(Arc::clone(&run.writer)));
        drop(hijacked);
        assert!(stdin.borrow().is_none(), "never begun");

        run.hub.set_stdin(Some(Arc::clone(&run.writer)));
        let hijacked = Hijacked::new(true, RAW, run.session());
        let session = tokio::spawn(hijacked.run(Wire::new(server), Bytes::new()));
        tokio::task::yield_now().await;
        session.abort();
        assert!(session.await.unwrap_err().is_cancelled());
        assert!(stdin.borrow().is_none(), "begun");
    }

    #[tokio::test]
    async fn a_client_that_left_has_no_say_in_the_next_run() {
        let run = Run::new();
        let (client, server) = UnixStream::pair().unwrap();
        let hijacked = Hijacked::new(true, RAW, run.session());
        let session = tokio::spawn(hijacked.run(Wire::new(server), Bytes::new()));
        run.hub.end();
        run.hub.set_stdin(Some(Arc::clone(&run.writer)));
        drop(client);
        session.await.unwrap();
        assert!(run.hub.stdin().borrow().is_some());
    }
}
