//! Paths in their plain form, as the router of dockerd has them: who asks for another is sent there.
//!
//! Called by `serve` before anything else is made of a request: what means nothing in a path is
//! nothing that a version, a route or a name could be told from.

use hyper::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::query::decode_path;

/// What Go escapes in a path.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// Where a request for `uri` belongs, if not there.
pub(crate) fn elsewhere(uri: &Uri) -> Option<String> {
    // One that cannot be read is refused later, in words.
    let path = decode_path(uri.path()).ok()?;
    let plain = plain(&path);
    if plain == path {
        return None;
    }
    let mut place = utf8_percent_encode(&plain, ESCAPED).to_string();
    if let Some(query) = uri.query() {
        place.push('?');
        place.push_str(query);
    }
    Some(place)
}

/// The path without empty parts, `.` and `..`; a slash at its end stays.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() {
        "/"
    } else {
        ""
    };
    format!("/{}{end}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(target: &'static str) -> Option<String> {
        elsewhere(&Uri::from_static(target))
    }

    #[test]
    fn a_plain_path_stays_where_it_is() {
        for target in [
            "/",
            "/_ping",
            "/v1.51/networks/",
            "/v1.51/containers/a%2Fb/json?all=1",
            "/v1.51/containers/a%20b/json",
            "/v1.51/images/a..b/json",
        ] {
            assert_eq!(moved(target), None, "{target}");
        }
    }

    #[test]
    fn another_leads_to_a_plain_one_with_its_query() {
        for (target, place) in [
            ("//_ping", "/_ping"),
            (
                "/v1.51/containers//json?all=1&x=%2F",
                "/v1.51/containers/json?all=1&x=%2F",
            ),
            ("/v1.51/containers/%2F%2F/json", "/v1.51/containers/json"),
            ("/v1.51/a%2F%2Fb/", "/v1.51/a/b/"),
            ("/v1.51/./info?", "/v1.51/info?"),
            ("/v1.51/x/..%2F..%2F../info", "/info"),
            ("/v1.51//a%20b%3Fc", "/v1.51/a%20b%3Fc"),
            ("//", "/"),
        ] {
            assert_eq!(moved(target).as_deref(), Some(place), "{target}");
            let uri: Uri = place.parse().unwrap();
            assert_eq!(elsewhere(&uri), None, "{place} leads on");
        }
    }
}
