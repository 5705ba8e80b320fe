//! A recorder between the clients and the engine: passes every byte on as it comes, half-closes and hang-ups too,
//! and keeps each HTTP exchange so that it can be held against the specification afterwards.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::wire::{Message, Reader};

/// A request's first line and the whole response.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: String,
    pub target: String,
    pub response: Message,
}

type Exchanges = Arc<Mutex<Vec<Exchange>>>;
type Requests = Arc<Mutex<VecDeque<(String, String)>>>;

/// Listens until dropped.
pub struct Proxy {
    listener: Arc<UnixListener>,
    exchanges: Exchanges,
}

impl Proxy {
    /// Accepts on `front` and connects to `back` for each client.
    pub fn start(front: &Path, back: PathBuf) -> Self {
        let listener = Arc::new(UnixListener::bind(front).unwrap());
        let exchanges = Exchanges::default();
        let (accepting, record) = (listener.clone(), exchanges.clone());
        std::thread::spawn(move || {
            while let Ok((client, _)) = accepting.accept() {
                // No engine: the client sees its connection closed.
                let Ok(engine) = UnixStream::connect(&back) else { continue };
                pass(client, engine, record.clone());
            }
        });
        Self { listener, exchanges }
    }

    /// What has been answered so far.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.exchanges.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // wakes accept(2)
        let _ = nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

fn pass(client: UnixStream, engine: UnixStream, exchanges: Exchanges) {
    let requests = Requests::default();
    let (client_reads, engine_writes) = (client.try_clone().unwrap(), engine.try_clone().unwrap());
    let asked = requests.clone();
    std::thread::spawn(move || pass_requests(client_reads, engine_writes, &asked));
    std::thread::spawn(move || pass_responses(engine, client, &requests, &exchanges));
}

fn pass_requests(mut client: UnixStream, mut engine: UnixStream, asked: &Requests) {
    let mut reader = Reader::new();
    let mut buffer = vec![0; 65536];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        // Noted before the engine sees it, so that the answer always finds it.
        reader.feed(&buffer[..count], |head| {
            let (method, target) = head.request_line();
            asked.lock().unwrap().push_back((method.to_owned(), target.to_owned()));
            head.request_framing()
        });
        if engine.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
    let _ = engine.shutdown(Shutdown::Write);
    wait_for_hang_up(&client);
    let _ = engine.shutdown(Shutdown::Both);
}

/// Returns when the peer has closed its socket altogether, not just its sending half.
fn wait_for_hang_up(client: &UnixStream) {
    let mut watched = [PollFd::new(client.as_fd(), PollFlags::empty())];
    while let Err(nix::errno::Errno::EINTR) = poll(&mut watched, PollTimeout::NONE) {}
}

fn pass_responses(mut engine: UnixStream, mut client: UnixStream, asked: &Requests, exchanges: &Exchanges) {
    let mut reader = Reader::new();
    let mut buffer = vec![0; 65536];
    let record = |message: Message| {
        let Some((method, target)) = asked.lock().unwrap().pop_front() else { return };
        exchanges.lock().unwrap().push(Exchange { method, target, response: message });
    };
    while let Ok(count @ 1..) = engine.read(&mut buffer) {
        let whole = reader.feed(&buffer[..count], |head| {
            let method = asked.lock().unwrap().front().map(|(method, _)| method.clone());
            head.response_framing(method.as_deref().unwrap_or(""))
        });
        whole.into_iter().for_each(record);
        if client.write_all(&buffer[..count]).is_err() {
            let _ = engine.shutdown(Shutdown::Both);
            return;
        }
    }
    reader.close().into_iter().for_each(record);
    let _ = client.shutdown(Shutdown::Write);
}
