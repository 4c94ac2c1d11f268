//! `docker.sock`: every client is given away to the machine, whole and unread.
//!
//! A connection starts the machine if there is none and waits for it. Nothing of what a client
//! says is understood here, but for one case: where there is no machine to say it to, the client
//! is told why in the only words it understands, an HTTP error.

use std::time::Duration;

use lighter_machine::{ClientStream, Error as MachineError};
use lighter_platform::HostPaths;
use lighter_platform::sys::{self, LocalListener, LocalStream};
use lighter_protocol::port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::vm::boot::no_room;
use crate::vm::{Failure, Vm};

/// How long a client waits for an agent that is being restarted inside a running machine.
const AGENT_RESTART: Duration = Duration::from_secs(30);
/// Pause between attempts to hand a client over.
const RETRY: Duration = Duration::from_millis(10);
/// The most of a request that is read before it is refused: its head, in all ordinary cases.
const MOST_READ: usize = 64 << 10;
/// How long a client that is refused may take to send its request's head and to read the answer.
const REFUSAL_LIMIT: Duration = Duration::from_secs(10);

/// Accepts clients for as long as the daemon lives.
pub async fn serve(listener: &LocalListener, vm: &Vm, paths: &HostPaths) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                tokio::spawn(give_away(stream, vm.clone(), paths.clone()));
            }
            Err(error) => {
                // No descriptors left, most likely: those in use will be freed.
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn give_away(stream: LocalStream, vm: Vm, paths: HostPaths) {
    let stream = match sys::into_owned(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "cannot give a client away");
            return;
        }
    };
    if let Err((stream, failure)) = try_give_away(stream, &vm, &paths).await {
        tracing::warn!(failure = %failure.message, "a client is refused");
        match sys::from_owned(stream) {
            Ok(stream) => refuse(stream, &failure.full_text()).await,
            Err(error) => tracing::warn!(%error, "cannot answer a client"),
        }
    }
}

async fn try_give_away(
    mut stream: ClientStream,
    vm: &Vm,
    paths: &HostPaths,
) -> Result<(), (ClientStream, Failure)> {
    let began = tokio::time::Instant::now();
    loop {
        let guest = match vm.ready().await {
            Ok(guest) => guest,
            Err(failure) => return Err((stream, failure)),
        };
        let error = match guest.machine.hand_over(port::API, Vec::new(), stream).await {
            Ok(()) => return Ok(()),
            Err(refused) => {
                stream = refused.stream;
                refused.error
            }
        };
        // The machine ended just now (the next round starts another), or its agent is being
        // restarted (the port is there again soon).
        let passing = matches!(
            error,
            MachineError::Gone
                | MachineError::NotReady
                | MachineError::Refused { .. }
                | MachineError::Timeout
        );
        if error == MachineError::Timeout && guest.machine.status().await.is_ok_and(|s| s.disk_full)
        {
            return Err((stream, no_room(paths)));
        }
        if !passing || began.elapsed() > AGENT_RESTART {
            return Err((stream, Failure::of(&error, error.hint().map(str::to_owned))));
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Answers any request with 503 and the reason, as the engine itself words errors.
async fn refuse(stream: LocalStream, reason: &str) {
    // A client that neither sends nor reads is not waited for.
    let _ = tokio::time::timeout(REFUSAL_LIMIT, answer_refusal(stream, reason)).await;
}

async fn answer_refusal(mut stream: LocalStream, reason: &str) -> std::io::Result<()> {
    // Answering before the request was sent would count as noise on an idle connection.
    let mut head = Vec::new();
    let mut buffer = [0_u8; 4096];
    while head.len() < MOST_READ && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        head.extend_from_slice(&buffer[..count]);
    }
    stream.write_all(&refusal(reason)).await?;
    stream.shutdown().await?;
    // Closing with unread bytes would make the client lose the answer.
    while stream.read(&mut buffer).await? != 0 {}
    Ok(())
}

fn refusal(reason: &str) -> Vec<u8> {
    let body = serde_json::json!({ "message": reason }).to_string();
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_is_whole_http_with_the_reason_as_json() {
        let text = String::from_utf8(refusal("no \"QEMU\"\nhint: install it")).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 "));
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(value["message"], "no \"QEMU\"\nhint: install it");
    }
}
