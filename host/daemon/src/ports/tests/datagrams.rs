//! Clients of UDP: who is known, for how long, and what a guest that is slow costs.

use tokio::net::UdpSocket;

use super::*;

const SOON: Duration = Duration::from_secs(1);

async fn container(
    limits: Limits,
    addresses: &[IpAddr],
) -> (Arc<Publications>, Container, Arrivals, u16) {
    let (all, (door, guest)) = (Arc::new(Publications::with(limits)), door());
    let mut container = Container::publish(&all, "dns", door).await.opened().await;
    let port = free_port();
    let bound = container
        .bind(bind(9, Transport::Udp, addresses, port))
        .await;
    assert_eq!(bound.failed, None);
    (all, container, guest, port)
}

/// A client that takes datagrams of one address only.
async fn client(ip: IpAddr, port: u16) -> UdpSocket {
    let all: IpAddr = match ip {
        IpAddr::V4(_) => "0.0.0.0".parse().unwrap(),
        IpAddr::V6(_) => "::".parse().unwrap(),
    };
    let socket = UdpSocket::bind((all, 0)).await.unwrap();
    socket.connect((ip, port)).await.unwrap();
    socket
}

async fn heard(client: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 65536];
    let length = tokio::time::timeout(PATIENCE, client.recv(&mut bytes));
    let length = length.await.expect("an answer").unwrap();
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn each_client_has_its_own_stream_and_its_own_answers() {
    let (all, container, mut guest, port) = container(Limits::here(), &[LOOPBACK]).await;
    let (one, two) = (client(LOOPBACK, port).await, client(LOOPBACK, port).await);
    one.send(b"one").await.unwrap();
    let (accepted, mut to_one) = guest.next_flow().await;
    assert_eq!((accepted.id.as_str(), accepted.number), ("id-of-dns", 9));
    assert_eq!(
        (accepted.transport, accepted.client),
        (Transport::Udp, None)
    );
    two.send(b"two").await.unwrap();
    let (_, mut to_two) = guest.next_flow().await;
    one.send(b"").await.unwrap();
    one.send(&[7; 60_000]).await.unwrap();
    assert_eq!(to_one.receive().await.unwrap(), b"one");
    assert_eq!(to_one.receive().await.unwrap(), b"");
    assert_eq!(to_one.receive().await.unwrap(), [7; 60_000]);
    assert_eq!(to_two.receive().await.unwrap(), b"two");
    to_two.send(b"for two").await;
    to_one.send(b"for one").await;
    to_one.send(b"").await;
    to_one.send(&[8; 60_000]).await;
    assert_eq!(heard(&one).await, b"for one");
    assert_eq!(heard(&one).await, b"");
    assert_eq!(heard(&one).await, [8; 60_000]);
    assert_eq!(heard(&two).await, b"for two");
    container.close().await;
    assert_eq!(to_one.receive().await, None);
    assert_eq!((all.flows.len(), all.flows.bytes()), (0, 0));
}

