//! The query of a request: booleans, numbers and lists as Docker's clients write them.

use std::borrow::Cow;

use crate::error::ApiError;

/// The decoded pairs, in the order given.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self(
            pairs
                .map(|(key, value)| (key.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// The first value of `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of `key`, or nothing if it is empty.
    pub(crate) fn filled(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Every value of `key`.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }

    /// A flag, read as dockerd does: anything but "", "0", "no", "false" and "none" is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.flag_or(key, false)
    }

    /// A flag with a default for when it is absent.
    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |value| {
            !matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "" | "0" | "no" | "false" | "none"
            )
        })
    }

    /// A number, absent if empty.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, ApiError> {
        let Some(value) = self.filled(key) else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "invalid value for '{key}': \"{value}\" is not a number"
            ))
        })
    }
}

/// Undoes the percent encoding of a path.
pub(crate) fn decode_path(path: &str) -> Result<Cow<'_, str>, ApiError> {
    percent_encoding::percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| ApiError::bad_request("the path is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_as_docker_reads_them() {
        let query = Query::parse(Some("a=1&b=0&c=&d=true&e=None&f=False"));
        let set: Vec<_> = ["a", "b", "c", "d", "e", "f", "g"]
            .map(|key| query.flag(key))
            .into();
        assert_eq!(set, [true, false, false, true, false, false, false]);
        assert!(query.flag_or("g", true));
    }

    #[test]
    fn numbers_and_repeats() {
        let query = Query::parse(Some("t=5&x=a&x=b%2Fc&h="));
        assert_eq!(query.number::<u32>("t").unwrap(), Some(5));
        assert_eq!(query.number::<u32>("h").unwrap(), None);
        assert!(query.number::<u32>("x").is_err());
        assert_eq!(query.all("x").collect::<Vec<_>>(), ["a", "b/c"]);
    }
}
