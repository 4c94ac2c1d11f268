//! Doors for `tests/fuzz`: what takes hostile bytes in and is private otherwise.

use crate::layer::PendingLayer;
use crate::manifest::{Document, Platform};
use crate::{ImageConfig, Store};

/// Takes a layer in, as a pull does; it is gone afterwards.
pub fn layer(store: &Store, bytes: &[u8]) {
    drop(PendingLayer::receive(store, bytes));
}

/// Reads a manifest, an index and a configuration, whichever it is.
pub fn manifest(bytes: &[u8]) {
    for kind in ["", crate::manifest::OCI_INDEX, "application/json"] {
        if let Ok(Document::Index(index)) = Document::parse(bytes, kind) {
            let _ = Platform::native().choose(&index.manifests);
        }
    }
    drop(ImageConfig::parse(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Platform::parse(text);
    }
}
