//! What single changes make of a file.

use super::super::Effect;
use super::*;

fn set(path: &Path, name: &str, value: &str) -> Result<&'static Key, SettingsError> {
    let value = Some(value);
    change(path, &[Change { name, value }]).map(|keys| keys[0])
}

fn unset(path: &Path, name: &str) -> Result<&'static Key, SettingsError> {
    let value = None;
    change(path, &[Change { name, value }]).map(|keys| keys[0])
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn what_is_taken_out_has_its_default_and_comments_stay() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let written = "# one\ncpus = 2 # two\n# three\nmemory = '2GiB'\n\n# four\n[engine]\n# five\nbip = '10.9.0.1/24'\n";
    std::fs::write(&path, written).unwrap();
    unset(&path, "cpus").unwrap();
    let left = "# one\n# three\nmemory = '2GiB'\n\n# four\n[engine]\n# five\nbip = '10.9.0.1/24'\n";
    assert_eq!(text(&path), left);
    unset(&path, "memory").unwrap();
    let left = "# one\n# three\n\n# four\n[engine]\n# five\nbip = '10.9.0.1/24'\n";
    assert_eq!(text(&path), left);
    assert_eq!(unset(&path, "engine.bip").unwrap().name, "engine.bip");
    assert_eq!(text(&path), "# one\n# three\n\n# four\n[engine]\n# five\n");
    assert_eq!(Settings::load(&path).unwrap(), Settings::default());
    // One that is not there is what it shall be.
    unset(&path, "disk").unwrap();
    assert!(matches!(
        unset(&path, "bip"),
        Err(SettingsError::Unknown { .. })
    ));
    std::fs::write(
        &path,
        "engine = { bip = '10.9.0.1/24', ip = '::1' }\nproxies.no-proxy = 'x'\n",
    )
    .unwrap();
    unset(&path, "engine.bip").unwrap();
    unset(&path, "proxies.no-proxy").unwrap();
    let settings = Settings::load(&path).unwrap();
    assert_eq!((&*settings.engine.bip, &*settings.engine.ip), ("", "::1"));
}

#[test]
fn what_is_no_setting_can_be_taken_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let written = "cpus = 2\nmemroy = '2GiB'\n[engine]\nbip = '10.9.0.1/24'\ncolour = 'red'\n[bogus]\na = 1\n";
    std::fs::write(&path, written).unwrap();
    let names = ["memroy", "engine.colour", "bogus"];
    let all = names.map(|name| Change { name, value: None });
    assert!(change(&path, &all).unwrap().is_empty());
    let left = "cpus = 2\n[engine]\nbip = '10.9.0.1/24'\n";
    assert_eq!(text(&path), left);
    for name in ["memroy", "engine.colour", "engine", "proxies"] {
        let refused = change(&path, &[Change { name, value: None }]);
        assert!(
            matches!(refused, Err(SettingsError::Unknown { .. })),
            "{name}"
        );
    }
    assert_eq!(text(&path), left);
}

#[test]
fn hints_about_values_that_are_wrong_together_lead_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    for (written, mended, others) in [
        (
            "memory = '1m'\ndisk = '1m'\n",
            ("memory", "200MiB"),
            ("disk", "2GiB"),
        ),
        (
            "memory = 5\ndisk = 'much'\n",
            ("disk", "2GiB"),
            ("memory", "200MiB"),
        ),
        // The part is wrong only as soon as the whole is not.
        (
            "engine.bip = 'x'\nengine.fixed-cidr = '10.8.0.0/25'\n",
            ("engine.bip", "10.9.0.1/24"),
            ("engine.fixed-cidr", "10.9.0.0/25"),
        ),
    ] {
        let change_of = |(name, value)| Change { name, value };
        for value in [Some(mended.1), None] {
            std::fs::write(&path, written).unwrap();
            let error = match change(&path, &[change_of((mended.0, value))]) {
                Err(error) => error,
                // Without the whole the part can be anything.
                Ok(_) => {
                    assert_eq!((mended.0, value), ("engine.bip", None));
                    continue;
                }
            };
            let (said, hint) = (error.to_string(), error.hint());
            for key in [mended.0, others.0] {
                assert!(said.contains(&format!("`{key}` cannot be")), "{said}");
                for command in ["set", "unset"] {
                    let mut commands = hint.split('`').filter(|part| part.contains(command));
                    assert!(commands.any(|part| part.contains(key)), "{hint}");
                }
            }
            assert_eq!(text(&path), written);
        }
        for values in [(Some(mended.1), Some(others.1)), (None, None)] {
            std::fs::write(&path, written).unwrap();
            let both = [
                change_of((mended.0, values.0)),
                change_of((others.0, values.1)),
            ];
            change(&path, &both).unwrap();
        }
    }
}

