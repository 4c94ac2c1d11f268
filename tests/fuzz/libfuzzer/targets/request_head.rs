//! libFuzzer on `request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("request_head", bytes));
