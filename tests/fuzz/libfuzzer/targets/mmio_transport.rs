//! libFuzzer on `mmio_transport`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lighter_fuzz::run("mmio_transport", bytes));
