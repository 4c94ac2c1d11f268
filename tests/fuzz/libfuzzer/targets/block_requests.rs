//! libFuzzer on `block_requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("block_requests", bytes));
