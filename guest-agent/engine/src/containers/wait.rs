//! Wait: the end of a container, by subscription.

use std::future::Future;

use super::Container;
use crate::engine::Engine;
use crate::error::{Error, Result};

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// That it does not run; at once if it does not now. The end of a run is enough, also where
    /// a restart policy begins the next.
    NotRunning,
    /// The end of a run, also of one that has not begun.
    NextExit,
    /// That it is gone.
    Removed,
}

impl Condition {
    /// Reads the parameter of the API.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "" | "not-running" => Ok(Self::NotRunning),
            "next-exit" => Ok(Self::NextExit),
            "removed" => Ok(Self::Removed),
            other => Err(Error::invalid(format!("invalid condition: \"{other}\""))),
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waited {
    /// The exit code.
    pub code: i32,
    /// What went wrong, if it did not end by itself.
    pub error: String,
}

impl Engine {
    /// Subscribes now; the future ends when the condition holds.
    pub fn container_wait(
        &self,
        reference: &str,
        condition: Condition,
    ) -> Result<impl Future<Output = Waited> + Send + use<>> {
        let container = self.containers().find(reference)?;
        Ok(wait(&container, condition))
    }
}

fn wait(
    container: &Container,
    condition: Condition,
) -> impl Future<Output = Waited> + Send + use<> {
    let mut watch = container.watch();
    let before = watch.borrow().exits;
    async move {
        let held = watch
            .wait_for(|state| {
                state.removed
                    || match condition {
                        Condition::NotRunning => {
                            let status = state.run.status;
                            state.exits > before
                                || !status.is_running() && status != super::Status::Restarting
                        }
                        Condition::NextExit => state.exits > before,
                        Condition::Removed => false,
                    }
            })
            .await;
        match held {
            // Of the run that ended: by now the next one may have begun.
            Ok(state) => Waited {
                code: state.last_exit.0,
                error: state.last_exit.1.clone(),
            },
            Err(_) => Waited {
                code: 0,
                error: "the engine is going down".into(),
            },
        }
    }
}
