//! Runs one probe: an exec whose output is gathered, with a limit on its time.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use oci_spec::runtime::Process;

use super::{Outcome, Plan};
use crate::base::time::Timestamp;
use crate::container::error::ContainerError;
use crate::container::exec::{Exec, ExecConfig, ExecError};
use crate::container::handle::Handle;
use crate::container::parts::Parts;
use crate::runtime::{ExecOutput, Kept};

/// Bytes of output that are kept.
const LONGEST: usize = 4096;
/// How long the word of a probe's exit may take after it was killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the probes of a container's process are: the same for each, so it is worked out for the first one.
pub(super) type Prepared = Arc<OnceLock<Process>>;

/// Why a probe was not run.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Start(#[from] ContainerError),
}

/// Runs the probe to its end or its timeout. A probe that cannot be run is a failed one.
pub(super) async fn run(handle: &Handle, parts: &Parts, plan: &Plan, prepared: &Prepared) -> Outcome {
    let start = Timestamp::now();
    let (exit_code, output) = match attempt(handle, parts, plan, prepared).await {
        Ok(result) => result,
        Err(error) => (-1, error.to_string()),
    };
    Outcome { start, end: Timestamp::now(), exit_code, output }
}

async fn attempt(
    handle: &Handle,
    parts: &Parts,
    plan: &Plan,
    prepared: &Prepared,
) -> Result<(i32, String), ProbeError> {
    let config = ExecConfig {
        attach_stdout: true,
        attach_stderr: true,
        cmd: plan.command.clone(),
        ..ExecConfig::default()
    };
    let exec = handle.add_exec(parts, config)?;
    exec.claim()?;
    let result = execute(handle, parts, plan, &exec, prepared).await;
    // A probe every second would fill the list of those that can be inspected.
    handle.forget_exec(&exec.id);
    result
}

async fn execute(
    handle: &Handle,
    parts: &Parts,
    plan: &Plan,
    exec: &Exec,
    prepared: &Prepared,
) -> Result<(i32, String), ProbeError> {
    let process = match prepared.get() {
        Some(process) => Ok(process.clone()),
        None => handle.exec_process(parts, &exec.config),
    };
    if let Ok(process) = &process {
        prepared.get_or_init(|| process.clone());
    }
    handle.run_process(parts, exec, process, ExecOutput::Kept(LONGEST), None).await?;
    // Only now: the time that the start takes is not the probe's.
    if let Ok((code, kept)) = tokio::time::timeout(plan.timeout, exec.end()).await {
        return Ok((code, in_words(&kept)));
    }
    if let Err(error) = handle.signal_exec(exec, libc::SIGKILL).await {
        tracing::debug!(container = %handle.id(), %error, "a probe that took too long was not killed");
    }
    // Dying probes shall not pile up.
    let kept = tokio::time::timeout(PATIENCE, exec.end()).await.map(|(_, kept)| kept).unwrap_or_default();
    let mut text = format!("Health check exceeded timeout ({})", in_gos_words(plan.timeout));
    if !kept.text.is_empty() {
        let _ = write!(text, ": {}", in_words(&kept));
    }
    Ok((-1, text))
}

fn in_words(kept: &Kept) -> String {
    if kept.is_cut { format!("{}...", kept.text) } else { kept.text.clone() }
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
}
