//! `POST /images/create`: pulls an image, or imports a file system.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::progress;
use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::spec::params;
use crate::base::digest::Digest;
use crate::engine::Engine;
use crate::image::{ImageError, Progress, PullRequest};
use crate::registry::{Credentials, Platform, Reference};

/// `POST /images/create`
pub async fn create(call: Call<params::ImageCreate>) -> Outcome {
    let platform = match call.params.platform.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => Some(text.parse::<Platform>().map_err(ImageError::from)?),
        None => None,
    };
    match call.params.from_image.as_deref().filter(|name| !name.is_empty()) {
        Some(name) => {
            let reference = reference(name, call.params.tag.as_deref().unwrap_or_default())?;
            // Credentials that cannot be read are none: dockerd does not mind either.
            let credentials = call.registry_auth().map(Credentials::from).unwrap_or_default();
            let engine = call.engine.clone();
            progress::stream(move |report| pull(engine, reference, credentials, platform, report)).await
        }
        None => super::load::import(call, platform).await,
    }
}

/// The CLI sends name and tag apart; the tag may be a digest, and the name may end in a colon.
fn reference(name: &str, tag: &str) -> Result<Reference, ApiError> {
    let name: Reference = name.trim_end_matches(':').parse().map_err(ImageError::from)?;
    if name.familiar_name() == "scratch" {
        return Err(ApiError::invalid("'scratch' is a reserved name"));
    }
    if tag.is_empty() {
        return Ok(name);
    }
    match tag.parse::<Digest>() {
        Ok(digest) => Ok(name.with_digest(digest)),
        Err(_) => Ok(name.with_tag(tag).map_err(ImageError::from)?),
    }
}

async fn pull(
    engine: Arc<Engine>,
    reference: Reference,
    credentials: Credentials,
    platform: Option<Platform>,
    report: mpsc::Sender<Progress>,
) -> Result<(), ApiError> {
    let references = match reference.tag().is_none() && reference.digest().is_none() {
        false => vec![reference],
        // A name alone means every tag.
        true => {
            let tags = engine.registry.session(&reference, credentials.clone()).tags().await;
            let tags = tags.map_err(ImageError::from)?;
            let named = tags.iter().filter_map(|tag| reference.with_tag(tag).ok());
            named.collect()
        }
    };
    for reference in references {
        let request = PullRequest { reference, credentials: credentials.clone(), platform: platform.clone() };
        engine.images.pull(request, report.clone()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_tag_are_put_together_as_the_cli_takes_them_apart() {
        let digest = Digest::of(b"");
        for (name, tag, expected) in [
            ("busybox", "1", "busybox:1"),
            ("busybox:", "", "busybox"),
            ("busybox:2", "", "busybox:2"),
            ("h:5/a", "x", "h:5/a:x"),
            ("busybox", &digest.to_string(), &format!("busybox@{digest}")),
        ] {
            assert_eq!(reference(name, tag).unwrap().familiar(), expected);
        }
        for (name, tag) in [("scratch", ""), ("A", "1"), ("a", "?"), ("", "")] {
            assert!(reference(name, tag).is_err(), "{name}:{tag}");
        }
    }
}
