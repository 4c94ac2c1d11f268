//! Heads, statuses and errors, and bodies that try tricks.

use super::*;

#[test]
fn heads_and_errors() {
    let requests: &[(&str, &str, Option<&str>)] = &[
        ("GET", "/_ping", None),
        ("HEAD", "/_ping", None),
        ("GET", "/v1.24/_ping", None),
        ("POST", "/_ping", None),
        ("OPTIONS", "/_ping", None),
        ("OPTIONS", "/v1.51/containers/json", None),
        ("OPTIONS", "/no/such", None),
        ("GET", "/", None),
        ("GET", "/v1.51", None),
        ("GET", "/v1.51/", None),
        ("GET", "/no/such", None),
        ("GET", "/v1.51/no/such", None),
        ("HEAD", "/v1.51/containers/json", None),
        ("PUT", "/v1.51/containers/json", None),
        ("PATCH", "/v1.51/info", None),
        ("GET", "/v9.99/info", None),
        ("GET", "/v1.52/info", None),
        ("GET", "/v1.23/info", None),
        ("GET", "/v1.10/info", None),
        ("GET", "/v1/info", None),
        ("GET", "/vx.y/info", None),
        ("GET", "/v2.0/info", None),
        ("GET", "/v1.51/containers/nobody/json", None),
        ("GET", "/v1.51/containers/nobody/logs?stdout=1", None),
        ("GET", "/v1.51/containers/nobody/logs", None),
        ("GET", "/v1.51/containers//json", None),
        ("GET", "/v1.51/containers/a%2Fb/json", None),
        ("GET", "/v1.51/containers/json?limit=x", None),
        (
            "GET",
            "/v1.51/containers/json?limit=-1&filters=%7B%22name%22%3A%5B%22nobody%22%5D%7D",
            None,
        ),
        ("GET", "/v1.51/containers/json?filters=xx", None),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D",
            None,
        ),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22bogus%22%3A%7B%22a%22%3Atrue%7D%7D",
            None,
        ),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22name%22%3A%7B%22nobody%22%3Atrue%7D%7D",
            None,
        ),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22name%22%3A5%7D",
            None,
        ),
        ("GET", "/v1.51/containers/json?filters=%5B%5D", None),
        (
            "GET",
            "/v1.51/containers/json?filters=%7B%22name%22%3A%7B%7D%2C%22label%22%3A%7B%22of-nobody%22%3Atrue%7D%7D&all=0&size=0",
            None,
        ),
        ("GET", "/v1.51/events?since=x", None),
        ("GET", "/v1.51/events?since=2&until=1", None),
        ("GET", "/v1.51/events?filters=xx", None),
        ("GET", "/v1.51/images/nobody/json", None),
        ("GET", "/v1.51/images/Upper/json", None),
        ("GET", "/v1.51/images/nobody/history", None),
        ("GET", "/v1.51/images/json?filters=xx", None),
        ("DELETE", "/v1.51/images/nobody", None),
        ("POST", "/v1.51/images/nobody/tag?repo=a", None),
        ("POST", "/v1.51/images/busybox/tag?repo=UPPER", None),
        ("POST", "/v1.51/images/busybox/tag", None),
        ("GET", "/v1.51/volumes/nobody", None),
        ("DELETE", "/v1.51/volumes/nobody", None),
        ("DELETE", "/v1.51/volumes/nobody?force=1", None),
        ("GET", "/v1.51/volumes?filters=xx", None),
        ("GET", "/v1.51/networks/nobody", None),
        ("GET", "/v1.51/networks/", None),
        ("DELETE", "/v1.51/networks/bridge", None),
        ("DELETE", "/v1.51/networks/nobody", None),
        ("POST", "/v1.51/networks/nobody/connect", Some("{}")),
        ("GET", "/v1.51/exec/nobody/json", None),
        ("POST", "/v1.51/exec/nobody/start", Some("{}")),
        ("POST", "/v1.51/exec/nobody/resize?h=1&w=1", None),
        ("POST", "/v1.51/exec/nobody/resize", None),
        ("POST", "/v1.51/containers/create", None),
        ("POST", "/v1.51/containers/create", Some("")),
        ("POST", "/v1.51/containers/create", Some("{")),
        ("POST", "/v1.51/containers/create", Some("null")),
        ("POST", "/v1.51/containers/create", Some("[]")),
        ("POST", "/v1.51/containers/create", Some("{}")),
        ("POST", "/v1.51/containers/create", Some("{} x")),
        ("POST", "/v1.51/containers/create", Some("{}{}")),
        ("POST", "/v1.51/containers/create", Some("{\"Image\":5}")),
        (
            "POST",
            "/v1.51/containers/create",
            Some("{\"Image\":\"nobody\"}"),
        ),
        (
            "POST",
            "/v1.51/containers/create",
            Some("{\"image\":\"nobody\"}"),
        ),
        (
            "POST",
            "/v1.51/containers/create",
            Some("{\"Image\":\"busybox\",\"Image\":\"nobody\"}"),
        ),
        (
            "POST",
            "/v1.51/containers/create",
            Some("{\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":\"x\"}}"),
        ),
        (
            "POST",
            "/v1.51/containers/create?name=no%20good",
            Some("{\"Image\":\"busybox\"}"),
        ),
        (
            "POST",
            "/v1.51/containers/create?platform=a/b/c/d/e",
            Some("{\"Image\":\"busybox\"}"),
        ),
        ("POST", "/v1.51/containers/nobody/start", None),
        ("POST", "/v1.51/containers/nobody/start", Some("{}")),
        (
            "POST",
            "/v1.51/containers/nobody/start",
            Some("{\"Binds\":null}"),
        ),
        ("POST", "/v1.51/containers/nobody/stop?t=x", None),
        ("POST", "/v1.51/containers/nobody/stop", None),
        ("POST", "/v1.51/containers/nobody/restart", None),
        ("POST", "/v1.51/containers/nobody/kill?signal=BOGUS", None),
        ("POST", "/v1.51/containers/nobody/kill", None),
        ("POST", "/v1.51/containers/nobody/pause", None),
        ("POST", "/v1.51/containers/nobody/unpause", None),
        ("POST", "/v1.51/containers/nobody/rename", None),
        ("POST", "/v1.51/containers/nobody/rename?name=x1", None),
        ("POST", "/v1.51/containers/nobody/wait", None),
        (
            "POST",
            "/v1.51/containers/nobody/wait?condition=bogus",
            None,
        ),
        ("POST", "/v1.51/containers/nobody/resize", None),
        ("POST", "/v1.51/containers/nobody/resize?h=1&w=1", None),
        ("POST", "/v1.51/containers/nobody/resize?h=x&w=1", None),
        ("POST", "/v1.51/containers/nobody/resize?h=-1&w=1", None),
        ("POST", "/v1.51/containers/nobody/attach?stream=1", None),
        (
            "POST",
            "/v1.51/containers/nobody/attach?detachKeys=bogus-keys",
            None,
        ),
        (
            "POST",
            "/v1.51/containers/nobody/exec",
            Some("{\"Cmd\":[\"true\"]}"),
        ),
        ("POST", "/v1.51/containers/nobody/exec", Some("{}")),
        ("POST", "/v1.51/containers/nobody/exec", None),
        ("POST", "/v1.51/containers/nobody/update", Some("{}")),
        ("DELETE", "/v1.51/containers/nobody", None),
        ("DELETE", "/v1.51/containers/nobody?force=1", None),
        ("GET", "/v1.51/containers/nobody/top", None),
        ("GET", "/v1.51/containers/nobody/stats?stream=0", None),
        ("GET", "/v1.51/containers/nobody/changes", None),
        ("GET", "/v1.51/containers/nobody/export", None),
        ("GET", "/v1.51/containers/nobody/archive?path=/", None),
        ("GET", "/v1.51/containers/nobody/archive", None),
        ("HEAD", "/v1.51/containers/nobody/archive?path=/", None),
        ("PUT", "/v1.51/containers/nobody/archive?path=/", None),
        ("POST", "/v1.51/commit?container=nobody", None),
        (
            "POST",
            "/v1.51/containers/prune?filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D",
            None,
        ),
        (
            "POST",
            "/v1.51/networks/prune?filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D",
            None,
        ),
        (
            "POST",
            "/v1.51/volumes/prune?filters=%7B%22bogus%22%3A%5B%22a%22%5D%7D",
            None,
        ),
        ("POST", "/v1.51/volumes/create", Some("{")),
        ("POST", "/v1.51/volumes/create", Some("{\"Name\":\"../x\"}")),
        (
            "POST",
            "/v1.51/volumes/create",
            Some("{\"Driver\":\"bogus\"}"),
        ),
        ("POST", "/v1.51/auth", Some("{")),
        ("GET", "/v1.51/swarm", None),
        ("GET", "/v1.51/services", None),
        ("GET", "/v1.51/tasks", None),
        ("GET", "/v1.51/nodes", None),
        ("GET", "/v1.51/secrets", None),
        ("GET", "/v1.51/configs", None),
        ("GET", "/v1.51/services/x", None),
        ("POST", "/v1.51/services/create", Some("{}")),
        ("POST", "/v1.51/swarm/leave", None),
        ("PUT", "/v1.51/volumes/x?version=1", Some("{}")),
        ("GET", "/v1.51/plugins", None),
        ("GET", "/v1.51/plugins/nobody/json", None),
    ];
    let steps: Vec<(String, Box<Ask>)> = requests
        .iter()
        .map(|(method, path, body)| {
            let step = move |socket: &Path| answer(socket, method, path, *body);
            (
                format!("{method} {path} {}", body.unwrap_or("")),
                Box::new(step) as _,
            )
        })
        .collect();
    let steps: Vec<(&str, &Ask)> = steps
        .iter()
        .map(|(what, step)| (what.as_str(), &**step))
        .collect();
    compare("heads_and_errors", &steps);
}

