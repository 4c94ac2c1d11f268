//! What images, registries, clients and the engine's neighbours send to the engine.

use std::path::Path;

use lighter_images::{LayerLimits, Reference, Store, StoreOptions};

/// The layers' limits, small enough that reaching them takes no time.
const LIMITS: LayerLimits = LayerLimits {
    bytes: 1 << 20,
    ratio: 100,
    ratio_floor: 64 << 10,
    files: 1000,
    reserve: 0,
};

/// A store that is gone afterwards, in memory where there is such a folder.
fn in_store(work: impl FnOnce(&Store)) {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let dir = tempfile::tempdir_in(parent).expect("a temporary folder");
    let options = StoreOptions {
        seals: None,
        limits: LIMITS,
    };
    let store = Store::open(dir.path(), options).expect("an empty store");
    work(&store);
}

/// The tar of a layer and the index that is made of it; compressed forms as well.
pub fn layer_tar(bytes: &[u8]) {
    in_store(|store| lighter_images::fuzz::layer(store, bytes));
}

/// What `docker load` is given.
pub fn image_archive(bytes: &[u8]) {
    in_store(|store| {
        // Refused or not: what is in the store is whole.
        let _ = lighter_images::archive::load(store, bytes);
    });
}

/// Manifests, lists of manifests and configurations.
pub fn image_manifest(bytes: &[u8]) {
    lighter_images::fuzz::manifest(bytes);
}

/// Names of images as people and registries write them.
pub fn image_reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(reference) = text.parse::<Reference>() {
        let again = reference.familiar().parse::<Reference>();
        assert_eq!(
            again.as_ref(),
            Ok(&reference),
            "a name means something else when written out"
        );
    }
}

/// The body of a create: mounts, limits, options.
pub fn create_body(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice(bytes) {
        lighter_engine::fuzz::check(&request);
    }
}

/// Paths, queries and filters.
pub fn request_head(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        lighter_api::fuzz::head(text);
    }
}

/// Packets between PID 1 and the engine, read by both.
pub fn supervisor_packets(bytes: &[u8]) {
    use lighter_init::wire::{Exit, Reply, Request};
    if let Some(request) = Request::decode(bytes) {
        assert_eq!(Request::decode(&request.encode()).as_ref(), Some(&request));
    }
    if let Some(reply) = Reply::decode(bytes) {
        assert_eq!(Reply::decode(&reply.encode()).as_ref(), Some(&reply));
    }
    if let Some(exit) = Exit::decode(bytes) {
        assert_eq!(Exit::decode(&exit.encode()).as_ref(), Some(&exit));
    }
}
