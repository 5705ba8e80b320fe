//! Responses to `GET /containers/json` that still hold: monitoring asks for the same list over and over.
//!
//! A list follows from the containers, the images' names, the networks and the passing of time, for `Status` tells how
//! long ago things happened. A response is kept with what it was made of ([`World`]) and the moment when a text in it
//! changes; it is given out again only while all of that is the same. What the world is like is asked before a list is
//! made: a change meanwhile makes the list newer than its key, never older.
//!
//! Where one container out of a thousand has changed, the others' entries are taken from the last list ([`Entries`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::api::spec::params;
use crate::api::versions::ApiVersion;
use crate::base::id::ContainerId;
use crate::base::time::Timestamp;
use crate::container::Published;
use crate::container::links::LinkNames;
use crate::engine::Engine;
use crate::image;
use crate::network::Network;

/// Responses to different requests that are kept.
const KEPT: usize = 4;

/// The latest responses.
#[derive(Default)]
pub struct Lists {
    kept: Mutex<Vec<Kept>>,
    entries: Mutex<Entries>,
}

/// Single containers as they were in the last list.
#[derive(Default)]
pub struct Entries {
    /// What they were made of beside their containers.
    made_in: Option<(World, ApiVersion)>,
    by_container: HashMap<ContainerId, Entry>,
}

struct Entry {
    /// Held, so that no other can get its place.
    of: Arc<Published>,
    /// What others' links call it.
    links: Vec<String>,
    term: Term,
    json: Vec<u8>,
}

/// Which list was asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Question {
    pub params: params::ContainerList,
    pub version: ApiVersion,
}

/// When an answer was made and when a text in it changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Term {
    pub made: Timestamp,
    /// Absent if nothing in it depends on the time.
    pub until: Option<Timestamp>,
}

struct Kept {
    question: Question,
    world: World,
    term: Term,
    body: Bytes,
}

/// Everything but time that lists are made of. Parts that are replaced whole are compared by identity; they are held
/// here, so that no other can get their place.
#[derive(Clone)]
pub struct World {
    containers: u64,
    images: Arc<image::State>,
    networks: Vec<Arc<Network>>,
}

impl World {
    /// The engine's, at this moment.
    pub fn of(engine: &Engine) -> Self {
        Self {
            containers: engine.containers.generation(),
            images: engine.images.state(),
            networks: engine.networks.list(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        self.containers == other.containers && self.is_around(other)
    }

    /// The same but for the containers.
    fn is_around(&self, other: &Self) -> bool {
        let same = |(one, other): (&Arc<Network>, &Arc<Network>)| Arc::ptr_eq(one, other);
        Arc::ptr_eq(&self.images, &other.images)
            && self.networks.len() == other.networks.len()
            && self.networks.iter().zip(&other.networks).all(same)
    }
}

impl Term {
    /// A clock that was set back ends it too.
    fn holds(&self, now: Timestamp) -> bool {
        self.made <= now && self.until.is_none_or(|until| now < until)
    }
}

impl Entries {
    /// The list of `containers` at the moment `now`, and when a text in it changes; `make` makes an entry of a container
    /// and its names in `links`, and tells when a text in that changes.
    pub fn list<'a>(
        &mut self,
        containers: impl ExactSizeIterator<Item = &'a Arc<Published>>,
        links: &LinkNames,
        now: Timestamp,
        make: impl Fn(&Published, &[String]) -> Result<(Vec<u8>, Option<Timestamp>), serde_json::Error>,
    ) -> Result<(Bytes, Option<Timestamp>), serde_json::Error> {
        // Those of removed containers go with the next list.
        if self.by_container.len() > 2 * containers.len() {
            self.by_container.clear();
        }
        let (mut body, mut first_change) = (vec![b'['], None);
        for published in containers {
            let known = self.by_container.get(&published.record.id);
            let links = links.of(&published.record.id);
            let is_of = |entry: &Entry| Arc::ptr_eq(&entry.of, published) && entry.links == links;
            if !known.is_some_and(|entry| is_of(entry) && entry.term.holds(now)) {
                let (json, until) = make(published, links)?;
                let term = Term { made: now, until };
                let entry = Entry { of: published.clone(), links: links.to_vec(), term, json };
                self.by_container.insert(published.record.id.clone(), entry);
            }
            if body.len() > 1 {
                body.push(b',');
            }
            if let Some(entry) = self.by_container.get(&published.record.id) {
                body.extend_from_slice(&entry.json);
                first_change = [first_change, entry.term.until].into_iter().flatten().min();
            }
        }
        body.extend_from_slice(b"]\n");
        Ok((body.into(), first_change))
    }
}

impl Lists {
    /// The entries that hold in `world`.
    pub fn entries(&self, world: &World, version: ApiVersion) -> MutexGuard<'_, Entries> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let same = entries.made_in.as_ref().is_some_and(|(made, of)| made.is_around(world) && *of == version);
        if !same {
            *entries = Entries { made_in: Some((world.clone(), version)), ..Entries::default() };
        }
        entries
    }

