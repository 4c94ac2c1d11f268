//! A guest that is only played, in the runtime of the test: nothing of it takes time of a clock that stands still.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use lighter_protocol::{
    BootSettings, EngineState, HealthOk, Hello, Message, Secret, StatusOk, VERSION,
};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, send,
    socket_with,
};
use serde_json::json;
use tokio::net::UnixStream;

use super::super::*;

/// What the test has of the guest.
pub struct Agent {
    questions: mpsc::UnboundedReceiver<()>,
    answers: watch::Sender<bool>,
    /// The process of its machine, which ends when this is dropped.
    pub machine: Option<OwnedFd>,
}

impl Agent {
    /// From now on it answers, or does not.
    pub fn answers(&self, answers: bool) {
        self.answers.send_replace(answers);
    }

    /// How often it was asked for a sign of life since this was called the last time.
    pub fn asked(&mut self) -> usize {
        let mut count = 0;
        while self.questions.try_recv().is_ok() {
            count += 1;
        }
        count
    }
}

/// A machine whose process says who it is, and nothing more.
async fn machine(run: &Path) -> (Machine, OwnedFd) {
    let lock = File::create(run.join("machine.lock")).unwrap();
    lock.try_lock().unwrap();
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    bind(
        &socket,
        &SocketAddrUnix::new(run.join("machine.sock")).unwrap(),
    )
    .unwrap();
    listen(&socket, 1).unwrap();
    let attached = async {
        // Its peer has connected when this is polled the first time.
        let process = accept(&socket).unwrap();
        let word = json!({"kind": "attached", "secret": "07".repeat(32)}).to_string();
        send(&process, word.as_bytes(), SendFlags::NOSIGNAL).unwrap();
        process
    };
    let (machine, process) = tokio::join!(Machine::take_over(run), attached);
    (machine.unwrap().unwrap(), process)
}

/// A guest that is up and answers.
pub async fn guest() -> (Guest, Agent) {
    let run = tempfile::tempdir().unwrap();
    let (machine, process) = machine(run.path()).await;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (told, questions) = mpsc::unbounded_channel();
    let (answers, answering) = watch::channel(true);
    tokio::spawn(play(MessageStream::new(theirs), told, answering));
    let hello = Hello {
        version: VERSION,
        secret: Secret::new([7; 32]),
        boot: Box::new(BootSettings::default()),
    };
    let routes = watch::channel(Vec::new()).1;
    let link = Link::spawn(MessageStream::new(ours), machine.clone(), hello, routes);
    let never = || watch::channel(false).1;
    let guest = Guest {
        machine,
        link,
        folders: None,
        helpers: Helpers::new(never(), never()),
        welcome: Arc::new(Welcome {
            version: VERSION,
            agent_version: String::new(),
            boot_id: String::new(),
            kernel: String::new(),
        }),
        since: Instant::now(),
        boot_time: None,
    };
    let agent = Agent {
        questions,
        answers,
        machine: Some(process),
    };
    (guest, agent)
}

async fn play(
    mut stream: MessageStream,
    told: mpsc::UnboundedSender<()>,
    answers: watch::Receiver<bool>,
) {
    while let Ok(message) = stream.receive().await {
        let answer: Message = match message {
            Message::Health(health) => {
                // A test that has ended hears nothing.
                let _ = told.send(());
                let (seq, engine) = (health.seq, EngineState::Ready);
                HealthOk { seq, engine }.into()
            }
            Message::Status(status) => StatusOk {
                seq: status.seq,
                ..StatusOk::default()
            }
            .into(),
            _ => continue,
        };
        if *answers.borrow() && stream.send(answer).await.is_err() {
            return;
        }
    }
}
