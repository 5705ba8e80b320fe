//! Finds the operation that a method and path ask for.
//!
//! Names of images and plugins contain slashes, so a path is not cut into segments: literal paths come first, then
//! the route whose text before and after the name matches, the one with the most literal text winning
//! (`/containers/a/attach/ws` is not the `attach` of `a/attach`... nor an inspection of a container called so).

use std::sync::OnceLock;

use crate::api::spec::{ROUTES, Route};

/// A route and the names found in the path, from left to right.
#[derive(Debug)]
pub struct Matched {
    pub route: &'static Route,
    pub names: Vec<String>,
}

/// The route of `method` and `path` (decoded, without version prefix).
pub fn find(method: &str, path: &str) -> Option<Matched> {
    let table = table();
    if let Some(route) = table.literal.iter().find(|route| route.method == method && route.path == path) {
        return Some(Matched { route, names: Vec::new() });
    }
    let named = table.named.iter().filter(|(route, _)| route.method == method);
    named.filter_map(|(route, pattern)| Some(Matched { route, names: pattern.names(path)? })).next()
}

struct Table {
    literal: Vec<&'static Route>,
    /// Those with most literal text first.
    named: Vec<(&'static Route, Pattern)>,
}

/// The literal pieces of a path around its parameters.
struct Pattern {
    pieces: Vec<&'static str>,
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let (named, literal): (Vec<_>, Vec<_>) = ROUTES.iter().partition(|route| route.path.contains('{'));
        let mut named: Vec<_> = named.into_iter().map(|route| (route, Pattern::of(route.path))).collect();
        named.sort_by_key(|(_, pattern)| std::cmp::Reverse(pattern.literal_length()));
        Table { literal, named }
    })
}

impl Pattern {
    fn of(path: &'static str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = path;
        while let Some((piece, after)) = rest.split_once('{') {
            pieces.push(piece);
            rest = after.split_once('}').map_or("", |(_, after)| after);
        }
        pieces.push(rest);
        Self { pieces }
    }

    fn literal_length(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len()).sum()
    }

    /// The names between the pieces if the path has this form. The first name takes what later ones can spare.
    fn names(&self, path: &str) -> Option<Vec<String>> {
        let (first, last) = (self.pieces.first()?, self.pieces.last()?);
        let mut rest = path.strip_prefix(first)?.strip_suffix(last)?;
        let mut names = Vec::new();
        for piece in self.pieces[1..self.pieces.len() - 1].iter().rev() {
            let (before, name) = rest.rsplit_once(piece)?;
            names.push(name.to_owned());
            rest = before;
        }
        names.push(rest.to_owned());
        names.reverse();
        Some(names)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::api::spec::Operation;

    fn sample(path: &str) -> String {
        path.replace("{id}", "abc").replace("{name}", "library/busybox:1").replace("{checkpoint}", "c1")
    }

    #[test]
    fn every_operation_of_the_specification_is_reachable() {
        let mut seen = HashSet::new();
        for (index, route) in ROUTES.iter().enumerate() {
            assert_eq!(route.operation as usize, index);
            let path = sample(route.path);
            let found = find(route.method, &path).unwrap_or_else(|| panic!("{} {path}", route.method));
            assert_eq!(found.route.operation, route.operation, "{} {path}", route.method);
            assert_eq!(found.names.len(), route.path.matches('{').count());
            assert!(seen.insert(route.name), "{} twice", route.name);
        }
        assert!(seen.len() >= 108);
    }

    #[test]
    fn names_may_contain_slashes_and_literals_come_first() {
        for (method, path, operation, names) in [
            ("GET", "/images/json", Operation::ImageList, &[][..]),
            ("GET", "/images/get", Operation::ImageGetAll, &[]),
            ("GET", "/images/localhost:5000/a/b/json", Operation::ImageInspect, &["localhost:5000/a/b"]),
            ("GET", "/images/json/json", Operation::ImageInspect, &["json"]),
            ("DELETE", "/images/a/b", Operation::ImageDelete, &["a/b"]),
            ("POST", "/containers/x/attach", Operation::ContainerAttach, &["x"]),
            ("GET", "/containers/x/attach/ws", Operation::ContainerAttachWebsocket, &["x"]),
            ("DELETE", "/containers/x/checkpoints/y", Operation::CheckpointDelete, &["x", "y"]),
            ("GET", "/networks/a", Operation::NetworkInspect, &["a"]),
        ] {
            let found = find(method, path).unwrap_or_else(|| panic!("{method} {path}"));
            assert_eq!(found.route.operation, operation, "{method} {path}");
            assert_eq!(found.names, names);
        }
    }

    #[test]
    fn other_methods_and_paths_have_no_route() {
        for (method, path) in [
            ("HEAD", "/info"),
            ("GET", "/containers/create"),
            ("GET", "/nowhere"),
            ("POST", "/_ping"),
            ("GET", "/"),
        ] {
            assert!(find(method, path).is_none(), "{method} {path}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    /// The path of a route with names in the place of its parameters.
    fn filled(route: &Route, names: &[String]) -> String {
        let mut names = names.iter();
        let pieces = Pattern::of(route.path).pieces;
        let (first, rest) = pieces.split_first().unwrap();
        rest.iter().fold((*first).to_owned(), |path, piece| format!("{path}{}{piece}", names.next().unwrap()))
    }

    proptest! {
        #![proptest_config(cases(1000))]

        #[test]
        fn the_names_found_make_up_the_path(
            route in (0..ROUTES.len()).prop_map(|at| &ROUTES[at]),
            names in prop::collection::vec("[a-z]{1,6}|[a-z/]{1,9}|json|é", 3),
            cut in 0..60usize,
        ) {
            let whole = filled(route, &names);
            // The path itself, and what is left of it when its end is missing.
            for path in [whole.as_str(), whole.get(..cut).unwrap_or("/")] {
                if let Some(found) = find(route.method, path) {
                    prop_assert_eq!(filled(found.route, &found.names), path);
                }
            }
            prop_assert!(find(route.method, &whole).is_some());
        }

        #[test]
        fn a_name_without_slashes_is_found_whole(
            route in (0..ROUTES.len()).prop_map(|at| &ROUTES[at]),
            name in "[0-9a-f]{12}",
        ) {
            let count = Pattern::of(route.path).pieces.len() - 1;
            let found = find(route.method, &filled(route, &vec![name.clone(); count])).unwrap();
            prop_assert_eq!((found.route.path, found.names), (route.path, vec![name; count]));
        }

        #[test]
        fn a_version_is_cut_off_and_nothing_else(path in "/?v?[0-9.]{0,5}/?[a-z/é]{0,8}") {
            match crate::api::versions::split_prefix(&path) {
                (None, rest) => prop_assert_eq!(rest, path.as_str()),
                (Some(version), rest) => {
                    prop_assert_eq!(format!("/v{version}{rest}"), path.as_str());
                    prop_assert!(rest.starts_with('/') && !version.contains(char::is_alphabetic));
                    let _ = crate::api::versions::ApiVersion::parse(version);
                }
            }
        }
    }
}
