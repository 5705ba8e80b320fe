//! Which containers a list has: `all`, `limit` and the filters of `GET /containers/json`, as dockerd reads them.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use regex::Regex;

use super::network::{PortView, ports};
use super::status::health_word;
use super::{Shown, Surroundings};
use crate::api::error::ApiError;
use crate::api::filters::Filters;
use crate::api::spec::params;
use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::container::host_config::MountType;
use crate::network::{NetworkMode, Protocol};

/// The filters that there are.
const KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// A request for a list, read and checked.
pub struct Selection {
    filters: Filters,
    all: bool,
    limit: Option<usize>,
    names: Vec<(String, Option<Regex>)>,
    exit_codes: Vec<i32>,
    exposed: Vec<Ports>,
    published: Vec<Ports>,
    created: Moments,
    tasks: Option<bool>,
}

/// Bounds of the time of creation, both exclusive.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

/// `80`, `80/udp`, `8000-8010/tcp`
struct Ports {
    numbers: RangeInclusive<u16>,
    protocol: Protocol,
}

impl Selection {
    /// Reads the request. `created` tells when a container that `before` or `since` names was created.
    pub fn read(
        params: &params::ContainerList,
        created: impl Fn(&str) -> Result<Timestamp, ApiError>,
    ) -> Result<Self, ApiError> {
        let filters = &params.filters;
        filters.allow(&KEYS)?;
        for (key, words) in [("status", &STATES[..]), ("health", &HEALTH[..])] {
            if filters.values(key).any(|value| !words.contains(&value)) {
                return Err(filters.invalid(key).into());
            }
        }
        // Several are allowed, and the last one counts.
        let moment = |key: &str, older: &Option<String>| {
            let term = filters.values(key).last().or(older.as_deref().filter(|term| !term.is_empty()));
            term.map(&created).transpose()
        };
        let created =
            Moments { before: moment("before", &params.before)?, since: moment("since", &params.since)? };
        Ok(Self {
            all: params.all || filters.contains("status"),
            limit: params.limit.filter(|limit| *limit > 0).and_then(|limit| usize::try_from(limit).ok()),
            names: filters.values("name").map(|name| (name.to_owned(), Regex::new(name).ok())).collect(),
            exit_codes: each(filters, "exited", |value| value.parse().ok())?,
            exposed: each(filters, "expose", Ports::parse)?,
            published: each(filters, "publish", Ports::parse)?,
            tasks: filters.boolean("is-task")?,
            filters: filters.clone(),
            created,
        })
    }

    /// The selected ones, youngest first, each with what the caller knows it by.
    pub fn of<'a, T>(
        &self,
        containers: impl Iterator<Item = (Shown<'a>, T)>,
        around: &dyn Surroundings,
    ) -> Vec<(Shown<'a>, T)> {
        let ancestors = self.ancestors(around);
        let mut list: Vec<_> =
            containers.filter(|(shown, _)| self.takes(*shown, ancestors.as_ref(), around)).collect();
        list.sort_by_key(|(shown, _)| std::cmp::Reverse(shown.record.created));
        list.truncate(self.limit.unwrap_or(usize::MAX));
        list
    }

    fn takes(
        &self,
        shown: Shown<'_>,
        ancestors: Option<&BTreeSet<Digest>>,
        around: &dyn Surroundings,
    ) -> bool {
        let (record, state, filters) = (shown.record, shown.state, &self.filters);
        let label = |key: &str| record.config.labels.get(key).map(String::as_str);
        let created = record.created;
        (self.all || self.limit.is_some() || shown.is_running())
            && filters.prefix("id", record.id.as_str())
            && self.has_name(&record.name)
            && filters.labels("label", label)
            && self.created.before.is_none_or(|moment| created < moment)
            && self.created.since.is_none_or(|moment| created > moment)
            && self.has_exit_code(shown)
            && filters.exact("status", state.status())
            && filters.exact("health", health_word(state))
            && self.tasks != Some(true)
            && ancestors.is_none_or(|ancestors| ancestors.contains(&record.image))
            && self.has_volume(shown)
            && self.has_network(shown, around)
            && self.has_port(shown)
    }

    /// Names match with and without their slash.
    fn has_name(&self, name: &str) -> bool {
        let plain = name.trim_start_matches('/');
        let matches = |(text, pattern): &(String, Option<Regex>)| {
            text == name
                || text == plain
                || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name) || pattern.is_match(plain))
        };
        self.names.is_empty() || self.names.iter().any(matches)
    }

    fn has_exit_code(&self, shown: Shown<'_>) -> bool {
        let ended = !shown.is_running() && shown.has_started();
        self.exit_codes.is_empty() || (ended && self.exit_codes.contains(&shown.state.exit_code))
    }

    /// By a volume's name, a bind's source, or the place in the container.
    fn has_volume(&self, shown: Shown<'_>) -> bool {
        let has = |value: &str| {
            shown.record.mounts.iter().any(|mount| {
                let is_source = match mount.kind {
                    MountType::Volume => mount.name == value,
                    _ => mount.source.as_os_str() == value,
                };
                is_source || mount.destination == value
            })
        };
        !self.filters.contains("volume") || self.filters.values("volume").any(has)
    }

    fn has_network(&self, shown: Shown<'_>, around: &dyn Surroundings) -> bool {
        if !self.filters.contains("network") {
            return true;
        }
        let Ok(mode) = shown.record.host_config.network_mode.parse::<NetworkMode>();
        let terms = shown.record.endpoints.keys().map(String::as_str).chain(mode.network());
        let networks: Vec<_> = terms.filter_map(|term| around.network(term)).collect();
        let has = |value: &str| {
            networks.iter().any(|network| network.name == value || network.id.as_str().starts_with(value))
        };
        self.filters.values("network").any(has)
    }

    /// By what the list shows of ports: `publish` means the host's, `expose` the container's; one of both is enough.
    fn has_port(&self, shown: Shown<'_>) -> bool {
        let asked = !self.published.is_empty() || !self.exposed.is_empty();
        let fits = |port: &PortView| {
            port.public().is_some_and(|number| Ports::any(&self.published, number, port.protocol()))
                || Ports::any(&self.exposed, port.private(), port.protocol())
        };
        !asked || ports(shown).iter().any(fits)
    }

    fn ancestors(&self, around: &dyn Surroundings) -> Option<BTreeSet<Digest>> {
        let asked = self.filters.contains("ancestor");
        asked.then(|| self.filters.values("ancestor").filter_map(|name| around.image(name)).collect())
    }
}

impl Ports {
    fn parse(text: &str) -> Option<Self> {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        Some(Self { numbers: first..=last, protocol: protocol.parse().ok()? }).filter(|_| first <= last)
    }

    fn any(wanted: &[Self], number: u16, protocol: &str) -> bool {
        wanted.iter().any(|one| one.protocol.as_str() == protocol && one.numbers.contains(&number))
    }
}

fn each<T>(filters: &Filters, key: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, ApiError> {
    let values: Option<Vec<T>> = filters.values(key).map(read).collect();
    values.ok_or_else(|| filters.invalid(key).into())
}