#[test]
fn nothing_goes_but_a_settings_own_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    for (name, written, left) in [
        // Behind it come a table that is not written out, lists of tables, dotted keys.
        (
            "cpus",
            "# a\ncpus = 2 # b\n# c\n[engine.log-opts] # d\nmax-size = '1m'\n",
            "# a\n# c\n[engine.log-opts] # d\nmax-size = '1m'\n",
        ),
        (
            "engine.bip",
            "[engine] # a\n# b\nbip = ''\n# c\n[[engine.default-address-pools]]\nbase = '10.0.0.0/8'\nsize = 24\n",
            "[engine] # a\n# b\n# c\n[[engine.default-address-pools]]\nbase = '10.0.0.0/8'\nsize = 24\n",
        ),
        (
            "engine.bip",
            "# a\nengine.bip = ''\n# b\nengine.ip = ''\n# c\nproxies.no-proxy = ''\n",
            "# a\n# b\nengine.ip = ''\n# c\nproxies.no-proxy = ''\n",
        ),
        (
            "engine.ip",
            "# a\nengine.bip = ''\n# b\nengine.ip = ''\n# c\nproxies.no-proxy = ''\n",
            "# a\nengine.bip = ''\n# b\n# c\nproxies.no-proxy = ''\n",
        ),
        // The last one of its table stays above the next table.
        (
            "engine.bip",
            "[engine]\n# a\nbip = ''\n\n# b\n[proxies]\nno-proxy = ''\n# c\n",
            "[engine]\n# a\n\n# b\n[proxies]\nno-proxy = ''\n# c\n",
        ),
        // Values of many lines, and of tables.
        (
            "shares",
            "shares = [ # a\n  '/a', # b\n] # c\r\n# d\r\ncpus = 2\r\n",
            "# d\r\ncpus = 2\r\n",
        ),
        (
            "engine.log-opts",
            "[proxies]\n# a\nno-proxy = ''\n# b\n[engine.log-opts]\nmax-size = '1m' # c\n# d\nmax-file = '2'\n# e\n[engine]\nip = ''",
            "[proxies]\n# a\nno-proxy = ''\n# b\n# d\n# e\n[engine]\nip = ''",
        ),
        (
            "engine.log-opts",
            "[engine]\nlog-opts.max-size = '1m'\n# a\nip = ''\n# b\nlog-opts.max-file = '2'",
            "[engine]\n# a\nip = ''\n# b\n",
        ),
        (
            "engine.default-address-pools",
            "# a\n[[engine.default-address-pools]]\nbase = '10.0.0.0/8'\nsize = 24\n# b\n[[engine.default-address-pools]]\nbase = '172.16.0.0/12'\nsize = 24\n# c\n[engine]\nip = ''",
            "# a\n# b\n# c\n[engine]\nip = ''",
        ),
        (
            "engine.ip",
            "engine = { bip = '', ip = '', log-driver = 'json-file' } # a\n# b\n",
            "engine = { bip = '', log-driver = 'json-file' } # a\n# b\n",
        ),
        (
            "proxies.no-proxy",
            "# a\nproxies = { no-proxy = '' } # b\n",
            "# a\nproxies = {} # b\n",
        ),
    ] {
        std::fs::write(&path, written).unwrap();
        unset(&path, name).unwrap();
        assert_eq!(text(&path), left, "{name} of {written}");
    }
}

