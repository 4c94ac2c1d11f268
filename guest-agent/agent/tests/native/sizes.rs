//! Sizes on a disk that has none: dockerd's words on such a disk. Those that count are tested in the machine,
//! whose disk has them.

use serde_json::{Value, json};
use tempfile::tempdir;

use crate::api::{call, container, create, get, started};

#[test]
fn sizes_are_refused_in_dockers_words_where_the_disk_has_none() {
    let dir = tempdir().unwrap();
    let machine = started(dir.path());
    let refused = |options: Value| {
        let mut body = container("true");
        body["HostConfig"]["StorageOpt"] = options;
        let answer = call(&machine, "POST", "/containers/create?name=sized", &body);
        (
            answer.status,
            answer.json()["message"].as_str().unwrap().to_owned(),
        )
    };
    let unknown = (500, "Unknown option foo".to_owned());
    assert_eq!(refused(json!({"Foo": "1"})), unknown);
    get(&machine, "/containers/sized/json").is(404);
    let volume = |options: Value| {
        let body = json!({"Name": "sized", "DriverOpts": options});
        call(&machine, "POST", "/volumes/create", &body)
    };
    let wrong = volume(json!({"size": "1q"})).is(400);
    assert_eq!(wrong.json()["message"], "create sized: invalid suffix: 'q'");

    if volume(json!({"size": "1m"})).status == 400 {
        let none =
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option";
        for options in [json!({"size": "1m"}), json!({"size": "wrong", "foo": "1"})] {
            assert_eq!(refused(options), (500, none.to_owned()));
        }
        let none = volume(json!({"size": "1m"})).json();
        let words = "create sized: quota size requested but no quota support";
        assert_eq!(none["message"], words);
        get(&machine, "/volumes/sized").is(404);
        let mut body = container("true");
        body["HostConfig"]["Mounts"] = json!([{
            "Type": "volume", "Source": "sized", "Target": "/v",
            "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"size": "1m"}}},
        }]);
        let none = call(&machine, "POST", "/containers/create?name=sized", &body).is(400);
        assert_eq!(none.json()["message"], words);
    }
    // No size is one that every disk has.
    volume(json!({"size": "0"})).is(201);
    create(&machine, "sized", &container("true"));
    for path in ["/containers/sized", "/volumes/sized"] {
        call(&machine, "DELETE", path, &Value::Null).is(204);
    }
    machine.nothing_left();
}
