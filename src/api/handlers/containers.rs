//! Operations of the tag Container.
