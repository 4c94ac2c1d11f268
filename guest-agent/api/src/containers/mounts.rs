//! Mounts as list and inspect show them.

use lighter_engine::Engine;
use lighter_engine::containers::Record;
use lighter_engine::model::MountPoint;
use lighter_engine::mounts::{Mount, Source};

/// The mounts of a container. Temporary file systems of `--tmpfs` are not among them, as in
/// dockerd; those of `--mount` are, with an empty source.
pub(super) fn points(engine: &Engine, record: &Record) -> Vec<MountPoint> {
    let short = |mount: &&Mount| {
        let tmpfs = record.host_config.tmpfs.iter().flatten();
        tmpfs
            .map(|(path, _)| path.trim_end_matches('/'))
            .all(|path| path != mount.destination)
    };
    record
        .mounts
        .iter()
        .filter(short)
        .map(|mount| point(engine, mount))
        .collect()
}

fn point(engine: &Engine, mount: &Mount) -> MountPoint {
    let mut point = MountPoint {
        kind: mount.kind().into(),
        destination: mount.destination.clone(),
        mode: mount.mode.clone(),
        rw: !mount.read_only,
        propagation: mount.propagation.clone(),
        ..MountPoint::default()
    };
    match &mount.source {
        Source::Volume { name, .. } => {
            point.name.clone_from(name);
            point.source = engine.volume_path(name).display().to_string();
            point.driver = "local".into();
        }
        Source::Bind { path, .. } => {
            point.source.clone_from(path);
            if point.propagation.is_empty() {
                point.propagation = "rprivate".into();
            }
        }
        Source::Tmpfs { .. } => point.mode.clear(),
    }
    point
}
