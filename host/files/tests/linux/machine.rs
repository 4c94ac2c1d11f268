//! The cases.
//!
//! Needed: QEMU, the kernel that `cargo xtask image` built, a static busybox and cpio. The guest's first
//! program is a shell script; what it finds wrong it says on the console, which is looked through here.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lighter_files::control::ShareId;
use lighter_files::{FilesProcess, SpawnConfig, TAG};

const NAME: &str = "shares_in_a_virtual_machine";

/// Runs the case; where this is root, with the files process and the shared files an ordinary user's.
pub fn run(wanted: &str) {
    if !NAME.contains(wanted) {
        return;
    }
    let kernel = match kernel() {
        Ok(kernel) => kernel,
        Err(missing) => {
            println!("SKIP {NAME}: {missing}");
            count_skip(&missing);
            return;
        }
    };
    shares_in_a_virtual_machine(&kernel);
    println!("test {NAME} ... ok");
}

fn count_skip(reason: &str) {
    let Some(file) = std::env::var_os("LIGHTER_TEST_SKIPS") else {
        return;
    };
    if let Ok(mut file) = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
    {
        // A skip that cannot be counted is still printed.
        let _ = writeln!(file, "{NAME}: {reason}");
    }
}

fn kernel() -> Result<PathBuf, String> {
    for program in ["qemu-system-x86_64", "busybox", "cpio"] {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output()
            .expect("a shell");
        if !found.status.success() {
            return Err(format!("`{program}` is not installed"));
        }
    }
    let home = std::env::var_os("HOME").ok_or("HOME is not set")?;
    let image = std::env::var_os("LIGHTER_IMAGE_DIR").map_or_else(
        || Path::new(&home).join(".cache/lighter/image/current"),
        PathBuf::from,
    );
    let kernel = image.join("bzImage");
    if kernel.exists() {
        Ok(kernel)
    } else {
        Err(format!(
            "no kernel at {}: `cargo xtask image`",
            kernel.display()
        ))
    }
}

/// What the guest does. `ok`, `no` and `is` say what failed; the last line says that all was run.
const SCRIPT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /m
/bin/busybox --install -s /bin
mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev 2>/dev/null
mount -t tmpfs none /tmp
say() { echo "GUEST $*" > /dev/console; }
ok() { "$@" || say "FAILED: $*"; }
no() { "$@" 2>/dev/null && say "ALLOWED: $*"; true; }
is() { [ "$1" = "$2" ] || say "DIFFERENT: '$1' is not '$2' ($3)"; }
umask 022
ok mount -t virtiofs lighter /m
is "$(ls /m | tr '\n' ' ')" 'file ro rw ' shares
cd /m/rw
is "$(cat from-host)" 'hello guest' content
is "$(stat -c '%u %a' from-host)" "$(cat owner) 644" owner
echo 'hello host' > from-guest
mkdir d && seq 2000 > d/numbers && cp d/numbers d/copy && ok cmp d/numbers d/copy
dd if=/dev/urandom of=big bs=1M count=24 2>/dev/null; sync; echo 3 > /proc/sys/vm/drop_caches
sha256sum big | cut -d' ' -f1 > big.sum
mkdir many; i=0; while [ $i -lt 300 ]; do : > many/$i; i=$((i+1)); done; is "$(ls many | wc -l)" 300 many
mkdir own && chown 999:999 own && chmod 700 own
ok su u999 -c 'umask 022; echo mine > /m/rw/own/f && cat /m/rw/own/f > /dev/null'
is "$(stat -c '%u %g %a' own own/f | tr '\n' ' ')" '999 999 700 999 999 644 ' own
no su u998 -c 'cat /m/rw/own/f'
mkfifo pipe; (echo through > pipe &); is "$(cat pipe)" through fifo
ln -s from-host link; is "$(cat link)" 'hello guest' link
ln from-guest hard; is "$(stat -c %h hard)" 2 links
mv hard d/moved; rm -r d/copy
(flock 9; echo locked >&9) 9> lock; is "$(cat lock)" locked lock
(for w in 1 2 3 4; do (i=0; while [ $i -lt 40 ]; do echo $i > p$w.$i; mv p$w.$i q$w.$i; cat q$w.$i >/dev/null; rm q$w.$i; i=$((i+1)); done) & done; wait)
is "$(ls | grep -c '^[pq][1-4]')" 0 parallel
rm -rf many
cd /m/ro
is "$(cat kept)" kept read-only
no touch kept; no sh -c 'echo x > kept'; no rm kept; no mkdir x; no chmod 777 kept; no mv kept k; no ln kept k
mount -o remount,rw /m; no sh -c 'echo x >> kept'; no touch new
is "$(cat /m/file)" 'one file' file
echo changed > /m/file
no cat /m/rw/.secret/key; no ls /m/rw/.secret
no ls /m/rw/..%2f; cd /
ok umount /m && ok mount -t virtiofs lighter /m
is "$(cat /m/rw/from-guest)" 'hello host' again
ok umount /m
say DONE
echo b > /proc/sysrq-trigger; poweroff -f
"#;

