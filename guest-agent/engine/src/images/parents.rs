//! The image that another was made on by a commit: dockerd keeps it as long as there is such a child.
//!
//! Read by inspect, list, history, removal and prune, and by the list of containers. Only a commit makes a child; an image that was
//! pulled or loaded has no parent.

use std::collections::BTreeSet;

use lighter_images::Digest;

use super::{Image, Index};
use crate::engine::Engine;

impl Index {
    /// Whether another image was made on this one.
    pub(super) fn has_children(&self, id: &Digest) -> bool {
        self.images
            .values()
            .any(|image| image.parent.as_ref() == Some(id))
    }
}

impl Engine {
    /// The image and those it was made on, the nearest first.
    #[must_use]
    pub fn image_ancestry(&self, image: &Image) -> Vec<Image> {
        let index = self.images().lock();
        let mut line = vec![image.clone()];
        // A damaged record must not lead round and round.
        while let Some(parent) = line.last().and_then(|image| image.parent)
            && let Some(parent) = index.images.get(&parent)
            && line.iter().all(|known| known.id != parent.id)
        {
            line.push(parent.clone());
        }
        line
    }

    /// These images with all that were made on them, one upon the other.
    pub(crate) fn with_descendants(&self, mut line: BTreeSet<Digest>) -> BTreeSet<Digest> {
        let index = self.images().lock();
        let child = |line: &BTreeSet<Digest>, image: &Image| {
            let parent = image.parent.as_ref();
            parent.is_some_and(|parent| line.contains(parent)) && !line.contains(&image.id)
        };
        loop {
            let images = index.images.values();
            let next: Vec<Digest> = images
                .filter(|image| child(&line, image))
                .map(|image| image.id)
                .collect();
            if next.is_empty() {
                return line;
            }
            line.extend(next);
        }
    }

    pub(super) fn has_children(&self, id: &Digest) -> bool {
        self.images().lock().has_children(id)
    }
}
