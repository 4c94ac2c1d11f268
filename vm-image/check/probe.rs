//! PID 1 of the boot test (`cargo xtask image --check`): asks a freshly booted kernel for everything that the
//! guest relies on, says on the console what it answered, and restarts the machine.
//!
//! Compiled alone, static, without a crate: it must not need anything that it is there to test.
//! One line a question, `ok NAME …` or `FAIL NAME: why`; the last line is `check: N failed`.

use std::ffi::{CString, c_char, c_int, c_ulong, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Instant;

unsafe extern "C" {
    fn mount(source: *const c_char, target: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn unshare(flags: c_int) -> c_int;
    fn syscall(number: i64, ...) -> i64;
    fn reboot(how: c_int) -> c_int;
    fn sync();
}

const AF_ALG: c_int = 38;
const AF_VSOCK: c_int = 40;
const SOCK_STREAM: c_int = 1;
const SOCK_SEQPACKET: c_int = 5;
const EAFNOSUPPORT: i32 = 97;
const ENOSYS: i32 = 38;
const EBUSY: i32 = 16;
const EPERM: i32 = 1;

type Answer = Result<String, String>;

fn main() {
    let mut failed = 0;
    let questions: [(&str, fn() -> Answer); 21] = [
        ("mounts", mounts),
        ("boot", boot),
        ("disk", disk),
        ("disk-limits", disk_limits),
        ("disk-raw-write", disk_raw_write),
        ("growth", growth),
        ("verity", verity),
        ("erofs", erofs),
        ("overlay", overlay),
        ("cgroup2", cgroup2),
        ("namespaces", namespaces),
        ("vsock", vsock),
        ("vsock-contained", vsock_contained),
        ("seccomp", seccomp),
        ("i386", i386),
        ("bridge", bridge),
        ("tables", tables),
        ("devices", devices),
        ("file-systems", file_systems),
        ("accounting", accounting),
        ("hardening", hardening),
    ];
    for (name, ask) in questions {
        let started = Instant::now();
        match ask() {
            Ok(answer) => println!("ok {name} {answer} ({} us)", started.elapsed().as_micros()),
            Err(why) => {
                failed += 1;
                println!("FAIL {name}: {why}");
            }
        }
    }
    println!("check: {failed} failed");
    let _ = io::stdout().flush();
    // SAFETY: neither takes a pointer; PID 1 may always ask for a restart.
    unsafe {
        sync();
        reboot(0x0123_4567);
    }
}

fn mounts() -> Answer {
    for (kind, target) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/run"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("securityfs", "/sys/kernel/security"),
        ("bpf", "/sys/fs/bpf"),
        ("binfmt_misc", "/proc/sys/fs/binfmt_misc"),
    ] {
        mounted(kind, target, kind, "")?;
    }
    for (kind, target) in [("devpts", "/dev/pts"), ("mqueue", "/dev/mqueue"), ("hugetlbfs", "/dev/hugepages")] {
        fs::create_dir_all(target).map_err(text)?;
        mounted(kind, target, kind, "")?;
    }
    Ok("all".into())
}

fn boot() -> Answer {
    let uptime = read("/proc/uptime")?;
    let memory = read("/proc/meminfo")?;
    let line = |name: &str| memory.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned();
    let clock = read("/sys/devices/system/clocksource/clocksource0/current_clocksource")?;
    if clock.trim() == "jiffies" {
        return Err("no clock but the timer tick".into());
    }
    Ok(format!("{} s, clock {}, {} {}", uptime.split(' ').next().unwrap_or_default(), clock.trim(), line("MemTotal"), line("MemAvailable")))
}

fn disk() -> Answer {
    fs::create_dir_all("/data").map_err(text)?;
    mounted("/dev/vda", "/data", "ext4", "noinit_itable,prjquota")?;
    let options = read("/proc/mounts")?;
    let line = options.lines().find(|l| l.contains(" /data ")).unwrap_or_default();
    if !line.contains("prjquota") {
        return Err(format!("project quota is not on: {line}"));
    }
    write("/data/file", "content")?;
    Ok(line.to_owned())
}

fn disk_limits() -> Answer {
    let limit = |name: &str| read(&format!("/sys/block/vda/queue/{name}")).map(|t| t.trim().to_owned());
    let (sector, discard, zeroes) = (limit("logical_block_size")?, limit("discard_max_bytes")?, limit("write_zeroes_max_bytes")?);
    if sector != "512" || discard == "0" || zeroes == "0" {
        return Err(format!("sectors of {sector}, discard {discard}, write zeroes {zeroes}"));
    }
    Ok(format!("discard {discard}, write zeroes {zeroes}"))
}

fn disk_raw_write() -> Answer {
    refused(OpenOptions::new().write(true).open("/dev/vda"), &[EBUSY, EPERM], "writing below a mounted file system")
}

fn growth() -> Answer {
    let sectors: u64 = read("/sys/block/vda/size")?.trim().parse().map_err(text)?;
    let before = blocks_of("/data")?;
    // Without this the kernel zeroes every new inode table at once.
    remounted("/data", "init_itable")?;
    let folder = File::open("/data").map_err(text)?;
    let blocks: u64 = sectors / 8;
    let started = Instant::now();
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64, which lives until the call returns.
    check("resize", unsafe { ioctl(folder.as_raw_fd(), 0x4008_6610, &raw const blocks) }.into())?;
    let took = started.elapsed();
    remounted("/data", "noinit_itable")?;
    let after = blocks_of("/data")?;
    if after < before + 1000 {
        return Err(format!("{before} blocks before, {after} after"));
    }
    Ok(format!("from {before} to {after} blocks in {} us", took.as_micros()))
}

fn verity() -> Answer {
    write("/data/sealed", &"x".repeat(100_000))?;
    let file = File::open("/data/sealed").map_err(text)?;
    // struct fsverity_enable_arg: version, hash algorithm (1 = SHA-256), block size, then salt and signature, empty.
    let mut argument = [0u32; 32];
    argument[..3].copy_from_slice(&[1, 1, 4096]);
    // SAFETY: FS_IOC_ENABLE_VERITY reads 128 bytes, the size of the array.
    check("enable", unsafe { ioctl(file.as_raw_fd(), 0x4080_6685, argument.as_ptr()) }.into())?;
    refused(OpenOptions::new().write(true).open("/data/sealed"), &[EPERM], "writing a sealed file")?;
    read("/data/sealed").map(|text| format!("{} bytes read back", text.len()))
}

fn erofs() -> Answer {
    fs::copy("/layer.erofs", "/data/layer.erofs").map_err(text)?;
    fs::create_dir_all("/run/lower").map_err(text)?;
    mounted("/data/layer.erofs", "/run/lower", "erofs", "directio")?;
    let content = read("/run/lower/hello")?;
    if content != "from the layer\n" {
        return Err(format!("wrong content {content:?}"));
    }
    Ok("a file as its device, directio".into())
}

fn overlay() -> Answer {
    for folder in ["/data/upper", "/data/work", "/run/merged"] {
        fs::create_dir_all(folder).map_err(text)?;
    }
    let options = "lowerdir=/run/lower,upperdir=/data/upper,workdir=/data/work,metacopy=off,redirect_dir=off,index=off,xino=off";
    mounted("overlay", "/run/merged", "overlay", options)?;
    write("/run/merged/hello", "changed")?;
    fs::remove_file("/run/merged/gone").map_err(text)?;
    if read("/data/upper/hello")? != "changed" || fs::metadata("/run/merged/gone").is_ok() {
        return Err("changes do not go to the upper layer".into());
    }
    Ok(String::new())
}

fn cgroup2() -> Answer {
    let have = read("/sys/fs/cgroup/cgroup.controllers")?;
    for controller in ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"] {
        if !have.split_whitespace().any(|c| c == controller) {
            return Err(format!("no {controller} among {have}"));
        }
        write("/sys/fs/cgroup/cgroup.subtree_control", &format!("+{controller}"))?;
    }
    fs::create_dir("/sys/fs/cgroup/a").map_err(text)?;
    for file in ["memory.max", "memory.swap.max", "pids.max", "cpu.max", "cpuset.cpus", "io.max", "cgroup.kill", "cgroup.freeze", "memory.pressure"] {
        read_path_exists(&format!("/sys/fs/cgroup/a/{file}"))?;
    }
    Ok(have.trim().to_owned())
}

