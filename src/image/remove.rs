//! Removing names and images by dockerd's rules: what is used is kept, one name of several goes alone, and an image
//! goes with its last name.

use std::collections::BTreeSet;

use super::database::{Change, Record};
use super::error::{ConflictReason, Force, ImageError};
use super::name::Name;
use super::state::{State, short_id};
use super::{Images, not_found};
use crate::base::digest::Digest;
use crate::base::id::ContainerId;
use crate::base::time::Timestamp;
use crate::registry::{AnyReference, Reference};

/// A container that was made of an image, or mounts it.
#[derive(Clone, Debug)]
pub struct ImageUser {
    pub container: ContainerId,
    pub activity: Activity,
    /// The image as the container's creator named it.
    pub named: String,
    pub purpose: Purpose,
}

/// What a container needs an image for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It was made of it.
    Root,
    /// It mounts it.
    Mount,
}

/// Whether a container's processes exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Running,
    Stopped,
}

/// Says which containers use an image. Called while the image database is locked: it must only look.
pub type Users<'a> = &'a dyn Fn(&Digest) -> Vec<ImageUser>;

/// How far a removal may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoveMode {
    /// Only what nothing uses.
    Careful,
    /// Also what stopped containers use and what has several names.
    Forced,
}

/// What a removal did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name, as people write it.
    Untagged(String),
    /// The image itself.
    Deleted(Digest),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
struct Decision {
    id: Digest,
    changes: Vec<Change>,
    removed: Vec<Removed>,
}

impl Images {
    /// Removes a name, or the image with all of its names, and frees what nothing needs any more. Blocks.
    pub fn remove(
        &self,
        reference: &str,
        mode: RemoveMode,
        users: Users<'_>,
    ) -> Result<Vec<Removed>, ImageError> {
        let before = self.state();
        let decision = self.change(None, |state| {
            let decision = decide(state, reference, mode, users)?;
            Ok((decision.changes.clone(), decision))
        })?;
        let id = decision.id.to_string();
        for removed in &decision.removed {
            match removed {
                Removed::Untagged(name) => self.report_of(&before, "untag", &id, name, &decision.id),
                Removed::Deleted(_) => self.report_of(&before, "delete", &id, &id, &decision.id),
            }
        }
        if let Some(target) = before.target(&decision.id) {
            self.free(target)?;
        }
        Ok(decision.removed)
    }

    /// Frees an image that was removed by force while containers used it, once the last of them has gone. Blocks.
    pub fn let_go(&self, id: &Digest, users: Users<'_>) -> Result<(), ImageError> {
        let (held, before) = (Name::Held(*id), self.state());
        let Some(target) = before.target(id).filter(|_| before.record(&held).is_some()) else {
            return Ok(());
        };
        self.change(None, |state| {
            let free = state.record(&held).is_some() && users(id).is_empty();
            Ok((free.then(|| Change::Remove(held.clone())).into_iter().collect(), ()))
        })?;
        self.free(target).map(drop)
    }
}

fn decide(state: &State, text: &str, mode: RemoveMode, users: Users<'_>) -> Result<Decision, ImageError> {
    let parsed: AnyReference = text.parse()?;
    let exact = match &parsed {
        AnyReference::Named(reference) => {
            let name = Name::Reference(reference.clone().or_latest());
            state.record(&name).map(|record| record.target.digest)
        }
        AnyReference::Digest(_) => None,
    };
    let id = match exact {
        Some(id) => id,
        None => state.find(text)?.descriptor.digest,
    };
    let all: Vec<&Name> = state.names(&id).collect();
    let by_id = short_id(text).is_some_and(|prefix| id.hex().starts_with(prefix));
    if by_id {
        return everything(state, id, &all, mode, Several::of(mode), users);
    }
    let AnyReference::Named(named) = &parsed else { return Err(not_found(text)) };
    let named = if exact.is_some() { named.clone().or_latest() } else { named.clone() };
    let same = same_names(&named, &all);
    if same.is_empty() {
        return Err(ImageError::NotFound(parsed));
    }
    if same.len() != all.len() {
        return Ok(untag(id, &same));
    }
    if exact.is_some()
        && let Some(user) = users(&id).first()
    {
        return used(state, id, &named, &all, mode, user);
    }
    everything(state, id, &all, mode, Several::Allowed, users)
}

