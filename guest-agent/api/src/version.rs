//! Versions of the API: which are served, and what a path's prefix asks for.

use crate::error::ApiError;

/// A version of the API; the major number is 1 in all that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ApiVersion {
    pub(crate) major: u16,
    pub(crate) minor: u16,
}

impl ApiVersion {
    pub(crate) const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// At least 1.`minor`?
    pub(crate) fn since(self, minor: u16) -> bool {
        self >= Self::new(1, minor)
    }
}

/// The newest version served; a path without a version means this one.
pub(crate) const MAXIMUM: ApiVersion = ApiVersion::new(1, 51);
/// The oldest version served.
pub(crate) const MINIMUM: ApiVersion = ApiVersion::new(1, 24);

pub(crate) use lighter_engine::version::{API as MAXIMUM_TEXT, MINIMUM_API as MINIMUM_TEXT};

/// Splits `/v1.51/rest` into the version and `/rest`.
pub(crate) fn split(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let Some((text, version, rest)) = prefix(path) else {
        return Ok((MAXIMUM, path));
    };
    if version > MAXIMUM {
        return Err(ApiError::bad_request(format!(
            "client version {text} is too new. Maximum supported API version is {MAXIMUM_TEXT}"
        )));
    }
    if version < MINIMUM {
        // Clients that old read errors as plain text.
        return Err(ApiError::bad_request(format!(
            "client version {text} is too old. Minimum supported API version is {MINIMUM_TEXT}, \
             please upgrade your client to a newer version"
        ))
        .plain());
    }
    Ok((version, rest))
}

fn prefix(path: &str) -> Option<(&str, ApiVersion, &str)> {
    let tail = path.strip_prefix("/v")?;
    let end = tail.find('/')?;
    let (text, rest) = tail.split_at(end);
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let version = ApiVersion::new(major.parse().ok()?, minor.parse().ok()?);
    Some((text, version, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_and_without_version() {
        assert_eq!(split("/v1.24/info").unwrap(), (MINIMUM, "/info"));
        assert_eq!(split("/_ping").unwrap(), (MAXIMUM, "/_ping"));
        // `volumes` begins with a v too.
        assert_eq!(
            split("/volumes/x.y/z").unwrap(),
            (MAXIMUM, "/volumes/x.y/z")
        );
    }

    #[test]
    fn versions_out_of_range_are_refused_in_dockers_words() {
        let new = split("/v9.99/info").unwrap_err();
        assert_eq!(
            new.message,
            "client version 9.99 is too new. Maximum supported API version is 1.51"
        );
        let old = split("/v1.10/info").unwrap_err();
        assert!(
            old.message
                .starts_with("client version 1.10 is too old. Minimum")
        );
        let oldest = split("/v1/info").unwrap_err();
        assert!(oldest.message.starts_with("client version 1 is too old."));
    }

    #[test]
    fn texts_and_numbers_agree() {
        assert_eq!(format!("{}.{}", MAXIMUM.major, MAXIMUM.minor), MAXIMUM_TEXT);
        assert_eq!(format!("{}.{}", MINIMUM.major, MINIMUM.minor), MINIMUM_TEXT);
    }
}
