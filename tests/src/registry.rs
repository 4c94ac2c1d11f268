//! Debian's docker-registry on a loopback port, filled by skopeo.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::env;
use crate::run::{Finished, run};

/// A registry of one test; ended when dropped.
pub struct Registry {
    server: Child,
    port: u16,
    _dir: tempfile::TempDir,
    login: bool,
}

/// The user that a registry with a login knows.
pub const USER: &str = "ann";
/// And the password.
pub const PASSWORD: &str = "secret";
/// Both, as `htpasswd -nbB` writes them.
const HTPASSWD: &str = "ann:$2y$05$LEHut8F7dY0kNwQv8v6iI.MqqPnp4nA1bycutRYrssE..3EOW4hBC\n";

impl Registry {
    /// Starts a registry; `None` (and a counted skip of `test`) without the programs.
    #[must_use]
    pub fn start(test: &str, login: bool) -> Option<Self> {
        let Some(tools) = env::path(env::TOOLS) else {
            env::skip(test, "docker-registry is not there: run `cargo xtask test`");
            return None;
        };
        Self::with(&tools, login)
    }

    /// Starts the one in this folder of programs.
    ///
    /// # Panics
    ///
    /// If it does not answer within half a minute.
    #[must_use]
    pub fn with(tools: &Path, login: bool) -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            dir.path().join("data").display()
        );
        if login {
            let file = dir.path().join("htpasswd");
            std::fs::write(&file, HTPASSWD).ok()?;
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                file.display()
            ));
        }
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).ok()?;
        let server = Command::new(tools.join("docker-registry"))
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let registry = Self {
            server,
            port,
            _dir: dir,
            login,
        };
        let limit = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < limit, "docker-registry does not start");
            // It has no event for being ready.
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// `localhost:PORT`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Puts an image archive into the registry under `name`.
    pub fn push(&self, archive: &Path, name: &str) -> Finished {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["copy", "--insecure-policy", "--dest-tls-verify=false"]);
        if self.login {
            skopeo.args(["--dest-creds", &format!("{USER}:{PASSWORD}")]);
        }
        skopeo.arg(format!("docker-archive:{}", archive.display()));
        skopeo.arg(format!("docker://{}/{name}", self.host()));
        run(skopeo, b"", Duration::from_secs(120)).ok()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
