//! Layers as a container sees them: through real overlay mounts, each test in a mount namespace of its own.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};
use tar::EntryType;

use super::archives::{Archive, Bench, header, mode};
use crate::base::sys::mount::{self, MountPropagationFlags};
use crate::snapshot::{ChainId, Durability, MountOptions, SnapshotError, Writable, unmount};

/// Runs `test` on a thread whose mounts nobody else sees and which go away with it.
pub(super) fn in_own_mounts(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).expect("these tests need root");
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount::set_propagation(Path::new("/"), private).unwrap();
            test();
        });
        if let Err(panic) = running.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A container's directories.
pub(super) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        Self { dir }
    }

    pub(super) fn writable(&self) -> Writable {
        Writable { upper: self.dir.path().join("upper"), work: self.dir.path().join("work") }
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(super) fn mount(&self, bench: &Bench, layers: &[ChainId]) -> PathBuf {
        self.mount_as(bench, layers, Durability::Synced).unwrap();
        self.root()
    }

    fn mount_as(
        &self,
        bench: &Bench,
        layers: &[ChainId],
        durability: Durability,
    ) -> Result<(), SnapshotError> {
        bench.snapshots.mount(
            layers,
            &self.writable(),
            &self.root(),
            MountOptions { durability, limit: None },
        )
    }
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Stacks the layers and returns them.
pub(super) fn stack(bench: &Bench, archives: impl IntoIterator<Item = Archive>) -> Vec<ChainId> {
    let mut layers = Vec::new();
    for archive in archives {
        let layer = bench.layer(archive, &layers);
        layers.push(layer);
    }
    layers
}

#[test]
fn a_whiteout_hides_a_file_and_a_directory_below() {
    in_own_mounts(|| {
        let (bench, place) = (Bench::new(), Place::new());
        let base = Archive::new().file("a", b"1").file("b", b"2").dir("d/").file("d/x", b"3");
        let layers = stack(&bench, [base, Archive::new().file(".wh.a", b"").file(".wh.d", b"")]);
        assert_eq!(names(&place.mount(&bench, &layers)), ["b"]);
    });
}

#[test]
fn an_opaque_directory_shows_its_own_layer_only() {
    in_own_mounts(|| {
        for mark_first in [true, false] {
            let (bench, place) = (Bench::new(), Place::new());
            let base = Archive::new().dir("d/").file("d/old", b"1");
            let mark = |archive: Archive| archive.file("d/.wh..wh..opq", b"");
            let upper = Archive::new().dir("d/");
            let upper =
                if mark_first { mark(upper).file("d/new", b"2") } else { mark(upper.file("d/new", b"2")) };
            let layers = stack(&bench, [base, upper]);
            assert_eq!(names(&place.mount(&bench, &layers).join("d")), ["new"]);
        }
    });
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    in_own_mounts(|| {
        let (bench, place) = (Bench::new(), Place::new());
        let layers = stack(
            &bench,
            [Archive::new().file("a", b""), Archive::new().file(".wh..wh..opq", b"").dir("b/")],
        );
        assert_eq!(names(&place.mount(&bench, &layers)), ["b"]);
    });
}

#[test]
fn what_replaces_a_whiteout_in_its_own_layer_hides_what_is_below() {
    in_own_mounts(|| {
        let base = || Archive::new().dir("d/").file("d/old", b"1").file("f", b"old");
        let whiteout_first =
            Archive::new().file(".wh.d", b"").dir("d/").file("d/new", b"2").file(".wh.f", b"");
        let whiteout_first = whiteout_first.file("f", b"new");
        let whiteout_last = Archive::new().dir("d/").file("d/new", b"2").file(".wh.d", b"").file("f", b"new");
        let whiteout_last = whiteout_last.file(".wh.f", b"");
        let parent_left_out = Archive::new().file(".wh.d", b"").file("d/new", b"2").file("f", b"new");
        for upper in [whiteout_first, whiteout_last, parent_left_out] {
            let (bench, place) = (Bench::new(), Place::new());
            let root = place.mount(&bench, &stack(&bench, [base(), upper]));
            assert_eq!(names(&root.join("d")), ["new"]);
            assert_eq!(fs::read(root.join("f")).unwrap(), b"new");
        }
    });
}

#[test]
fn directories_that_a_layer_leaves_out_keep_their_attributes_from_below() {
    in_own_mounts(|| {
        let (bench, place) = (Bench::new(), Place::new());
        let mut home = header(EntryType::Directory, "home/user/");
        home.set_mode(0o2750);
        home.set_uid(1000);
        let mut root = header(EntryType::Directory, "./");
        root.set_mode(0o700);
        let base = Archive::new().push(root, b"").pax(&[("SCHILY.xattr.user.kept", b"yes")]).push(home, b"");
        let layers = stack(&bench, [base, Archive::new().file("home/user/x", b"1")]);
        let mounted = place.mount(&bench, &layers);
        let stat = fs::metadata(mounted.join("home/user")).unwrap();
        assert_eq!((stat.mode(), stat.uid(), stat.mtime()), (0o042750, 1000, 1_000_000_000));
        let mut value = [0; 8];
        assert_eq!(rustix::fs::getxattr(mounted.join("home/user"), "user.kept", &mut value[..]), Ok(3));
        assert_eq!(mode(&mounted), 0o040700);
    });
}

#[test]
fn a_layer_is_not_committed_before_its_parents() {
    let bench = Bench::new();
    let missing = bench.layer(Archive::new().file("a", b""), &[]);
    bench.snapshots.remove(&missing).unwrap();
    let error = bench.try_layer(&Archive::new().file("b", b"").bytes(), &[missing]).unwrap_err();
    assert!(matches!(error, SnapshotError::ParentMissing { .. }), "{error}");
}

#[test]
fn more_than_a_hundred_layers_can_be_mounted() {
    in_own_mounts(|| {
        let (bench, place) = (Bench::new(), Place::new());
        let archive =
            |n: usize| Archive::new().file(&format!("f{n:03}"), b"").file("same", n.to_string().as_bytes());
        let layers = stack(&bench, (0..150).map(archive));
        let root = place.mount(&bench, &layers);
        assert_eq!(names(&root).len(), 151);
        assert_eq!(fs::read(root.join("same")).unwrap(), b"149");
    });
}

#[test]
fn paths_longer_than_the_kernels_option_strings_can_be_mounted() {
    in_own_mounts(|| {
        let bench = Bench::new();
        let layers = stack(&bench, [Archive::new().file("a", b"")]);
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(200)).join("y".repeat(200));
        let writable = Writable { upper: long.join("upper"), work: long.join("work") };
        fs::create_dir_all(long.join("root")).unwrap();
        bench.snapshots.mount(&layers, &writable, &long.join("root"), MountOptions::default()).unwrap();
        assert_eq!(names(&long.join("root")), ["a"]);
        unmount(&long.join("root")).unwrap();
    });
}

