//! One page: asked for as keepalived asks, read to its end, and judged.

use std::error::Error as _;
use std::fmt::Write as _;
use std::future::{pending, poll_fn};
use std::io;
use std::ops::RangeInclusive;
use std::pin::pin;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Version};
use hyper_util::rt::TokioIo;
use md5::{Digest as _, Md5};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::recorder::{LONGEST, Recorder};
use crate::config::model::{HttpProbe, HttpVersion, Url};
use crate::config::regex;
use crate::health::{Failure, Outcome};
use crate::probe::failed;

/// What keepalived calls itself: servers may answer it in its own way.
const AGENT: HeaderValue = HeaderValue::from_static("KeepAliveClient");

type Client = SendRequest<Empty<Bytes>>;

/// What a server answered.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    /// MD5 of the page, transfer encodings undone.
    digest: [u8; 16],
    /// All of it as it came, if that is wanted.
    raw: Vec<u8>,
}

/// Asks for a page over a connection of its own. `orderly`: it must end with a `close_notify`.
pub(super) async fn fetch<S>(
    probe: &HttpProbe,
    url: &Url,
    stream: Recorder<S>,
    orderly: bool,
) -> Result<Answer, Outcome>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = request(probe, url)?;
    let mut builder = http1::Builder::new();
    // Names of headers as keepalived spells them.
    builder.title_case_headers(true);
    let (client, mut connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| explain(&error, url))?;
    let (status, digest) = {
        let drive = async {
            // What goes wrong here reaches the one who waits for the page.
            poll_fn(|context| connection.poll_without_shutdown(context))
                .await
                .ok();
            pending().await
        };
        tokio::select! {
            biased;
            answer = exchange(client, request) => answer,
            never = pin!(drive) => never,
        }
        .map_err(|error| explain(&error, url))?
    };
    let mut stream = connection.into_parts().io.into_inner();
    if orderly {
        end(&mut stream).await?;
    }
    Ok(Answer {
        status,
        digest,
        raw: stream.into_kept(),
    })
}

async fn exchange(
    mut client: Client,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<(u16, [u8; 16])> {
    let response = client.send_request(request).await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut digest = Md5::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            digest.update(data);
        }
    }
    Ok((status, digest.finalize().into()))
}

/// Reads to the end of the connection, which must be an orderly one.
async fn end<S: AsyncRead + Unpin>(stream: &mut Recorder<S>) -> Result<(), Outcome> {
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest).await {
            Ok(0) if stream.was_cut_off() => {
                return Err(failed("TLS: closed without close_notify"));
            }
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(broken(&error, "the end of TLS")),
        }
    }
}

/// Byte for byte what keepalived sends.
fn request(probe: &HttpProbe, url: &Url) -> Result<Request<Empty<Bytes>>, Outcome> {
    let host = match &url.host {
        Some(host) => host.clone(),
        None => probe.connection.target.to_string(),
    };
    let mut request = Request::builder()
        .uri(url.path.as_str())
        .version(match probe.version {
            HttpVersion::V10 | HttpVersion::V10Close => Version::HTTP_10,
            HttpVersion::V11 => Version::HTTP_11,
        })
        .header(USER_AGENT, AGENT);
    if probe.version != HttpVersion::V10 {
        request = request.header(CONNECTION, HeaderValue::from_static("close"));
    }
    request
        .header(HOST, host)
        .body(Empty::new())
        .map_err(|error| failed(format!("{} cannot be asked for: {error}", url.path)))
}

/// Whether the page is as it should be.
pub(super) async fn judge(url: &Url, answer: Answer) -> Result<(), Outcome> {
    if !url
        .statuses
        .iter()
        .any(|range| range.contains(&answer.status))
    {
        return Err(failed(format!(
            "HTTP status {} from {}, expected {}",
            answer.status,
            url.path,
            in_words(&url.statuses)
        )));
    }
    if let Some(expected) = url.digest
        && answer.digest != expected
        // keepalived takes the sum of the bytes as they come, chunk sizes and all.
        && Md5::digest(body(&answer.raw)).as_slice() != expected
    {
        return Err(failed(format!(
            "digest of {} is {}, expected {}",
            url.path,
            hex(answer.digest),
            hex(expected)
        )));
    }
    match &url.pattern {
        None => Ok(()),
        Some(pattern) => {
            let matcher = regex::compile(pattern).map_err(|error| unusable(url, &error))?;
            let must_not = matcher.is_inverted();
            // A pattern may need more time than others that run here can wait.
            let matching = move || matcher.accepts(&answer.raw);
            match tokio::task::spawn_blocking(matching).await {
                Ok(Ok(true)) => Ok(()),
                Ok(Ok(false)) if must_not => Err(failed(format!(
                    "{} matches '{}', which it must not",
                    url.path, pattern.text
                ))),
                Ok(Ok(false)) => Err(failed(format!(
                    "{} does not match '{}'",
                    url.path, pattern.text
                ))),
                Ok(Err(error)) => Err(unusable(url, &error)),
                Err(error) => Err(Outcome::Inconclusive(format!("cannot match: {error}"))),
            }
        }
    }
}

fn unusable(url: &Url, error: &regex::Error) -> Outcome {
    failed(format!("the regex of {}: {error}", url.path))
}

/// What follows the head.
fn body(raw: &[u8]) -> &[u8] {
    let head = raw.windows(4).position(|window| window == b"\r\n\r\n");
    head.and_then(|head| raw.get(head + 4..))
        .unwrap_or_default()
}

fn hex(digest: [u8; 16]) -> String {
    digest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

fn in_words(ranges: &[RangeInclusive<u16>]) -> String {
    let words = ranges.iter().map(|range| match range {
        range if range.start() == range.end() => range.start().to_string(),
        range => format!("{}-{}", range.start(), range.end()),
    });
    words.collect::<Vec<_>>().join(" or ")
}

/// What went wrong with an exchange.
fn explain(error: &hyper::Error, url: &Url) -> Outcome {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return broken(error, &url.path);
        }
        cause = inner.source();
    }
    if error.is_parse() {
        return failed(format!("no HTTP answer from {}: {error}", url.path));
    }
    if error.is_incomplete_message() {
        return incomplete();
    }
    failed(error.to_string())
}

fn incomplete() -> Outcome {
    failed("closed before the answer was complete")
}

/// What a stream that broke in the middle of something says about the server.
pub(super) fn broken(error: &io::Error, what: &str) -> Outcome {
    if let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        return failed(format!("TLS: {tls}"));
    }
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            Outcome::Failed(Failure::Reset)
        }
        io::ErrorKind::FileTooLarge => failed(format!(
            "the answer from {what} is larger than {} MiB",
            LONGEST >> 20
        )),
        io::ErrorKind::UnexpectedEof => incomplete(),
        _ => failed(format!("{what}: {error}")),
    }
}
