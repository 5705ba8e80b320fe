//! The index in memory: every lookup and list is answered from here, never by reading storage. Readers take a
//! snapshot; writers publish a new one after the database has committed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::assemble::Target;
use super::database::{Change, Record};
use super::error::ImageError;
use super::name::Name;
use crate::base::digest::Digest;
use crate::base::time::Timestamp;
use crate::registry::manifest::Descriptor;
use crate::registry::{AnyReference, Reference};

/// Fewer digits are never taken for a short id (as dockerd).
const SHORTEST_ID: usize = 4;

/// What is known of all images at one moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    records: BTreeMap<Name, Record>,
    by_target: BTreeMap<Digest, BTreeSet<Name>>,
    targets: BTreeMap<Digest, Arc<Target>>,
}

impl State {
    /// All records, ordered by name.
    pub fn records(&self) -> impl Iterator<Item = (&Name, &Record)> {
        self.records.iter()
    }

    /// The record of a name.
    pub fn record(&self, name: &Name) -> Option<&Record> {
        self.records.get(name)
    }

    /// The names of a target, ordered.
    pub fn names(&self, target: &Digest) -> impl Iterator<Item = &Name> {
        self.by_target.get(target).into_iter().flatten()
    }

    /// Everything that records lead to, held images included.
    pub fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    /// What is known of a target.
    pub fn target(&self, digest: &Digest) -> Option<&Arc<Target>> {
        self.targets.get(digest)
    }

    /// Adds or replaces what is known of a target; it stays only while a record leads to it.
    pub fn learn(&mut self, target: Arc<Target>) {
        self.targets.insert(target.descriptor.digest, target);
    }

    /// Applies changes that the database has committed.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Set(name, record) => {
                    self.forget(name);
                    self.by_target.entry(record.target.digest).or_default().insert(name.clone());
                    self.records.insert(name.clone(), record.clone());
                }
                Change::Remove(name) => self.forget(name),
            }
        }
        self.targets.retain(|digest, _| self.by_target.contains_key(digest));
    }

    fn forget(&mut self, name: &Name) {
        let Some(old) = self.records.remove(name) else { return };
        if let Some(names) = self.by_target.get_mut(&old.target.digest) {
            names.remove(name);
            if names.is_empty() {
                self.by_target.remove(&old.target.digest);
            }
        }
    }

    /// The target that `text` names: by digest, `name@digest`, `name:tag` and then by the beginning of an id.
    pub fn find(&self, text: &str) -> Result<&Arc<Target>, ImageError> {
        let parsed: AnyReference = text.parse()?;
        let digest = match &parsed {
            AnyReference::Digest(digest) => self.is_visible(digest).then_some(*digest),
            AnyReference::Named(reference) => match reference.digest() {
                Some(digest) => self.has_repository(digest, reference).then_some(*digest),
                None => match self.records.get(&Name::Reference(reference.clone().or_latest())) {
                    Some(record) => Some(record.target.digest),
                    None => self.find_short(text)?,
                },
            },
        };
        digest.and_then(|d| self.targets.get(&d)).ok_or(ImageError::NotFound(parsed))
    }

    /// True if users may see it: by a name, or as dangling.
    pub fn is_visible(&self, target: &Digest) -> bool {
        self.names(target).any(|name| !matches!(name, Name::Held(_)))
    }

    /// A digest only counts for the repositories that the image came from.
    fn has_repository(&self, target: &Digest, wanted: &Reference) -> bool {
        self.names(target)
            .filter_map(Name::reference)
            .any(|r| r.domain() == wanted.domain() && r.path() == wanted.path())
    }

    fn find_short(&self, text: &str) -> Result<Option<Digest>, ImageError> {
        let Some(prefix) = short_id(text) else { return Ok(None) };
        let lowest = Digest::from_hex(&format!("{prefix:0<64}")).map_err(|_| ImageError::Ambiguous)?;
        let mut matching = self
            .by_target
            .range(lowest..)
            .map(|(digest, _)| digest)
            .take_while(|digest| digest.hex().starts_with(prefix))
            .filter(|digest| self.is_visible(digest));
        match (matching.next(), matching.next()) {
            (Some(_), Some(_)) => Err(ImageError::Ambiguous),
            (found, _) => Ok(found.copied()),
        }
    }

    /// What has to change for `reference` to lead to `target`: an image that loses its last name by it becomes
    /// dangling, one that gets a name is dangling no more.
    pub fn pointing(
        &self,
        reference: &Reference,
        target: &Descriptor,
        parent: Option<Digest>,
    ) -> Vec<Change> {
        let name = Name::Reference(reference.clone());
        let now = Timestamp::now();
        let previous = self.records.get(&name);
        let mut changes = Vec::new();
        if let Some(old) = previous
            && old.target.digest != target.digest
            && self.names(&old.target.digest).all(|n| *n == name)
        {
            changes
                .push(Change::Set(Name::Dangling(old.target.digest), Record { updated: now, ..old.clone() }));
        }
        for name in [Name::Dangling(target.digest), Name::Held(target.digest)] {
            if self.records.contains_key(&name) {
                changes.push(Change::Remove(name));
            }
        }
        let created = previous.map_or(now, |old| old.created);
        let record = Record { target: target.clone(), created, updated: now, parent };
        changes.push(Change::Set(name, record));
        changes
    }

    /// What has to change for `target` to be there at all: a dangling record, unless it has a name already.
    pub fn keeping(&self, target: &Descriptor, parent: Option<Digest>) -> Vec<Change> {
        if self.is_visible(&target.digest) {
            return Vec::new();
        }
        let now = Timestamp::now();
        let record = Record { target: target.clone(), created: now, updated: now, parent };
        let mut changes = vec![Change::Set(Name::Dangling(target.digest), record)];
        if self.records.contains_key(&Name::Held(target.digest)) {
            changes.push(Change::Remove(Name::Held(target.digest)));
        }
        changes
    }
}

