//! What property tests share.

use proptest::test_runner::Config;

/// So many cases a property. Failures are written nowhere: a bug that was found gets a test of its own.
pub fn cases(count: u32) -> Config {
    Config { cases: count, failure_persistence: None, ..Config::default() }
}
