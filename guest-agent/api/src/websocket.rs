//! Attach over a WebSocket: the handshake, what the client sends as a stream of bytes, and output as
//! frames.
//!
//! The handshake is answered in the words of dockerd's library; framing is `tungstenite`'s. Called by
//! `containers` (handshake) and `hijack` (the session). What one client may make the engine hold is
//! bounded: a message as a whole, and what is read ahead of it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, Stream as _, StreamExt as _};
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use tokio::io::{AsyncRead, AsyncWriteExt as _, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::hijack::Outlet;
use crate::version::ApiVersion;
use crate::wire::Wire;

/// The longest message of a client, whether in one frame or in many. A message is held as a whole
/// before the container gets it; terminals send keys, and libraries cut files into pieces.
const LONGEST: usize = 16 << 20;

/// Read ahead of what is decoded, for each connection.
const READ_AHEAD: usize = 16 << 10;

/// The type of the frames that output comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(Data);

impl Kind {
    /// Text, until somebody noticed that output is none.
    pub(crate) fn of(version: ApiVersion) -> Self {
        Self(if version.since(28) {
            Data::Binary
        } else {
            Data::Text
        })
    }
}

/// The head that answers a handshake, or the whole answer to what is none.
pub(crate) fn shake(headers: &HeaderMap) -> Result<Vec<u8>, Vec<u8>> {
    let value = |name: &HeaderName| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    let refused = |more: &str, why: &str| {
        let answer = format!("HTTP/1.1 400 Bad Request\r\n{more}\r\n{why}");
        Err(answer.into_bytes())
    };
    let upgrades = value(&CONNECTION).to_ascii_lowercase().contains("upgrade");
    if !upgrades || !value(&UPGRADE).eq_ignore_ascii_case("websocket") {
        return refused("", "not websocket protocol");
    }
    let key = value(&SEC_WEBSOCKET_KEY);
    if key.is_empty() {
        return refused("", "mismatch challenge/response");
    }
    if value(&SEC_WEBSOCKET_VERSION) != "13" {
        let more = "Sec-WebSocket-Version: 13\r\n";
        return refused(more, "missing or bad WebSocket Version");
    }
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key.as_bytes())
    );
    let protocol = value(&SEC_WEBSOCKET_PROTOCOL).trim();
    if protocol.contains(',') {
        // Nobody here could choose.
        return refused("", "");
    }
    if !protocol.is_empty() {
        head.push_str(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

/// The two directions of a connection whose handshake is done; `read` is what came behind it.
pub(crate) async fn open(wire: Wire, read: Bytes, kind: Kind) -> (Input, Frames) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_AHEAD)
        // Each piece of output goes out at once.
        .write_buffer_size(0)
        .max_message_size(Some(LONGEST))
        .max_frame_size(Some(LONGEST));
    let stream =
        WebSocketStream::from_partially_read(wire.clone(), read.into(), Role::Server, Some(config))
            .await;
    let (sink, stream) = stream.split();
    let problem = Arc::new(OnceLock::new());
    let input = Input {
        stream,
        rest: Bytes::new(),
        ended: false,
        problem: Arc::clone(&problem),
    };
    let frames = Frames {
        sink,
        wire,
        kind,
        problem,
    };
    (input, frames)
}

/// What the client sends, without its frames. Its end is the client's closing frame, or anything
/// that is no WebSocket. Pings are answered while it is read.
pub(crate) struct Input {
    stream: SplitStream<WebSocketStream<Wire>>,
    rest: Bytes,
    ended: bool,
    problem: Arc<OnceLock<CloseCode>>,
}

impl Input {
    fn take(&mut self, message: Option<Result<Message, Error>>) {
        match message {
            Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
            Some(Ok(Message::Text(text))) => self.rest = text.into(),
            Some(Ok(Message::Close(_))) | None => self.ended = true,
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "a client's WebSocket is broken");
                self.ended = true;
                if let Some(code) = code(&error) {
                    let _ = self.problem.set(code);
                }
            }
        }
    }
}

