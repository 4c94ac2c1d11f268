//! Giving and taking names.

use lighter_images::{Digest, Reference};

use super::with_latest;
use crate::clock::Timestamp;
use crate::db::Sync;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::images::ImageRecord;

impl Engine {
    /// `docker tag`: gives the image that `source` names the name `repository:tag`.
    ///
    /// # Errors
    ///
    /// When there is no such image, or the name is none.
    pub async fn image_tag(&self, source: &str, repository: &str, tag: &str) -> Result<()> {
        self.require_open()?;
        let target: Reference = repository.parse().map_err(invalid_reference)?;
        if target.digest().is_some() {
            return Err(Error::invalid(
                "refusing to create a tag with a digest reference",
            ));
        }
        let target = match tag {
            "" => target.with_default_tag(),
            tag => target.with_tag(tag).map_err(invalid_reference)?,
        };
        let _one = self.images().naming.lock().await;
        // Looked up only now: it cannot be removed before it has the name.
        let mut image = self.image(source)?;
        let (row, name) = (image.id.to_string(), target.to_string());
        image.tagged = Some(Timestamp::now());
        let (tagged, record) = (image.tagged, ImageRecord::of(&image));
        let write = self.db().write(Sync::Durable, move |connection| {
            connection.execute(
                "INSERT INTO image_names (name, image) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET image = excluded.image",
                (&name, &row),
            )?;
            let body = serde_json::to_string(&record)?;
            connection.execute("UPDATE images SET body = ?2 WHERE id = ?1", (&row, &body))?;
            Ok(())
        });
        write.await?;
        let mut index = self.images().lock();
        index.names.insert(target.clone(), image.id);
        index.unreadable.lose_name(&target);
        if let Some(known) = index.images.get_mut(&image.id) {
            known.tagged = tagged;
        }
        drop(index);
        self.image_event(
            "tag",
            &image.id.to_string(),
            &target.familiar(),
            Some(&image),
        );
        Ok(())
    }

    /// Takes names away; durable when this returns. The caller holds `naming`.
    pub(super) async fn take_names(&self, id: &Digest, names: &[Reference]) -> Result<()> {
        let rows: Vec<String> = names.iter().map(ToString::to_string).collect();
        let write = self.db().write(Sync::Durable, move |connection| {
            for name in &rows {
                connection.execute("DELETE FROM image_names WHERE name = ?1", [name])?;
            }
            Ok(())
        });
        write.await?;
        let mut index = self.images().lock();
        for name in names {
            index.names.remove(name);
        }
        let image = index.images.get(id).cloned();
        drop(index);
        for _ in names {
            self.image_event("untag", &id.to_string(), &id.to_string(), image.as_ref());
        }
        Ok(())
    }

    /// The name that `text` means, if the image has it as a name and not by its id.
    pub(super) fn given_name(&self, text: &str, id: &Digest) -> Result<Option<Reference>> {
        if id
            .hex()
            .starts_with(text.strip_prefix("sha256:").unwrap_or(text))
        {
            return Ok(None);
        }
        let reference: Reference = with_latest(text).parse().map_err(invalid_reference)?;
        Ok(Some(match reference.digest() {
            Some(digest) => reference.with_digest(*digest),
            None => reference,
        }))
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "map_err hands the error over"
)]
fn invalid_reference(error: lighter_images::reference::ReferenceError) -> Error {
    Error::invalid(
        format!("invalid reference format: {error}")
            .replace("invalid reference format: invalid", "invalid"),
    )
}
