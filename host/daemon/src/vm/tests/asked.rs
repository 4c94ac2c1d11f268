//! When the guest is asked for a sign of life, by a clock that goes only where everybody waits.

use super::super::pulse::LOOK;
use super::super::*;
use super::agent;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A moment between two looks, so that none is at the edge of a wait.
async fn begin() -> (Guest, agent::Agent) {
    let (guest, agent) = agent::guest().await;
    tokio::time::sleep(LOOK * 4 + SECOND * 3).await;
    (guest, agent)
}

/// Who turns to the engine.
fn client(guest: &Guest) -> Vm {
    Vm {
        wishes: mpsc::channel(1).0,
        phase: watch::channel(Phase::Ready(guest.clone())).1,
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_nobody_turns_to_is_asked_every_five_minutes() {
    let (_guest, mut agent) = begin().await;
    tokio::time::sleep(4 * MINUTE).await;
    assert_eq!(agent.asked(), 0);
    tokio::time::sleep(MINUTE).await;
    assert_eq!(agent.asked(), 1);
    tokio::time::sleep(50 * MINUTE).await;
    assert_eq!(agent.asked(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_guest_is_asked_once_for_clients_that_turn_to_the_engine() {
    let (guest, mut agent) = begin().await;
    client(&guest).ready().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(agent.asked(), 1);
    // It has just been heard: the next look is soon enough for those who come now.
    client(&guest).ready().await.unwrap();
    client(&guest).ready().await.unwrap();
    tokio::time::sleep(SECOND).await;
    assert_eq!(agent.asked(), 0);
    tokio::time::sleep(LOOK).await;
    assert_eq!(agent.asked(), 1);
    tokio::time::sleep(4 * MINUTE).await;
    assert_eq!(agent.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_was_turned_to_is_asked_until_it_answers() {
    let (guest, mut agent) = begin().await;
    agent.answers(false);
    guest.link.used();
    tokio::time::sleep(MINUTE).await;
    assert_eq!(agent.asked(), 13);
    agent.answers(true);
    tokio::time::sleep(LOOK).await;
    assert_eq!(agent.asked(), 1);
    tokio::time::sleep(4 * MINUTE).await;
    assert_eq!(agent.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_guest_whose_end_is_waited_for_is_asked_all_the_time() {
    let (guest, mut agent) = begin().await;
    let end = guest.link.shut_down(MINUTE * 10, ShutdownReason::User);
    assert!(tokio::time::timeout(MINUTE, end).await.is_err());
    assert_eq!(agent.asked(), 12);
}
