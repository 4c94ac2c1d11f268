//! Images made here: `docker import` and `docker commit`, and an engine that is killed right after
//! it has acknowledged one.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Instant;

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{call, container, create, get, post, run, started, state, try_call, wait};
use crate::machine::{LIMIT, Machine};

fn tree() -> Vec<u8> {
    let dir = tempdir().unwrap();
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    let tar = Command::new("tar")
        .arg("-C")
        .arg(dir.path())
        .args(["-c", "-f", "-", "."])
        .output();
    tar.unwrap().stdout
}

fn image(machine: &Machine, name: &str) -> Value {
    get(machine, &format!("/images/{name}/json")).is(200).json()
}

#[test]
fn an_image_that_was_acknowledged_survives_the_engine() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let path = "/images/create?fromSrc=-&repo=made&tag=1&message=hello\
                &changes=ENV%20A=b&changes=CMD%20%5B%22x%22%5D";
    let said = try_call(&machine, "POST", path, &tree()).unwrap().is(200);
    machine.kill_agent();
    let imported = image(&machine, "made:1");
    assert_eq!(said.json()["status"], imported["Id"]);
    assert_eq!(imported["Comment"], "hello");
    assert_eq!(imported["Config"]["Env"], json!(["A=b"]));
    assert_eq!(imported["Config"]["Labels"], Value::Null);
    assert_eq!(imported["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    let history = get(&machine, "/images/made:1/history").is(200).json();
    assert_eq!(history[0]["Comment"], "hello");
    assert_eq!(history[0]["Tags"], json!(["made:1"]));

    run(
        &machine,
        "cc",
        &container("echo x > /new; rm -rf /bin/none; exec sleep 100000"),
    );
    while get(&machine, "/containers/cc/archive?path=/new").status != 200 {
        std::thread::yield_now();
    }
    let path = "/commit?container=cc&repo=made&tag=2&comment=why&author=me&changes=LABEL%20l=1";
    let said = try_call(&machine, "POST", path, b"")
        .unwrap()
        .is(201)
        .json();
    machine.kill_agent();
    let committed = image(&machine, "made:2");
    assert_eq!(said["Id"], committed["Id"]);
    assert_eq!(
        (&committed["Author"], &committed["Comment"]),
        (&json!("me"), &json!("why"))
    );
    assert_eq!(committed["Config"]["Labels"]["l"], "1");
    assert_eq!(committed["Config"]["Cmd"][1], "sh");
    assert_eq!(committed["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert_eq!(state(&machine, "cc")["Status"], "running", "resumed");
    let history = get(&machine, "/images/made:2/history").is(200).json();
    assert!(
        history[0]["CreatedBy"]
            .as_str()
            .unwrap()
            .starts_with("/bin/busybox sh -c")
    );
}

#[test]
fn what_cannot_be_made_is_refused_in_dockerds_words_and_leaves_nothing() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    create(&machine, "cc", &container("true"));
    let said = |path: &str, body: &[u8], status: u16| {
        let answer = try_call(&machine, "POST", path, body).unwrap().is(status);
        answer.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let import = "/images/create?fromSrc=-&repo=made";
    let change = "RUN is not a valid change command";
    assert_eq!(
        said(&format!("{import}&changes=RUN%20x"), &tree(), 400),
        change
    );
    assert_eq!(
        said("/commit?container=cc&changes=RUN%20x", b"", 400),
        change
    );
    assert_eq!(
        said(&format!("{import}&platform=windows/amd64"), &tree(), 400),
        "operating system is not supported"
    );
    let upper = "invalid reference format: repository name (library/UPPER) must be lowercase";
    assert_eq!(
        said("/images/create?fromSrc=-&repo=UPPER", &tree(), 400),
        upper
    );
    assert_eq!(said("/commit?container=cc&repo=UPPER", b"", 400), upper);
    let digest = format!("/images/create?fromSrc=-&repo=x@sha256:{}", "0".repeat(64));
    assert_eq!(
        said(&digest, &tree(), 400),
        "cannot import digest reference"
    );
    assert_eq!(
        said("/commit?container=none", b"", 404),
        "No such container: none"
    );
    assert!(said(import, b"hello this is no tar", 400).contains("unexpected EOF"));
    let no_address = said("/images/create?fromSrc=ftp://x/y", b"", 400);
    assert!(
        no_address.contains("it must be http or https"),
        "{no_address}"
    );
    let listed = get(&machine, "/images/json").is(200).text();
    assert!(!listed.contains("made"), "{listed}");
}

#[test]
fn a_container_without_changes_adds_no_layer_and_one_of_a_commit_has_its_files() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    create(&machine, "cc", &container("true"));
    let commit = |name: &str, config: &Value| {
        let path = format!("/commit?container={name}&repo=made&tag={name}");
        call(&machine, "POST", &path, config).is(201);
    };
    let own = json!({"Env": ["Z=1"], "Labels": {"l": "1"}});
    commit("cc", &own);
    let made = image(&machine, "made:cc");
    assert_eq!(made["RootFS"]["Layers"], Value::Null, "{made}");
    assert_eq!(made["Config"]["Env"], json!(["Z=1"]));
    post(&machine, "/containers/cc/start").is(204);
    wait(&machine, "cc");
    // The place of its bind was made at the start: dockerd counts that as well.
    commit("cc", &json!({}));
    let made = image(&machine, "made:cc");
    assert_eq!(made["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    let layer = get(&machine, "/images/made:cc/get").is(200).body;
    let text = String::from_utf8_lossy(&layer);
    assert!(text.contains("bin/busybox") && !text.contains("etc/hosts"));
}

#[test]
fn damage_on_the_disk_is_found_and_named() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let import = "/images/create?fromSrc=-&repo=made&tag=1";
    try_call(&machine, "POST", import, &tree()).unwrap().is(200);
    let lines = |query: &str| {
        let told = get(&machine, &format!("/lighter/images/verify{query}"));
        told.is(200).text()
    };
    assert!(
        lines("").contains("Sound: 2 images, 1 layer"),
        "{}",
        lines("")
    );
    get(&machine, "/lighter/images/verify?name=none").is(404);
    get(&machine, "/lighter/nothing").is(404);

    let image = image(&machine, "made:1");
    let layer = image["RootFS"]["Layers"][0].as_str().unwrap();
    let hex = layer.trim_start_matches("sha256:");
    let tar = dir
        .path()
        .join(format!("data/images/layers/{hex}/layer.tar"));
    let mut bytes = std::fs::read(&tar).unwrap();
    bytes[600] ^= 1;
    std::fs::write(&tar, bytes).unwrap();
    for query in ["", "?name=made:1", "?name=nothing&name=made:1"] {
        let told = lines(query);
        let words = format!("made:1: the tar of layer {layer} failed verification");
        assert!(told.contains(&words), "{told}");
        assert!(told.contains("errorDetail"), "{told}");
        assert!(
            told.contains(&format!("\"id\":\"{}\"", &hex[..12])),
            "{told}"
        );
        assert!(!told.contains("Sound:"), "{told}");
    }
    assert!(lines("?name=nothing").contains("Sound: 1 image, 0 layers"));
    // What the message says helps.
    assert!(lines("").contains("remove these images, and pull or load them again"));
    let gone = "/images/made:1";
    call(&machine, "DELETE", gone, &Value::Null).is(200);
    try_call(&machine, "POST", import, &tree()).unwrap().is(200);
    assert!(
        lines("").contains("Sound: 2 images, 1 layer"),
        "{}",
        lines("")
    );
}

/// A web server that the engine reaches at an address of its own network, and at loopback.
struct Server(Child);

impl Server {
    fn start(machine: &Machine, files: &Path) -> Self {
        let network = format!("--net=/proc/{}/ns/net", machine.agent_pid().unwrap());
        let inside = |words: &[&str]| {
            let mut command = Command::new("nsenter");
            command.arg(&network).args(words);
            command
        };
        for words in ["ip link set lo up", "ip address add 10.9.9.9/32 dev lo"] {
            let words: Vec<&str> = words.split(' ').collect();
            assert!(inside(&words).status().unwrap().success(), "{words:?}");
        }
        let mut serve = inside(&["/bin/busybox", "httpd", "-f", "-p", "8080", "-h"]);
        let server = Self(serve.arg(files).spawn().unwrap());
        let limit = Instant::now() + LIMIT;
        let there = "http://10.9.9.9:8080/root.tar";
        let wget = ["/bin/busybox", "wget", "-q", "-O", "/dev/null", there];
        while !inside(&wget).output().unwrap().status.success() {
            assert!(Instant::now() < limit, "nobody listens");
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_archive_is_imported_from_its_address_but_not_from_one_of_the_host() {
    let (dir, files) = (tempdir().unwrap(), tempdir().unwrap());
    let machine = started(dir.path());
    std::fs::write(files.path().join("root.tar"), tree()).unwrap();
    std::fs::write(files.path().join("half.tar"), &tree()[..1000]).unwrap();
    let _server = Server::start(&machine, files.path());
    let import = |from: &str| {
        let path = format!("/images/create?fromSrc={from}&repo=fetched&changes=ENV%20A=b");
        post(&machine, &path)
    };
    let text = import("10.9.9.9:8080/root.tar").is(200).text();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let url = "http://10.9.9.9:8080/root.tar";
    assert_eq!(
        lines[0],
        json!({ "status": format!("Downloading from {url}") })
    );
    let (bar, last) = (&lines[lines.len() - 2], &lines[lines.len() - 1]);
    let length = tree().len();
    assert_eq!(bar["status"], "Importing");
    assert_eq!(
        bar["progressDetail"],
        json!({ "current": length, "total": length })
    );
    let made = image(&machine, "fetched");
    assert_eq!(last["status"], made["Id"]);
    assert_eq!(made["Comment"], "Imported from 10.9.9.9:8080/root.tar");
    assert_eq!(made["Config"]["Env"], json!(["A=b"]));
    assert_eq!(made["RootFS"]["Layers"].as_array().unwrap().len(), 1);

    let missing = import("http://10.9.9.9:8080/none").is(404).text();
    let words = "failed to GET http://10.9.9.9:8080/none with status 404 Not Found: ";
    assert!(missing.contains(words), "{missing}");
    // It has begun: what comes of it is said at the end.
    let half = import("http://10.9.9.9:8080/half.tar").is(200).text();
    assert!(
        half.lines().last().unwrap().contains("errorDetail"),
        "{half}"
    );
    assert_eq!(image(&machine, "fetched")["Id"], made["Id"]);
    for own in ["http://127.0.0.1:8080/root.tar", "localhost:8080/root.tar"] {
        let refused = import(own).is(403).text();
        let words = "archives of this host and its surroundings are not fetched";
        assert!(refused.contains(words), "{refused}");
    }
    import("http://10.9.9.9:8081/root.tar").is(500);
}

#[test]
fn an_image_stays_as_long_as_another_was_made_on_it() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let base = image(&machine, "nothing")["Id"].clone();
    let commit = |container: &str, name: &str| {
        let path = format!("/commit?container={container}&repo={name}&changes=LABEL%20name={name}");
        call(&machine, "POST", &path, &json!({})).is(201).json()["Id"].clone()
    };
    create(&machine, "one", &container("true"));
    let middle = commit("one", "middle");
    let mut of_middle = container("true");
    of_middle["Image"] = json!("middle");
    create(&machine, "two", &of_middle);
    let top = commit("two", "top");
    for name in ["one", "two"] {
        call(
            &machine,
            "DELETE",
            &format!("/containers/{name}"),
            &Value::Null,
        )
        .is(204);
    }
    machine.kill_agent();
    assert_eq!(image(&machine, "middle")["Parent"], base);
    assert_eq!(image(&machine, "top")["Parent"], middle);
    let history = get(&machine, "/images/top/history").is(200).json();
    assert_eq!(history[0]["Id"], top);
    assert_eq!(history[1]["Id"], middle);
    assert_eq!(history[1]["Tags"], json!(["middle:latest"]));

    let remove = |name: &str, more: &str| {
        call(
            &machine,
            "DELETE",
            &format!("/images/{name}{more}"),
            &Value::Null,
        )
    };
    let short = &middle.as_str().unwrap()["sha256:".len()..][..12];
    let refused = remove(short, "?force=1").is(409).json();
    let words = "(cannot be forced) - image has dependent child images";
    let expected = format!("conflict: unable to delete {short} {words}");
    assert_eq!(refused["message"], expected.as_str());
    // Its last name goes, and it stays without one: told of only when everything is asked for.
    let gone = remove("middle", "").is(200).json();
    assert_eq!(gone, json!([{"Untagged": "middle:latest"}]));
    let listed = |query: &str| {
        let all = get(&machine, &format!("/images/json{query}"))
            .is(200)
            .json();
        let all = all.as_array().unwrap().clone();
        all.iter()
            .find(|image| image["Id"] == middle)
            .map(|image| image["ParentId"].clone())
    };
    assert_eq!(listed(""), None);
    assert_eq!(listed("?all=1"), Some(base.clone()));
    post(&machine, "/images/prune").is(200);
    assert_eq!(listed("?all=1"), Some(base.clone()));
    // With its last child it goes as well, and its own parent has a name.
    let gone = remove("top", "").is(200).json();
    let deleted = |id: &Value| gone.as_array().unwrap().contains(&json!({"Deleted": id}));
    assert!(
        deleted(&top) && deleted(&middle) && !deleted(&base),
        "{gone}"
    );
    assert_eq!(listed("?all=1"), None);
    assert_eq!(image(&machine, "nothing")["Id"], base);
}
