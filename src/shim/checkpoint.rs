//! Checkpoints: the container's processes are written to files by a forked helper, while the loop goes on.
//!
//! Order: write, publish by rename, and only then end the processes if they shall end: whatever is killed on the way,
//! they run or the checkpoint is there.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::binary::Program;
use super::command::system;
use super::criu::{Criu, Then};
use super::fork::fork;
use super::launch::binary_of;
use super::poll::{INIT, Token};
use super::process::Process;
use super::report::{self, Report, Reporter};
use super::{Shim, creator};
use crate::base::durable;
use crate::crash_point;
use crate::runtime::protocol::{Afterwards, Checkpoint, Failure, Launch, Reply};

type Answer = Result<Reply, Failure>;

/// A checkpoint that is being written.
pub struct Writing {
    report: Report,
    asked: (u32, u64),
    afterwards: Afterwards,
}

impl Shim {
    /// Begins to write the container's processes to files; the answer comes when they are published.
    pub(super) fn checkpoint(&mut self, asked: (u32, u64), checkpoint: &Checkpoint) -> Option<Answer> {
        if self.checkpoint.is_some() {
            return Some(Err(system("another checkpoint of the container is being written")));
        }
        let Some(init) = self.processes.get(&INIT).and_then(Process::living) else {
            return Some(Err(Failure::NotRunning));
        };
        match self.begin_checkpoint(init, checkpoint) {
            Ok(report) => {
                self.checkpoint = Some(Writing { report, asked, afterwards: checkpoint.afterwards });
                None
            }
            Err(error) => Some(Err(system(error))),
        }
    }

    fn begin_checkpoint(&self, init: i32, checkpoint: &Checkpoint) -> io::Result<Report> {
        let Some(launch) = &self.launch else { return Err(io::ErrorKind::NotFound.into()) };
        let (report, writer) = report::pipe(Token::Checkpoint, &self.poller)?;
        let reporter = Reporter::new(&writer);
        let (dir, program) = (&self.dir, binary_of(launch, &self.dir));
        fork(&[reporter.fd()], || match write(dir, program.as_ref(), init, checkpoint) {
            Ok(()) => reporter.process(init, String::new()),
            Err(message) => reporter.failure(Failure::System(message)),
        })?;
        Ok(report)
    }

    /// The helper told something.
    pub(super) fn checkpoint_ready(&mut self) {
        let Some(writing) = &mut self.checkpoint else { return };
        let Some(outcome) = writing.report.read() else { return };
        let Some(Writing { report, asked, afterwards }) = self.checkpoint.take() else { return };
        report.close(&self.poller);
        let answer = match outcome.failure {
            Some(failure) => {
                // They may have been left stopped, to be ended.
                let _ = self.cgroup.signal_all(libc::SIGCONT);
                Err(failure)
            }
            None if afterwards == Afterwards::End => self.cgroup.kill().map(|()| Reply::Done).map_err(system),
            None => Ok(Reply::Done),
        };
        self.reply(asked, answer);
    }
}

fn write(
    dir: &Path,
    program: Option<&Program<'_>>,
    init: i32,
    checkpoint: &Checkpoint,
) -> Result<(), String> {
    let at = |error: io::Error| format!("{}: {error}", checkpoint.images.display());
    let building = durable::building(&checkpoint.images).map_err(at)?;
    // One that was cut off; no other is being written.
    let _ = fs::remove_dir_all(&building);
    DirBuilder::new().recursive(true).mode(0o700).create(&building).map_err(at)?;
    let written = match program {
        Some(program) => program.checkpoint(&building, checkpoint.afterwards),
        None => {
            let then = match checkpoint.afterwards {
                Afterwards::GoOn => Then::Running,
                Afterwards::End => Then::Stopped,
            };
            Criu { dir }.dump(init, &building, then).map_err(|e| e.to_string())
        }
    };
    crash_point!("checkpoint-written");
    let published = written.and_then(|()| publish(&building, &checkpoint.images).map_err(at));
    if published.is_err() {
        let _ = fs::remove_dir_all(&building);
    }
    published
}

/// Everything is on disk before the name is.
fn publish(building: &Path, images: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(building)?)?;
    durable::publish_dir(images)?;
    images.parent().map_or(Ok(()), durable::sync_dir)
}

/// Starts to make the container's processes again from the files in `images`; how it goes is reported.
pub fn restore(
    dir: &Path,
    launch: &Launch,
    images: &Path,
    stdio: [OwnedFd; 3],
    report: OwnedFd,
) -> io::Result<i32> {
    creator::helper(Some(stdio), report, |stdio, reporter| {
        creator::make_group(launch)?;
        let Some(stdio) = stdio else { return Err("a terminal cannot be restored".to_owned()) };
        let restored = Criu { dir }.restore(images, &stdio);
        let pid = restored.map_err(|error| format!("runc restore failed: {error}: unknown"))?;
        creator::limit_processes(launch)?;
        let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        reporter.process(pid, cgroup);
        Ok(())
    })
}
