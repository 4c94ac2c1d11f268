//! Bodies of the API, field by field: which there are, of what type, null or empty, and the values
//! that are not of the machine or the moment.

use std::collections::BTreeMap;
use std::path::Path;

use lighter_tests::http::ask;
use serde_json::Value;

use crate::{both, normal};

/// Fields that must differ, with the reason.
const DIFFER: &[(&str, &str)] = &[
    (
        ".HostConfig.CgroupnsMode",
        "the reference has control groups 1",
    ),
    (
        ".HostConfig.OomKillDisable",
        "the reference has control groups 1",
    ),
    (".State.Pid", "of the moment"),
    ("[0].Created", "of the moment"),
    ("[0].Status", "of the moment"),
    ("inspect(host).Config.Hostname", "of the machine"),
    (".NetworkSettings.SandboxKey", "a path of the engine's own"),
    ("size.SizeRootFs", "a layer here is its tar"),
    ("image.Size", "a layer here is its tar"),
    ("image49.Size", "a layer here is its tar"),
    ("image44.Size", "a layer here is its tar"),
    ("image43.Size", "a layer here is its tar"),
    ("image43.VirtualSize", "a layer here is its tar"),
    ("image24.Size", "a layer here is its tar"),
    ("image24.VirtualSize", "a layer here is its tar"),
    ("images[0].Size", "a layer here is its tar"),
    ("images[0].Containers", "of the moment"),
    ("history[0].Size", "a layer here is its tar"),
    (
        "list(full)[0].Mounts[0].Source",
        "dockerd knows it only while it is mounted",
    ),
    ("info.CDISpecDirs", "no CDI here"),
    ("info.Containerd", "no containerd here"),
    ("info.ContainerdCommit", "no containerd here"),
    ("info.RuncCommit", "no runc here"),
    ("info.InitCommit", "docker-init is our own"),
    ("info.FirewallBackend", "no firewall here"),
    ("info.KernelMemoryTCP", "of control groups 1"),
    ("info.OomKillDisable", "of control groups 1"),
    ("info.CgroupVersion", "of the machine"),
    ("info.SecurityOptions", "of the machine"),
    ("info.DriverStatus", "of the machine's file system"),
    ("info.Driver", "of the machine's file system"),
    ("info.Warnings", "of the machine's kernel"),
    ("info.Runtimes", "the runtime is our own"),
    ("info.Plugins", "what is there"),
    ("info.MemTotal", "of the machine"),
    ("info.NCPU", "of the machine"),
    ("info.NFd", "of the moment"),
    ("info.NGoroutines", "of the moment"),
    ("info.NEventsListener", "of the moment"),
    ("info.Containers", "of the moment"),
    ("info.Images", "of the moment"),
    ("info.Name", "of the machine"),
    ("info.ID", "of the machine"),
    ("info.KernelVersion", "of the machine"),
    ("info.OperatingSystem", "of the machine"),
    ("info.OSVersion", "of the machine"),
    ("info.DockerRootDir", "of the machine"),
    ("info.ServerVersion", "ours says that it is ours"),
    ("info.RegistryConfig", "of the settings"),
    (
        "info.LiveRestoreEnabled",
        "containers always survive our engine",
    ),
    ("info.SystemTime", "of the moment"),
    ("info.PidsLimit", "of the machine"),
    ("info.BridgeNf", "of the machine"),
    ("info.MemoryLimit", "of the machine"),
    ("info.SwapLimit", "of the machine"),
    ("info.CpuCfs", "of the machine"),
    ("info.CPU", "of the machine"),
    ("info.IPv4Forwarding", "of the machine"),
    ("version.Components", "no containerd and no runc here"),
    ("version.Platform", "ours says that it is ours"),
    ("version.Version", "ours says that it is ours"),
    (
        "version.GitCommit",
        "not in a program that is the same whenever it is built",
    ),
    ("version.GoVersion", "no Go here"),
    (
        "version.BuildTime",
        "not in a program that is the same whenever it is built",
    ),
    ("version.KernelVersion", "of the machine"),
];

fn compare(what: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    let (mut a, mut b) = (BTreeMap::new(), BTreeMap::new());
    normal::flatten(what, ours, &mut a);
    normal::flatten(what, theirs, &mut b);
    let differs = |path: &str| DIFFER.iter().any(|(part, _)| path.contains(part));
    let paths: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for path in paths.into_iter().filter(|path| !differs(path)) {
        let nothing = "(absent)".to_owned();
        let (x, y) = (
            a.get(path).unwrap_or(&nothing),
            b.get(path).unwrap_or(&nothing),
        );
        if x != y {
            found.push(format!("{path}\n  ours:    {x}\n  dockerd: {y}"));
        }
    }
}

/// Dockerd lists mounts in an order that changes.
fn sort_mounts(value: &mut Value) {
    let value = match value {
        Value::Array(list) => list.first_mut(),
        value => Some(value),
    };
    if let Some(Value::Array(mounts)) = value.and_then(|value| value.get_mut("Mounts")) {
        mounts.sort_by_key(|mount| mount["Destination"].to_string());
    }
}