fn shares_in_a_virtual_machine(kernel: &Path) {
    let root = rustix::process::geteuid().is_root();
    let user = if root {
        1000
    } else {
        rustix::process::geteuid().as_raw()
    };
    let place = tempfile::tempdir().expect("temporary directory");
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).expect("own");
    let at = |name: &str| place.path().join(name);
    for name in ["run", "data", "rw", "rw/.secret", "ro"] {
        std::fs::create_dir(at(name)).expect("made");
    }
    let files = [
        ("rw/from-host", "hello guest\n".to_owned()),
        ("rw/owner", format!("{user}\n")),
        ("rw/.secret/key", "key\n".to_owned()),
        ("ro/kept", "kept\n".to_owned()),
        ("single", "one file\n".to_owned()),
    ];
    for (name, content) in &files {
        std::fs::write(at(name), content).expect("made");
        std::fs::set_permissions(at(name), PermissionsExt::from_mode(0o644)).expect("own");
    }
    if root {
        for name in ["run", "data", "rw", "rw/.secret", "ro"]
            .into_iter()
            .chain(files.iter().map(|f| f.0))
        {
            chown(at(name), Some(user), Some(user)).expect("root may");
        }
    }
    let initramfs = initramfs(place.path());
    let mut files = spawn_as(user, place.path());
    files.control.hide(&at("rw/.secret")).expect("hidden");
    for (id, path, read_only) in [
        ("rw", "rw", false),
        ("ro", "ro", true),
        ("file", "single", false),
    ] {
        files
            .control
            .add_path(&ShareId::new(id).expect("id"), &at(path), read_only)
            .expect(id);
    }
    let ro_before = std::fs::metadata(at("ro/kept")).expect("present");
    let said = boot(kernel, &initramfs, files.vhost_user);
    let complaints: Vec<_> = said
        .iter()
        .filter(|line| line.contains("GUEST") && !line.contains("DONE"))
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(
        said.iter().any(|line| line.contains("GUEST DONE")),
        "{said:#?}"
    );
    assert!(
        files.child.wait().expect("own child").success(),
        "the files process ends with the machine"
    );
    // What is on the host now is the host user's and is what the guest wrote.
    assert_eq!(
        std::fs::read_to_string(at("rw/from-guest")).expect("made"),
        "hello host\n"
    );
    assert_eq!(
        std::fs::read_to_string(at("single")).expect("written"),
        "changed\n"
    );
    let sum = Command::new("sha256sum")
        .arg(at("rw/big"))
        .output()
        .expect("coreutils");
    let wanted = std::fs::read_to_string(at("rw/big.sum")).expect("made");
    assert!(
        String::from_utf8_lossy(&sum.stdout).starts_with(wanted.trim()),
        "24 MB arrived as they were"
    );
    for name in [
        "rw/from-guest",
        "rw/own",
        "rw/own/f",
        "rw/d/numbers",
        "rw/pipe",
        "rw/big",
    ] {
        let found = std::fs::symlink_metadata(at(name)).expect("made");
        assert_eq!(found.uid(), user, "{name}");
    }
    let ro_after = std::fs::metadata(at("ro/kept")).expect("present");
    assert_eq!(
        (ro_before.ctime(), ro_before.ctime_nsec()),
        (ro_after.ctime(), ro_after.ctime_nsec())
    );
    assert_eq!(std::fs::read_dir(at("ro")).expect("list").count(), 1);
}