#[test]
fn a_settings_own_comment_outlives_its_value() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    for (name, value, written, left) in [
        (
            "cpus",
            "1",
            "# a\ncpus  =  2  # b\n# c\n",
            "# a\ncpus  =  1  # b\n# c\n",
        ),
        (
            "engine.ip",
            "::1",
            "[engine]\nip = ''\t# a\n",
            "[engine]\nip = \"::1\"\t# a\n",
        ),
        (
            "engine.ip",
            "::1",
            "engine = { bip = '', ip = '' } # a\n",
            "engine = { bip = '', ip = \"::1\" } # a\n",
        ),
    ] {
        std::fs::write(&path, written).unwrap();
        set(&path, name, value).unwrap();
        assert_eq!(text(&path), left, "{name} of {written}");
    }
}

#[test]
fn settings_that_only_fit_each_other_are_changed_together() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    let to = |bip, range| {
        let change_of = |name, value| Change {
            name,
            value: Some(value),
        };
        change(
            &path,
            &[
                change_of("engine.bip", bip),
                change_of("engine.fixed-cidr", range),
            ],
        )
    };
    to("10.9.0.1/24", "10.9.0.128/25").unwrap();
    let before = text(&path);
    for (key, value) in [
        ("engine.bip", "10.8.0.1/24"),
        ("engine.fixed-cidr", "10.8.0.128/25"),
    ] {
        let error = set(&path, key, value).unwrap_err();
        assert!(
            error
                .hint()
                .contains("`lighter config set engine.bip VALUE engine.fixed-cidr VALUE`")
        );
    }
    assert!(to("10.8.0.1/24", "10.7.0.128/25").is_err());
    assert_eq!(text(&path), before);
    to("10.8.0.1/24", "10.8.0.128/25").unwrap();
    assert_eq!(
        Settings::load(&path).unwrap().engine.fixed_cidr,
        "10.8.0.128/25"
    );
}

#[test]
fn a_value_that_keeps_the_file_from_being_read_can_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    for written in ["memory = '1m'\n", "memory = 5\n"] {
        std::fs::write(&path, written).unwrap();
        assert!(set(&path, "cpus", "1").is_err());
        assert_eq!(text(&path), written);
        set(&path, "memory", "200MiB").unwrap();
        assert_eq!(text(&path), "memory = \"200MiB\"\n");
    }
    for written in [
        "engine = 5\n",
        "engine = 'x'\n",
        "engine = []\n",
        "[[engine]]\n",
    ] {
        std::fs::write(&path, written).unwrap();
        let error = set(&path, "engine.ip", "::1").unwrap_err();
        assert!(
            error.to_string().contains("`engine` is no table"),
            "{error}"
        );
        assert_eq!(text(&path), written);
    }
}

#[test]
fn setting_one_key_keeps_comments_and_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c/config.toml");
    set(&path, "cpus", "2").unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("# mine\n{text}")).unwrap();
    let key = set(
        &path,
        "engine.registry-mirrors",
        "https://a.test,https://b.test",
    )
    .unwrap();
    assert_eq!(key.effect, Effect::NextStart);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# mine\ncpus = 2\n"), "{text}");
    assert_eq!(
        Settings::load(&path).unwrap().engine.registry_mirrors.len(),
        2
    );
    assert_eq!(get(&path, "cpus").unwrap().as_deref(), Some("2"));
    assert_eq!(get(&path, "disk").unwrap().as_deref(), Some("64GiB"));
    set(&path, "engine.userns-remap", "true").unwrap();
    assert!(Settings::load(&path).unwrap().engine.userns_remap);
    for ip in ["127.0.0.1", "::1", ""] {
        set(&path, "engine.ip", ip).unwrap();
        assert_eq!(Settings::load(&path).unwrap().engine.ip, ip);
    }
}

#[test]
fn a_refused_value_leaves_the_file_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    set(&path, "cpus", "2").unwrap();
    assert!(set(&path, "cpus", "1000").is_err());
    assert!(set(&path, "memory", "lots").is_err());
    assert!(set(&path, "engine.userns-remap", "default").is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "cpus = 2\n");
}

#[test]
fn a_switch_that_is_on_where_nobody_says_can_be_turned_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("settings.toml");
    set(&path, "engine.host-network-ports", "false").unwrap();
    let engine = Settings::load(&path).unwrap().engine;
    assert_eq!(engine.host_network_ports, Some(false));
}
