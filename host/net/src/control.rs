//! What the daemon and the net process say to each other: one JSON object a line, each request answered by
//! one reply.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The longest line either side accepts, in bytes.
pub const MAX_LINE: usize = 4 << 10;

/// From the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// The host asks these servers for names from now on, or none.
    Names {
        /// The first of them. Processes of an earlier build know no others.
        server: Option<SocketAddr>,
        /// The others, in their order.
        #[serde(default)]
        others: Vec<SocketAddr>,
    },
    /// How things are.
    Status,
}

/// From the net process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// The answer to [`Request::Status`].
    Status(Status),
    /// It was no request.
    Refused {
        /// Why, for people.
        message: String,
    },
}

/// How much is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The process.
    pub pid: u32,
    /// Connections.
    pub tcp: usize,
    /// Pairs of ends that send datagrams.
    pub udp: usize,
    /// Senders of echo requests.
    pub icmp: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_this_form() {
        let names = Request::Names {
            server: Some(([127, 0, 0, 53], 53).into()),
            others: vec![([9, 9, 9, 9], 53).into()],
        };
        let text = r#"{"request":"names","server":"127.0.0.53:53","others":["9.9.9.9:53"]}"#;
        assert_eq!(serde_json::to_string(&names).unwrap(), text);
        assert_eq!(serde_json::from_str::<Request>(text).unwrap(), names);
        // As an earlier build's daemon says it.
        let text = r#"{"request":"names","server":null}"#;
        let names = Request::Names {
            server: None,
            others: Vec::new(),
        };
        assert_eq!(serde_json::from_str::<Request>(text).unwrap(), names);
        let status = Reply::Status(Status {
            pid: 7,
            tcp: 1,
            udp: 2,
            icmp: 3,
        });
        let text = r#"{"reply":"status","pid":7,"tcp":1,"udp":2,"icmp":3}"#;
        assert_eq!(serde_json::to_string(&status).unwrap(), text);
        assert_eq!(serde_json::from_str::<Reply>(text).unwrap(), status);
    }
}
