//! Docker's `--format` templates: Go's template language over JSON, without definitions of
//! further templates. What is not understood is refused by name.
//!
//! Called by every verb that prints; [`parse`] takes a template apart, [`eval`] makes text of it.
//! The data is an engine's answer: nothing in it can reach beyond the text that is made.

mod eval;
mod functions;
mod parse;
mod printf;

use serde_json::Value;

use parse::Node;

/// A template, taken apart.
#[derive(Debug, PartialEq)]
pub struct Template(Vec<Node>);

impl Template {
    /// Takes a template apart.
    pub fn parse(text: &str) -> Result<Self, String> {
        let nodes = parse::template(text).map_err(|error| format!("template: :1: {error}"));
        nodes.map(Self)
    }

    /// The text it makes of `value`.
    pub fn render(&self, value: &Value) -> Result<String, String> {
        eval::render(&self.0, value, None)
    }

    /// The same where `{{json .}}` has a text of its own: the data as the engine wrote it, in its
    /// order, or a row as docker writes one.
    pub fn render_as(&self, value: &Value, whole: &str) -> Result<String, String> {
        eval::render(&self.0, value, Some(whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(template: &str) -> Result<String, String> {
        let value = json!({
            "ID": "abc", "State": { "Running": true, "ExitCode": 0 }, "Size": 12,
            "Names": ["a", "b"], "Labels": { "x.y": "1", "z": "2" },
            "Ports": { "80/tcp": [{ "HostPort": "8080" }] },
            "Config": { "Env": null, "Labels": null, "User": null },
            "Mounts": [{ "Source": "/s", "RW": true }, { "Source": "/t", "RW": false }],
        });
        Template::parse(template)?.render(&value)
    }

    #[test]
    fn what_people_write_works() {
        for (template, expected) in [
            ("{{.ID}}: {{.State.ExitCode}}", "abc: 0"),
            ("{{json .Names}}", "[\"a\",\"b\"]"),
            ("{{.Names}}", "[a b]"),
            ("{{.Labels}}", "map[x.y:1 z:2]"),
            ("{{index .Labels \"x.y\"}}", "1"),
            ("{{index .Names 1}}", "b"),
            ("{{join .Names \",\"}}", "a,b"),
            ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
            (
                "{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}",
                "x.y=1;z=2;",
            ),
            ("{{range $i, $n := .Names}}{{$i}}{{$n}}{{end}}", "0a1b"),
            ("{{range .Config.Env}}x{{else}}none{{end}}", "none"),
            (
                "{{range .Names}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}",
                "a",
            ),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            (
                "{{if eq .ID \"x\"}}1{{else if eq .ID \"abc\"}}2{{else}}3{{end}}",
                "2",
            ),
            ("{{.ID | upper}} {{len .Names}}", "ABC 2"),
            ("{{with .State}}{{.ExitCode}} {{$.ID}}{{end}}", "0 abc"),
            ("{{with .Config.User}}{{.}}{{else}}nobody{{end}}", "nobody"),
            ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
            (
                "{{printf \"%-5s|%5d|%q\" .ID .Size .ID}}",
                "abc  |   12|\"abc\"",
            ),
            ("{{printf \"%.2s\" .ID}} {{truncate .ID 2}}", "ab ab"),
            ("{{$x := .ID}}{{$x}}-{{$x}}", "abc-abc"),
            // An assignment reaches out of its block, a declaration does not.
            ("{{$x := 1}}{{if .ID}}{{$x = 2}}{{end}}{{$x}}", "2"),
            ("{{$x := 1}}{{if .ID}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
            ("{{$x := 1}}{{if $x := .ID}}{{$x}}{{end}}{{$x}}", "abc1"),
            (
                "{{if $x := .Config.User}}{{else}}{{json $x}}{{end}}",
                "null",
            ),
            ("{{$x := 1}}{{with $x := .ID}}{{$x}}{{end}}{{$x}}", "abc1"),
            (
                "{{$x := 1}}{{range $x := .Names}}{{$x}}{{end}}{{$x}}",
                "ab1",
            ),
            (
                "{{$last := \"\"}}{{range .Names}}{{$last = .}}{{end}}{{$last}}",
                "b",
            ),
            ("{{$x := \"\"}}{{range $x = .Names}}{{end}}{{$x}}", "b"),
            (
                "{{$n:=0}}{{range $i,$v:=.Names}}{{$n=$i}}{{end}}{{$n}}",
                "1",
            ),
            (
                "{{if and .State.Running (not .State.ExitCode)}}y{{end}}",
                "y",
            ),
            ("{{or .Config.User \"root\"}}", "root"),
            ("a {{- .ID -}} b", "aabcb"),
            ("{{/* not shown */}}x", "x"),
            ("{{\"a}}b\"}}", "a}}b"),
            ("{{slice .ID 1 2}}{{title \"one two\"}}", "bOne Two"),
            ("{{.Config.Env}}{{.Config.Labels}}", "[]map[]"),
            ("{{range .Mounts}}{{if .RW}}{{.Source}}{{end}}{{end}}", "/s"),
            ("{{gt .Size 10}} {{lt .Size 10}}", "true false"),
            ("{{.Labels.z}}", "2"),
            ("{{split \"a,b\" \",\"}}{{pad .ID 1 2}}|", "[a b] abc  |"),
        ] {
            assert_eq!(made(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn the_whole_is_as_it_was_written() {
        let value = json!({ "B": 1, "A": ["x"] });
        let written = r#"{"B":1,"A":["x"]}"#;
        for (template, expected) in [
            ("{{json .}}", written),
            (
                "{{json $}} {{range .A}}{{json .}}{{json $}}{{end}}",
                &format!(r#"{written} "x"{written}"#),
            ),
            ("{{json .A}}", r#"["x"]"#),
            ("{{with .A}}{{json .}}{{end}}", r#"["x"]"#),
        ] {
            let made = Template::parse(template)
                .unwrap()
                .render_as(&value, written);
            assert_eq!(made.as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (template, words) in [
            ("{{.ID", "unclosed action"),
            ("{{range .Names}}", "unexpected EOF"),
            ("{{frob .ID}}", "function \"frob\" not defined"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{.Nope}}", "map has no entry for key \"Nope\""),
            ("{{.ID.Nope}}", "can't evaluate field Nope"),
            ("{{(.ID}}", "unclosed left paren"),
            ("{{index .Names 7}}", "index out of range: 7"),
            ("{{define \"x\"}}{{end}}", "{{define}} is not supported"),
            ("{{$x}}", "undefined variable \"$x\""),
            ("{{$x = 1}}", "undefined variable \"$x\""),
            (
                "{{if .ID}}{{$x := 1}}{{end}}{{$x}}",
                "undefined variable \"$x\"",
            ),
            ("{{if $x := .ID}}{{end}}{{$x}}", "undefined variable \"$x\""),
            (
                "{{range $x := .Names}}{{end}}{{$x}}",
                "undefined variable \"$x\"",
            ),
            ("{{$a, $b := .ID}}", "too many declarations"),
            ("{{$x : 1}}", "expected :="),
            ("{{\"abc}}", "unterminated quoted string"),
            ("{{}}", "missing value for command"),
            ("{{len .Size}}", "len of"),
        ] {
            let error = made(template).unwrap_err();
            assert!(error.contains(words), "{template}: {error}");
        }
    }

    #[test]
    fn templates_within_templates_have_an_end() {
        let deep = "(".repeat(10_000);
        assert!(Template::parse(&format!("{{{{{deep}.ID")).is_err());
        let deep = "{{if .ID}}".repeat(10_000);
        assert!(Template::parse(&deep).is_err());
    }
}