/// The last name of an image that a container uses goes by force only, and the image stays without a name.
fn used(
    state: &State,
    id: Digest,
    named: &Reference,
    all: &[&Name],
    mode: RemoveMode,
    user: &ImageUser,
) -> Result<Decision, ImageError> {
    let reference = named.familiar();
    if mode == RemoveMode::Careful {
        let (container, image) = (user.container.short().to_owned(), id.short());
        let reason = ConflictReason::Referenced { container, image };
        return Err(ImageError::Conflict { reference, force: Force::Must, reason });
    }
    let mut changes = removals(all);
    changes.extend(kept_as(state, Name::Dangling(id), all));
    Ok(Decision { id, changes, removed: vec![Removed::Untagged(reference)] })
}

/// Whether several names stand against a removal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Several {
    Allowed,
    Conflict,
}

impl Several {
    fn of(mode: RemoveMode) -> Self {
        if mode == RemoveMode::Forced { Self::Allowed } else { Self::Conflict }
    }
}

/// The image with all of its names.
fn everything(
    state: &State,
    id: Digest,
    all: &[&Name],
    mode: RemoveMode,
    several: Several,
    users: Users<'_>,
) -> Result<Decision, ImageError> {
    let conflict = |force, reason| Err(ImageError::Conflict { reference: id.short(), force, reason });
    let users = users(&id);
    // Mounts stand against the removal of a name alone, as dockerd has it.
    let first =
        |activity| users.iter().find(|user| user.purpose == Purpose::Root && user.activity == activity);
    if let Some(user) = first(Activity::Running) {
        return conflict(Force::Cannot, ConflictReason::Running(user.container.short().to_owned()));
    }
    if let Some(user) = first(Activity::Stopped)
        && mode == RemoveMode::Careful
    {
        return conflict(Force::Must, ConflictReason::Stopped(user.container.short().to_owned()));
    }
    if several == Several::Conflict && all.len() > 1 {
        return conflict(Force::Must, ConflictReason::SeveralRepositories);
    }
    let mut decision = untag(id, all);
    if !users.is_empty() {
        // The containers still need its layers: it goes with the last of them.
        decision.changes.extend(kept_as(state, Name::Held(id), all));
    }
    decision.removed.push(Removed::Deleted(id));
    Ok(decision)
}

fn untag(id: Digest, names: &[&Name]) -> Decision {
    let untagged = names.iter().filter_map(|name| name.reference());
    let removed = untagged.map(|reference| Removed::Untagged(reference.familiar())).collect();
    Decision { id, changes: removals(names), removed }
}

fn removals(names: &[&Name]) -> Vec<Change> {
    names.iter().map(|name| Change::Remove((*name).clone())).collect()
}

fn kept_as(state: &State, name: Name, all: &[&Name]) -> Option<Change> {
    let record = all.iter().find_map(|name| state.record(name))?;
    Some(Change::Set(name, Record { updated: Timestamp::now(), ..record.clone() }))
}

