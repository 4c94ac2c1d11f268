//! One operation at a time, and what it leaves on the host.