#[tokio::test]
async fn answers_come_from_the_address_that_was_asked() {
    let everywhere = ["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
    let (_all, _container, mut guest, port) = container(Limits::here(), &everywhere).await;
    for (ip, v6) in [("127.0.0.1", false), ("127.0.0.3", false), ("::1", true)] {
        let client = client(ip.parse().unwrap(), port).await;
        client.send(b"q").await.unwrap();
        let (accepted, mut flow) = guest.next_flow().await;
        assert_eq!(accepted.v6, v6);
        flow.send(b"a").await;
        assert_eq!(heard(&client).await, b"a", "{ip}");
    }
}

#[tokio::test]
async fn a_client_that_is_quiet_is_forgotten_and_one_that_hears_something_is_not() {
    let (all, _container, mut guest, port) = container(Limits::here(), &[LOOPBACK]).await;
    let clock = Clock::stopped();
    let client = client(LOOPBACK, port).await;
    client.send(b"1").await.unwrap();
    let (_, mut flow) = guest.next_flow().await;
    assert_eq!(flow.receive().await.unwrap(), b"1");
    clock.pass(Duration::from_secs(80)).await;
    flow.send(b"answer").await;
    assert_eq!(heard(&client).await, b"answer");
    clock.pass(Duration::from_secs(80)).await;
    client.send(b"2").await.unwrap();
    assert_eq!(flow.receive().await.unwrap(), b"2");
    let began = tokio::time::Instant::now();
    assert_eq!(clock.until(flow.receive()).await, None);
    assert!((89..92).contains(&began.elapsed().as_secs()));
    assert_eq!(all.flows.len(), 0);
    client.send(b"3").await.unwrap();
    let (_, mut flow) = guest.next_flow().await;
    assert_eq!(flow.receive().await.unwrap(), b"3");
}

#[tokio::test]
async fn where_there_are_too_many_the_one_that_is_quiet_for_longest_is_forgotten() {
    let limits = Limits {
        flows: 3,
        flows_each: 2,
        ..Limits::here()
    };
    let (all, mut container, mut guest, port) = container(limits, &[LOOPBACK]).await;
    let clock = Clock::stopped();
    let mut flows = Vec::new();
    let mut clients = Vec::new();
    for number in 0..2_u8 {
        let client = client(LOOPBACK, port).await;
        client.send(&[number]).await.unwrap();
        let (_, mut flow) = guest.next_flow().await;
        assert_eq!(flow.receive().await.unwrap(), [number]);
        flows.push(flow);
        clients.push(client);
        clock.pass(SOON).await;
    }
    clients[0].send(b"again").await.unwrap();
    assert_eq!(flows[0].receive().await.unwrap(), b"again");
    clock.pass(SOON).await;
    let third = client(LOOPBACK, port).await;
    third.send(b"3").await.unwrap();
    let (_, _third) = guest.next_flow().await;
    assert_eq!(flows[1].receive().await, None);
    assert_eq!(all.flows.len(), 2);

    // Of all ports: there is room for one more, then not.
    clock.pass(SOON).await;
    let other = free_port();
    let bound = container
        .bind(bind(10, Transport::Udp, &[LOOPBACK], other))
        .await;
    assert_eq!(bound.failed, None);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let client = client(LOOPBACK, other).await;
        client.send(b"x").await.unwrap();
        kept.push((guest.next_flow().await, client));
        clock.pass(SOON).await;
    }
    assert_eq!(flows[0].receive().await, None);
    assert_eq!(all.flows.len(), 3);
}

#[tokio::test]
async fn a_guest_that_does_not_read_loses_datagrams_and_holds_nobody_up() {
    let (all, _container, mut guest, port) = container(Limits::here(), &[LOOPBACK]).await;
    let (flood, other) = (client(LOOPBACK, port).await, client(LOOPBACK, port).await);
    flood.send(&[0; 1000]).await.unwrap();
    let (_, mut deaf) = guest.next_flow().await;
    for number in 0..2000_u16 {
        let mut datagram = vec![0; 1000];
        datagram[..2].copy_from_slice(&number.to_le_bytes());
        flood.send(&datagram).await.unwrap();
        tokio::task::yield_now().await;
    }
    other.send(b"hello").await.unwrap();
    let (_, mut flow) = guest.next_flow().await;
    assert_eq!(flow.receive().await.unwrap(), b"hello");
    assert!(all.flows.bytes() <= all.limits.waiting_each);
    // What was not lost is whole.
    let mut whole = 0;
    let mut next = async || {
        whole += 1;
        let datagram = deaf.receive().await.unwrap();
        assert!(datagram.len() == 1000 || datagram == b"last");
        datagram
    };
    while all.flows.bytes() > 0 {
        next().await;
    }
    flood.send(b"last").await.unwrap();
    while next().await != b"last" {}
    assert!((20..1000).contains(&whole), "{whole}");
}

