//! The documents that describe an image: manifests and indexes of OCI and of Docker's schema 2
//! (image-spec manifest.md, image-index.md). Read strictly, since a digest is only as good as the one reading of
//! the bytes behind it; never written back: the bytes as received are what is kept.

use std::collections::BTreeMap;

use oci_distribution::manifest as types;
use serde::{Deserialize, Serialize};

use super::platform::Platform;
use crate::base::digest::Digest;

/// Largest manifest or index that is accepted, in bytes (distribution-spec asks for at least 4 MiB).
pub const DOCUMENT_LIMIT: u64 = 4 << 20;
/// Largest image configuration that is accepted, in bytes.
pub const CONFIG_LIMIT: u64 = 8 << 20;
/// Most layers that an image may have; far beyond what overlayfs can mount.
pub const LAYER_LIMIT: usize = 1000;

/// Media types of the documents that a registry may answer with.
pub const ACCEPTED: [&str; 4] = [
    types::OCI_IMAGE_MEDIA_TYPE,
    types::OCI_IMAGE_INDEX_MEDIA_TYPE,
    types::IMAGE_MANIFEST_MEDIA_TYPE,
    types::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];
/// A manifest of Docker's schema 2.
pub const DOCKER_MANIFEST: &str = types::IMAGE_MANIFEST_MEDIA_TYPE;
/// A configuration of Docker's schema 2.
pub const DOCKER_CONFIG: &str = types::IMAGE_DOCKER_CONFIG_MEDIA_TYPE;
/// An uncompressed layer of Docker's schema 2.
pub const DOCKER_LAYER: &str = types::IMAGE_DOCKER_LAYER_TAR_MEDIA_TYPE;
/// A gzip layer of Docker's schema 2.
pub const DOCKER_LAYER_GZIP: &str = types::IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE;
/// A zstd layer of Docker's schema 2.
pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
/// An OCI index.
pub const OCI_INDEX: &str = types::OCI_IMAGE_INDEX_MEDIA_TYPE;

/// A document that is no manifest or index.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDocument {
    #[error("invalid manifest: {0}")]
    Json(#[from] serde_json::Error),
    #[error("ambiguous document: it has both \"manifests\" and \"layers\"")]
    Ambiguous,
    #[error("media type in the document is {inside}, but {declared} was declared")]
    TypeMismatch { inside: String, declared: String },
    #[error("unsupported manifest media type {0}")]
    Unsupported(String),
    #[error("image manifest version 2, schema 1 is not supported: push the image again in a current format")]
    SchemaOne,
    #[error("the manifest has {0} layers, more than the {LAYER_LIMIT} that are accepted")]
    TooManyLayers(usize),
}

/// A pointer to a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without anything optional.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
        }
    }

    /// True if it points to an index by its media type.
    pub fn is_index(&self) -> bool {
        is_index(&self.media_type)
    }

    /// True if it points to a manifest by its media type.
    pub fn is_manifest(&self) -> bool {
        is_manifest(&self.media_type)
    }

    /// True for what buildkit attaches to an image: a manifest that is none (its attestation storage document).
    pub fn is_attestation(&self) -> bool {
        self.annotations.contains_key("vnd.docker.reference.type")
    }

    /// True if the blob is a file system layer in any of the known forms.
    pub fn is_layer(&self) -> bool {
        let base = self.media_type.split('+').next().unwrap_or_default();
        matches!(
            base,
            "application/vnd.oci.image.layer.v1.tar"
                | "application/vnd.oci.image.layer.nondistributable.v1.tar"
                | "application/vnd.docker.image.rootfs.diff.tar"
                | "application/vnd.docker.image.rootfs.diff.tar.gzip"
                | "application/vnd.docker.image.rootfs.diff.tar.zstd"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        )
    }

    /// True if registries need not have the blob, and `urls` say where it is.
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".foreign.") || self.media_type.contains(".nondistributable.")
    }
}

