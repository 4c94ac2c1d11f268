//! `lighter cp`, `diff`, `export`, `import`, `commit` and `history` beside the docker CLI, on one
//! engine: what arrives where, and what is said.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lighter_tests::{Finished, Host, run};

/// One of the two clients.
type Client = fn(&Host, &[&str], &[u8]) -> Finished;

const CLIENTS: [(&str, Client); 2] = [
    ("docker", |host, args, input| host.docker_with(args, input)),
    ("lighter", |host, args, input| {
        host.lighter_with(args, input)
    }),
];

/// What there is in a folder: kind, mode and name of everything, content and targets of links.
fn listed(folder: &Path) -> String {
    let mut find = Command::new("find");
    find.arg(folder).args(["-printf", "%P %y %m %l %s\n"]);
    let out = run(find, b"", Duration::from_secs(60)).ok().out();
    let mut lines: Vec<&str> = out.lines().filter(|line| !line.contains(" d ")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Errors with what both call their own taken away, and without hints.
fn said(done: &Finished, folder: &Path) -> String {
    let text = done.err().replace(&folder.display().to_string(), "$DIR");
    let text = text.lines().filter(|line| {
        // The docker CLI's own log of an archive that nobody read to its end.
        !line.starts_with("time=") && !line.starts_with("hint:")
    });
    let text = text.map(|line| line.trim_start_matches("Error response from daemon: "));
    let text = text.map(|line| line.trim_start_matches("lighter: "));
    let text = text.map(|line| line.trim_start_matches("error: "));
    text.collect::<Vec<_>>().join("\n")
}

#[test]
fn copies_arrive_where_dockers_do_and_say_the_same() {
    let Some(host) = Host::shared("copies_arrive_where_dockers_do_and_say_the_same") else {
        return;
    };
    let mut answers: Vec<Vec<String>> = Vec::new();
    for (client, command) in CLIENTS {
        let folder = host.home().join(format!("cp-{client}"));
        fs::create_dir_all(folder.join("d/deep")).expect("a folder");
        fs::write(folder.join("f"), "hi").expect("a file");
        fs::write(folder.join("d/deep/x"), "in").expect("a file");
        symlink("f", folder.join("l")).expect("a link");
        symlink("d", folder.join("ld")).expect("a link");
        symlink("none", folder.join("dangling")).expect("a link");
        let name = format!("cp-{client}");
        host.docker(&["create", "--name", &name, "busybox", "true"])
            .ok();
        let at = folder.display().to_string();
        let lines = "cp $DIR/f $C:/\ncp $DIR/f $C:/renamed\ncp $DIR/f $C:/none/x\n\
                     cp $DIR/f $C:/none/\ncp $DIR/d $C:/\ncp $DIR/d $C:/other\n\
                     cp $DIR/d/. $C:/content\ncp $DIR/d $C:/renamed\ncp $DIR/nofile $C:/\n\
                     cp $DIR/l $C:/\ncp -L $DIR/l $C:/followed\ncp $DIR/ld $C:/\n\
                     cp $DIR/ld/ $C:/slash\ncp $DIR/dangling $C:/\ncp -q $DIR/f $C:/d\n\
                     cp $C:/nothing $DIR\ncp $C:/d $DIR/out\ncp $C:/d $DIR/out\n\
                     cp $C:/d/. $DIR/content\ncp $C:/l $DIR/link\ncp -L $C:/l $DIR/followed\n\
                     cp $C:/f $DIR/none/x\ncp $C:/f $DIR/none/\ncp $C:/d $DIR/f\n\
                     cp $C:f $DIR/relative\ncp a b\ncp $C:/x $C:/y\ncp $C: $DIR\n\
                     cp nobody:/x $DIR\ncp $DIR/f nobody:/x\ncp - $C:/f\ncp $C:/ $DIR/root";
        let mut said_all = Vec::new();
        for line in lines.lines() {
            let filled = line.replace("$DIR", &at).replace("$C", &name);
            let words: Vec<&str> = filled.split(' ').collect();
            let done = command(host, &words, b"");
            let text = said(&done, &folder).replace(&name, "$C");
            said_all.push(format!("{line}: {} {text}", done.code));
        }
        let root = fs::remove_dir_all(folder.join("root"));
        root.expect("the container's root has arrived");
        said_all.push(listed(&folder));
        let everything = folder.join("everything");
        fs::create_dir(&everything).expect("a folder");
        for path in ["d", "other", "content", "slash", "renamed", "followed"] {
            let from = format!("{name}:/{path}");
            let to = everything.display().to_string();
            host.docker(&["cp", &from, &to]).ok();
        }
        said_all.push(listed(&everything));
        host.docker(&["rm", &name]).ok();
        answers.push(said_all);
    }
    for (docker, lighter) in answers[0].iter().zip(&answers[1]) {
        assert_eq!(docker, lighter, "docker's answer and lighter's");
    }
}

#[test]
fn images_are_made_and_shown_as_docker_does() {
    let Some(host) = Host::shared("images_are_made_and_shown_as_docker_does") else {
        return;
    };
    host.docker(&["create", "--name", "makes", "busybox", "true"])
        .ok();
    let file = host.home().join("makes.tar").display().to_string();
    let mut answers: Vec<Vec<String>> = Vec::new();
    for (client, command) in CLIENTS {
        let tag = format!("makes/{client}:1");
        let mut said_all = Vec::new();
        for line in [
            "diff makes",
            "diff nobody",
            "export -o $FILE makes",
            "export nobody",
            "import -m why -c LABEL=x $FILE $TAG",
            "import -m why $FILE $TAG",
            "history --format {{.Comment}}|{{.CreatedBy}}|{{.Size}} $TAG",
            "history -q nobody",
            "commit -m what makes $TAG",
            "history --format {{.Comment}}|{{.CreatedBy}} $TAG",
            "history -H=false --no-trunc busybox",
            "history --format {{.ID}}|{{.CreatedAt}}|{{.CreatedBy}}|{{.Size}} busybox",
            "commit nobody",
            "rmi -f $TAG",
        ] {
            let filled = line.replace("$FILE", &file).replace("$TAG", &tag);
            let words: Vec<&str> = filled.split(' ').collect();
            let done = command(host, &words, b"");
            let out = done.out();
            let out = if out.contains("sha256:") && !line.starts_with("history") {
                "an id".to_owned()
            } else {
                out
            };
            let text = said(&done, host.home()).replace(&tag, "$TAG");
            said_all.push(format!("{line}: {} {out} {text}", done.code));
        }
        answers.push(said_all);
    }
    host.docker(&["rm", "makes"]).ok();
    for (docker, lighter) in answers[0].iter().zip(&answers[1]) {
        assert_eq!(docker, lighter, "docker's answer and lighter's");
    }
}
