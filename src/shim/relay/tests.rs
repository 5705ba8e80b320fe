use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;

/// Serves `relay` on a thread of its own while `test` runs.
fn serving(relay: Relay, socket: OwnedFd, test: impl FnOnce()) {
    let over = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&over);
    let server = std::thread::spawn(move || {
        let poller = Poller::new().unwrap();
        let mut relays = Relays::default();
        let mut held = vec![std::fs::File::open("/dev/null").unwrap().into(), socket];
        relays.serve(&[relay], &mut held, &poller).unwrap();
        assert_eq!(held.len(), 1, "the other descriptor stays");
        let mut events = Vec::new();
        while !ended.load(Ordering::Relaxed) {
            poller.wait(Some(Duration::from_millis(20)), &mut events).unwrap();
            for (token, flags) in events.drain(..) {
                let Token::Relay(id, which) = token else { panic!("{token:?}") };
                relays.ready(id, which, flags, &poller);
            }
        }
        let left = relays.parts.len();
        relays.close(&poller);
        left
    });
    test();
    over.store(true, Ordering::Relaxed);
    assert_eq!(server.join().unwrap(), 1, "only the port itself is left");
}

fn tcp(to: SocketAddr) -> (Relay, OwnedFd) {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let host = listener.local_addr().unwrap();
    (Relay { protocol: RelayProtocol::Tcp, host, container: to }, listener.into())
}

#[test]
fn a_connection_is_carried_both_ways_and_half_closed() {
    let container = TcpListener::bind("127.0.0.1:0").unwrap();
    let (relay, socket) = tcp(container.local_addr().unwrap());
    let host = relay.host;
    serving(relay, socket, || {
        // More than all buffers on the way hold, so that each side must wait for the other.
        let sent: Vec<u8> = (0..32_u32 << 20).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = container.accept().unwrap();
            std::thread::sleep(Duration::from_millis(100));
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert!(all == expected);
            stream.write_all(&all).unwrap();
        });
        let mut client = TcpStream::connect(host).unwrap();
        client.write_all(&sent).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).unwrap();
        assert!(back == sent);
        answering.join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    });
}

/// An end that was seen as the last thing of a turn was once not told to the other side.
#[test]
fn an_end_is_passed_on_whenever_it_is_seen() {
    let container = TcpListener::bind("127.0.0.1:0").unwrap();
    let (relay, socket) = tcp(container.local_addr().unwrap());
    let host = relay.host;
    serving(relay, socket, || {
        let sent = vec![7; CHUNK * TURN];
        for _ in 0..200 {
            let mut client = TcpStream::connect(host).unwrap();
            let (mut stream, _) = container.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    client.write_all(&sent).unwrap();
                    client.shutdown(std::net::Shutdown::Write).unwrap();
                });
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                assert_eq!(all.len(), sent.len());
            });
        }
        std::thread::sleep(Duration::from_millis(50));
    });
}

#[test]
fn a_client_is_let_go_where_nobody_listens() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (relay, socket) = tcp(nobody);
    let host = relay.host;
    serving(relay, socket, || {
        for _ in 0..20 {
            let mut client = TcpStream::connect(host).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            match client.read(&mut [0; 1]) {
                Ok(0) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
                other => panic!("{other:?}"),
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    });
}

#[test]
fn datagrams_find_their_way_back_to_each_client() {
    let container = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("[::1]:0").unwrap();
    let host = socket.local_addr().unwrap();
    let to = container.local_addr().unwrap();
    let relay = Relay { protocol: RelayProtocol::Udp, host, container: to };
    let answering = std::thread::spawn(move || {
        container.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut bytes = [0; 16];
        for _ in 0..6 {
            let (length, from) = container.recv_from(&mut bytes).unwrap();
            container.send_to(&bytes[..length], from).unwrap();
        }
    });
    serving(relay, socket.into(), || {
        let clients = [(); 3].map(|()| UdpSocket::bind("[::1]:0").unwrap());
        for round in 0..2_u8 {
            for (number, client) in (0..).zip(&clients) {
                client.send_to(&[round, number], host).unwrap();
            }
            for (number, client) in (0..).zip(&clients) {
                client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let mut bytes = [0; 16];
                let (length, from) = client.recv_from(&mut bytes).unwrap();
                assert_eq!((&bytes[..length], from), (&[round, number][..], host));
            }
        }
    });
    answering.join().unwrap();
}