/// Starts the files process as `user`: through a script, since only that can change who it is.
fn spawn_as(user: u32, place: &Path) -> FilesProcess {
    let program = place.join("lighter-test");
    std::fs::copy(std::env::current_exe().expect("known"), &program).expect("room");
    let exe = if rustix::process::geteuid().is_root() {
        let exe = place.join("as-user");
        let text = format!(
            "#!/bin/sh\nexec setpriv --reuid={user} --regid={user} --clear-groups {} \"$@\"\n",
            program.display()
        );
        std::fs::write(&exe, text).expect("room");
        std::fs::set_permissions(&exe, PermissionsExt::from_mode(0o755)).expect("own");
        exe
    } else {
        program
    };
    let log = File::create(place.join("log")).expect("room");
    let (run_dir, data_dir) = (place.join("run"), place.join("data"));
    std::fs::create_dir(data_dir.join("files")).expect("made");
    chown(data_dir.join("files"), Some(user), Some(user)).expect("own");
    FilesProcess::spawn(SpawnConfig {
        exe: &exe,
        run_dir: &run_dir,
        data_dir: &data_dir,
        log: Some(log),
    })
    .unwrap_or_else(|e| {
        panic!(
            "{e}: {}",
            std::fs::read_to_string(place.join("log")).expect("log")
        )
    })
}

/// busybox, the script as `/init`, and the users whom it becomes.
fn initramfs(place: &Path) -> PathBuf {
    let tree = place.join("initramfs");
    std::fs::create_dir_all(tree.join("bin")).expect("made");
    let busybox = Command::new("sh")
        .args(["-c", "command -v busybox"])
        .output()
        .expect("a shell");
    let busybox = String::from_utf8(busybox.stdout).expect("a path");
    std::fs::copy(busybox.trim(), tree.join("bin/busybox")).expect("room");
    std::fs::write(tree.join("init"), SCRIPT).expect("room");
    // busybox's su takes names: a user of each number.
    std::fs::create_dir(tree.join("etc")).expect("made");
    std::fs::write(
        tree.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\nu999:x:999:999::/:/bin/sh\nu998:x:998:998::/:/bin/sh\n",
    )
    .expect("room");
    std::fs::write(
        tree.join("etc/group"),
        "root:x:0:\nu999:x:999:\nu998:x:998:\n",
    )
    .expect("room");
    std::fs::set_permissions(tree.join("init"), PermissionsExt::from_mode(0o755)).expect("own");
    let archive = place.join("initramfs.cpio");
    let made = Command::new("sh")
        .args([
            "-c",
            "find . | cpio -o -H newc --quiet -R 0:0 > ../initramfs.cpio",
        ])
        .current_dir(&tree)
        .status()
        .expect("a shell");
    assert!(made.success());
    archive
}

/// Boots to the end; the lines of the console.
fn boot(kernel: &Path, initramfs: &Path, vhost_user: OwnedFd) -> Vec<String> {
    rustix::io::fcntl_setfd(&vhost_user, rustix::io::FdFlags::empty()).expect("own descriptor");
    let mut command = Command::new("timeout");
    command.args([
        "--kill-after=5",
        "240",
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
    ]);
    command.args([
        "-display",
        "none",
        "-machine",
        "q35,memory-backend=ram,sata=off,graphics=off",
    ]);
    command.args([
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "512M",
    ]);
    command.args([
        "-object",
        "memory-backend-memfd,id=ram,size=512M,share=on",
        "-serial",
        "stdio",
    ]);
    command
        .arg("-chardev")
        .arg(format!("socket,id=share,fd={}", vhost_user.as_raw_fd()));
    command.arg("-device").arg(format!(
        "vhost-user-fs-pci,chardev=share,tag={TAG},queue-size=1024"
    ));
    command
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 reboot=t",
            "-kernel",
        ])
        .arg(kernel);
    command.arg("-initrd").arg(initramfs);
    let mut child: Child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu");
    // QEMU holds the only other end now, so that its death is seen.
    drop(vhost_user);
    let console = BufReader::new(child.stdout.take().expect("piped"));
    let mut said = Vec::new();
    for line in console.split(b'\n') {
        let line = String::from_utf8_lossy(&line.expect("a pipe"))
            .trim_end()
            .to_owned();
        if std::env::var_os("LIGHTER_TEST_CONSOLE").is_some() {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        said.push(line);
    }
    child.wait().expect("own child");
    said
}
