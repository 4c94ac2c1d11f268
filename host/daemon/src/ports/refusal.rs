//! Why a port is not listened on, in words that help.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lighter_platform::sys::{self, PortOwner};
use lighter_platform::text::clipped;
use lighter_protocol::{Failed, FailedCode, Transport};
use tokio::sync::Semaphore;

use crate::host_port::failed;

/// Longest wait for the name of whoever has a port: what is said without it is enough.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// Most characters of the name of a program.
const MOST_NAME: usize = 64;

/// The answer to a port that could not be had.
pub(super) async fn of(
    transport: Transport,
    address: SocketAddr,
    error: &io::Error,
    lookup: &Arc<Semaphore>,
) -> Failed {
    match error.kind() {
        ErrorKind::AddrInUse => {
            let owner = owner(transport, address, lookup).await;
            in_use(owner.as_deref())
        }
        ErrorKind::PermissionDenied => denied(address.port(), sys::first_unprivileged_port()),
        ErrorKind::AddrNotAvailable => {
            let text = "cannot assign requested address".to_owned();
            failed(FailedCode::Unreachable, text)
        }
        _ if sys::is_family_missing(error) => {
            let text = "address family not supported by protocol".to_owned();
            failed(FailedCode::Unreachable, text)
        }
        _ => failed(FailedCode::Internal, error.to_string()),
    }
}

/// A port that somebody has.
pub(super) fn in_use(owner: Option<&str>) -> Failed {
    let mut text = "address already in use".to_owned();
    if let Some(owner) = owner {
        text.push_str(" by ");
        text.push_str(owner);
    }
    failed(FailedCode::InUse, text)
}

/// The program that has a port, where this user may know it.
async fn owner(
    transport: Transport,
    address: SocketAddr,
    lookup: &Arc<Semaphore>,
) -> Option<String> {
    let tcp = transport == Transport::Tcp;
    let found = async {
        // Looking through all processes takes a while.
        let turn = Arc::clone(lookup).acquire_owned().await.ok()?;
        let looked = tokio::task::spawn_blocking(move || {
            let owner = sys::port_owner(tcp, address);
            // Not before: whoever waited may have gone long ago.
            drop(turn);
            owner
        });
        looked.await.ok()?
    };
    let owner = tokio::time::timeout(LOOK_LIMIT, found).await.ok()??;
    Some(shown(&owner))
}

fn shown(owner: &PortOwner) -> String {
    match owner {
        PortOwner::Process { name, pid } => format!("`{}` (pid {pid})", one_line(name)),
        PortOwner::User {
            name: Some(name), ..
        } => format!("a program of the user `{}`", one_line(name)),
        PortOwner::User { id, name: None } => format!("a program of the user {id}"),
    }
}

/// A program names itself as it likes, line ends included.
fn one_line(name: &str) -> String {
    clipped(&name.replace(['\n', '\t'], " "), MOST_NAME)
}

fn denied(port: u16, first: Option<u16>) -> Failed {
    let text = match first {
        Some(first) if port < first => format!(
            "permission denied: only root listens on ports below {first} here; `sudo sysctl \
             net.ipv4.ip_unprivileged_port_start={port}` lets everybody do so from {port} on"
        ),
        _ => "permission denied".to_owned(),
    };
    failed(FailedCode::Denied, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(kind: ErrorKind) -> Failed {
        // The port of nobody: it is not looked whether somebody has it.
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        of(
            Transport::Tcp,
            address,
            &kind.into(),
            &Arc::new(Semaphore::new(1)),
        )
        .await
    }

    #[tokio::test]
    async fn each_reason_has_its_code_and_the_systems_words() {
        let missing = said(ErrorKind::AddrNotAvailable).await;
        assert_eq!(missing.code, FailedCode::Unreachable);
        assert_eq!(missing.message, "cannot assign requested address");
        let taken = said(ErrorKind::AddrInUse).await;
        assert_eq!(taken.code, FailedCode::InUse);
        assert_eq!(taken.message, "address already in use");
        assert_eq!(
            said(ErrorKind::OutOfMemory).await.code,
            FailedCode::Internal
        );
    }

    #[test]
    fn of_another_users_program_the_user_is_named() {
        let user = |name: Option<&str>| PortOwner::User {
            id: 33,
            name: name.map(str::to_owned),
        };
        let said = in_use(Some(&shown(&user(Some("www-data"))))).message;
        assert_eq!(
            said,
            "address already in use by a program of the user `www-data`"
        );
        assert_eq!(shown(&user(None)), "a program of the user 33");
    }

    #[test]
    fn a_privileged_port_names_the_setting_that_opens_it() {
        let refused = denied(80, Some(1024));
        assert_eq!(refused.code, FailedCode::Denied);
        let wanted = "sysctl net.ipv4.ip_unprivileged_port_start=80`";
        assert!(refused.message.contains(wanted), "{}", refused.message);
        for (port, first) in [(80, None), (8080, Some(1024))] {
            assert_eq!(denied(port, first).message, "permission denied");
        }
    }
}
