//! Datagrams: to published ports, and to containers of the host's network.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use lighter_tests::until;

use super::places::{
    HOST, HOST_V6, LOOPBACK, LOOPBACK_V6, NEIGHBOUR, NEIGHBOUR_V6, PATIENCE, Places, Who,
};

impl Places {
    /// What it says to so many bytes; only an answer from the address that was asked is heard.
    fn told(
        &self,
        who: Who,
        from: IpAddr,
        to: SocketAddr,
        length: usize,
    ) -> std::io::Result<String> {
        self.at(who, move || {
            let socket = UdpSocket::bind((from, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(&vec![b'x'; length])?;
            let mut buffer = [0; 100];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }
}

#[test]
fn datagrams_reach_a_container_from_their_senders() {
    let name = "datagrams_reach_a_container_from_their_senders";
    let Some(places) = Places::shared(name) else {
        return;
    };
    places.probe("answers", &["-p", "5353:53/udp"], &["answer", "53"]);
    let ask = |who: Who, from: IpAddr, to: IpAddr, length: usize| {
        let told = places.told(who, from, (to, 5353).into(), length);
        told.expect("an answer")
    };
    assert_eq!(ask(Who::Neighbour, NEIGHBOUR, HOST, 5), "192.0.2.9 5");
    assert_eq!(
        ask(Who::Neighbour, NEIGHBOUR, HOST, 40_000),
        "192.0.2.9 40000"
    );
    assert_eq!(ask(Who::Own, LOOPBACK, LOOPBACK, 7), "172.17.0.1 7");
    assert_eq!(
        ask(Who::Neighbour, NEIGHBOUR_V6, HOST_V6, 9),
        "172.17.0.1 9"
    );
    places.host.docker(&["rm", "-f", "answers"]).ok();
}

#[test]
fn datagrams_reach_a_container_of_the_hosts_network_from_the_host_alone() {
    let name = "datagrams_reach_a_container_of_the_hosts_network_from_the_host_alone";
    let Some(places) = Places::shared(name) else {
        return;
    };
    let is_free = || {
        let bind = || UdpSocket::bind((LOOPBACK, 9393)).map(drop);
        places.at(Who::Own, bind).is_ok()
    };
    assert!(is_free());
    places.probe("takes", &["--network", "host"], &["answer", "9393"]);
    until("the host takes datagrams", || !is_free());
    // There is nothing between the machine's loopback and the program.
    for at in [LOOPBACK, LOOPBACK_V6] {
        let told = places.told(Who::Own, at, (at, 9393).into(), 5);
        assert_eq!(told.expect("an answer"), "127.0.0.1 5");
    }
    for (from, to) in [(NEIGHBOUR, HOST), (NEIGHBOUR_V6, HOST_V6)] {
        let refused = places.told(Who::Neighbour, from, (to, 9393).into(), 5);
        let kind = refused.expect_err("nobody is there").kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
    }
    // Its end is heard of as well, and what begins after the engine has ended.
    places.host.docker(&["stop", "-t", "0", "takes"]).ok();
    until("the host takes none", is_free);
    places.host.docker(&["start", "takes"]).ok();
    until("the host takes datagrams", || !is_free());
    let told = places.told(Who::Own, LOOPBACK, (LOOPBACK, 9393).into(), 7);
    assert_eq!(told.expect("an answer"), "127.0.0.1 7");
    places.host.docker(&["rm", "-f", "takes"]).ok();
    until("the host takes none", is_free);
}
