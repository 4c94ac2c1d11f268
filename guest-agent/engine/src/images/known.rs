//! What registries call our layers. Kept so that a push names what is there instead of sending it;
//! losing it costs time, nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lighter_images::Digest;
use lighter_images::registry::KnownBlob;

use crate::db::Sync;
use crate::engine::Engine;
use crate::error::Result;

/// So many are remembered of a layer; of a base image's there could be any number.
const MOST: usize = 32;

/// By diff_id, the latest first.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Digest, Vec<KnownBlob>>>);

impl Known {
    /// What is known of these layers.
    pub(super) fn of(&self, layers: &[Digest]) -> HashMap<Digest, Vec<KnownBlob>> {
        let all = self.lock();
        let found = layers.iter().filter_map(|layer| {
            let blobs = all.get(layer)?;
            Some((*layer, blobs.clone()))
        });
        found.collect()
    }

    /// Remembers one as the latest; what is forgotten for it, and whether it is news.
    fn add(&self, layer: Digest, blob: &KnownBlob) -> (Option<KnownBlob>, bool) {
        let mut all = self.lock();
        let blobs = all.entry(layer).or_default();
        let before = blobs.iter().position(|known| known == blob);
        if let Some(at) = before {
            blobs.remove(at);
        }
        blobs.insert(0, blob.clone());
        let forgotten = (blobs.len() > MOST).then(|| blobs.pop()).flatten();
        (forgotten, before.is_none())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Vec<KnownBlob>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Reads what is known; called once, while the engine opens.
    pub(super) async fn load_known(&self) -> Result<()> {
        let rows = self.db().write(Sync::Lazy, |connection| {
            let order = "SELECT layer, body FROM known_blobs ORDER BY rowid";
            let mut statement = connection.prepare(order)?;
            let pair = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let rows: Vec<(String, String)> = statement
                .query_map([], pair)?
                .collect::<std::result::Result<_, _>>()?;
            Ok(rows)
        });
        for (layer, body) in rows.await? {
            // One that cannot be read is one that is not known.
            if let (Ok(layer), Ok(blob)) = (layer.parse(), serde_json::from_str(&body)) {
                self.images().known.add(layer, &blob);
            }
        }
        Ok(())
    }

    /// Remembers what a registry calls these layers.
    pub(super) fn remember_blobs(&self, layers: &[(Digest, KnownBlob)]) {
        for (layer, blob) in layers {
            let (forgotten, is_new) = self.images().known.add(*layer, blob);
            if !is_new {
                continue;
            }
            let (row, blob) = (layer.to_string(), blob.clone());
            self.db().write_behind(move |connection| {
                connection.execute(
                    "INSERT OR IGNORE INTO known_blobs (layer, body) VALUES (?1, ?2)",
                    (&row, &serde_json::to_string(&blob)?),
                )?;
                if let Some(old) = forgotten {
                    connection.execute(
                        "DELETE FROM known_blobs WHERE layer = ?1 AND body = ?2",
                        (&row, &serde_json::to_string(&old)?),
                    )?;
                }
                Ok(())
            });
        }
    }

    /// Forgets layers that are gone.
    pub(super) fn forget_blobs(&self, layers: &[Digest]) {
        for layer in layers {
            if self.images().known.lock().remove(layer).is_some() {
                let row = layer.to_string();
                self.db().write_behind(move |connection| {
                    connection.execute("DELETE FROM known_blobs WHERE layer = ?1", [&row])?;
                    Ok(())
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_is_first_and_the_oldest_is_forgotten() {
        let (known, layer) = (Known::default(), Digest::of(b"layer"));
        let blob = |number: usize| KnownBlob {
            digest: Digest::of(number.to_string().as_bytes()),
            size: 1,
            registry: "r".into(),
            repository: "a".into(),
        };
        for number in 0..MOST {
            assert_eq!(known.add(layer, &blob(number)), (None, true));
        }
        assert_eq!(known.add(layer, &blob(0)), (None, false));
        assert_eq!(known.add(layer, &blob(MOST)), (Some(blob(1)), true));
        let found = &known.of(&[layer, Digest::of(b"other")]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[&layer][..2], [blob(MOST), blob(0)]);
        assert_eq!(found[&layer].len(), MOST);
    }
}