/// The names that mean the same as the one given: the tag itself; names by digest too, if no other tag of the
/// repository leads to the image; and what has no name at all.
fn same_names<'a>(named: &Reference, all: &[&'a Name]) -> Vec<&'a Name> {
    let any_tag = named.tag().is_none() && named.digest().is_some();
    let mut tag = named.tag().map(str::to_owned);
    let (mut same, mut by_digest, mut other_tag) = (Vec::new(), Vec::new(), false);
    for name in all {
        let Some(reference) = name.reference() else {
            same.push(*name);
            continue;
        };
        if reference.domain() != named.domain() || reference.path() != named.path() {
            continue;
        }
        match reference.tag() {
            _ if any_tag => same.push(*name),
            None => by_digest.push(*name),
            Some(found) if tag.as_deref().is_none_or(|tag| tag == found) => {
                tag = Some(found.to_owned());
                same.push(*name);
            }
            Some(_) => other_tag = true,
        }
    }
    if !other_tag {
        same.extend(by_digest);
    }
    // Each once, in the order of names.
    same.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::image::assemble::Target;
    use crate::registry::manifest::{Descriptor, OCI_INDEX};

    fn digest(n: u8) -> Digest {
        Digest::from([n; 32])
    }

    fn state(images: &[(u8, &[&str])]) -> State {
        let mut state = State::default();
        for (n, names) in images {
            let target = Descriptor::new(OCI_INDEX, digest(*n), 2);
            state.learn(Arc::new(Target::empty(target.clone())));
            let dangling = state.keeping(&target, None);
            state.apply(&dangling);
            for name in *names {
                let name: Reference = name.replace("@D", &format!("@{}", digest(*n))).parse().unwrap();
                let changes = state.pointing(&name, &target, None);
                state.apply(&changes);
            }
        }
        state
    }

    fn user(activity: Activity) -> ImageUser {
        let container = "c".repeat(64).parse().unwrap();
        ImageUser { container, activity, named: "busybox".to_owned(), purpose: Purpose::Root }
    }

    /// The reply as words, or the error; `used` is by whom.
    fn remove(state: &State, text: &str, mode: RemoveMode, used: &[Activity]) -> String {
        removed_with(state, text, mode, used.iter().map(|activity| user(*activity)).collect())
    }

    fn removed_with(state: &State, text: &str, mode: RemoveMode, users: Vec<ImageUser>) -> String {
        let users = |_: &Digest| users.clone();
        match decide(state, text, mode, &users) {
            Err(error) => error.to_string(),
            Ok(decision) => {
                let mut after = state.clone();
                after.apply(&decision.changes);
                let left = after.names(&decision.id).map(|name| match name {
                    Name::Reference(reference) => reference.familiar(),
                    Name::Dangling(_) => "<none>".to_owned(),
                    Name::Held(_) => "held".to_owned(),
                });
                let words = decision.removed.iter().map(|removed| match removed {
                    Removed::Untagged(name) => format!("-{name}"),
                    Removed::Deleted(_) => "deleted".to_owned(),
                });
                let words: Vec<_> = words.chain(left.map(|name| format!("left {name}"))).collect();
                words.join(" ")
            }
        }
    }

    #[test]
    fn removal_follows_dockerds_rules() {
        use Activity::{Running, Stopped};
        use RemoveMode::{Careful, Forced};
        let id = &digest(0x1a).hex()[..12];
        let one = state(&[(0x1a, &["a:1"])]);
        let two = state(&[(0x1a, &["a:1", "b:1"])]);
        let tags = state(&[(0x1a, &["a:1", "a:2", "a@D"])]);
        let pinned = state(&[(0x1a, &["a:1", "a@D"])]);
        let nameless = state(&[(0x1a, &[])]);
        let conflict = |what: &str, force: &str, why: &str| {
            format!("conflict: unable to delete {what} ({force}) - {why}")
        };
        let running =
            conflict(id, "cannot be forced", "image is being used by running container cccccccccccc");
        let stopped = conflict(id, "must be forced", "image is being used by stopped container cccccccccccc");
        let used = conflict(
            "a:1",
            "must be forced",
            &format!("container cccccccccccc is using its referenced image {id}"),
        );
        let several = conflict(id, "must be forced", "image is referenced in multiple repositories");
        let cases: &[(&State, &str, RemoveMode, &[Activity], &str)] = &[
            (&one, "a:1", Careful, &[], "-a:1 deleted"),
            (&one, id, Careful, &[], "-a:1 deleted"),
            (&one, "a", Careful, &[], "No such image: a:latest"),
            (&one, "a:1", Careful, &[Stopped], &used),
            (&one, "a:1", Careful, &[Running], &used),
            (&one, "a:1", Forced, &[Running], "-a:1 left <none>"),
            (&one, id, Careful, &[Running], &running),
            (&one, id, Forced, &[Running], &running),
            (&one, id, Careful, &[Stopped], &stopped),
            (&one, id, Forced, &[Stopped], "-a:1 deleted left held"),
            (&two, "a:1", Careful, &[Running], "-a:1 left b:1"),
            (&two, id, Careful, &[], &several),
            (&two, id, Forced, &[], "-a:1 -b:1 deleted"),
            (&tags, "a:1", Careful, &[], "-a:1 left a@D left a:2"),
            (&pinned, "a:1", Careful, &[], "-a@D -a:1 deleted"),
            (&pinned, "a@D", Careful, &[], "-a@D -a:1 deleted"),
            (&two, "b@D", Careful, &[], "-b:1 left a:1"),
            (&two, "c@D", Careful, &[], "No such image: c@D"),
            (&nameless, id, Careful, &[], "deleted"),
        ];
        let digested = format!("@{}", digest(0x1a));
        for (state, text, mode, used, expected) in cases {
            let text = text.replace("@D", &digested);
            let result = remove(state, &text, *mode, used).replace(&digested, "@D");
            assert_eq!(&result, expected, "{text} {mode:?} {used:?}");
        }
    }

    #[test]
    fn a_mount_keeps_the_last_name_and_always_the_content() {
        use Activity::{Running, Stopped};
        let id = &digest(0x1a).hex()[..12];
        let one = state(&[(0x1a, &["a:1"])]);
        for activity in [Running, Stopped] {
            let removed = |text: &str, mode| {
                removed_with(&one, text, mode, vec![ImageUser { purpose: Purpose::Mount, ..user(activity) }])
            };
            assert!(removed("a:1", RemoveMode::Careful).contains("is using its referenced image"));
            assert_eq!(removed("a:1", RemoveMode::Forced), "-a:1 left <none>");
            assert_eq!(removed(id, RemoveMode::Careful), "-a:1 deleted left held");
        }
    }
}
