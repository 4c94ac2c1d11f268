//! The files process as the daemon meets it: started, spoken to, taken over, gone with its machine.
//!
//! This program is started a second time as `… files` and is then the process under test.

#[cfg(target_os = "linux")]
#[path = "linux/process.rs"]
mod cases;

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).as_deref() == Some("files") {
        return lighter_files::process_main();
    }
    #[cfg(target_os = "linux")]
    cases::run();
    std::process::ExitCode::SUCCESS
}
