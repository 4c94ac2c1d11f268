//! Work in another network namespace.

use std::future::Future;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::NetworkError;

/// What a thread that asks netlink needs of memory.
const STACK: usize = 256 << 10;

/// The same as [`on_thread`] for work that waits for netlink.
pub(crate) async fn within<T, F>(
    namespace: OwnedFd,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, NetworkError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, NetworkError>>,
{
    let there = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(NetworkError::of("starting what waits for netlink"))?
            .block_on(work())
    };
    on_thread(namespace, "network", STACK, there).await?
}

/// Does `work` on a thread of its own in a network namespace; the thread ends with it, so that
/// nobody else is ever there by mistake. `stack` is in bytes.
pub(crate) async fn on_thread<T: Send + 'static>(
    namespace: OwnedFd,
    name: &str,
    stack: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NetworkError> {
    let (done, answer) = oneshot::channel();
    let there = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(NetworkError::of("entering a network namespace"))
            .map(|()| work())
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack)
        .spawn(move || {
            // Whoever asked may have gone.
            let _ = done.send(there());
        })
        .map_err(NetworkError::of("starting a thread"))?;
    answer
        .await
        .map_err(NetworkError::of("the thread in a network namespace ended"))?
}
