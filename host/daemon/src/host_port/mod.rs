//! What the guest may ask the host for: one stream a request, opened by the guest.
//!
//! Anyone inside the guest who gets hold of the port may connect; only the agent has the secret.
//! Everything before the secret is bounded: the frame's length, the time, the number of streams.

mod carry;
mod dial;
pub mod proxy;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use lighter_machine::{GuestStream, Machine};
use lighter_protocol::{
    Failed, FailedCode, MAX_OPEN_FRAME, Message, Open, Opened, Request, Secret, port,
};
use tokio::sync::{Semaphore, mpsc};

pub use dial::Dials;

use crate::folders::Folders;
use crate::ports::Publications;
use crate::shares::AllowList;
use crate::vm::{Launched, MessageStream};

/// Streams that have not shown the secret yet, or whose wish for a folder is not answered yet; more
/// are closed at once.
const MOST_UNPROVEN: usize = 64;
/// How long a stream may take to show it.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// What requests are answered from.
#[derive(Debug)]
pub struct HostPort {
    /// The connections made for the engine.
    pub dials: Arc<Dials>,
    /// The folders that may be given.
    pub allowed: Arc<AllowList>,
    /// The ports that are listened on for containers.
    pub ports: Arc<Publications>,
}

impl HostPort {
    /// Serves every machine that comes up, one after the other.
    pub async fn serve(self, mut machines: mpsc::Receiver<Launched>) {
        let this = Arc::new(self);
        while let Some(launched) = machines.recv().await {
            tokio::spawn(Arc::clone(&this).serve_machine(launched));
        }
    }

    async fn serve_machine(self: Arc<Self>, launched: Launched) {
        let Launched { machine, folders } = launched;
        let unproven = Arc::new(Semaphore::new(MOST_UNPROVEN));
        let secret = Secret::new(*machine.secret().bytes());
        while let Some((number, stream)) = machine.incoming().await {
            if number != port::HOST {
                tracing::debug!(number, "the guest asks for a port that is not served");
                continue;
            }
            let Ok(permit) = Arc::clone(&unproven).try_acquire_owned() else {
                tracing::warn!("too many streams without the secret; one is closed");
                continue;
            };
            let (this, secret) = (Arc::clone(&self), secret.clone());
            let (machine, folders) = (machine.clone(), folders.clone());
            tokio::spawn(async move {
                let opened = tokio::time::timeout(OPEN_LIMIT, open(stream, &secret)).await;
                if let Ok(Some((stream, request))) = opened {
                    // Dials and ports have books of their own; everything else counts until it is answered.
                    let permit = match request {
                        Request::Dial(_) | Request::Publish(_) => None,
                        _ => Some(permit),
                    };
                    this.answer(stream, request, machine, folders).await;
                    drop(permit);
                }
            });
        }
    }

    async fn answer(
        &self,
        stream: MessageStream,
        request: Request,
        machine: Machine,
        folders: Option<Arc<Folders>>,
    ) {
        match request {
            Request::Dial(wanted) => self.dials.serve(stream, wanted).await,
            Request::Publish(wanted) => self.ports.serve(stream, wanted, machine).await,
            Request::ActivateShare(wanted) => {
                let allowed = Arc::clone(&self.allowed);
                // Opening a path may wait for a disk or a network.
                let activated = tokio::task::spawn_blocking(move || match folders {
                    Some(folders) => folders.activate(&allowed, &wanted),
                    None => Err(failed(
                        FailedCode::Unsupported,
                        "this machine has no shared folders".to_owned(),
                    )),
                });
                match activated.await {
                    Ok(Ok(opened)) => send(stream, opened).await,
                    Ok(Err(failed)) => refuse(stream, failed).await,
                    Err(error) => {
                        refuse(stream, failed(FailedCode::Internal, error.to_string())).await;
                    }
                }
            }
            Request::Unknown => {
                let text = "this host does not know that request".to_owned();
                refuse(stream, failed(FailedCode::Unsupported, text)).await;
            }
        }
    }
}

/// A refusal.
pub(crate) fn failed(code: FailedCode, message: String) -> Failed {
    Failed { code, message }
}

async fn send(mut stream: MessageStream, opened: Opened) {
    // A guest that does not wait for the answer has gone.
    let _ = stream.send(opened).await;
}

pub(crate) async fn refuse(mut stream: MessageStream, failed: Failed) {
    // A guest that does not listen to the reason has gone.
    let _ = stream.send(failed).await;
}

/// The first frame of a stream, if it is an open with this boot's secret.
async fn open(stream: GuestStream, secret: &Secret) -> Option<(MessageStream, Request)> {
    let mut stream = MessageStream::with_limit(stream, MAX_OPEN_FRAME);
    let refusal = match stream.receive().await {
        Ok(Message::Open(Open {
            secret: shown,
            request,
        })) if shown == *secret => {
            return Some((stream, request));
        }
        Ok(Message::Open(_)) => failed(FailedCode::Secret, "not this boot's secret".to_owned()),
        Ok(other) => failed(
            FailedCode::Malformed,
            format!("`{}` instead of an open", other.name()),
        ),
        Err(error) => failed(FailedCode::Malformed, error.to_string()),
    };
    tracing::warn!(refusal.message, "a stream of the guest is refused");
    refuse(stream, refusal).await;
    None
}

#[cfg(test)]
mod tests {
    use lighter_protocol::{Decoder, Dial, DialPurpose, encode_frame};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    /// What the host makes of these bytes of a guest, and what it answers.
    async fn said(bytes: &[u8]) -> (bool, Option<FailedCode>) {
        let (host, mut guest) = UnixStream::pair().unwrap();
        guest.write_all(bytes).await.unwrap();
        let opened = open(host, &Secret::new([7; 32])).await.is_some();
        let mut answer = Vec::new();
        guest.read_to_end(&mut answer).await.unwrap();
        let mut decoder = Decoder::new();
        decoder.push(&answer);
        let code = match decoder.next_message().unwrap() {
            Some(Message::Failed(failed)) => Some(failed.code),
            _ => None,
        };
        (opened, code)
    }

    fn wish(secret: u8) -> Vec<u8> {
        let dial = Dial {
            host: "127.0.0.1".into(),
            port: 2375,
            tls: false,
            purpose: DialPurpose::Registry {
                user_named: true,
                registry: "localhost:2375".into(),
            },
        };
        let open = Open {
            secret: Secret::new([secret; 32]),
            request: Request::Dial(dial),
        };
        Message::from(open).encode().unwrap()
    }

    /// The class of CVE-2026-28400, CVE-2026-33990 and CVE-2026-5843: services of the host that answer
    /// whoever reaches them. This one knows its caller by the secret, and does nothing before that.
    #[tokio::test]
    async fn cve_2026_28400_nothing_is_done_without_the_secret_of_the_boot() {
        assert_eq!(said(&wish(7)).await, (true, None));
        assert_eq!(said(&wish(8)).await, (false, Some(FailedCode::Secret)));
        assert_eq!(said(&wish(0)).await, (false, Some(FailedCode::Secret)));
        let without = encode_frame(0x30, br#"{"request":{"kind":"unknown"}}"#).unwrap();
        for bytes in [&without[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 64]] {
            assert_eq!(said(bytes).await, (false, Some(FailedCode::Malformed)));
        }
    }
}