    /// The answer to `question`, if one that was made in the same `world` still holds.
    pub fn find(&self, question: &Question, world: &World, now: Timestamp) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().find(|kept| kept.question == *question)?;
        (found.term.holds(now) && found.world.is(world)).then(|| found.body.clone())
    }

    /// Keeps an answer that was made in `world` in place of an earlier one, or of the oldest.
    pub fn keep(&self, question: Question, world: World, term: Term, body: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|kept| kept.question != question);
        if kept.len() == KEPT {
            kept.remove(0);
        }
        kept.push(Kept { question, world, term, body });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::filters::Filters;
    use crate::base::digest::Digest;
    use crate::container::Record;
    use crate::container::links::Link;
    use crate::container::state::State;

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn question(all: bool) -> Question {
        let params = params::ContainerList {
            all,
            before: None,
            filters: Filters::default(),
            limit: None,
            since: None,
            size: false,
        };
        Question { params, version: ApiVersion::NEWEST }
    }

    #[test]
    fn an_answer_is_given_again_only_while_nothing_it_is_made_of_has_changed() {
        let world = World { containers: 7, images: Arc::default(), networks: vec![] };
        let lists = Lists::default();
        let term = Term { made: at(100), until: Some(at(200)) };
        lists.keep(question(true), world.clone(), term, Bytes::from_static(b"[]"));
        let finds = |question: &Question, world: &World, now| lists.find(question, world, at(now)).is_some();
        assert!(finds(&question(true), &world, 100) && finds(&question(true), &world, 199));
        assert!(!finds(&question(true), &world, 200), "a text has changed");
        assert!(!finds(&question(true), &world, 99), "the clock was set back");
        assert!(!finds(&question(false), &world, 150), "another question");
        let older = Question { version: ApiVersion::of_minor(41), ..question(true) };
        assert!(!finds(&older, &world, 150), "another version");
        for (changed, what) in [
            (World { containers: 8, ..world.clone() }, "a container"),
            (World { images: Arc::default(), ..world.clone() }, "an image"),
        ] {
            assert!(!finds(&question(true), &changed, 150), "{what}");
        }
    }

    #[test]
    fn an_entry_is_made_anew_only_when_its_container_or_a_text_has_changed() {
        let world = World { containers: 7, images: Arc::default(), networks: vec![] };
        let lists = Lists::default();
        let digest = Digest::of(b"");
        let record = serde_json::json!({
            "id": ContainerId::random(), "name": "/web", "created": at(0), "image": digest, "manifest": digest,
            "chain": [], "platform": "linux", "args": [], "config": {}, "host_config": {}, "endpoints": {}, "mounts": [],
        });
        let record: Arc<Record> = Arc::new(serde_json::from_value(record).unwrap());
        let first = Arc::new(Published::at_rest(record.clone(), State::default()));
        let second = Arc::new(Published::at_rest(record.clone(), State::default()));
        let made = std::cell::Cell::new(0);
        let links = std::cell::RefCell::new(LinkNames::default());
        let list = |world: &World, version, published: &Arc<Published>, now| {
            let mut entries = lists.entries(world, version);
            let body = entries.list([published].into_iter(), &links.borrow(), at(now), |_, _| {
                made.set(made.get() + 1);
                Ok((made.get().to_string().into_bytes(), Some(at(200))))
            });
            let (body, until) = body.unwrap();
            assert_eq!(until, Some(at(200)));
            String::from_utf8(body.to_vec()).unwrap()
        };
        let newest = ApiVersion::NEWEST;
        assert_eq!(list(&world, newest, &first, 100), "[1]\n");
        assert_eq!(list(&World { containers: 8, ..world.clone() }, newest, &first, 150), "[1]\n");
        assert_eq!(list(&world, newest, &first, 200), "[2]\n", "a text has changed");
        assert_eq!(list(&world, newest, &second, 200), "[3]\n", "the container has changed");
        assert_eq!(list(&world, ApiVersion::of_minor(41), &second, 200), "[4]\n", "another version");
        assert_eq!(
            list(&World { images: Arc::default(), ..world }, newest, &second, 200),
            "[5]\n",
            "an image"
        );
        let link = Link { container: record.id.clone(), alias: "db".to_owned(), name: String::new() };
        let parent = Arc::new(Record { links: vec![link], ..(*record).clone() });
        let parent = Published::at_rest(parent, State::default());
        *links.borrow_mut() = LinkNames::given_by([&parent].into_iter());
        let changed = World {
            images: Arc::default(),
            ..World { containers: 9, images: Arc::default(), networks: vec![] }
        };
        assert_eq!(list(&changed, newest, &second, 150), "[6]\n", "another world");
        assert_eq!(list(&changed, newest, &second, 150), "[6]\n");
        *links.borrow_mut() = LinkNames::default();
        assert_eq!(list(&changed, newest, &second, 150), "[7]\n", "a link is gone");
    }

    #[test]
    fn few_answers_are_kept() {
        let world = World { containers: 0, images: Arc::default(), networks: vec![] };
        let lists = Lists::default();
        for minor in 30..50 {
            let question = Question { version: ApiVersion::of_minor(minor), ..question(true) };
            for _ in 0..2 {
                let term = Term { made: at(0), until: None };
                lists.keep(question.clone(), world.clone(), term, Bytes::new());
            }
        }
        assert_eq!(lists.kept.lock().unwrap().len(), KEPT);
    }
}
