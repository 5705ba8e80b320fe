//! The members of a tar archive that matter to images: files and links. Paths are only names here; they are
//! normalised, so that one file has one name, and never reach a file system.

use std::io::{self, BufReader, Read};

use super::InvalidArchive;
use crate::base::archive::{Kind, Reader};

/// Most members of an archive.
const ENTRY_LIMIT: usize = 200_000;
const BUFFER: usize = 256 << 10;

/// What a member is.
pub enum Member<'a> {
    File {
        size: u64,
        content: &'a mut dyn Read,
    },
    /// The path that a symbolic or hard link leads to.
    Link(String),
}

/// Calls `visit` with the normalised path of each file and link. Members of other kinds, and those whose path leads
/// out of the archive, mean nothing to an image and are passed over.
pub fn each<E: From<InvalidArchive>>(
    archive: impl Read,
    mut visit: impl FnMut(String, Member<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER, archive));
    let mut count = 0;
    while let Some(entry) = reader.next_entry().map_err(InvalidArchive::Tar)? {
        count += 1;
        if count > ENTRY_LIMIT {
            return Err(InvalidArchive::TooManyEntries(ENTRY_LIMIT).into());
        }
        let Some(path) = normal(&entry.path, "") else { continue };
        match entry.kind {
            Kind::Regular if entry.sparse.is_some() => return Err(InvalidArchive::Sparse(path).into()),
            Kind::Regular => {
                visit(path, Member::File { size: entry.size, content: &mut Content(&mut reader) })?;
            }
            Kind::HardLink | Kind::Symlink => {
                let base = match (entry.kind, path.rsplit_once('/')) {
                    (Kind::Symlink, Some((directory, _))) => directory,
                    _ => "",
                };
                if let Some(link) = normal(&entry.link, base) {
                    visit(path, Member::Link(link))?;
                }
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Directory | Kind::Fifo => {}
        }
    }
    Ok(())
}

/// The data of the current member.
struct Content<'a, R>(&'a mut Reader<R>);

impl<R: io::BufRead> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.0.fill().map_err(io::Error::other)?.read(buffer)?;
        self.0.consume(length);
        Ok(length)
    }
}

/// `./a//b/../c` in `base` is `base/a/c`; nothing for what is no text or leads out of the archive.
fn normal(path: &[u8], base: &str) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts: Vec<&str> = match path.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => base.split('/').filter(|p| !p.is_empty()).collect(),
    };
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(archive: &[u8]) -> Result<Vec<String>, InvalidArchive> {
        let mut found = Vec::new();
        each(archive, |path, member| {
            found.push(match member {
                Member::File { size, .. } => format!("{path}={size}"),
                Member::Link(target) => format!("{path}->{target}"),
            });
            Ok::<_, InvalidArchive>(())
        })?;
        Ok(found)
    }

    #[test]
    fn one_file_has_one_name_however_it_is_written() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        let long = format!("d/{}", "x".repeat(150));
        tar.append_data(&mut header.clone(), &long, &b"1"[..]).unwrap();
        tar.append_pax_extensions([("path", b"./pax/..//name".as_slice())]).unwrap();
        header.set_cksum();
        tar.append(&header, &b"2"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_size(0);
        link.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut link.clone(), "a/layer.tar", "../b/layer.tar").unwrap();
        tar.append_link(&mut link, "a/out", "../../etc/passwd").unwrap();
        let archive = tar.into_inner().unwrap();
        let expected = [format!("{long}=1"), "name=1".into(), "a/layer.tar->b/layer.tar".into()];
        assert_eq!(paths(&archive).unwrap(), expected);
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn a_normal_path_is_final_and_inside(
            path in "(\\.|\\.\\.|[a./]|/|é){0,12}",
            base in "([ab](/[ab]){0,2})?",
        ) {
            let base_depth = base.split('/').filter(|part| !part.is_empty()).count() as i32;
            let mut depth = if path.starts_with('/') { 0 } else { base_depth };
            let steps = path.split('/').map(|part| match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            });
            let stays = steps.map(|step| { depth += step; depth }).all(|depth| depth >= 0);
            let found = normal(path.as_bytes(), &base);
            prop_assert_eq!(found.is_some(), stays && depth > 0);
            if let Some(found) = found {
                prop_assert!(found.split('/').all(|part| !matches!(part, "" | "." | "..")));
                prop_assert_eq!(normal(found.as_bytes(), ""), Some(found.clone()));
            }
        }
    }
}
