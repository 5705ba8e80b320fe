//! A container's files on the wire: what a path is, what changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::FileType;
use serde_json::{Value, json};

use crate::container::files::PathStat;
use crate::snapshot::{Change, ChangeKind};

/// Permissions as stat(2) has them, and the bit of Go's `os.FileMode` for each.
const SPECIAL: [(u32, u32); 3] =
    [(libc::S_ISUID, 1 << 23), (libc::S_ISGID, 1 << 22), (libc::S_ISVTX, 1 << 20)];

/// The value of `X-Docker-Container-Path-Stat`.
pub fn path_stat(stat: &PathStat) -> String {
    let value = json!({
        "name": stat.name,
        "size": stat.size,
        "mode": go_mode(stat.mode),
        "mtime": stat.modified.to_string(),
        "linkTarget": stat.link_target,
    });
    STANDARD.encode(value.to_string())
}

/// A mode of stat(2) as Go's `os.FileMode`.
fn go_mode(mode: u32) -> u32 {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::RegularFile | FileType::Unknown => 0,
    };
    let special = SPECIAL.iter().filter(|(ours, _)| mode & ours != 0).map(|(_, theirs)| theirs).sum::<u32>();
    kind | special | mode & 0o777
}

/// The reply of `GET /containers/{id}/changes`.
pub fn changes(changes: &[Change]) -> Value {
    let one = |change: &Change| {
        let kind = match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        };
        json!({ "Path": String::from_utf8_lossy(&change.path), "Kind": kind })
    };
    match changes {
        // As Go writes a list that was never begun.
        [] => Value::Null,
        changes => changes.iter().map(one).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_go() {
        for (mode, expected) in [
            (0o100_644, 0o644),
            (0o040_755, 2_147_484_141),
            (0o120_777, 134_218_239),
            (0o010_644, 33_554_852),
            (0o104_755, 1 << 23 | 0o755),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
            (0o020_666, 1 << 26 | 1 << 21 | 0o666),
        ] {
            assert_eq!(go_mode(mode), expected, "{mode:o}");
        }
    }
}
