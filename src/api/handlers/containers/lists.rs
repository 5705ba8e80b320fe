//! Responses to `GET /containers/json` that still hold: monitoring asks for the same list over and over.
//!
//! A list follows from the containers, the images' names, the networks and the passing of time, for `Status` tells how
//! long ago things happened. A response is kept with what it was made of ([`World`]) and the moment when a text in it
//! changes; it is given out again only while all of that is the same. What the world is like is asked before a list is
//! made: a change meanwhile makes the list newer than its key, never older.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::api::spec::params;
use crate::api::versions::ApiVersion;
use crate::base::time::Timestamp;
use crate::engine::Engine;
use crate::image;
use crate::network::Network;

/// Responses to different requests that are kept.
const KEPT: usize = 4;

/// The latest responses.
#[derive(Default)]
pub struct Lists {
    kept: Mutex<Vec<Kept>>,
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
        let same = |(one, other): (&Arc<Network>, &Arc<Network>)| Arc::ptr_eq(one, other);
        self.containers == other.containers
            && Arc::ptr_eq(&self.images, &other.images)
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

impl Lists {
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
