//! A way through a proxy: CONNECT, its answer, then the target's own bytes.
//!
//! The answer is a stranger's: read to its end and not a byte further, bounded in length and time.

use std::io;
use std::time::Duration;

use lighter_platform::text::clipped;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ProxyAddress;

/// Longest answer of a proxy, with the page that some send along with a refusal left out.
const MOST_ANSWER: usize = 16 << 10;
/// Most characters of its reason that are shown.
const MOST_REASON: usize = 100;

/// Why there is no way through.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// It broke the connection off.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It did not answer in time.
    #[error("no answer to CONNECT within {} seconds", .0.as_secs())]
    Silent(Duration),
    /// It answered something that is no HTTP, or without an end.
    #[error("its answer to CONNECT is not HTTP")]
    Garbage,
    /// It said no.
    #[error("{status} {reason}")]
    Refused {
        /// The status.
        status: u16,
        /// In its words, or the usual ones.
        reason: String,
    },
}

/// Asks the proxy at the other end of `stream` for a way to `target`, a host with a port.
///
/// # Errors
/// See [`TunnelError`]; the stream is of no use then.
pub async fn tunnel(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &ProxyAddress,
    target: &str,
    limit: Duration,
) -> Result<(), TunnelError> {
    let answered = tokio::time::timeout(limit, ask(stream, proxy, target)).await;
    answered.map_err(|_| TunnelError::Silent(limit))?
}

async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &ProxyAddress,
    target: &str,
) -> Result<(), TunnelError> {
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(credentials) = proxy.authorization() {
        request.push_str(&format!("Proxy-Authorization: {credentials}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // One byte at a time: what follows the answer is the target's.
    while !answer.ends_with(b"\r\n\r\n") && !answer.ends_with(b"\n\n") {
        if answer.len() >= MOST_ANSWER
            || !(b"HTTP/1.".starts_with(&answer) || answer.starts_with(b"HTTP/1."))
        {
            return Err(TunnelError::Garbage);
        }
        answer.push(stream.read_u8().await?);
    }
    judge(&answer)
}

fn judge(answer: &[u8]) -> Result<(), TunnelError> {
    let text = String::from_utf8_lossy(answer);
    let line = text.lines().next().unwrap_or_default();
    let mut words = line.splitn(3, ' ').skip(1);
    let status = words.next().filter(|word| word.len() == 3);
    let status: u16 = status
        .and_then(|word| word.parse().ok())
        .ok_or(TunnelError::Garbage)?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let said = clipped(words.next().unwrap_or_default().trim(), MOST_REASON);
    let reason = match (said.as_str(), status) {
        ("", 407) => "Proxy Authentication Required".to_owned(),
        ("", _) => "without a reason".to_owned(),
        _ => said,
    };
    Err(TunnelError::Refused { status, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of an answer, what was asked, and what is left of the stream.
    async fn answered(answer: &[u8]) -> (Result<(), TunnelError>, String, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        let proxy = "http://ann:secret@proxy.test".parse().unwrap();
        let limit = Duration::from_secs(60);
        let outcome = tunnel(&mut ours, &proxy, "r.test:443", limit).await;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        drop(ours);
        let mut asked = String::new();
        theirs.read_to_string(&mut asked).await.unwrap();
        (outcome, asked, rest)
    }

    #[tokio::test]
    async fn what_follows_the_answer_is_left_for_the_guest() {
        let (outcome, asked, rest) =
            answered(b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\nhello").await;
        outcome.unwrap();
        assert_eq!(rest, b"hello");
        assert_eq!(
            asked,
            "CONNECT r.test:443 HTTP/1.1\r\nHost: r.test:443\r\n\
             Proxy-Authorization: Basic YW5uOnNlY3JldA==\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_refusal_is_said_in_the_proxys_words_without_its_controls() {
        for (answer, words) in [
            (
                &b"HTTP/1.1 407 Proxy Authentication Required\r\nA: b\r\n\r\n<html>"[..],
                "407 Proxy Authentication Required",
            ),
            (b"HTTP/1.1 407\n\n", "407 Proxy Authentication Required"),
            (
                b"HTTP/1.1 502 Bad \x1b[2JGateway\r\n\r\n",
                "502 Bad Gateway",
            ),
        ] {
            let (outcome, ..) = answered(answer).await;
            assert_eq!(outcome.unwrap_err().to_string(), words);
        }
    }

    #[tokio::test]
    async fn garbage_is_no_way_through() {
        let long = [b"HTTP/1.1 200 OK\r\n".to_vec(), vec![b'a'; MOST_ANSWER]].concat();
        for answer in [
            &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..],
            b"\x16\x03\x01",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 20000 OK\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            &long,
        ] {
            let (outcome, ..) = answered(answer).await;
            assert!(matches!(outcome, Err(TunnelError::Garbage)), "{answer:?}");
        }
        let (outcome, ..) = answered(b"HTTP/1.1 200 OK\r\n").await;
        assert!(matches!(outcome, Err(TunnelError::Io(_))), "cut short");
    }

    #[tokio::test]
    async fn a_silent_proxy_is_given_up() {
        let (mut ours, _theirs) = tokio::io::duplex(1 << 10);
        let proxy = "proxy.test".parse().unwrap();
        let outcome = tunnel(&mut ours, &proxy, "r.test:443", Duration::ZERO).await;
        assert!(matches!(outcome, Err(TunnelError::Silent(_))));
    }
}
