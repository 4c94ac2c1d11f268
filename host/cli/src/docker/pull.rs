//! `pull` and `push`, and the progress that they and loading show.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Response};
use lighter_platform::text::without_controls;
use serde_json::Value;

use super::api::{self, request, with_query};
use super::{Context, login, units};
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

/// A name's registry and the rest of it; none where the registry is Docker Hub. As docker tells
/// them apart: a registry's host has a dot, a port or a capital letter, or is `localhost`.
pub fn host_and_path(name: &str) -> Option<(&str, &str)> {
    let (host, path) = name.split_once('/')?;
    let telling = |c: char| c == '.' || c == ':' || c.is_ascii_uppercase();
    (host.contains(telling) || host == "localhost").then_some((host, path))
}

/// Refuses what no image can be called, in docker's words.
pub fn check_reference(reference: &str) -> Result<(), CliError> {
    let wrong = |why: &str| Err(CliError::usage(format!("invalid reference format{why}")));
    // An image's id, with the algorithm before it.
    if reference.starts_with("sha256:") {
        return Ok(());
    }
    let (rest, digest) = reference.split_once('@').unwrap_or((reference, "a:b"));
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (rest, "latest"),
    };
    let path = host_and_path(name).map_or(name, |(_, path)| path);
    if path.contains(|c: char| c.is_ascii_uppercase()) {
        let library = if name.contains('/') { "" } else { "library/" };
        return wrong(&format!(
            ": repository name ({library}{path}) must be lowercase"
        ));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| {
        part.starts_with(plain)
            && part.ends_with(plain)
            && part.chars().all(|c| plain(c) || "._-".contains(c))
    };
    let in_tag = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let tag_fits = !tag.is_empty()
        && tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag.chars().all(in_tag);
    if path.split('/').all(part) && tag_fits && digest.contains(':') {
        Ok(())
    } else {
        wrong("")
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
    transfer(context, &with_query("/images/create", &query), &name, show).await
}

/// Pushes an image, or without a tag every one of the repository, and shows how far it is.
pub async fn push(
    context: &Context<'_>,
    name: &str,
    tag: &str,
    platform: &str,
    show: Show,
) -> Result<(), CliError> {
    let query = [("tag", tag.to_owned()), ("platform", platform.to_owned())];
    let path = format!("/images/{}/push", api::escape(name));
    transfer(context, &with_query(&path, &query), name, show).await
}

/// Asks for a transfer with what the registry of `name` wants to know about us.
async fn transfer(
    context: &Context<'_>,
    path: &str,
    name: &str,
    show: Show,
) -> Result<(), CliError> {
    let mut request = request(Method::POST, path, api::empty());
    if let Some(auth) = login::auth_header(name)? {
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
    buffer: BytesMut,
    /// How much of the buffer is known to hold no end of a line.
    seen: usize,
}

/// Longest line that is taken: an engine's message is far below it.
const MOST_LINE: usize = 8 << 20;

impl Lines {
    /// The lines of a body.
    pub fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            seen: 0,
        }
    }

    /// The next line that is not empty.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CliError> {
        loop {
            let end = self.buffer[self.seen..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let line = self.buffer.split_to(self.seen + end + 1);
                self.seen = 0;
                if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                    return Ok(Some(line.freeze()));
                }
                continue;
            }
            self.seen = self.buffer.len();
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
                None => {
                    self.seen = 0;
                    return Ok(Some(self.buffer.split().freeze()));
                }
            }
        }
    }
}

/// Most rows that are rewritten: a terminal has fewer, and the engine could name any number.
const MOST_ROWS: usize = 200;

/// The width of the terminal.
fn width() -> usize {
    lighter_platform::sys::terminal_size().map_or(80, |(_, columns)| columns.into())
}

/// How far one thing is, drawn as docker draws it: `[=====>     ]  1.2MB/3.4MB`.
fn bar(detail: &Value, width: usize) -> String {
    let Some(current) = detail["current"].as_u64().filter(|current| *current > 0) else {
        return String::new();
    };
    let done = units::decimal_size_4(current);
    let total = detail["total"].as_u64().unwrap_or(0);
    if total < current || total == 0 {
        return format!(" {done:>8}");
    }
    let numbers = format!(" {done:>8}/{}", units::decimal_size_4(total));
    // Docker's own limit, below which only the numbers are shown.
    if width < 110 {
        return numbers;
    }
    let filled = usize::try_from(current.saturating_mul(50) / total).unwrap_or(50);
    let arrow = if filled < 50 { ">" } else { "" };
    let rest = 50_usize.saturating_sub(filled + arrow.len());
    format!(
        " [{}{arrow}{}]{numbers}",
        "=".repeat(filled),
        " ".repeat(rest)
    )
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
        // What is only for programs has no words.
        if id.is_empty() && status.is_empty() {
            return;
        }
        let bar = match self.terminal {
            true => bar(&message["progressDetail"], width()),
            false => String::new(),
        };
        let line = match id {
            "" => status.to_owned(),
            id => format!("{id}: {status}{bar}"),
        };
        let moving = message["progressDetail"]["current"].is_number();
        let rows = self.rows.len() < MOST_ROWS || self.rows.iter().any(|row| row == id);
        if id.is_empty() || !self.terminal || !rows {
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
        let line: String = without_controls(line).chars().take(width()).collect();
        self.write_raw(&format!("\x1b[{up}A\r\x1b[2K{line}\x1b[{up}B\r"));
    }

    /// Writes what the engine and registries say: without their control sequences on a terminal.
    fn write(&self, text: &str) {
        if self.terminal {
            self.write_raw(&without_controls(text));
        } else {
            self.write_raw(text);
        }
    }

    fn write_raw(&self, text: &str) {
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
    use serde_json::json;

    #[test]
    fn a_bar_shows_how_far_it_is() {
        let at = |current: u64, total: u64| json!({ "current": current, "total": total });
        let line = bar(&at(500_000, 1_000_000), 120);
        assert!(line.starts_with(" [=========================>"), "{line}");
        assert!(line.ends_with("]    500kB/1MB"), "{line}");
        assert_eq!(bar(&at(500_000, 1_000_000), 80), "    500kB/1MB");
        assert!(bar(&at(1_000_000, 1_000_000), 120).contains(&format!("[{}]", "=".repeat(50))));
        // Of a total that is not known, or wrong.
        assert_eq!(bar(&at(12, 0), 120), "      12B");
        assert!(!bar(&at(u64::MAX, 1), 120).contains('['));
        assert_eq!(bar(&json!({}), 120), "");
    }

    #[test]
    fn what_no_image_can_be_called_is_refused() {
        for fits in [
            "busybox",
            "a/b:1",
            "localhost:5000/a/b_c__d-e.f:V1.2-x",
            "a@sha256:0000",
            "Registry.Example:5000/a/b",
            "HOST/a:1",
            "sha256:0000",
            "c0aa56dbf2ae",
        ] {
            assert!(check_reference(fits).is_ok(), "{fits}");
        }
        for wrong in [
            "", "Bad", "a/Bad", "HOST/Bad", "a:b:c", "-a", "a/", "a//b", "a:.x", "a b", "a@b",
            "\x1b[2J",
        ] {
            let error = check_reference(wrong).unwrap_err();
            assert!(
                error.message.starts_with("invalid reference format"),
                "{wrong}"
            );
        }
    }

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
