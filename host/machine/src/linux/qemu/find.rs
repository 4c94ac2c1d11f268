//! Finds a QEMU that is new enough.

use std::{
    env,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Error;

/// The program for this processor.
#[cfg(target_arch = "x86_64")]
const PROGRAM: &str = "qemu-system-x86_64";
/// The program for this processor.
#[cfg(target_arch = "aarch64")]
const PROGRAM: &str = "qemu-system-aarch64";

/// The oldest that works: 7.2 (Debian 12's own) corrupts guests of kernel 6.12 under TCG, double
/// faults within a minute; 10.0 is stable.
pub const OLDEST: Version = Version {
    major: 10,
    minor: 0,
    micro: 0,
};

const HINT: &str = "install it with `apt-get install -t bookworm-backports qemu-system-x86` (Debian 12) \
                    or your distribution's package of QEMU 10 or newer";

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

impl Version {
    /// Reads the first line of `--version`.
    fn parse(text: &str) -> Option<Self> {
        let number = text
            .lines()
            .next()?
            .split("version ")
            .nth(1)?
            .split(' ')
            .next()?;
        let mut parts = number.split('.').map(|part| part.parse().ok());
        Some(Self {
            major: parts.next()??,
            minor: parts.next()??,
            micro: parts.next().flatten().unwrap_or(0),
        })
    }

    /// Refuses what is known not to work.
    pub fn check(self) -> Result<(), Error> {
        if self >= OLDEST {
            return Ok(());
        }
        Err(Error::TooOld {
            what: "QEMU".into(),
            found: self.to_string(),
            needed: format!("{}.{}", OLDEST.major, OLDEST.minor),
            hint: HINT.into(),
        })
    }
}

/// The program's path, by `LIGHTER_QEMU` or the search path.
pub fn find() -> Result<PathBuf, Error> {
    if let Some(named) = env::var_os("LIGHTER_QEMU") {
        let named = PathBuf::from(named);
        return executable(&named).ok_or_else(|| Error::Missing {
            what: format!("QEMU (`{}`, named by `LIGHTER_QEMU`)", named.display()),
            hint: format!("unset `LIGHTER_QEMU` or correct it; else {HINT}"),
        });
    }
    let missing = || Error::Missing {
        what: format!("QEMU (`{PROGRAM}`)"),
        hint: HINT.into(),
    };
    // A service's search path may lack the usual places.
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places = env::split_paths(&path).chain(usual);
    places
        .find_map(|dir| executable(&dir.join(PROGRAM)))
        .ok_or_else(missing)
}

fn executable(path: &Path) -> Option<PathBuf> {
    let meta = path.metadata().ok()?;
    (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then(|| path.to_owned())
}

/// Asks a program for its version.
pub fn version(program: &Path) -> Result<Version, Error> {
    let failed =
        |cause: String| Error::system(format!("run `{} --version`", program.display()), cause);
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Version::parse(&text).ok_or_else(|| failed(format!("it printed `{}`", text.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_what_distributions_print() {
        let cases = [
            (
                "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)\nCopyright",
                (10, 0, 2),
            ),
            (
                "QEMU emulator version 7.2.18 (Debian 1:7.2+dfsg-7+deb12u18)\n",
                (7, 2, 18),
            ),
            ("QEMU emulator version 11.0.0\n", (11, 0, 0)),
            ("QEMU emulator version 10.1\n", (10, 1, 0)),
        ];
        for (text, (major, minor, micro)) in cases {
            assert_eq!(
                Version::parse(text),
                Some(Version {
                    major,
                    minor,
                    micro
                }),
                "{text}"
            );
        }
        for text in [
            "",
            "QEMU emulator",
            "QEMU emulator version ten",
            "version \n",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn old_version_is_refused_with_the_package_to_install() {
        let error = Version {
            major: 7,
            minor: 2,
            micro: 18,
        }
        .check()
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "QEMU 7.2.18 is too old, needed is 10.0 or newer"
        );
        assert!(
            error
                .hint()
                .unwrap()
                .contains("apt-get install -t bookworm-backports qemu-system-x86")
        );
        Version {
            major: 10,
            minor: 0,
            micro: 2,
        }
        .check()
        .unwrap();
    }
}
