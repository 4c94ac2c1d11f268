//! Debian's docker-registry on a loopback port, filled by skopeo.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::env;
use crate::reference::Reference;
use crate::run::{self, Finished, run};
use crate::tokens::Tokens;

/// A registry of one test; ended when dropped.
pub struct Registry {
    server: Child,
    /// The same registry in other networks.
    beside: Vec<Child>,
    name: String,
    dir: tempfile::TempDir,
    login: bool,
}

/// The user that a registry with a login knows.
pub const USER: &str = "ann";
/// And the password.
pub const PASSWORD: &str = "secret";
/// Both, as `htpasswd -nbB` writes them.
const HTPASSWD: &str = "ann:$2y$05$LEHut8F7dY0kNwQv8v6iI.MqqPnp4nA1bycutRYrssE..3EOW4hBC\n";

/// Whom a registry lets in.
pub enum Entry<'a> {
    /// Everyone.
    Open,
    /// Those with the password.
    Login,
    /// Those with a token of this service.
    Token(&'a Tokens),
}

/// Longest that filling may take: half a gigabyte is packed on the way, on a machine that may be busy.
const PUSH: Duration = Duration::from_secs(900);

impl Registry {
    /// Starts a registry on loopback; `None` (and a counted skip of `test`) without the programs.
    #[must_use]
    pub fn start(test: &str, entry: &Entry<'_>) -> Option<Self> {
        Self::configured(test, entry, "localhost", |_| Some(String::new()))
    }

    /// Starts a registry with TLS on this machine's own address: not loopback, where certificates
    /// do not matter. `None` (and a counted skip) where there is no such address.
    #[must_use]
    pub fn start_tls(test: &str) -> Option<Self> {
        let Some(address) = own_address() else {
            env::skip(test, "this machine has no address but loopback");
            return None;
        };
        Self::configured(test, &Entry::Open, &address, |dir| {
            certificates(dir, &address)
        })
    }

