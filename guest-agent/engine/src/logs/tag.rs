//! The option `tag`: text with fields of the container, as Go's templates write them.

use super::Identity;

/// Puts what the fields stand for into `template`. Of Go's templates there are the fields; what else
/// one may hold is refused.
pub(super) fn render(template: &str, who: &Identity<'_>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((text, action)) = rest.split_once("{{") {
        out.push_str(text);
        let Some((action, after)) = action.split_once("}}") else {
            return Err("template: log-tag:1: unclosed action".into());
        };
        // Where Go says that the field begins.
        let spaces = action.len() - action.trim_start().len();
        let at = template.len() - rest.len() + text.len() + 2 + spaces;
        out.push_str(&field(action.trim(), at, who)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn field(action: &str, at: usize, who: &Identity<'_>) -> Result<String, String> {
    let short = |text: &str| text.chars().take(12).collect::<String>();
    Ok(match action {
        ".ID" => short(who.id),
        ".FullID" | ".ContainerID" => who.id.to_owned(),
        ".Name" => who.name.to_owned(),
        ".ContainerName" => format!("/{}", who.name),
        ".ImageName" | ".ContainerImageName" => who.image.to_owned(),
        // With the algorithm before it, as dockerd shortens it.
        ".ImageID" => short(who.image_id),
        ".ImageFullID" | ".ContainerImageID" => who.image_id.to_owned(),
        ".Command" => who.command.join(" "),
        ".DaemonName" => "docker".to_owned(),
        other => {
            return Err(format!(
                "template: log-tag:1:{at}: executing \"log-tag\" at <{other}>: can't evaluate field {} in \
                 type *logger.Info",
                other.trim_start_matches('.')
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_dockerd() {
        let who = Identity {
            id: "7e8842cce581a736f48b5381bf0a9b4dd19e1be804be449ff955315a3fe9d035",
            name: "ll",
            image: "base:1",
            image_id: "sha256:f47ff7253bcee545",
            command: &["sh".into(), "-c".into(), "true".into()],
            labels: &std::collections::BTreeMap::new(),
            env: &[],
        };
        let text = "{{.Name}}/{{ .ID }}/{{.ImageName}}/{{.ImageID}}/{{.Command}}/{{.DaemonName}}.";
        assert_eq!(
            render(text, &who).unwrap(),
            "ll/7e8842cce581/base:1/sha256:f47ff/sh -c true/docker."
        );
        assert_eq!(render("plain", &who).unwrap(), "plain");
        assert_eq!(
            render("{{.Bogus}}", &who).unwrap_err(),
            "template: log-tag:1:2: executing \"log-tag\" at <.Bogus>: can't evaluate field Bogus in \
             type *logger.Info"
        );
    }
}
