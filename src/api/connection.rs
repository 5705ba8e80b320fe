//! Drives one client's connection: HTTP/1.1 until it ends, its client goes, or a handler takes the socket.
//!
//! A client may close its sending half right after the request and still wait for the response, so the end of input
//! is not the end of the client. On a Unix socket the kernel tells the two apart, and only a hang-up ends the
//! handlers that run for the client. On TCP it cannot, and the end of input counts as the end of the client.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::Api;
use crate::api::hijack::{ClientIo, Connection, Taken};
use crate::api::request_line::Escaped;
use crate::base::sys::socket;

/// How long a client may take from connecting, or from its last response, to the end of a request's headers; dockerd's
/// too.
const HEADER_PATIENCE: Duration = Duration::from_secs(300);

/// Serves a connection to its end. When `closing` becomes true, it ends after the request at hand.
pub async fn serve(
    api: Arc<Api>,
    io: ClientIo,
    mut closing: watch::Receiver<bool>,
) -> Result<(), hyper::Error> {
    let (connection, asked) = Connection::new(io.peer());
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        let api = api.clone();
        async move { Ok::<_, std::convert::Infallible>(api.handle(request.map(Body::new)).await) }
    });
    let mut driven = Driven::new(io, service, asked);
    let mut closed = pin!(closing.wait_for(|closing| *closing));
    let mut is_closing = false;
    std::future::poll_fn(|cx| {
        if !is_closing && closed.as_mut().poll(cx).is_ready() {
            is_closing = true;
            driven.close();
        }
        driven.poll(cx)
    })
    .await
}

/// A connection and the ways in which it ends.
struct Driven<S: HttpService<Incoming>> {
    http: Option<http1::Connection<TokioIo<Escaped<ClientIo>>, S>>,
    asked: mpsc::Receiver<oneshot::Sender<Taken>>,
    hung_up: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<S> Driven<S>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn new(io: ClientIo, service: S, asked: mpsc::Receiver<oneshot::Sender<Taken>>) -> Self {
        let unix = io.unix_socket();
        let mut builder = http1::Builder::new();
        // Names as dockerd writes them: people grep for them.
        builder.title_case_headers(true).half_close(unix.is_some());
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
        let http = builder.serve_connection(TokioIo::new(Escaped::new(io)), service);
        Self { http: Some(http), asked, hung_up: Box::pin(hang_up(unix)) }
    }

    fn close(&mut self) {
        if let Some(http) = &mut self.http {
            Pin::new(http).graceful_shutdown();
        }
    }

    /// Ends with the connection or its client, or when it was handed to a handler that asked for it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        let Some(http) = &mut self.http else { return Poll::Ready(Ok(())) };
        if let Poll::Ready(result) = Pin::new(http).poll(cx) {
            return Poll::Ready(result);
        }
        if let Poll::Ready(Some(asker)) = self.asked.poll_recv(cx) {
            self.hand_over(asker);
            return Poll::Ready(Ok(()));
        }
        self.hung_up.as_mut().poll(cx).map(Ok)
    }

    /// The asking handler runs in a task of its own, so that it survives the connection's end here.
    fn hand_over(&mut self, asker: oneshot::Sender<Taken>) {
        if let Some(http) = self.http.take() {
            let parts = http.into_parts();
            let (io, unread) = parts.io.into_inner().into_parts();
            let beyond = match unread.is_empty() {
                true => parts.read_buf,
                false => [parts.read_buf, unread].concat().into(),
            };
            // An asker that is gone needs nothing; the socket closes.
            let _ = asker.send((io, beyond));
        }
    }
}

