//! What is bound, what is not, and for how long.

use std::net::{TcpListener, UdpSocket};

use lighter_protocol::Failed;

use super::*;

/// Of the documentation: no host has it.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn listens(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind((ip, port)).is_err()
}

async fn refused(container: &mut Container, wanted: Bind) -> Failed {
    container.bind(wanted).await.failed.expect("a refusal")
}

#[tokio::test]
async fn all_addresses_are_bound_or_none() {
    let (all, (door, _guest)) = (publications(), door());
    let mut container = Container::publish(&all, "web", door).await.opened().await;
    let port = free_port();
    for transport in [Transport::Tcp, Transport::Udp] {
        let wanted = bind(1, transport, &[LOOPBACK, OTHER, NOWHERE], port);
        let failed = refused(&mut container, wanted).await;
        assert_eq!(failed.code, FailedCode::Unreachable);
        assert_eq!(failed.message, "cannot assign requested address");
    }
    assert!(!listens(LOOPBACK, port) && !listens(OTHER, port));
    assert_eq!(all.snapshot().0, 0);
    let bound = container
        .bind(bind(1, Transport::Tcp, &[LOOPBACK, OTHER], port))
        .await;
    assert_eq!(bound.failed, None);
    assert!(listens(LOOPBACK, port) && listens(OTHER, port));
    let (count, shown) = all.snapshot();
    assert_eq!((count, shown.len()), (1, 2));
    assert_eq!(
        (shown[1].container.as_str(), shown[1].address),
        ("web", OTHER)
    );
}

#[tokio::test]
async fn everywhere_is_of_one_family_only() {
    let (all, (door, _guest)) = (publications(), door());
    let mut container = Container::publish(&all, "web", door).await.opened().await;
    let port = free_port();
    let v6: IpAddr = "::".parse().unwrap();
    let v4: IpAddr = "0.0.0.0".parse().unwrap();
    let bound = container.bind(bind(1, Transport::Tcp, &[v6], port)).await;
    assert_eq!(bound.failed, None);
    assert!(!listens(LOOPBACK, port));
    let bound = container.bind(bind(2, Transport::Tcp, &[v4], port)).await;
    assert_eq!(bound.failed, None);
}

#[tokio::test]
async fn a_port_that_a_program_has_is_refused_with_its_name() {
    let (all, (door, _guest)) = (publications(), door());
    let mut container = Container::publish(&all, "web", door).await.opened().await;
    let tcp = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let udp = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let name = std::fs::read_to_string("/proc/self/comm").unwrap();
    let wanted = format!(
        "address already in use by `{}` (pid {})",
        name.trim_end(),
        std::process::id()
    );
    for (transport, address) in [
        (Transport::Tcp, tcp.local_addr().unwrap()),
        (Transport::Udp, udp.local_addr().unwrap()),
    ] {
        let wish = bind(1, transport, &[OTHER, LOOPBACK], address.port());
        let failed = refused(&mut container, wish).await;
        assert_eq!(failed.code, FailedCode::InUse);
        assert_eq!(failed.message, wanted);
    }
}

#[tokio::test]
async fn a_port_of_another_container_is_waited_for_and_then_refused_with_its_name() {
    let (all, (door, _guest)) = (publications(), door());
    let (first, address) = one_port(&all, door.clone()).await;
    let mut second = Container::publish(&all, "other", door).await.opened().await;
    let clock = Clock::stopped();
    let wish = bind(1, Transport::Tcp, &[LOOPBACK], address.port());
    let failed = clock.until(refused(&mut second, wish.clone())).await;
    assert_eq!(failed.code, FailedCode::InUse);
    assert_eq!(
        failed.message,
        "address already in use by the container `web`"
    );
    // Asked for before the end of the first is seen.
    let (bound, ()) = tokio::join!(second.bind(wish), async {
        clock.pass(Duration::from_secs(1)).await;
        first.close().await;
    });
    assert_eq!(bound.failed, None);
}

#[tokio::test]
async fn everything_is_closed_with_the_stream_and_with_the_machine() {
    let (all, (door, guest)) = (publications(), door());
    let (container, address) = one_port(&all, door.clone()).await;
    assert!(listens(LOOPBACK, address.port()));
    container.close().await;
    assert!(!listens(LOOPBACK, address.port()));
    assert_eq!(all.snapshot().0, 0);

    let (container, address) = one_port(&all, door).await;
    guest.ended.send(true).unwrap();
    container.served.await.unwrap();
    assert!(!listens(LOOPBACK, address.port()));
    let book = all.book();
    assert_eq!((book.streams, book.sockets, book.ports.len()), (0, 0, 0));
}

/// By this a guest knows that another container can have its ports.
#[tokio::test]
async fn the_hosts_end_is_closed_after_everything_else() {
    let (all, (door, _guest)) = (publications(), door());
    let (container, address) = one_port(&all, door).await;
    let (mut stream, _) = container.stream.into_raw();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty() && !listens(LOOPBACK, address.port()));
}

#[tokio::test]
async fn what_is_no_port_ends_the_stream_and_all_of_it() {
    let (all, (door, _guest)) = (publications(), door());
    let (mut container, address) = one_port(&all, door).await;
    container.stream.send(Opened::Publish).await.unwrap();
    container.stream.receive().await.unwrap_err();
    container.served.await.unwrap();
    assert!(!listens(LOOPBACK, address.port()));
}

#[tokio::test]
async fn beyond_the_limits_is_refused_and_what_is_given_back_is_there_again() {
    let limits = Limits {
        streams: 2,
        ports: 2,
        sockets: 3,
        ..Limits::here()
    };
    let (all, (door, _guest)) = (Arc::new(Publications::with(limits)), door());
    let mut first = Container::publish(&all, "a", door.clone())
        .await
        .opened()
        .await;
    let mut second = Container::publish(&all, "b", door.clone())
        .await
        .opened()
        .await;
    let mut third = Container::publish(&all, "c", door.clone()).await;
    match third.stream.receive().await.unwrap() {
        Message::Failed(failed) => assert_eq!(failed.code, FailedCode::Busy),
        other => panic!("{other:?}"),
    }
    let code = async |container: &mut Container, number, addresses: &[IpAddr]| {
        let wish = bind(number, Transport::Tcp, addresses, free_port());
        container.bind(wish).await.failed.map(|failed| failed.code)
    };
    // One that fails takes no place.
    for _ in 0..5 {
        let failed = code(&mut first, 1, &[NOWHERE]).await;
        assert_eq!(failed, Some(FailedCode::Unreachable));
    }
    assert_eq!(code(&mut first, 1, &[LOOPBACK]).await, None);
    assert_eq!(
        code(&mut first, 1, &[LOOPBACK]).await,
        Some(FailedCode::Malformed)
    );
    assert_eq!(code(&mut first, 2, &[LOOPBACK]).await, None);
    assert_eq!(
        code(&mut first, 3, &[LOOPBACK]).await,
        Some(FailedCode::Busy)
    );
    let two = [LOOPBACK, OTHER];
    assert_eq!(code(&mut second, 1, &two).await, Some(FailedCode::Busy));
    first.close().await;
    assert_eq!(code(&mut second, 1, &two).await, None);
    let _again = Container::publish(&all, "c", door).await.opened().await;
}
