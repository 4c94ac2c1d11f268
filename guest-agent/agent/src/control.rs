//! Sessions of the control link: a hello first, then health, clock, status and shutdown.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use lighter_init::Supervisor;
use lighter_protocol::{
    Bye, ByeReason, Health, HealthOk, Message, MessageError, Refused, RefusedCode, VERSION, Welcome,
};
use tokio::sync::{Semaphore, watch};

use crate::boot::{Boot, Verdict};
use crate::listener::Listener;
use crate::service::Service;
use crate::shutdown::Ending;
use crate::stream::{MessageStream, StreamError};
use crate::{clock, kept, status};

/// A host says hello at once; under emulation "at once" takes its time.
const HELLO_PATIENCE: Duration = Duration::from_secs(30);
/// How many may be connected without having said hello.
const MOST_UNPROVEN: usize = 16;
/// After running out of descriptors: the next attempt would fail at once as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Everything a session needs.
pub struct Control {
    boot: Arc<Boot>,
    service: Arc<Service>,
    supervisor: Arc<Supervisor>,
    ending: Arc<Ending>,
}

impl Control {
    /// Sessions over these parts.
    pub fn new(boot: Arc<Boot>, service: Arc<Service>, supervisor: Arc<Supervisor>) -> Self {
        Self {
            boot,
            service,
            supervisor,
            ending: Arc::default(),
        }
    }

    /// Goes on with the shutdown that an earlier agent did not live to finish.
    pub async fn resume_shutdown(&self, stored: OwnedFd) {
        match kept::take(stored) {
            Ok(shutdown) => {
                tracing::info!("going on with the shutdown");
                self.ending.begin(&self.service, &self.supervisor, shutdown);
            }
            Err(error) => tracing::error!(%error, "the stored shutdown is unreadable"),
        }
    }

    /// Serves the listener for as long as it works.
    pub async fn serve(self: Arc<Self>, listener: Listener) -> io::Result<()> {
        let unproven = Arc::new(Semaphore::new(MOST_UNPROVEN));
        loop {
            let permit = Arc::clone(&unproven)
                .acquire_owned()
                .await
                .map_err(io::Error::other)?;
            let stream = match listener.next().await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a control stream could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let this = Arc::clone(&self);
            tokio::spawn(async move {
                let mut stream = MessageStream::new(stream);
                let greeted = tokio::time::timeout(HELLO_PATIENCE, this.greet(&mut stream)).await;
                drop(permit);
                let ended = match greeted {
                    Ok(Ok(true)) => this.converse(&mut stream).await,
                    Ok(Ok(false)) | Err(_) => return,
                    Ok(Err(error)) => Err(error),
                };
                if let Err(error) = ended {
                    tracing::debug!(%error, "a control session ended");
                }
            });
        }
    }

    /// Reads the hello and answers it; says whether the host is welcome.
    async fn greet(&self, stream: &mut MessageStream) -> Result<bool, StreamError> {
        let (code, message) = match stream.receive().await {
            Ok(Message::Hello(hello)) => match self.boot.judge(hello).await {
                Verdict::First(hello) => {
                    self.service.start(&hello);
                    stream.send(welcome()).await?;
                    self.service.greeted();
                    return Ok(true);
                }
                Verdict::Again => {
                    stream.send(welcome()).await?;
                    self.service.greeted();
                    return Ok(true);
                }
                Verdict::Refused(refused) => {
                    stream.send(refused).await?;
                    return Ok(false);
                }
            },
            Ok(other) => (
                RefusedCode::Malformed,
                format!("`{}` instead of a hello", other.name()),
            ),
            Err(StreamError::Message(error @ MessageError::Version { .. })) => {
                (RefusedCode::Version, error.to_string())
            }
            Err(StreamError::Message(error)) => (RefusedCode::Malformed, error.to_string()),
            Err(error) => return Err(error),
        };
        tracing::warn!(message, "a control stream is refused");
        stream
            .send(Refused {
                version: VERSION,
                code,
                message,
            })
            .await?;
        Ok(false)
    }

    async fn converse(&self, stream: &mut MessageStream) -> Result<(), StreamError> {
        let mut bye = self.ending.watch();
        let mut said = false;
        loop {
            tokio::select! {
                message = stream.receive() => match message {
                    Ok(message) => self.answer(stream, message).await?,
                    // Another version's message; its sender knows how to do without an answer.
                    Err(StreamError::Message(MessageError::UnknownType(kind))) => {
                        tracing::debug!(kind, "a message of unknown type");
                    }
                    Err(StreamError::Closed) => return Ok(()),
                    Err(error) => return Err(error),
                },
                reason = next_bye(&mut bye), if !said => {
                    said = true;
                    stream.send(Bye { reason }).await?;
                }
            }
        }
    }

    async fn answer(
        &self,
        stream: &mut MessageStream,
        message: Message,
    ) -> Result<(), StreamError> {
        match message {
            Message::Health(Health { seq }) => {
                stream
                    .send(HealthOk {
                        seq,
                        engine: self.service.state(),
                    })
                    .await
            }
            Message::Clock(time) => {
                if !self.service.places().native {
                    clock::set(time.unix_ns);
                }
                Ok(())
            }
            Message::Routes(told) => {
                self.service.set_routes(&told.routes);
                Ok(())
            }
            Message::Status(asked) => {
                let report = status::report(
                    self.service.places(),
                    &self.supervisor,
                    self.service.state(),
                    asked.seq,
                );
                stream.send(report).await
            }
            Message::Shutdown(shutdown) => {
                self.ending.begin(&self.service, &self.supervisor, shutdown);
                Ok(())
            }
            Message::ByeOk(_) => {
                self.ending.noted();
                Ok(())
            }
            other => {
                tracing::debug!(message = other.name(), "not for a guest");
                Ok(())
            }
        }
    }
}

/// Waits for the moment to say bye.
async fn next_bye(bye: &mut watch::Receiver<Option<ByeReason>>) -> ByeReason {
    loop {
        if let Some(reason) = bye.borrow_and_update().clone() {
            return reason;
        }
        if bye.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn welcome() -> Welcome {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Welcome {
        version: VERSION,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: boot_id.trim_end().to_owned(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
    }
}
