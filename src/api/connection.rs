//! Drives one client's connection: HTTP/1.1 until it ends, its client goes, or a handler takes the socket.
//!
//! A client may close its sending half right after the request and still wait for the response, so the end of input
//! is not the end of the client. On a Unix socket the kernel tells the two apart, and only a hang-up ends the
//! handlers that run for the client. On TCP it cannot, and the end of input counts as the end of the client.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::Api;
use crate::api::client_io::ClientIo;
use crate::api::hijack::{Ask, Connection, Taken};
use crate::api::loan::Loan;
use crate::api::request_line::Escaped;
use crate::api::unix_io::Attention;
use crate::base::sys::socket;

/// How long a client may take from connecting, or from its last response, to the end of a request's headers; dockerd's
/// too.
const HEADER_PATIENCE: Duration = Duration::from_secs(300);

/// Serves a connection to its end. When `closing` becomes true, it ends after the request at hand.
pub async fn serve(api: Arc<Api>, io: ClientIo, closing: watch::Receiver<bool>) -> Result<(), hyper::Error> {
    let (connection, asked) = Connection::new(io.peer());
    let requests = Requests::new(move |mut request| {
        request.extensions_mut().insert(connection.clone());
        let api = api.clone();
        async move { api.handle(request.map(Body::new)).await }
    });
    drive(Driven::new(io, requests, asked), closing).await
}

async fn drive(mut driven: Driven, mut closing: watch::Receiver<bool>) -> Result<(), hyper::Error> {
    let mut closed = pin!(closing.wait_for(|closing| *closing));
    let mut is_closing = false;
    loop {
        let step = std::future::poll_fn(|cx| {
            if !is_closing && closed.as_mut().poll(cx).is_ready() {
                is_closing = true;
                driven.close();
            }
            driven.poll(cx)
        });
        let (bell, asker) = match step.await {
            Step::Over(result) => return result,
            Step::Asked(Ask::Take(asker)) => {
                driven.hand_over(asker);
                return Ok(());
            }
            Step::Asked(Ask::Borrow(bell, asker)) => (bell, asker),
        };
        let (loan, back) = Loan::new(driven, bell);
        // Of an asker that is gone it comes back at once.
        drop(asker.send(loan));
        match back.await {
            Ok(returned) => driven = returned,
            Err(_) => return Ok(()),
        }
    }
}

/// What answers the requests of a connection.
pub(super) struct Requests(Box<dyn Fn(http::Request<Incoming>) -> Answer + Send>);

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl Requests {
    fn new<F>(answer: impl Fn(http::Request<Incoming>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = http::Response<Body>> + Send + 'static,
    {
        Self(Box::new(move |request| {
            let answered = answer(request);
            Box::pin(async move { Ok(answered.await) })
        }))
    }
}

impl Service<http::Request<Incoming>> for Requests {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: http::Request<Incoming>) -> Answer {
        (self.0)(request)
    }
}

/// A connection and the ways in which it ends.
pub(super) struct Driven {
    http: http1::Connection<TokioIo<Escaped<ClientIo>>, Requests>,
    over: Option<Result<(), hyper::Error>>,
    asked: mpsc::Receiver<Ask>,
    attention: Option<Arc<Attention>>,
    hung_up: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What the driver of a connection has to see to.
enum Step {
    Over(Result<(), hyper::Error>),
    Asked(Ask),
}

impl Driven {
    fn new(io: ClientIo, requests: Requests, asked: mpsc::Receiver<Ask>) -> Self {
        let attention = io.attention();
        let mut builder = http1::Builder::new();
        // Names as dockerd writes them: people grep for them.
        builder.title_case_headers(true).half_close(attention.is_some());
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE);
        let http = builder.serve_connection(TokioIo::new(Escaped::new(io)), requests);
        let hung_up = Box::pin(hang_up(attention.clone()));
        Self { http, over: None, asked, attention, hung_up }
    }

    pub(super) fn attention(&self) -> Option<Arc<Attention>> {
        self.attention.clone()
    }

    fn close(&mut self) {
        Pin::new(&mut self.http).graceful_shutdown();
    }

    /// Goes on with reading and answering; ready when the connection is over.
    pub(super) fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over.is_none() {
            self.over = Some(ready!(Pin::new(&mut self.http).poll(cx)));
        }
        Poll::Ready(())
    }

    /// Ends with the connection or its client, or when a handler asks for it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if self.go_on(cx).is_ready() {
            return Poll::Ready(Step::Over(self.over.take().unwrap_or(Ok(()))));
        }
        if let Poll::Ready(Some(ask)) = self.asked.poll_recv(cx) {
            return Poll::Ready(Step::Asked(ask));
        }
        self.hung_up.as_mut().poll(cx).map(|()| Step::Over(Ok(())))
    }

    /// The asking handler runs in a task of its own, so that it survives the connection's end here.
    fn hand_over(self, asker: oneshot::Sender<Taken>) {
        let parts = self.http.into_parts();
        let (io, unread) = parts.io.into_inner().into_parts();
        let beyond = match unread.is_empty() {
            true => parts.read_buf,
            false => [parts.read_buf, unread].concat().into(),
        };
        // An asker that is gone needs nothing; the socket closes.
        let _ = asker.send((io, beyond));
    }
}

