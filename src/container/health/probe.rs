//! Runs one probe: an exec whose output is gathered, with a limit on its time.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;

use super::{Outcome, Plan};
use crate::base::time::Timestamp;
use crate::container::error::ContainerError;
use crate::container::exec::{Exec, ExecConfig, ExecError, ExecPhase};
use crate::container::handle::Handle;
use crate::container::parts::Parts;
use crate::runtime::Attachment;
use crate::runtime::protocol::{Framing, Streams};

/// Bytes of output that are kept.
const LONGEST: usize = 4096;
/// How long the end of a probe's streams may take after it was killed, and the word of its exit after that.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a probe was not run.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error("OCI runtime exec failed: {0}")]
    Start(#[from] ContainerError),
    #[error("no stream for the output of a probe")]
    Stream(#[from] io::Error),
}

/// Runs the probe to its end or its timeout. A probe that cannot be run is a failed one.
pub(super) async fn run(handle: &Handle, parts: &Parts, plan: &Plan) -> Outcome {
    let start = Timestamp::now();
    let (exit_code, output) = match attempt(handle, parts, plan).await {
        Ok(result) => result,
        Err(error) => (-1, error.to_string()),
    };
    Outcome { start, end: Timestamp::now(), exit_code, output }
}

async fn attempt(handle: &Handle, parts: &Parts, plan: &Plan) -> Result<(i32, String), ProbeError> {
    let config = ExecConfig {
        attach_stdout: true,
        attach_stderr: true,
        cmd: plan.command.clone(),
        ..ExecConfig::default()
    };
    let exec = handle.add_exec(parts, config)?;
    exec.claim()?;
    let result = execute(handle, parts, plan, &exec).await;
    // A probe every second would fill the list of those that can be inspected.
    handle.forget_exec(&exec.id);
    result
}

async fn execute(
    handle: &Handle,
    parts: &Parts,
    plan: &Plan,
    exec: &Exec,
) -> Result<(i32, String), ProbeError> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let streams = Streams {
        stdin: false,
        stdout: true,
        stderr: true,
        framing: Framing::Raw,
        detach_keys: Vec::new(),
        buffered: Vec::new(),
    };
    let attachment = Attachment { streams, client: theirs.into_std()?.into() };
    handle.run_exec(parts, exec, Some(attachment), None).await?;
    // Only now: the time that the start takes is not the probe's.
    let mut output = Output::default();
    if tokio::time::timeout(plan.timeout, output.gather(&mut ours)).await.is_ok() {
        return Ok((exit_code(exec).await, output.text()));
    }
    if let Err(error) = handle.signal_exec(exec, libc::SIGKILL).await {
        tracing::debug!(container = %handle.id(), %error, "a probe that took too long was not killed");
    }
    // Dying probes shall not pile up.
    let _ = tokio::time::timeout(PATIENCE, output.gather(&mut ours)).await;
    let mut text = format!("Health check exceeded timeout ({})", in_gos_words(plan.timeout));
    if !output.bytes.is_empty() {
        let _ = write!(text, ": {}", output.text());
    }
    Ok((-1, text))
}

/// The shim ends the streams when the exit is known here, or a moment earlier if the owner was busy.
async fn exit_code(exec: &Exec) -> i32 {
    let known = async {
        loop {
            if let ExecPhase::Ended { code, .. } = exec.phase() {
                return code;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.unwrap_or(-1)
}

/// The beginning of what a probe has written.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Output {
    /// Reads to the end. Errors end it too: there is nobody to tell.
    async fn gather(&mut self, input: &mut (impl AsyncRead + Unpin)) {
        let mut buffer = [0; LONGEST];
        while let Ok(count @ 1..) = input.read(&mut buffer).await {
            let room = LONGEST - self.bytes.len();
            self.bytes.extend_from_slice(&buffer[..count.min(room)]);
            self.is_cut |= count > room;
        }
    }

    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        if self.is_cut { format!("{text}...") } else { text.into_owned() }
    }
}

/// `1m30s`, `1.5s`, `250ms`: how Go writes a duration.
fn in_gos_words(span: Duration) -> String {
    let seconds = span.as_secs();
    if seconds == 0 {
        return format!("{}ms", span.as_secs_f64() * 1000.0);
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = (span - Duration::from_secs(seconds / 60 * 60)).as_secs_f64();
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_as_go_tells_them() {
        for (millis, text) in [
            (1, "1ms"),
            (1500, "1.5s"),
            (30_000, "30s"),
            (60_000, "1m0s"),
            (90_500, "1m30.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(in_gos_words(Duration::from_millis(millis)), text);
        }
    }

    #[tokio::test]
    async fn output_is_kept_up_to_a_limit() {
        for (length, end) in [(0, ""), (4096, "x"), (4097, "x..."), (20_000, "x...")] {
            let written = "x".repeat(length);
            let mut output = Output::default();
            output.gather(&mut written.as_bytes()).await;
            assert!(output.text().ends_with(end), "{length}");
            assert_eq!(output.text().len(), if length > LONGEST { LONGEST + 3 } else { length });
        }
    }
}
