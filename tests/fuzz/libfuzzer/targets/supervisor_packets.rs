//! libFuzzer on `supervisor_packets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("supervisor_packets", bytes));