fn namespaces() -> Answer {
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        read_path_exists(&format!("/proc/self/ns/{name}"))?;
    }
    // A user namespace can only be left behind by a process of one thread: the others are tried here.
    let done = std::thread::spawn(|| {
        // SAFETY: takes flags only: new mount, cgroup, uts, ipc, pid and net namespaces for this thread.
        check("unshare", unsafe { unshare(0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x2000_0000 | 0x4000_0000) }.into())
    });
    done.join().map_err(|_| "thread died".to_owned())?.map(|_| String::new())
}

fn vsock() -> Answer {
    for kind in [SOCK_STREAM, SOCK_SEQPACKET] {
        // SAFETY: takes no pointer.
        check("socket", unsafe { socket(AF_VSOCK, kind, 0) }.into())?;
    }
    read_path_exists("/dev/vsock")?;
    Ok("in the initial network namespace".into())
}

fn vsock_contained() -> Answer {
    let done = std::thread::spawn(|| {
        // SAFETY: takes flags only (CLONE_NEWNET), and changes this thread's network namespace alone.
        check("unshare", unsafe { unshare(0x4000_0000) }.into())?;
        for kind in [SOCK_STREAM, SOCK_SEQPACKET, 2] {
            // SAFETY: takes no pointer.
            let fd = unsafe { socket(AF_VSOCK, kind, 0) };
            fails_with("a vsock socket in another network namespace", fd.into(), EAFNOSUPPORT)?;
        }
        Ok("refused outside the initial network namespace".to_owned())
    });
    done.join().map_err(|_| "thread died".to_owned())?
}

