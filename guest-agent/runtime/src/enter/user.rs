//! Who the process is, by the container's own passwd and group files.
//!
//! The rules are Docker's: a number needs no entry; a user without a named group gets the groups
//! it is listed in; the primary group is among the supplementary ones.

use super::inside::Root;
use super::{Step, inside};
use crate::{FailureKind, ProcessSpec, StartError};

/// Longest passwd or group file that is read.
const LIMIT: usize = 8 << 20;

/// Highest id, as Docker has it.
const MAX_ID: u32 = i32::MAX as u32;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

/// Resolves the user of `process` in the container.
pub fn resolve(root: &Root, process: &ProcessSpec) -> Step<Identity> {
    let read = |path: &str| {
        inside::read_text(root, path, LIMIT)
            .map(Option::unwrap_or_default)
            .map_err(|errno| StartError::kernel("user", errno, format!("read {path}")))
    };
    identity(
        &process.user,
        &process.group_add,
        &read("/etc/passwd")?,
        &read("/etc/group")?,
    )
    .map_err(|text| StartError::new("user", FailureKind::Invalid, text))
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let mut fields = fields.skip(1);
        let uid = number_or_zero(fields.next());
        let gid = number_or_zero(fields.next());
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdEntry {
            name,
            uid,
            gid,
            home,
        })
    })
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn groups(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = number_or_zero(fields.nth(1));
        Some(GroupEntry {
            name,
            gid,
            members: fields.next().unwrap_or_default(),
        })
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn number_or_zero(field: Option<&str>) -> u32 {
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// A number as Docker reads one: `None` if it is a name.
fn id(text: &str) -> Result<Option<u32>, String> {
    match text.parse::<i64>() {
        Err(_) => Ok(None),
        Ok(number) => match u32::try_from(number) {
            Ok(number) if number <= MAX_ID => Ok(Some(number)),
            _ => Err(format!("uids and gids must be in range 0-{MAX_ID}")),
        },
    }
}

fn identity(
    user: &str,
    group_add: &[String],
    passwd_text: &str,
    group_text: &str,
) -> Result<Identity, String> {
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    let number = id(user)?;
    let entry = passwd(passwd_text).find(|entry| match (user, number) {
        ("", _) => entry.uid == 0,
        (_, Some(uid)) => entry.uid == uid,
        (name, None) => entry.name == name,
    });
    let mut result = match (&entry, number) {
        (Some(entry), _) => Identity {
            uid: entry.uid,
            gid: entry.gid,
            groups: vec![],
            home: entry.home.to_owned(),
        },
        (None, Some(uid)) => Identity {
            uid,
            gid: 0,
            groups: vec![],
            home: String::new(),
        },
        (None, None) if user.is_empty() => Identity {
            uid: 0,
            gid: 0,
            groups: vec![],
            home: String::new(),
        },
        (None, None) => {
            return Err(format!(
                "unable to find user {user}: no matching entries in passwd file"
            ));
        }
    };
    if !group.is_empty() {
        result.gid = find_group(group, group_text)?.ok_or(format!(
            "unable to find group {group}: no matching entries in group file"
        ))?;
    } else if let Some(entry) = &entry {
        result.groups = groups(group_text)
            .filter(|group| group.members.split(',').any(|member| member == entry.name))
            .map(|group| group.gid)
            .collect();
    }
    result.groups.insert(0, result.gid);
    for name in group_add {
        let gid = find_group(name, group_text)?.ok_or(format!(
            "unable to find group {name}: no matching entries in group file"
        ))?;
        result.groups.push(gid);
    }
    if result.home.is_empty() {
        result.home = "/".to_owned();
    }
    Ok(result)
}

/// A group by its number (which needs no entry) or its name.
fn find_group(name: &str, group_text: &str) -> Result<Option<u32>, String> {
    if let Some(gid) = id(name)? {
        return Ok(Some(gid));
    }
    Ok(groups(group_text)
        .find(|group| group.name == name)
        .map(|group| group.gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\n\nbroken\n\
                          mail:x:8:8::/var/mail:\napp:x:1000:1001:App:/home/app:/bin/sh\n";
    const GROUP: &str =
        "root:x:0:root\nbin:x:1:root,app\nmail:x:8:\napps:x:1001:\nextra:x:55:app\n";

    fn who(user: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        identity(user, &[], PASSWD, GROUP).map(|i| (i.uid, i.gid, i.groups, i.home))
    }

    #[test]
    fn users_resolve_as_docker_resolves_them() {
        let home = |path: &str| path.to_owned();
        assert_eq!(who("").unwrap(), (0, 0, vec![0, 0, 1], home("/root")));
        assert_eq!(
            who("app").unwrap(),
            (1000, 1001, vec![1001, 1, 55], home("/home/app"))
        );
        assert_eq!(
            who("1000").unwrap(),
            (1000, 1001, vec![1001, 1, 55], home("/home/app"))
        );
        assert_eq!(
            who("app:mail").unwrap(),
            (1000, 8, vec![8], home("/home/app"))
        );
        assert_eq!(
            who("4711:4712").unwrap(),
            (4711, 4712, vec![4712], home("/"))
        );
        assert_eq!(who("4711").unwrap(), (4711, 0, vec![0], home("/")));
        assert_eq!(who(":8").unwrap(), (0, 8, vec![8], home("/root")));
    }

    #[test]
    fn unknown_names_and_numbers_out_of_range_are_refused_in_dockers_words() {
        assert_eq!(
            who("nobody").unwrap_err(),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            who("root:none").unwrap_err(),
            "unable to find group none: no matching entries in group file"
        );
        for user in ["-1", "2147483648", "0:-5"] {
            assert_eq!(
                who(user).unwrap_err(),
                "uids and gids must be in range 0-2147483647"
            );
        }
    }

    #[test]
    fn an_image_without_passwd_has_root_and_numbers() {
        let bare = |user| identity(user, &[], "", "");
        assert_eq!(bare("").unwrap().groups, [0]);
        assert_eq!(bare("7").unwrap().uid, 7);
        assert!(bare("root").is_err());
    }

    #[test]
    fn added_groups_follow_by_name_or_number() {
        let add = ["extra".to_owned(), "77".to_owned()];
        assert_eq!(
            identity("4711", &add, PASSWD, GROUP).unwrap().groups,
            [0, 55, 77]
        );
        let unknown = ["none".to_owned()];
        assert!(
            identity("", &unknown, PASSWD, GROUP)
                .unwrap_err()
                .starts_with("unable to find")
        );
    }
}
