//! PAX extended headers: records of `length key=value\n` (POSIX.1-2024, pax, "pax Extended Header").

use std::collections::HashSet;

use super::entry::Mtime;
use super::sparse::{self, Segment};
use super::{ArchiveError, Entry};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// What the records before an entry override. Of a key that comes twice the last value counts; an empty value takes
/// an earlier one back.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    uid: Option<i64>,
    gid: Option<i64>,
    mtime: Option<Mtime>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: SparseRecords,
}

/// The `GNU.sparse` records.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    version: (u64, u64),
    real_size: Option<u64>,
    name: Option<Vec<u8>>,
    list: Option<Vec<u8>>,
}

/// Where the map of a sparse file is found.
#[derive(Debug, PartialEq)]
pub(super) enum SparseMap {
    Known(Vec<Segment>),
    BeforeData,
}

impl Records {
    /// Adds the records of one extended header.
    pub(super) fn add(&mut self, mut records: &[u8]) -> Result<(), ArchiveError> {
        while !records.is_empty() {
            let (key, value, rest) = split(records)?;
            self.set(key, value)?;
            records = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        if let Some(name) = key.strip_prefix(XATTR) {
            return self.set_xattr(name, value);
        }
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = given.map(name).transpose()?,
            b"linkpath" => self.link = given.map(name).transpose()?,
            b"size" => self.size = given.map(integer).transpose()?,
            b"uid" => self.uid = given.map(signed).transpose()?,
            b"gid" => self.gid = given.map(signed).transpose()?,
            b"mtime" => self.mtime = given.map(time).transpose()?,
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn set_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        if key.is_empty() || key.contains(&0) {
            return Err(ArchiveError::Pax("an extended attribute without a name"));
        }
        self.xattrs.push((key.to_vec(), value.to_vec()));
        Ok(())
    }

    /// Owner and group as written, if written.
    pub(super) fn owner(&self) -> (Option<i64>, Option<i64>) {
        (self.uid, self.gid)
    }

    /// Puts names, time and attributes in the place of the header's.
    pub(super) fn apply(self, entry: &mut Entry) {
        if let Some(path) = self.sparse.name.or(self.path) {
            entry.path = path;
        }
        if let Some(link) = self.link {
            entry.link = link;
        }
        if let Some(mtime) = self.mtime {
            entry.mtime = mtime;
        }
        entry.xattrs = last_of_each(self.xattrs);
    }
}

/// Of attributes with one name the last. In one go: one entry can have tens of thousands.
fn last_of_each(mut xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut seen = HashSet::new();
    xattrs.reverse();
    xattrs.retain(|(name, _)| seen.insert(name.clone()));
    xattrs.reverse();
    xattrs
}

impl SparseRecords {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        match key {
            b"major" => self.version.0 = sparse::decimal(value)?,
            b"minor" => self.version.1 = sparse::decimal(value)?,
            b"size" | b"realsize" => self.real_size = Some(sparse::decimal(value)?),
            b"name" => self.name = Some(name(value)?),
            b"map" => self.list = Some(value.to_vec()),
            // Format 0.0 repeats these two in turn.
            b"offset" | b"numbytes" => self.push(value),
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, value: &[u8]) {
        let list = self.list.get_or_insert_default();
        if !list.is_empty() {
            list.push(b',');
        }
        list.extend_from_slice(value);
    }

    /// The map and the file's real size, if the records speak of a sparse file.
    pub(super) fn map(&self) -> Result<Option<(SparseMap, u64)>, ArchiveError> {
        let size = || self.real_size.ok_or(ArchiveError::Sparse("no real size"));
        match (self.version, &self.list) {
            ((1, 0), _) => Ok(Some((SparseMap::BeforeData, size()?))),
            ((0, _), Some(list)) => Ok(Some((SparseMap::Known(sparse::from_list(list)?), size()?))),
            ((0, _), None) => Ok(None),
            _ => Err(ArchiveError::Sparse("an unknown version")),
        }
    }
}

/// A key, its value, and the records after it.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

/// Takes the first record off: key, value, what is left.
fn split(records: &[u8]) -> Result<Split<'_>, ArchiveError> {
    let invalid = ArchiveError::Pax("a record's length is wrong");
    let Some(space) = records.iter().take(20).position(|b| *b == b' ') else { return Err(invalid) };
    let Ok(length) = integer(&records[..space]) else { return Err(invalid) };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
        return Err(invalid);
    }
    let record = &records[space + 1..length - 1];
    let equals = record.iter().position(|b| *b == b'=').filter(|at| *at > 0);
    let equals = equals.ok_or(ArchiveError::Pax("a record without a key"))?;
    Ok((&record[..equals], &record[equals + 1..], &records[length..]))
}

fn name(value: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    if value.contains(&0) { Err(ArchiveError::Pax("a NUL byte in a name")) } else { Ok(value.to_vec()) }
}

fn integer(value: &[u8]) -> Result<u64, ArchiveError> {
    u64::try_from(signed(value)?).map_err(|_| ArchiveError::Pax("a negative number"))
}

fn signed(value: &[u8]) -> Result<i64, ArchiveError> {
    let text = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
    text.and_then(|text| text.parse().ok()).ok_or(ArchiveError::Pax("not a decimal number"))
}

/// Decimal seconds with a fraction of any length; digits beyond nanoseconds are cut.
fn time(value: &[u8]) -> Result<Mtime, ArchiveError> {
    let invalid = || ArchiveError::Pax("not a time");
    let dot = value.iter().position(|b| *b == b'.').unwrap_or(value.len());
    let (whole, fraction) = (&value[..dot], value.get(dot + 1..).unwrap_or_default());
    let seconds = signed(whole).map_err(|_| invalid())?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    if whole.starts_with(b"-") && nanos > 0 {
        let seconds = seconds.checked_sub(1).ok_or_else(invalid)?;
        return Ok(Mtime { seconds, nanos: 1_000_000_000 - nanos });
    }
    Ok(Mtime { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_may_lie_before_the_epoch() {
        let table: [(&str, Option<(i64, u32)>); 8] = [
            ("1", Some((1, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("1.0000000019", Some((1, 1))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("", None),
            ("1.x", None),
            ("1e3", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(seconds, nanos)| Mtime { seconds, nanos });
            assert_eq!(time(text.as_bytes()).ok(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "",
            "5 a=b",
            "6 a=b\nx",
            "7 a=b\n",
            "0 a=b\n",
            "6 =bb\n",
            "6 abb\n",
            "99999999999999999999 a=b\n",
            "x",
        ] {
            let mut records = Records::default();
            assert_eq!(records.add(bad.as_bytes()).is_err(), !bad.is_empty(), "{bad:?}");
        }
        assert!(Records::default().add(b"10 path=a\0\n").is_err());
    }

    #[test]
    fn the_last_value_of_a_key_counts_and_an_empty_one_takes_it_back() {
        let mut records = Records::default();
        records.add(b"11 path=ab\n12 size=123\n11 path=cd\n").unwrap();
        assert_eq!((records.path.as_deref(), records.size), (Some(&b"cd"[..]), Some(123)));
        records.add(b"8 path=\n").unwrap();
        assert_eq!(records.path, None);
    }

    #[test]
    fn of_an_attribute_that_comes_twice_the_last_value_counts() {
        let mut records = Records::default();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            records.set(&[XATTR, name.as_bytes()].concat(), value.as_bytes()).unwrap();
        }
        let text = |text: &str| text.as_bytes().to_vec();
        assert_eq!(last_of_each(records.xattrs), [(text("b"), text("2")), (text("a"), text("3"))]);
    }
}
