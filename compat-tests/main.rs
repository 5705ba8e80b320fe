//! Everything that needs a real engine: scenarios that run the stock CLI and plain HTTP clients against slipwayd (or
//! Debian's dockerd, with `SLIPWAY_TEST_ENGINE=dockerd`) in sandboxes of their own.
//!
//! Needs root. `harness` is how; everything else is what. Each scenario's name says the behaviour it holds the
//! engine to.

mod conventions;
mod harness;
mod scenarios;
