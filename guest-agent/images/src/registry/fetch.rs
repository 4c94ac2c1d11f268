//! An archive somewhere, named by its address: what `docker import URL` reads.
//!
//! The address comes from whoever speaks to the engine, and is no registry: nothing of it leads to
//! the host's own services, neither the address itself nor what it is redirected to.

use std::io;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::{Method, Uri};

use super::endpoint::{Endpoint, Origin};
use super::error::printable;
use super::http::{Ask, Http};
use super::{Network, RegistryError};

/// Most that is read of an answer that is no archive.
const MOST_SAID: usize = 64 << 10;
/// Most characters of it that are told.
const MOST_TOLD: usize = 512;

/// An archive that is being read.
pub struct Fetched {
    http: Http,
    body: Incoming,
    /// Its length, if the server tells it.
    pub total: Option<u64>,
}

/// Asks for what is at `address`, an absolute URL of `http` or `https`.
///
/// # Errors
///
/// When the address is none, cannot or may not be reached, or answers with something else.
pub async fn fetch(network: &Network, address: &str) -> Result<Fetched, RegistryError> {
    let wrong = |problem: &str| RegistryError::Address {
        address: printable(address, MOST_TOLD),
        problem: problem.to_owned(),
    };
    let url: Uri = address
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| wrong(&error.to_string()))?;
    let origin = Origin::of(&url)
        .ok_or_else(|| wrong("it must be http or https, with a host and without a user"))?;
    let endpoint = Endpoint {
        registry: origin.authority(),
        origin,
        mirror: false,
        verified: true,
        foreign: true,
    };
    let http = Http::new(network, endpoint)?;
    let ask = Ask::new(Method::GET, url);
    let response = http.follow(ask.clone()).await?;
    let status = response.status();
    if status.as_u16() < 400 {
        let body = response.into_body();
        let total = body.size_hint().exact();
        return Ok(Fetched { http, body, total });
    }
    let said = match http.collect(&ask, response, MOST_SAID).await {
        Ok(body) => printable(String::from_utf8_lossy(&body).trim(), MOST_TOLD),
        Err(_) => "error reading body".to_owned(),
    };
    Err(RegistryError::Fetch {
        address: printable(address, MOST_TOLD),
        status: status.as_u16(),
        words: status.to_string(),
        said,
    })
}

impl Fetched {
    /// The next piece; none at the end.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or nothing comes for too long.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.http.chunk(&mut self.body).await
    }
}