/// Ends when the peer of a Unix socket has closed it altogether; never for other sockets.
async fn hang_up(unix: Option<OwnedFd>) {
    if let Some(socket) = unix
        && socket::hung_up(socket).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;
    use crate::api::hijack::ClientSocket;

    const HEAD: &str = "HTTP/1.1 101 UPGRADED\r\n\r\n";

    /// A daemon's end and a client's end.
    fn pair() -> (ClientIo, StdStream) {
        let (ours, client) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        (ClientIo::Unix(tokio::net::UnixStream::from_std(ours).unwrap()), client)
    }

    /// Serves a connection whose only handler takes it out of HTTP.
    async fn take_after_request(io: ClientIo) -> ClientSocket {
        let (connection, asked) = Connection::new(io.peer());
        let (given, gets) = oneshot::channel();
        let given = std::sync::Mutex::new(Some(given));
        let service = service_fn(move |_: http::Request<Incoming>| {
            let (connection, given) = (connection.clone(), given.lock().unwrap().take().unwrap());
            tokio::spawn(async move { given.send(connection.take(HEAD).await.unwrap()).unwrap() });
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        let mut driven = Driven::new(io, service, asked);
        std::future::poll_fn(|cx| driven.poll(cx)).await.unwrap();
        gets.await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hijacked_socket_comes_with_what_was_sent_early() {
        let (io, mut client) = pair();
        client.write_all(b"POST /exec/x/start HTTP/1.1\r\nHost: d\r\n\r\nearly").unwrap();
        let reader = std::thread::spawn(move || {
            let mut head = [0; 256];
            let length = client.read(&mut head).unwrap();
            client.write_all(b"late").unwrap();
            (client, String::from_utf8(head[..length].to_vec()).unwrap())
        });
        let socket = take_after_request(io).await;
        let (mut client, head) = reader.join().unwrap();
        assert_eq!(head, HEAD);
        let mut ours = StdStream::from(socket.socket);
        ours.set_nonblocking(false).unwrap();
        let mut late = [0; 4];
        ours.read_exact(&mut late).unwrap();
        assert_eq!((&socket.buffered[..], &late[..]), (&b"early"[..], &b"late"[..]));
        ours.write_all(b"out").unwrap();
        drop(ours);
        let mut rest = String::new();
        client.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "out");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn payload_is_never_read_together_with_the_head() {
        for delay in [0, 1, 5] {
            let (io, mut client) = pair();
            client
                .write_all(b"POST /x HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n")
                .unwrap();
            let reader = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(delay));
                let mut first = [0; 4096];
                let length = client.read(&mut first).unwrap();
                String::from_utf8(first[..length].to_vec()).unwrap()
            });
            let socket = take_after_request(io).await;
            let mut ours = StdStream::from(socket.socket);
            // The reader may be gone by now, having read the head.
            let _ = ours.write_all(b"payload");
            assert_eq!(reader.join().unwrap(), HEAD, "after {delay} ms");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_does_not_read_is_not_waited_for() {
        let (io, mut client) = pair();
        client.write_all(b"POST /x HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
        tokio::time::timeout(Duration::from_secs(2), take_after_request(io))
            .await
            .expect("patience is short");
        drop(client);
    }

    /// Answers one request after `delay`; returns when the connection has ended.
    async fn answer_after(io: ClientIo, delay: Duration) {
        let (_connection, asked) = Connection::new(io.peer());
        let service = service_fn(move |_: http::Request<Incoming>| async move {
            tokio::time::sleep(delay).await;
            Ok::<_, Infallible>(http::Response::new(Body::from("late")))
        });
        let mut driven = Driven::new(io, service, asked);
        std::future::poll_fn(|cx| driven.poll(cx)).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_closed_its_sending_half_gets_its_response() {
        let (io, mut client) = pair();
        client.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            text
        });
        answer_after(io, Duration::from_millis(50)).await;
        assert!(reader.join().unwrap().ends_with("\r\n\r\nlate"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_hung_up_is_noticed() {
        let (io, mut client) = pair();
        client.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n").unwrap();
        let served = tokio::spawn(answer_after(io, Duration::from_secs(3600)));
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!served.is_finished());
        drop(client);
        tokio::time::timeout(Duration::from_secs(5), served).await.unwrap().unwrap();
    }
}
