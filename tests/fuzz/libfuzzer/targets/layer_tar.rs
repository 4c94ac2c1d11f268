//! libFuzzer on `layer_tar`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("layer_tar", bytes));
