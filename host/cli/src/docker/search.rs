//! `search`.

use clap::{ArgMatches, Command};
use hyper::Method;
use hyper::header::HeaderValue;
use serde_json::{Map, Value, json};

use super::api::{self, request, with_query};
use super::flags::{Flag, Kind, flag, is_set, text, texts, with_flags};
use super::table::{self, Column};
use super::{Context, Verb, filters, login, pull};
use crate::exit::{CliError, Code};

const SEARCH: &[Flag] = &[
    flag(
        "filter",
        Some('f'),
        Kind::List,
        "",
        "Show only what fits the conditions",
    ),
    flag(
        "format",
        None,
        Kind::Text,
        "",
        "`table`, `json`, or a template",
    ),
    flag("limit", None, Kind::Int, "", "Show at most so many"),
    flag(
        "no-trunc",
        None,
        Kind::Switch,
        "",
        "Do not shorten the output",
    ),
];

/// The verbs of this file.
pub const VERBS: &[Verb] = &[Verb {
    name: "search",
    command: || {
        with_flags(
            Command::new("search").about("Search Docker Hub, or another registry, for images"),
            SEARCH,
        )
        .arg(super::target("TERM"))
    },
    run: |c, a| Box::pin(search(c, a)),
}];

const HEADINGS: &[Column] = &[
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
];

/// The engine's answer is not longer.
const MOST_ANSWER: usize = 8 << 20;
/// Characters of a description that are shown, the last of them dots; docker's number.
const SHORT: usize = 45;

async fn search(context: &Context<'_>, arguments: &ArgMatches) -> Result<Code, CliError> {
    let term = text(arguments, "target").unwrap_or_default();
    let conditions = texts(arguments, "filter");
    let limit = text(arguments, "limit").filter(|limit| limit != "0");
    let query = [
        ("term", term.clone()),
        ("limit", limit.unwrap_or_default()),
        ("filters", filters(&conditions)?),
    ];
    let path = with_query("/images/search", &query);
    let mut request = request(Method::GET, &path, api::empty());
    let registry = match pull::host_and_path(&term) {
        Some(_) => term,
        None => "library".to_owned(),
    };
    if let Some(auth) = login::auth_header(&registry)? {
        let value = HeaderValue::from_str(&auth)
            .map_err(|_| CliError::new("the stored credentials cannot be sent"))?;
        request.headers_mut().insert("X-Registry-Auth", value);
    }
    let (response, _connection) = context.api.send(request).await?;
    let body = api::whole_body(response.into_body(), MOST_ANSWER).await?;
    let found: Value = serde_json::from_slice(&body)
        .map_err(|error| CliError::new(format!("the engine's answer is no JSON: {error}")))?;
    let format = table::format(text(arguments, "format").as_deref())?;
    let whole = is_set(arguments, "no-trunc");
    let all = found.as_array().into_iter().flatten();
    let as_json = matches!(format, table::Format::Json);
    let rows: Vec<_> = all.map(|one| row(one, whole, as_json)).collect();
    let columns = ["Name", "Description", "StarCount", "IsOfficial"];
    table::print(context.printer, &format, &columns, HEADINGS, &rows)?;
    Ok(Code::OK)
}

fn row(found: &Value, whole: bool, as_json: bool) -> Map<String, Value> {
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    let line = text("description").replace(['\n', '\r'], " ");
    let description = if whole || line.chars().count() <= SHORT {
        line
    } else {
        line.chars().take(SHORT - 1).chain(['…']).collect()
    };
    let official = found["is_official"].as_bool().unwrap_or(false);
    let official = match (as_json, official) {
        (true, official) => official.to_string(),
        (false, true) => "[OK]".to_owned(),
        (false, false) => String::new(),
    };
    let fields = json!({
        "Name": text("name"),
        "Description": description,
        "StarCount": found["star_count"].as_i64().unwrap_or(0).to_string(),
        "IsOfficial": official,
    });
    table::row(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_one_line_and_shortened_as_docker_does() {
        let found = json!({ "name": "x", "description": "a\nb".repeat(20), "star_count": 5 });
        let short = row(&found, false, false);
        assert_eq!(
            short["Description"],
            "a ba ba ba ba ba ba ba ba ba ba ba ba ba ba …"
        );
        assert_eq!(short["StarCount"], "5");
        let whole = row(&found, true, false);
        assert_eq!(whole["Description"].as_str().map(str::len), Some(60));
    }
}
