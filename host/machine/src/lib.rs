//! The virtual machine: traits, plain-data specification and one folder a backend.
