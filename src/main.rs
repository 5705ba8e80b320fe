//! Picks the role by the first argument; nothing else.

fn main() {}
