//! What is in the store after crashes, reboots and removals.

use std::fs;

use super::archives::{Archive, Bench};
use crate::base::digest::Digest;
use crate::base::id_map::IdMaps;
use crate::snapshot::{ChainId, Snapshots};

#[test]
fn committed_layers_are_found_again_and_rests_are_swept() {
    let bench = Bench::new();
    let layer = bench.layer(Archive::new().file("a", b"12345"), &[]);
    let layers = bench.dir.path().join("store/layers");
    let dropped = bench.snapshots.begin(&ChainId::base(Digest::of(b"dropped")), &[]).unwrap();
    drop(dropped);
    fs::create_dir_all(layers.join(".new-x/fs/deep")).unwrap();
    fs::create_dir_all(layers.join(".gone-x/fs/deep")).unwrap();
    let again = Snapshots::open(&bench.dir.path().join("store"), &IdMaps::default()).unwrap();
    assert_eq!(again.list(), [layer]);
    assert_eq!(again.find(&layer), bench.snapshots.find(&layer));
    assert_eq!(again.usage(&layer), 8192);
    bench.wait_for_layers(1);
}

#[test]
fn after_a_reboot_only_synced_layers_are_trusted() {
    let bench = Bench::new();
    let synced = bench.layer(Archive::new().file("a", b""), &[]);
    let other = bench.layer(Archive::new().file("b", b""), &[]);
    bench.snapshots.sync(&[synced]).unwrap();
    for layer in [synced, other] {
        let path = bench.snapshots.tree(&layer).with_file_name("layer.json");
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let mut json = json.as_object().unwrap().clone();
        json.insert("boot_id".into(), "another boot".into());
        fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
    }
    let again = Snapshots::open(&bench.dir.path().join("store"), &IdMaps::default()).unwrap();
    assert_eq!(again.list(), [synced]);
    assert!(!bench.snapshots.tree(&other).exists());
}

#[test]
fn two_writers_of_one_layer_leave_one_layer() {
    let bench = Bench::new();
    let archive = Archive::new().file("a", b"1").bytes();
    let chain = ChainId::base(Digest::of(&archive));
    let mut writers: Vec<_> = (0..2).map(|_| bench.snapshots.begin(&chain, &[]).unwrap()).collect();
    for writer in &mut writers {
        writer.apply(archive.as_slice()).unwrap();
    }
    for writer in writers {
        writer.commit().unwrap();
    }
    assert_eq!(bench.snapshots.list(), [chain]);
    bench.wait_for_layers(1);
}

#[test]
fn a_removed_layer_is_gone_and_can_be_made_again() {
    let bench = Bench::new();
    let archive =
        || Archive::new().dir("d/").file("d/a", b"1").file(".wh.gone", b"").file("d/.wh..wh..opq", b"");
    let layer = bench.layer(archive(), &[]);
    bench.snapshots.sync(&[layer]).unwrap();
    bench.snapshots.remove(&layer).unwrap();
    assert!(!bench.snapshots.exists(&layer));
    assert!(bench.snapshots.remove(&layer).is_err());
    assert_eq!(fs::read_dir(bench.dir.path().join("store/synced")).unwrap().count(), 0);
    assert_eq!(bench.layer(archive(), &[]), layer);
}