    /// The certificate of the authority that signed a TLS registry's own.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn configured(
        test: &str,
        entry: &Entry<'_>,
        host: &str,
        tls: impl FnOnce(&Path) -> Option<String>,
    ) -> Option<Self> {
        let Some(tools) = env::path(env::TOOLS) else {
            env::skip(test, "docker-registry is not there: run `cargo xtask test`");
            return None;
        };
        if matches!(entry, Entry::Token(_)) && own_address().is_none() {
            env::skip(test, "this machine has no address but loopback");
            return None;
        }
        Self::serve(&tools, entry, host, tls)
    }

    /// Starts the one in this folder of programs, on loopback.
    ///
    /// # Panics
    ///
    /// If it does not answer within half a minute.
    #[must_use]
    pub fn with(tools: &Path, entry: &Entry<'_>) -> Option<Self> {
        Self::serve(tools, entry, "localhost", |_| Some(String::new()))
    }

    fn serve(
        tools: &Path,
        entry: &Entry<'_>,
        host: &str,
        tls: impl FnOnce(&Path) -> Option<String>,
    ) -> Option<Self> {
        let dir = tempfile::tempdir().ok()?;
        let listen = if host == "localhost" {
            "127.0.0.1"
        } else {
            host
        };
        let port = std::net::TcpListener::bind((listen, 0))
            .ok()?
            .local_addr()
            .ok()?
            .port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{listen}:{port}'{}}}\n",
            dir.path().join("data").display(),
            tls(dir.path())?,
        );
        match entry {
            Entry::Open => {}
            Entry::Login => {
                let file = dir.path().join("htpasswd");
                std::fs::write(&file, HTPASSWD).ok()?;
                config.push_str(&format!(
                    "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                    file.display()
                ));
            }
            Entry::Token(tokens) => {
                config.push_str(&tokens.configuration(dir.path(), &own_address()?)?);
            }
        }
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).ok()?;
        let server = Command::new(tools.join("docker-registry"))
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).ok()?)
            .spawn()
            .ok()?;
        let registry = Self {
            server,
            beside: Vec::new(),
            name: format!("{host}:{port}"),
            dir,
            login: !matches!(entry, Entry::Open),
        };
        let limit = Instant::now() + Duration::from_secs(30);
        while std::net::TcpStream::connect((listen, port)).is_err() {
            assert!(Instant::now() < limit, "docker-registry does not start");
            // It has no event for being ready.
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    /// Answers to the same name in the network of `reference` as well, with the same images.
    ///
    /// # Panics
    ///
    /// If it does not start there.
    pub fn serve_beside(&mut self, reference: &Reference) {
        let tools = env::path(env::TOOLS).expect("they are there, as this runs");
        self.serve_in_network_of(reference.process(), &tools);
    }

    /// Answers to the same name in the network of this process as well, by the program of this folder.
    ///
    /// # Panics
    ///
    /// If it does not start there.
    pub fn serve_in_network_of(&mut self, process: u32, tools: &Path) {
        let inside = |program: &Path| {
            let mut command = Command::new("nsenter");
            command
                .arg(format!("--net=/proc/{process}/ns/net"))
                .arg(program);
            command
        };
        let mut server = inside(&tools.join("docker-registry"));
        server.arg("serve").arg(self.dir.path().join("config.yml"));
        server.stdin(Stdio::null()).stdout(Stdio::null());
        let server = server.stderr(Stdio::null()).spawn();
        self.beside.push(server.expect("nsenter starts"));
        let port = self.name.rsplit(':').next().unwrap_or_default();
        run::until("the registry answers in the other network", || {
            let mut look = inside(Path::new("bash"));
            look.args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}")]);
            look.stderr(Stdio::null());
            look.status().is_ok_and(|status| status.success())
        });
    }

    /// Its name as images have it: `localhost:PORT`, or the machine's address with TLS.
    #[must_use]
    pub fn host(&self) -> String {
        self.name.clone()
    }

    /// Puts an image archive into the registry under `name`.
    pub fn push(&self, archive: &Path, name: &str) -> Finished {
        self.copy(&format!("docker-archive:{}", archive.display()), name)
    }

    /// Puts an OCI layout with every image in it into the registry under `name`.
    pub fn push_layout(&self, dir: &Path, name: &str) -> Finished {
        self.copy(&format!("oci:{}", dir.display()), name)
    }

    fn copy(&self, from: &str, name: &str) -> Finished {
        let mut skopeo = Command::new("skopeo");
        skopeo.args([
            "copy",
            "--all",
            "--insecure-policy",
            "--dest-tls-verify=false",
        ]);
        if self.login {
            skopeo.args(["--dest-creds", &format!("{USER}:{PASSWORD}")]);
        }
        skopeo.arg(from);
        skopeo.arg(format!("docker://{}/{name}", self.host()));
        run(skopeo, b"", PUSH).ok()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for server in std::iter::once(&mut self.server).chain(&mut self.beside) {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent for it.
#[must_use]
pub fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then(|| address.to_string())
}

/// Makes an authority, and a certificate of it for `address`; what the registry must know of it.
fn certificates(dir: &Path, address: &str) -> Option<String> {
    let mut params = CertificateParams::new([]).ok()?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().ok()?).ok()?;
    let key = KeyPair::generate().ok()?;
    let params = CertificateParams::new(vec![address.to_owned()]).ok()?;
    let certificate = params.signed_by(&key, &ca).ok()?;
    std::fs::write(dir.join("ca.pem"), ca.pem()).ok()?;
    let (chain, private) = (dir.join("server.pem"), dir.join("server.key"));
    std::fs::write(&chain, certificate.pem()).ok()?;
    std::fs::write(&private, key.serialize_pem()).ok()?;
    Some(format!(
        ", tls: {{certificate: {}, key: {}}}",
        chain.display(),
        private.display()
    ))
}
