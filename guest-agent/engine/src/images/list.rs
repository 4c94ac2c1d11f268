//! `docker images`.

use std::collections::BTreeMap;

use lighter_images::{Digest, Reference};

use super::{Image, Index};
use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::{Filters, until};

/// Filters of list.
pub const FILTERS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

/// What to list.
#[derive(Debug, Default)]
pub struct ListOptions {
    /// Which images.
    pub filters: Filters,
    /// Also images without a name that others were made on.
    pub all: bool,
    /// Work out which bytes are shared.
    pub shared_size: bool,
}

/// An image and what is said of it in a list.
#[derive(Debug)]
pub struct Summary {
    /// The image.
    pub image: Image,
    /// Names with a tag.
    pub tags: Vec<Reference>,
    /// Names with a digest.
    pub digests: Vec<Reference>,
    /// When it was made, in seconds; 0 if its configuration does not say.
    pub created: i64,
    /// Bytes of layers that other images have as well, if asked for.
    pub shared: Option<u64>,
    /// How many containers are of it.
    pub containers: usize,
}

/// When an image was made, as its configuration says.
pub(super) fn created(image: &Image) -> Option<i64> {
    let text = image.config.created.as_deref()?;
    Timestamp::parse(text).map(Timestamp::unix)
}

impl Engine {
    /// The images, newest first.
    ///
    /// # Errors
    ///
    /// A filter that names no image or is none.
    pub fn image_list(&self, options: &ListOptions) -> Result<Vec<Summary>> {
        let filters = &options.filters;
        let dangling = filters.boolean("dangling")?;
        let bound = |key: &str| -> Result<Option<i64>> {
            let Some(name) = filters.values(key).first() else {
                return Ok(None);
            };
            Ok(created(&self.image(name)?))
        };
        let (before, since) = (bound("before")?, bound("since")?);
        let until = filters
            .values("until")
            .first()
            .map(|text| {
                until(text).map_err(|_| {
                    Error::invalid(format!(
                        "failed to parse value as time or duration: \"{text}\""
                    ))
                })
            })
            .transpose()?
            .map(Timestamp::unix);
        let index = self.images().lock();
        let mut shared: BTreeMap<Digest, usize> = BTreeMap::new();
        for layer in index
            .images
            .values()
            .flat_map(|image| &image.config.rootfs.diff_ids)
        {
            *shared.entry(*layer).or_default() += 1;
        }
        let mut found = Vec::new();
        for image in index.images.values() {
            let made = created(image).unwrap_or(0);
            let labels = image.config.config.labels.clone().unwrap_or_default();
            let timely = before.is_none_or(|before| made < before)
                && since.is_none_or(|since| made > since)
                && until.is_none_or(|until| made < until);
            let between = index.names_of(&image.id).is_empty() && index.has_children(&image.id);
            if !timely || !filters.labels(&labels) || (between && !options.all) {
                continue;
            }
            if let Some(mut summary) = named(&index, image, filters, dangling) {
                summary.shared = options
                    .shared_size
                    .then(|| self.shared_bytes(image, &shared));
                found.push(summary);
            }
        }
        drop(index);
        for summary in &mut found {
            let id = summary.image.id.to_string();
            summary.containers = self
                .containers()
                .all()
                .iter()
                .filter(|container| container.record().image_id == id)
                .count();
        }
        found.sort_by(|a, b| {
            b.created
                .cmp(&a.created)
                .then_with(|| a.image.id.cmp(&b.image.id))
        });
        Ok(found)
    }

    fn shared_bytes(&self, image: &Image, uses: &BTreeMap<Digest, usize>) -> u64 {
        let layers = image.config.rootfs.diff_ids.iter();
        let shared = layers.filter(|layer| uses.get(layer).is_some_and(|uses| *uses > 1));
        shared
            .filter_map(|layer| self.store().layer(layer))
            .map(|layer| layer.tar_bytes)
            .sum()
    }
}

/// The image with the names that the filters leave; `None` if they leave it out.
fn named(
    index: &Index,
    image: &Image,
    filters: &Filters,
    dangling: Option<bool>,
) -> Option<Summary> {
    let names = index.names_of(&image.id);
    let wanted =
        |name: &Reference| filters.any("reference", |pattern| reference_matches(pattern, name));
    let all = names.len();
    let kept: Vec<Reference> = names.into_iter().filter(|name| wanted(name)).collect();
    let (digests, tags): (Vec<_>, Vec<_>) =
        kept.into_iter().partition(|name| name.digest().is_some());
    if filters.has("reference") && tags.is_empty() && digests.is_empty() {
        return None;
    }
    if dangling.is_some_and(|dangling| dangling != (all == 0)) {
        return None;
    }
    let created = created(image).unwrap_or(0);
    Some(Summary {
        image: image.clone(),
        tags,
        digests,
        created,
        shared: None,
        containers: 0,
    })
}

/// Shell patterns over the familiar name, with or without the tag; `*` stops at a slash.
fn reference_matches(pattern: &str, name: &Reference) -> bool {
    let familiar = name.familiar();
    glob(pattern.as_bytes(), familiar.as_bytes())
        || glob(pattern.as_bytes(), name.familiar_name().as_bytes())
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            let stop = text.iter().position(|b| *b == b'/').unwrap_or(text.len());
            (0..=stop).any(|taken| glob(rest, &text[taken..]))
        }
        (Some((b'?', rest)), Some((found, tail))) => *found != b'/' && glob(rest, tail),
        (Some((wanted, rest)), Some((found, tail))) => wanted == found && glob(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, text, matches) in [
            ("busy*", "busybox", true),
            ("busy*:latest", "busybox:latest", true),
            ("*/*", "a/b", true),
            ("*", "a/b", false),
            ("b?x", "box", true),
            ("b?x", "b/x", false),
            ("", "", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                matches,
                "{pattern} {text}"
            );
        }
    }
}
