//! What of containers' output was lost on its way, told to the daemon, which logs it.
//!
//! Whoever loses it may outlive the container and its shim (the process that forwards a log), and the daemon may be
//! away: so it is told by datagrams to a socket of a fixed name, and what could not be told waits for the next time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::base::id::ContainerId;
use crate::base::sys::socket_at;

const SOCKET: &str = "log-losses.sock";
/// The first loss is told at once, what follows it at most so often.
const PACE: Duration = Duration::from_secs(10);
/// Bytes of a datagram; a loss takes some 130.
const LONGEST: usize = 512;

/// What was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Lines that could not be written to the log's files: the disk is full.
    NotWritten,
    /// Lines that a sink elsewhere did not take before they were rotated away, or before the farewell was over.
    NotSent,
    /// Bytes that attached clients were too slow for, with `mode=non-blocking`.
    NotShown,
}

/// Whose losses are told, and where.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Place {
    pub container: ContainerId,
    /// The daemon's directory with the socket.
    pub dir: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Loss {
    container: ContainerId,
    kind: Kind,
    count: u64,
}

/// Counts one kind of loss and tells of it, the rest when it is dropped.
pub struct Tally {
    /// Absent if the daemon that started this knew nothing of losses.
    place: Option<Place>,
    kind: Kind,
    untold: u64,
    tried: Option<Instant>,
}

impl Tally {
    pub fn new(place: Option<Place>, kind: Kind) -> Self {
        Self { place, kind, untold: 0, tried: None }
    }

    /// So much was lost.
    pub fn add(&mut self, count: u64) {
        self.untold = self.untold.saturating_add(count);
        self.tell_if_due();
    }

    /// Tells what is untold unless something was told a moment ago.
    pub fn tell_if_due(&mut self) {
        if self.untold > 0 && self.tried.is_none_or(|at| at.elapsed() >= PACE) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let Some(place) = &self.place else { return };
        self.tried = Some(Instant::now());
        let loss = Loss { container: place.container.clone(), kind: self.kind, count: self.untold };
        let told = serde_json::to_vec(&loss)
            .map_err(io::Error::from)
            .and_then(|loss| socket_at::send(&place.dir, SOCKET, &loss));
        if told.is_ok() {
            self.untold = 0;
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if self.untold > 0 {
            self.tell();
        }
    }
}

/// Where the daemon hears of losses.
pub struct Losses(tokio::net::UnixDatagram);

impl Losses {
    /// Listens in `dir`, which belongs to this process alone.
    pub fn listen(dir: &Path) -> io::Result<Self> {
        let socket = socket_at::bind_datagram(dir, SOCKET)?;
        socket.set_nonblocking(true)?;
        Ok(Self(tokio::net::UnixDatagram::from_std(socket)?))
    }

    /// Logs what is told, for ever.
    pub async fn log(self) {
        loop {
            match self.next().await {
                Ok(Some(loss)) => loss.log(),
                Ok(None) => {}
                Err(error) => return tracing::error!(%error, "losses of logs are no longer heard of"),
            }
        }
    }

    /// The next datagram, if it makes sense.
    async fn next(&self) -> io::Result<Option<Loss>> {
        let mut buffer = [0; LONGEST];
        let length = self.0.recv(&mut buffer).await?;
        Ok(serde_json::from_slice(&buffer[..length]).ok())
    }
}

#[cfg(test)]
impl Losses {
    /// The sum of what was told until now.
    pub async fn heard(&self) -> u64 {
        let mut sum = 0;
        while let Ok(Ok(Some(loss))) = tokio::time::timeout(PACE / 20, self.next()).await {
            sum += loss.count;
        }
        sum
    }
}

impl Loss {
    fn log(&self) {
        let Self { container, kind, count } = self;
        match kind {
            Kind::NotWritten => {
                tracing::warn!(%container, lines = count, "log lines lost: they cannot be written")
            }
            Kind::NotSent => {
                tracing::warn!(%container, lines = count, "log lines lost: the sink did not take them in time")
            }
            Kind::NotShown => {
                tracing::warn!(%container, bytes = count, "output not shown to slow clients (mode=non-blocking)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_is_told_at_once_and_its_rest_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { container: ContainerId::random(), dir: dir.path().to_owned() };
        let mut early = Tally::new(Some(place.clone()), Kind::NotSent);
        // The daemon is away: kept.
        early.add(3);
        let losses = Losses::listen(dir.path()).unwrap();
        drop(early);
        let mut tally = Tally::new(Some(place.clone()), Kind::NotWritten);
        (0..100).for_each(|_| tally.add(2));
        drop(tally);
        let mut heard = Vec::new();
        for _ in 0..3 {
            let loss = losses.next().await.unwrap().unwrap();
            assert_eq!(loss.container, place.container);
            heard.push((loss.kind, loss.count));
        }
        assert_eq!(heard, [(Kind::NotSent, 3), (Kind::NotWritten, 2), (Kind::NotWritten, 198)]);
        socket_at::send(dir.path(), SOCKET, b"garbage").unwrap();
        assert!(losses.next().await.unwrap().is_none());
        // A daemon that comes after one that was killed.
        Losses::listen(dir.path()).unwrap();
    }
}
