//! What a container is asked to have in the API's own words, which no option of the docker CLI says.

use super::*;

/// Bodies of a container of the image `{}`, by what is wrong or odd in them.
const BODIES: &[&str] = &[
    // Options of another type of mount.
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/m","VolumeOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/m","TmpfsOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/m","BindOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/m","TmpfsOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m","BindOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m","VolumeOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Source":"a","Target":"/m"}]}"#,
    // Several things wrong: which is said.
    r#""HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Target":"/m","VolumeOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"a","Target":"/m","VolumeOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"m","VolumeOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/","VolumeOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/m","BindOptions":{"Propagation":"x"},"VolumeOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/m","BindOptions":{"Propagation":"x"}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"","Target":"/m","BindOptions":{"Propagation":"x"}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"/tmp","Target":"/m","VolumeOptions":{},"TmpfsOptions":{},"ImageOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/m","BindOptions":{},"TmpfsOptions":{},"ImageOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m","BindOptions":{},"VolumeOptions":{},"ImageOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bogus","Target":"/m","BindOptions":{}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bogus"}]}"#,
    // Targets and sources.
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"m"}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/"}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m/.."}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"","Target":"/m"}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bogus","Target":"/m"}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"bind","Source":"/no/such/folder","Target":"/m"}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"volume","Target":"/m","ReadOnly":true}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/m","VolumeOptions":{"Subpath":"/a"}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"volume","Source":"v","Target":"/m","VolumeOptions":{"Subpath":"../a"}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"volume","Target":"/m","VolumeOptions":{"Subpath":"a"}}]}"#,
    // Temporary file systems.
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m","TmpfsOptions":{"Options":[[]]}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m","TmpfsOptions":{"Options":[["exec"],["bogus"]]}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m","TmpfsOptions":{"Options":[["a","b","c"]]}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m","TmpfsOptions":{"Options":[["exec"],["size","1m"]]}}]}"#,
    r#""HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/m","TmpfsOptions":{"SizeBytes":-1}}]}"#,
    // Ports.
    r#""ExposedPorts":{"80/tcp":null},"Volumes":{"/v":null}"#,
    r#""ExposedPorts":{"80/tcp":5}"#,
    r#""ExposedPorts":{"x":{}}"#,
    r#""ExposedPorts":{"80/bogus":{}}"#,
    r#""ExposedPorts":{"70000/tcp":{}}"#,
    r#""ExposedPorts":{"":{}}"#,
    r#""HostConfig":{"PortBindings":{"x":[{"HostPort":"1"}]}}"#,
    r#""HostConfig":{"PortBindings":{"80/bogus":[{"HostPort":"1"}]}}"#,
    r#""HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}"#,
    r#""HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"70000"}]}}"#,
    r#""HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"9-8"}]}}"#,
    r#""HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"x","HostPort":"1"}]}}"#,
    r#""HostConfig":{"PortBindings":{"80/tcp":null}}"#,
    r#""ExposedPorts":{"80/bogus":{}},"HostConfig":{"PortBindings":{"80/bogus":[{"HostPort":"1"}]}}"#,
    r#""ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"x","HostPort":"1"}]}}"#,
    r#""ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/TCP":[{"HostPort":"40080"}]}}"#,
];

/// The answers to each body, and to starting what it made, which is gone again afterwards.
#[test]
fn bodies_of_create() {
    let steps: Vec<(&str, Box<Ask>)> = BODIES
        .iter()
        .map(|body| {
            let whole = format!(r#"{{"Image":"busybox",{body}}}"#);
            let step = move |socket: &Path| {
                let path = "/v1.51/containers/create?name=created";
                let said = answer(socket, "POST", path, Some(&whole));
                let started = answer(socket, "POST", "/v1.51/containers/created/start", None);
                let path = "/v1.51/containers/created?v=1&force=1";
                let _ = ask(socket, "DELETE", path, None);
                format!("{}\n  then: {started}", without_id(&said))
            };
            (*body, Box::new(step) as _)
        })
        .collect();
    let steps: Vec<(&str, &Ask)> = steps.iter().map(|(what, step)| (*what, &**step)).collect();
    compare("bodies_of_create", &steps);
}

/// An answer with the same word for every id.
fn without_id(said: &str) -> String {
    match said.split_once(r#"{"Id":""#) {
        Some((before, after)) => format!(
            "{before}id{}",
            after.trim_start_matches(|c: char| c.is_ascii_hexdigit())
        ),
        None => said.to_owned(),
    }
}
