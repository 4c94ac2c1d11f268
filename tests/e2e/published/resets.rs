//! Connections that are broken off: that is no ordinary end, on neither side.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use lighter_tests::until;
use rustix::net::sockopt;

use super::places::{HOST, LOOPBACK, Places, Who};

#[test]
fn a_container_that_breaks_off_resets_its_client_behind_what_it_said() {
    let name = "a_container_that_breaks_off_resets_its_client_behind_what_it_said";
    let Some(places) = Places::shared(name) else {
        return;
    };
    places.probe("parts", &["-p", "8686:80"], &["part", "80"]);
    for (who, to) in [(Who::Neighbour, HOST), (Who::Own, LOOPBACK)] {
        let mut stream = places.connect(who, (to, 8686)).expect("connected");
        stream
            .write_all(b"part, and nobody reads this")
            .expect("sent");
        let mut said = Vec::new();
        let end = stream.read_to_end(&mut said);
        let end = end.expect_err("an ordinary end").kind();
        assert_eq!((&said[..], end), (&b"half"[..], ErrorKind::ConnectionReset));
    }
    places.host.docker(&["rm", "-f", "parts"]).ok();
}

#[test]
fn a_client_that_breaks_off_is_a_reset_to_the_container_and_one_that_ends_is_not() {
    let name = "a_client_that_breaks_off_is_a_reset_to_the_container_and_one_that_ends_is_not";
    let Some(places) = Places::shared(name) else {
        return;
    };
    places.probe("hears", &["-p", "8687:80"], &["part", "80"]);
    for (text, end) in [("stay ended", "end"), ("stay broken", "reset")] {
        let mut stream = places
            .connect(Who::Neighbour, (HOST, 8687))
            .expect("connected");
        stream.write_all(text.as_bytes()).expect("sent");
        if end == "reset" {
            sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).expect("set");
        }
        drop(stream);
        let told = format!("{text}: {end}\n");
        until("what it heard", || {
            places.host.docker(&["logs", "hears"]).out().contains(text)
        });
        let said = places.host.docker(&["logs", "hears"]).out();
        assert!(said.contains(&told), "{said}");
    }
    places.host.docker(&["rm", "-f", "hears"]).ok();
}
