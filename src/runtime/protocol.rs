//! What daemon and shim say to each other: frames of a length, a number of descriptors and JSON.
//!
//! Either side may be of another release than the other: fields may be added with a default, never renamed or given
//! another meaning, and unknown ones are ignored; an unknown command is answered with [`Failure::Unsupported`]. State
//! is told in full at each connection ([`Status`]); [`Event`]s only shorten the wait for what the status would say.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{Hook, LinuxCapabilities, LinuxDevice, LinuxResources, Mount, PosixRlimit, Process};
use serde::{Deserialize, Serialize};

use crate::base::id::{ContainerId, ExecId};
use crate::base::time::Timestamp;
use crate::logs::losses::Place;
use crate::logs::options::LogTarget;

pub use super::farewell::Farewell;

/// The protocol's version, told in [`Status`]. Raised when a daemon must know what a shim can do.
pub const VERSION: u32 = 1;
/// Name of the shim's socket in the container's directory.
pub const SOCKET: &str = "shim.sock";
/// Name of the file in which the shim leaves the container's exit.
pub const EXIT_FILE: &str = "exit.json";
/// Name of the file that holds the container's compiled seccomp filter, where the shim applies it.
pub const SECCOMP_FILE: &str = "seccomp.bpf";
/// The longest frame that is accepted: an exec's arguments and environment may be large.
pub const MAX_FRAME: usize = 16 << 20;
/// Bytes before the JSON of a frame: its length and the number of descriptors, both little-endian.
const HEADER: usize = 8;

/// What the daemon asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the daemon, repeated in the reply.
    pub id: u64,
    pub command: Command,
}

/// A request of which only the number could be read.
#[derive(Debug, Deserialize)]
pub struct UnknownRequest {
    pub id: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Starts the container. Descriptors: one client for each attachment, then sockets to hold.
    Launch(Box<Launch>),
    /// Keeps descriptors open as long as the container lives: what did not fit into `Launch`. Sent before it.
    Hold,
    /// Adds a client to the container's streams. Descriptor: the client.
    Attach(Streams),
    Signal {
        signal: i32,
        scope: Scope,
    },
    Resize {
        exec: Option<ExecId>,
        size: Size,
    },
    CloseStdin {
        exec: Option<ExecId>,
    },
    /// Adds a process. Descriptor: the client, if `streams` is given.
    Exec(Box<Exec>),
    ExecSignal {
        exec: ExecId,
        signal: i32,
    },
    /// Sets limits anew; what is not given stays as it is.
    Update(Box<LinuxResources>),
    /// Writes the container's processes to files; answered once they are published.
    Checkpoint(Checkpoint),
    /// The daemon knows of an exec's exit: its clients may see the end of their streams.
    AcknowledgeExec {
        exec: ExecId,
    },
    /// The daemon has recorded the exit: the shim removes its directory and ends.
    AcknowledgeExit,
}

/// All that a shim is told of its container. The OCI specification is in `config.json` beside the socket.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    pub id: ContainerId,
    pub terminal: bool,
    pub console_size: Option<Size>,
    pub stdin: StdinMode,
    pub log: LogTarget,
    #[serde(default)]
    pub log_mode: LogMode,
    /// Who hears of output that was lost.
    #[serde(default)]
    pub losses: Option<Place>,
    pub runtime: Runtime,
    pub systemd_cgroup: bool,
    /// The container's cgroup, as in the specification.
    pub cgroups_path: Option<PathBuf>,
    /// False if the container's processes can outlive its first one (no PID namespace of its own).
    pub own_pid_namespace: bool,
    /// The user of the container's first process, as the host numbers it: owner of its streams.
    #[serde(default)]
    pub user: u32,
    /// Whether it has ids of its own, so that it may use nothing of the shim's groups and raise no limit itself.
    #[serde(default)]
    pub in_user_namespace: bool,
    /// Its limits on what each process may use, where the shim sets them and not the runtime.
    #[serde(default)]
    pub rlimits: Vec<PosixRlimit>,
    /// What may be mounted within the container's `/proc` besides that itself; none where it is not the container's
    /// own.
    #[serde(default)]
    pub within_proc: Option<Vec<PathBuf>>,
    /// What its process keeps, where the shim sees to that and not the runtime.
    #[serde(default)]
    pub capabilities: Option<LinuxCapabilities>,
    /// Its limits, where the shim sets them first and not the runtime.
    #[serde(default)]
    pub resources: Option<LinuxResources>,
    /// What the shim calls when the container has started, and when it is over, where the runtime does not.
    #[serde(default)]
    pub hooks: Hooks,
    /// What the shim does in its `/dev` and for its devices, where the runtime does not.
    #[serde(default)]
    pub devices: Devices,
    pub attachments: Vec<Streams>,
    /// Published ports that the shim serves itself; their sockets are among those to hold.
    #[serde(default)]
    pub relays: Vec<Relay>,
    /// The files of a [`Checkpoint`] that the container goes on from, in place of its program's beginning.
    #[serde(default)]
    pub restore: Option<PathBuf>,
}

