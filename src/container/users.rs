//! Who a process in a container is: `USER`, `--user` and `--group-add` against the container's own files.
//!
//! The files come from the image: they are read through the container's root, only if they are plain files, and only
//! their first megabyte (a FIFO or a huge file must not hold the daemon up).

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use crate::base::sys::root_fs::Root;

/// No passwd file that people wrote is larger.
const LARGEST: u64 = 1 << 20;
/// Ids beyond are not representable where the kernel takes signed numbers (CVE-2024-40635).
const LAST_ID: u32 = i32::MAX as u32;

/// A user that cannot be found; the texts are those of runc and containerd that dockerd passes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("uids and gids must be in range 0-2147483647")]
    OutOfRange,
}

/// A user and its groups, as numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// For `HOME`.
    pub home: String,
}

impl ResolvedUser {
    /// `process.user` of the OCI runtime specification. The user's own group is always among the additional ones, so
    /// that dropping it is not possible (CVE-2022-36109).
    pub fn to_spec(&self) -> Value {
        let mut groups = vec![self.gid];
        for group in &self.groups {
            // One may be the user's by membership and by `--group-add`.
            if !groups.contains(group) {
                groups.push(*group);
            }
        }
        json!({ "uid": self.uid, "gid": self.gid, "additionalGids": groups })
    }
}

/// The container's `/etc/passwd` and `/etc/group`.
#[derive(Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads them from a mounted root file system; what is missing or not a plain file is empty.
    pub fn read(rootfs: &Path) -> Self {
        let Ok(root) = Root::open(rootfs) else { return Self::default() };
        Self { passwd: read(&root, "etc/passwd"), group: read(&root, "etc/group") }
    }

    /// Finds `user[:group]`, by name or number, with `extra` groups added. What follows the group is ignored, as by
    /// dockerd.
    pub fn resolve(&self, user: &str, extra: &[String]) -> Result<ResolvedUser, UserError> {
        let mut parts = user.split(':');
        let (user, group) = (parts.next().unwrap_or_default(), parts.next());
        let mut found = self.user(user)?;
        let name = found.name.take();
        let mut resolved = ResolvedUser { uid: found.uid, gid: found.gid, groups: vec![], home: found.home };
        match group.filter(|group| !group.is_empty()) {
            Some(group) => resolved.gid = self.group(group)?,
            None => resolved.groups = name.map(|name| self.memberships(&name)).unwrap_or_default(),
        }
        for group in extra {
            resolved.groups.push(self.group(group)?);
        }
        Ok(resolved)
    }

    fn user(&self, user: &str) -> Result<Entry, UserError> {
        let number = user.parse::<i64>().ok();
        let wanted = if user.is_empty() { Some(0) } else { number };
        let matches = |entry: &Entry| match entry.name.as_deref() {
            Some(name) if name == user => true,
            _ => wanted == Some(i64::from(entry.uid)),
        };
        if let Some(entry) = self.passwd.lines().filter_map(Entry::parse).find(matches) {
            return Ok(entry);
        }
        let uid = in_range(wanted.ok_or_else(|| UserError::NoUser(user.to_owned()))?)?;
        Ok(Entry { name: None, uid, gid: 0, home: "/".to_owned() })
    }

    fn group(&self, group: &str) -> Result<u32, UserError> {
        let named = self.group.lines().filter_map(group_line).find(|(name, _, _)| *name == group);
        match (named, group.parse::<i64>()) {
            (Some((_, gid, _)), _) => Ok(gid),
            (None, Ok(number)) => in_range(number),
            (None, Err(_)) => Err(UserError::NoGroup(group.to_owned())),
        }
    }

    fn memberships(&self, user: &str) -> Vec<u32> {
        let groups = self.group.lines().filter_map(group_line);
        groups
            .filter(|(_, _, members)| members.split(',').any(|name| name == user))
            .map(|(_, gid, _)| gid)
            .collect()
    }
}

struct Entry {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: String,
}

impl Entry {
    /// `name:password:uid:gid:comment:home:shell` (passwd(5)).
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, uid, gid, ..] = fields[..] else { return None };
        let home = fields.get(5).copied().filter(|home| !home.is_empty()).unwrap_or("/");
        Some(Self {
            name: Some(name.to_owned()),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: home.to_owned(),
        })
    }
}

/// `name:password:gid:members` (group(5)).
fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.trim().split(':');
    let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?.parse().ok()?);
    Some((name, gid, fields.next().unwrap_or_default()))
}

fn in_range(number: i64) -> Result<u32, UserError> {
    u32::try_from(number).ok().filter(|id| *id <= LAST_ID).ok_or(UserError::OutOfRange)
}

