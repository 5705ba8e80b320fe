//! `GET /images/json` and `POST /images/prune`: what filters leave.

use http::StatusCode;
use serde_json::json;

use crate::api::call::{Call, Outcome};
use crate::api::error::ApiError;
use crate::api::filters::Filters;
use crate::api::moment;
use crate::api::respond;
use crate::api::spec::params;
use crate::api::versions::Feature;
use crate::api::view::{self, image::Counts};
use crate::base::time::Timestamp;
use crate::image::{Images, PruneScope, Purpose, Record, State, Target};
use crate::registry::Reference;

/// `GET /images/json`
pub async fn list(call: Call<params::ImageList>) -> Outcome {
    let mut filters = call.params.filters.clone();
    filters.allow(&["before", "dangling", "label", "label!", "reference", "since", "until"])?;
    if let Some(name) = call.params.filter.as_deref().filter(|name| !name.is_empty()) {
        filters.add("reference", name);
    }
    let images = &call.engine.images;
    let state = images.state();
    let wanted = Wanted::new(images, &filters)?;
    let dangling = filters.boolean("dangling")?;
    let counts = Counts {
        shared: call.params.shared_size.then(|| view::image::shared(&state)),
        manifests: call.params.manifests && call.version.has(Feature::ImageListManifests),
    };
    let mut listed: Vec<_> = state
        .targets()
        .filter(|target| wanted.target(&state, target))
        .filter(|target| dangling.is_none_or(|wanted| is_dangling(&state, target) == wanted))
        .filter_map(|target| {
            let names: Vec<&Reference> = wanted.names(&state, target)?;
            let users = call.engine.image_users(&target.descriptor.digest);
            let used = users.iter().filter(|user| user.purpose == Purpose::Root).count();
            Some((
                created(&state, target),
                view::image::summary(&state, target, &names, &counts, used, call.version),
            ))
        })
        .collect();
    // The newest first.
    listed.sort_by_key(|(created, _)| std::cmp::Reverse(*created));
    let listed: Vec<_> = listed.into_iter().map(|(_, summary)| summary).collect();
    Ok(respond::json(StatusCode::OK, &listed))
}

/// `POST /images/prune`
pub async fn prune(call: Call<params::ImagePrune>) -> Outcome {
    let filters = call.params.filters.clone();
    filters.allow(&["dangling", "label", "label!", "until"])?;
    let scope = match filters.boolean("dangling")? {
        Some(false) => PruneScope::Unused,
        Some(true) | None => PruneScope::Dangling,
    };
    let until = until(&filters)?;
    let engine = call.engine.clone();
    let pruned = super::blocking(move || {
        let wanted = |record: &Record, target: &Target| {
            until.is_none_or(|until| record.created < until) && labels_match(&filters, target)
        };
        engine.images.prune(scope, &wanted, &|image| engine.image_users(image))
    });
    let pruned = pruned.await?;
    let deleted = (!pruned.removed.is_empty()).then(|| view::image::removed(&pruned.removed));
    Ok(respond::json(StatusCode::OK, &json!({ "ImagesDeleted": deleted, "SpaceReclaimed": pruned.freed })))
}

/// What the filters ask of an image.
struct Wanted<'a> {
    filters: &'a Filters,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl<'a> Wanted<'a> {
    fn new(images: &Images, filters: &'a Filters) -> Result<Self, ApiError> {
        let state = images.state();
        let moment = |key: &str| -> Result<Option<Timestamp>, ApiError> {
            match filters.single(key)? {
                Some(name) => Ok(Some(created(&state, state.find(name)?))),
                None => Ok(None),
            }
        };
        for pattern in filters.values("reference") {
            // As Go's path.Match would.
            if pattern.matches('[').count() != pattern.matches(']').count() {
                return Err(ApiError::invalid(format!("invalid filter 'reference={pattern}'")));
            }
        }
        Ok(Self { filters, before: moment("before")?, since: moment("since")?, until: until(filters)? })
    }

    fn target(&self, state: &State, target: &Target) -> bool {
        let at = created(state, target);
        self.before.is_none_or(|before| at < before)
            && self.since.is_none_or(|since| at > since)
            && self.until.is_none_or(|until| at < until)
            && labels_match(self.filters, target)
    }

    /// The names to be shown; nothing if the image is not wanted because of its names, or is not to be seen.
    fn names<'s>(&self, state: &'s State, target: &Target) -> Option<Vec<&'s Reference>> {
        let visible = state.is_visible(&target.descriptor.digest);
        let names: Vec<_> =
            state.names(&target.descriptor.digest).filter_map(|name| name.reference()).collect();
        if !self.filters.contains("reference") {
            return visible.then_some(names);
        }
        let patterns: Vec<_> = self.filters.values("reference").collect();
        let matching: Vec<_> =
            names.into_iter().filter(|name| patterns.iter().any(|pattern| name.matches(pattern))).collect();
        (!matching.is_empty()).then_some(matching)
    }
}

fn is_dangling(state: &State, target: &Target) -> bool {
    state.names(&target.descriptor.digest).all(|name| name.reference().is_none())
}

fn created(state: &State, target: &Target) -> Timestamp {
    view::image::created(state, target)
}

fn until(filters: &Filters) -> Result<Option<Timestamp>, ApiError> {
    match filters.single("until")? {
        Some(text) => Ok(Some(moment::before(text, Timestamp::now())?)),
        None => Ok(None),
    }
}

/// True if any platform's image has the labels.
fn labels_match(filters: &Filters, target: &Target) -> bool {
    if !filters.contains("label") && !filters.contains("label!") {
        return true;
    }
    target.images().iter().any(|image| {
        let get = |key: &str| image.config.config.labels.get(key).map(String::as_str);
        filters.labels("label", get) && filters.without_labels("label!", get)
    })
}