/// What is put in place in a container's root once that is all its first process sees.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Devices {
    /// Takes the place of the runtime's `/dev`.
    #[serde(default)]
    pub own: Option<OwnDev>,
    /// Devices outside of `/dev` itself.
    #[serde(default)]
    pub nodes: Vec<LinuxDevice>,
    /// The program's working directory, made where it is missing; none for the container's root.
    #[serde(default)]
    pub working_dir: Option<PathBuf>,
    /// Mounts that become read-only after that.
    #[serde(default)]
    pub read_only: Vec<PathBuf>,
    /// Whether the container's root becomes read-only after that.
    #[serde(default)]
    pub read_only_root: bool,
}

/// A `/dev` of the user's own.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OwnDev {
    /// A bind.
    pub mount: Mount,
    /// What the runtime has mounted in its `/dev` and belongs in this.
    pub over: Vec<PathBuf>,
}

/// Programs of the host that are told of the container's start (config.md of the OCI runtime specification, "POSIX-platform
/// Hooks").
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Hooks {
    #[serde(default)]
    pub poststart: Vec<Hook>,
    /// The container's, which they are told.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
}

/// How the container's processes are written to files.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where the files are to be: they are written to the directory that [`crate::base::durable::building`] names and
    /// published by rename.
    pub images: PathBuf,
    pub afterwards: Afterwards,
}

/// What becomes of the processes that were written to files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Afterwards {
    GoOn,
    End,
}

/// A published port of an IP version that the container does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Relay {
    pub protocol: RelayProtocol,
    /// What the port's socket is bound to.
    pub host: SocketAddr,
    /// Where its traffic goes.
    pub container: SocketAddr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayProtocol {
    Tcp,
    Udp,
}

/// A process to add to a running container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    pub id: ExecId,
    pub process: Process,
    pub console_size: Option<Size>,
    pub streams: Option<Streams>,
    /// How many bytes of its output are kept and told with its exit, if nobody is connected to it and the daemon wants
    /// to know. Without a terminal only.
    #[serde(default)]
    pub keeps: Option<usize>,
}

/// What a process has written, to both of its outputs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// The beginning. What is no UTF-8 is replaced.
    pub text: String,
    /// Whether there was more.
    pub is_cut: bool,
}

/// Rows and columns of a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// What becomes of the container's standard input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdinMode {
    /// `/dev/null` (Docker's `OpenStdin` is false).
    Closed,
    /// Open until the container ends, whoever comes and goes.
    Open,
    /// Closed when the first attached client closes its side (`StdinOnce`).
    OpenOnce,
}

/// Whether a client that reads slowly may slow the container down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogMode {
    /// The container waits for its slowest attached client, as under dockerd.
    #[default]
    Blocking,
    /// Frames that a slow client has no room for are dropped and counted.
    NonBlocking,
}

/// Which program makes the container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    Embedded,
    /// Any OCI runtime, as runc is called.
    Binary {
        path: PathBuf,
        args: Vec<String>,
    },
}

