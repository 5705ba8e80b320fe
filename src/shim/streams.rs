//! One process's standard streams, between its pipes or terminal, the log and the clients.
//!
//! Invariants: output is logged before any client has it; a client that falls behind stops the reading of output
//! (unless the log mode says otherwise) and nothing else; when the process has ended, output is read to its end
//! whatever clients do, because a pipe holds no more than can be kept for them.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use super::client::{Client, Reads, set_nonblocking};
use super::detach::Typed;
use super::input::Input;
use super::log::Log;
use super::poll::{Key, Poller, Token};
use crate::base::id::ExecId;
use crate::base::sys::pty;
use crate::base::time::Timestamp;
use crate::logs::Stream;
use crate::logs::frame::Channel;
use crate::runtime::protocol::{Failure, Kept, LogMode, Size, StdinMode, Streams as Wanted};

/// Bytes read from a pipe at once: all that it holds unless it was enlarged.
const CHUNK: usize = 64 * 1024;
/// How many chunks are read from one pipe before others have their turn.
const TURN: usize = 16;
/// A client that takes nothing for this long after the process has ended is given up.
const PATIENCE: Duration = Duration::from_secs(30);

const BOTH: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// The shim's ends of a process's streams.
#[derive(Default)]
pub struct Ends {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// The streams.
pub struct Streams {
    key: Key,
    outputs: [Option<Output>; 2],
    input: Option<Input>,
    stdin_mode: StdinMode,
    terminal: Option<Terminal>,
    clients: BTreeMap<u16, Client>,
    next_client: u16,
    mode: LogMode,
    /// False until there are pipes or a terminal.
    opened: bool,
    /// Input that came before that.
    early: Vec<u8>,
    keeper: Option<Keeper>,
    /// Bytes not sent to clients that were behind.
    pub dropped: u64,
}

struct Output {
    fd: OwnedFd,
    token: Token,
    watched: bool,
}

impl Output {
    /// Watches for output or not. Taken out of the poller altogether while it is not read: a hang-up would be told
    /// over and over.
    fn watch(&mut self, reads: Reads, poller: &Poller) {
        let wanted = reads == Reads::Now;
        if wanted == self.watched {
            return;
        }
        if !wanted {
            poller.remove(&self.fd);
            self.watched = false;
        } else if poller.add(&self.fd, self.token, EpollFlags::EPOLLIN).is_ok() {
            self.watched = true;
        }
    }
}

/// The beginning of the output.
struct Keeper {
    most: usize,
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Keeper {
    fn take(&mut self, bytes: &[u8]) {
        let room = self.most - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.is_cut |= bytes.len() > room;
    }
}

/// How output is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// No faster than clients take it.
    AtPace,
    /// The process has ended: all of it, now.
    ToTheEnd,
}

struct Terminal {
    master: OwnedFd,
    /// Kept open while the process lives: else the terminal hangs up whenever no process happens to have it open.
    _slave: Option<OwnedFd>,
}

/// Something to tell about a client.
#[derive(PartialEq, Eq, Debug)]
pub enum ClientEvent {
    Detached,
}

impl Streams {
    /// Streams without anything to read or write yet.
    pub fn new(key: Key, stdin_mode: StdinMode, mode: LogMode) -> Self {
        Self {
            key,
            outputs: [None, None],
            input: None,
            stdin_mode,
            terminal: None,
            clients: BTreeMap::new(),
            next_client: 0,
            mode,
            opened: false,
            early: Vec::new(),
            keeper: None,
            dropped: 0,
        }
    }

    /// Begins to use the shim's ends of pipes.
    pub fn open_pipes(&mut self, ends: Ends, poller: &Poller) -> io::Result<()> {
        if let Some(fd) = ends.stdin {
            self.input = Some(Input::new(fd, Token::Input(self.key), poller)?);
        }
        for (stream, fd) in BOTH.into_iter().zip([ends.stdout, ends.stderr]) {
            if let Some(fd) = fd {
                self.open_output(stream, fd, poller)?;
            }
        }
        self.opened(poller);
        Ok(())
    }

    /// Begins to use a terminal.
    pub fn open_terminal(&mut self, master: OwnedFd, size: Option<Size>, poller: &Poller) -> io::Result<()> {
        if let Some(size) = size {
            pty::resize(master.as_fd(), size.rows, size.columns)?;
        }
        let slave = pty::open_peer(master.as_fd()).ok();
        if self.stdin_mode != StdinMode::Closed {
            self.input = Some(Input::new(master.try_clone()?, Token::Input(self.key), poller)?);
        }
        self.open_output(Stream::Stdout, master.try_clone()?, poller)?;
        self.terminal = Some(Terminal { master, _slave: slave });
        self.opened(poller);
        Ok(())
    }

    fn open_output(&mut self, stream: Stream, fd: OwnedFd, poller: &Poller) -> io::Result<()> {
        set_nonblocking(&fd)?;
        let token = Token::Output(self.key, stream);
        poller.add(&fd, token, EpollFlags::EPOLLIN)?;
        self.outputs[stream as usize] = Some(Output { fd, token, watched: true });
        Ok(())
    }

