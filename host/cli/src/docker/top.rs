//! `top`: the processes of a container.

use clap::{Arg, ArgMatches, Command};
use serde_json::Value;

use super::api::{escape, with_query};
use super::flags::{text, texts};
use super::{Context, Verb, table};
use crate::exit::{CliError, Code};

fn command() -> Command {
    let options = Arg::new("options")
        .num_args(0..)
        .trailing_var_arg(true)
        .allow_hyphen_values(true)
        .value_name("ps OPTIONS");
    Command::new("top")
        .about("Show the running processes of a container")
        .arg(super::target("CONTAINER"))
        .arg(options)
}

/// The verb of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "top",
    command,
    run: |c, a| Box::pin(run(c, a)),
}];

async fn run(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let name = text(arguments, "target").unwrap_or_default();
    let query = [("ps_args", texts(arguments, "options").join(" "))];
    let path = with_query(&format!("/containers/{}/top", escape(&name)), &query);
    let top = context.api.get(&path).await?;
    let words = |row: &Value| -> Vec<String> {
        let cells = row.as_array().into_iter().flatten();
        cells
            .map(|cell| cell.as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let mut lines = vec![words(&top["Titles"])];
    lines.extend(top["Processes"].as_array().into_iter().flatten().map(words));
    context.printer.data(&table::set(&lines, 20));
    Ok(Code::OK)
}
