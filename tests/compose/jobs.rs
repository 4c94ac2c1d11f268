//! Jobs in their order, profiles, and files that compose writes.

use lighter_tests::until;

use crate::app::App;
use crate::web;

#[test]
fn jobs_run_in_their_order_and_some_only_when_asked_for() {
    let Some(mut app) = App::new("jobs") else {
        return;
    };
    app.set("SHELF_TOKEN", "opens the shelf");
    app.set("FIRST_BOOK", "The Trial");
    app.up(&[]);
    assert_eq!(app.states(), ["jobs-shelf-1 running healthy"]);
    for job in ["prepare", "fill"] {
        assert_eq!(
            app.inspect(job, "{{.State.Status}} {{.State.ExitCode}}"),
            ["exited 0"]
        );
    }
    let port = app.port("shelf", "8000");
    let shelf = |line: &str| web::request(port, "GET", "/", line).expect("an answer");
    assert_eq!(shelf(""), (401, "who are you?\n".to_owned()));
    let token = "Authorization: Bearer opens the shelf\r\n";
    assert_eq!(
        shelf(token),
        (200, "Amerika\nThe Castle\nThe Trial\n".to_owned())
    );
    let secret = ["stat", "-c", "%a %u", "/run/secrets/shelf-token"];
    assert_eq!(app.exec("shelf", &secret), "400 0");

    app.compose(&["run", "--rm", "-T", "report", "add", "Letter"])
        .ok();
    let list = app.compose(&["run", "--rm", "-T", "report"]).ok().out();
    assert_eq!(list, "Amerika\nLetter\nThe Castle\nThe Trial\n");
    assert_eq!(
        app.compose(&["run", "--rm", "-T", "report", "fail"]).code,
        7
    );

    let broken = app.compose(&["--profile", "broken", "up", "-d", "after-broken"]);
    let broken = broken.exits(1).err();
    let why = "service \"broken\" didn't complete successfully: exit 7";
    assert!(broken.contains(why), "{broken}");
    assert_eq!(
        app.inspect("after-broken", "{{.State.Status}}"),
        ["created"]
    );
    let logs = app.compose(&["--profile", "broken", "logs", "after-broken"]);
    assert_eq!(logs.ok().out(), "");

    // What stays comes back; a job that has ended does not run again.
    let ended = app.inspect("fill", "{{.State.FinishedAt}}");
    let served = || {
        let port = app.published("shelf", "8000")?;
        web::request(port, "GET", "/", token).ok()
    };
    let served = || served().is_some_and(|(status, _)| status == 200);
    app.kill_process("jobs-shelf-1");
    until("the shelf is back", || {
        app.restarts("jobs-shelf-1") == 1 && served()
    });
    app.compose(&["restart", "shelf"]).ok();
    until("the shelf is there again", served);
    assert_eq!(app.inspect("fill", "{{.State.FinishedAt}}"), ended);
    app.down();
}
