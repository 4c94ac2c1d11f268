//! `network connect`, `network disconnect` and `network rm`.

use clap::ArgMatches;
use serde_json::json;

use super::super::api::escape;
use super::super::endpoints::Endpoint;
use super::super::flags::{Flag, Kind, flag, is_set, number, text, texts};
use super::super::network_flags::{IP, IP6, LINK, LINK_LOCAL_IP};
use super::super::{Context, each, skipped};
use crate::exit::{CliError, Code};

/// The flags of `connect`.
pub const CONNECT: &[Flag] = &[
    flag(
        "alias",
        None,
        Kind::List,
        "",
        "Another name of the container in the network",
    ),
    flag(
        "driver-opt",
        None,
        Kind::List,
        "",
        "Options of the network's driver",
    ),
    flag(
        "gw-priority",
        None,
        Kind::Int,
        "",
        "The network with the highest has the default gateway",
    ),
    IP,
    IP6,
    LINK,
    LINK_LOCAL_IP,
];
/// The flags of `disconnect`.
pub const DISCONNECT: &[Flag] = &[flag(
    "force",
    Some('f'),
    Kind::Switch,
    "",
    "Disconnect a container also where it is not there",
)];
/// The flags of `rm`.
pub const RM: &[Flag] = &[flag(
    "force",
    Some('f'),
    Kind::Switch,
    "",
    "Do not mind networks that are not there",
)];

/// Network and container of the command line.
fn ends(arguments: &ArgMatches) -> (String, String) {
    let word = |name| text(arguments, name).unwrap_or_default();
    (word("network"), word("container"))
}

/// Connects a container to a network.
///
/// # Errors
/// In docker's words.
pub async fn connect(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let (network, container) = ends(arguments);
    let priority = number(arguments, CONNECT, "gw-priority")?.unwrap_or_default();
    let endpoint = Endpoint::of_flags(arguments, priority)?;
    let body = json!({ "Container": container, "EndpointConfig": endpoint.to_value() });
    let path = format!("/networks/{}/connect", escape(&network));
    context.api.post_json(&path, &body).await?;
    Ok(Code::OK)
}

/// Takes a container off a network.
///
/// # Errors
/// In docker's words.
pub async fn disconnect(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let (network, container) = ends(arguments);
    let body = json!({ "Container": container, "Force": is_set(arguments, "force") });
    let path = format!("/networks/{}/disconnect", escape(&network));
    context.api.post_json(&path, &body).await?;
    Ok(Code::OK)
}

/// Removes networks.
///
/// # Errors
/// None of its own: each is told, and makes the code.
pub async fn remove(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let force = is_set(arguments, "force");
    each(context, &texts(arguments, "targets"), |name| async move {
        let path = format!("/networks/{}", escape(&name));
        match context.api.delete(&path).await {
            Err(error) if force && error.is_not_found() => Err(skipped()),
            done => done,
        }
    })
    .await
}
