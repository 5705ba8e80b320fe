//! Commands as a user types them, with `DOCKER_HOST` set to the engine under test.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use super::poll::eventually;

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ended {
    pub script: String,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn new(script: &str, output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Self { script: script.to_owned(), code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Fails the test unless the command succeeded; its trimmed standard output.
    pub fn ok(&self) -> String {
        self.code(0)
    }

    /// Fails the test unless the exit code is `code`; the trimmed standard output.
    pub fn code(&self, code: i32) -> String {
        assert_eq!(self.code, code, "{self}");
        self.stdout.trim_end().to_owned()
    }

    /// Fails the test unless the exit code is `code` and the errors contain `text`.
    pub fn fails(&self, code: i32, text: &str) {
        assert_eq!(self.code, code, "{self}");
        assert!(self.stderr.contains(text), "no {text:?} in: {self}");
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "$ {}\n[{}]\n{}{}", self.script, self.code, self.stdout, self.stderr)
    }
}

/// A command that is still running, its output gathered as it comes.
pub struct Running {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    input: Option<Box<dyn Write + Send>>,
}

impl Running {
    /// With pipes; both outputs are gathered together.
    pub fn piped(mut command: Command) -> Self {
        let output = Arc::default();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        gather(child.stdout.take().unwrap(), &output);
        gather(child.stderr.take().unwrap(), &output);
        let input = child.stdin.take().map(|stdin| Box::new(stdin) as Box<dyn Write + Send>);
        Self { child, output, input }
    }

    /// On a terminal of its own, 24 lines of 80 columns.
    pub fn on_terminal(mut command: Command) -> Self {
        let size = nix::pty::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(&size, None).unwrap();
        let slave = File::from(pty.slave);
        let stdio = || Stdio::from(slave.try_clone().unwrap());
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        // The command holds copies as long as it lives.
        drop(command);
        drop(slave);
        let master = File::from(pty.master);
        let output = Arc::default();
        gather(master.try_clone().unwrap(), &output);
        Self { child, output, input: Some(Box::new(master)) }
    }

    /// What has been written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until the output contains `text`.
    pub fn shows(&self, text: &str) {
        let start = std::time::Instant::now();
        while !self.output().contains(text) {
            assert!(start.elapsed() < super::poll::DEADLINE, "no {text:?} in {:?}", self.output());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Types `text`.
    pub fn types(&mut self, text: &str) {
        let input = self.input.as_mut().expect("the input is open");
        input.write_all(text.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// Waits for the end; the exit code.
    pub fn exit_code(&mut self) -> i32 {
        let mut code = None;
        eventually("the command ends", || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        code.and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn gather(mut from: impl Read + Send + 'static, into: &Arc<Mutex<Vec<u8>>>) {
    let into = into.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        // A terminal's master fails with EIO when the last process has closed the other side.
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
}
