//! Rules with made-up containers, and the service in namespaces with a server behind the host's network.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use lighter_protocol::link;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::answer::{Over, Turns, Verdict, judge};
use super::{Onward, Places, SERVER, Sockets, Zone, serve};
use crate::tests::place::Place;
use crate::tests::{Lab, lab};

/// Containers by name, with their addresses.
#[derive(Default)]
struct Made {
    containers: BTreeMap<String, Vec<IpAddr>>,
    onward: Onward,
}

impl Zone for Made {
    fn addresses(&self, _: &str, name: &str, v6: bool) -> Option<Vec<IpAddr>> {
        let found = self.containers.get(&name.to_lowercase())?;
        Some(
            found
                .iter()
                .copied()
                .filter(|ip| ip.is_ipv6() == v6)
                .collect(),
        )
    }

    fn name(&self, _: &str, address: IpAddr) -> Option<String> {
        let mut all = self.containers.iter();
        let (name, _) = all.find(|(_, own)| own.contains(&address))?;
        Some(format!("{name}.net"))
    }

    fn onward(&self, _: &str) -> Onward {
        self.onward.clone()
    }
}

fn made() -> Made {
    let many = (1..=200)
        .map(|last| IpAddr::from([10, 1, 1, last]))
        .collect();
    Made {
        containers: BTreeMap::from([
            ("web".into(), vec!["10.1.0.2".parse().unwrap()]),
            (
                "both".into(),
                vec!["10.1.0.3".parse().unwrap(), "fd00::3".parse().unwrap()],
            ),
            (
                "some".into(),
                (4..7).map(|last| IpAddr::from([10, 1, 0, last])).collect(),
            ),
            ("many".into(), many),
        ]),
        onward: Onward {
            plain_names: true,
            ..Onward::default()
        },
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = format!("{}.", name.trim_end_matches('.'));
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn judged(bytes: &[u8]) -> Verdict {
    judged_by(bytes, &Turns::default())
}

fn judged_by(bytes: &[u8], turns: &Turns) -> Verdict {
    judge(bytes, Over::Datagram, &made(), "asker", turns)
}

fn replied(message: &Message) -> Message {
    replied_by(message, &Turns::default())
}

fn replied_by(message: &Message, turns: &Turns) -> Message {
    match judged_by(&message.to_vec().unwrap(), turns) {
        Verdict::Reply(reply) => Message::from_vec(&reply).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What an answer says, as text.
fn said(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect()
}

#[test]
fn known_names_are_answered_in_any_case_and_family() {
    for (name, kind, expected) in [
        ("web", RecordType::A, vec!["10.1.0.2"]),
        ("WeB", RecordType::A, vec!["10.1.0.2"]),
        ("web", RecordType::AAAA, vec![]),
        ("web", RecordType::MX, vec![]),
        ("both", RecordType::A, vec!["10.1.0.3"]),
        ("both", RecordType::AAAA, vec!["fd00::3"]),
        ("2.0.1.10.in-addr.arpa", RecordType::PTR, vec!["web.net."]),
    ] {
        let asked = question(name, kind);
        let reply = replied(&asked);
        assert_eq!(said(&reply), expected, "{name} {kind}");
        assert_eq!(reply.metadata.id, 0x1234);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
        assert_eq!(
            reply.queries[0].name.to_string(),
            asked.queries[0].name.to_string()
        );
        assert!(reply.answers.iter().all(|record| record.ttl == 600));
    }
    let v6 = "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(
        said(&replied(&question(v6, RecordType::PTR))),
        ["both.net."]
    );
}

#[test]
fn everything_else_is_for_others() {
    for (name, kind) in [
        ("nobody", RecordType::A),
        ("web.example", RecordType::A),
        ("web", RecordType::TXT),
        ("web", RecordType::ANY),
        ("9.0.1.10.in-addr.arpa", RecordType::PTR),
        // Half an address is none.
        ("0.1.10.in-addr.arpa", RecordType::PTR),
        (".", RecordType::A),
    ] {
        let verdict = judged(&question(name, kind).to_vec().unwrap());
        assert!(
            matches!(verdict, Verdict::Onward(_)),
            "{name} {kind}: {verdict:?}"
        );
    }
}

#[test]
fn several_of_one_name_take_turns() {
    let (asked, other) = (
        question("some", RecordType::A),
        question("some", RecordType::AAAA),
    );
    let turns = Turns::default();
    let first = |_| {
        // Programs ask for both families, and for others in between.
        assert!(replied_by(&other, &turns).answers.is_empty());
        replied_by(&question("web", RecordType::A), &turns);
        let all = said(&replied_by(&asked, &turns));
        assert_eq!(all.len(), 3);
        all[0].clone()
    };
    let first: Vec<String> = (0..4).map(first).collect();
    assert_eq!(first, ["10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.4"]);
}

#[test]
fn what_is_too_long_for_a_datagram_is_cut_off_and_said_so() {
    let mut asked = question("many", RecordType::A);
    let short = replied(&asked);
    assert!(short.metadata.truncation && short.answers.is_empty());
    asked.set_edns(Edns::new().set_max_payload(4_096).clone());
    let whole = replied(&asked);
    assert_eq!(
        (whole.metadata.truncation, whole.answers.len()),
        (false, 200)
    );
    let bytes = question("many", RecordType::A).to_vec().unwrap();
    let Verdict::Reply(whole) = judge(
        &bytes,
        Over::Connection,
        &made(),
        "asker",
        &Turns::default(),
    ) else {
        panic!("no reply");
    };
    assert_eq!(Message::from_vec(&whole).unwrap().answers.len(), 200);
}

#[test]
fn what_is_no_question_gets_a_bare_refusal_or_nothing() {
    let good = question("web", RecordType::A).to_vec().unwrap();
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        judged(&bytes)
    };
    let code = |verdict: Verdict| match verdict {
        Verdict::Reply(reply) => (reply.len(), reply[2], reply[3]),
        other => panic!("{other:?}"),
    };
    assert!(matches!(with(2, 0x81), Verdict::Silence), "an answer");
    assert!(matches!(judged(&good[..11]), Verdict::Silence));
    // No question, two, and one that is not there.
    assert_eq!(code(with(5, 0)), (12, 0x81, 1));
    assert_eq!(code(with(5, 2)), (12, 0x81, 1));
    assert_eq!(code(judged(&good[..14])), (12, 0x81, 1));
    // Something else than a question, and a name that is itself.
    assert_eq!(code(with(2, 0x09)), (12, 0x89, 4));
    let mut looped = good[..12].to_vec();
    looped.extend([0xc0, 0x0c, 0, 1, 0, 1]);
    assert_eq!(code(judged(&looped)), (12, 0x81, 1));
}

#[test]
fn answers_are_believed_only_to_the_question_that_was_asked() {
    let asked = question("nobody", RecordType::A);
    let Verdict::Onward(own) = judged(&asked.to_vec().unwrap()) else {
        panic!("it is for others");
    };
    let answer = |id: u16, name: &str, kind: RecordType, is_answer: bool| {
        let mut message = question(name, kind);
        message.metadata.id = id;
        if is_answer {
            message.metadata.message_type = MessageType::Response;
        }
        message.to_vec().unwrap()
    };
    let accepted = own
        .accept(&answer(7, "NoBody", RecordType::A, true), 7)
        .unwrap();
    assert_eq!(accepted.answer[..2], [0x12, 0x34]);
    assert!(!accepted.failed);
    for wrong in [
        answer(8, "nobody", RecordType::A, true),
        answer(7, "somebody", RecordType::A, true),
        answer(7, "nobody", RecordType::AAAA, true),
        answer(7, "nobody", RecordType::A, false),
        vec![0, 7, 0x80],
        Vec::new(),
    ] {
        assert!(own.accept(&wrong, 7).is_none(), "{wrong:?}");
    }
    // Longer than who asked takes.
    let mut long = answer(7, "nobody", RecordType::A, true);
    long.resize(513, 0);
    let accepted = own.accept(&long, 7).unwrap().answer;
    let short = Message::from_vec(&accepted).unwrap();
    assert!(short.metadata.truncation && short.metadata.id == 0x1234);
}

proptest! {
    #[test]
    fn nothing_that_comes_in_makes_more_than_a_reply_of_bounded_length(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        header in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if header && bytes.len() >= 12 {
            bytes[2..12].copy_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        if let Verdict::Reply(reply) = judged(&bytes) {
            prop_assert!((12..=512).contains(&reply.len()) || reply.len() <= 65_507);
            prop_assert_eq!(&reply[..2], &bytes[..2]);
            prop_assert!(reply[2] & 0x80 != 0);
        }
    }

    #[test]
    fn no_change_of_a_good_question_is_fatal(
        at in 0..40_usize, byte in any::<u8>(), cut in 0..40_usize, answer in any::<bool>(),
    ) {
        let mut bytes = question("both", RecordType::A).to_vec().unwrap();
        if let Some(one) = bytes.get_mut(at) {
            *one = byte;
        }
        bytes.truncate(bytes.len().saturating_sub(cut % 8));
        let _ = judged(&bytes);
        if answer {
            let good = question("nobody", RecordType::A).to_vec().unwrap();
            if let Verdict::Onward(asked) = judged(&good) {
                let _ = asked.accept(&bytes, 0x1234);
            }
        }
    }
}

/// A container with a service, on a thread that serves it.
struct Served {
    container: Place,
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn served(lab: &Lab, zone: Made) -> Served {
    let container = Place::new();
    let places = Places {
        container: Arc::new(container.descriptor()),
        host: Some(Arc::new(lab.home.descriptor())),
    };
    let namespace = container.descriptor();
    let (stop, stopped) = oneshot::channel();
    let (told, port) = std::sync::mpsc::channel();
    let work = async move {
        let sockets = Sockets::open(namespace, None).await.unwrap();
        told.send(sockets.port().unwrap()).unwrap();
        let service = serve(sockets, "asker".into(), places, Arc::new(zone)).unwrap();
        let _ = stopped.await;
        drop(service);
    };
    let thread = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(work);
    });
    Served {
        container,
        port: port.recv().unwrap(),
        stop: Some(stop),
        thread: Some(thread),
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Served {
    fn client(&self) -> UdpSocket {
        let socket = self.container.socket(SocketAddr::from(([127, 0, 0, 1], 0)));
        socket.connect((SERVER, self.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn ask(&self, message: &Message) -> Message {
        let client = self.client();
        client.send(&message.to_vec().unwrap()).unwrap();
        let mut buffer = [0; 4096];
        let length = client.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    fn ask_by_connection(&self, messages: &[Message]) -> Vec<Message> {
        let (container, port) = (&self.container, self.port);
        let mut stream = container.within(|| TcpStream::connect((SERVER, port)).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = |message: &Message| {
            let bytes = message.to_vec().unwrap();
            stream.write_all(&super::onward::framed(&bytes)).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut reply = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut reply).unwrap();
            Message::from_vec(&reply).unwrap()
        };
        messages.iter().map(ask).collect()
    }
}

/// A server of the world's: answers the question with this code, and says who asked.
fn server(place: &Place, address: SocketAddr, code: u8) -> std::thread::JoinHandle<SocketAddr> {
    let socket = place.socket(address);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_ne!(
            buffer[..2],
            [0x12, 0x34],
            "the number that the container chose"
        );
        let mut reply = buffer[..length].to_vec();
        // Somebody who guesses, before.
        reply[2] |= 0x80;
        reply[0] ^= 0xff;
        socket.send_to(&reply, from).unwrap();
        reply[0] ^= 0xff;
        reply[3] = 0x80 | code;
        socket.send_to(&reply, from).unwrap();
        from
    })
}

#[test]
fn containers_are_answered_over_datagrams_and_connections() {
    let Some(lab) = lab() else { return };
    let served = served(&lab, made());
    assert_eq!(
        said(&served.ask(&question("web", RecordType::A))),
        ["10.1.0.2"]
    );
    let replies = served.ask_by_connection(&[
        question("many", RecordType::A),
        question("both", RecordType::AAAA),
    ]);
    assert_eq!(replies[0].answers.len(), 200);
    assert_eq!(said(&replies[1]), ["fd00::3"]);
    // Nobody is asked who is not there.
    let reply = served.ask(&question("nobody.example", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn what_is_not_known_goes_to_the_hosts_servers_and_comes_back() {
    let Some(lab) = lab() else { return };
    let gateway = IpAddr::from(link::GATEWAY_V4);
    let mut zone = made();
    zone.onward.servers = vec![gateway];
    let served = served(&lab, zone);
    let address = SocketAddr::new(gateway, 53);
    let asked_by = server(&lab.world, address, 3);
    let reply = served.ask(&question("nobody.example", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.metadata.id, 0x1234);
    assert_eq!(asked_by.join().unwrap().ip(), IpAddr::from(link::GUEST_V4));
    // And over a connection.
    let listener = lab.world.within(|| TcpListener::bind(address).unwrap());
    let far = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut message = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut message).unwrap();
        message[2] |= 0x80;
        message[3] = 0x83;
        stream.write_all(&length).unwrap();
        stream.write_all(&message).unwrap();
    });
    let reply = served.ask_by_connection(&[question("nobody.example", RecordType::TXT)]);
    assert_eq!(reply[0].metadata.response_code, ResponseCode::NXDomain);
    far.join().unwrap();
}

#[test]
fn a_containers_own_servers_are_asked_from_where_it_is_one_after_the_other() {
    let Some(lab) = lab() else { return };
    let mut zone = made();
    let own: [IpAddr; 2] = [[127, 0, 0, 21].into(), [127, 0, 0, 22].into()];
    zone.onward = Onward {
        servers: own.to_vec(),
        from_container: true,
        plain_names: false,
    };
    let served = served(&lab, zone);
    let refuses = server(&served.container, SocketAddr::new(own[0], 53), 5);
    let knows = server(&served.container, SocketAddr::new(own[1], 53), 3);
    let reply = served.ask(&question("nobody.example", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    refuses.join().unwrap();
    knows.join().unwrap();
    // Whoever has search domains is to try them: nobody is asked.
    let reply = served.ask(&question("nobody", RecordType::A));
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.answers.is_empty());
}

#[test]
fn a_port_that_is_taken_is_said_and_sockets_can_be_gone_on_with() {
    let Some(lab) = lab() else { return };
    let place = Place::new();
    lab.wait(async {
        let first = Sockets::open(place.descriptor(), Some(53)).await.unwrap();
        assert_eq!(first.port().unwrap(), 53);
        let second = Sockets::open(place.descriptor(), Some(53)).await;
        assert_eq!(
            second.unwrap_err().errno(),
            Some(rustix::io::Errno::ADDRINUSE)
        );
        let other = Sockets::open(place.descriptor(), None).await.unwrap();
        assert_ne!(other.port().unwrap(), 53);
        let copy = |fd: &OwnedFd| fd.try_clone().unwrap();
        let again = Sockets {
            udp: copy(&other.udp),
            tcp: copy(&other.tcp),
        };
        let port = other.port().unwrap();
        drop(other);
        assert!(again.udp.as_raw_fd() >= 0);
        assert_eq!(again.port().unwrap(), port);
    });
}
