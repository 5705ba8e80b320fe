//! What property tests share.

use proptest::test_runner::{Config, RngSeed};

/// So many cases a property, the same in each run unless `PROPTEST_RNG_SEED` gives another number to start from.
/// Failures are written nowhere: a bug that was found gets a test of its own.
pub fn cases(count: u32) -> Config {
    let default = Config::default();
    let rng_seed = match default.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        given => given,
    };
    Config { cases: count, rng_seed, failure_persistence: None, ..default }
}