/// What one platform's image consists of.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The images of several platforms under one name.
#[derive(Clone, Debug, Deserialize)]
pub struct Index {
    pub manifests: Vec<Descriptor>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Either kind of document.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and most documents are manifests")]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads a document that was declared to be of `media_type` (empty if nobody said). Returns it with its media
    /// type.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<(Self, String), InvalidDocument> {
        let shape: Shape = serde_json::from_slice(bytes)?;
        if shape.schema_version == Some(1) || shape.fs_layers.is_some() {
            return Err(InvalidDocument::SchemaOne);
        }
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(InvalidDocument::Ambiguous);
        }
        let media_type = decide_type(&shape, media_type)?;
        let document = if is_index(&media_type) {
            Self::Index(serde_json::from_slice(bytes)?)
        } else if is_manifest(&media_type) {
            Self::Manifest(serde_json::from_slice(bytes)?)
        } else {
            return Err(InvalidDocument::Unsupported(media_type));
        };
        match &document {
            Self::Manifest(m) if m.layers.len() > LAYER_LIMIT => {
                Err(InvalidDocument::TooManyLayers(m.layers.len()))
            }
            _ => Ok((document, media_type)),
        }
    }
}

/// The document's own word and the declared one must agree (CVE-2021-41190); without either the shape decides.
fn decide_type(shape: &Shape, declared: &str) -> Result<String, InvalidDocument> {
    let declared = declared.split(';').next().unwrap_or_default().trim();
    let known = is_index(declared) || is_manifest(declared);
    match (shape.media_type.as_deref().filter(|t| !t.is_empty()), known) {
        (Some(inside), true) if inside != declared => {
            Err(InvalidDocument::TypeMismatch { inside: inside.to_owned(), declared: declared.to_owned() })
        }
        (Some(inside), _) => Ok(inside.to_owned()),
        (None, true) => Ok(declared.to_owned()),
        (None, false) if shape.manifests.is_some() => Ok(types::OCI_IMAGE_INDEX_MEDIA_TYPE.to_owned()),
        (None, false) if shape.config.is_some() => Ok(types::OCI_IMAGE_MEDIA_TYPE.to_owned()),
        (None, false) => Err(InvalidDocument::Unsupported(declared.to_owned())),
    }
}

/// True for the media types of indexes.
pub fn is_index(media_type: &str) -> bool {
    [types::OCI_IMAGE_INDEX_MEDIA_TYPE, types::IMAGE_MANIFEST_LIST_MEDIA_TYPE].contains(&media_type)
}

