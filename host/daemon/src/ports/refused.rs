//! Ports that could not be had a moment ago, for people who ask how things are.
//!
//! They are forgotten by a clock, for nothing that the guest says tells that one is not wanted any more. Each port of the
//! host's network has a stream of its own ([`HOST_NETWORK`]), on which it is asked for once: refused, the guest closes that
//! stream and asks on another, five to ten seconds later, for as long as somebody listens. So that stream's end is the same
//! whether the container listens on or has stopped; what tells is only that no other question follows. A container that
//! stops listening is therefore shown for [`REMEMBERED`] more, and one whose machine stands still for longer than that is
//! left out until it asks again. With a guest that kept the refused stream until nobody listens, its end would tell.
//!
//! A port of a container that was published only once and did not start is none of these.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use lighter_platform::text::clipped;
use lighter_protocol::{HOST_NETWORK, Transport};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::MOST_NAME;

/// For longer than it takes a guest to ask again twice.
const REMEMBERED: Duration = Duration::from_secs(25);
/// Most of them that are remembered.
const MOST: usize = 64;

/// A port that is not there, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The container's name.
    pub container: String,
    /// `tcp` or `udp`.
    pub transport: Transport,
    /// The port.
    pub port: u16,
    /// Why the host has none.
    pub reason: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let (port, container, reason) = (self.port, &self.container, &self.reason);
        write!(f, "{port}/{kind} of `{container}`: {reason}")
    }
}

/// Whose port: the container's id as the guest says it, and which.
type Key = (String, Transport, u16);

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Refusals(BTreeMap<Key, Refusal>);

#[derive(Debug)]
struct Refusal {
    refused: Refused,
    at: Instant,
    is_again: bool,
}

impl Refusals {
    /// Remembers one. Whether that is news: the same was not said a moment ago.
    pub fn note(&mut self, id: &str, refused: Refused) -> bool {
        let key = (id.to_owned(), refused.transport, refused.port);
        let now = Instant::now();
        self.0.retain(|_, refusal| refusal.is_fresh(now));
        let before = self.0.get(&key);
        let is_again = before.is_some();
        if !is_again && self.0.len() >= MOST {
            return false;
        }
        let is_news = before.is_none_or(|before| before.refused.reason != refused.reason);
        let refused = Refused {
            container: clipped(&refused.container, MOST_NAME),
            ..refused
        };
        let at = now;
        self.0.insert(
            key,
            Refusal {
                refused,
                at,
                is_again,
            },
        );
        is_news
    }

    /// Forgets one that is there now.
    pub fn forget(&mut self, id: &str, transport: Transport, port: u16) {
        self.0.remove(&(id.to_owned(), transport, port));
    }

    /// Those of the host's network, and those that were asked for again.
    pub fn shown(&self) -> Vec<Refused> {
        let now = Instant::now();
        let lasting = self.0.iter().filter(|((id, ..), refusal)| {
            refusal.is_fresh(now) && (refusal.is_again || id == HOST_NETWORK)
        });
        lasting
            .map(|(_, refusal)| refusal.refused.clone())
            .collect()
    }
}

impl Refusal {
    fn is_fresh(&self, now: Instant) -> bool {
        now < self.at + REMEMBERED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(port: u16) -> Refused {
        Refused {
            container: "web".into(),
            transport: Transport::Tcp,
            port,
            reason: "address already in use".into(),
        }
    }

    fn ports(all: &Refusals) -> Vec<u16> {
        all.shown().iter().map(|refused| refused.port).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_asked_for_any_more_is_forgotten() {
        let mut all = Refusals::default();
        all.note(HOST_NETWORK, refused(80));
        all.note(HOST_NETWORK, refused(81));
        assert_eq!(ports(&all), [80, 81]);
        tokio::time::advance(Duration::from_secs(20)).await;
        all.note(HOST_NETWORK, refused(81));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(ports(&all), [81]);
        all.forget(HOST_NETWORK, Transport::Tcp, 81);
        assert_eq!(ports(&all), [0_u16; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_asks_once_is_not_shown() {
        let mut all = Refusals::default();
        all.note("id", refused(80));
        assert_eq!(ports(&all), [0_u16; 0]);
        all.note("id", refused(80));
        assert_eq!(ports(&all), [80]);
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_no_more_than_so_many() {
        let mut all = Refusals::default();
        for port in 1..=100 {
            all.note(HOST_NETWORK, refused(port));
        }
        assert_eq!(all.shown().len(), MOST);
    }
}
