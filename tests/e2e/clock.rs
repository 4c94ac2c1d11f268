//! Time in the machine.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use lighter_tests::{Host, until};

/// When the machine was asked and had answered, and what its clock showed in between.
struct Look {
    before: Instant,
    shown: Duration,
    after: Instant,
}

fn look(host: &Host) -> Look {
    let before = Instant::now();
    let said = host.docker(&["exec", "clock", "cat", "/proc/uptime"]).ok();
    let after = Instant::now();
    let said = said.out();
    let seconds = said.split(' ').next().and_then(|word| word.parse().ok());
    let shown = Duration::from_secs_f64(seconds.expect("an uptime"));
    Look {
        before,
        shown,
        after,
    }
}

/// A kernel that measures its processor's counter while the host is busy may be wrong by a multiple.
#[test]
fn time_passes_as_on_the_host() {
    const LONG: Duration = Duration::from_secs(4);
    let Some(host) = Host::started("time_passes_as_on_the_host") else {
        return;
    };
    let run = ["run", "-d", "--network", "none", "--name", "clock"];
    host.docker(&[&run[..], &["busybox", "sleep", "1000000"]].concat())
        .ok();
    let first = look(&host);
    let last = OnceCell::new();
    until("some time has passed", || {
        let last_one = look(&host);
        last_one.before - first.after >= LONG && last.set(last_one).is_ok()
    });
    let last = last.into_inner().expect("a look");
    let passed = last.shown - first.shown;
    // A hundredth for the clock's steps and the host's own corrections.
    let (least, most) = (last.before - first.after, last.after - first.before);
    assert!(passed * 100 >= least * 99, "{passed:?} of {least:?}");
    assert!(passed * 100 <= most * 101, "{passed:?} of {most:?}");
}
