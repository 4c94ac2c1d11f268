//! Runs the suite against an engine and reads what each test came to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lighter_tests::{env, run};
use serde_json::Value;

/// Where the suite has the tests that we run.
const TESTS: &str = "tests/integration/";
/// What needs a swarm, a managed plug-in from the hub or a key chain.
const NOT_RUN: [&str; 9] = [
    "api_config_test.py",
    "api_plugin_test.py",
    "api_secret_test.py",
    "api_service_test.py",
    "api_swarm_test.py",
    "models_nodes_test.py",
    "models_services_test.py",
    "models_swarm_test.py",
    "credentials",
];
/// The version of the API that the suite was written for.
const API_VERSION: &str = "1.41";
/// Longest the whole may take: on an emulated machine that others use, too.
const LIMIT: Duration = Duration::from_secs(1500);

/// What one test came to.
#[derive(Debug)]
pub struct Ran {
    /// `passed`, `failed`, `skipped`, `xfailed` or `xpassed`.
    pub outcome: String,
    /// What was said where it did not pass.
    pub why: String,
    /// How long it took.
    pub seconds: f64,
}

/// The suite as `cargo xtask test` made it ready.
pub struct Suite {
    folder: PathBuf,
}

impl Suite {
    /// It, or `None` and a counted skip of `test`.
    pub fn find(test: &str) -> Option<Self> {
        let folder = env::path(env::DOCKER_PY);
        if folder.is_none() {
            env::skip(test, "docker-py is not there: run `cargo xtask test`");
        }
        folder.map(|folder| Self { folder })
    }

    /// Runs it against the engine at `docker_host`; what it writes goes below `scratch`, which the
    /// engine must be able to mount. What each test came to, by its name.
    pub fn run(&self, docker_host: &str, scratch: &Path) -> BTreeMap<String, Ran> {
        let report = scratch.join("report");
        // Without such a file the suite keeps its contexts where it is started.
        let config = scratch.join("config");
        std::fs::create_dir(&config).expect("a folder");
        std::fs::write(config.join("config.json"), "{}").expect("a file");
        let mut command = Command::new("unshare");
        command
            // A network of its own: the suite also tries an address that is nobody's.
            .args(["--map-root-user", "--net", "sh", "-c"])
            .args(["ip link set lo up; exec \"$@\"", "suite"])
            .arg(self.folder.join("venv/bin/python"))
            .args([
                "-m",
                "pytest",
                "-q",
                "-p",
                "report",
                "-p",
                "no:cacheprovider",
            ])
            .args(["--timeout", "120", TESTS])
            .args(NOT_RUN.map(|name| format!("--ignore={TESTS}{name}")))
            .current_dir(self.folder.join("suite"))
            .env(
                "PYTHONPATH",
                concat!(env!("CARGO_MANIFEST_DIR"), "/clients/docker_py"),
            )
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("REPORT", &report)
            .env("DOCKER_HOST", docker_host)
            .env("DOCKER_CONFIG", config)
            .env("DOCKER_TEST_API_VERSION", API_VERSION)
            .env("HOME", scratch)
            .env("TMPDIR", scratch);
        let ended = run(command, b"", LIMIT);
        // 0: all passed; 1: some did not. Others: it did not run as it should.
        assert!(ended.code <= 1, "{}\n{}", ended.out(), ended.err());
        let text = std::fs::read_to_string(&report).expect("a report");
        text.lines().map(read).collect()
    }
}

fn read(line: &str) -> (String, Ran) {
    let json: Value = serde_json::from_str(line).expect("JSON");
    let word = |field: &str| json[field].as_str().unwrap_or_default().to_owned();
    let name = word("name");
    let ran = Ran {
        outcome: word("outcome"),
        why: word("why"),
        seconds: json["seconds"].as_f64().unwrap_or_default(),
    };
    (name.trim_start_matches(TESTS).to_owned(), ran)
}
