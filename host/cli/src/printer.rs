//! The one way to a person's eyes: data on standard output, talk on standard error.
//!
//! Colour only on a terminal that wants it. A reader that goes away (`lighter ps | head -1`) ends
//! the program quietly. What is printed here often comes from images, registries and the guest: on
//! a terminal it is shown without control sequences; a pipe gets it as it is. (A container's own
//! output does not pass here: that is the container's business with its terminal.)

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

use lighter_platform::text::without_controls;

use crate::exit::CliError;

/// Where output goes.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    colour: bool,
    /// Whether standard output is a terminal.
    pub out_is_terminal: bool,
    /// Whether standard error is a terminal.
    pub err_is_terminal: bool,
}

impl Printer {
    /// The printer of this process.
    pub fn for_process() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let err_is_terminal = io::stderr().is_terminal();
        Self {
            colour: wanted && err_is_terminal,
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal,
        }
    }

    /// Writes data as it is.
    pub fn data(&self, text: &str) {
        self.bytes(shown(text, self.out_is_terminal).as_bytes());
    }

    /// Writes a line of data.
    pub fn line(&self, text: &str) {
        self.data(&format!("{text}\n"));
    }

    /// Writes bytes of data as they are.
    pub fn bytes(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        end_if_unread(out.write_all(bytes).and_then(|()| out.flush()));
    }

    /// Says a line.
    pub fn talk(&self, text: &str) {
        self.say(&shown(text, true));
    }

    /// Says a line that has colours of ours in it.
    fn say(&self, text: &str) {
        // There is nobody to tell that standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Says something on the line that the next call writes over; only on a terminal.
    pub fn passing(&self, text: &str) {
        if self.err_is_terminal {
            let text = shown(text, true);
            let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
        }
    }

    /// Says what went wrong and what to do next.
    pub fn error(&self, error: &CliError) {
        let (red, cyan, plain) = if self.colour {
            ("\x1b[1;31m", "\x1b[36m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        self.say(&format!(
            "{red}error:{plain} {}",
            shown(&error.message, true)
        ));
        if let Some(details) = &error.details {
            self.talk(&format!("\n{details}"));
        }
        if let Some(hint) = &error.hint {
            self.say(&format!("\n{cyan}hint:{plain} {}", shown(hint, true)));
        }
    }

    /// Says something worth knowing that stops nothing.
    pub fn warning(&self, text: &str) {
        let (yellow, plain) = if self.colour {
            ("\x1b[33m", "\x1b[0m")
        } else {
            ("", "")
        };
        self.say(&format!("{yellow}warning:{plain} {}", shown(text, true)));
    }

    /// Puts out what is still held back.
    pub fn flush(&self) {
        end_if_unread(io::stdout().lock().flush());
    }
}

/// Text of strangers, as it may be shown on a terminal.
fn shown(text: &str, on_terminal: bool) -> Cow<'_, str> {
    if on_terminal {
        Cow::Owned(without_controls(text))
    } else {
        Cow::Borrowed(text)
    }
}

/// A reader that has had enough is no failure; a disk that is full is one.
fn end_if_unread(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            // There is nobody to tell that standard error is closed.
            let _ = writeln!(
                io::stderr().lock(),
                "error: cannot write the output: {error}"
            );
            std::process::exit(1);
        }
    }
}
