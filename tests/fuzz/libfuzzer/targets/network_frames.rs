//! libFuzzer on `network_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("network_frames", bytes));