/// Which processes a signal is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The container's first process.
    Init,
    /// Every process in the container.
    All,
}

/// How output is written to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    Raw,
    /// With the header of [`crate::logs::frame`] before each piece.
    Multiplexed,
}

/// What a client is connected to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub framing: Framing,
    /// Bytes that end the connection but not the process when typed in a row; none if empty.
    pub detach_keys: Vec<u8>,
    /// Input that was read from the client before it was handed over.
    #[serde(default)]
    pub buffered: Vec<u8>,
}

/// What the shim says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// Everything; first message of each connection.
    Status(Status),
    Reply {
        id: u64,
        outcome: Result<Reply, Failure>,
    },
    Event(Event),
}

/// All there is to know of a container, whatever was missed before.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: u32,
    /// The container's first process as the host numbers it; absent before the launch.
    pub pid: Option<i32>,
    /// When the container's program began.
    #[serde(default = "never")]
    pub started: Timestamp,
    pub exit: Option<ExitRecord>,
    /// How often the kernel killed for want of memory.
    #[serde(default)]
    pub oom_kills: u64,
    /// Execs that run, and those whose exit no daemon has been told yet.
    #[serde(default)]
    pub execs: Vec<ExecStatus>,
    /// Bytes dropped because clients were slow ([`LogMode::NonBlocking`]).
    #[serde(default)]
    pub dropped: u64,
}

fn never() -> Timestamp {
    Timestamp::UNSET
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecStatus {
    pub id: ExecId,
    pub pid: i32,
    pub exit: Option<ExecExit>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExecExit {
    /// As a shell counts: 128 + signal if a signal ended it.
    pub code: i32,
    pub at: Timestamp,
}

/// How a container ended: the reply to who asks, and the content of [`EXIT_FILE`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ExitRecord {
    /// As a shell counts: 128 + signal if a signal ended it.
    pub code: i32,
    pub signal: Option<i32>,
    pub oom_killed: bool,
    pub at: Timestamp,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    /// The process runs its program; the number is the host's.
    Started {
        pid: i32,
        at: Timestamp,
    },
}

/// Why a command was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    #[error("{message}")]
    Start { kind: StartFailure, message: String },
    #[error("the container is not running")]
    NotRunning,
    #[error("no such exec")]
    NoSuchExec,
    #[error("the shim does not know this command")]
    Unsupported,
    #[error("{0}")]
    System(String),
}

/// What kept a program from being started; clients make 127, 126 and 125 of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFailure {
    NotFound,
    PermissionDenied,
    Other,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Exited(ExitRecord),
    Oom,
    ExecExited {
        id: ExecId,
        exit: ExecExit,
        /// For an exec whose output is kept; nothing waits for such an exit's acknowledgement.
        #[serde(default)]
        kept: Option<Kept>,
    },
    /// A client typed the detach keys.
    Detached {
        exec: Option<ExecId>,
    },
}

/// A frame that breaks the rules; the connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {0} bytes")]
    TooLong(usize),
    #[error("a frame without its descriptors")]
    MissingDescriptors,
}

/// The bytes of a frame. Its descriptors are to be sent with the first of them.
pub fn encode(message: &impl Serialize, fds: usize) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    // Maps with keys that are no strings, the one thing JSON cannot hold, are not among these types.
    if serde_json::to_writer(&mut bytes, message).is_err() {
        bytes.truncate(HEADER);
    }
    let length = (bytes.len() - HEADER) as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..HEADER].copy_from_slice(&(fds as u32).to_le_bytes());
    bytes
}

/// A whole frame: its JSON and its descriptors.
pub type Frame = (Vec<u8>, Vec<OwnedFd>);

/// Gathers bytes and descriptors until frames are whole.
#[derive(Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where [`crate::base::sys::fdpass::receive`] puts descriptors.
    pub fds: VecDeque<OwnedFd>,
}

