//! libFuzzer on `image_reference`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("image_reference", bytes));
