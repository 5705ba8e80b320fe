//! Registries inside the sandbox: Debian's docker-registry for real transfers, and (later) one that misbehaves.
