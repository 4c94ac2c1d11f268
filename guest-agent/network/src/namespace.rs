//! Work in another network namespace.

use std::future::Future;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::NetworkError;

/// Does `work` on a thread of its own in a network namespace; the thread ends with it, so that nobody else is
/// ever there by mistake.
pub(crate) async fn within<T, F>(
    namespace: OwnedFd,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, NetworkError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, NetworkError>>,
{
    let (done, answer) = oneshot::channel();
    let there = move || -> Result<T, NetworkError> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(NetworkError::of("entering a network namespace"))?;
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(NetworkError::of("starting what waits for netlink"))?
            .block_on(work())
    };
    std::thread::Builder::new()
        .name("network".into())
        .stack_size(256 << 10)
        .spawn(move || {
            // Whoever asked may have gone.
            let _ = done.send(there());
        })
        .map_err(NetworkError::of("starting a thread"))?;
    answer
        .await
        .map_err(NetworkError::of("the thread in a network namespace ended"))?
}
