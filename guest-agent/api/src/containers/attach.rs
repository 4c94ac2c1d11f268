//! `POST /containers/{id}/attach`.

use std::sync::Arc;

use lighter_engine::containers::AttachOptions;

use crate::call::Call;
use crate::hijack::{self, AtEnd, Session};
use crate::router::Answer;

pub(super) async fn attach(call: Call, name: &str) -> Answer {
    let keys = hijack::detach_keys(call.query.get("detachKeys"))?;
    let query = &call.query;
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        logs: query.flag("logs"),
        stream: query.flag("stream"),
    };
    // Registered before the answer: the client starts the container as soon as it has it.
    let attached = call.engine.container_attach(name, options)?;
    let kind = hijack::content_type(attached.tty, call.version);
    let container = attached.container;
    let at_end = if attached.stdin_once && attached.stdin.is_some() {
        let (engine, container) = (Arc::clone(&call.engine), Arc::clone(&container));
        AtEnd::new(move || engine.close_stdin(&container))
    } else {
        AtEnd::nothing()
    };
    let engine = Arc::clone(&call.engine);
    let session = Session {
        tty: attached.tty,
        replay: attached.replay,
        output: attached.output,
        stdin: attached.stdin,
        failure: None,
        keys,
        at_end,
        at_detach: Box::new(move || engine.container_detached(&container)),
    };
    call.hand_over(kind, session).await
}
