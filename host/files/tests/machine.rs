//! The shares in a virtual machine: QEMU, our kernel, and a script in the guest.
//!
//! This program is started a second time as `… files` and is then the files process.

#[cfg(target_os = "linux")]
#[path = "linux/machine.rs"]
mod cases;

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some("files") {
        return lighter_files::process_main();
    }
    #[cfg(target_os = "linux")]
    cases::run();
    std::process::ExitCode::SUCCESS
}
