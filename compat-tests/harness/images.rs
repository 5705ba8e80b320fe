//! Images made here: busybox from Debian's package, and whatever shape of layers a scenario needs. No registry of
//! the world can be reached from a test machine.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The tar of one layer, built entry by entry.
pub struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, mode, None, b"")
    }

    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, mode, None, content)
    }

    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, Some(target), b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, 0o644, Some(target), b"")
    }

    /// A character device.
    pub fn device(mut self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = header(EntryType::Char, 0o666, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        set_raw(&mut header, path, None);
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    /// Marks the next entry with an extended attribute, as GNU tar writes them.
    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        let key = format!("SCHILY.xattr.{name}");
        self.0.append_pax_extensions([(key.as_str(), value)]).unwrap();
        self
    }

    /// An entry whose names are written as given, however hostile.
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        mode: u32,
        link: Option<&str>,
        content: &[u8],
    ) -> Self {
        if path.len() > 100 {
            self.0.append_pax_extensions([("path", path.as_bytes())]).unwrap();
        }
        let mut header = header(kind, mode, content.len() as u64);
        set_raw(&mut header, path, link);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header
}

/// Sets names without the checks that [`Header::set_path`] makes.
fn set_raw(header: &mut Header, path: &str, link: Option<&str>) {
    let put = |field: &mut [u8], text: &str| {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
    };
    put(&mut header.as_ustar_mut().unwrap().name, path);
    if let Some(link) = link {
        put(&mut header.as_ustar_mut().unwrap().linkname, link);
    }
}

/// How a layer's blob is stored in a registry or an OCI layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    pub fn pack(self, tar: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => tar.to_vec(),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(tar).unwrap();
                encoder.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(tar, 1).unwrap(),
        }
    }
}

/// An image: its layers (tars, base first) and what its configuration says of containers.
#[derive(Clone)]
pub struct Image {
    pub name: String,
    pub layers: Vec<Vec<u8>>,
    /// The `config` member of the OCI configuration.
    pub config: Value,
    pub architecture: String,
}

/// A manifest and the blobs it names.
pub struct Packed {
    pub manifest: Vec<u8>,
    pub media_type: String,
    pub blobs: Vec<Vec<u8>>,
}

impl Image {
    pub fn new(name: &str, layers: Vec<Vec<u8>>) -> Self {
        let config = json!({"Cmd": ["sh"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
        Self { name: name.to_owned(), layers, config, architecture: "amd64".to_owned() }
    }

    /// Sets one member of the configuration.
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Adds a layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer.tar());
        self
    }

    pub fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// The image configuration blob.
    pub fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| digest(layer)).collect();
        let history: Vec<_> = self.layers.iter().map(|_| json!({"created_by": "compat"})).collect();
        json!({
            "architecture": self.architecture, "os": "linux", "created": "2024-01-01T00:00:00Z",
            "config": self.config, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        })
        .to_string()
        .into_bytes()
    }

    /// What `docker save` of classic Docker writes.
    pub fn docker_archive(&self) -> Vec<u8> {
        let configuration = self.configuration();
        let name = format!("{}.json", hex::encode(Sha256::digest(&configuration)));
        let paths: Vec<_> = (0..self.layers.len()).map(|index| format!("{index}/layer.tar")).collect();
        let manifest = json!([{"Config": name, "RepoTags": [self.name], "Layers": paths}]);
        let mut archive = Layer::new().file(&name, 0o644, &configuration);
        for (path, layer) in paths.iter().zip(&self.layers) {
            archive = archive.file(path, 0o644, layer);
        }
        archive.file("manifest.json", 0o644, manifest.to_string().as_bytes()).tar()
    }

    /// An OCI image layout with one image, as tar.
    pub fn oci_archive(&self, packing: Packing) -> Vec<u8> {
        let packed = self.pack(packing);
        let (name, tag) = self.name.rsplit_once(':').unwrap_or((&self.name, "latest"));
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": packed.media_type, "digest": digest(&packed.manifest), "size": packed.manifest.len(),
            "annotations": {
                "io.containerd.image.name": format!("docker.io/library/{name}:{tag}"),
                "org.opencontainers.image.ref.name": tag,
            },
        }]});
        let mut archive = Layer::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        archive = archive.file("index.json", 0o644, index.to_string().as_bytes());
        for blob in packed.blobs.iter().chain([&packed.manifest]) {
            archive = archive.file(&format!("blobs/sha256/{}", &digest(blob)[7..]), 0o644, blob);
        }
        archive.tar()
    }

    /// As an OCI manifest with its blobs; the configuration comes first.
    pub fn pack(&self, packing: Packing) -> Packed {
        let configuration = self.configuration();
        let mut blobs = vec![configuration.clone()];
        blobs.extend(self.layers.iter().map(|layer| packing.pack(layer)));
        let descriptor = |media: &str, blob: &[u8]| json!({"mediaType": media, "digest": digest(blob), "size": blob.len()});
        let layers: Vec<_> = blobs[1..].iter().map(|blob| descriptor(packing.media_type(), blob)).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": media_type,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration), "layers": layers,
        });
        Packed { manifest: manifest.to_string().into_bytes(), media_type, blobs }
    }
}

/// Debian's busybox with all its applets, as `busybox:latest`.
pub fn busybox() -> Image {
    static MADE: OnceLock<Image> = OnceLock::new();
    MADE.get_or_init(|| Image::new("busybox:latest", vec![busybox_layer()])).clone()
}

fn busybox_layer() -> Vec<u8> {
    let program = ["/bin/busybox", "/usr/bin/busybox"].iter().find_map(|path| fs::read(path).ok());
    let program = program.expect("the package busybox-static is installed");
    let mut layer = Layer::new();
    for (path, mode) in
        [("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755), ("home", 0o755)]
    {
        layer = layer.dir(path, mode);
    }
    layer = layer.file("bin/busybox", 0o755, &program);
    let applets = Command::new("busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|&applet| applet != "busybox") {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    layer
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
        .tar()
}
