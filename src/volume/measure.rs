//! How much disk a tree takes.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes in all files below `root`, as dockerd counts them: what they claim to hold, a file with several names once.
/// What cannot be read counts nothing.
pub fn tree(root: &Path) -> u64 {
    let mut seen = HashSet::new();
    let mut open = vec![root.to_owned()];
    let mut total = 0;
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
            } else if meta.nlink() < 2 || seen.insert((meta.dev(), meta.ino())) {
                total += meta.len();
            }
        }
    }
    total
}
