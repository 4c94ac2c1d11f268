//! The way into the guest for those who come to a published port.

use std::time::Duration;

use lighter_machine::{ClientStream, Error, GuestStream, HandOverError, Machine};
use lighter_protocol::port;
use tokio::time::Instant;

/// What brings clients to the guest; a machine, or what plays one in a test.
pub(crate) trait Door: Clone + Send + Sync + 'static {
    /// Gives a client's socket away, after `first`. It comes back unread if that fails.
    fn hand_over(
        &self,
        first: Vec<u8>,
        stream: ClientStream,
    ) -> impl Future<Output = Result<(), HandOverError>> + Send;

    /// Opens a stream to whoever takes clients there.
    fn connect(&self) -> impl Future<Output = Result<GuestStream, Error>> + Send;

    /// Waits until it is no way to a guest any more.
    fn ended(&self) -> impl Future<Output = ()> + Send;
}

impl Door for Machine {
    async fn hand_over(&self, first: Vec<u8>, stream: ClientStream) -> Result<(), HandOverError> {
        Self::hand_over(self, port::PUBLISHED, first, stream).await
    }

    async fn connect(&self) -> Result<GuestStream, Error> {
        Self::connect(self, port::PUBLISHED).await
    }

    async fn ended(&self) {
        let _ = self.exited().await;
    }
}

/// How long a client waits for a guest whose agent is being started again.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause between two attempts; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Attempts to bring one client to the guest.
pub(super) struct Attempts {
    until: Instant,
    pause: Duration,
}

impl Attempts {
    /// Beginning now.
    pub fn new() -> Self {
        Self {
            until: Instant::now() + PATIENCE,
            pause: FIRST_PAUSE,
        }
    }

    /// After one that failed: waits until it is time for the next. False if there is to be none.
    pub async fn again(&mut self, error: &Error) -> bool {
        if !is_passing(error) || Instant::now() + self.pause > self.until {
            return false;
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// Whether the guest may well take the next attempt: its agent is being started again, or is behind.
fn is_passing(error: &Error) -> bool {
    matches!(
        error,
        Error::NotReady | Error::Refused { .. } | Error::Timeout | Error::TooManyStreams
    )
}
