//! The exact bytes of every message: a change here is a change of the protocol.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use lighter_protocol::*;

const SECRET: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn secret() -> Secret {
    Secret::from_hex(SECRET).unwrap()
}

fn route(to: &str, direct: bool) -> Route {
    let to = to.into();
    Route { to, direct }
}

/// Checks both directions, and that the table covers the type number only once.
fn golden(message: impl Into<Message>, kind: u8, json: &str) {
    let message = message.into();
    let mut expected = (json.len() as u32 + 1).to_le_bytes().to_vec();
    expected.push(kind);
    expected.extend_from_slice(json.as_bytes());
    let bytes = message.encode().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        String::from_utf8_lossy(&expected)
    );

    let mut decoder = Decoder::new();
    decoder.push(&expected);
    assert_eq!(decoder.next_message().unwrap(), Some(message));
    assert!(!decoder.is_partial());
}

#[test]
fn bytes_of_health_written_out() {
    // The one test without any helper: the layout itself.
    let bytes = Message::from(Health { seq: 7 }).encode().unwrap();
    assert_eq!(bytes, b"\x0a\0\0\0\x10{\"seq\":7}");
}

#[test]
fn hello() {
    let boot = Box::new(BootSettings {
        clock_unix_ns: 1_790_000_000_000_000_001,
        machine_id: "m1".into(),
        hostname: "lighter".into(),
        dns: vec!["192.0.2.1".into()],
        search: vec!["example.org".into()],
        trust_roots_pem: "-----BEGIN".into(),
        shares: vec![Share {
            id: "s1".into(),
            host_path: "/home/ann".into(),
            read_only: true,
        }],
        api_sockets: vec!["/run/lighter/docker.sock".into()],
        proxies: Proxies {
            https: "http://proxy.example:3128".into(),
            none_for: "corp.example".into(),
            ..Proxies::default()
        },
        engine: EngineSettings {
            registry_mirrors: vec!["https://mirror.example".into()],
            insecure_registries: vec!["localhost:5000".into()],
            log_driver: "json-file".into(),
            log_opts: [("max-size".to_owned(), "10m".to_owned())].into(),
            default_address_pools: vec![AddressPool {
                base: "172.30.0.0/16".into(),
                size: 24,
            }],
            userns_remap: true,
            shutdown_timeout: Some(15),
            ..EngineSettings::default()
        },
        disk_size_bytes: 68_719_476_736,
        host_user: HostUser {
            uid: 1000,
            gid: 100,
            name: "ann".into(),
            home: "/home/ann".into(),
        },
        routes: vec![route("10.8.0.0/24", true)],
    });
    let json = concat!(
        r#"{"version":1,"secret":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f","#,
        r#""boot":{"clock_unix_ns":1790000000000000001,"machine_id":"m1","hostname":"lighter","#,
        r#""dns":["192.0.2.1"],"search":["example.org"],"trust_roots_pem":"-----BEGIN","#,
        r#""shares":[{"id":"s1","host_path":"/home/ann","read_only":true}],"#,
        r#""api_sockets":["/run/lighter/docker.sock"],"#,
        r#""proxies":{"http":"","https":"http://proxy.example:3128","none_for":"corp.example"},"#,
        r#""engine":{"registry-mirrors":["https://mirror.example"],"#,
        r#""insecure-registries":["localhost:5000"],"log-driver":"json-file","#,
        r#""log-opts":{"max-size":"10m"},"dns":[],"dns-search":[],"dns-opts":[],"#,
        r#""default-address-pools":[{"base":"172.30.0.0/16","size":24}],"ip":"","bip":"","fixed-cidr":"","#,
        r#""ipv6":false,"fixed-cidr-v6":"","host-network-ports":null,"labels":[],"#,
        r#""userns-remap":true,"shutdown-timeout":15,"max-concurrent-downloads":null,"debug":false},"#,
        r#""disk_size_bytes":68719476736,"#,
        r#""host_user":{"uid":1000,"gid":100,"name":"ann","home":"/home/ann"},"#,
        r#""routes":[{"to":"10.8.0.0/24","direct":true}]}}"#,
    );
    golden(
        Hello {
            version: 1,
            secret: secret(),
            boot,
        },
        0x01,
        json,
    );
}

#[test]
fn answers_to_hello() {
    let welcome = Welcome {
        version: 1,
        agent_version: "0.1.0".into(),
        boot_id: "b".into(),
        kernel: "6.12.1".into(),
    };
    golden(
        welcome,
        0x02,
        r#"{"version":1,"agent_version":"0.1.0","boot_id":"b","kernel":"6.12.1"}"#,
    );
    let refused = Refused {
        version: 1,
        code: RefusedCode::WrongDisk,
        message: "no".into(),
    };
    golden(
        refused,
        0x03,
        r#"{"version":1,"code":"wrong_disk","message":"no"}"#,
    );
}