    /// There are streams now: what clients have sent before goes to the process.
    fn opened(&mut self, poller: &Poller) {
        self.opened = true;
        let early = std::mem::take(&mut self.early);
        if let Some(input) = &mut self.input {
            input.write(&early);
        }
        self.watch(poller);
    }

    /// Connects a client.
    pub fn attach(&mut self, fd: OwnedFd, mut wanted: Wanted, poller: &Poller) -> io::Result<()> {
        while self.clients.contains_key(&self.next_client) {
            self.next_client = self.next_client.wrapping_add(1);
        }
        let id = self.next_client;
        self.next_client = id.wrapping_add(1);
        let early = std::mem::take(&mut wanted.buffered);
        let client = Client::new(fd, wanted, Token::Client(self.key, id), poller)?;
        self.clients.insert(id, client);
        if !early.is_empty() {
            let _ = self.take_input(id, &early, poller);
        }
        self.watch(poller);
        Ok(())
    }

    /// Sets the terminal's size.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        match &self.terminal {
            Some(terminal) => pty::resize(terminal.master.as_fd(), size.rows, size.columns),
            None => Ok(()),
        }
    }

    /// Closes standard input once what waits for it is written.
    pub fn close_stdin(&mut self, poller: &Poller) {
        self.stdin_mode = StdinMode::Closed;
        if let Some(input) = &mut self.input {
            input.end();
        }
        self.close_ended_input(poller);
        self.watch(poller);
    }

    /// Reads output that is there. `log` is absent for execs.
    pub fn read_output(&mut self, stream: Stream, log: Option<&mut Log>, reading: Reading, poller: &Poller) {
        let mut log = log;
        let mut buffer = Vec::with_capacity(CHUNK);
        for _ in 0..TURN {
            if reading == Reading::AtPace && self.must_wait() {
                break;
            }
            let Some(output) = &self.outputs[stream as usize] else { return };
            match read(&output.fd, &mut buffer) {
                Ok(count) if count > 0 => self.deliver(stream, &buffer, log.as_deref_mut(), poller),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // A terminal whose last process is gone gives EIO.
                Ok(_) | Err(_) => {
                    self.close_output(stream, log, poller);
                    break;
                }
            }
        }
        self.watch(poller);
    }

    /// Keeps the first `most` bytes of output from now on.
    pub fn keep(&mut self, most: usize) {
        self.keeper = Some(Keeper { most, bytes: Vec::new(), is_cut: false });
    }

    /// What was kept, if anything was to be.
    pub fn take_kept(&mut self) -> Option<Kept> {
        let Keeper { bytes, is_cut, .. } = self.keeper.take()?;
        Some(Kept { text: String::from_utf8_lossy(&bytes).into_owned(), is_cut })
    }

    fn deliver(&mut self, stream: Stream, bytes: &[u8], mut log: Option<&mut Log>, poller: &Poller) {
        if let Some(log) = &mut log {
            log.write(stream, Timestamp::now(), bytes);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.take(bytes);
        }
        let before = self.dropped;
        let mut gone = Vec::new();
        for (id, client) in self.clients.iter_mut().filter(|(_, client)| client.wants(stream)) {
            if self.mode == LogMode::NonBlocking && client.is_behind() {
                self.dropped += bytes.len() as u64;
            } else if client.send(Channel::from(stream), bytes).is_err() {
                gone.push(*id);
            }
        }
        gone.into_iter().for_each(|id| self.remove(id, poller));
        if let Some(log) = log {
            log.not_shown(self.dropped - before);
        }
    }

    /// Ends one output: no writer is left, or none is waited for any more.
    pub fn close_output(&mut self, stream: Stream, log: Option<&mut Log>, poller: &Poller) {
        if let Some(output) = self.outputs[stream as usize].take() {
            if output.watched {
                poller.remove(&output.fd);
            }
            if let Some(log) = log {
                log.finish(stream, Timestamp::now());
            }
        }
    }

    /// True if no output is left to read.
    pub fn outputs_ended(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    /// The process has ended: its terminal shall report the end once it is empty.
    pub fn let_go_of_terminal(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal._slave = None;
        }
    }

    /// Ends every client's connection once what waits for it is written.
    pub fn end_clients(&mut self, poller: &Poller) {
        if let Some(input) = self.input.take() {
            input.close(poller);
        }
        self.clients.values_mut().for_each(Client::end);
        self.watch(poller);
    }

    /// There will be no process: an exec's clients read why, as dockerd has it in the stream.
    pub fn refuse(&mut self, failure: &Failure, exec: Option<&ExecId>, poller: &Poller) {
        if exec.is_some() {
            let text = format!("OCI runtime exec failed: {failure}\r\n");
            for client in self.clients.values_mut() {
                let _ = client.send(Channel::Stdout, text.as_bytes());
            }
        }
        self.end_clients(poller);
    }

    /// True if no client is left.
    pub fn clients_gone(&self) -> bool {
        self.clients.is_empty()
    }

    /// Gives up clients that have taken nothing for too long. Only after the end of the process.
    pub fn give_up_stuck_clients(&mut self, poller: &Poller) {
        let stuck = self.clients.iter().filter(|(_, client)| client.progress.elapsed() >= PATIENCE);
        let stuck: Vec<_> = stuck.map(|(id, _)| *id).collect();
        stuck.into_iter().for_each(|id| self.remove(id, poller));
    }

    /// Something happened on a client's connection.
    pub fn client_ready(&mut self, id: u16, events: EpollFlags, poller: &Poller) -> Option<ClientEvent> {
        let client = self.clients.get_mut(&id)?;
        let mut event = None;
        if events.contains(EpollFlags::EPOLLOUT) && client.flush().is_err() {
            self.remove(id, poller);
        } else if events.contains(EpollFlags::EPOLLIN) {
            event = self.read_client(id, poller);
        } else if events.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.remove(id, poller);
        }
        self.watch(poller);
        event
    }

    fn read_client(&mut self, id: u16, poller: &Poller) -> Option<ClientEvent> {
        let mut buffer = Vec::with_capacity(CHUNK / 2);
        let client = self.clients.get_mut(&id)?;
        match read(&client.fd, &mut buffer) {
            Ok(0) => {
                client.sends = false;
                self.input_ended(id);
                self.close_ended_input(poller);
                None
            }
            Ok(_) => self.take_input(id, &buffer, poller),
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Err(_) => {
                self.remove(id, poller);
                None
            }
        }
    }

    fn take_input(&mut self, id: u16, bytes: &[u8], poller: &Poller) -> Option<ClientEvent> {
        let client = self.clients.get_mut(&id)?;
        if !client.sends {
            return None;
        }
        let (bytes, event) = match client.keys().sift(bytes) {
            Typed::Forward(bytes) => (bytes, None),
            Typed::Leave(bytes) => (bytes, Some(ClientEvent::Detached)),
        };
        match &mut self.input {
            Some(input) => input.write(&bytes),
            None if self.opened => {}
            None => self.early.extend_from_slice(&bytes),
        }
        self.close_ended_input(poller);
        if event.is_some()
            && let Some(client) = self.clients.get_mut(&id)
        {
            client.end();
        }
        event
    }

    /// A client closed its sending side. What dockerd makes of it: the input of `StdinOnce` without a terminal ends;
    /// otherwise the client's connection does.
    fn input_ended(&mut self, id: u16) {
        if self.stdin_mode == StdinMode::OpenOnce && self.terminal.is_none() {
            if let Some(input) = &mut self.input {
                input.end();
            }
        } else if let Some(client) = self.clients.get_mut(&id) {
            client.end();
        }
    }

    /// The process's input can take more, or nobody reads it any more.
    pub fn input_ready(&mut self, poller: &Poller) {
        if let Some(input) = &mut self.input {
            input.flush();
        }
        self.close_ended_input(poller);
        self.watch(poller);
    }

    fn close_ended_input(&mut self, poller: &Poller) {
        if self.input.as_ref().is_some_and(Input::is_over)
            && let Some(input) = self.input.take()
        {
            input.close(poller);
        }
    }

    /// Adjusts what is watched to what can be dealt with, and closes connections that are over.
    fn watch(&mut self, poller: &Poller) {
        let over: Vec<_> =
            self.clients.iter().filter(|(_, client)| client.is_over()).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.remove(id, poller));
        let reads = match &self.input {
            Some(input) if input.is_full() => Reads::Later,
            None if !self.opened => Reads::Later,
            _ => Reads::Now,
        };
        self.clients.values_mut().for_each(|client| client.watch(poller, reads));
        if let Some(input) = &mut self.input {
            input.watch(poller);
        }
        let reads = if self.must_wait() { Reads::Later } else { Reads::Now };
        self.outputs.iter_mut().flatten().for_each(|output| output.watch(reads, poller));
    }

    fn must_wait(&self) -> bool {
        self.mode == LogMode::Blocking && self.clients.values().any(Client::is_behind)
    }

    fn remove(&mut self, id: u16, poller: &Poller) {
        if let Some(client) = self.clients.remove(&id) {
            client.close(poller);
        }
    }
}

/// Reads into the room of `buffer`, replacing what is in it. Only what was read is ever touched: a buffer that were
/// zeroed first would be paid for by every idle shim.
fn read(fd: &OwnedFd, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
    buffer.clear();
    let room = buffer.spare_capacity_mut();
    // SAFETY: the kernel writes at most `room.len()` bytes into memory that `buffer` owns.
    let count = unsafe { libc::read(fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) };
    let count = Errno::result(count)? as usize;
    // SAFETY: the kernel has written the first `count` bytes.
    unsafe { buffer.set_len(count) };
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_up_to_a_limit() {
        for (length, is_cut) in [(0, false), (4096, false), (4097, true), (20_000, true)] {
            let mut keeper = Keeper { most: 4096, bytes: Vec::new(), is_cut: false };
            let written = vec![b'x'; length];
            written.chunks(1000).for_each(|piece| keeper.take(piece));
            assert_eq!((keeper.bytes.len(), keeper.is_cut), (length.min(4096), is_cut), "{length}");
        }
    }
}