#[test]
fn paths_that_are_not_plain() {
    let paths = [
        "/_ping/",
        "//_ping",
        "/v1.51/info/",
        "/v1.51/containers/json/",
        "/v1.51//containers/json?limit=1&x=%2F",
        "/v1.51/containers//json?",
        "/v1.51/%2F%2Fcontainers/json?all=1",
        "/v1.51/containers/%2F%2F/json",
        "/v1.51/containers/%2F/json/",
        "/v1.51/containers/..%2Fx/json?a",
        "/v1.51/containers/a%20b%3Fc%23d//json",
        "/v1.51/containers/(!*)'%22//json",
        "/v1.51/containers/a%2F%2Fb/json",
        "/v1.51/./info",
        "/v1.51/../info?x=1",
        "/v1.51/..",
        "/v9.99//info",
        "/../..",
        "//",
        "/v1.51//",
        "/v1.51/volumes//",
        "/v1.51/containers/nobody/json/",
        "/v1.51/containers/nobody/",
    ];
    let mut steps: Vec<(String, Box<Ask>)> = Vec::new();
    for method in ["GET", "OPTIONS", "DELETE"] {
        for path in paths {
            let step = move |socket: &Path| answer(socket, method, path, None);
            steps.push((format!("{method} {path}"), Box::new(step)));
        }
    }
    let steps: Vec<(&str, &Ask)> = steps
        .iter()
        .map(|(what, step)| (what.as_str(), &**step))
        .collect();
    compare("paths_that_are_not_plain", &steps);
}

