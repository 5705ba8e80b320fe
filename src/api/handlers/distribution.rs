//! Operations of the tag Distribution.
