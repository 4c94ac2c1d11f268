//! libFuzzer on `kernel_loader`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("kernel_loader", bytes));