#[test]
fn bodies_that_try_tricks() {
    let create = "POST /v1.51/containers/create HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let json = "Content-Type: application/json\r\n";
    let requests = [
        format!("{create}{json}Content-Length: 0\r\n\r\n"),
        format!("{create}{json}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{create}{json}Transfer-Encoding: chunked\r\n\r\n10\r\n{{\"Image\":\"nobod\r\n3\r\ny\"}}\r\n0\r\n\r\n"),
        format!("{create}{json}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        format!("{create}Content-Length: 18\r\n\r\n{{\"Image\":\"nobody\"}}"),
        format!("{create}Content-Type: text/plain\r\nContent-Length: 18\r\n\r\n{{\"Image\":\"nobody\"}}"),
        format!("{create}Content-Type: application/json; charset=utf-8\r\nContent-Length: 18\r\n\r\n{{\"Image\":\"nobody\"}}"),
        format!("{create}Content-Type: ;;\r\nContent-Length: 18\r\n\r\n{{\"Image\":\"nobody\"}}"),
        format!("{create}{json}Content-Length: 18\r\nExpect: 100-continue\r\n\r\n{{\"Image\":\"nobody\"}}"),
        "POST /v1.51/containers/nobody/start HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "GET /_ping HTTP/1.0\r\n\r\n".to_owned(),
        "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
    ];
    let steps: Vec<(String, Box<Ask>)> = requests
        .into_iter()
        .map(|request| {
            let sent = request.clone();
            (
                request,
                Box::new(move |socket: &Path| raw(socket, &sent)) as _,
            )
        })
        .collect();
    let steps: Vec<(&str, &Ask)> = steps
        .iter()
        .map(|(what, step)| (what.as_str(), &**step))
        .collect();
    compare("bodies_that_try_tricks", &steps);
}

#[test]
fn heads_come_before_there_is_anything_to_say() {
    let early = |path: &'static str| {
        move |socket: &Path| {
            let id = create(
                socket,
                r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none"}}"#,
            );
            start(socket, &id);
            let mut connection = Connection::open(socket);
            let (method, path) = path.split_once(' ').expect("two words");
            connection.request(method, &path.replace("ID", &id), &[], None);
            let answered = connection.head();
            remove(socket, &id);
            head(&answered)
        }
    };
    compare(
        "heads_come_before_there_is_anything_to_say",
        &[
            (
                "wait",
                &early("POST /v1.51/containers/ID/wait?condition=removed"),
            ),
            (
                "logs",
                &early("GET /v1.51/containers/ID/logs?stdout=1&follow=1"),
            ),
            (
                "logs of 1.41",
                &early("GET /v1.41/containers/ID/logs?stdout=1&follow=1"),
            ),
            ("events", &early("GET /v1.51/events")),
            (
                "attach",
                &early("POST /v1.51/containers/ID/attach?stream=1&stdout=1"),
            ),
        ],
    );
}
