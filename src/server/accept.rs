//! Accepts connections and serves each in a task of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::listen::TokioListener;
use crate::api::client_io::ClientIo;
use crate::api::unix_io::UnixIo;
use crate::api::{Api, connection};

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after a failed accept: no descriptors are free, and trying at once would only burn time.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until `closing` becomes true.
pub fn start(listener: TokioListener, api: Arc<Api>, mut closing: watch::Receiver<bool>) {
    tokio::spawn(async move {
        let connections = closing.clone();
        tokio::select! {
            () = accept(listener, api, connections) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    });
}

async fn accept(listener: TokioListener, api: Arc<Api>, closing: watch::Receiver<bool>) {
    loop {
        let accepted = match &listener {
            TokioListener::Unix(unix) => unix
                .accept()
                .await
                .and_then(|(stream, _)| Ok(Accepted::Plain(ClientIo::Unix(UnixIo::new(stream)?)))),
            TokioListener::Tcp(tcp, tls) => tcp.accept().await.map(|(stream, _)| Accepted::tcp(stream, tls)),
        };
        match accepted {
            Ok(accepted) => {
                tokio::spawn(serve(accepted, api.clone(), closing.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

enum Accepted {
    Plain(ClientIo),
    Tls(TcpStream, Arc<ServerConfig>),
}

impl Accepted {
    fn tcp(stream: TcpStream, tls: &Option<Arc<ServerConfig>>) -> Self {
        // Frames are written whole; waiting to fill segments only delays them. Failing costs nothing else.
        let _ = stream.set_nodelay(true);
        match tls {
            Some(config) => Self::Tls(stream, config.clone()),
            None => Self::Plain(ClientIo::Tcp(stream)),
        }
    }

    async fn agree(self) -> io::Result<ClientIo> {
        match self {
            Self::Plain(io) => Ok(io),
            Self::Tls(stream, config) => {
                let agreed = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
                Ok(ClientIo::Tls(Box::new(agreed.map_err(|_| io::ErrorKind::TimedOut)??)))
            }
        }
    }
}

async fn serve(accepted: Accepted, api: Arc<Api>, closing: watch::Receiver<bool>) {
    match accepted.agree().await {
        Ok(io) => {
            if let Err(error) = connection::serve(api, io, closing).await {
                tracing::debug!(%error, "connection ended");
            }
        }
        Err(error) => tracing::debug!(%error, "TLS handshake failed"),
    }
}
