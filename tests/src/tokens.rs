//! A token service for Debian's docker-registry: tokens signed with a key whose certificate the
//! registry is given.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::registry::{PASSWORD, USER};

/// Who signs, as the registry knows it.
const ISSUER: &str = "lighter-tests";
const SERVICE: &str = "registry of the tests";

/// A token service on a port of its own; it ends with the test's process.
pub struct Tokens {
    port: u16,
    certificate: String,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Signer {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
}

impl Tokens {
    /// Starts it; none if this machine does not let it.
    #[must_use]
    pub fn start() -> Option<Self> {
        let key = KeyPair::generate().ok()?;
        let certificate = CertificateParams::new([]).ok()?.self_signed(&key).ok()?;
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let signer = Signer {
            key: EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der(), &random).ok()?,
            certificate: certificate.der().to_vec(),
        };
        let listener = TcpListener::bind("0.0.0.0:0").ok()?;
        let tokens = Self {
            port: listener.local_addr().ok()?.port(),
            certificate: certificate.pem(),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&tokens.asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes has no token.
                let _ = serve(&stream, &signer, &asked);
            }
        });
        Some(tokens)
    }

    /// The requests so far: the path, and whether the password came with it.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The part of docker-registry's configuration that makes it believe these tokens; `dir` takes
    /// the certificate, `address` is where clients find this machine.
    pub(crate) fn configuration(&self, dir: &Path, address: &str) -> Option<String> {
        let bundle = dir.join("tokens.pem");
        std::fs::write(&bundle, &self.certificate).ok()?;
        Some(format!(
            "auth: {{token: {{realm: 'http://{address}:{}/token', service: '{SERVICE}', issuer: {ISSUER}, rootcertbundle: {}}}}}\n",
            self.port,
            bundle.display()
        ))
    }
}

fn serve(stream: &TcpStream, signer: &Signer, asked: &Mutex<Vec<String>>) -> Option<()> {
    let (mut path, mut authorization) = (String::new(), String::new());
    for line in BufReader::new(stream).lines() {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        if path.is_empty() {
            line.split(' ').nth(1)?.clone_into(&mut path);
        }
        if let Some(("authorization", value)) = line
            .split_once(": ")
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .as_ref()
            .map(|(name, value)| (name.as_str(), *value))
        {
            value.clone_into(&mut authorization);
        }
    }
    let password = STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let known = authorization == format!("Basic {password}");
    let mut log = asked.lock().unwrap_or_else(PoisonError::into_inner);
    log.push(format!(
        "{path} {}",
        if known { "with password" } else { "" }
    ));
    drop(log);
    let (status, body) = if authorization.is_empty() || known {
        ("200 OK", signer.answer(&path, known)?)
    } else {
        ("401 Unauthorized", "{}".to_owned())
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = stream;
    stream.write_all(answer.as_bytes()).ok()
}

impl Signer {
    /// A token for what is asked for; for strangers one that allows nothing.
    fn answer(&self, path: &str, known: bool) -> Option<String> {
        let query = path.split_once('?').map_or("", |(_, query)| query);
        let scopes = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("scope="));
        let access: Vec<_> = scopes
            .filter(|_| known)
            .filter_map(|scope| {
                let scope = scope
                    .replace("%3A", ":")
                    .replace("%2F", "/")
                    .replace("%2C", ",");
                let (kind, rest) = scope.split_once(':')?;
                let (name, actions) = rest.rsplit_once(':')?;
                let actions: Vec<&str> = actions.split(',').collect();
                Some(serde_json::json!({"type": kind, "name": name, "actions": actions}))
            })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let head = serde_json::json!({
            "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)],
        });
        let body = serde_json::json!({
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 300, "nbf": now - 60,
            "iat": now, "jti": "1", "access": access,
        });
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(head), part(body));
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .ok()?;
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        Some(serde_json::json!({"token": token, "expires_in": 300}).to_string())
    }
}
