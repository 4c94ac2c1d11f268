//! Ours beside dockerd: the same commands by the same client, the same words back.

mod bodies;
mod default_bridge;
mod files;
mod generations;
mod layers;
mod limits;
mod links;
mod living;
mod naming;
mod networks;
mod normal;
mod ports;
mod pushing;
mod running;
mod script;
mod storing;
mod users;
mod walls;
mod wire;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use lighter_tests::{Host, Reference};

/// Both engines, with the same image under the name `busybox`.
struct Both {
    ours: &'static Host,
    reference: Mutex<Reference>,
}

impl Both {
    /// The reference, one test at a time; a test that failed leaves it usable.
    fn reference(&self) -> MutexGuard<'_, Reference> {
        self.reference
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

static BOTH: OnceLock<Option<Both>> = OnceLock::new();

fn both(test: &str) -> Option<&'static Both> {
    let both = BOTH.get_or_init(|| {
        let ours = Host::shared(test)?;
        let reference = Reference::start(test)?;
        at_exit();
        let archive = ours.home().join("busybox.tar");
        let name = archive.display().to_string();
        ours.docker(&["save", "-o", &name, "busybox"]).ok();
        reference.docker(&["load", "-i", &name]).ok();
        // Ours comes with this name.
        reference.docker(&["tag", "busybox", "lighter/hello"]).ok();
        Some(Both {
            ours,
            reference: Mutex::new(reference),
        })
    });
    if both.is_none() {
        lighter_tests::env::skip(test, "there is nothing to compare");
    }
    both.as_ref()
}

/// The reference sits in a static, which is never dropped: end it when the tests end.
fn at_exit() {
    extern "C" fn stop() {
        if let Some(Some(both)) = BOTH.get() {
            both.reference().stop();
        }
    }
    lighter_tests::at_exit::call(stop);
}
