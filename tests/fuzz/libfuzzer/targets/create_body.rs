//! libFuzzer on `create_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("create_body", bytes));
