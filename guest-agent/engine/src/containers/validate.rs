//! What create refuses, in Docker's words.

use super::{limits, modes, signals};
use crate::error::{Error, Kind, Result};
use crate::model::{Config, HostConfig};

/// Checks what can be checked without looking at other objects.
pub(crate) fn check(config: &Config, host_config: &HostConfig) -> Result<()> {
    check_config(config)?;
    limits::check(host_config)?;
    check_policy(host_config)?;
    check_security(host_config)?;
    modes::check(host_config)?;
    check_missing_features(host_config)?;
    if host_config.uts_mode == "host" && !config.hostname.is_empty() {
        return Err(Error::invalid(
            "conflicting options: hostname and the UTS mode",
        ));
    }
    if host_config.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    if !(-1000..=1000).contains(&host_config.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host_config.oom_score_adj
        )));
    }
    Ok(())
}

fn check_config(config: &Config) -> Result<()> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if let Some(pair) = config
        .env
        .iter()
        .flatten()
        .find(|pair| pair.starts_with('=') || pair.is_empty())
    {
        return Err(Error::invalid(format!(
            "invalid environment variable: {pair}"
        )));
    }
    if !config.stop_signal.is_empty() {
        signals::parse(&config.stop_signal)?;
    }
    if let Some(health) = &config.healthcheck {
        for (what, value) in [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
        ] {
            if value != 0 && value < 1_000_000 {
                return Err(Error::invalid(format!(
                    "{what} in Healthcheck cannot be less than 1ms"
                )));
            }
        }
        if health.retries < 0 {
            return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
        }
    }
    Ok(())
}

pub(super) fn check_policy(host_config: &HostConfig) -> Result<()> {
    let policy = &host_config.restart_policy;
    let count = policy.maximum_retry_count;
    let text = match policy.name.as_str() {
        "no" | "always" | "unless-stopped" if count != 0 => {
            "invalid restart policy: maximum retry count can only be used with 'on-failure'".into()
        }
        "on-failure" if count < 0 => {
            "invalid restart policy: maximum retry count cannot be negative".into()
        }
        "always" | "unless-stopped" | "on-failure" if host_config.auto_remove => {
            "can't create 'AutoRemove' container with restart policy".into()
        }
        "no" | "always" | "unless-stopped" | "on-failure" => return Ok(()),
        other => format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', \
             'on-failure', or 'unless-stopped'"
        ),
    };
    Err(Error::invalid(text))
}

fn check_security(host_config: &HostConfig) -> Result<()> {
    for (field, list) in [
        ("CapAdd", &host_config.cap_add),
        ("CapDrop", &host_config.cap_drop),
    ] {
        lighter_runtime::caps::normalise(list.as_deref().unwrap_or_default())
            .map_err(|error| Error::invalid(format!("invalid {field}: {error}")))?;
    }
    security_options(host_config).map(drop)
}

/// What `SecurityOpt` comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp: lighter_runtime::Seccomp,
}

pub(crate) fn security_options(host_config: &HostConfig) -> Result<Security> {
    let mut security = Security::default();
    for option in host_config.security_opt.iter().flatten() {
        let (key, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .unwrap_or((option.as_str(), ""));
        match (key, value) {
            ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
            ("no-new-privileges", "false") => security.no_new_privileges = false,
            ("seccomp", "unconfined") => security.seccomp = lighter_runtime::Seccomp::Unconfined,
            ("seccomp", "builtin") => security.seccomp = lighter_runtime::Seccomp::Default,
            ("seccomp", profile) => {
                security.seccomp = lighter_runtime::Seccomp::Profile(profile.to_owned());
            }
            // Neither SELinux nor AppArmor is in this kernel: there is nothing to switch off.
            ("label", _) | ("apparmor", "unconfined") | ("systempaths", "unconfined") => {}
            ("apparmor", profile) => {
                return Err(Error::unsupported(format!(
                    "AppArmor is not supported by this engine's kernel: profile \"{profile}\""
                )));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "invalid --security-opt 2: \"{option}\""
                )));
            }
        }
    }
    if host_config.privileged && security.seccomp == lighter_runtime::Seccomp::Default {
        security.seccomp = lighter_runtime::Seccomp::Unconfined;
    }
    Ok(security)
}

fn check_missing_features(host_config: &HostConfig) -> Result<()> {
    if let Some(request) = host_config.device_requests.iter().flatten().next() {
        let sets = request.capabilities.iter().flatten();
        let sets: Vec<String> = sets.map(|set| format!("[{}]", set.join(" "))).collect();
        return Err(Error::invalid(format!(
            "could not select device driver \"{}\" with capabilities: [{}]",
            request.driver,
            sets.join(" ")
        )));
    }
    if !matches!(host_config.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host_config.isolation
        )));
    }
    if !matches!(
        host_config.runtime.as_str(),
        "runc" | "io.containerd.runc.v2"
    ) {
        return Err(Error::new(
            Kind::InvalidArgument,
            format!("unknown or invalid runtime name: {}", host_config.runtime),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn result(config: &str, host_config: &str) -> String {
        let config: Config = serde_json::from_str(config).unwrap();
        let mut host_config: HostConfig = serde_json::from_str(host_config).unwrap();
        super::super::defaults::adapt(&mut host_config, &Settings::default());
        check(&config, &host_config).map_or_else(|error| error.text(), |()| "ok".into())
    }

    #[test]
    fn wrong_requests_are_refused_in_dockers_words() {
        for (config, host, text) in [
            ("{}", "{}", "ok"),
            (
                "{}",
                r#"{"Memory":1000}"#,
                "Minimum memory limit allowed is 6MB",
            ),
            (
                "{}",
                r#"{"NanoCpus":1000000000,"CpuPeriod":1000}"#,
                "Nano CPUs and CPU Period",
            ),
            (
                "{}",
                r#"{"RestartPolicy":{"Name":"bogus"}}"#,
                "unknown policy 'bogus'",
            ),
            (
                "{}",
                r#"{"RestartPolicy":{"Name":"always"},"AutoRemove":true}"#,
                "'AutoRemove'",
            ),
            ("{}", r#"{"CapAdd":["NOPE"]}"#, "invalid CapAdd"),
            (
                "{}",
                r#"{"SecurityOpt":["bogus"]}"#,
                "invalid --security-opt 2",
            ),
            (
                "{}",
                r#"{"Runtime":"kata"}"#,
                "unknown or invalid runtime name: kata",
            ),
            (
                r#"{"WorkingDir":"x"}"#,
                "{}",
                "it needs to be an absolute path",
            ),
            (
                r#"{"Env":["=x"]}"#,
                "{}",
                "invalid environment variable: =x",
            ),
            (r#"{"StopSignal":"NOPE"}"#, "{}", "invalid signal: NOPE"),
        ] {
            let said = result(config, host);
            assert!(said.contains(text), "{said}");
        }
    }
}
