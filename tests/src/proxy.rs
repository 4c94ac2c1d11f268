//! A proxy of a test's own, on loopback: CONNECT and nothing else.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A proxy; it ends with the test's process.
pub struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// One that connects whom it knows by `authorization` (`Basic …`), or everybody without.
    /// None if this machine does not let it.
    #[must_use]
    pub fn start(authorization: Option<&str>) -> Option<Self> {
        let authorization = authorization.map(|value| format!("Proxy-Authorization: {value}"));
        Self::with(move |head, mut client| {
            let known = |wanted: &String| head.contains(wanted);
            if !authorization.as_ref().is_none_or(known) {
                // A client that goes has its answer.
                let _ = client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
                return;
            }
            let target = head[0].split(' ').nth(1).unwrap_or_default();
            match TcpStream::connect(target) {
                Ok(target) => connect(client, &target),
                Err(_) => {
                    let _ = client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
                }
            }
        })
    }

    /// One that says the same to everybody.
    #[must_use]
    pub fn saying(answer: &'static [u8]) -> Option<Self> {
        Self::with(|_, mut client| {
            let _ = client.write_all(answer);
        })
    }

    fn with(answer: impl Fn(&[String], TcpStream) + Send + Sync + 'static) -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").ok()?;
        let proxy = Self {
            port: listener.local_addr().ok()?.port(),
            asked: Arc::default(),
        };
        let (asked, answer) = (Arc::clone(&proxy.asked), Arc::new(answer));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let head = head(&client);
                    let line = head.first().cloned().unwrap_or_default();
                    asked
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(line);
                    if !head.is_empty() {
                        answer(&head, client);
                    }
                });
            }
        });
        Some(proxy)
    }

    /// Its port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The first lines of what it was asked for, so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The lines of a request up to the empty one. A client of CONNECT says nothing more before its answer.
fn head(client: &TcpStream) -> Vec<String> {
    let lines = BufReader::new(client).lines().map_while(Result::ok);
    lines.take_while(|line| !line.is_empty()).collect()
}

/// Carries bytes both ways until one side is done.
fn connect(mut client: TcpStream, target: &TcpStream) {
    let ends = (client.try_clone(), target.try_clone());
    let (Ok(mut from), Ok(mut to)) = ends else {
        return;
    };
    if client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .is_err()
    {
        return;
    }
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut &*target, &mut client);
    let _ = client.shutdown(Shutdown::Write);
}
