//! The images that the suite pulls, made of Debian's busybox, in a registry that plays the hub.

use lighter_tests::Registry;
use lighter_tests::registry::Entry;
use lighter_tests::tars::{image, system};

/// What the suite asks for. `alpine` is the image that nearly all of it runs.
const NAMES: [&str; 4] = [
    "alpine:3.10",
    "alpine:latest",
    "busybox:latest",
    "hello-world:latest",
];

const FILES: [(&str, &[u8]); 2] = [
    (
        "etc/passwd",
        b"root:x:0:0:root:/root:/bin/sh\npostgres:x:70:70:postgres:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("etc/group", b"root:x:0:\npostgres:x:70:\nnogroup:x:65534:\n"),
];

/// The registry; `None` (and a counted skip of `test`) where it cannot run.
pub fn mirror(test: &str) -> Option<Registry> {
    let registry = Registry::start(test, &Entry::Open)?;
    let folder = tempfile::tempdir().expect("a folder");
    for name in NAMES {
        // Each has an id and a layer of its own: the suite removes one and looks what goes.
        let mut files = FILES.to_vec();
        files.push(("etc/image", name.as_bytes()));
        let config = format!(
            r#"{{"Cmd":["sh"],"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],"Labels":{{"image":{name:?}}}}}"#
        );
        let archive = folder.path().join("image.tar");
        let bytes = image(&[system(&files)], name, &config);
        std::fs::write(&archive, bytes).expect("a file");
        registry.push(&archive, &format!("library/{name}"));
    }
    Some(registry)
}
