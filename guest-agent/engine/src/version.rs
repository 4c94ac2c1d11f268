//! What the engine calls itself. Clients gate features on these, so they follow Docker's scheme.

/// The newest version of the API.
pub const API: &str = "1.51";
/// The oldest version of the API.
pub const MINIMUM_API: &str = "1.24";
/// The engine's version: parsed as a semantic version by buildx, Compose and IDEs; the first part
/// is the Docker release whose behaviour is followed.
pub const ENGINE: &str = "28.5.2-lighter";