/// Ends when the peer of a Unix socket has closed it altogether; never for other sockets.
async fn hang_up(unix: Option<Arc<Attention>>) {
    if let Some(socket) = unix
        && socket::hung_up(socket).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;
    use crate::api::body_reader::BodyReader;
    use crate::api::hijack::ClientSocket;
    use crate::api::unix_io::UnixIo;

    const HEAD: &str = "HTTP/1.1 101 UPGRADED\r\n\r\n";

    /// A daemon's end and a client's end.
    fn pair() -> (ClientIo, StdStream) {
        let (ours, client) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
        let ours = UnixIo::new(tokio::net::UnixStream::from_std(ours).unwrap());
        (ClientIo::Unix(ours.unwrap()), client)
    }

    /// Serves a connection to its end.
    async fn serve<F>(
        io: ClientIo,
        answer: impl Fn(Connection, http::Request<Incoming>) -> F + Send + 'static,
    ) where
        F: Future<Output = http::Response<Body>> + Send + 'static,
    {
        let (connection, asked) = Connection::new(io.peer());
        let requests = Requests::new(move |request| answer(connection.clone(), request));
        let (_open, closing) = watch::channel(false);
        drive(Driven::new(io, requests, asked), closing).await.unwrap();
    }

    /// Serves a connection whose only handler takes it out of HTTP.
    async fn take_after_request(io: ClientIo) -> ClientSocket {
        let (given, gets) = oneshot::channel();
        let given = std::sync::Mutex::new(Some(given));
        let answer = move |connection: Connection, _| {
            let given = given.lock().unwrap().take().unwrap();
            tokio::spawn(async move { given.send(connection.take(HEAD).await.unwrap()).unwrap() });
            std::future::pending()
        };
        serve(io, answer).await;
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
        let answer = move |_, _| async move {
            tokio::time::sleep(delay).await;
            http::Response::new(Body::from("late"))
        };
        serve(io, answer).await;
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

    /// Answers uploads with how many bytes came and whether all did, on a thread that reads slowly at first.
    async fn take_uploads(io: ClientIo) {
        let answer = |connection, request: http::Request<Incoming>| async move {
            let mut reader = BodyReader::new(request.map(Body::new).into_body(), Some(connection));
            let (done, read) = oneshot::channel();
            // No task: the runtime would wait for one that hangs.
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                let mut all = Vec::new();
                let ended = reader.read_to_end(&mut all).is_ok();
                assert_eq!(reader.read(&mut [0]).is_ok(), ended);
                assert!(all.iter().zip(0_u64..).all(|(byte, at)| *byte == at as u8));
                drop(reader);
                done.send(format!("{} {ended}!", all.len())).unwrap();
            });
            http::Response::new(Body::from(read.await.unwrap()))
        };
        serve(io, answer).await;
    }

    /// An upload of `length` bytes in chunks of `chunk`; `pause` is called before each.
    fn upload(client: &mut StdStream, length: usize, chunk: usize, mut pause: impl FnMut(usize)) {
        client.write_all(b"PUT /x HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for start in (0..length).step_by(chunk) {
            pause(start);
            let piece: Vec<u8> = (start..length.min(start + chunk)).map(|at| at as u8).collect();
            client.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).unwrap();
            client.write_all(&piece).unwrap();
            client.write_all(b"\r\n").unwrap();
        }
    }

    fn answer(client: &mut StdStream) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"!") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap().split("\r\n\r\n").last().unwrap().to_owned()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn large_uploads_arrive_whole_and_the_connection_goes_on() {
        let (io, mut client) = pair();
        let served = tokio::spawn(take_uploads(io));
        let client = tokio::task::spawn_blocking(move || {
            for (length, chunk) in
                [(10, 3), (5 << 20, 40_000), (1 << 20, 700), (0, 1), (300 << 10, 300 << 10)]
            {
                // Silent for longer than anybody looks by himself.
                upload(&mut client, length, chunk, |at| {
                    if at == (chunk * 1000).min(600 << 10) {
                        std::thread::sleep(Duration::from_millis(30));
                    }
                });
                client.write_all(b"0\r\n\r\n").unwrap();
                assert_eq!(answer(&mut client), format!("{length} true!"));
            }
        });
        client.await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), served).await.expect("the client is gone").unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_upload_that_breaks_off_is_an_error_for_its_reader() {
        let (io, mut client) = pair();
        let served = tokio::spawn(take_uploads(io));
        let client = tokio::task::spawn_blocking(move || {
            upload(&mut client, 1 << 20, 5000, |_| {});
            client.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(answer(&mut client), format!("{} false!", 1 << 20));
        });
        client.await.unwrap();
        tokio::time::timeout(Duration::from_secs(5), served).await.expect("the client is gone").unwrap();
    }
}
