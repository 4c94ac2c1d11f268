//! libFuzzer on `image_manifest`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("image_manifest", bytes));