fn read(root: &Root, path: &str) -> String {
    let mut bytes = Vec::new();
    // Not blocking on a FIFO, and then only if it turns out to be a plain file.
    let Ok(fd) = root.open_in(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()) else {
        return String::new();
    };
    let plain =
        nix::sys::stat::fstat(fd.as_fd()).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
    if plain && std::fs::File::from(fd).take(LARGEST).read_to_end(&mut bytes).is_err() {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nbroken\n"
                .to_owned(),
            group: "root:x:0:\nwheel:x:10:app,other\napp:x:1001:\n".to_owned(),
        }
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        for (user, extra, expected) in [
            ("", &[][..], Ok((0, 0, vec![], "/root"))),
            ("app", &[], Ok((1000, 1001, vec![10], "/home/app"))),
            ("1000", &[], Ok((1000, 1001, vec![10], "/home/app"))),
            ("app:wheel", &[], Ok((1000, 10, vec![], "/home/app"))),
            ("app", &["wheel", "77"], Ok((1000, 1001, vec![10, 10, 77], "/home/app"))),
            ("4711", &[], Ok((4711, 0, vec![], "/"))),
            ("4711:5", &[], Ok((4711, 5, vec![], "/"))),
            ("4711:5:6", &[], Ok((4711, 5, vec![], "/"))),
            ("app::6", &[], Ok((1000, 1001, vec![10], "/home/app"))),
            ("app:nogroup:x", &[], Err(UserError::NoGroup("nogroup".to_owned()))),
            ("nobody", &[], Err(UserError::NoUser("nobody".to_owned()))),
            ("app:nogroup", &[], Err(UserError::NoGroup("nogroup".to_owned()))),
            ("2147483648", &[], Err(UserError::OutOfRange)),
            ("0:4294967296", &[], Err(UserError::OutOfRange)),
        ] {
            let extra: Vec<String> = extra.iter().map(|group| (*group).to_owned()).collect();
            let got = accounts().resolve(user, &extra);
            let got = got.as_ref().map(|u| (u.uid, u.gid, u.groups.clone(), u.home.as_str()));
            assert_eq!(got, expected.as_ref().map(|e| (e.0, e.1, e.2.clone(), e.3)), "{user}");
        }
    }

    // Fails when the list begins empty: the own group is missing.
    #[test]
    fn the_own_group_is_always_among_the_groups() {
        let user = ResolvedUser { uid: 1, gid: 2, groups: vec![2, 3, 4, 3], home: "/".to_owned() };
        assert_eq!(user.to_spec()["additionalGids"], json!([2, 3, 4]));
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    /// Any, and those around the ends of the range.
    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![-5..5_000_000_000i64, -2..2i64, (1 << 31) - 2..(1i64 << 31) + 2]
    }

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_user_is_the_first_of_that_name_with_all_of_its_groups(
            users in prop::collection::vec(("[a-d]", 0..50u32, 0..50u32), 1..5),
            groups in prop::collection::vec(("[a-d]", 0..50u32, prop::collection::vec("[a-d]", 0..3)), 0..5),
            junk in "(#.{0,5}|[a-d]:x|[a-d]:x:[a-z]:1|:::|\n){0,3}",
        ) {
            let user_line = |(name, uid, gid): &(String, u32, u32)| {
                format!("{name}:x:{uid}:{gid}::/home/{name}:/bin/sh\n")
            };
            let group_line = |(name, gid, members): &(String, u32, Vec<String>)| {
                format!("{name}:x:{gid}:{}\n", members.join(","))
            };
            let junk = junk + "\n";
            let accounts = Accounts {
                passwd: junk.clone() + &users.iter().map(user_line).collect::<String>(),
                group: junk + &groups.iter().map(group_line).collect::<String>(),
            };
            for (name, _, _) in &users {
                let (_, uid, gid) = users.iter().find(|(known, _, _)| known == name).unwrap();
                let member = groups.iter().filter(|(_, _, members)| members.contains(name));
                let resolved = accounts.resolve(name, &[]).unwrap();
                prop_assert_eq!((resolved.uid, resolved.gid), (*uid, *gid));
                prop_assert_eq!(resolved.groups, member.map(|(_, gid, _)| *gid).collect::<Vec<_>>());
                prop_assert_eq!(resolved.home, format!("/home/{name}"));
            }
            for (name, _, _) in &groups {
                let (_, gid, _) = groups.iter().find(|(known, _, _)| known == name).unwrap();
                prop_assert_eq!(accounts.resolve(&format!("0:{name}"), &[]).unwrap().gid, *gid);
            }
        }

        #[test]
        fn a_number_that_no_file_has_is_itself_or_out_of_range(
            uid in number(),
            gid in number(),
        ) {
            let range = 0..=i64::from(i32::MAX);
            let found = Accounts::default().resolve(&format!("{uid}:{gid}"), &[]);
            match found {
                Ok(found) => prop_assert_eq!((i64::from(found.uid), i64::from(found.gid)), (uid, gid)),
                Err(_) => prop_assert!(!range.contains(&uid) || !range.contains(&gid)),
            }
        }

        #[test]
        fn any_files_are_read(
            passwd in any::<String>(),
            group in "[a:0-9,\n-]{0,30}",
            user in "[a0-9:-]{0,6}",
        ) {
            let accounts = Accounts { passwd: passwd + "\n" + &group, group };
            let _ = accounts.resolve(&user, std::slice::from_ref(&user));
        }
    }
}
