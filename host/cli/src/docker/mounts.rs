//! `--volume` and `--mount`.

use std::path::Path;

use serde_json::{Value, json};

use super::flags::put;
use super::values::{self, go};
use crate::exit::{CliError, words};

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

/// Reads a `--mount`: one CSV record of `key=value`.
///
/// # Errors
/// In docker's words.
pub fn mount(text: &str) -> Result<Value, CliError> {
    let read = || {
        let mut mount = json!({ "Type": "volume" });
        for field in go::fields(text)? {
            set(&mut mount, &field)?;
        }
        check(&mount)?;
        Ok(mount)
    };
    read().map_err(|what: String| {
        CliError::usage(format!(
            "invalid argument {text:?} for \"--mount\" flag: {what}"
        ))
    })
}

/// Fields that are true where they stand alone.
const SWITCHES: [(&str, &str); 4] = [
    ("readonly", "ReadOnly"),
    ("ro", "ReadOnly"),
    ("volume-nocopy", "VolumeOptions.NoCopy"),
    ("bind-nonrecursive", "BindOptions.NonRecursive"),
];

/// Fields whose value is text, as it is.
const TEXTS: [(&str, &str); 6] = [
    ("target", "Target"),
    ("dst", "Target"),
    ("destination", "Target"),
    ("volume-subpath", "VolumeOptions.Subpath"),
    ("volume-driver", "VolumeOptions.DriverConfig.Name"),
    ("image-subpath", "ImageOptions.Subpath"),
];