/// Of one port: those of another are not in the way of its clients.
#[tokio::test]
async fn clients_that_come_faster_than_the_guest_takes_them_are_lost_and_those_that_are_there_are_not()
 {
    let limits = Limits {
        beginning: 2,
        ..Limits::here()
    };
    let (all, mut container, mut guest, port) = container(limits, &[LOOPBACK]).await;
    let other = free_port();
    let bound = container
        .bind(bind(10, Transport::Udp, &[LOOPBACK], other))
        .await;
    assert_eq!(bound.failed, None);
    let known = client(LOOPBACK, port).await;
    known.send(b"first").await.unwrap();
    let (_, mut flow) = guest.next_flow().await;
    assert_eq!(flow.receive().await.unwrap(), b"first");
    guest.closed.store(true, Ordering::Relaxed);
    let mut flood = Vec::new();
    for _ in 0..20 {
        let client = client(LOOPBACK, port).await;
        client.send(b"new").await.unwrap();
        flood.push(client);
    }
    known.send(b"behind them").await.unwrap();
    assert_eq!(flow.receive().await.unwrap(), b"behind them");
    assert_eq!(all.flows.len(), 3);
    let client = client(LOOPBACK, other).await;
    client.send(b"elsewhere").await.unwrap();
    while all.flows.len() < 4 {
        tokio::task::yield_now().await;
    }
    // Whoever says it again is heard when the guest takes clients.
    guest.closed.store(false, Ordering::Relaxed);
    for _ in 0..3 {
        guest.next_flow().await;
    }
    flood[19].send(b"again").await.unwrap();
    let (_, mut last) = guest.next_flow().await;
    assert_eq!(last.receive().await.unwrap(), b"again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_is_free_when_the_guest_knows_that_it_is_closed() {
    for _ in 0..50 {
        let (_all, container, mut guest, port) = container(Limits::here(), &[LOOPBACK]).await;
        let mut flows = Vec::new();
        for _ in 0..16 {
            let client = client(LOOPBACK, port).await;
            client.send(b"x").await.unwrap();
            flows.push((guest.next_flow().await, client));
        }
        container.close().await;
        std::net::UdpSocket::bind((LOOPBACK, port)).expect("its clients have the port still");
    }
}

#[tokio::test]
async fn so_many_bytes_wait_in_all() {
    let limits = Limits {
        waiting: 10_000,
        ..Limits::here()
    };
    let (all, _container, guest, port) = container(limits, &[LOOPBACK]).await;
    guest.closed.store(true, Ordering::Relaxed);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = client(LOOPBACK, port).await;
        for _ in 0..4 {
            client.send(&[1; 1000]).await.unwrap();
        }
        clients.push(client);
    }
    while all.flows.len() < 4 {
        tokio::task::yield_now().await;
    }
    let bytes = all.flows.bytes();
    assert!((9_000..11_000).contains(&bytes), "{bytes}");
}

#[tokio::test]
async fn datagrams_wait_for_an_agent_that_is_started_again_for_a_while() {
    let (all, _container, mut guest, port) = container(Limits::here(), &[LOOPBACK]).await;
    let clock = Clock::stopped();
    guest.closed.store(true, Ordering::Relaxed);
    let client = client(LOOPBACK, port).await;
    client.send(b"early").await.unwrap();
    clock.pass(Duration::from_secs(8)).await;
    guest.closed.store(false, Ordering::Relaxed);
    let (_, mut flow) = clock.until(guest.next_flow()).await;
    assert_eq!(flow.receive().await.unwrap(), b"early");
    // The guest ends it: the next datagram is of a new one.
    drop(flow);
    clock.pass(SOON).await;
    assert_eq!(all.flows.len(), 0);
    guest.closed.store(true, Ordering::Relaxed);
    client.send(b"lost").await.unwrap();
    clock.pass(Duration::from_secs(30)).await;
    assert_eq!((all.flows.len(), all.flows.bytes()), (0, 0));
    guest.closed.store(false, Ordering::Relaxed);
    assert!(guest.is_quiet());
}
