//! What can go wrong.

/// A change of the network was refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct NetworkError {
    /// What was tried.
    what: &'static str,
    /// The kernel's answer, or that of what speaks with it.
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl NetworkError {
    /// For `map_err`.
    pub(crate) fn of<E>(what: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self {
            what,
            source: source.into(),
        }
    }
}
