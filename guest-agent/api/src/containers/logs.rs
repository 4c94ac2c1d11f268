//! `GET /containers/{id}/logs`.

use bytes::Bytes;
use hyper::StatusCode;
use lighter_engine::clock::Timestamp;
use lighter_engine::logs::{Message, ReadOptions};
use tokio::sync::mpsc;

use crate::body::{streamed, with_type};
use crate::call::Call;
use crate::error::ApiError;
use crate::hijack;
use crate::router::Answer;
use crate::stream::frame;

/// Bytes gathered into one chunk where more than one message is there.
const CHUNK: usize = 64 * 1024;

pub(super) fn logs(call: &Call, name: &str) -> Answer {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad_request(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let options = ReadOptions {
        stdout,
        stderr,
        since: time(call, "since")?,
        until: time(call, "until")?,
        // What is no number means all, as in dockerd.
        tail: query.get("tail").and_then(|text| text.parse().ok()),
        follow: query.flag("follow"),
    };
    let (container, messages) = call.engine.container_logs(name, options)?;
    let form = Form {
        tty: container.record().config.tty,
        timestamps: query.flag("timestamps"),
        details: query.flag("details"),
    };
    let (sender, chunks) = mpsc::channel(4);
    tokio::spawn(send(messages, form, sender));
    let kind = hijack::content_type(form.tty, call.version);
    Ok(with_type(StatusCode::OK, kind, streamed(chunks)))
}

fn time(call: &Call, key: &str) -> Result<Option<Timestamp>, ApiError> {
    // Zero is how clients write "not given".
    let Some(text) = call.query.filled(key).filter(|text| *text != "0") else {
        return Ok(None);
    };
    Timestamp::parse_parameter(text)
        .map(Some)
        .ok_or_else(|| ApiError::bad_request(format!("invalid value for \"{key}\": \"{text}\"")))
}

/// How messages are written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) tty: bool,
    pub(crate) timestamps: bool,
    pub(crate) details: bool,
}

async fn send(mut messages: mpsc::Receiver<Message>, form: Form, sender: mpsc::Sender<Bytes>) {
    loop {
        let first = tokio::select! {
            first = messages.recv() => first,
            // The client of a silent container has gone.
            () = sender.closed() => return,
        };
        let Some(message) = first else { return };
        let mut out = Vec::new();
        encode(&mut out, &message, form);
        while out.len() < CHUNK
            && let Ok(message) = messages.try_recv()
        {
            encode(&mut out, &message, form);
        }
        if sender.send(out.into()).await.is_err() {
            return;
        }
    }
}

/// Appends one message.
pub(crate) fn encode(out: &mut Vec<u8>, message: &Message, form: Form) {
    let mut prefix = String::new();
    if form.timestamps {
        prefix.push_str(&nine_digits(message.time));
        prefix.push(' ');
    }
    if form.details {
        let pairs: Vec<String> = message
            .attrs
            .iter()
            .map(|(key, value)| format!("{}={}", escape(key), escape(value)))
            .collect();
        prefix.push_str(&pairs.join(","));
        prefix.push(' ');
    }
    let line = message.line.as_slice();
    if form.tty {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(line);
    } else {
        frame(out, message.stream, &[prefix.as_bytes(), line]);
    }
}

/// Times in logs always have nine digits, so that lines are aligned.
fn nine_digits(time: Timestamp) -> String {
    let text = time.to_string();
    let (head, tail) = text.trim_end_matches('Z').split_once('.').map_or_else(
        || (text.trim_end_matches('Z').to_owned(), String::new()),
        |(head, tail)| (head.to_owned(), tail.to_owned()),
    );
    format!("{head}.{tail:0<9}Z")
}

fn escape(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lighter_engine::logs::StreamKind;

    fn message() -> Message {
        Message {
            stream: StreamKind::Stdout,
            time: Timestamp::from_unix_ns(1_795_221_781_777_283_263),
            line: "out\n".into(),
            attrs: [("a b".to_owned(), "c=d".to_owned())].into(),
        }
    }

    #[test]
    fn a_frame_with_time_is_the_golden_one() {
        let mut out = Vec::new();
        encode(
            &mut out,
            &message(),
            Form {
                tty: false,
                timestamps: true,
                details: false,
            },
        );
        assert_eq!(
            out,
            b"\x01\0\0\0\0\0\0\x232026-11-21T00:43:01.777283263Z out\n"
        );
    }

    #[test]
    fn a_terminal_has_no_frames_and_details_are_escaped() {
        let mut out = Vec::new();
        encode(
            &mut out,
            &message(),
            Form {
                tty: true,
                timestamps: false,
                details: true,
            },
        );
        assert_eq!(out, b"a+b=c%3Dd out\n");
    }

    #[test]
    fn times_have_nine_digits() {
        assert_eq!(
            nine_digits(Timestamp::from_unix_ns(0)),
            "1970-01-01T00:00:00.000000000Z"
        );
    }
}
