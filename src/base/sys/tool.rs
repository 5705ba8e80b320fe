//! Tools of the host that do for us what has no system call.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

/// Runs a tool with `input` as its standard input, to its end. Blocks.
pub fn feed(command: &mut Command, input: &str) -> io::Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    // What the tool says tells more than that it read no further.
    check(command.get_program().display(), child.wait_with_output()?).and(written)
}

/// An error with what the tool said, if it failed.
pub fn check(tool: impl Display, output: Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_tool_reads_its_input_and_a_failure_has_its_words() {
        feed(&mut shell("read line && [ \"$line\" = some ]"), "some\ntext").unwrap();
        let large = "x".repeat(1 << 20);
        let failed = feed(&mut shell("echo it is full >&2; exit 3"), &large).unwrap_err();
        assert_eq!(failed.to_string(), "sh: it is full");
        assert!(feed(&mut Command::new("/nonexistent/tool"), "").is_err());
    }
}
