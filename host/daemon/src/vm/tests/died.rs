//! A machine that has died before its owner heard of it.

use super::super::*;
use super::agent;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_guest_that_died_a_moment_ago_is_not_taken_for_one_that_is_up() {
    let (dead, mut agent) = agent::guest().await;
    let (mut fresh, _agent) = agent::guest().await;
    fresh.since = dead.since + SECOND;
    let (phase_in, phase) = watch::channel(Phase::Ready(dead));
    let (wishes, mut inbox) = mpsc::channel(1);
    let vm = Vm { wishes, phase };
    agent.answers(false);
    drop(agent.machine.take());
    let owner = async {
        tokio::time::sleep(SECOND).await;
        phase_in.send_replace(Phase::Off);
        let Some(Wish::Start(reply)) = inbox.recv().await else {
            panic!("another machine is wished for");
        };
        reply.send(Ok(fresh.clone())).unwrap();
    };
    let both = async { tokio::join!(vm.answering(), owner) };
    let (up, ()) = tokio::time::timeout(SECOND * 60, both).await.unwrap();
    assert_eq!(up.unwrap().since, fresh.since);
}
