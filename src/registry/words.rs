//! What went wrong on the network, in the words of Go's net/http, which users and scripts know from dockerd.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use reqwest::Url;
use rustls::InvalidMessage;

use crate::base::tls;

/// The server does not speak TLS.
pub const PLAIN_ANSWER: &str = "http: server gave HTTP response to HTTPS client";

/// Why a request got no answer.
pub fn of(url: &Url, error: &reqwest::Error) -> String {
    let causes = || causes(error);
    if let Some(tls) = causes().find_map(find::<rustls::Error>) {
        return tls_words(url, tls);
    }
    if causes().any(|cause| cause.to_string().contains("dns error")) {
        return format!("dial tcp: lookup {}: {}", host(url), lookup(causes()));
    }
    if error.is_timeout() {
        return match error.is_connect() {
            true => format!("dial tcp {}: i/o timeout", address(url, causes())),
            false => "net/http: timeout awaiting response headers".to_owned(),
        };
    }
    match causes().find_map(find::<io::Error>) {
        Some(refused) if error.is_connect() && refused.raw_os_error().is_some() => {
            format!("dial tcp {}: connect: {}", address(url, causes()), errno_words(refused))
        }
        _ => super::reason(error),
    }
}

/// What led to an error, one after the other.
fn causes(error: &dyn Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |cause: &&'_ (dyn Error + 'static)| (*cause).source())
}

/// An error of a type, itself or inside I/O errors, which do not give what they hold as their source.
fn find<'a, T: Error + 'static>(cause: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let inside = || cause.downcast_ref::<io::Error>()?.get_ref().and_then(|held| find(held));
    inside().or_else(|| cause.downcast_ref())
}

/// Go knows one answer of the resolver by name.
fn lookup<'a>(causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let last = causes.last().map(ToString::to_string).unwrap_or_default();
    let words = last.rsplit(": ").next().unwrap_or_default();
    match words {
        "Name or service not known" | "No address associated with hostname" => "no such host".to_owned(),
        words => words.to_owned(),
    }
}

/// The kernel's words as Go writes them: in small letters, without the number.
fn errno_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// What was dialled. Which of a name's addresses that was, hyper tells in one place only: how its error is printed for
/// debugging, `ConnectError("tcp connect error", 192.0.2.1:443, …)`.
fn address<'a>(url: &Url, mut causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let dialled = causes.find_map(|cause| {
        let printed = format!("{cause:?}");
        let mut fields = printed.strip_prefix("ConnectError(")?.split(", ");
        fields.nth(1)?.parse::<SocketAddr>().ok()
    });
    let named = || format!("{}:{}", host(url), url.port_or_known_default().unwrap_or_default());
    dialled.map_or_else(named, |address| address.to_string())
}

fn tls_words(url: &Url, error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => PLAIN_ANSWER.to_owned(),
        other => tls::words::of(host(url), other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn reason_of(url: &str) -> String {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let url = Url::parse(url).unwrap();
        let error = client.get(url.clone()).send().await.unwrap_err();
        of(&url, &error)
    }

    fn free_address() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_refuses_the_connection() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = free_address();
        for scheme in ["http", "https"] {
            let words = reason_of(&format!("{scheme}://{address}/v2/")).await;
            assert_eq!(words, format!("dial tcp {address}: connect: connection refused"));
        }
    }

    #[tokio::test]
    async fn a_name_is_told_by_the_address_that_was_dialled() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = free_address();
        let client = reqwest::Client::builder().no_proxy().resolve("registry.example", address);
        let url = Url::parse(&format!("https://registry.example:{}/v2/", address.port())).unwrap();
        let error = client.build().unwrap().get(url.clone()).send().await.unwrap_err();
        assert_eq!(of(&url, &error), format!("dial tcp {address}: connect: connection refused"));
    }

    #[tokio::test]
    async fn a_server_of_plain_http_is_told_from_other_failures() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        });
        let words = reason_of(&format!("https://{address}/v2/")).await;
        server.join().unwrap();
        assert_eq!(words, "http: server gave HTTP response to HTTPS client");
    }
}
