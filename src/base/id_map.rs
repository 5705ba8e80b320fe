//! Which ids of the host the ids in a user namespace stand for (user_namespaces(7)). Pure.

use std::io;

/// The ids of a user namespace. Without ranges, as by default, there is no namespace: every id stands for itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdMaps {
    pub users: IdMap,
    pub groups: IdMap,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// One kind of ids; ranges do not overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct IdMap(Vec<IdRange>);

/// Consecutive ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdRange {
    /// The first in the namespace.
    pub inside: u32,
    /// The first of the host.
    pub outside: u32,
    pub count: u32,
}

/// An id that no range holds; the text is dockerd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Container ID {0} cannot be mapped to a host ID")]
pub struct Unmapped(u32);

impl Owner {
    /// The host's root.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
}

impl From<Unmapped> for io::Error {
    fn from(error: Unmapped) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

impl IdMaps {
    /// True if there is no namespace.
    pub fn is_identity(&self) -> bool {
        self.users.0.is_empty() && self.groups.0.is_empty()
    }

    /// Whom the namespace's root is on the host.
    pub fn root(&self) -> Owner {
        // A map that has ranges at all begins with 0.
        self.to_host(Owner::ROOT).unwrap_or(Owner::ROOT)
    }

    /// Whom an owner in the namespace is on the host.
    pub fn to_host(&self, owner: Owner) -> Result<Owner, Unmapped> {
        Ok(Owner { uid: self.users.to_host(owner.uid)?, gid: self.groups.to_host(owner.gid)? })
    }

    /// Whom an owner of the host is in the namespace. One that is not in it stays who it is: such files were made by
    /// somebody outside of it, and leaving them out (as dockerd does) would lose them.
    pub fn to_namespace(&self, owner: Owner) -> Owner {
        Owner { uid: self.users.to_namespace(owner.uid), gid: self.groups.to_namespace(owner.gid) }
    }
}

impl IdMap {
    /// Maps the namespace's ids from 0 on to the given ranges of the host (first id, count), one after the other.
    /// `None` if there are more ids than 32 bits count.
    pub fn of(ranges: &[(u32, u32)]) -> Option<Self> {
        let mut map = Vec::with_capacity(ranges.len());
        let mut inside = 0u32;
        for &(outside, count) in ranges.iter().filter(|(_, count)| *count > 0) {
            // The last id of all means "none" to system calls.
            outside.checked_add(count)?;
            map.push(IdRange { inside, outside, count });
            inside = inside.checked_add(count)?;
        }
        Some(Self(map))
    }

    /// Reads `/proc/<pid>/uid_map` or `gid_map`. `None` for what is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |line: &str| {
            let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
            let mut next = || numbers.next().flatten();
            Some(IdRange { inside: next()?, outside: next()?, count: next()? })
        };
        text.lines().map(line).collect::<Option<_>>().map(Self)
    }

    /// The ranges, as the OCI specification lists them too.
    pub fn ranges(&self) -> &[IdRange] {
        &self.0
    }

    /// What the kernel takes in `/proc/<pid>/uid_map` and `gid_map`.
    pub fn to_proc(&self) -> String {
        self.0.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count)).collect()
    }

    /// The host's id for one of the namespace.
    pub fn to_host(&self, id: u32) -> Result<u32, Unmapped> {
        if self.0.is_empty() {
            return Ok(id);
        }
        let found = self.0.iter().find_map(|range| shift(id, range.inside, range.outside, range.count));
        found.ok_or(Unmapped(id))
    }

    fn to_namespace(&self, id: u32) -> u32 {
        self.0.iter().find_map(|range| shift(id, range.outside, range.inside, range.count)).unwrap_or(id)
    }
}

fn shift(id: u32, from: u32, to: u32, count: u32) -> Option<u32> {
    let offset = id.checked_sub(from).filter(|offset| *offset < count)?;
    to.checked_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shifted_range_by_range() {
        let map = IdMap::of(&[(100_000, 1000), (500_000, 10), (7, 0)]).unwrap();
        assert_eq!(map.to_proc(), "0 100000 1000\n1000 500000 10\n");
        for (inside, outside) in [(0, 100_000), (999, 100_999), (1000, 500_000), (1009, 500_009)] {
            assert_eq!(map.to_host(inside), Ok(outside));
            assert_eq!(map.to_namespace(outside), inside);
        }
        assert_eq!(
            map.to_host(1010).unwrap_err().to_string(),
            "Container ID 1010 cannot be mapped to a host ID"
        );
        for foreign in [0, 99_999, 101_000, 500_010, u32::MAX] {
            assert_eq!(map.to_namespace(foreign), foreign);
        }
        assert_eq!(IdMap::parse(&map.to_proc()), Some(map));
    }

    #[test]
    fn without_ranges_every_id_stands_for_itself() {
        let maps = IdMaps::default();
        let owner = Owner { uid: 5, gid: u32::MAX };
        assert!(maps.is_identity());
        assert_eq!((maps.to_host(owner), maps.to_namespace(owner)), (Ok(owner), owner));
        assert_eq!(maps.root(), Owner::ROOT);
    }

    #[test]
    fn ranges_beyond_all_ids_are_refused() {
        assert_eq!(IdMap::of(&[(u32::MAX, 1)]), None);
        assert_eq!(IdMap::of(&[(1, u32::MAX - 1), (0, 2)]), None);
        for text in ["0 1", "0 1 x", "-1 0 1"] {
            assert_eq!(IdMap::parse(text), None, "{text}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    /// Any, and the first ones of ranges and beyond the last.
    fn ids() -> impl Strategy<Value = u32> {
        prop_oneof![0..4000u32, (0..5u32).prop_map(|range| range * 1000)]
    }

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn what_is_mapped_comes_back(starts in prop::collection::vec(0..1000u32, 1..4), id in ids()) {
            let ranges: Vec<_> = starts.iter().enumerate().map(|(n, s)| (n as u32 * 10_000 + s, 1000)).collect();
            let map = IdMap::of(&ranges).unwrap();
            let range = id / 1000;
            let expected = starts.get(range as usize).map(|start| range * 10_000 + start + id % 1000);
            let outside = map.to_host(id).ok();
            prop_assert_eq!(outside, expected);
            prop_assert!(outside.is_none_or(|outside| map.to_namespace(outside) == id));
        }
    }
}
