//! The generated part: `Operation`, `ROUTES`, `Tag` and `params`, made by `api-spec/build.rs` from
//! `api-spec/engine-api.json` and `api-spec/additions.json`.
//!
//! Beside it the row type of the table. Decides nothing; matching is in `routing`, decoding in `params`.

use crate::api::decode::{Decode, DecodeError, Decoder};

include!(concat!(env!("OUT_DIR"), "/engine_api.rs"));

/// One row of the route table.
#[derive(Debug)]
pub struct Route {
    pub operation: Operation,
    /// The operation's id in the specification.
    pub name: &'static str,
    pub tag: Tag,
    pub method: &'static str,
    /// With the parameters in braces.
    pub path: &'static str,
    /// The minor number of the first API version that has it, 0 for the oldest known.
    pub since: u16,
    /// Whether its request has a body.
    pub has_body: bool,
}

impl Operation {
    /// The operation's row of the table, which is in the enum's order.
    pub fn route(self) -> &'static Route {
        &ROUTES[self as usize]
    }
}
