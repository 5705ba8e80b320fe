//! `/system/df`: what takes room, in the shape of the request's version.

use serde_json::{Map, Value, json};

/// One kind of object.
pub struct Usage {
    pub items: Vec<Item>,
    /// Bytes of all items together, what they share counted once.
    pub total: u64,
}

/// One object of a list.
pub struct Item {
    pub view: Value,
    /// Bytes of this item alone.
    pub own: u64,
    pub activity: Activity,
}

/// Whether removing what is not used would remove the object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activity {
    Used,
    Unused,
}

impl Usage {
    /// Objects that share nothing.
    pub fn of(items: Vec<Item>) -> Self {
        let total = items.iter().map(|item| item.own).sum();
        Self { items, total }
    }

    fn used(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.activity == Activity::Used)
    }

    fn numbers(&self) -> Value {
        let kept: u64 = self.used().map(|item| item.own).sum();
        json!({
            "ActiveCount": self.used().count(),
            "TotalCount": self.items.len(),
            "TotalSize": self.total,
            "Reclaimable": self.total.saturating_sub(kept),
        })
    }

    fn with_items(self) -> Value {
        let mut reply = self.numbers();
        reply["Items"] = self.list();
        reply
    }

    fn list(self) -> Value {
        self.items.into_iter().map(|item| item.view).collect()
    }
}

/// What the numbers of each kind are called since 1.52, in the order of [`Report`].
const NUMBERS: [&str; 4] = ["ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"];

/// What was asked for; absent kinds were not.
#[derive(Default)]
pub struct Report {
    pub images: Option<Usage>,
    pub containers: Option<Usage>,
    pub volumes: Option<Usage>,
    /// There is none to count: builds are not served.
    pub build_cache: Option<Usage>,
}

impl Report {
    /// Versions since 1.52 that ask for the objects: they are beside their kind's numbers.
    pub fn with_items(self) -> Value {
        let kinds = NUMBERS.into_iter().zip([self.images, self.containers, self.volumes, self.build_cache]);
        let shown = kinds.filter_map(|(name, usage)| Some((name, usage?.with_items())));
        Value::Object(shown.map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// Versions since 1.52 that do not: numbers by kind, and the lists of older versions, which dockerd keeps for
    /// clients that look for nothing else.
    pub fn numbers_and_lists(self) -> Value {
        let kinds = [&self.images, &self.containers, &self.volumes, &self.build_cache];
        let numbers = kinds.map(|usage| usage.as_ref().map(Usage::numbers));
        let mut reply = self.lists();
        for (name, numbers) in NUMBERS.into_iter().zip(numbers) {
            if let Some(numbers) = numbers {
                reply[name] = numbers;
            }
        }
        reply
    }

    /// Versions before 1.52: lists, which clients add up themselves.
    pub fn lists(self) -> Value {
        let layers = self.images.as_ref().map_or(0, |images| images.total);
        let kinds = [
            ("Images", self.images),
            ("Containers", self.containers),
            ("Volumes", self.volumes),
            ("BuildCache", self.build_cache),
        ];
        let mut reply = Map::from_iter([("LayersSize".to_owned(), json!(layers))]);
        for (name, usage) in kinds {
            reply.extend(usage.map(|usage| (name.to_owned(), usage.list())));
        }
        Value::Object(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let item = |own, activity| Item { view: json!({ "own": own }), own, activity };
        let images = Usage { items: vec![item(10, Activity::Used), item(5, Activity::Unused)], total: 40 };
        Report {
            images: Some(images),
            volumes: Some(Usage::of(vec![item(3, Activity::Unused), item(4, Activity::Used)])),
            ..Report::default()
        }
    }

    #[test]
    fn what_no_used_object_has_for_itself_can_be_reclaimed() {
        let numbers = report().numbers_and_lists();
        let images = json!({ "ActiveCount": 1, "TotalCount": 2, "TotalSize": 40, "Reclaimable": 30 });
        let volumes = json!({ "ActiveCount": 1, "TotalCount": 2, "TotalSize": 7, "Reclaimable": 3 });
        assert_eq!((&numbers["ImageUsage"], &numbers["VolumeUsage"]), (&images, &volumes));
        let items = report().with_items();
        assert_eq!(items["VolumeUsage"]["Items"], json!([{ "own": 3 }, { "own": 4 }]));
        assert_eq!(items["LayersSize"], json!(null));
    }

    #[test]
    fn numbers_come_with_the_lists_of_older_versions() {
        let numbers = report().numbers_and_lists();
        assert_eq!(numbers["LayersSize"], json!(40));
        assert_eq!(numbers["Volumes"], json!([{ "own": 3 }, { "own": 4 }]));
        assert_eq!(numbers["VolumeUsage"]["Items"], json!(null));
    }

    #[test]
    fn older_versions_get_lists() {
        let lists = json!({
            "LayersSize": 40,
            "Images": [{ "own": 10 }, { "own": 5 }],
            "Volumes": [{ "own": 3 }, { "own": 4 }],
        });
        assert_eq!(report().lists(), lists);
    }
}
