//! What a registry wants to know about us: challenges, and tokens from its token service.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Uri};
use serde::Deserialize;

use super::endpoint::Origin;
use super::http::{Ask, Http};
use super::{Credentials, RegistryError};

const MAX_TOKEN_ANSWER: usize = 256 << 10;
/// Names us to token services.
const CLIENT_ID: &str = "lighter";

/// One `WWW-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: String,
        scope: Option<String>,
    },
}

impl Challenge {
    /// The first challenge that can be met; bearer before basic.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let all = headers.get_all(WWW_AUTHENTICATE).iter().take(8);
        let all: Vec<Self> = all
            .filter_map(|value| Self::parse(value.to_str().ok()?))
            .collect();
        let bearer = all.iter().find(|one| matches!(one, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }

    /// Whether a token was taken and says too little: then another password is no help.
    pub(super) fn of_too_little(headers: &HeaderMap) -> bool {
        let all = headers.get_all(WWW_AUTHENTICATE).iter().take(8);
        all.filter_map(|value| value.to_str().ok()).any(|text| {
            let parameters = parameters(text.trim_start_matches(|c| c != ' '));
            let too_little = ("error".to_owned(), "insufficient_scope".to_owned());
            parameters.contains(&too_little)
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let value = |name: &str| {
            let found = parameters.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.clone())
        };
        Some(Self::Bearer {
            realm: value("realm")?,
            service: value("service").unwrap_or_default(),
            scope: value("scope"),
        })
    }
}

/// `key="value"` pairs between commas; quotes may hold commas and escaped characters.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.chars().peekable();
    while rest.peek().is_some() {
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| *c != '=' && *c != ',') {
            key.push(c);
        }
        let mut value = String::new();
        if rest.next_if_eq(&'=').is_some() {
            if rest.next_if_eq(&'"').is_some() {
                while let Some(c) = rest.next_if(|c| *c != '"') {
                    let c = if c == '\\' { rest.next() } else { Some(c) };
                    value.extend(c);
                }
                rest.next();
            }
            while let Some(c) = rest.next_if(|c| *c != ',') {
                value.push(c);
            }
        }
        rest.next();
        found.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    found
}

/// `Authorization` with a name and password.
pub(super) fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    if credentials.username.is_empty() && credentials.password.is_empty() {
        return None;
    }
    let pair = format!("{}:{}", credentials.username, credentials.password);
    secret(&format!("Basic {}", STANDARD.encode(pair)))
}

/// `Authorization` with a token.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

/// Asks the token service at `realm` for a token.
pub(super) async fn token(
    http: &Http,
    realm: &str,
    service: &str,
    scopes: &[String],
    credentials: &Credentials,
) -> Result<String, RegistryError> {
    let mut ask = request(realm, service, scopes, credentials)
        .ok_or_else(|| invalid_realm(http, "the token realm is no URL"))?;
    let origin = Origin::of(&ask.url);
    let origin = origin.ok_or_else(|| invalid_realm(http, "the token realm is no URL"))?;
    if !origin.tls && http.endpoint.origin.tls {
        return Err(invalid_realm(http, "the token realm is not https"));
    }
    if ask.method == Method::GET
        && let Some(value) = basic(credentials)
    {
        ask.headers.insert(AUTHORIZATION, value);
    }
    let response = if ask.method == Method::GET {
        http.follow(ask.clone()).await?
    } else {
        // A refresh token is in the body: it is not carried to anywhere else.
        http.send(&ask).await?
    };
    // The query says nothing a user could use.
    let name = Ask::new(ask.method.clone(), realm.parse().unwrap_or_default()).name();
    match response.status().as_u16() {
        200 => {}
        401 | 403 => {
            let text = format!("{name}: unauthorized: authentication required");
            return Err(RegistryError::Unauthorized(text));
        }
        _ => return Err(RegistryError::Status(response.status().to_string())),
    }
    let body = http.collect(&ask, response, MAX_TOKEN_ANSWER).await?;
    let answer: TokenAnswer =
        serde_json::from_slice(&body).map_err(|error| ask.protocol(error.to_string()))?;
    let token = [answer.token, answer.access_token];
    let token = token.into_iter().find(|token| !token.is_empty());
    token
        .ok_or_else(|| ask.protocol("authorization server did not include a token in the response"))
}

fn invalid_realm(http: &Http, problem: &str) -> RegistryError {
    RegistryError::Protocol {
        request: http.endpoint.origin.to_string(),
        problem: problem.to_owned(),
    }
}

/// The request for a token: GET with a password or nothing, POST with a refresh token.
fn request(
    realm: &str,
    service: &str,
    scopes: &[String],
    credentials: &Credentials,
) -> Option<Ask> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("service", service);
    for scope in scopes {
        form.append_pair("scope", scope);
    }
    if !credentials.identity_token.is_empty() {
        form.append_pair("grant_type", "refresh_token")
            .append_pair("refresh_token", &credentials.identity_token)
            .append_pair("client_id", CLIENT_ID);
        let mut ask = Ask::new(Method::POST, realm.parse().ok()?);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        ask.headers.insert(CONTENT_TYPE, kind);
        ask.body = Bytes::from(form.finish());
        return Some(ask);
    }
    if !credentials.username.is_empty() {
        form.append_pair("account", &credentials.username);
    }
    let separator = if realm.contains('?') { '&' } else { '?' };
    let url: Uri = format!("{realm}{separator}{}", form.finish())
        .parse()
        .ok()?;
    Some(Ask::new(Method::GET, url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_as_registries_write_them() {
        let parsed = Challenge::parse(
            r#"Bearer realm="https://auth.example/token",service="a, \"b\"",scope="repository:x:pull""#,
        );
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: "a, \"b\"".into(),
            scope: Some("repository:x:pull".into()),
        };
        assert_eq!(parsed, Some(expected));
        assert_eq!(
            Challenge::parse("basic realm=\"r\""),
            Some(Challenge::Basic)
        );
        for text in [
            "",
            "Bearer",
            "Bearer service=x",
            "Digest realm=x",
            "Bearer =,=,\"",
        ] {
            assert_eq!(Challenge::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_registry_says_cannot_add_parameters() {
        let ask = request(
            "https://r/t",
            "a&scope=b",
            &["c d".to_owned()],
            &Credentials::default(),
        );
        assert_eq!(
            ask.unwrap().url.to_string(),
            "https://r/t?service=a%26scope%3Db&scope=c+d"
        );
    }
}
