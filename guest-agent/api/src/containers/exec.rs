//! `POST /containers/{id}/exec` and `/exec/{id}/…`.

use std::sync::Arc;

use hyper::StatusCode;
use lighter_engine::exec::{Exec, ExecConfig};
use lighter_engine::model::StrSlice;
use serde::{Deserialize, Serialize};

use crate::body::{empty, json, ok};
use crate::call::Call;
use crate::detach;
use crate::error::ApiError;
use crate::hijack::{self, AtEnd, Session};
use crate::router::Answer;

pub(super) async fn create(mut call: Call, name: &str) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Shape {
        id: String,
    }
    let config: ExecConfig = call.optional_json().await?.unwrap_or_default();
    let keys = &config.detach_keys;
    detach::keys(Some(keys))
        .map_err(|_| ApiError::bad_request(format!("Invalid escape keys ({keys}) provided")))?;
    let id = call.engine.exec_create(name, config).await?;
    json(StatusCode::CREATED, &Shape { id })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Start {
    detach: Option<bool>,
    tty: Option<bool>,
    console_size: Option<(u32, u32)>,
}

pub(super) async fn start(mut call: Call, id: &str) -> Answer {
    let start: Start = call.optional_json().await?.unwrap_or_default();
    let exec = call.engine.exec(id)?;
    let config = &exec.config;
    // Without a terminal the size says nothing.
    let size = start
        .console_size
        .filter(|_| config.tty && call.version.since(42));
    if start.detach.unwrap_or(false) {
        call.engine.exec_start(id, size).await?;
        return Ok(empty(StatusCode::OK));
    }
    // The client says here how it wants to read; that should be, but need not be, as it was made.
    let tty = start.tty.unwrap_or(false);
    let attached =
        config.attach_stdin || config.attach_stdout || config.attach_stderr || config.tty;
    if !attached {
        // Nothing to send, nothing to wait for: it runs on by itself.
        let failure = call.engine.exec_start(id, size).await.err().map(said);
        let kind = hijack::content_type(tty, call.version);
        return call.hand_over(kind, Session::silent(tty, failure)).await;
    }
    let streams = call.engine.exec_attach(id)?;
    let keys = detach::keys(Some(&config.detach_keys))?;
    let started = call.engine.exec_start(id, size).await;
    let failure = started.err().map(said);
    let kind = hijack::content_type(tty, call.version);
    let (engine, ended) = (Arc::clone(&call.engine), Arc::clone(&exec));
    let at_end = if streams.tty || streams.stdin.is_none() {
        AtEnd::nothing()
    } else {
        AtEnd::new(move || engine.close_exec_stdin(&ended))
    };
    let session = Session {
        tty,
        framed: !tty,
        replay: None,
        output: Some(streams.output),
        stdin: streams.stdin,
        failure,
        keys,
        at_end,
        at_detach: Box::new(|| {}),
    };
    call.hand_over(kind, session).await
}

/// What the client reads of a failure; the exit code is there when it asks.
#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map")]
fn said(error: lighter_engine::Error) -> String {
    format!("{}\r\n", error.text())
}

pub(super) fn resize(call: &Call, id: &str) -> Answer {
    let (rows, columns) = super::lifecycle::size(call)?;
    call.engine.exec_resize(id, rows, columns)?;
    Ok(empty(StatusCode::OK))
}

#[derive(Serialize)]
struct Inspect<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Running")]
    running: bool,
    #[serde(rename = "ExitCode")]
    exit_code: Option<i32>,
    #[serde(rename = "ProcessConfig")]
    process: Process<'a>,
    #[serde(rename = "OpenStdin")]
    open_stdin: bool,
    #[serde(rename = "OpenStderr")]
    open_stderr: bool,
    #[serde(rename = "OpenStdout")]
    open_stdout: bool,
    #[serde(rename = "CanRemove")]
    can_remove: bool,
    #[serde(rename = "ContainerID")]
    container: &'a str,
    #[serde(rename = "DetachKeys")]
    detach_keys: &'a str,
    #[serde(rename = "Pid")]
    pid: i32,
}

#[derive(Serialize)]
struct Process<'a> {
    tty: bool,
    entrypoint: &'a str,
    arguments: &'a [String],
    privileged: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
}

pub(super) fn inspect(call: &Call, id: &str) -> Answer {
    let exec: Arc<Exec> = call.engine.exec(id)?;
    let state = exec.state();
    let config = &exec.config;
    let words = config
        .cmd
        .as_ref()
        .map_or(&[][..], |StrSlice(words)| words.as_slice());
    let (entrypoint, arguments) = words.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
    ok(&Inspect {
        id: &exec.id,
        running: state.running,
        exit_code: state.exit_code,
        process: Process {
            tty: config.tty,
            entrypoint,
            arguments,
            privileged: config.privileged,
            user: &config.user,
        },
        open_stdin: config.attach_stdin,
        open_stderr: config.attach_stderr,
        open_stdout: config.attach_stdout,
        can_remove: false,
        container: exec.container.id(),
        detach_keys: &config.detach_keys,
        pid: state.pid,
    })
}
