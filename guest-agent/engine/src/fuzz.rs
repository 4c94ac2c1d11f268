//! Doors for `tests/fuzz`: what judges a client's wishes and is private otherwise.

use crate::containers::validate;
use crate::model::CreateRequest;
use crate::mounts::{self, Source};

/// Everything a create checks without looking at other objects.
///
/// # Panics
///
/// If a mount that passed could lead out of the container's root or name no volume.
pub fn check(request: &CreateRequest) {
    let (config, host_config) = (&request.config, &request.host_config);
    drop(validate::check(config, host_config));
    drop(validate::security_options(host_config));
    let asked = mounts::Request {
        config,
        host_config,
        from_others: Vec::new(),
        sizes: true,
    };
    for mount in mounts::normalise(&asked).into_iter().flatten() {
        let path = &mount.destination;
        let clean = path.starts_with('/') && !path.split('/').any(|part| part == "..");
        assert!(clean && !path.contains('\0'), "destination {path:?}");
        if let Source::Volume { name, .. } = &mount.source {
            assert!(!name.contains(['/', '\0']), "volume {name:?}");
        }
    }
}
