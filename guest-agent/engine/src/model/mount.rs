//! Mounts as a request names them and as inspect shows them.

use std::collections::BTreeMap;

use super::{is_false, wire};

wire! {
    /// A mount in the long form (`--mount`).
    pub struct MountRequest {
        /// `bind`, `volume`, `tmpfs`, `image`, ….
        #[serde(rename = "Type")]
        pub kind: String,
        /// Path or volume name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub source: String,
        /// Path in the container.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub target: String,
        /// Whether it cannot be written.
        #[serde(skip_serializing_if = "is_false")]
        pub read_only: bool,
        /// Kept for the round trip: `consistent`, `cached`, `delegated`.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub consistency: String,
        /// Options of a bind.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub bind_options: Option<BindOptions>,
        /// Options of a volume.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub volume_options: Option<VolumeOptions>,
        /// Options of an image mount.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub image_options: Option<serde_json::Value>,
        /// Options of a temporary file system.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub tmpfs_options: Option<TmpfsOptions>,
    }
}

wire! {
    /// Options of a bind.
    pub struct BindOptions {
        /// How mount events pass.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub propagation: String,
        /// Leave out mounts below the source.
        #[serde(skip_serializing_if = "is_false")]
        pub non_recursive: bool,
        /// Make the source if it is missing.
        #[serde(skip_serializing_if = "is_false")]
        pub create_mountpoint: bool,
        /// Read-only for the mount itself, not those below it.
        #[serde(skip_serializing_if = "is_false")]
        pub read_only_non_recursive: bool,
        /// Fail if those below cannot be made read-only.
        #[serde(skip_serializing_if = "is_false")]
        pub read_only_force_recursive: bool,
    }
}

wire! {
    /// Options of a volume.
    pub struct VolumeOptions {
        /// Do not fill an empty volume with what the image has at that path.
        #[serde(skip_serializing_if = "is_false")]
        pub no_copy: bool,
        /// Labels of a volume that is made.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub labels: Option<BTreeMap<String, String>>,
        /// A folder of the volume instead of all of it.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub subpath: String,
        /// Driver of a volume that is made.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub driver_config: Option<VolumeDriver>,
    }
}

wire! {
    /// A volume's driver.
    pub struct VolumeDriver {
        /// Name.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        /// Options.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub options: Option<BTreeMap<String, String>>,
    }
}

wire! {
    /// Options of a temporary file system.
    pub struct TmpfsOptions {
        /// Upper bound in bytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub size_bytes: Option<i64>,
        /// Permission bits of its root.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub mode: Option<u32>,
        /// Further options, each a list of a key and perhaps a value.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub options: Option<Vec<Vec<String>>>,
    }
}

wire! {
    /// A mount as inspect shows it.
    pub struct MountPoint {
        /// `bind`, `volume` or `tmpfs`.
        #[serde(rename = "Type")]
        pub kind: String,
        /// Name of the volume.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String,
        /// Where it comes from.
        pub source: String,
        /// Where it is in the container.
        pub destination: String,
        /// Driver of the volume.
        #[serde(skip_serializing_if = "String::is_empty")]
        pub driver: String,
        /// Options as the user wrote them.
        pub mode: String,
        /// Whether it can be written.
        #[serde(rename = "RW")]
        pub rw: bool,
        /// How mount events pass.
        pub propagation: String,
    }
}
