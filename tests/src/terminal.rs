//! A person at a terminal, played by tmux: real keys, a real window size, a real screen to read.

use std::process::Command;
use std::time::{Duration, Instant};

/// One tmux session with one window on a server of its own.
pub struct Terminal {
    server: String,
}

impl Terminal {
    /// Opens a window of the given size that runs `command` in a shell; `None` without tmux.
    #[must_use]
    pub fn open(name: &str, columns: u16, rows: u16, command: &str) -> Option<Self> {
        let terminal = Self {
            server: format!("lighter-{name}-{}", std::process::id()),
        };
        let (x, y) = (columns.to_string(), rows.to_string());
        let made = terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &x,
            "-y",
            &y,
            command,
        ])?;
        made.then_some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Option<bool> {
        let output = Command::new("tmux")
            .args(["-L", &self.server])
            .args(args)
            .output()
            .ok()?;
        Some(output.status.success())
    }

    /// Presses keys, named as tmux names them (`Enter`, `C-p`).
    ///
    /// # Panics
    ///
    /// If the window is gone.
    pub fn keys(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        assert_eq!(self.tmux(&args), Some(true), "the terminal is gone");
    }

    /// Gives the window another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        let (x, y) = (columns.to_string(), rows.to_string());
        assert_eq!(
            self.tmux(&["resize-window", "-x", &x, "-y", &y]),
            Some(true)
        );
    }

    /// What the screen shows now.
    #[must_use]
    pub fn screen(&self) -> String {
        Command::new("tmux")
            .args(["-L", &self.server, "capture-pane", "-p"])
            .output()
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the screen shows `text`.
    ///
    /// # Panics
    ///
    /// With the screen, if it does not within the limit.
    pub fn shows(&self, text: &str) {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return;
            }
            assert!(
                Instant::now() < limit,
                "the screen never showed {text:?}:\n{screen}"
            );
            // tmux has no event for "the screen changed"; asking again is how a person looks, too.
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
