//! `atexit(3)`, which the standard library does not offer.

/// Has `function` called when this process ends through `exit`.
pub fn call(function: extern "C" fn()) {
    // SAFETY: `function` is a plain C function that lives as long as the program.
    unsafe {
        libc::atexit(function);
    }
}
