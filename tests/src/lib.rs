//! Everything above unit level: harness, agent, API, end to end, security, faults.
