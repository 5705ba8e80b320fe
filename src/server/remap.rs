//! `--userns-remap`: from a user's name to the ids that its containers get on this host (subuid(5), subgid(5)).
//!
//! Remapped containers have a data root of their own, named after their root's ids. Layers are unpacked in it with the
//! host's ids, as dockerd does: mounting them with shifted ids instead (idmapped mounts) would share layers with other
//! daemons of the data root, but needs Linux 5.19 and a way for older ones beside it.

use std::io;
use std::process::Command;

use crate::base::id_map::{IdMap, IdMaps, Owner};
use crate::config::{Config, DEFAULT_USER, Name, Remap};

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";
/// The range that a new user gets: as many ids as images may have, from the first that is free after the usual users'.
const FIRST: u32 = 100_000;
const COUNT: u32 = 65_536;

/// Why ids cannot be remapped; most texts are dockerd's.
#[derive(Debug, thiserror::Error)]
pub enum RemapError {
    #[error("Error during uid lookup for {0:?}: unable to find user {0}")]
    NoUser(String),
    #[error("Uid {0} has no entry in /etc/passwd")]
    NoUid(u32),
    #[error("Error during gid lookup for {0:?}: unable to find group {0}")]
    NoGroup(String),
    #[error("Error during groupname lookup for {0:?}: unable to find group {0}")]
    NoGroupName(String),
    #[error("Gid {0} has no entry in /etc/group")]
    NoGid(u32),
    #[error("Error during {DEFAULT_USER:?} user creation: {0}")]
    Creation(String),
    #[error("Can't create ID mappings: open {path}: {}", reason(.source))]
    Read { path: &'static str, source: io::Error },
    #[error("Can't create ID mappings: {0}")]
    Ranges(#[from] RangeError),
}

/// What is wrong with the host's ranges; most texts are dockerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("no subuid ranges found for user {0:?}")]
    None(String),
    #[error("Cannot parse subuid/gid information: Format not correct for {0} file")]
    Format(&'static str),
    #[error("the ranges of {user:?} in {path} overlap or are too large")]
    Overlap { user: String, path: &'static str },
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        _ => error.to_string(),
    }
}

/// A line of passwd(5) or group(5), as far as it counts here.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Account {
    name: String,
    id: u32,
}

/// Fills in whose ids containers get, and the data root that goes with them.
pub fn apply(mut config: Config) -> Result<Config, RemapError> {
    let Some(remap) = &config.userns_remap else { return Ok(config) };
    let user = resolve(remap)?;
    if user.id == 0 {
        tracing::warn!("user namespaces: root cannot be remapped with itself; user namespaces are OFF");
        return Ok(config);
    }
    let maps = IdMaps {
        users: ranges(&read(SUBUID)?, &user, SUBUID)?,
        groups: ranges(&read(SUBGID)?, &user, SUBGID)?,
    };
    let Owner { uid, gid } = maps.root();
    tracing::info!(user = user.name, uid, gid, "user namespaces: ids are mapped to subordinate ranges");
    config.data_root.push(format!("{uid}.{gid}"));
    config.ids = maps;
    Ok(config)
}

fn resolve(remap: &Remap) -> Result<Account, RemapError> {
    let (user, group) = match remap {
        Remap::Default => return default_user(),
        Remap::Named { user, group } => (user, group),
    };
    let account = match user {
        Name::Id(id) => find(PASSWD, |account| account.id == *id)?.ok_or(RemapError::NoUid(*id))?,
        Name::Text(name) => find_named(PASSWD, name)?.ok_or_else(|| RemapError::NoUser(name.clone()))?,
    };
    // Without a group the user's own name or number is looked for.
    let (found, missing) = match group.as_ref().unwrap_or(user) {
        Name::Id(id) => (find(GROUP, |account| account.id == *id)?, RemapError::NoGid(*id)),
        Name::Text(name) if group.is_some() => {
            (find_named(GROUP, name)?, RemapError::NoGroupName(name.clone()))
        }
        Name::Text(name) => (find_named(GROUP, name)?, RemapError::NoGroup(name.clone())),
    };
    found.map(|_| account).ok_or(missing)
}

fn default_user() -> Result<Account, RemapError> {
    if let Some(user) = find_named(PASSWD, DEFAULT_USER)? {
        return find_named(GROUP, DEFAULT_USER)?
            .map(|_| user)
            .ok_or_else(|| RemapError::NoGroup(DEFAULT_USER.to_owned()));
    }
    run(Command::new("useradd").args(["--system", "--user-group", "--shell", "/bin/false", DEFAULT_USER]))?;
    let user = find_named(PASSWD, DEFAULT_USER)?;
    let user = user.ok_or_else(|| RemapError::Creation("useradd made nobody".to_owned()))?;
    for (path, option) in [(SUBUID, "--add-subuids"), (SUBGID, "--add-subgids")] {
        // The host's own tools may have given it a range; a file that is missing is made.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if ranges(&text, &user, path) == Err(RangeError::None(user.name.clone())) {
            let first = next_free(&text);
            let range = format!("{first}-{}", first + (COUNT - 1));
            run(Command::new("usermod").args([option, &range, DEFAULT_USER]))?;
        }
    }
    Ok(user)
}

