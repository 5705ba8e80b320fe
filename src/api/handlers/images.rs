//! Operations of the tag Image.
