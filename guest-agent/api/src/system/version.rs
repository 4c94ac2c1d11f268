//! `GET /version`.

use lighter_engine::version;
use serde::Serialize;

use crate::body::ok;
use crate::call::Call;
use crate::router::Answer;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape<'a> {
    platform: Platform,
    components: Vec<Component<'a>>,
    version: &'a str,
    api_version: &'a str,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: &'a str,
    git_commit: &'a str,
    go_version: &'a str,
    os: &'a str,
    arch: &'a str,
    kernel_version: &'a str,
    build_time: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Platform {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Component<'a> {
    name: &'a str,
    version: &'a str,
    details: Details<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Details<'a> {
    api_version: &'a str,
    arch: &'a str,
    build_time: &'a str,
    experimental: &'a str,
    git_commit: &'a str,
    go_version: &'a str,
    kernel_version: &'a str,
    #[serde(rename = "MinAPIVersion")]
    min_api_version: &'a str,
    os: &'a str,
}

/// Docker's name of this architecture.
pub(super) const ARCH: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};

pub(super) fn version(call: &Call) -> Answer {
    let machine = call.engine.machine_info();
    // Nothing here was built by Go; clients only print these.
    let (git_commit, go_version, build_time) = ("", "", "");
    ok(&Shape {
        platform: Platform { name: "Lighter" },
        components: vec![Component {
            name: "Engine",
            version: version::ENGINE,
            details: Details {
                api_version: version::API,
                arch: ARCH,
                build_time,
                experimental: "false",
                git_commit,
                go_version,
                kernel_version: &machine.kernel,
                min_api_version: version::MINIMUM_API,
                os: "linux",
            },
        }],
        version: version::ENGINE,
        api_version: version::API,
        min_api_version: version::MINIMUM_API,
        git_commit,
        go_version,
        os: "linux",
        arch: ARCH,
        kernel_version: &machine.kernel,
        build_time,
    })
}
