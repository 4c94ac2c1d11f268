//! What the machine process and QEMU may still do, once they have what they need.
//!
//! * At its begin the process gives up every privilege, and its memory is nobody's to read or to dump
//!   (`lighter_platform::sys::sandbox`).
//! * [`confine_files`], before anything is started: with our own monitor nothing can be opened any more, with QEMU
//!   programs and libraries and nothing of the user's; no network is reached, and no other process signalled.
//! * Each thread takes its role when it begins (`lighter_platform::sys::threads`), and the main thread when all has
//!   begun ([`confine_control`]): a system call that is not of the role ends the process, and the machine with it.
//!
//! QEMU brings its own seccomp filter. A kernel without Landlock confines files by the roles alone, none of which opens
//! any; that is logged.

use std::{
    io,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
};

use super::roles;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

/// The newest set of rules used; older kernels apply what they know.
const LANDLOCK: ABI = ABI::V6;
/// Where programs, libraries and QEMU's firmware are.
const PROGRAMS: &[&str] = &[
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/qemu",
];
/// What below `share` is QEMU's, or made for it.
const FIRMWARE: [&str; 4] = ["qemu", "seabios", "vgabios", "ipxe"];
/// Where a QEMU that was built and not installed has its firmware, in its own folder.
const BUILT: [&str; 2] = ["qemu-bundle", "pc-bios"];
/// What programs ask about the machine they run on.
const SYSTEM: &[&str] = &[
    "/proc",
    "/sys/devices/system",
    "/sys/kernel/mm",
    "/dev/urandom",
    "/dev/random",
];
/// Devices that are also written to.
const DEVICES: &[&str] = &["/dev/null", "/dev/zero", "/dev/kvm"];

/// Lets the calling thread, and whatever it starts from now on, open nothing; with a program of others as the monitor,
/// what is listed above, that program and the open files given. Whether this kernel can do that at all.
pub fn confine_files(
    program: Option<&Path>,
    files: &[BorrowedFd<'_>],
) -> Result<bool, RulesetError> {
    let read = AccessFs::from_read(LANDLOCK);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .handle_access(AccessNet::BindTcp)?
        .handle_access(AccessNet::ConnectTcp)?
        .scope(Scope::AbstractUnixSocket)?
        .scope(Scope::Signal)?
        .create()?;
    if let Some(program) = program {
        rules = allow_program(rules, program)?;
        for path in DEVICES {
            let access = read | AccessFs::WriteFile | AccessFs::IoctlDev;
            rules = allow(rules, Path::new(path), access)?;
        }
        for file in files {
            // QEMU opens the kernel again through /proc/self/fd.
            rules = rules.add_rule(PathBeneath::new(file, BitFlags::from(AccessFs::ReadFile)))?;
        }
    }
    let status = rules.restrict_self()?;
    let is_confined = status.ruleset != RulesetStatus::NotEnforced;
    if !is_confined {
        tracing::warn!("this kernel has no Landlock: the machine is confined by seccomp alone");
    }
    Ok(is_confined)
}

/// What a program of others needs to be started and to find what is its own.
fn allow_program(
    mut rules: RulesetCreated,
    program: &Path,
) -> Result<RulesetCreated, RulesetError> {
    // A QEMU outside the usual places has its firmware beside it. Its folder and `share` may be the user's own.
    let place = program
        .canonicalize()
        .unwrap_or_else(|_| program.to_owned());
    let folder = place.parent().map(Path::to_owned);
    let prefix = folder.as_deref().and_then(Path::parent);
    let share = prefix.map(|prefix| FIRMWARE.map(|name| prefix.join("share").join(name)));
    let built = folder
        .as_deref()
        .map(|folder| BUILT.map(|name| folder.join(name)));
    let own = share.into_iter().flatten();
    let own = own.chain(built.into_iter().flatten()).chain([place]);
    let listed = PROGRAMS.iter().chain(SYSTEM).map(PathBuf::from);
    for path in listed.chain(own) {
        rules = allow(rules, &path, AccessFs::from_read(LANDLOCK))?;
    }
    Ok(rules)
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    // What this system does not have needs no rule.
    let Ok(fd) = PathFd::new(path) else {
        return Ok(rules);
    };
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(LANDLOCK)
    };
    rules.add_rule(PathBeneath::new(fd, access))
}

