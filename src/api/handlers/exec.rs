//! Operations of the tag Exec.
