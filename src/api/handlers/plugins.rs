//! Operations of the tag Plugin.
