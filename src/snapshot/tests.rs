//! Layers from archives made in memory, unpacked into a real store. These need root: they make devices, set owners
//! and `trusted` attributes, as the daemon does.

mod arbitrary;
mod archives;
mod benign;
mod hostile;
mod mounted;
mod packed;
mod stored;