/// Puts one field into a mount.
fn set(mount: &mut Value, field: &str) -> Result<(), String> {
    let (key, value) = match field.split_once('=') {
        Some((key, value)) => (key.to_lowercase(), Some(value)),
        None => (field.to_lowercase(), None),
    };
    let of = |table: &[(&str, &'static str)]| {
        let mut rows = table.iter();
        rows.find_map(|(name, place)| (*name == key).then_some(*place))
    };
    if let Some(place) = of(&SWITCHES) {
        let wrong = || format!("invalid value for {key}: {}", value.unwrap_or_default());
        let on = value.map_or(Some(true), go::boolean).ok_or_else(wrong)?;
        put(mount, place, json!(on));
        return Ok(());
    }
    let Some(value) = value else {
        return Err(format!("invalid field '{field}' must be a key=value pair"));
    };
    if let Some(place) = of(&TEXTS) {
        put(mount, place, json!(value));
        return Ok(());
    }
    let wrong = || format!("invalid value for {key}: {value}");
    match key.as_str() {
        "type" => put(mount, "Type", json!(value.to_lowercase())),
        "source" | "src" => put(mount, "Source", json!(source(value)?)),
        "consistency" => put(mount, "Consistency", json!(value.to_lowercase())),
        "bind-propagation" => {
            put(
                mount,
                "BindOptions.Propagation",
                json!(value.to_lowercase()),
            );
        }
        "bind-recursive" => recursive(mount, value)?,
        "volume-label" => pair(&mut mount["VolumeOptions"]["Labels"], value),
        "volume-opt" => pair(
            &mut mount["VolumeOptions"]["DriverConfig"]["Options"],
            value,
        ),
        "tmpfs-size" => {
            let bytes = values::bytes(value).map_err(|_| wrong())?;
            put(mount, "TmpfsOptions.SizeBytes", json!(bytes));
        }
        "tmpfs-mode" => {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let mode = u32::from_str_radix(value, 8).ok().filter(|_| digits);
            put(mount, "TmpfsOptions.Mode", json!(mode.ok_or_else(wrong)?));
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

/// Where a mount is from; docker takes everything that begins with a dot for a path of the caller's.
fn source(text: &str) -> Result<String, String> {
    if !text.starts_with('.') {
        return Ok(text.to_owned());
    }
    let path = std::path::absolute(text).map_err(|error| words(&error))?;
    Ok(without_dots(&path))
}

/// Adds `name=value` to an object; one without a name is none.
fn pair(place: &mut Value, text: &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if !name.is_empty() {
        place[name] = json!(value);
    }
}

fn recursive(mount: &mut Value, value: &str) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => put(mount, "BindOptions.NonRecursive", json!(true)),
        "writable" => put(mount, "BindOptions.ReadOnlyNonRecursive", json!(true)),
        "readonly" => put(mount, "BindOptions.ReadOnlyForceRecursive", json!(true)),
        _ => {
            return Err(format!(
                "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \
                 \"readonly\")"
            ));
        }
    }
    Ok(())
}

fn check(mount: &Value) -> Result<(), String> {
    let kind = mount["Type"].as_str().unwrap_or_default();
    for (name, value) in [
        ("type", kind),
        ("target", mount["Target"].as_str().unwrap_or_default()),
    ] {
        if value.is_empty() {
            return Err(format!("{name} is required"));
        }
    }
    for (options, own) in [
        ("VolumeOptions", "volume"),
        ("ImageOptions", "image"),
        ("BindOptions", "bind"),
        ("TmpfsOptions", "tmpfs"),
    ] {
        if mount.get(options).is_some() && kind != own {
            return Err(format!(
                "cannot mix '{own}-*' options with mount type '{kind}'"
            ));
        }
    }
    let bind = &mount["BindOptions"];
    let needs = |how: &str, what: &str| {
        Err(format!(
            "option 'bind-recursive={how}' requires '{what}' to be specified in conjunction"
        ))
    };
    let is_readonly = mount["ReadOnly"] == true;
    if bind["ReadOnlyNonRecursive"] == true && !is_readonly {
        return needs("writable", "readonly");
    }
    if bind["ReadOnlyForceRecursive"] == true {
        if !is_readonly {
            return needs("readonly", "readonly");
        }
        if bind["Propagation"] != "rprivate" {
            return needs("readonly", "bind-propagation=rprivate");
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
    fn a_field_may_have_commas_in_quotes() {
        let made = mount("type=volume,dst=/b,\"volume-opt=o=addr=a,rw\",volume-opt==x").unwrap();
        let expected = json!({
            "Type": "volume", "Target": "/b",
            "VolumeOptions": { "DriverConfig": { "Options": { "o": "addr=a,rw" } } },
        });
        assert_eq!(made, expected);
        assert_eq!(mount("\"dst=/a,b\"").unwrap()["Target"], "/a,b");
    }

    #[test]
    fn wrong_mounts_are_refused_in_dockers_words() {
        for (text, why) in [
            ("", "EOF"),
            (
                "type=bind,frob",
                "invalid field 'frob' must be a key=value pair",
            ),
            ("dst=/b,Frob=1", "unexpected key 'frob' in 'Frob=1'"),
            ("type=", "type is required"),
            ("type=bind,src=/a", "target is required"),
            ("dst=", "target is required"),
            // Of the CLI behind 28.5.
            (
                "type=bind,src=/a,dst=/b,bind-create-src",
                "invalid field 'bind-create-src' must be a key=value pair",
            ),
            (
                "type=bind,src=/a,dst=/b,bind-create-src=true",
                "unexpected key 'bind-create-src' in 'bind-create-src=true'",
            ),
            (
                "type=volume,dst=/b,bind-nonrecursive",
                "cannot mix 'bind-*' options with mount type 'volume'",
            ),
            (
                "type=tmpfs,dst=/b,bind-propagation=shared",
                "cannot mix 'bind-*' options with mount type 'tmpfs'",
            ),
            (
                "type=image,src=i,dst=/b,bind-recursive=disabled",
                "cannot mix 'bind-*' options with mount type 'image'",
            ),
            ("dst=/b,RO=x", "invalid value for ro: x"),
            (
                "type=tmpfs,dst=/t,tmpfs-mode=9",
                "invalid value for tmpfs-mode: 9",
            ),
            (
                "type=tmpfs,dst=/t,tmpfs-size=x",
                "invalid value for tmpfs-size: x",
            ),
            (
                "dst=/b,tmpfs-size=1m",
                "cannot mix 'tmpfs-*' options with mount type 'volume'",
            ),
            (
                "type=bind,src=/a,dst=/t,bind-recursive=readonly,ro",
                "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
            ),
        ] {
            let error = mount(text).unwrap_err().message;
            assert_eq!(
                error,
                format!("invalid argument {text:?} for \"--mount\" flag: {why}")
            );
        }
    }
}