#[test]
fn changes_go_to_the_upper_directory_and_outlive_the_mount() {
    in_own_mounts(|| {
        for durability in [Durability::Synced, Durability::Volatile] {
            let (bench, place) = (Bench::new(), Place::new());
            let layers = stack(&bench, [Archive::new().file("a", b"1").dir("d/")]);
            place.mount_as(&bench, &layers, durability).unwrap();
            fs::write(place.root().join("new"), b"2").unwrap();
            fs::remove_file(place.root().join("a")).unwrap();
            unmount(&place.root()).unwrap();
            unmount(&place.root()).unwrap();
            assert_eq!(names(&place.root()), [""; 0]);
            assert_eq!(names(&place.writable().upper), ["a", "new"]);
            // A volatile one too: its mark is removed first.
            place.mount_as(&bench, &layers, durability).unwrap();
            assert_eq!(names(&place.root()), ["d", "new"]);
        }
    });
}

#[test]
fn an_image_without_layers_has_an_empty_root() {
    in_own_mounts(|| {
        let (bench, place) = (Bench::new(), Place::new());
        assert_eq!(names(&place.mount(&bench, &[])), [""; 0]);
        assert_eq!(mode(&place.root()), 0o040755);
    });
}

#[test]
fn a_mount_that_fails_says_why() {
    in_own_mounts(|| {
        let (bench, place) = (Bench::new(), Place::new());
        let layers = stack(&bench, [Archive::new().file("a", b"")]);
        fs::remove_dir(place.root()).unwrap();
        let error = place.mount_as(&bench, &layers, Durability::Synced).unwrap_err();
        let SnapshotError::Mount { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
        let unknown = bench.layer(Archive::new().file("b", b""), &[]);
        bench.snapshots.remove(&unknown).unwrap();
        let error = place.mount_as(&bench, &[unknown], Durability::Synced).unwrap_err();
        assert!(matches!(error, SnapshotError::NotFound(_)), "{error}");
    });
}
