//! The engine's objects as Docker's API describes them: parsed from requests, kept in the
//! database, shown by inspect.
//!
//! Every field may be absent or null in a request and is always emitted, except those Docker
//! itself omits. `None` and an empty list are different things on the wire and are kept apart.

pub mod caseless;
mod config;
mod host_config;
mod mount;
mod network;

pub use config::{Config, CreateRequest, StrSlice};
pub use host_config::{
    BlkioThrottleDevice, BlkioWeightDevice, DeviceMapping, DeviceRequest, HostConfig, LogConfig,
    PortBinding, RestartPolicy, Ulimit,
};
pub use lighter_images::config::{Empty, Healthcheck};
pub use mount::{BindOptions, MountPoint, MountRequest, TmpfsOptions, VolumeDriver, VolumeOptions};
pub use network::{EndpointIpam, EndpointSettings, NetworkingConfig};

use serde::{Deserialize, Deserializer};

/// Reads null as the default.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

pub(crate) fn is_false(value: &bool) -> bool {
    !value
}

/// Declares a struct of the wire: Docker's names, every field optional and nullable in requests.
macro_rules! wire {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $($(#[$field_meta])*
            #[serde(deserialize_with = "crate::model::null_default")]
            pub $field: $type,)*
        }
    };
}
pub(crate) use wire;