/// Programs of the host make users: they know its locks and its other files.
fn run(command: &mut Command) -> Result<(), RemapError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |reason: String| RemapError::Creation(format!("{program}: {reason}"));
    let output = command.output().map_err(|error| failed(error.to_string()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
    }
}

fn find_named(path: &'static str, name: &str) -> Result<Option<Account>, RemapError> {
    find(path, |account| account.name == name)
}

fn find(path: &'static str, wanted: impl Fn(&Account) -> bool) -> Result<Option<Account>, RemapError> {
    Ok(accounts(&read(path)?).find(wanted))
}

fn read(path: &'static str) -> Result<String, RemapError> {
    std::fs::read_to_string(path).map_err(|source| RemapError::Read { path, source })
}

fn accounts(text: &str) -> impl Iterator<Item = Account> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
        Some(Account { name, id: fields.nth(1)?.parse().ok()? })
    })
}

/// One line of subuid(5): whose, first id, count.
fn lines<'t>(
    text: &'t str,
    path: &'static str,
) -> impl Iterator<Item = Result<(&'t str, u32, u32), RangeError>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(move |line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [whose, first, count] = fields[..] else { return Err(RangeError::Format(path)) };
        match (first.parse(), count.parse()) {
            (Ok(first), Ok(count)) => Ok((whose, first, count)),
            _ => Err(RangeError::Format(path)),
        }
    })
}

/// The ids of a user in subuid(5) or subgid(5), in the file's order.
fn ranges(text: &str, user: &Account, path: &'static str) -> Result<IdMap, RangeError> {
    let number = user.id.to_string();
    let mut own = Vec::new();
    for line in lines(text, path) {
        let (whose, first, count) = line?;
        if (whose == user.name || whose == number) && count > 0 {
            own.push((first, count));
        }
    }
    if own.is_empty() {
        return Err(RangeError::None(user.name.clone()));
    }
    let mut sorted = own.clone();
    sorted.sort_unstable();
    let apart = sorted.windows(2).all(|pair| pair[1].0 - pair[0].0 >= pair[0].1);
    let overlap = || RangeError::Overlap { user: user.name.clone(), path };
    IdMap::of(&own).filter(|_| apart).ok_or_else(overlap)
}

/// Where a range of [`COUNT`] ids meets none of the file's.
fn next_free(text: &str) -> u32 {
    let mut taken: Vec<(u32, u32)> =
        lines(text, SUBUID).flatten().map(|(_, first, count)| (first, count)).collect();
    taken.sort_unstable();
    taken.into_iter().fold(FIRST, |free, (first, count)| {
        let end = first.saturating_add(count);
        let meets = first < free.saturating_add(COUNT) && end > free;
        if meets { end } else { free }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> Account {
        Account { name: "remap".to_owned(), id: 1234 }
    }

    #[test]
    fn a_users_ranges_are_found_by_name_and_number() {
        let text = "# comment\nother:1:2\n\nremap:100000:65536\n1234:300000:10\nremap:9:0\n";
        let map = ranges(text, &user(), SUBUID).unwrap();
        assert_eq!(map.to_proc(), "0 100000 65536\n65536 300000 10\n");
    }

    #[test]
    fn ranges_that_are_missing_malformed_or_overlap_are_refused() {
        let none = RangeError::None("remap".to_owned());
        let format = RangeError::Format(SUBGID);
        let overlap = RangeError::Overlap { user: "remap".to_owned(), path: SUBGID };
        for (text, error) in [
            ("", &none),
            ("other:1:2", &none),
            ("remap:1:0", &none),
            ("remap:1", &format),
            ("remap:1:2:3", &format),
            ("remap:x:2", &format),
            ("remap:-1:2", &format),
            ("remap:4294967296:2", &format),
            ("remap:10:10\nremap:19:1", &overlap),
            ("remap:4294967290:10", &overlap),
        ] {
            assert_eq!(ranges(text, &user(), SUBGID).as_ref(), Err(error), "{text}");
        }
        assert_eq!(none.to_string(), "no subuid ranges found for user \"remap\"");
    }

    #[test]
    fn a_new_range_meets_no_other() {
        for (text, free) in [
            ("", 100_000),
            ("a:1:10", 100_000),
            ("a:100000:65536\nb:165536:65536", 231_072),
            ("b:165536:65536\na:100000:65536", 231_072),
            ("a:120000:10", 120_010),
            ("a:300000:65536", 100_000),
        ] {
            assert_eq!(next_free(text), free, "{text}");
        }
    }

    #[test]
    fn accounts_are_read_line_by_line() {
        let text = "root:x:0:0:root:/root:/bin/sh\n+nis\n:x:5:\nremap:x:1234:1234::/:/bin/false\nbad:x:y:\n";
        let ids: Vec<u32> = accounts(text).map(|account| account.id).collect();
        assert_eq!(ids, [0, 1234]);
    }
}
