//! Operations of the tag Network.
