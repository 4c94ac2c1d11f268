//! Credentials as clients send them, and `POST /auth`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use lighter_engine::images::Credentials;
use serde::{Deserialize, Serialize};

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

/// Clients differ in whether they pad.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
/// Longer ones are not looked at; tokens of cloud registries have a few kilobytes.
const MAX_HEADER: usize = 64 << 10;

/// Docker's `AuthConfig`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthConfig {
    username: String,
    password: String,
    /// `username:password`, in base64, instead of the two.
    auth: String,
    serveraddress: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthConfig {
    fn into_credentials(self) -> Credentials {
        let (mut username, mut password) = (self.username, self.password);
        let pair = STANDARD
            .decode(&self.auth)
            .ok()
            .and_then(|pair| String::from_utf8(pair).ok());
        if username.is_empty()
            && let Some((name, secret)) = pair.as_deref().and_then(|pair| pair.split_once(':'))
        {
            (username, password) = (name.to_owned(), secret.trim_end_matches('\0').to_owned());
        }
        Credentials {
            username,
            password,
            identity_token: self.identitytoken,
            registry_token: self.registrytoken,
        }
    }
}

/// The credentials of `X-Registry-Auth`. One that cannot be read counts as none, as with dockerd.
pub(super) fn of(call: &Call) -> Credentials {
    let header = call.headers.get("x-registry-auth");
    let text = header.map_or(&b""[..], |value| value.as_bytes());
    parse(text).unwrap_or_default()
}

fn parse(text: &[u8]) -> Option<Credentials> {
    if text.len() > MAX_HEADER {
        return None;
    }
    let json = URL_SAFE
        .decode(text)
        .or_else(|_| STANDARD.decode(text))
        .ok()?;
    let config: AuthConfig = serde_json::from_slice(&json).ok()?;
    Some(config.into_credentials())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LoginAnswer {
    status: &'static str,
    identity_token: &'static str,
}

/// `POST /auth`.
pub(crate) async fn login(mut call: Call) -> Answer {
    let config: AuthConfig = call.json().await?;
    let address = config.serveraddress.clone();
    let credentials = config.into_credentials();
    call.engine.registry_login(&address, &credentials).await?;
    ok(&LoginAnswer {
        status: "Login Succeeded",
        identity_token: "",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_in_every_form_clients_send() {
        let json = br#"{"username":"u","password":"p?>~"}"#;
        for text in [URL_SAFE.encode(json), STANDARD.encode(json)] {
            for text in [text.as_str(), text.trim_end_matches('=')] {
                let found = parse(text.as_bytes()).unwrap();
                assert_eq!((&*found.username, &*found.password), ("u", "p?>~"));
            }
        }
        let auth = format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("u:p:q"));
        let found = parse(URL_SAFE.encode(auth).as_bytes()).unwrap();
        assert_eq!((&*found.username, &*found.password), ("u", "p:q"));
        assert!(parse(b"e30=").unwrap().is_empty());
        assert_eq!(parse(b"!"), None);
        assert_eq!(parse(b""), None);
    }
}
