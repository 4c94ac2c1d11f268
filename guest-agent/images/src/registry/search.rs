//! Finds repositories by their words: the old API, version 1, of which registries kept this.

use std::sync::atomic::Ordering;

use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;

use super::endpoint::{self, Endpoint};
use super::http::{Ask, Http};
use super::{Credentials, Network, RegistryError, auth};
use crate::manifest::MAX_BYTES;
use crate::reference::{DEFAULT_REGISTRY, host_and_path};

/// The hub searches at another host than it serves images.
const HUB: &str = "index.docker.io";

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Found {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// What its owner says of it.
    #[serde(default)]
    pub description: String,
    /// How many like it.
    #[serde(default)]
    pub star_count: i64,
    /// Whether it is one of the hub's own.
    #[serde(default)]
    pub is_official: bool,
}

/// Asks the hub, or the registry that `term` begins with, for at most `limit` repositories.
pub async fn search(
    network: &Network,
    term: &str,
    limit: u32,
    credentials: &Credentials,
) -> Result<Vec<Found>, RegistryError> {
    let (registry, term) = host_and_path(term).unwrap_or((DEFAULT_REGISTRY, term));
    let hub = registry == DEFAULT_REGISTRY || registry == HUB;
    let term = if hub {
        term.strip_prefix("library/").unwrap_or(term)
    } else {
        term
    };
    let http = if hub {
        let endpoint = endpoint::named(network, HUB)?.into_iter().next();
        Http::new(network, endpoint.ok_or_else(|| no_endpoint(registry, ""))?)?
    } else {
        living(network, registry).await?
    };
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("q", term)
        .append_pair("n", &limit.to_string())
        .finish();
    let mut ask = ask(&http.endpoint, &format!("search?{query}"))?;
    let header = HeaderValue::from_static("true");
    ask.headers.insert("x-docker-token", header);
    if let Some(value) = auth::basic(credentials) {
        ask.headers.insert(AUTHORIZATION, value);
    }
    let response = http.follow(ask.clone()).await?;
    if response.status() != StatusCode::OK {
        let code = response.status().as_u16();
        return Err(RegistryError::Search(format!(
            "Unexpected status code {code}"
        )));
    }
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        results: Option<Vec<Found>>,
    }
    let body = http.collect(&ask, response, MAX_BYTES).await?;
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|error| ask.protocol(error.to_string()))?;
    Ok(answer.results.unwrap_or_default())
}

/// The way to a registry that answers: TLS, or without it where that is allowed.
async fn living(network: &Network, registry: &str) -> Result<Http, RegistryError> {
    let mut tried = String::new();
    let mut spoken = false;
    let mut last = "https";
    for endpoint in endpoint::named(network, registry)? {
        if spoken && !endpoint.origin.tls {
            break;
        }
        last = if endpoint.origin.tls { "https" } else { "http" };
        let scheme = last.to_ascii_uppercase();
        let ping = ask(&endpoint, "_ping")?;
        let http = Http::new(network, endpoint)?;
        let seen = http.tls_seen();
        match http.follow(ping).await {
            Ok(_) => return Ok(http),
            Err(error) => tried.push_str(&format!(". {scheme} attempt: {error}")),
        }
        spoken |= seen.load(Ordering::Relaxed);
    }
    Err(no_endpoint(&format!("{last}://{registry}"), &tried))
}

fn ask(endpoint: &Endpoint, rest: &str) -> Result<Ask, RegistryError> {
    let url = format!("{}/v1/{rest}", endpoint.origin);
    let parsed: Result<Uri, _> = url.parse();
    let url = parsed.map_err(|_| no_endpoint(&endpoint.origin.to_string(), ""))?;
    Ok(Ask::new(Method::GET, url))
}

fn no_endpoint(origin: &str, tried: &str) -> RegistryError {
    let text = format!("invalid registry endpoint \"{origin}/v1/\"{tried}");
    RegistryError::NoEndpoint(text)
}
