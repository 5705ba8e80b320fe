//! Specifications of mounts, put together from their parts and from anything.

use proptest::prelude::*;

use super::*;
use crate::base::testing::cases;

/// Whether a path from the root leads by names alone.
fn is_plain(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|names| names.split('/').all(|name| !matches!(name, "" | "." | "..")))
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_local_path_never_climbs_above_its_start(path in "(\\.|\\.\\.|a|/){0,10}") {
        let mut depth = 0;
        let steps = path.split('/').map(|part| match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        });
        let stays = steps.map(|step| { depth += step; depth }).all(|depth| depth >= 0);
        prop_assert_eq!(is_local(&path), stays && !path.starts_with('/'));
    }

    #[test]
    fn the_parts_of_a_short_form_are_found(
        source in "(/[a-z]{1,4}){1,2}|[a-z0-9]{2,5}",
        target in "(/[a-z]{1,4}){1,3}",
        access in "(ro|rw)?",
        label in "[zZ]?",
        propagation in prop::option::of(prop::sample::select(PROPAGATIONS.to_vec())),
    ) {
        let words = [access.as_str(), &label, propagation.unwrap_or_default()];
        let mode = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(",");
        let spec = if mode.is_empty() { format!("{source}:{target}") } else { format!("{source}:{target}:{mode}") };
        let point = short_form(&spec, "").unwrap();
        let bind = source.starts_with('/');
        prop_assert_eq!(point.kind == MountType::Bind, bind);
        prop_assert_eq!(if bind { point.source.to_str().unwrap() } else { &point.name }, source);
        prop_assert_eq!((point.destination, point.rw), (target, access != "ro"));
        if bind {
            prop_assert_eq!(point.propagation, propagation.unwrap_or("rprivate"));
        }
    }

    #[test]
    fn no_specification_mounts_on_the_root_or_outside_of_it(
        spec in "([a/:.]|\\.\\.|ro|rw|,|z|é|nocopy){0,12}|(/?a:)?/(\\.|\\.\\.|/|a){0,5}(:ro)?",
    ) {
        if let Ok(point) = short_form(&spec, "") {
            prop_assert!(point.destination.starts_with('/') && point.destination != "/", "{}", spec);
            prop_assert!(is_plain(&point.destination), "{}", spec);
            prop_assert!(point.kind != MountType::Bind || point.source.is_absolute());
        }
        if let Ok(target) = volume_target(&spec) {
            prop_assert!(is_plain(&target), "{}", spec);
        }
    }

    #[test]
    fn each_kind_of_mode_comes_once(
        words in prop::collection::vec("ro|rw|z|Z|nocopy|cached|slave|shared|x", 0..4),
    ) {
        let count = |kind: &[&str]| words.iter().filter(|word| kind.contains(&word.as_str())).count();
        let kinds: [&[&str]; 5] = [&["ro", "rw"], &["z", "Z"], &["nocopy"], &["cached"], &["slave", "shared"]];
        let fits = kinds.iter().all(|kind| count(kind) <= 1) && count(&["x"]) == 0;
        prop_assert_eq!(Modes::parse(&words.join(",")).is_ok(), fits);
    }
}
