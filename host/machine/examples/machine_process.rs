//! The machine process alone, as the tests start it in place of `lighter machine`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lighter_machine::process_main()
}
