//! `docker login`: whether a registry takes a name and password.

use std::sync::atomic::Ordering;

use hyper::header::AUTHORIZATION;
use hyper::{Method, StatusCode, Uri};

use super::auth::{self, Challenge};
use super::http::{Ask, Http};
use super::{Credentials, Network, RegistryError, endpoint};
use crate::reference::DEFAULT_REGISTRY;

/// Asks the registry at `address` (a host, or a URL as clients store it) whether it takes them.
pub async fn login(
    network: &Network,
    address: &str,
    credentials: &Credentials,
) -> Result<(), RegistryError> {
    let mut tls_seen = false;
    let mut last = None;
    for endpoint in endpoint::named(network, registry_of(address))? {
        if tls_seen && !endpoint.origin.tls {
            break;
        }
        let http = Http::new(network, endpoint)?;
        let seen = http.tls_seen();
        match ask(&http, address, credentials).await {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tls_seen |= seen.load(Ordering::Relaxed);
    }
    Err(last.unwrap_or_else(|| RegistryError::Setting {
        name: "serveraddress",
        value: address.to_owned(),
    }))
}

async fn ask(http: &Http, address: &str, credentials: &Credentials) -> Result<(), RegistryError> {
    let url = format!("{}/v2/", http.endpoint.origin);
    let url: Uri = url.parse().map_err(|_| RegistryError::Setting {
        name: "serveraddress",
        value: address.to_owned(),
    })?;
    let mut ask = Ask::new(Method::GET, url);
    let response = http.follow(ask.clone()).await?;
    if response.status() == StatusCode::UNAUTHORIZED {
        let missing = || RegistryError::NoCredentials {
            request: ask.name(),
        };
        let header = match Challenge::of(response.headers()) {
            Some(Challenge::Bearer { realm, service, .. }) => {
                let token = auth::token(http, &realm, &service, &[], credentials).await?;
                auth::bearer(&token)
            }
            Some(Challenge::Basic) | None => auth::basic(credentials),
        };
        let header = header.ok_or_else(missing)?;
        ask.headers.insert(AUTHORIZATION, header);
    }
    let response = http.follow(ask.clone()).await?;
    match response.status() {
        StatusCode::OK => Ok(()),
        status => Err(RegistryError::Login {
            url: ask.url.to_string(),
            status: status.to_string(),
        }),
    }
}

/// `https://index.docker.io/v1/` and `localhost:5000` alike, down to the registry's name.
fn registry_of(address: &str) -> &str {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    match host.split('/').next().unwrap_or(host) {
        "" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY,
        host => host,
    }
}
