//! `image verify`: whether images are what their digests say. Docker has no such command.

use clap::{Arg, ArgMatches, Command};
use hyper::Method;

use super::api::{self, request, with_query};
use super::flags::{Flag, Kind, flag, is_set, with_flags};
use super::pull::{self, Show};
use super::{Context, Verb};
use crate::exit::{CliError, Code};

const VERIFY: &[Flag] = &[flag(
    "quiet",
    Some('q'),
    Kind::Switch,
    "",
    "Say only what is damaged",
)];

/// The verbs that only a noun leads to.
pub const BELOW_NOUNS: &[Verb] = &[Verb {
    name: "image-verify",
    command: || {
        let about = "Read images on the disk again and compare them with their digests";
        with_flags(Command::new("verify").about(about), VERIFY).arg(
            Arg::new("images")
                .num_args(0..)
                .value_name("IMAGE")
                .help("Which images; all if none is named"),
        )
    },
    run: |c, a| Box::pin(verify(c, a)),
}];

async fn verify(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let names = arguments.get_many::<String>("images").unwrap_or_default();
    let query: Vec<_> = names.map(|name| ("name", name.clone())).collect();
    let path = with_query("/lighter/images/verify", &query);
    let asked = request(Method::GET, &path, api::empty());
    let (response, _connection) = context.api.send(asked).await?;
    pull::follow(context, response, Show::data(is_set(arguments, "quiet"))).await?;
    Ok(Code::OK)
}
