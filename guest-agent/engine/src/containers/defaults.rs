//! What a create request leaves open: taken from the image, then from the engine's settings.

use std::collections::BTreeMap;

use lighter_images::config::RunConfig;

use super::modes;
use crate::config::Settings;
use crate::model::{Config, HostConfig, StrSlice};

/// Fills `config` with what the image says and the request does not.
pub(crate) fn merge_image(config: &mut Config, image: &RunConfig) {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    if config.exposed_ports.as_ref().is_none_or(BTreeMap::is_empty) {
        config.exposed_ports.clone_from(&image.exposed_ports);
    } else if let Some(ports) = &image.exposed_ports {
        let own = config.exposed_ports.get_or_insert_default();
        ports.iter().for_each(|(port, empty)| {
            own.entry(port.clone()).or_insert(*empty);
        });
    }
    merge_env(config, image);
    for (key, value) in image.labels.iter().flatten() {
        config
            .labels
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    if empty(config.entrypoint.as_ref()) {
        if empty(config.cmd.as_ref()) {
            config.cmd = image.cmd.clone().map(StrSlice);
            config.args_escaped = image.args_escaped;
        }
        if config.entrypoint.is_none() {
            config.entrypoint = image.entrypoint.clone().map(StrSlice);
        }
    }
    // `--entrypoint ""` is a list of one empty word and means none, the image's neither.
    if config
        .entrypoint
        .as_ref()
        .is_some_and(|words| words.0 == [""])
    {
        config.entrypoint = None;
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if config.volumes.as_ref().is_none_or(BTreeMap::is_empty) {
        config.volumes.clone_from(&image.volumes);
    } else if let Some(volumes) = &image.volumes {
        let own = config.volumes.get_or_insert_default();
        own.extend(volumes.iter().map(|(path, empty)| (path.clone(), *empty)));
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    merge_health(config, image);
}

fn empty(words: Option<&StrSlice>) -> bool {
    words.is_none_or(|words| words.0.is_empty())
}

fn merge_env(config: &mut Config, image: &RunConfig) {
    let Some(from_image) = image.env.as_ref().filter(|env| !env.is_empty()) else {
        return;
    };
    let own = config.env.get_or_insert_default();
    let key = |pair: &str| {
        pair.split_once('=')
            .map_or(pair.to_owned(), |(key, _)| key.to_owned())
    };
    let known: Vec<String> = own.iter().map(|pair| key(pair)).collect();
    own.extend(
        from_image
            .iter()
            .filter(|pair| !known.contains(&key(pair)))
            .cloned(),
    );
}

fn merge_health(config: &mut Config, image: &RunConfig) {
    let Some(from_image) = &image.healthcheck else {
        return;
    };
    let Some(own) = &mut config.healthcheck else {
        config.healthcheck = Some(from_image.clone());
        return;
    };
    if own.test.as_ref().is_none_or(Vec::is_empty) {
        own.test.clone_from(&from_image.test);
    }
    for (own, from_image) in [
        (&mut own.interval, from_image.interval),
        (&mut own.timeout, from_image.timeout),
        (&mut own.start_period, from_image.start_period),
        (&mut own.start_interval, from_image.start_interval),
        (&mut own.retries, from_image.retries),
    ] {
        if *own == 0 {
            *own = from_image;
        }
    }
}

/// Fills `host_config` with what dockerd fills in, so that inspect shows what is in force.
pub(super) fn adapt(host_config: &mut HostConfig, settings: &Settings) {
    if matches!(host_config.network_mode.as_str(), "" | "default") {
        host_config.network_mode = "bridge".into();
    }
    if modes::is_user_defined(&host_config.network_mode) {
        // The endpoint has them, and nobody shows them twice.
        host_config.links = None;
    }
    for (mode, default) in [
        (&mut host_config.ipc_mode, "private"),
        (&mut host_config.cgroupns_mode, "private"),
    ] {
        if mode.is_empty() {
            *mode = default.into();
        }
    }
    let shares = |mode: &str| mode == "host";
    if host_config.security_opt.is_none()
        && (host_config.privileged
            || shares(&host_config.ipc_mode)
            || shares(&host_config.pid_mode))
    {
        host_config.security_opt = Some(vec!["label=disable".into()]);
    }
    if host_config.shm_size == 0 {
        host_config.shm_size = i64::try_from(lighter_runtime::defaults::SHM_SIZE).unwrap_or(0);
    }
    if host_config.log_config.kind.is_empty() {
        let driver = &settings.log_driver;
        host_config.log_config.kind = if driver.is_empty() {
            "json-file".into()
        } else {
            driver.clone()
        };
        for (key, value) in &settings.log_opts {
            host_config
                .log_config
                .config
                .entry(key.clone())
                .or_insert_with(|| value.clone());
        }
    }
    if host_config.restart_policy.name.is_empty() {
        host_config.restart_policy.name = "no".into();
    }
    if host_config.runtime.is_empty() {
        host_config.runtime = "runc".into();
    }
    // What stands for "not set" becomes null.
    host_config.pids_limit = host_config.pids_limit.filter(|limit| *limit > 0);
    host_config.oom_kill_disable = Some(false);
    if host_config.memory > 0 && host_config.memory_swap == 0 {
        host_config.memory_swap = host_config.memory.saturating_mul(2);
    }
    let own = |paths: &[&str]| Some(paths.iter().map(|path| (*path).to_owned()).collect());
    let unconfined = host_config
        .security_opt
        .iter()
        .flatten()
        .any(|option| matches!(option.as_str(), "systempaths=unconfined"));
    if unconfined {
        host_config.masked_paths = Some(Vec::new());
        host_config.readonly_paths = Some(Vec::new());
    } else if !host_config.privileged {
        if host_config.masked_paths.is_none() {
            host_config.masked_paths = own(&lighter_runtime::defaults::MASKED_PATHS);
        }
        if host_config.readonly_paths.is_none() {
            host_config.readonly_paths = own(&lighter_runtime::defaults::READONLY_PATHS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RunConfig {
        RunConfig {
            env: Some(vec!["PATH=/bin".into(), "A=image".into()]),
            cmd: Some(vec!["sh".into()]),
            entrypoint: Some(vec!["/entry".into()]),
            labels: Some([("k".to_owned(), "image".to_owned())].into()),
            working_dir: "/w".into(),
            ..RunConfig::default()
        }
    }

    fn merged(text: &str) -> Config {
        let mut config: Config = serde_json::from_str(text).unwrap();
        merge_image(&mut config, &image());
        config
    }

    #[test]
    fn the_request_wins_over_the_image() {
        let config = merged(r#"{"Env":["A=own"],"Labels":{"k":"own"},"WorkingDir":"/x"}"#);
        assert_eq!(config.env.unwrap(), ["A=own", "PATH=/bin"]);
        assert_eq!(
            (config.labels["k"].as_str(), config.working_dir.as_str()),
            ("own", "/x")
        );
        assert_eq!(config.cmd.unwrap().0, ["sh"]);
        assert_eq!(config.entrypoint.unwrap().0, ["/entry"]);
    }

    #[test]
    fn an_entrypoint_of_its_own_takes_no_command_of_the_image() {
        let config = merged(r#"{"Entrypoint":["/mine"]}"#);
        assert_eq!(
            (config.entrypoint.unwrap().0, config.cmd),
            (vec!["/mine".to_owned()], None)
        );
        let config = merged(r#"{"Entrypoint":[""],"Cmd":["ls"]}"#);
        assert_eq!(
            (config.entrypoint, config.cmd.unwrap().0),
            (None, vec!["ls".to_owned()])
        );
    }

    #[test]
    fn unset_limits_become_what_inspect_shows() {
        let mut host: HostConfig =
            serde_json::from_str(r#"{"Memory":67108864,"PidsLimit":0,"MemorySwappiness":-1}"#)
                .unwrap();
        adapt(&mut host, &Settings::default());
        assert_eq!((host.memory_swap, host.pids_limit), (134_217_728, None));
        assert_eq!(
            (host.network_mode.as_str(), host.shm_size),
            ("bridge", 67_108_864)
        );
        assert_eq!(host.masked_paths.unwrap().len(), 12);
    }
}
