//! What registries say of images that are not taken: `docker manifest inspect`, `docker search`.

use lighter_images::registry::{self, Credentials, RegistryError};
use lighter_images::{Digest, Reference};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;

pub use lighter_images::registry::{Described, Found};

/// Filters of search.
pub const SEARCH_FILTERS: &[&str] = &["is-automated", "is-official", "stars"];
/// How many are found if nobody says.
const LIMIT: i64 = 25;
const MOST: i64 = 100;

impl Engine {
    /// What `name` stands for in its registry.
    ///
    /// # Errors
    ///
    /// When the registry does not know or show it, or cannot be reached.
    pub async fn image_describe(&self, name: &str, credentials: Credentials) -> Result<Described> {
        if Digest::from_hex(name).is_ok() {
            let error = "no manifest found for full image ID";
            return Err(Error::new(crate::Kind::Internal, error));
        }
        let reference: Reference = name
            .parse()
            .map_err(|error| Error::invalid(format!("{error}")))?;
        let asked = registry::describe(&self.network(), &reference, &credentials).await;
        asked.map_err(|error| match error {
            lighter_images::Error::Registry(
                RegistryError::ManifestUnknown { said, .. }
                | RegistryError::NameUnknown { said, .. },
            ) => Error::not_found(said.to_string()),
            lighter_images::Error::Registry(RegistryError::Denied { said, .. }) => {
                Error::forbidden(said.to_string())
            }
            error => error.into(),
        })
    }

    /// Repositories of the hub, or of the registry that `term` begins with.
    ///
    /// # Errors
    ///
    /// A limit or filter that is none, or a registry that does not answer.
    pub async fn image_search(
        &self,
        term: &str,
        limit: i64,
        filters: &Filters,
        credentials: Credentials,
    ) -> Result<Vec<Found>> {
        let automated = filters.boolean("is-automated")?;
        let official = filters.boolean("is-official")?;
        let mut stars = i64::MIN;
        for value in filters.values("stars") {
            let number: i64 = value.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid filter 'stars={value}': strconv.Atoi: parsing {value:?}: invalid syntax"
                ))
            })?;
            stars = stars.max(number);
        }
        let limit = match limit {
            0 => LIMIT,
            1..=MOST => limit,
            _ => {
                return Err(Error::invalid(format!(
                    "limit {limit} is outside the range of [1, {MOST}]"
                )));
            }
        };
        // The hub builds nothing any more.
        if automated == Some(true) {
            return Ok(Vec::new());
        }
        let limit = u32::try_from(limit).unwrap_or_default();
        let network = self.network();
        let found = registry::search(&network, term, limit, &credentials).await;
        let mut found = found.map_err(lighter_images::Error::from)?;
        found.retain(|one| {
            one.star_count >= stars && official.is_none_or(|wanted| one.is_official == wanted)
        });
        Ok(found)
    }
}