/// Takes the main thread to what it does from now on; no process and no thread begins after this.
///
/// # Errors
/// What the kernel answers.
pub fn confine_control() -> io::Result<()> {
    // No limit of processes beside it: KVM makes a thread of this process when the guest first runs (Linux 6.14), and
    // that limit, of which root is free, would be in its way.
    roles::CONTROL.take()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd};

    use super::*;

    /// Both kinds of confinement are a thread's own, so a thread can try them out.
    fn in_a_thread(work: impl FnOnce() + Send + 'static) {
        std::thread::spawn(work).join().unwrap();
    }

    fn skip(test: &str) {
        lighter_tests::env::skip(test, "this kernel has no Landlock");
    }

    #[test]
    fn confined_files_are_programs_and_what_was_handed_in() {
        let dir = tempfile::tempdir().unwrap();
        let (secret, kernel) = (dir.path().join("secret"), dir.path().join("kernel"));
        std::fs::write(&secret, "s").unwrap();
        std::fs::write(&kernel, "k").unwrap();
        in_a_thread(move || {
            let file = File::open(&kernel).unwrap();
            let program = Path::new("/usr/bin/qemu-system-x86_64");
            if !confine_files(Some(program), &[file.as_fd()]).unwrap() {
                return skip("confined_files_are_programs_and_what_was_handed_in");
            }
            assert!(File::open(&secret).is_err());
            assert!(File::open("/etc/shadow").is_err());
            assert!(File::create(kernel.with_file_name("new")).is_err());
            assert!(File::options().write(true).open(&kernel).is_err());
            assert!(
                std::net::TcpStream::connect("127.0.0.1:9")
                    .unwrap_err()
                    .raw_os_error()
                    == Some(libc::EACCES)
            );
            File::open(&kernel).unwrap();
            File::open("/usr/bin/env").unwrap();
            File::options().write(true).open("/dev/null").unwrap();
        });
    }

    /// Where its folder's neighbours are the user's, as in `~/.local`.
    #[test]
    fn a_program_beside_others_has_its_own_data_and_none_of_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            path
        };
        let program = at("bin/qemu-system-x86_64");
        let own = [
            "share/qemu/kvmvapic.bin",
            "share/qemu/keymaps/de",
            "share/seabios/bios.bin",
        ]
        .map(at);
        let others = [
            "bin/others",
            "share/keyrings/login.keyring",
            "share/others",
            "lib/others",
        ]
        .map(at);
        in_a_thread(move || {
            if !confine_files(Some(&program), &[]).unwrap() {
                return skip("a_program_beside_others_has_its_own_data_and_none_of_theirs");
            }
            for path in own.iter().chain([&program]) {
                File::open(path).unwrap();
            }
            for path in &others {
                assert!(File::open(path).is_err(), "{}", path.display());
            }
            let folder = program.parent().unwrap().with_file_name("share");
            assert!(std::fs::read_dir(folder).is_err());
        });
    }

    #[test]
    fn without_a_program_nothing_is_opened_and_what_is_open_stays() {
        in_a_thread(move || {
            let mut open = tempfile::tempfile().unwrap();
            let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
            if !confine_files(None, &[open.as_fd()]).unwrap() {
                return skip("without_a_program_nothing_is_opened_and_what_is_open_stays");
            }
            for path in [
                "/etc/hostname",
                "/usr/bin/env",
                &name,
                "/dev/null",
                "/dev/kvm",
                "/proc/self/status",
            ] {
                assert!(File::open(path).is_err(), "{path}");
            }
            io::Write::write_all(&mut open, b"x").unwrap();
        });
    }
}