/// Asks both for `path` and adds what differs.
fn same(sockets: (&Path, &Path), what: &str, path: &str, found: &mut Vec<String>) {
    let parse = |socket: &Path| {
        let (head, body) = ask(socket, "GET", path, None);
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        serde_json::json!({"status": head.code(), "type": head.header("content-type"), "": body})
    };
    let strip = |value: &Value| value[""].clone();
    let (ours, theirs) = (parse(sockets.0), parse(sockets.1));
    if ours["status"] != theirs["status"] || ours["type"] != theirs["type"] {
        found.push(format!("{path}\n  ours:    {ours}\n  dockerd: {theirs}"));
        return;
    }
    let (mut ours, mut theirs) = (strip(&ours), strip(&theirs));
    sort_mounts(&mut ours);
    sort_mounts(&mut theirs);
    compare(what, &ours, &theirs, found);
}

const SETUP: &[&str] = &[
    "volume create --label v=1 bodies",
    "create --name body-plain --network none busybox true",
    "create --name body-full --network none -it -l a=b -e X=1 -u 1:2 -w /w -h host --domainname d \
     --expose 80 --expose 90/udp -v bodies:/v:ro -v /anonymous --tmpfs /t:size=1m -m 64m --cpus 0.5 \
     --restart on-failure:3 --cap-add SYS_PTRACE --cap-drop MKNOD --dns 9.9.9.9 --add-host a:1.2.3.4 \
     --ulimit nofile=5:6 --shm-size 1m --init --read-only --stop-signal INT --stop-timeout 3 \
     --security-opt no-new-privileges --sysctl net.ipv4.ip_forward=1 --group-add 5 --pids-limit 50 \
     --log-opt max-size=1m --entrypoint sh --health-cmd true --oom-score-adj 5 --device /dev/null \
     --mount type=tmpfs,dst=/tt,tmpfs-size=1m --annotation n=1 busybox -c 'echo a b'",
    "create --name body-host --network host --privileged --pid host --ipc host --uts host busybox true",
    "run -d --name body-runs --network none -v bodies:/v busybox sleep 1000",
    "run --name body-ended --network none busybox sh -c 'echo out; exit 3'",
    "create --name body-bridge busybox true",
];

fn prepare(test: &str) {
    crate::script::both_run(test, SETUP);
}

#[test]
fn bodies_are_dockerds() {
    let test = "bodies_are_dockerds";
    let Some(both) = both(test) else { return };
    prepare(test);
    let reference = both.reference();
    let (ours, theirs) = (both.ours.socket(), reference.socket_path());
    let sockets = (ours.as_path(), theirs.as_path());
    let mut found = Vec::new();
    let one = |name: &str| format!("filters=%7B%22name%22%3A%5B%22{name}%22%5D%7D");
    for name in ["plain", "full", "host", "runs", "ended", "bridge"] {
        let path = format!("/v1.51/containers/body-{name}/json");
        same(sockets, &format!("inspect({name})"), &path, &mut found);
        let list = format!(
            "/v1.51/containers/json?all=1&{}",
            one(&format!("body-{name}"))
        );
        same(sockets, &format!("list({name})"), &list, &mut found);
    }
    for (what, path) in [
        ("inspect40", "/v1.40/containers/body-full/json"),
        ("inspect43", "/v1.43/containers/body-full/json"),
        ("inspect47", "/v1.47/containers/body-full/json"),
        ("size", "/v1.51/containers/body-plain/json?size=1"),
        ("image", "/v1.51/images/busybox/json"),
        ("image49", "/v1.49/images/busybox/json"),
        ("image44", "/v1.44/images/busybox/json"),
        ("image43", "/v1.43/images/busybox/json"),
        ("image24", "/v1.24/images/busybox/json"),
        ("history", "/v1.51/images/busybox/history"),
        ("volume", "/v1.51/volumes/bodies"),
        (
            "volumes",
            "/v1.51/volumes?filters=%7B%22name%22%3A%5B%22bodies%22%5D%7D",
        ),
        ("network(none)", "/v1.51/networks/none"),
        ("network(host)", "/v1.51/networks/host"),
        (
            "networks",
            "/v1.51/networks?filters=%7B%22driver%22%3A%5B%22null%22%5D%7D",
        ),
        ("info", "/v1.51/info"),
        ("version", "/v1.51/version"),
        ("ping", "/_ping"),
        ("top(stopped)", "/v1.51/containers/body-ended/top"),
        ("plugins", "/v1.51/plugins"),
        ("swarm", "/v1.51/swarm"),
        ("nodes", "/v1.51/nodes"),
        ("secrets", "/v1.51/secrets"),
    ] {
        same(sockets, what, path, &mut found);
    }
    let listed = format!(
        "/v1.51/images/json?{}",
        "filters=%7B%22reference%22%3A%5B%22busybox%22%5D%7D"
    );
    same(sockets, "images", &listed, &mut found);
    drop(reference);
    crate::script::both_run(
        test,
        &[
            "rm -fv body-plain body-full body-host body-runs body-ended body-bridge",
            "volume rm bodies",
        ],
    );
    assert!(
        found.is_empty(),
        "{} differences\n{}",
        found.len(),
        found.join("\n")
    );
}