/// What the client is told of an error, if it is there to be told.
fn code(error: &Error) -> Option<CloseCode> {
    match error {
        Error::Capacity(_) => Some(CloseCode::Size),
        Error::Utf8(_) => Some(CloseCode::Invalid),
        Error::Protocol(_) => Some(CloseCode::Protocol),
        _ => None,
    }
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() && !self.ended {
            let message = ready!(Pin::new(&mut self.stream).poll_next(context));
            self.take(message);
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

/// Output, each piece in a frame of its own.
pub(crate) struct Frames {
    sink: SplitSink<WebSocketStream<Wire>, Message>,
    wire: Wire,
    kind: Kind,
    problem: Arc<OnceLock<CloseCode>>,
}

impl Outlet for Frames {
    // A closing frame is the end of both directions.
    const HALF_CLOSES: bool = false;

    async fn begun(&mut self) {
        self.wire.begun().await;
    }

    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let opcode = OpCode::Data(self.kind.0);
        let frame = Frame::message(Bytes::copy_from_slice(bytes), opcode, true);
        let sent = self.sink.send(Message::Frame(frame)).await;
        sent.map_err(io::Error::other)
    }

    async fn look(&mut self) -> io::Result<()> {
        self.wire.look().await
    }

    async fn end(&mut self) {
        let code = self.problem.get().copied().unwrap_or(CloseCode::Normal);
        let close = CloseFrame {
            code,
            reason: "".into(),
        };
        let _ = self.sink.send(Message::Close(Some(close))).await;
        // The answer to the client's, if that came first.
        let _ = self.sink.close().await;
        let _ = self.wire.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let value = hyper::header::HeaderValue::from_static(value);
            (HeaderName::from_static(name), value)
        };
        pairs.iter().map(pair).collect()
    }

    const ASKED: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    #[test]
    fn a_handshake_is_answered_as_the_protocol_wants() {
        let head = shake(&headers(&ASKED)).unwrap();
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        // The key and its answer are the specification's example.
        assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(head.ends_with("\r\n\r\n"));
        let one = [ASKED.as_slice(), &[("sec-websocket-protocol", " a ")]].concat();
        let head = String::from_utf8(shake(&headers(&one)).unwrap()).unwrap();
        assert!(head.ends_with("Sec-WebSocket-Protocol: a\r\n\r\n"));
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for left_out in 0..ASKED.len() {
            let mut pairs = ASKED.to_vec();
            pairs.remove(left_out);
            let answer = String::from_utf8(shake(&headers(&pairs)).unwrap_err()).unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        }
        let two = [ASKED.as_slice(), &[("sec-websocket-protocol", "a, b")]].concat();
        assert!(shake(&headers(&two)).is_err());
    }

    /// A client and the two directions of its WebSocket.
    async fn pair() -> (WebSocketStream<UnixStream>, Input, Frames) {
        let (client, server) = UnixStream::pair().unwrap();
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let kind = Kind(Data::Binary);
        let (input, frames) = open(Wire::new(server), Bytes::new(), kind).await;
        (client, input, frames)
    }

    #[tokio::test]
    async fn messages_are_bytes_and_the_closing_frame_their_end() {
        let (mut client, mut input, mut frames) = pair().await;
        client.send(Message::text("one ")).await.unwrap();
        client.send(Message::Ping("p".into())).await.unwrap();
        client.send(Message::binary(&b"two"[..])).await.unwrap();
        client.close(None).await.unwrap();
        let mut text = Vec::new();
        input.read_to_end(&mut text).await.unwrap();
        assert_eq!(text, b"one two");
        frames.end().await;
        let pong = client.next().await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong("p".into()));
        assert!(matches!(client.next().await, Some(Ok(Message::Close(_)))));
        assert!(client.next().await.is_none());
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_is_refused_before_it_is_held() {
        let (mut client, mut input, mut frames) = pair().await;
        // Only the head of a frame that would be too long.
        let head = [0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 1, 1, 2, 3, 4];
        client.get_mut().write_all(&head).await.unwrap();
        assert_eq!(input.read(&mut [0; 8]).await.unwrap(), 0);
        frames.end().await;
        let Some(Ok(Message::Close(Some(close)))) = client.next().await else {
            panic!("no closing frame");
        };
        assert_eq!(close.code, CloseCode::Size);
    }
}
