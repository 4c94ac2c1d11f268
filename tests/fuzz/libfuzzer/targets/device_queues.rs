//! libFuzzer on `device_queues`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("device_queues", bytes));
