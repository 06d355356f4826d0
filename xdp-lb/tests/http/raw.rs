//! What goes over the wire, and answers that no web server gives.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::{passes, run, why};

/// Reads a request, gives one answer and closes; the request.
async fn once(answer: &'static [u8]) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = request(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        request
    };
    (address, tokio::spawn(serve))
}

async fn request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(request).unwrap()
}

/// The expectations are what keepalived 2.2.7 sent to the same kind of server.
#[tokio::test]
async fn requests_are_keepalived_s_byte_for_byte() {
    for (lines, expected) in [
        (
            "",
            "GET /a HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nHost: ADDRESS\r\n\r\n",
        ),
        (
            "http_protocol 1.0C",
            "GET /a HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nConnection: close\r\nHost: ADDRESS\r\n\r\n",
        ),
        (
            "http_protocol 1.1",
            "GET /a HTTP/1.1\r\nUser-Agent: KeepAliveClient\r\nConnection: close\r\nHost: ADDRESS\r\n\r\n",
        ),
        (
            "virtualhost www.example.org",
            "GET /a HTTP/1.0\r\nUser-Agent: KeepAliveClient\r\nHost: www.example.org\r\n\r\n",
        ),
    ] {
        let (address, server) = once(b"HTTP/1.0 200 OK\r\n\r\nhello").await;
        let lines = format!("{lines}\nurl {{\npath /a\n}}");
        passes(&run("HTTP_GET", address, &lines).await);
        let expected = expected.replace("ADDRESS", &address.to_string());
        assert_eq!(server.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn answers_that_are_none_fail() {
    for (answer, expected) in [
        (&b"garbage\r\n\r\n"[..], "no HTTP answer from /a: "),
        (b"", "closed before the answer was complete"),
        (
            b"HTTP/1.1 200 OK\r\nConte",
            "closed before the answer was complete",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
            "closed before the answer was complete",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "closed before the answer was complete",
        ),
    ] {
        let (address, _server) = once(answer).await;
        let said = why(run("HTTP_GET", address, "url {\npath /a\n}").await);
        assert!(said.starts_with(expected), "{said}");
    }
}

/// keepalived takes the sum of what comes; the sum of the page is what people take.
#[tokio::test]
async fn a_chunked_page_has_the_digest_of_either_form() {
    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (digest, right) in [
        ("5d41402abc4b2a76b9719d911017c592", true),
        ("79e9489e3bd3f0cb0158215341de046d", true),
        ("5d41402abc4b2a76b9719d911017c593", false),
    ] {
        let (address, _server) = once(CHUNKED).await;
        let lines = format!("http_protocol 1.1\nurl {{\npath /a\ndigest {digest}\n}}");
        let outcome = run("HTTP_GET", address, &lines).await;
        if right {
            passes(&outcome);
        } else {
            assert!(why(outcome).starts_with("digest of /a is 5d41402abc4b"));
        }
    }
}

/// A server that shows a certificate, answers, and leaves without the word that TLS has for it.
async fn rude() -> SocketAddr {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["rude".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let answer = b"HTTP/1.0 200 OK\r\n\r\nhello";
        stream.write_all(answer).await.unwrap();
        stream.flush().await.unwrap();
    });
    address
}

#[tokio::test]
async fn tls_may_end_without_a_word_unless_it_must_be_compliant() {
    let page = "url {\npath /a\ndigest 5d41402abc4b2a76b9719d911017c592\n}";
    passes(&run("SSL_GET", rude().await, page).await);
    let lines = format!("tls_compliant\n{page}");
    let said = why(run("SSL_GET", rude().await, &lines).await);
    assert_eq!(said, "TLS: closed without close_notify");
}

/// A server that holds its tongue, and one that speaks no TLS.
#[tokio::test]
async fn silence_and_noise_end_the_handshake() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let lines = "connect_timeout 1\nurl {\npath /a\n}";
    let address = listener.local_addr().unwrap();
    let said = why(run("SSL_GET", address, lines).await);
    assert_eq!(said, "no end of the TLS handshake within 1 s");
    let serve = |answer: &'static [u8]| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 5];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(answer).await.unwrap();
            // Until the other side has had enough: an end here would be a reset.
            stream.read_to_end(&mut Vec::new()).await.ok();
        };
        let server = tokio::spawn(serve);
        let said = why(run("SSL_GET", address, "url {\npath /a\n}").await);
        server.await.unwrap();
        said
    };
    let said = serve(b"\x99\x88\x77\x66\x55 what is this").await;
    assert!(said.starts_with("TLS: "), "{said}");
}
