//! `pull`, and the progress that pulling and loading show.

use std::io::Write;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Response};
use serde_json::Value;

use super::api::{self, request, with_query};
use super::{Context, login};
use crate::exit::CliError;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show {
    /// Nothing but the result.
    pub quiet: bool,
    /// On standard error: the data of the command is something else.
    pub on_stderr: bool,
}

impl Show {
    /// As talk beside a command's own data.
    pub fn talk(quiet: bool) -> Self {
        Self {
            quiet,
            on_stderr: true,
        }
    }

    /// As the command's data.
    pub fn data(quiet: bool) -> Self {
        Self {
            quiet,
            on_stderr: false,
        }
    }
}

/// Name and tag, or name and digest. Without either, the tag `latest`.
pub fn split(reference: &str) -> (String, String) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name.to_owned(), digest.to_owned());
    }
    match reference.rsplit_once(':') {
        // The colon of a registry's port is followed by a slash.
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        _ => (reference.to_owned(), "latest".to_owned()),
    }
}

/// The reference with its tag.
pub fn familiar(reference: &str) -> String {
    let (name, tag) = split(reference);
    let separator = if tag.contains(':') { '@' } else { ':' };
    format!("{name}{separator}{tag}")
}

/// Pulls an image and shows how far it is.
pub async fn pull(
    context: &Context<'_>,
    reference: &str,
    platform: &str,
    show: Show,
) -> Result<(), CliError> {
    let (name, tag) = split(reference);
    let query = [
        ("fromImage", name.clone()),
        ("tag", tag),
        ("platform", platform.to_owned()),
    ];
    let mut request = request(
        Method::POST,
        &with_query("/images/create", &query),
        api::empty(),
    );
    if let Some(auth) = login::auth_header(&name)? {
        let value = HeaderValue::from_str(&auth)
            .map_err(|_| CliError::new("the stored credentials cannot be sent"))?;
        request.headers_mut().insert("X-Registry-Auth", value);
    }
    let (response, _connection) = context.api.send(request).await?;
    follow(context, response, show).await
}

/// Shows progress messages until they end; an error among them is the result.
pub async fn follow(
    context: &Context<'_>,
    response: Response<Incoming>,
    show: Show,
) -> Result<(), CliError> {
    let terminal = if show.on_stderr {
        context.printer.err_is_terminal
    } else {
        context.printer.out_is_terminal
    };
    let mut screen = Screen {
        show,
        terminal,
        rows: Vec::new(),
    };
    let mut lines = Lines::new(response.into_body());
    while let Some(line) = lines.next().await? {
        let message: Value = serde_json::from_slice(&line)
            .map_err(|error| CliError::new(format!("the engine's answer is no JSON: {error}")))?;
        let told = message["errorDetail"]["message"]
            .as_str()
            .or(message["error"].as_str());
        if let Some(error) = told {
            return Err(CliError::new(error));
        }
        screen.put(&message);
    }
    Ok(())
}

/// A body of lines of JSON.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

/// Longest line that is taken: an engine's message is far below it.
const MOST_LINE: usize = 8 << 20;

impl Lines {
    /// The lines of a body.
    pub fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: Vec::new(),
        }
    }

    /// The next line that is not empty.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CliError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    return Ok(Some(line.into()));
                }
                continue;
            }
            if self.buffer.len() > MOST_LINE {
                return Err(CliError::new("the engine sent a line without end"));
            }
            match self.body.frame().await {
                Some(frame) => {
                    let frame = frame.map_err(|error| CliError::of(&error))?;
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.buffer).into())),
            }
        }
    }
}

/// Rows of progress: rewritten in place on a terminal, else only their ends.
struct Screen {
    show: Show,
    terminal: bool,
    rows: Vec<String>,
}

impl Screen {
    fn put(&mut self, message: &Value) {
        let text = |name: &str| message[name].as_str().unwrap_or_default();
        if self.show.quiet {
            return;
        }
        let (id, status) = (text("id"), text("status"));
        if !text("stream").is_empty() {
            self.write(text("stream"));
            return;
        }
        let line = match (id, text("progress")) {
            ("", _) => status.to_owned(),
            (id, "") => format!("{id}: {status}"),
            (id, progress) => format!("{id}: {status} {progress}"),
        };
        let moving = message["progressDetail"]["current"].is_number();
        if id.is_empty() || !self.terminal {
            // In a pipe the steps between would be thousands of lines.
            if !moving {
                self.write(&format!("{line}\n"));
            }
            if id.is_empty() {
                self.rows.clear();
            }
            return;
        }
        self.rewrite(id, &line);
    }

    fn rewrite(&mut self, id: &str, line: &str) {
        let at = match self.rows.iter().position(|row| row == id) {
            Some(at) => at,
            None => {
                self.rows.push(id.to_owned());
                self.write("\n");
                self.rows.len() - 1
            }
        };
        let up = self.rows.len() - at;
        let width =
            lighter_platform::sys::terminal_size().map_or(80, |(_, columns)| columns.into());
        let line: String = line.chars().take(width).collect();
        self.write(&format!("\x1b[{up}A\r\x1b[2K{line}\x1b[{up}B\r"));
    }

    fn write(&self, text: &str) {
        if self.show.on_stderr {
            // Progress that cannot be shown stops nothing.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        } else {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_at_their_tag() {
        for (reference, expected) in [
            ("busybox", ("busybox", "latest")),
            ("a/b:1", ("a/b", "1")),
            ("localhost:5000/a", ("localhost:5000/a", "latest")),
            ("localhost:5000/a:2", ("localhost:5000/a", "2")),
            ("a@sha256:00", ("a", "sha256:00")),
        ] {
            let (name, tag) = split(reference);
            assert_eq!((name.as_str(), tag.as_str()), expected, "{reference}");
        }
        assert_eq!(familiar("a@sha256:00"), "a@sha256:00");
        assert_eq!(familiar("busybox"), "busybox:latest");
    }
}
