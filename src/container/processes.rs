//! The processes of a container as `docker top` shows them: the host's `ps`, cut down to the container's.

use std::collections::BTreeSet;
use std::process::Command;

use super::error::{ContainerError, StartFailure};
use super::handle::Handle;
use super::parts::Parts;
use super::report::Reporter;
use super::request;
use super::state::Refusal;
use crate::base::sys::cgroup::Cgroup;

/// A table of processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessTable {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Handle {
    /// What `ps` with `arguments` says of the container's processes.
    pub async fn processes(&self, parts: &Parts, arguments: &str) -> Result<ProcessTable, ContainerError> {
        let now = self.snapshot();
        if now.is_restarting() {
            return Err(ContainerError::refused(&now.record, Refusal::Restarting));
        }
        if !now.is_running() {
            return Err(ContainerError::refused(&now.record, Refusal::NotRunning));
        }
        let bad = |message: String| ContainerError::StartFailed { message, kind: StartFailure::BadRequest };
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        refuse_other_pids(&arguments).map_err(bad)?;
        let path = request::cgroup_path(parts, &now.record);
        let table = tokio::task::spawn_blocking(move || -> Result<ProcessTable, String> {
            let pids = Cgroup::of_container(&path).and_then(|cgroup| cgroup.processes());
            let pids: BTreeSet<i32> = pids.map_err(|error| error.to_string())?.into_iter().collect();
            // Of many options processes must be chosen for anything to be shown; with others they cannot be.
            let list: Vec<String> = pids.iter().map(i32::to_string).collect();
            let chosen = ps(arguments.iter().cloned().chain([format!("-q{}", list.join(","))]));
            let output = chosen.or_else(|_| ps(arguments.iter().cloned()))?;
            select(&output, &pids)
        });
        let done = table.await.map_err(|error| bad(error.to_string()))?.map_err(bad)?;
        Reporter { events: &parts.events, record: &now.record }.plain("top");
        Ok(done)
    }
}

/// What `ps` prints.
fn ps(arguments: impl Iterator<Item = String>) -> Result<String, String> {
    let ps = Command::new("ps").args(arguments).output().map_err(|error| format!("ps: {error}"))?;
    if !ps.status.success() {
        // The first line says why; what follows is its usage.
        let why = String::from_utf8_lossy(&ps.stderr);
        return Err(format!("ps: {}", why.trim().lines().next().unwrap_or("it failed")));
    }
    Ok(String::from_utf8_lossy(&ps.stdout).into_owned())
}

/// The column `PID` tells which processes are the container's: nothing else may be called so (`-o uid=PID`).
fn refuse_other_pids(arguments: &[String]) -> Result<(), String> {
    for (index, argument) in arguments.iter().enumerate() {
        for (at, _) in argument.match_indices('=') {
            let (columns, title) = (&argument[..at], &argument[at + 1..]);
            let title =
                if title.is_empty() { arguments.get(index + 1).map_or("", String::as_str) } else { title };
            let column = columns.trim_start_matches("--format=").trim_start_matches("-o");
            if title.starts_with("PID") && column != "pid" {
                return Err(format!("specifying \"{column}={title}\" is not allowed"));
            }
        }
    }
    Ok(())
}

/// The rows whose process is one of `pids`. The last column takes the rest of its line.
fn select(output: &str, pids: &BTreeSet<i32>) -> Result<ProcessTable, String> {
    let mut lines = output.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let pid = titles.iter().position(|title| title == "PID").ok_or("Couldn't find PID field in ps output")?;
    let rows = lines.map(|line| fields(line, titles.len()));
    let ours = |row: &Vec<String>| {
        row.get(pid).and_then(|pid| pid.parse().ok()).is_some_and(|pid| pids.contains(&pid))
    };
    Ok(ProcessTable { rows: rows.filter(ours).collect(), titles })
}

fn fields(line: &str, count: usize) -> Vec<String> {
    let mut fields: Vec<String> = Vec::with_capacity(count);
    let mut rest = line.trim();
    while fields.len() + 1 < count && !rest.is_empty() {
        let (field, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        fields.push(field.to_owned());
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        fields.push(rest.to_owned());
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let output = "UID   PID CMD\nroot    1 init\nroot   42 sleep  10 20\n";
        let table = select(output, &[42].into()).unwrap();
        assert_eq!(table.titles, ["UID", "PID", "CMD"]);
        assert_eq!(table.rows, [["root", "42", "sleep  10 20"]]);
        assert!(select("UID CMD\n", &BTreeSet::new()).is_err());
    }

    #[test]
    fn only_the_pid_is_called_so() {
        let checked = |arguments: &str| {
            let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
            refuse_other_pids(&arguments)
        };
        for good in ["-ef", "-o pid,cmd", "-o pid=PID", "-opid=PID -ocmd", "-o uid=USER,pid", "--sort=pid"] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
        for bad in [
            "-o uid=PID,cmd",
            "-ouid=PID",
            "-o pid,uid=PID",
            "-o ppid=PIDX",
            "-o uid=PID,x=Y",
            "--format=uid=PID",
            "-o uid= PID",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        assert_eq!(checked("-o uid=PID,cmd"), Err("specifying \"uid=PID,cmd\" is not allowed".to_owned()));
    }
}
