//! The volumes as the engine uses them.

use super::*;

struct Bench {
    dir: tempfile::TempDir,
    volumes: Volumes,
    events: EventBus,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let events = EventBus::default();
    let volumes = Volumes::open(dir.path(), Owner::ROOT, events.clone()).unwrap();
    Bench { dir, volumes, events }
}

fn named(name: &str) -> CreateVolume {
    CreateVolume { name: Some(name.to_owned()), ..CreateVolume::default() }
}

fn seen() -> MountedAs<'static> {
    MountedAs { destination: "/x", writable: true, propagation: "" }
}

impl Bench {
    fn actions(&self) -> Vec<String> {
        self.events.subscribe().0.iter().map(|event| format!("{} {}", event.action, event.id)).collect()
    }
}

#[test]
fn a_volume_is_there_until_it_is_removed_and_after_a_restart() {
    let bench = bench();
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let made = bench.volumes.create(CreateVolume { labels, ..named("data") }).unwrap();
    assert!(made.mountpoint.is_dir());
    assert_eq!(bench.volumes.create(named("data")).unwrap(), made);
    let reopened = Volumes::open(bench.dir.path(), Owner::ROOT, EventBus::default()).unwrap();
    assert_eq!(reopened.get("data").unwrap(), made);
    bench.volumes.remove("data", Missing::Error).unwrap();
    assert_eq!(bench.volumes.get("data").unwrap_err().to_string(), "get data: no such volume");
    assert!(bench.volumes.remove("data", Missing::Error).is_err());
    bench.volumes.remove("data", Missing::Fine).unwrap();
    assert_eq!(std::fs::read_dir(bench.dir.path().join("volumes")).unwrap().count(), 0);
    assert_eq!(bench.actions(), ["create data", "destroy data"]);
}

#[test]
fn a_volume_in_use_cannot_be_removed() {
    let bench = bench();
    let user = ContainerId::random();
    bench.volumes.create(CreateVolume { user: Some(user.clone()), ..named("data") }).unwrap();
    let error = bench.volumes.remove("data", Missing::Fine).unwrap_err().to_string();
    assert_eq!(error, format!("remove data: volume is in use - [{user}]"));
    bench.volumes.mount("data", &user, &seen()).unwrap();
    bench.volumes.release("data", &user);
    assert!(bench.volumes.remove("data", Missing::Fine).is_err());
    bench.volumes.unmount("data", &user).unwrap();
    bench.volumes.unmount("data", &user).unwrap();
    bench.volumes.remove("data", Missing::Fine).unwrap();
    assert_eq!(bench.actions(), ["create data", "mount data", "unmount data", "destroy data"]);
}

#[test]
fn unused_volumes_are_pruned_and_their_size_is_told() {
    let bench = bench();
    let user = ContainerId::random();
    let anonymous = bench.volumes.create(CreateVolume::default()).unwrap();
    assert!(anonymous.is_anonymous() && anonymous.name.len() == 64);
    std::fs::write(anonymous.mountpoint.join("f"), [0; 1000]).unwrap();
    bench.volumes.create(named("kept")).unwrap();
    bench.volumes.create(CreateVolume { user: Some(user), ..CreateVolume::default() }).unwrap();
    let pruned = bench.volumes.prune(Volume::is_anonymous).unwrap();
    assert_eq!(pruned, Pruned { names: vec![anonymous.name.clone()], reclaimed: 1000 });
    assert_eq!(bench.volumes.list().len(), 2);
}

#[test]
fn what_a_crash_left_is_swept_and_does_not_stand_in_the_way() {
    let bench = bench();
    let root = bench.dir.path().join("volumes");
    for left in [".new-data", ".gone-data", ".gone-other"] {
        std::fs::create_dir_all(root.join(left).join("_data/deep")).unwrap();
    }
    bench.volumes.create(named("data")).unwrap();
    bench.volumes.remove("data", Missing::Error).unwrap();
    bench.volumes.sweep().unwrap();
    assert_eq!(std::fs::read_dir(root).unwrap().count(), 0);
}

#[test]
fn only_an_empty_volume_is_filled_from_the_image() {
    let bench = bench();
    let rootfs = bench.dir.path().join("rootfs");
    std::fs::create_dir_all(rootfs.join("srv")).unwrap();
    std::fs::write(rootfs.join("srv/a"), "1").unwrap();
    let volume = bench.volumes.create(named("data")).unwrap();
    bench.volumes.copy_up("data", &rootfs, Path::new("/missing")).unwrap();
    bench.volumes.copy_up("data", &rootfs, Path::new("/srv")).unwrap();
    assert_eq!(std::fs::read(volume.mountpoint.join("a")).unwrap(), b"1");
    std::fs::write(rootfs.join("srv/b"), "2").unwrap();
    bench.volumes.copy_up("data", &rootfs, Path::new("/srv")).unwrap();
    assert!(!volume.mountpoint.join("b").exists());
    assert_eq!(std::fs::read_dir(volume.mountpoint.parent().unwrap()).unwrap().count(), 2);
}

#[test]
fn bad_names_options_and_drivers_are_refused_in_dockerds_words() {
    let bench = bench();
    let create = |wanted| bench.volumes.create(wanted).unwrap_err().to_string();
    assert!(create(named("a")).starts_with("create a: volume name is too short"));
    let driver = Some("nfs".to_owned());
    assert_eq!(
        create(CreateVolume { driver, ..named("ab") }),
        "create ab: error looking up volume plugin nfs: plugin \"nfs\" not found"
    );
    let options = BTreeMap::from([("x".to_owned(), String::new())]);
    assert_eq!(create(CreateVolume { options, ..named("ab") }), "create ab: invalid option: \"x\"");
}

#[test]
fn filling_a_volume_keeps_the_directory_that_a_running_container_sees() {
    use std::os::unix::fs::MetadataExt;
    let bench = bench();
    let rootfs = bench.dir.path().join("rootfs");
    std::fs::create_dir_all(rootfs.join("srv")).unwrap();
    std::fs::write(rootfs.join("srv/a"), "1").unwrap();
    let volume = bench.volumes.create(named("data")).unwrap();
    let before = volume.mountpoint.metadata().unwrap().ino();
    bench.volumes.mount("data", &ContainerId::random(), &seen()).unwrap();
    bench.volumes.copy_up("data", &rootfs, Path::new("/srv")).unwrap();
    assert_eq!(volume.mountpoint.metadata().unwrap().ino(), before);
    assert!(volume.mountpoint.join("a").exists());
}