impl Frames {
    /// Adds what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the first frame if it is whole: its JSON and its descriptors.
    pub fn pop(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let count = u32::from_le_bytes([e, f, g, h]) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        if rest.len() < length {
            return Ok(None);
        }
        if self.fds.len() < count {
            return Err(FrameError::MissingDescriptors);
        }
        let json = rest[..length].to_vec();
        self.bytes.drain(..HEADER + length);
        // A launch message is large and comes once: its room is not kept.
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some((json, self.fds.drain(..count).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_wherever_the_stream_was_torn() {
        let id = ExecId::random();
        let request = Request { id: 7, command: Command::ExecSignal { exec: id, signal: 9 } };
        let mut bytes = encode(&request, 0);
        bytes.extend(encode(&Request { id: 8, command: Command::AcknowledgeExit }, 0));
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for byte in bytes {
            frames.push(&[byte]);
            while let Some((json, _)) = frames.pop().unwrap() {
                seen.push(serde_json::from_slice::<Request>(&json).unwrap().id);
            }
        }
        assert_eq!(seen, [7, 8]);
    }

    #[test]
    fn frames_of_other_releases_are_understood_or_refused_by_number() {
        let newer = r#"{"id":3,"command":{"signal":{"signal":9,"scope":"init","queue":1}},"trace":"x"}"#;
        assert!(matches!(serde_json::from_str::<Request>(newer).unwrap().command, Command::Signal { .. }));
        let unknown = r#"{"id":4,"command":{"levitate":{}}}"#;
        assert!(serde_json::from_str::<Request>(unknown).is_err());
        assert_eq!(serde_json::from_str::<UnknownRequest>(unknown).unwrap().id, 4);
        let older: Status = serde_json::from_str(r#"{"version":1,"pid":5,"exit":null}"#).unwrap();
        assert!(older.execs.is_empty());
    }

    #[test]
    fn a_frame_that_lies_about_itself_ends_the_connection() {
        let mut frames = Frames::default();
        frames.push(&[0xff; 8]);
        assert!(matches!(frames.pop(), Err(FrameError::TooLong(_))));
        let mut frames = Frames::default();
        frames.push(&encode(&Message::Event(Event::Oom), 1));
        assert!(matches!(frames.pop(), Err(FrameError::MissingDescriptors)));
    }
}

#[cfg(test)]
mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(300))]

        #[test]
        fn frames_come_out_as_they_went_in(
            messages in vec((any::<String>(), 0..3usize), 0..5),
            cuts in vec(1..40usize, 1..8),
        ) {
            let mut stream: Vec<u8> = messages.iter().flat_map(|(text, fds)| encode(text, *fds)).collect();
            let mut frames = Frames::default();
            let total = messages.iter().map(|(_, fds)| fds).sum();
            frames.fds.extend((0..total).map(|_| std::fs::File::open("/dev/null").unwrap().into()));
            let mut found = Vec::new();
            for cut in cuts.iter().cycle() {
                frames.push(&stream.drain(..(*cut).min(stream.len())).collect::<Vec<_>>());
                while let Some((json, fds)) = frames.pop().unwrap() {
                    found.push((serde_json::from_slice::<String>(&json).unwrap(), fds.len()));
                }
                if stream.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, messages);
            prop_assert!(frames.fds.is_empty() && frames.bytes.is_empty());
        }

        #[test]
        fn any_bytes_are_frames_or_end_the_connection(
            pieces in vec(vec(prop_oneof![Just(0), any::<u8>()], 0..20), 0..8),
        ) {
            let mut frames = Frames::default();
            let (mut pushed, mut popped) = (0, 0);
            'all: for piece in pieces {
                frames.push(&piece);
                pushed += piece.len();
                loop {
                    match frames.pop() {
                        Ok(Some((json, fds))) => {
                            popped += HEADER + json.len();
                            prop_assert!(fds.is_empty());
                            let _ = serde_json::from_slice::<Request>(&json);
                        }
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
                prop_assert_eq!(frames.bytes.len(), pushed - popped);
            }
        }
    }
}
