//! File capabilities and user namespaces (capabilities(7), "File capability extended attribute versioning"): those of
//! version 2, which images have, count in the host's namespace only; those of version 3 name the root they count for.

use crate::base::id_map::{IdMaps, Owner};

/// The attribute that holds them.
pub(super) const NAME: &[u8] = b"security.capability";
/// `VFS_CAP_REVISION_MASK`, `VFS_CAP_REVISION_2` and `_3` (linux/capability.h).
const REVISION: u32 = 0xff00_0000;
const V2: u32 = 0x0200_0000;
const V3: u32 = 0x0300_0000;
/// Bytes of `struct vfs_cap_data`, and of `struct vfs_ns_cap_data`, which ends in the root's id.
const V2_LENGTH: usize = 20;
const V3_LENGTH: usize = 24;

/// An attribute of an archive as a file of the namespace has it.
pub(super) fn for_host(name: Vec<u8>, mut value: Vec<u8>, ids: &IdMaps) -> (Vec<u8>, Vec<u8>) {
    let root = ids.root();
    if root != Owner::ROOT && name == NAME && value.len() == V2_LENGTH && revision(&value) == V2 {
        set_revision(&mut value, V3);
        value.extend(root.uid.to_le_bytes());
    }
    (name, value)
}

/// The value of a file as archives have it: a root that is the namespace's own is left out.
pub(super) fn for_archive(mut value: Vec<u8>, ids: &IdMaps) -> Vec<u8> {
    let own = ids.root().uid.to_le_bytes();
    if value.len() == V3_LENGTH && revision(&value) == V3 && value[V2_LENGTH..] == own {
        value.truncate(V2_LENGTH);
        set_revision(&mut value, V2);
    }
    value
}

fn revision(value: &[u8]) -> u32 {
    value.first_chunk().map_or(0, |magic| u32::from_le_bytes(*magic) & REVISION)
}

fn set_revision(value: &mut [u8], revision: u32) {
    if let Some(magic) = value.first_chunk_mut() {
        *magic = (u32::from_le_bytes(*magic) & !REVISION | revision).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id_map::IdMap;

    #[test]
    fn capabilities_count_for_the_namespaces_root_and_come_back() {
        let map = IdMap::of(&[(100_000, 65_536)]).unwrap();
        let maps = IdMaps { users: map.clone(), groups: map };
        // cap_net_raw=ep, as setcap(8) writes it.
        let image = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let (_, shifted) = for_host(NAME.to_vec(), image.to_vec(), &maps);
        let expected = [1, 0, 0, 3, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa0, 0x86, 1, 0];
        assert_eq!(shifted, expected);
        assert_eq!(for_archive(shifted, &maps), image);
        assert_eq!(for_host(NAME.to_vec(), image.to_vec(), &IdMaps::default()).1, image);
        assert_eq!(for_host(b"user.x".to_vec(), image.to_vec(), &maps).1, image);
        for odd in [&[][..], &[1, 0, 0, 3], &[0; 24]] {
            assert_eq!(for_archive(odd.to_vec(), &maps), odd);
        }
    }
}
