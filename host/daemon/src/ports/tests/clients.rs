//! Clients of TCP and their way to the guest.

use std::io::ErrorKind;

use tokio::net::TcpSocket;

use super::*;

#[tokio::test]
async fn a_client_is_introduced_and_both_ways_have_their_own_end() {
    let (all, (door, mut guest)) = (publications(), door());
    let (_container, address) = one_port(&all, door).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let (accepted, mut inside) = guest.next().await;
    let expected = Accepted {
        id: "id-of-web".to_owned(),
        number: 7,
        transport: Transport::Tcp,
        client: None,
        v6: false,
    };
    assert_eq!(accepted, expected);
    assert!(inside.nodelay().unwrap());
    assert_eq!(rest(&mut inside).await.unwrap(), b"question");
    inside.write_all(b"answer").await.unwrap();
    drop(inside);
    assert_eq!(rest(&mut client).await.unwrap(), b"answer");
}

#[tokio::test]
async fn a_client_from_another_address_is_told_by_it() {
    let (all, (door, mut guest)) = (publications(), door());
    let mut container = Container::publish(&all, "web", door).await.opened().await;
    let (v6, port): (IpAddr, _) = ("::1".parse().unwrap(), free_port());
    container.bind(bind(3, Transport::Tcp, &[v6], port)).await;
    let _client = TcpStream::connect((v6, port)).await.unwrap();
    let (accepted, _) = guest.next().await;
    assert_eq!((accepted.number, accepted.v6), (3, true));
    assert_eq!(accepted.client, None);
}

#[tokio::test]
async fn connections_outlive_the_port_they_came_to() {
    let (all, (door, mut guest)) = (publications(), door());
    let (container, address) = one_port(&all, door).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let (_, mut inside) = guest.next().await;
    container.close().await;
    inside.write_all(b"still here").await.unwrap();
    drop(inside);
    assert_eq!(rest(&mut client).await.unwrap(), b"still here");
    TcpStream::connect(address).await.unwrap_err();
}

#[tokio::test]
async fn a_client_waits_for_an_agent_that_is_started_again() {
    let (all, (door, mut guest)) = (publications(), door());
    let (_container, address) = one_port(&all, door).await;
    guest.closed.store(true, Ordering::Relaxed);
    let clock = Clock::stopped();
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"early").await.unwrap();
    client.shutdown().await.unwrap();
    clock.pass(Duration::from_secs(8)).await;
    guest.closed.store(false, Ordering::Relaxed);
    let (_, mut inside) = clock.until(guest.next()).await;
    assert_eq!(rest(&mut inside).await.unwrap(), b"early");
}

#[tokio::test]
async fn a_client_that_the_guest_does_not_take_is_reset() {
    let (all, (door, guest)) = (publications(), door());
    let (_container, address) = one_port(&all, door).await;
    guest.closed.store(true, Ordering::Relaxed);
    let clock = Clock::stopped();
    let mut client = TcpStream::connect(address).await.unwrap();
    let error = clock.until(rest(&mut client)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_client_that_waits_is_reset_with_its_port() {
    let (all, (door, guest)) = (publications(), door());
    let (container, address) = one_port(&all, door).await;
    guest.closed.store(true, Ordering::Relaxed);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"x").await.unwrap();
    while all.arrivals.available_permits() == all.limits.arrivals {
        tokio::task::yield_now().await;
    }
    container.close().await;
    let error = rest(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Accepted, and not even on its way.
#[tokio::test]
async fn so_is_one_that_waits_for_its_turn() {
    let limits = Limits {
        arrivals: 1,
        ..Limits::here()
    };
    let (all, (door, _guest)) = (Arc::new(Publications::with(limits)), door());
    let (container, address) = one_port(&all, door).await;
    let _taken = Arc::clone(&all.arrivals).acquire_owned().await.unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    // It is accepted by now, and waits: nothing else is to be done.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    container.close().await;
    let error = rest(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn so_is_one_that_the_guest_refuses_after_its_port_was_closed() {
    let (all, (door, mut guest)) = (publications(), door());
    let (container, address) = one_port(&all, door).await;
    guest.closed.store(true, Ordering::Relaxed);
    guest.asked.store(true, Ordering::Relaxed);
    let mut client = TcpStream::connect(address).await.unwrap();
    let answer = guest.next_question().await;
    container.close().await;
    drop(answer);
    let error = rest(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn so_many_clients_are_on_their_way_and_the_others_wait_for_their_turn() {
    let limits = Limits {
        arrivals: 2,
        ..Limits::here()
    };
    let (all, (door, mut guest)) = (Arc::new(Publications::with(limits)), door());
    let (_container, address) = one_port(&all, door).await;
    guest.closed.store(true, Ordering::Relaxed);
    let mut clients = Vec::new();
    for number in 0..5_u8 {
        let socket = TcpSocket::new_v4().unwrap();
        let mut client = socket.connect(address).await.unwrap();
        client.write_all(&[number]).await.unwrap();
        client.shutdown().await.unwrap();
        clients.push(client);
    }
    let clock = Clock::stopped();
    clock.pass(Duration::from_secs(1)).await;
    assert_eq!(all.arrivals.available_permits(), 0);
    guest.closed.store(false, Ordering::Relaxed);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (_, mut inside) = clock.until(guest.next()).await;
        seen.extend(rest(&mut inside).await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}
