//! Notices when somebody throws the packet filter's rules away (`nft flush ruleset`, a firewall that reloads), and
//! brings them back at once.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;

use super::Inner;
use super::firewall::Watch;

impl Inner {
    /// Starts watching, once; the thread sleeps in the kernel and ends with the process.
    pub(super) fn watch(&self) -> io::Result<()> {
        // Opened here: it hears of the namespace in which it was opened.
        let watch = Watch::open()?;
        let inner = self.myself.clone();
        thread::Builder::new().name("network-watch".into()).spawn(move || follow(&watch, &inner))?;
        Ok(())
    }
}

fn follow(watch: &Watch, inner: &Weak<Inner>) {
    while let Ok(()) = watch.wait_for_loss() {
        let Some(inner) = Weak::upgrade(inner) else { return };
        restore(&inner);
    }
}

fn restore(inner: &Arc<Inner>) {
    let mut fabric = inner.fabric();
    match inner.lay_down(&mut fabric) {
        Ok(()) => tracing::warn!("somebody removed the packet filter's rules; they are back"),
        Err(error) => {
            tracing::error!(%error, "somebody removed the packet filter's rules, and they do not come back")
        }
    }
}
