//! Clients of published ports, as the host hands them on.
//!
//! Called by: the agent when it starts. Calls: the engine, which knows where they lead.
//! Must never: bring anybody anywhere before the host said whom they came to.

use std::sync::Arc;
use std::time::Duration;

use lighter_engine::ports::Arrival;
use lighter_protocol::{Accepted, Message};
use tokio::net::UnixStream;

use crate::listener::Listener;
use crate::service::Service;
use crate::stream::MessageStream;

/// How long the host may take to say whom somebody came to.
const PATIENCE: Duration = Duration::from_secs(10);
/// Until clients are let in again where there was no descriptor for one.
const PAUSE: Duration = Duration::from_millis(100);

/// Lets clients in for as long as the agent lives.
pub async fn serve(listener: Listener, service: Arc<Service>) {
    loop {
        match listener.next().await {
            Ok(stream) => {
                tokio::spawn(bring(stream, Arc::clone(&service)));
            }
            Err(error) => {
                tracing::warn!(%error, "a client of a published port is not let in");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn bring(stream: UnixStream, service: Arc<Service>) {
    let mut stream = MessageStream::new(stream);
    let said = tokio::time::timeout(PATIENCE, stream.receive()).await;
    let Ok(Ok(Message::Accepted(accepted))) = said else {
        tracing::warn!("the host did not say whom somebody came to");
        return;
    };
    // An engine that is just being opened knows its containers in a moment.
    service.settled().await;
    let Some(engine) = service.engine() else {
        return;
    };
    let Accepted {
        id,
        number,
        transport,
        client,
        v6,
    } = accepted;
    let (stream, early) = stream.into_raw();
    let arrival = Arrival {
        stream,
        early,
        transport,
        client,
        v6,
    };
    engine.arrived(&id, number, arrival).await;
}
