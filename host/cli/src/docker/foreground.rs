//! A container with the caller's streams: attached, started, waited for.
//!
//! Called by `run`, `start` and `attach`.
//! Must never: miss output or the exit, whichever comes first.

use hyper::Method;
use serde_json::Value;

use super::Context;
use super::api::{self, Api, Failed, request, with_query};
use super::create::Attach;
use super::detach::DetachKeys;
use super::streams::{self, Ended, Join};
use crate::exit::{CliError, Code};

/// Docker's code for a `run` that failed before the container could.
pub(super) fn before_start(error: impl Into<CliError>) -> CliError {
    error.into().with_code(Code::USAGE)
}

pub(super) fn start_failed(error: Failed) -> CliError {
    match &error {
        Failed::Api(api) => {
            let code = api::start_code(&api.message);
            CliError::from(error).with_code(code)
        }
        Failed::Link(_) => before_start(error),
    }
}

/// A container whose streams are the caller's.
pub(super) struct Foreground {
    /// The container's path.
    pub target: String,
    pub streams: Attach,
    pub tty: bool,
    pub keys: DetachKeys,
    pub signals: bool,
    /// What `wait` waits for.
    pub until: &'static str,
    /// Whether it is still to be started.
    pub start: bool,
}

impl Foreground {
    /// Attaches, waits, starts: in this order, so that neither output nor exit can be missed.
    pub async fn run(self, context: &Context<'_>) -> Result<Code, CliError> {
        let api = &context.api;
        let flag = |set: bool| if set { "1".to_owned() } else { String::new() };
        let query = [
            ("stream", flag(true)),
            ("stdin", flag(self.streams.stdin)),
            ("stdout", flag(self.streams.stdout)),
            ("stderr", flag(self.streams.stderr)),
        ];
        let path = with_query(&format!("{}/attach", self.target), &query);
        let hijacked = api.hijack(&path, None).await.map_err(before_start)?;
        let path = with_query(
            &format!("{}/wait", self.target),
            &[("condition", self.until.to_owned())],
        );
        // The answer's head comes at once: from here on no exit is missed.
        let (waiting, _connection) = api
            .send(request(Method::POST, &path, api::empty()))
            .await
            .map_err(before_start)?;
        let join = Join {
            stdin: self.streams.stdin,
            tty: self.tty,
            keys: self.keys.clone(),
        };
        let joined = streams::join(hijacked, join);
        tokio::pin!(joined);
        if self.start {
            let path = format!("{}/start", self.target);
            let started = api.post(&path);
            tokio::pin!(started);
            // Output may come, and block us, before the answer to the start does.
            let mut early = None;
            let outcome = loop {
                tokio::select! {
                    outcome = &mut started => break outcome,
                    ended = &mut joined, if early.is_none() => early = Some(ended),
                }
            };
            outcome.map_err(start_failed)?;
            if let Some(ended) = early {
                return self.ended(ended?, waiting).await;
            }
        }
        let ended = self.attend(api, joined).await?;
        self.ended(ended, waiting).await
    }

    /// Until the streams end: sizes and signals go in meanwhile.
    async fn attend(
        &self,
        api: &Api,
        joined: impl Future<Output = Result<Ended, CliError>>,
    ) -> Result<Ended, CliError> {
        let size = async {
            if self.tty && lighter_platform::sys::terminal_size().is_some() {
                streams::follow_size(api, &self.target).await;
            }
            std::future::pending::<()>().await;
        };
        let signals = async {
            match self.signals && pass_signals(api, &self.target).await {
                true => (),
                false => std::future::pending().await,
            }
        };
        let told = async {
            match self.signals {
                true => std::future::pending().await,
                false => lighter_platform::sys::told_to_end().await,
            }
        };
        tokio::select! {
            ended = joined => ended,
            () = size => Ok(Ended::Remote),
            () = signals => Err(CliError::new(format!(
                "got {MOST_ENDS} SIGTERM/SIGINTs, forcefully exiting: the container runs on"
            ))),
            signal = told => Ok(Ended::Told(signal?)),
        }
    }

    async fn ended(
        &self,
        ended: Ended,
        waiting: hyper::Response<hyper::body::Incoming>,
    ) -> Result<Code, CliError> {
        if let Some(code) = ended.left() {
            return Ok(code);
        }
        let body = api::whole_body(waiting.into_body(), 1 << 20).await?;
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|error| CliError::new(format!("the engine's answer is no JSON: {error}")))?;
        if let Some(message) = answer["Error"]["Message"]
            .as_str()
            .filter(|text| !text.is_empty())
        {
            return Err(CliError::new(message).with_code(Code::USAGE));
        }
        Ok(Code::of_container(
            answer["StatusCode"].as_i64().unwrap_or(0),
        ))
    }
}

/// Signals to end after which docker's client leaves a program that does not listen to them.
const MOST_ENDS: u32 = 3;

/// Passes signals on; true once it was told to end so often that it should.
async fn pass_signals(api: &Api, target: &str) -> bool {
    let Ok(mut signals) = lighter_platform::sys::forwarded_signals() else {
        return false;
    };
    let mut ends = 0;
    while let Some(name) = signals.recv().await {
        ends += u32::from(matches!(name, "INT" | "TERM"));
        if ends == MOST_ENDS {
            return true;
        }
        let path = with_query(&format!("{target}/kill"), &[("signal", name.to_owned())]);
        // One that ended just now has no use for it.
        let _ = api.post(&path).await;
    }
    false
}