#[test]
fn health_and_status() {
    golden(
        HealthOk {
            seq: 7,
            engine: EngineState::Ready,
        },
        0x11,
        r#"{"seq":7,"engine":{"state":"ready"}}"#,
    );
    golden(
        HealthOk {
            seq: 8,
            engine: EngineState::Failed {
                message: "db".into(),
            },
        },
        0x11,
        r#"{"seq":8,"engine":{"state":"failed","message":"db"}}"#,
    );
    golden(Clock { unix_ns: 5 }, 0x12, r#"{"unix_ns":5}"#);
    golden(Status { seq: 9 }, 0x13, r#"{"seq":9}"#);
    let status = StatusOk {
        seq: 9,
        engine: EngineState::Starting,
        uptime_ms: 1,
        memory_total_bytes: 2,
        memory_available_bytes: 3,
        disk_total_bytes: 4,
        disk_free_bytes: 5,
        agent_starts: 6,
        processes: 7,
    };
    let json = concat!(
        r#"{"seq":9,"engine":{"state":"starting"},"uptime_ms":1,"memory_total_bytes":2,"#,
        r#""memory_available_bytes":3,"disk_total_bytes":4,"disk_free_bytes":5,"#,
        r#""agent_starts":6,"processes":7}"#,
    );
    golden(status, 0x14, json);
    let routes = vec![route("172.18.0.0/16", true), route("fd00:1::/48", false)];
    let json = concat!(
        r#"{"routes":[{"to":"172.18.0.0/16","direct":true},"#,
        r#"{"to":"fd00:1::/48","direct":false}]}"#,
    );
    golden(Routes { routes }, 0x15, json);
}

#[test]
fn end_of_the_machine() {
    let shutdown = Shutdown {
        timeout_ms: 15_000,
        reason: ShutdownReason::User,
    };
    golden(shutdown, 0x20, r#"{"timeout_ms":15000,"reason":"user"}"#);
    golden(
        Bye {
            reason: ByeReason::Shutdown,
        },
        0x21,
        r#"{"reason":{"why":"shutdown"}}"#,
    );
    golden(ByeOk {}, 0x22, "{}");
}

#[test]
fn open_and_answers() {
    let dial = Dial {
        host: "registry-1.docker.io".into(),
        port: 443,
        tls: true,
        purpose: DialPurpose::Registry {
            user_named: true,
            registry: "docker.io".into(),
        },
    };
    let json = format!(
        "{{\"secret\":\"{SECRET}\",{}}}",
        concat!(
            r#""request":{"kind":"dial","host":"registry-1.docker.io","port":443,"tls":true,"#,
            r#""purpose":{"purpose":"registry","user_named":true,"registry":"docker.io"}}"#,
        )
    );
    golden(
        Open {
            secret: secret(),
            request: Request::Dial(dial),
        },
        0x40,
        &json,
    );

    let share = ActivateShare {
        path: "/home/ann/w".into(),
        read_only: false,
        create: true,
    };
    let json = format!(
        "{{\"secret\":\"{SECRET}\",{}}}",
        concat!(
            r#""request":{"kind":"activate_share","path":"/home/ann/w","read_only":false,"#,
            r#""create":true}"#,
        )
    );
    golden(
        Open {
            secret: secret(),
            request: Request::ActivateShare(share),
        },
        0x40,
        &json,
    );

    golden(
        Opened::Dial {
            peer: "192.0.2.7:443".into(),
        },
        0x41,
        r#"{"kind":"dial","peer":"192.0.2.7:443"}"#,
    );
    golden(
        Opened::Share {
            path: "g1/w".into(),
            read_only: true,
        },
        0x41,
        r#"{"kind":"share","path":"g1/w","read_only":true}"#,
    );
    let failed = Failed {
        code: FailedCode::Denied,
        message: "shares".into(),
    };
    golden(failed, 0x42, r#"{"code":"denied","message":"shares"}"#);
}

#[test]
fn published_ports() {
    let publish = Publish {
        id: "0123abcd".into(),
        name: "web".into(),
    };
    let json = format!(
        "{{\"secret\":\"{SECRET}\",{}}}",
        r#""request":{"kind":"publish","id":"0123abcd","name":"web"}"#
    );
    let request = Request::Publish(publish);
    let secret = secret();
    golden(Open { secret, request }, 0x40, &json);
    golden(Opened::Publish, 0x41, r#"{"kind":"publish"}"#);

    let bind = Bind {
        number: 1,
        transport: Transport::Udp,
        addresses: vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()],
        port: 53,
    };
    let json = r#"{"number":1,"transport":"udp","addresses":["0.0.0.0","::"],"port":53}"#;
    golden(bind, 0x50, json);
    let (number, failed) = (1, None);
    golden(
        Bound { number, failed },
        0x51,
        r#"{"number":1,"failed":null}"#,
    );
    let failed = Some(Failed {
        code: FailedCode::InUse,
        message: "address already in use".into(),
    });
    let json = r#"{"number":1,"failed":{"code":"in_use","message":"address already in use"}}"#;
    golden(Bound { number, failed }, 0x51, json);
    let accepted = Accepted {
        id: "0123abcd".into(),
        number: 1,
        transport: Transport::Tcp,
        client: Some("192.0.2.9:40000".parse().unwrap()),
        v6: false,
    };
    let json = concat!(
        r#"{"id":"0123abcd","number":1,"transport":"tcp","client":"192.0.2.9:40000","#,
        r#""v6":false}"#,
    );
    golden(accepted, 0x52, json);
}

#[test]
fn bounds_of_published_ports() {
    let refused = |message: Message| {
        let mut decoder = Decoder::new();
        decoder.push(&message.encode().unwrap());
        matches!(decoder.next_message(), Err(MessageError::Bounds { .. }))
    };
    let bind = |port, addresses: usize| Bind {
        number: 1,
        transport: Transport::Tcp,
        addresses: vec!["::1".parse().unwrap(); addresses],
        port,
    };
    assert!(!refused(bind(1, 16).into()));
    assert!(refused(bind(0, 1).into()));
    assert!(refused(bind(1, 0).into()));
    assert!(refused(bind(1, 17).into()));
    let publish = |id: &str, name: &str| Open {
        secret: secret(),
        request: Request::Publish(Publish {
            id: id.into(),
            name: name.into(),
        }),
    };
    assert!(!refused(publish("ab", "a_b-c.1").into()));
    assert!(refused(publish("", "a").into()));
    assert!(refused(publish("ab", "a\x1b[2J").into()));
    assert!(refused(publish(&"a".repeat(257), "a").into()));
}
