//! Images of the database that cannot be read: their record is broken, or their configuration lost.
//!
//! They cannot be run, listed or saved. A pull or load of the same image heals them; `docker rmi` by id
//! or name removes them. Until then nothing is collected that they may have.

use std::collections::BTreeMap;
use std::sync::Arc;

use lighter_images::{Digest, ImageConfig, Reference};

use super::remove::{Removed, with_digests};
use super::{ImageRecord, with_latest};
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// Those images, by the id in the database, whatever that is.
#[derive(Default)]
pub(super) struct Unreadable {
    /// Their layers, where anything says which these are.
    images: BTreeMap<String, Option<Vec<Digest>>>,
    names: BTreeMap<Reference, String>,
}

impl Unreadable {
    pub(super) fn add(&mut self, id: String, layers: Option<Vec<Digest>>) {
        self.images.insert(id, layers);
    }

    /// Notes a name if it is one of these images'.
    pub(super) fn add_name(&mut self, name: Reference, id: String) {
        if self.images.contains_key(&id) {
            self.names.insert(name, id);
        }
    }

    /// The name is another image's now.
    pub(super) fn lose_name(&mut self, name: &Reference) {
        self.names.remove(name);
    }

    /// The image is readable again, or gone; the names it had.
    pub(super) fn remove(&mut self, id: &str) -> Vec<Reference> {
        self.images.remove(id);
        let names = self.names_of(id);
        self.names.retain(|_, image| image != id);
        names
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &String> {
        self.images.keys()
    }

    /// Every layer these images have; none if that cannot be said.
    pub(super) fn layers(&self) -> Option<Vec<Digest>> {
        let lists: Option<Vec<&Vec<Digest>>> = self.images.values().map(Option::as_ref).collect();
        Some(lists?.into_iter().flatten().copied().collect())
    }

    fn names_of(&self, id: &str) -> Vec<Reference> {
        let names = self.names.iter().filter(|(_, image)| *image == id);
        names.map(|(name, _)| name.clone()).collect()
    }

    /// The id of the image that `text` means, and its name if it is meant by that.
    fn find(&self, text: &str) -> Result<Option<(String, Option<Reference>)>> {
        let named = with_latest(text).parse::<Reference>().ok();
        let named = named.map(|name| match name.digest() {
            Some(digest) => name.with_digest(*digest),
            None => name,
        });
        if let Some(name) = named
            && let Some(id) = self.names.get(&name)
        {
            return Ok(Some((id.clone(), Some(name))));
        }
        let bare = text.strip_prefix("sha256:").unwrap_or(text);
        let meant = |id: &&String| {
            let hex = id.strip_prefix("sha256:").unwrap_or(id);
            !bare.is_empty() && hex.starts_with(bare)
        };
        let mut found = self.images.keys().filter(meant);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(id), None) => Ok(Some((id.clone(), None))),
            (Some(_), Some(_)) => Err(Error::invalid(format!("image {text} is ambiguous"))),
        }
    }
}

impl Engine {
    /// What is known of the layers of an image that cannot be read: from its record, or from its
    /// configuration if that is what can be.
    pub(super) fn layers_left(&self, id: &str, body: &str) -> Option<Vec<Digest>> {
        let said = serde_json::from_str::<ImageRecord>(body).ok();
        said.and_then(|record| record.layers).or_else(|| {
            let bytes = self.store().read_blob(&id.parse().ok()?).ok()?;
            Some(ImageConfig::parse(&bytes).ok()?.rootfs.diff_ids)
        })
    }

    /// Removes a name of an image that cannot be read, and with its last one, or by its id, the
    /// image; none if `text` means no such image. The caller holds `naming`.
    pub(super) async fn remove_unreadable(
        self: &Arc<Self>,
        text: &str,
        force: bool,
    ) -> Result<Option<Vec<Removed>>> {
        let found = self.images().lock().unreadable.find(text)?;
        let Some((id, name)) = found else {
            return Ok(None);
        };
        let names = self.images().lock().unreadable.names_of(&id);
        let gone = match &name {
            Some(name) => with_digests(name, &names),
            None => names.clone(),
        };
        let whole = gone.len() == names.len();
        if whole && let Ok(digest) = id.parse::<Digest>() {
            self.refuse_in_use(&digest, &names, force)?;
        }
        let rows: Vec<String> = gone.iter().map(ToString::to_string).collect();
        let row = id.clone();
        let write = self.db().write(Sync::Durable, move |connection| {
            for name in &rows {
                connection.execute("DELETE FROM image_names WHERE name = ?1", [name])?;
            }
            if whole {
                connection.execute("DELETE FROM image_names WHERE image = ?1", [&row])?;
                connection.execute("DELETE FROM images WHERE id = ?1", [&row])?;
            }
            Ok(())
        });
        write.await?;
        let untagged = gone.iter().map(|name| Removed::Untagged(name.familiar()));
        let mut removed: Vec<Removed> = untagged.collect();
        let mut index = self.images().lock();
        gone.iter()
            .for_each(|name| index.unreadable.lose_name(name));
        if whole {
            index.unreadable.remove(&id);
        }
        drop(index);
        for _ in &gone {
            self.image_event("untag", &id, &id, None);
        }
        if whole {
            self.image_event("delete", &id, &id, None);
            removed.push(Removed::Deleted(id));
        }
        Ok(Some(removed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::of(&[byte])
    }

    #[test]
    fn found_by_name_and_by_the_beginning_of_the_id() {
        let mut lost = Unreadable::default();
        let id = digest(1).to_string();
        lost.add(id.clone(), None);
        lost.add("no digest at all".into(), Some(Vec::new()));
        let name: Reference = "lost:latest".parse().unwrap();
        lost.add_name(name.clone(), id.clone());
        lost.add_name("other:1".parse().unwrap(), digest(2).to_string());
        let short = id["sha256:".len()..][..12].to_owned();
        for (text, named) in [
            ("lost", true),
            ("lost:latest", true),
            (&id, false),
            (&short, false),
        ] {
            let found = lost.find(text).unwrap();
            assert_eq!(
                found,
                Some((id.clone(), named.then(|| name.clone()))),
                "{text}"
            );
        }
        assert!(lost.find("no digest at all").unwrap().is_some());
        for text in ["other:1", "lost:2", "nobody", ""] {
            assert_eq!(lost.find(text).unwrap(), None, "{text}");
        }
        assert_eq!(lost.remove(&id), [name]);
        assert_eq!(lost.find("lost").unwrap(), None);
    }

    #[test]
    fn layers_are_all_known_or_none_is() {
        let mut lost = Unreadable::default();
        assert_eq!(lost.layers(), Some(Vec::new()));
        lost.add("a".into(), Some(vec![digest(1)]));
        lost.add("b".into(), Some(vec![digest(2)]));
        assert_eq!(lost.layers(), Some(vec![digest(1), digest(2)]));
        lost.add("c".into(), None);
        assert_eq!(lost.layers(), None);
    }
}