fn seccomp() -> Answer {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail")?;
    let lsm = read("/sys/kernel/security/lsm")?;
    if !actions.contains("user_notif") || !lsm.contains("landlock") || !lsm.contains("yama") {
        return Err(format!("{actions} {lsm}"));
    }
    Ok(lsm)
}

fn i386() -> Answer {
    let pid: i32;
    // SAFETY: getpid (20) through the 32-bit gate touches no memory; the gate clobbers r8 to r11.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") 20 => pid, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    if pid == 1 { Ok("32-bit calls answered".into()) } else { Err(format!("getpid gave {pid}")) }
}

fn bridge() -> Answer {
    // SAFETY: takes no pointer.
    let fd = unsafe { socket(2, 2, 0) };
    check("socket", fd.into())?;
    // SAFETY: SIOCBRADDBR reads a name of at most 16 bytes, NUL-terminated.
    check("bridge", unsafe { ioctl(fd, 0x89a0, c"br0".to_bytes_with_nul().as_ptr()) }.into())?;
    read_path_exists("/proc/sys/net/bridge/bridge-nf-call-iptables")?;
    read_path_exists("/proc/sys/net/ipv6/conf/br0/forwarding")?;
    Ok(String::new())
}

fn tables() -> Answer {
    let names = |file: &str| read(&format!("/proc/net/{file}"));
    // SAFETY: takes no pointer: a netfilter netlink socket.
    check("netlink", unsafe { socket(16, 3, 12) }.into())?;
    let targets = names("ip_tables_targets")?;
    for wanted in ["MASQUERADE", "DNAT", "REDIRECT", "REJECT", "MARK", "TPROXY"] {
        if !targets.lines().any(|l| l == wanted) {
            return Err(format!("no target {wanted}"));
        }
    }
    let matches = names("ip_tables_matches")?;
    for wanted in ["addrtype", "conntrack", "comment", "multiport", "statistic", "ipvs", "recent", "set"] {
        if !matches.lines().any(|l| l == wanted) {
            return Err(format!("no match {wanted}"));
        }
    }
    Ok(String::new())
}

fn devices() -> Answer {
    for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "fuse", "loop-control", "net/tun", "zram0"] {
        read_path_exists(&format!("/dev/{device}"))?;
    }
    Ok(String::new())
}

fn file_systems() -> Answer {
    let have = read("/proc/filesystems")?;
    for wanted in ["ext4", "erofs", "overlay", "fuse", "virtiofs", "tmpfs", "nfs4", "cifs", "hugetlbfs", "mqueue", "bpf"] {
        if !have.lines().any(|l| l.split_whitespace().last() == Some(wanted)) {
            return Err(format!("no {wanted}"));
        }
    }
    for feature in ["verity", "casefold"] {
        let there = fs::metadata(format!("/sys/fs/ext4/features/{feature}")).is_ok();
        if there != (feature == "verity") {
            return Err(format!("ext4 feature {feature}: {there}"));
        }
    }
    for (parameter, wanted) in [("metacopy", "N"), ("redirect_dir", "N"), ("index", "N"), ("xino_auto", "N")] {
        let value = read(&format!("/sys/module/overlay/parameters/{parameter}"))?;
        if value.trim() != wanted {
            return Err(format!("overlay's {parameter} is {value}"));
        }
    }
    Ok(String::new())
}

