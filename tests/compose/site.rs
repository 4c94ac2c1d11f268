//! Pages that change while they are served, and a log that is followed.

use lighter_tests::until;

use crate::app::App;
use crate::web;

#[test]
fn pages_change_while_they_are_served_and_logs_are_followed() {
    let Some(app) = App::new("site") else {
        return;
    };
    app.write("local.env", "SITE_LEVEL=debug\n");
    app.up(&[]);
    let environment = app.exec("pages", &["env"]);
    for setting in ["SITE_NAME=pages that change", "SITE_LEVEL=debug"] {
        assert!(
            environment.lines().any(|line| line == setting),
            "{environment}"
        );
    }
    let labels = app.inspect("reader", "{{index .Config.Labels \"test.lighter.app\"}}");
    assert_eq!(labels, ["site"]);

    let watch = app.follow(&["watch"]);
    watch.until("Watch enabled");
    let port = app.port("pages", "80");
    until("the first page", || {
        web::get(port, "/").as_deref() == Some("first\n")
    });
    app.write("pages/index.html", "second\n");
    until("what was written", || {
        web::get(port, "/").as_deref() == Some("second\n")
    });
    let started = app.inspect("pages", "{{.State.StartedAt}}");
    app.write("motto/motto", "make haste slowly\n");
    watch.until("restarted");
    assert_ne!(app.inspect("pages", "{{.State.StartedAt}}"), started);
    assert_eq!(
        app.exec("pages", &["cat", "/motto/motto"]),
        "make haste slowly"
    );
    drop(watch);

    let log = app.follow(&["logs", "-f", "reader"]);
    let port = app.port("pages", "80");
    until("a page", || web::get(port, "/?before").is_some());
    log.until("GET /?before ");
    app.kill_process("site-pages-1");
    until("the pages are back", || {
        let port = app.published("pages", "80");
        app.restarts("site-pages-1") == 1
            && port.is_some_and(|port| web::get(port, "/?after").is_some())
    });
    log.until("GET /?after ");
    // The reader starts again, and is followed on.
    app.compose(&["restart", "reader"]).ok();
    let port = app.port("pages", "80");
    until("a page", || web::get(port, "/?again").is_some());
    log.until("GET /?again ");

    app.up(&["--scale", "reader=3"]);
    assert_eq!(app.inspect("reader", "{{.State.Status}}"), ["running"; 3]);
    let logs = app.compose(&["logs", "--no-color", "reader"]).ok().out();
    for reader in ["reader-1", "reader-2", "reader-3"] {
        let read = logs.lines().filter(|line| line.starts_with(reader));
        assert!(
            read.clone().any(|line| line.contains("GET /?again ")),
            "{reader}: {logs}"
        );
    }
    app.down();
}