/// The hexadecimal digits if `text` could be the beginning of an id.
pub fn short_id(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    ((SHORTEST_ID..=64).contains(&digits.len()) && digits.bytes().all(hex)).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::manifest::OCI_INDEX;

    fn digest(n: u8) -> Digest {
        let mut bytes = [0xab; 32];
        bytes[2] = n;
        Digest::from(bytes)
    }

    fn add(state: &mut State, name: &str, n: u8) {
        let target = Descriptor::new(OCI_INDEX, digest(n), 2);
        state.learn(Arc::new(Target::empty(target.clone())));
        let changes = match name {
            "" => state.keeping(&target, None),
            name => state.pointing(&name.parse::<Reference>().unwrap().or_latest(), &target, None),
        };
        state.apply(&changes);
    }

    fn names(state: &State) -> Vec<String> {
        state.records().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn images_are_found_by_name_digest_and_short_id() {
        let mut state = State::default();
        add(&mut state, "busybox", 0x10);
        add(&mut state, "localhost:5000/app:1", 0x20);
        add(&mut state, "", 0x30);
        let (one, two) = (digest(0x10), digest(0x20));
        for (text, found) in [
            ("busybox", one),
            ("docker.io/library/busybox:latest", one),
            (&one.to_string(), one),
            (&one.hex(), one),
            ("abab1", one),
            ("sha256:abab1", one),
            ("abab20ab", two),
            ("abab30", digest(0x30)),
            (&format!("busybox@{one}"), one),
            (&format!("busybox:other@{one}"), one),
        ] {
            assert_eq!(state.find(text).unwrap().descriptor.digest, found, "{text}");
        }
        for (text, message) in [
            ("abab", "ambiguous reference"),
            ("aba", "No such image: aba:latest"),
            ("nosuch", "No such image: nosuch:latest"),
            ("busybox:2", "No such image: busybox:2"),
            ("abab4", "No such image: abab4:latest"),
            (&format!("busybox@{two}"), &format!("No such image: busybox@{two}")),
            ("a:b:c", "invalid reference format"),
        ] {
            assert_eq!(state.find(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn an_image_that_loses_its_last_name_dangles_until_it_has_one_again() {
        let mut state = State::default();
        add(&mut state, "a:1", 1);
        add(&mut state, "a:1", 2);
        assert_eq!(names(&state), ["docker.io/library/a:1", &format!("moby-dangling@{}", digest(1))]);
        add(&mut state, "b:1", 1);
        assert_eq!(names(&state), ["docker.io/library/a:1", "docker.io/library/b:1"]);
        add(&mut state, "b:2", 1);
        add(&mut state, "b:1", 2);
        assert_eq!(state.names(&digest(1)).count(), 1);
        assert_eq!(state.targets().count(), 2);
        state.apply(&[Change::Remove(Name::Reference("b:2".parse().unwrap()))]);
        assert_eq!(state.targets().count(), 1);
    }
}
