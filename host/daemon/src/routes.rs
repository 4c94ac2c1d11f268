//! Where the host has routes of its own to, for the engine: networks of containers keep away from there.

use std::io;
use std::time::Duration;

use lighter_platform::sys::{self, RouteWatch};
use lighter_protocol::Route;
use tokio::sync::watch;

use crate::vm::chain;

/// Told at most: one more would be kept away from by nobody.
const MOST: usize = 4096;

/// Between two looks: a host whose routes change all the time is not read all the time.
const PAUSE: Duration = Duration::from_secs(1);

/// The routes now, and whenever they change. Empty, and no more, on a system where they are not known.
///
/// Its thread lives as long as the daemon.
#[must_use]
pub fn follow() -> watch::Receiver<Vec<Route>> {
    let (told, routes) = watch::channel(now().unwrap_or_default());
    let follow = move || -> io::Result<()> {
        let changes = RouteWatch::new()?;
        loop {
            // What changed before the watch began is seen here.
            let now = now()?;
            told.send_if_modified(|told| {
                let changed = *told != now;
                *told = now;
                changed
            });
            changes.wait()?;
            std::thread::sleep(PAUSE);
        }
    };
    let lost = |error: io::Error| match error.kind() {
        io::ErrorKind::Unsupported => tracing::debug!("this host's routes are not known"),
        _ => tracing::warn!(error = chain(&error), "this host's routes are not followed"),
    };
    let started = std::thread::Builder::new()
        .name("routes".into())
        .spawn(move || {
            if let Err(error) = follow() {
                lost(error);
            }
        });
    if let Err(error) = started {
        lost(error);
    }
    routes
}

fn now() -> io::Result<Vec<Route>> {
    let routes = sys::routes()?.into_iter().take(MOST);
    let told = routes.map(|route| Route {
        to: format!("{}/{}", route.to, route.prefix),
        direct: route.direct,
    });
    Ok(told.collect())
}
