//! `POST /containers/{id}/attach` and `GET /containers/{id}/attach/ws`.

use std::sync::Arc;

use lighter_engine::containers::AttachOptions;

use crate::call::Call;
use crate::detach;
use crate::error::ApiError;
use crate::hijack::{self, AtEnd, Session};
use crate::router::Answer;
use crate::websocket;

pub(super) async fn attach(call: Call, name: &str) -> Answer {
    let keys = detach::keys(call.query.get("detachKeys"))?;
    let session = session(&call, name, options(&call), keys)?;
    let kind = hijack::content_type(session.tty, call.version);
    call.hand_over(kind, session).await
}

/// The same over a WebSocket, which has no frames for the two outputs: they come as one.
pub(super) async fn websocket(call: Call, name: &str) -> Answer {
    let keys = detach::keys(call.query.get("detachKeys"))?;
    call.engine.container_attachable(name)?;
    let head = match websocket::shake(&call.headers) {
        Ok(head) => head,
        Err(refusal) => return call.turn_away(refusal).await,
    };
    let mut options = options(&call);
    if !call.version.since(42) {
        // Clients that old were not asked.
        (options.stdin, options.stdout, options.stderr) = (true, true, true);
    }
    let session = Session {
        framed: false,
        ..session(&call, name, options, keys)?
    };
    let kind = websocket::Kind::of(call.version);
    call.hand_over_websocket(head, kind, session).await
}

fn options(call: &Call) -> AttachOptions {
    let query = &call.query;
    AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
    }
}

/// Registers the client. That comes before the answer: it starts the container as soon as it has it.
fn session(
    call: &Call,
    name: &str,
    options: AttachOptions,
    keys: Vec<u8>,
) -> Result<Session, ApiError> {
    let attached = call.engine.container_attach(name, options)?;
    let container = attached.container;
    let at_end = if attached.stdin_once && attached.stdin.is_some() {
        let (engine, container) = (Arc::clone(&call.engine), Arc::clone(&container));
        AtEnd::new(move || engine.close_stdin(&container))
    } else {
        AtEnd::nothing()
    };
    let engine = Arc::clone(&call.engine);
    Ok(Session {
        tty: attached.tty,
        framed: !attached.tty,
        replay: attached.replay,
        output: attached.output,
        stdin: attached.stdin,
        failure: None,
        keys,
        at_end,
        at_detach: Box::new(move || engine.container_detached(&container)),
    })
}