fn accounting() -> Answer {
    for file in ["/proc/pressure/memory", "/proc/config.gz", "/proc/self/io", "/proc/self/pagemap", "/proc/sys/vm/swappiness"] {
        read_path_exists(file)?;
    }
    let generations = read("/sys/kernel/mm/lru_gen/enabled")?;
    let huge = read("/sys/kernel/mm/transparent_hugepage/enabled")?;
    if generations.trim() == "0x0000" || !huge.contains("[madvise]") {
        return Err(format!("lru_gen {generations}, huge pages {huge}"));
    }
    Ok(String::new())
}

fn hardening() -> Answer {
    for absent in ["/dev/mem", "/dev/port", "/dev/kmsg_", "/proc/kcore", "/proc/modules", "/sys/kernel/debug/tracing", "/dev/cpu"] {
        if fs::metadata(absent).is_ok() {
            return Err(format!("{absent} is there"));
        }
    }
    // SAFETY: takes no pointer.
    fails_with("AF_ALG", unsafe { socket(AF_ALG, SOCK_SEQPACKET, 0) }.into(), EAFNOSUPPORT)?;
    for (name, number) in [("init_module", 175), ("finit_module", 313), ("kexec_load", 246), ("kexec_file_load", 320)] {
        // SAFETY: the calls do not exist in this kernel, which is what is asked; null arguments harm nobody if they do.
        fails_with(name, unsafe { syscall(number, 0, 0, 0, 0, 0) }, ENOSYS)?;
    }
    // SAFETY: iopl takes no pointer.
    fails_with("iopl", unsafe { syscall(172, 3) }, ENOSYS)?;
    for (file, wanted) in [("/proc/sys/kernel/unprivileged_bpf_disabled", "2"), ("/proc/sys/kernel/dmesg_restrict", "1"), ("/proc/sys/kernel/randomize_va_space", "2")] {
        let value = read(file)?;
        if value.trim() != wanted {
            return Err(format!("{file} is {value}"));
        }
    }
    Ok(String::new())
}

fn mounted(source: &str, target: &str, kind: &str, data: &str) -> Result<(), String> {
    mount_call(source, target, kind, 0, data)
}

fn remounted(target: &str, data: &str) -> Result<(), String> {
    mount_call("", target, "", 0x20, data)
}

fn mount_call(source: &str, target: &str, kind: &str, flags: c_ulong, data: &str) -> Result<(), String> {
    let [s, t, k, d] = [source, target, kind, data].map(|v| CString::new(v).unwrap_or_default());
    // SAFETY: four NUL-terminated strings that live until the call returns.
    let done = unsafe { mount(s.as_ptr(), t.as_ptr(), k.as_ptr(), flags, d.as_ptr().cast()) };
    check(&format!("mount {kind} {source} on {target} ({data})"), done.into()).map(|_| ())
}

/// The blocks of 4 KiB of the file system at `path`, from the superblock's exported figures.
fn blocks_of(path: &str) -> Result<u64, String> {
    // struct statfs of x86-64: f_blocks is the third of its 15 words.
    let mut words = [0u64; 32];
    let path = CString::new(path).map_err(text)?;
    // SAFETY: statfs (137) writes 120 bytes, the array has 256.
    check("statfs", unsafe { syscall(137, path.as_ptr(), words.as_mut_ptr()) })?;
    Ok(words[2])
}

fn check(what: &str, result: i64) -> Result<i64, String> {
    if result < 0 { Err(format!("{what}: {}", io::Error::last_os_error())) } else { Ok(result) }
}

fn fails_with(what: &str, result: i64, errno: i32) -> Result<(), String> {
    let error = io::Error::last_os_error();
    if result >= 0 {
        return Err(format!("{what} is possible"));
    }
    if error.raw_os_error() == Some(errno) { Ok(()) } else { Err(format!("{what}: {error}")) }
}

fn refused<T>(result: io::Result<T>, errnos: &[i32], what: &str) -> Answer {
    match result {
        Ok(_) => Err(format!("{what} is possible")),
        Err(error) if error.raw_os_error().is_some_and(|e| errnos.contains(&e)) => Ok(format!("refused: {error}")),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

fn read(path: &str) -> Result<String, String> {
    let mut content = String::new();
    File::open(path).and_then(|mut f| f.read_to_string(&mut content)).map_err(|e| format!("{path}: {e}"))?;
    Ok(content)
}

fn write(path: &str, content: &str) -> Result<(), String> {
    fs::write(path, content).map_err(|e| format!("{path}: {e}"))
}

fn read_path_exists(path: &str) -> Result<(), String> {
    fs::metadata(path).map(|_| ()).map_err(|e| format!("{path}: {e}"))
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
