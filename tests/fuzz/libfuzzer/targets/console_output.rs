//! libFuzzer on `console_output`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("console_output", bytes));
