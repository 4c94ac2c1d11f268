//! libFuzzer on `vsock_device`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("vsock_device", bytes));
