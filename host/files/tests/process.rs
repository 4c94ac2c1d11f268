//! The files process as the daemon meets it: started, spoken to, taken over, gone with its machine.
//!
//! This program is started a second time as `… files` and is then the process under test.

#[cfg(target_os = "linux")]
#[path = "linux/process.rs"]
mod cases;

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    {
        let wanted = std::env::args().nth(1);
        // A filter can have the same word; only the daemon's side gives a socket as standard input.
        let socket = rustix::fs::fstat(std::io::stdin()).is_ok_and(|s| {
            rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Socket
        });
        if socket && wanted.as_deref() == Some("files") {
            return lighter_files::process_main();
        }
        cases::run(wanted.as_deref().unwrap_or_default());
    }
    std::process::ExitCode::SUCCESS
}