/// True for the media types of manifests.
pub fn is_manifest(media_type: &str) -> bool {
    [types::OCI_IMAGE_MEDIA_TYPE, types::IMAGE_MANIFEST_MEDIA_TYPE].contains(&media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    // CVE-2021-41190, CVE-2021-21285. Fails when a document with both lists is not refused, or when what it says of itself
    // need not be what was declared.
    #[test]
    fn the_kind_of_a_document_is_never_ambiguous() {
        let manifest = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{D}","size":0}},"layers":[]}}"#);
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        let (document, media_type) = Document::parse(manifest.as_bytes(), "").unwrap();
        assert!(matches!(document, Document::Manifest(_)) && is_manifest(&media_type));
        let (document, media_type) = Document::parse(index.as_bytes(), "text/plain").unwrap();
        assert!(matches!(document, Document::Index(_)) && is_index(&media_type));

        for bad in [
            r#"{"manifests":[],"layers":[]}"#,
            r#"{"manifests":[],"config":{}}"#,
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            r#"{"schemaVersion":2}"#,
            r#"{"schemaVersion":2,"mediaType":"application/json","manifests":[]}"#,
            r#"{"config":{"digest":"sha256:00","size":0}}"#,
            r#"{"config":{"digest":"sha256:00","size":-1}}"#,
            "[]",
            "",
        ] {
            assert!(Document::parse(bad.as_bytes(), "").is_err(), "{bad}");
        }
        let declared = Document::parse(index.as_bytes(), DOCKER_MANIFEST);
        assert!(declared.is_err(), "an index declared as a manifest");
        let typed = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        assert!(matches!(
            Document::parse(typed.as_bytes(), types::IMAGE_MANIFEST_LIST_MEDIA_TYPE),
            Err(InvalidDocument::TypeMismatch { .. })
        ));
    }

    #[test]
    fn an_image_of_absurdly_many_layers_is_refused() {
        let layer = format!(r#"{{"digest":"{D}","size":0}}"#);
        let layers = vec![layer.as_str(); LAYER_LIMIT + 1].join(",");
        let manifest = format!(r#"{{"config":{layer},"layers":[{layers}]}}"#);
        assert!(matches!(Document::parse(manifest.as_bytes(), ""), Err(InvalidDocument::TooManyLayers(_))));
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::base::testing::cases;

    fn media_type() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::sample::select(ACCEPTED.to_vec()).prop_map(str::to_owned),
            Just(String::new()),
            Just("application/json; charset=utf-8".to_owned()),
            Just(format!("{OCI_INDEX}; a=b")),
        ]
    }

    /// A document that has some of the fields that tell its kind.
    fn document() -> impl Strategy<Value = Value> {
        let descriptor = json!({"digest": Digest::of(b"").to_string(), "size": 0});
        let list = prop_oneof![
            (0..3usize).prop_map({
                let descriptor = descriptor.clone();
                move |count| json!(vec![descriptor.clone(); count])
            }),
            Just(Value::Null),
            Just(json!([{}])),
        ];
        let config = prop_oneof![Just(descriptor), Just(json!(1))];
        let kind = prop_oneof![media_type().prop_map(Value::from), Just(json!(7))];
        let maybe = |value: BoxedStrategy<Value>| prop::option::of(value);
        let version = prop_oneof![9 => Just(2), 1 => Just(1)].prop_map(Value::from);
        let fields = (
            maybe(version.boxed()),
            maybe(kind.boxed()),
            maybe(list.clone().boxed()),
            maybe(list.boxed()),
            maybe(config.boxed()),
        );
        fields.prop_map(|(version, kind, manifests, layers, config)| {
            let named = [
                ("schemaVersion", version),
                ("mediaType", kind),
                ("manifests", manifests),
                ("layers", layers),
                ("config", config),
            ];
            named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
        })
    }

    proptest! {
        #![proptest_config(cases(1000))]

        #[test]
        fn no_document_can_be_read_as_two_kinds(document in document(), declared in media_type()) {
            let there = |key: &str| document.get(key).is_some_and(|value| !value.is_null());
            let Ok((read, kind)) = Document::parse(document.to_string().as_bytes(), &declared) else {
                return Ok(());
            };
            prop_assert_ne!(document.get("schemaVersion"), Some(&json!(1)));
            prop_assert!(!(there("manifests") && (there("layers") || there("config"))));
            match read {
                Document::Index(_) => prop_assert!(is_index(&kind) && there("manifests")),
                Document::Manifest(_) => prop_assert!(is_manifest(&kind) && there("config")),
            }
            let bare = declared.split(';').next().unwrap();
            prop_assert!(bare == kind || !ACCEPTED.contains(&bare), "{} became {}", declared, kind);
            // The digest covers the bytes, so who reads them again without being told must see the same.
            if document.get("mediaType").is_some_and(|inside| inside != "") {
                prop_assert_eq!(Document::parse(document.to_string().as_bytes(), "").unwrap().1, kind);
            }
        }
    }

    #[test]
    fn layers_are_counted_up_to_the_limit() {
        let descriptor = json!({"digest": Digest::of(b"").to_string(), "size": 0});
        for (count, accepted) in [(LAYER_LIMIT, true), (LAYER_LIMIT + 1, false)] {
            let document =
                json!({"config": descriptor, "layers": vec![descriptor.clone(); count]}).to_string();
            assert_eq!(Document::parse(document.as_bytes(), "").is_ok(), accepted);
        }
    }
}
