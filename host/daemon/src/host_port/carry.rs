//! Carries a connection's bytes both ways until both ends are done, or nobody says anything more.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const BUFFER: usize = 32 << 10;
/// How often it is looked whether anything moved.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// So many looks in a row without a byte end a connection; the engine itself gives up earlier.
const QUIET_LOOKS: u32 = 30;

/// Carries bytes between the guest and who was dialled for it. The end of one direction is passed
/// on; where the target takes nothing more, what it says is carried all the same. A server that keeps
/// a connection open which the guest has left does not keep it for long.
pub(super) async fn carry(
    guest: impl AsyncRead + AsyncWrite,
    target: impl AsyncRead + AsyncWrite,
) -> io::Result<()> {
    carry_looking(guest, target, LOOK_EVERY).await
}

async fn carry_looking(
    guest: impl AsyncRead + AsyncWrite,
    target: impl AsyncRead + AsyncWrite,
    look_every: Duration,
) -> io::Result<()> {
    let (moved, left) = (AtomicU64::new(0), AtomicBool::new(false));
    let (guest_reader, guest_writer) = tokio::io::split(guest);
    let (target_reader, target_writer) = tokio::io::split(target);
    let out = async {
        let ended = pump(guest_reader, target_writer, &moved).await;
        left.store(true, Ordering::Relaxed);
        ended
    };
    let back = pump(target_reader, guest_writer, &moved);
    let quiet = async {
        let (mut seen, mut looks) = (0, 0);
        loop {
            tokio::time::sleep(look_every).await;
            let now = moved.load(Ordering::Relaxed);
            looks = if now == seen { looks + 1 } else { 0 };
            seen = now;
            let enough = if left.load(Ordering::Relaxed) {
                1
            } else {
                QUIET_LOOKS
            };
            if looks >= enough {
                return;
            }
        }
    };
    let both = async {
        // Whoever refuses an upload says why, and that lies behind the error of writing.
        let mut sent = Ok(());
        let out = async {
            sent = out.await;
            Ok(())
        };
        tokio::try_join!(out, back)?;
        sent
    };
    tokio::select! {
        ended = both => ended,
        () = quiet => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// One direction, to its end.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_direction_has_its_own_end() {
        let (mut guest, guest_end) = tokio::io::duplex(64);
        let (mut target, target_end) = tokio::io::duplex(64);
        let carried = tokio::spawn(carry(guest_end, target_end));
        guest.write_all(b"question").await.unwrap();
        guest.shutdown().await.unwrap();
        let mut asked = Vec::new();
        target.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, b"question");
        // The answer goes on after the question's end.
        target.write_all(b"answer").await.unwrap();
        drop(target);
        let mut answered = Vec::new();
        guest.read_to_end(&mut answered).await.unwrap();
        assert_eq!(answered, b"answer");
        carried.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_silent_server_does_not_hold_a_connection_the_guest_has_left() {
        let (guest, guest_end) = tokio::io::duplex(64);
        let (target, target_end) = tokio::io::duplex(64);
        drop(guest);
        let error = carry_looking(guest_end, target_end, Duration::ZERO)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(target);
    }

    /// It closes with a reset, since it did not read all it was sent.
    #[tokio::test]
    async fn what_a_server_says_to_an_upload_that_it_refuses_reaches_the_guest() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut target = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        target.write_all(b"upload").await.unwrap();
        server.peek(&mut [0]).await.unwrap();
        server.write_all(b"no").await.unwrap();
        drop(server);
        let (mut guest, guest_end) = tokio::io::duplex(64);
        guest.write_all(b"more").await.unwrap();
        carry(guest_end, target).await.unwrap_err();
        let mut answered = Vec::new();
        guest.read_to_end(&mut answered).await.unwrap();
        assert_eq!(answered, b"no");
    }
}
