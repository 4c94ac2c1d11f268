//! Attach: a client's streams on those of a container.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{Container, lock};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::io::{Output, Stdin};
use crate::logs::{self, Message, ReadOptions};

/// What a client wants of the streams.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttachOptions {
    /// Send its input.
    pub stdin: bool,
    /// Get standard output.
    pub stdout: bool,
    /// Get standard error.
    pub stderr: bool,
    /// What was written so far, first.
    pub logs: bool,
    /// And what is written from now on.
    pub stream: bool,
}

/// A client's streams. It is registered: nothing written from now on is missed.
pub struct Attachment {
    /// The container.
    pub container: Arc<Container>,
    /// Whether it has a terminal: its output is one raw stream.
    pub tty: bool,
    /// What was written so far.
    pub replay: Option<mpsc::Receiver<Message>>,
    /// What is written from now on.
    pub output: Option<Output>,
    /// Where input goes, once the container runs.
    pub stdin: Option<watch::Receiver<Option<Arc<Stdin>>>>,
    /// Whether the container's input ends with the client's.
    pub stdin_once: bool,
}

impl Engine {
    /// The container, if a client may attach to it now.
    pub fn container_attachable(&self, reference: &str) -> Result<Arc<Container>> {
        let container = self.containers().find(reference)?;
        match container.status() {
            super::Status::Paused => Err(Error::conflict(format!(
                "container {reference} is paused, unpause the container before attach"
            ))),
            super::Status::Restarting => Err(Error::conflict(format!(
                "container {reference} is restarting, wait until the container is running"
            ))),
            _ => Ok(container),
        }
    }

    /// Registers a client.
    pub fn container_attach(
        self: &Arc<Self>,
        reference: &str,
        options: AttachOptions,
    ) -> Result<Attachment> {
        let container = self.container_attachable(reference)?;
        let record = container.record();
        let config = &record.config;
        let replay = (options.logs).then(|| {
            let read = ReadOptions {
                stdout: options.stdout,
                stderr: options.stderr,
                ..ReadOptions::default()
            };
            self.read_log(&container, read)
        });
        let attachment = Attachment {
            tty: config.tty,
            replay: replay.transpose()?,
            output: options
                .stream
                .then(|| container.hub.attach(options.stdout, options.stderr)),
            stdin: (options.stream && options.stdin && config.open_stdin)
                .then(|| container.hub.stdin()),
            stdin_once: config.stdin_once && !config.tty,
            container: Arc::clone(&container),
        };
        self.container_event(&container, "attach", &[]);
        Ok(attachment)
    }

    /// Ends the input of a container whose one client has gone.
    pub fn close_stdin(&self, container: &Container) {
        container.hub.set_stdin(None);
        self.keeper(container).remove("stdin");
    }

    /// Records that a client detached.
    pub fn container_detached(&self, container: &Arc<Container>) {
        self.container_event(container, "detach", &[]);
    }

    /// The log of a container, whether it runs or not.
    pub fn container_logs(
        self: &Arc<Self>,
        reference: &str,
        options: ReadOptions,
    ) -> Result<(Arc<Container>, mpsc::Receiver<Message>)> {
        let container = self.containers().find(reference)?;
        let messages = self.read_log(&container, options)?;
        Ok((container, messages))
    }

    fn read_log(
        self: &Arc<Self>,
        container: &Arc<Container>,
        options: ReadOptions,
    ) -> Result<mpsc::Receiver<Message>> {
        let record = container.record();
        if record.host_config.log_config.kind == "none" {
            return Err(Error::unsupported(
                "configured logging driver does not support reading",
            ));
        }
        let (sink, messages) = mpsc::channel(64);
        // A container that never ran has no log; reading it must not make one.
        if (lock(&container.log).is_some() || self.log_path(&record).exists())
            && let Some(log) = self.open_log(container, &record)?
        {
            tokio::spawn(logs::read(log.file, options, sink));
        }
        Ok(messages)
    }

    /// Tells a container's terminal its size.
    pub fn container_resize(&self, reference: &str, rows: u16, columns: u16) -> Result<()> {
        let container = self.containers().find(reference)?;
        let live = self.running(&container)?;
        resize(live.pty.as_ref(), rows, columns)?;
        let size = [("height", rows.to_string()), ("width", columns.to_string())];
        let size = size.each_ref().map(|(key, value)| (*key, value.as_str()));
        self.container_event(&container, "resize", &size);
        Ok(())
    }
}

pub(crate) fn resize(pty: Option<&std::os::fd::OwnedFd>, rows: u16, columns: u16) -> Result<()> {
    // Without a terminal there is nothing to resize; dockerd says nothing either.
    let Some(pty) = pty else { return Ok(()) };
    let size = rustix::termios::Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(pty, size)
        .map_err(|error| Error::internal("the terminal cannot be resized", error))
}
