//! What is measured, in both directions and on every side: an order, and the values that its answer gives.

use super::program::{Answer, Order};

/// How long one connection carries, in seconds.
const SECONDS: f64 = 4.0;
/// Bytes there and back for one latency.
const ECHOES: usize = 1_000;
/// Who connect again and again at the same time.
const HANDS: usize = 4;
/// Many connections, and how long they carry, in seconds.
const FLOWS: usize = 1_000;
const FLOWS_SECONDS: f64 = 60.0;

const MEGABYTE: f64 = 1e6;
const GIGABYTE: f64 = 1e9;
const PERCENT: f64 = 100.0;

/// One number of an answer.
pub struct Value {
    /// Names of its rows: outbound beside slirp and beside passt, and inbound.
    pub names: [&'static str; 3],
    /// For people.
    pub what: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Of an answer, and of the seconds of processor time that it took on the host.
    pub of: fn(&Answer, f64) -> f64,
}

/// An order, and the values that come of it.
pub struct Measure {
    /// What is done.
    pub order: Order,
    /// It takes so long that once is enough.
    pub once: bool,
    /// What it tells.
    pub values: &'static [Value],
}

/// All of them. `up` is from the side that made the connection.
pub const ALL: [Measure; 6] = [
    Measure {
        order: Order::Up(SECONDS, 1),
        once: false,
        values: &[
            Value {
                names: ["net/out-up/slirp", "net/out-up/passt", "net/in-up"],
                what: "sent by one connection",
                unit: "MB/s",
                of: |answer, _| answer.rate() / MEGABYTE,
            },
            Value {
                names: [
                    "net/out-up-cpu/slirp",
                    "net/out-up-cpu/passt",
                    "net/in-up-cpu",
                ],
                what: "processor time of the host for it",
                unit: "s a GB",
                of: |answer, used| used / answer.bytes() * GIGABYTE,
            },
        ],
    },
    Measure {
        order: Order::Down(SECONDS, 1),
        once: false,
        values: &[
            Value {
                names: ["net/out-down/slirp", "net/out-down/passt", "net/in-down"],
                what: "received by one connection",
                unit: "MB/s",
                of: |answer, _| answer.rate() / MEGABYTE,
            },
            Value {
                names: [
                    "net/out-down-cpu/slirp",
                    "net/out-down-cpu/passt",
                    "net/in-down-cpu",
                ],
                what: "processor time of the host for it",
                unit: "s a GB",
                of: |answer, used| used / answer.bytes() * GIGABYTE,
            },
        ],
    },
    Measure {
        order: Order::Echo(ECHOES),
        once: false,
        values: &[Value {
            names: [
                "net/out-latency/slirp",
                "net/out-latency/passt",
                "net/in-latency",
            ],
            what: "one byte there and back",
            unit: "us",
            of: |answer, _| answer.micros(),
        }],
    },
    Measure {
        order: Order::Connects(SECONDS, HANDS),
        once: false,
        values: &[Value {
            names: [
                "net/out-connects/slirp",
                "net/out-connects/passt",
                "net/in-connects",
            ],
            what: "connections made, answered and closed, four at a time",
            unit: "1/s",
            of: |answer, _| answer.rate(),
        }],
    },
    Measure {
        order: Order::Up(FLOWS_SECONDS, FLOWS),
        once: true,
        values: &[
            Value {
                names: [
                    "net/out-flows-up/slirp",
                    "net/out-flows-up/passt",
                    "net/in-flows-up",
                ],
                what: "sent by 1,000 connections in 60 s",
                unit: "MB/s",
                of: |answer, _| answer.rate() / MEGABYTE,
            },
            Value {
                names: [
                    "net/out-even-up/slirp",
                    "net/out-even-up/passt",
                    "net/in-even-up",
                ],
                what: "of them, what the slowest tenth carried, of the one in the middle",
                unit: "%",
                of: |answer, _| answer.evenness() * PERCENT,
            },
        ],
    },
    Measure {
        order: Order::Down(FLOWS_SECONDS, FLOWS),
        once: true,
        values: &[
            Value {
                names: [
                    "net/out-flows-down/slirp",
                    "net/out-flows-down/passt",
                    "net/in-flows-down",
                ],
                what: "received by 1,000 connections in 60 s",
                unit: "MB/s",
                of: |answer, _| answer.rate() / MEGABYTE,
            },
            Value {
                names: [
                    "net/out-even-down/slirp",
                    "net/out-even-down/passt",
                    "net/in-even-down",
                ],
                what: "of them, what the slowest tenth carried, of the one in the middle",
                unit: "%",
                of: |answer, _| answer.evenness() * PERCENT,
            },
        ],
    },
];

impl Measure {
    /// Whether a row that is wanted comes of it: `side` is the place of the row's name.
    #[must_use]
    pub fn is_wanted(&self, only: Option<&str>, sides: &[usize]) -> bool {
        let named = |only: &str| {
            let mut values = self.values.iter();
            values.any(|value| sides.iter().any(|side| value.names[*side].contains(only)))
        };
        only.is_none_or(named)
    }
}
