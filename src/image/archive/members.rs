//! The members of a tar archive that matter to images: files and links. Headers are read here and bounded; the
//! library's own handling of long names would read as much into memory as an archive asks for.

use std::io::Read;

use super::InvalidArchive;

/// Longest name, and most bytes of extended headers, that are accepted.
const NAME_LIMIT: u64 = 64 << 10;
const PAX_LIMIT: u64 = 1 << 20;
/// Most members of an archive.
const ENTRY_LIMIT: usize = 200_000;

/// What a member is.
pub enum Member<'a> {
    File { size: u64, content: &'a mut dyn Read },
    /// The path that a symbolic or hard link leads to.
    Link(String),
}

/// What headers before a member say of it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

/// Calls `visit` with the normalised path of each file and link. Members of other kinds, and those whose path leads
/// out of the archive, mean nothing to an image and are passed over.
pub fn each<E: From<InvalidArchive>>(
    archive: impl Read,
    mut visit: impl FnMut(String, Member<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = tar::Archive::new(archive);
    let mut extended = Extended::default();
    for (count, entry) in archive.entries().map_err(InvalidArchive::Read)?.raw(true).enumerate() {
        if count >= ENTRY_LIMIT {
            return Err(InvalidArchive::TooManyEntries(ENTRY_LIMIT).into());
        }
        let mut entry = entry.map_err(InvalidArchive::Read)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            extended.path = Some(text(&bounded(&mut entry, "a name", NAME_LIMIT)?));
            continue;
        }
        if kind.is_gnu_longlink() {
            extended.link = Some(text(&bounded(&mut entry, "a link target", NAME_LIMIT)?));
            continue;
        }
        if kind.is_pax_local_extensions() {
            extended.pax(&bounded(&mut entry, "an extended header", PAX_LIMIT)?)?;
            continue;
        }
        let Extended { path, link, size } = std::mem::take(&mut extended);
        let path = path.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let Some(path) = normal(&path, "") else { continue };
        let actual = entry.header().entry_size().map_err(InvalidArchive::Read)?;
        if size.is_some_and(|size| size != actual) {
            // Two readers would disagree on where the next member begins.
            return Err(InvalidArchive::SizeMismatch(path).into());
        }
        if kind.is_file() || kind.is_contiguous() {
            visit(path, Member::File { size: actual, content: &mut entry })?;
        } else if kind.is_symlink() || kind.is_hard_link() {
            let link = link.or_else(|| Some(entry.header().link_name_bytes()?.into_owned()));
            let base = match (kind.is_symlink(), path.rsplit_once('/')) {
                (true, Some((directory, _))) => directory,
                _ => "",
            };
            if let Some(link) = link.and_then(|link| normal(&link, base)) {
                visit(path, Member::Link(link))?;
            }
        }
    }
    Ok(())
}

impl Extended {
    fn pax(&mut self, header: &[u8]) -> Result<(), InvalidArchive> {
        for record in tar::PaxExtensions::new(header) {
            let record = record?;
            match record.key_bytes() {
                b"path" => self.path = Some(record.value_bytes().to_owned()),
                b"linkpath" => self.link = Some(record.value_bytes().to_owned()),
                b"size" => self.size = record.value().ok().and_then(|v| v.parse().ok()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn bounded(entry: &mut impl Read, name: &'static str, limit: u64) -> Result<Vec<u8>, InvalidArchive> {
    let mut bytes = Vec::new();
    entry.take(limit + 1).read_to_end(&mut bytes)?;
    let size = bytes.len() as u64;
    if size > limit { Err(InvalidArchive::HeaderTooLarge { name, size }) } else { Ok(bytes) }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|b| *b == 0).next().unwrap_or_default().to_owned()
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
    fn names_are_read_in_every_form() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        let long = format!("d/{}", "x".repeat(150));
        tar.append_data(&mut header.clone(), &long, &b"1"[..]).unwrap();
        tar.append_pax_extensions([("path", b"./pax/../name".as_slice())]).unwrap();
        header.set_cksum();
        tar.append(&header, &b"2"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_size(0);
        link.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut link.clone(), "a/layer.tar", "../b/layer.tar").unwrap();
        tar.append_link(&mut link, "a/out", "../../etc/passwd").unwrap();
        let archive = tar.into_inner().unwrap();
        assert_eq!(paths(&archive).unwrap(), [format!("{long}=1"), "name=1".into(), "a/layer.tar->b/layer.tar".into()]);
    }

    #[test]
    fn hostile_headers_are_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_pax_extensions([("size", b"7".as_slice())]).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header, "a", &b"1"[..]).unwrap();
        assert!(matches!(paths(&tar.into_inner().unwrap()), Err(InvalidArchive::SizeMismatch(_))));

        let mut long = tar::Header::new_gnu();
        long.set_entry_type(tar::EntryType::GNULongName);
        long.set_size(1 << 40);
        long.set_cksum();
        let endless = long.as_bytes().chain(std::io::repeat(b'a'));
        let read = each(endless, |_, _| Ok::<_, InvalidArchive>(()));
        assert!(matches!(read, Err(InvalidArchive::HeaderTooLarge { .. })));
    }
}
