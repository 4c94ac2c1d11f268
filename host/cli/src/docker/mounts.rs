//! `--volume` and `--mount`.

use std::path::Path;

use serde_json::{Value, json};

use super::flags::put;
use super::values;
use crate::exit::CliError;

/// What a `--volume` is.
#[derive(Debug, PartialEq, Eq)]
pub enum Volume {
    /// A host path or a named volume at a place.
    Bind(String),
    /// A volume without a name at a place.
    Anonymous(String),
}

/// Reads a `--volume`. Relative host paths (`.`, `./x`) are made absolute here: the engine does
/// not know where the command was typed.
pub fn volume(text: &str) -> Result<Volume, CliError> {
    let wrong = || CliError::usage(format!("invalid volume specification: '{text}'"));
    // A drive letter's colon separates nothing.
    let from = if text.as_bytes().get(1) == Some(&b':') && text.len() > 2 {
        2
    } else {
        0
    };
    let Some(colon) = text[from..].find(':').map(|at| at + from) else {
        return if text.is_empty() {
            Err(wrong())
        } else {
            Ok(Volume::Anonymous(text.to_owned()))
        };
    };
    let (source, rest) = text.split_at(colon);
    if source.is_empty() || rest.len() < 2 {
        return Err(wrong());
    }
    Ok(Volume::Bind(format!("{}{rest}", absolute(source)?)))
}

fn absolute(source: &str) -> Result<String, CliError> {
    if source == "." || source == ".." || source.starts_with("./") || source.starts_with("../") {
        let path = std::path::absolute(source)?;
        return Ok(without_dots(&path));
    }
    Ok(source.to_owned())
}

/// The path with `..` taken as text, as shells show it.
fn without_dots(path: &Path) -> String {
    let mut clean = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
    }
    clean.to_string_lossy().into_owned()
}

/// Reads a `--mount`: comma-separated `key=value`.
pub fn mount(text: &str) -> Result<Value, CliError> {
    let wrong = |what: String| {
        CliError::usage(format!(
            "invalid argument {text:?} for \"--mount\" flag: {what}"
        ))
    };
    let mut mount = json!({ "Type": "volume" });
    for part in text.split(',') {
        let (key, value) = part
            .split_once('=')
            .map_or((part, None), |(k, v)| (k, Some(v)));
        let set = |value: Option<&str>| match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(wrong(format!("invalid value for {key}: {other}"))),
        };
        let given = || value.ok_or_else(|| wrong(format!("`{key}` needs a value")));
        match key.to_ascii_lowercase().as_str() {
            "type" => put(&mut mount, "Type", json!(given()?.to_ascii_lowercase())),
            "source" | "src" => put(&mut mount, "Source", json!(absolute(given()?)?)),
            "target" | "dst" | "destination" => put(&mut mount, "Target", json!(given()?)),
            "readonly" | "ro" => put(&mut mount, "ReadOnly", json!(set(value)?)),
            "bind-propagation" => put(&mut mount, "BindOptions.Propagation", json!(given()?)),
            "bind-recursive" => recursive(&mut mount, given()?).map_err(&wrong)?,
            "bind-create-src" => put(
                &mut mount,
                "BindOptions.CreateMountpoint",
                json!(set(value)?),
            ),
            "volume-nocopy" => put(&mut mount, "VolumeOptions.NoCopy", json!(set(value)?)),
            "volume-subpath" => put(&mut mount, "VolumeOptions.Subpath", json!(given()?)),
            "volume-driver" => put(
                &mut mount,
                "VolumeOptions.DriverConfig.Name",
                json!(given()?),
            ),
            "volume-label" | "volume-opt" => {
                let field = if key.ends_with("label") {
                    "Labels"
                } else {
                    "DriverConfig.Options"
                };
                let (name, value) = given()?.split_once('=').unwrap_or((given()?, ""));
                let options = &mut mount["VolumeOptions"];
                let mut place = options.clone();
                let known = field.split('.').fold(&place, |at, part| &at[part]).clone();
                let mut known = if known.is_object() { known } else { json!({}) };
                known[name] = json!(value);
                put(&mut place, field, known);
                *options = place;
            }
            "tmpfs-size" => {
                let bytes = values::bytes(given()?).map_err(&wrong)?;
                put(&mut mount, "TmpfsOptions.SizeBytes", json!(bytes));
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(given()?, 8)
                    .map_err(|_| wrong("the mode must be octal".to_owned()))?;
                put(&mut mount, "TmpfsOptions.Mode", json!(mode));
            }
            "consistency" => {}
            _ => return Err(wrong(format!("unexpected key '{key}' in '{part}'"))),
        }
    }
    check(&mount).map_err(wrong)?;
    Ok(mount)
}

fn recursive(mount: &mut Value, value: &str) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => put(mount, "BindOptions.NonRecursive", json!(true)),
        "writable" => put(mount, "BindOptions.ReadOnlyNonRecursive", json!(true)),
        "readonly" => put(mount, "BindOptions.ReadOnlyForceRecursive", json!(true)),
        _ => return Err(format!("invalid value for bind-recursive: {value}")),
    }
    Ok(())
}

fn check(mount: &Value) -> Result<(), String> {
    if mount.get("Target").is_none() {
        return Err("target is required".to_owned());
    }
    let of_type = |options: &str, kind: &str| mount.get(options).is_some() && mount["Type"] != kind;
    for (options, kind) in [
        ("BindOptions", "bind"),
        ("VolumeOptions", "volume"),
        ("TmpfsOptions", "tmpfs"),
    ] {
        if of_type(options, kind) {
            return Err(format!("{kind}-* options are only for type={kind}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_told_apart() {
        assert_eq!(volume("/x").unwrap(), Volume::Anonymous("/x".into()));
        assert_eq!(
            volume("name:/x:ro").unwrap(),
            Volume::Bind("name:/x:ro".into())
        );
        assert!(volume(":/x").is_err());
        assert!(volume("").is_err());
        assert!(volume("a:").is_err());
        let here = std::env::current_dir().unwrap();
        let Volume::Bind(bind) = volume("./src:/x").unwrap() else {
            panic!()
        };
        assert_eq!(bind, format!("{}:/x", here.join("src").display()));
    }

    #[test]
    fn mounts_become_objects() {
        let made = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        let expected = json!({
            "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
            "BindOptions": { "Propagation": "rslave" },
        });
        assert_eq!(made, expected);
        let labelled = mount("dst=/b,volume-label=a=1,volume-label=b=2").unwrap();
        assert_eq!(
            labelled["VolumeOptions"]["Labels"],
            json!({ "a": "1", "b": "2" })
        );
        let sized = mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap();
        assert_eq!(
            sized["TmpfsOptions"],
            json!({ "SizeBytes": 1 << 20, "Mode": 0o1770 })
        );
    }

    #[test]
    fn wrong_mounts_are_refused() {
        for text in [
            "type=bind,src=/a",
            "dst=/b,frob=1",
            "dst=/b,tmpfs-size=1m",
            "type=tmpfs,dst=/t,tmpfs-mode=9",
        ] {
            assert!(mount(text).is_err(), "{text}");
        }
    }
}
