//! Loads of archives made here: of each layout, and hostile ones.

use std::io::Write;

use serde_json::json;

use super::*;
use crate::events::EventBus;
use crate::image::ImageSettings;
use crate::registry::{Registry, RegistrySettings};
use crate::snapshot::chain_ids;

fn open() -> (tempfile::TempDir, Arc<Images>) {
    let dir = tempfile::tempdir().unwrap();
    let images = open_at(dir.path());
    (dir, images)
}

fn open_at(dir: &std::path::Path) -> Arc<Images> {
    let registry = Registry::new(RegistrySettings::default());
    Images::open(dir, &Default::default(), registry, ImageSettings::default(), EventBus::default()).unwrap()
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let platform = Platform::host();
    let diff_ids: Vec<_> = layers.iter().map(|l| Digest::of(l)).collect();
    let config = json!({
        "architecture": platform.architecture, "os": "linux", "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

fn docker_archive(names: &[&str], layers: &[&[u8]], config: &[u8]) -> Vec<u8> {
    let paths: Vec<_> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": names, "Layers": paths}]).to_string();
    let mut files: Vec<(&str, &[u8])> =
        paths.iter().map(String::as_str).zip(layers.iter().copied()).collect();
    files.push(("config.json", config));
    files.push(("0/VERSION", b"1.0"));
    files.push(("manifest.json", manifest.as_bytes()));
    tar(&files)
}

fn load(images: &Images, archive: &[u8]) -> Result<Vec<String>, ImageError> {
    let mut messages = Vec::new();
    images.load(archive, &LoadOptions::default(), &mut |progress| messages.extend(progress.stream))?;
    Ok(messages)
}

fn blobs(images: &Images) -> usize {
    images.contents().list().unwrap().len()
}

#[test]
fn a_docker_archive_becomes_an_image_that_survives_a_restart() {
    let (dir, images) = open();
    let (one, two) = (tar(&[("a", b"1")]), tar(&[("b", b"2")]));
    let archive = docker_archive(&["x:1", "x:2"], &[&one, &two], &config(&[&one, &two]));
    let messages = load(&images, &gzip(&archive)).unwrap();
    assert_eq!(messages, ["Loaded image: x:1\n", "Loaded image: x:2\n"]);
    let image = images.resolve("x:1").unwrap();
    assert_eq!(image.chain, chain_ids(&image.config.rootfs.diff_ids));
    assert_eq!(image.config.config.cmd, Some(vec!["sh".to_owned()]));
    assert!(image.chain.iter().all(|c| images.snapshots().exists(c)));
    assert_eq!(blobs(&images), 4);
    drop(images);
    let images = open_at(dir.path());
    assert_eq!(images.resolve(&image.id.short()).unwrap().id, image.id);
}

#[test]
fn the_manifest_of_a_docker_archive_is_the_one_containerd_makes() {
    let (_dir, images) = open();
    let layer = tar(&[("a", b"1")]);
    let config = config(&[&layer]);
    load(&images, &docker_archive(&[], &[&layer], &config)).unwrap();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","digest":"{}","size":{}}}]}}"#,
        Digest::of(&config),
        config.len(),
        Digest::of(&layer),
        layer.len()
    );
    let id = Digest::of(manifest.as_bytes());
    assert_eq!(images.resolve(&id.to_string()).unwrap().id, id);
}

#[test]
fn an_oci_layout_is_loaded_with_its_own_documents() {
    let (_dir, images) = open();
    let layer = tar(&[("a", b"1")]);
    let (blob, config) = (gzip(&layer), config(&[&layer]));
    let manifest = json!({"schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(&config), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": Digest::of(&blob), "size": blob.len()}]})
    .to_string();
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(manifest.as_bytes()),
        "size": manifest.len(), "annotations": {NAME_ANNOTATION: "docker.io/library/y:3"}}]})
    .to_string();
    let path = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let (b, c, m) = (path(&blob), path(&config), path(manifest.as_bytes()));
    let archive = tar(&[
        (&b, &blob),
        (&c, &config),
        (&m, manifest.as_bytes()),
        ("index.json", index.as_bytes()),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
    ]);
    assert_eq!(load(&images, &archive).unwrap(), ["Loaded image: y:3\n"]);
    assert_eq!(images.resolve("y:3").unwrap().id, Digest::of(manifest.as_bytes()));

    let lying = tar(&[(&b, &layer), ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)]);
    let (_dir, images) = open();
    assert!(matches!(load(&images, &lying), Err(ImageError::Content(_))));
    assert_eq!(blobs(&images), 0);
}

#[test]
fn an_archive_that_is_wrong_leaves_nothing() {
    let (_dir, images) = open();
    let (layer, other) = (tar(&[("a", b"1")]), tar(&[("b", b"2")]));
    for (archive, message) in [
        (tar(&[("a", b"1")]), "unrecognized image format"),
        (docker_archive(&["X:1"], &[&layer], &config(&[&layer])), "must be lowercase"),
        (docker_archive(&["x:1"], &[&layer], &config(&[&layer, &layer])), "layers length mismatch"),
        (docker_archive(&["x:1"], &[&other], &config(&[&layer])), "but the configuration says"),
        (docker_archive(&["x:1"], &[&layer], b"{"), "invalid image configuration"),
        (tar(&[("manifest.json", b"{}")]), "cannot read manifest.json"),
        (tar(&[("manifest.json", br#"[{"Config":"c"}]"#)]), "\"c\" is named in the archive but not in it"),
        (tar(&[("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#)]), "unsupported OCI version 2.0.0"),
        (tar(&[("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)]), "\"index.json\" is named"),
        (b"no archive at all".to_vec(), "archive/tar"),
        (gzip(b"\0"), "archive/tar"),
    ] {
        let error = load(&images, &archive).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!((blobs(&images), images.state().records().count()), (0, 0), "{message}");
    }
    let truncated = docker_archive(&["x:1"], &[&layer], &config(&[&layer]));
    for cut in [100, 512, 700, 1500, 3000] {
        assert!(load(&images, &truncated[..cut]).is_err(), "{cut}");
        assert_eq!(blobs(&images), 0);
    }
}
