//! PID 1 of the guest, and the client side the engine talks to it with.
