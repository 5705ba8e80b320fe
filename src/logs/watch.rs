//! Wakes followers when a log's directory changes: one inotify instance and one thread for the whole process, since
//! instances are few (`fs.inotify.max_user_instances` is 128) and followers may be many.
//!
//! Where inotify cannot be had, or loses events, followers find out by looking again after a while.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::sync::watch;

/// How long a change may go unnoticed if the kernel does not tell of it.
const WITH_INOTIFY: Duration = Duration::from_secs(2);
const WITHOUT_INOTIFY: Duration = Duration::from_millis(100);

struct Watcher {
    inotify: Inotify,
    dirs: Mutex<HashMap<WatchDescriptor, Watched>>,
}

struct Watched {
    changed: watch::Sender<()>,
    followers: usize,
}

/// A follower's view of one directory.
pub struct Changes {
    watched: Option<(Arc<Watcher>, WatchDescriptor, watch::Receiver<()>)>,
}

impl Changes {
    /// Notices all changes from now on.
    pub fn of(dir: &Path) -> Self {
        Self { watched: watcher().and_then(|watcher| watcher.add(dir)) }
    }

    /// Returns after a change since the last call, or after a while.
    pub async fn wait(&mut self) {
        match &mut self.watched {
            // A closed channel cannot be: the watched directory stays in the table until this is dropped.
            Some((_, _, receiver)) => drop(tokio::time::timeout(WITH_INOTIFY, receiver.changed()).await),
            None => tokio::time::sleep(WITHOUT_INOTIFY).await,
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        if let Some((watcher, descriptor, _)) = &self.watched {
            watcher.remove(*descriptor);
        }
    }
}

fn watcher() -> Option<Arc<Watcher>> {
    static WATCHER: OnceLock<Option<Arc<Watcher>>> = OnceLock::new();
    WATCHER
        .get_or_init(|| Watcher::start().inspect_err(|error| tracing::warn!(%error, "no inotify")).ok())
        .clone()
}

impl Watcher {
    fn start() -> std::io::Result<Arc<Self>> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        let watcher = Arc::new(Self { inotify, dirs: Mutex::default() });
        let reading = watcher.clone();
        std::thread::Builder::new()
            .name("log-watch".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || reading.run())?;
        Ok(watcher)
    }

    fn run(&self) {
        loop {
            match self.inotify.read_events() {
                Ok(events) => events.iter().for_each(|event| self.tell(event.wd)),
                Err(Errno::EINTR) => {}
                // Followers go on by looking again.
                Err(error) => return tracing::warn!(%error, "inotify failed"),
            }
        }
    }

    fn tell(&self, descriptor: WatchDescriptor) {
        let dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = dirs.get(&descriptor) {
            watched.changed.send_replace(());
        }
    }

    fn add(self: Arc<Self>, dir: &Path) -> Option<(Arc<Self>, WatchDescriptor, watch::Receiver<()>)> {
        let what = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        // A directory has one descriptor, however often it is added.
        let descriptor = self.inotify.add_watch(dir, what).ok()?;
        let watched = dirs
            .entry(descriptor)
            .or_insert_with(|| Watched { changed: watch::Sender::new(()), followers: 0 });
        watched.followers += 1;
        let receiver = watched.changed.subscribe();
        drop(dirs);
        Some((self, descriptor, receiver))
    }

    fn remove(&self, descriptor: WatchDescriptor) {
        let mut dirs = self.dirs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watched) = dirs.get_mut(&descriptor) else { return };
        watched.followers -= 1;
        if watched.followers == 0 {
            dirs.remove(&descriptor);
            // The directory may be gone, and its watch with it.
            let _ = self.inotify.rm_watch(descriptor);
        }
    }
}
