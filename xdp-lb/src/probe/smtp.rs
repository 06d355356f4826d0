//! `SMTP_CHECK`: a mail server greets, answers HELO, and says goodbye.
//!
//! The exchange is keepalived's: HELO, where libraries for sending mail begin with EHLO and take any
//! answer that is not an error. Each answer has `connect_timeout`; an answer of several lines counts by
//! its last one (RFC 5321, section 4.2.1), where keepalived fails it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connect::connect;
use super::socket::explain;
use super::{Context, excerpt, failed, seconds};
use crate::config::model::{Connection, SmtpProbe};
use crate::health::{Failure, Outcome};

/// Bytes of an answer that are read; RFC 5321 has lines end after 512.
const LONGEST: u64 = 16 << 10;

/// Asks one host after the other, until one fails.
pub async fn run(probe: &SmtpProbe, context: &Context) -> Outcome {
    let helo = probe.helo_name.as_deref().unwrap_or(&context.helo);
    for connection in &probe.connections {
        match check(connection, context, helo).await {
            Ok(()) => {}
            Err(Outcome::Failed(failure)) if probe.connections.len() > 1 => {
                let host = connection.target;
                return Outcome::Failed(Failure::Other(format!("{host}: {failure}")));
            }
            Err(outcome) => return outcome,
        }
    }
    Outcome::Passed
}

async fn check(connection: &Connection, context: &Context, helo: &str) -> Result<(), Outcome> {
    let mut dialogue = Dialogue {
        stream: BufReader::new(connect(connection, context).await?),
        limit: connection.connect_timeout,
    };
    dialogue.expect(220, "as greeting").await?;
    dialogue.say(&format!("HELO {helo}\r\n")).await?;
    dialogue.expect(250, "to HELO").await?;
    dialogue.say("QUIT\r\n").await?;
    // What it says to that is its own business, as long as it says something.
    dialogue.answer("to QUIT").await.map(drop)
}

struct Dialogue {
    stream: BufReader<TcpStream>,
    limit: Duration,
}

impl Dialogue {
    async fn say(&mut self, line: &str) -> Result<(), Outcome> {
        match timeout(self.limit, self.stream.write_all(line.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(explain(&error, self.limit)),
            Err(_) => Err(failed("SMTP: the server takes nothing in")),
        }
    }

    async fn expect(&mut self, code: u16, to_what: &str) -> Result<(), Outcome> {
        let came = self.answer(to_what).await?;
        if came == code {
            return Ok(());
        }
        Err(failed(format!("SMTP: {came} {to_what}, expected {code}")))
    }

    /// The code of an answer.
    async fn answer(&mut self, to_what: &str) -> Result<u16, Outcome> {
        match timeout(self.limit, read(&mut self.stream)).await {
            Ok(Ok(Came::Code(code))) => Ok(code),
            Ok(Ok(Came::End)) => Err(failed(format!("SMTP: closed without an answer {to_what}"))),
            Ok(Ok(Came::Endless)) => Err(failed(format!(
                "SMTP: more than {} KiB {to_what}",
                LONGEST >> 10
            ))),
            Ok(Ok(Came::Garbage(line))) => Err(failed(format!(
                "SMTP: '{}' {to_what} is no answer",
                excerpt(&line)
            ))),
            Ok(Err(error)) => Err(explain(&error, self.limit)),
            Err(_) => Err(failed(format!(
                "SMTP: no answer {to_what} within {}",
                seconds(self.limit)
            ))),
        }
    }
}

/// What came for an answer.
enum Came {
    Code(u16),
    End,
    Endless,
    Garbage(Vec<u8>),
}

async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Came> {
    let mut answer = stream.take(LONGEST);
    loop {
        let mut line = Vec::new();
        answer.read_until(b'\n', &mut line).await?;
        if !line.ends_with(b"\n") {
            return Ok(if answer.limit() == 0 {
                Came::Endless
            } else {
                Came::End
            });
        }
        match parse(&line) {
            None => return Ok(Came::Garbage(line)),
            Some((code, true)) => return Ok(Came::Code(code)),
            Some((_, false)) => {}
        }
    }
}

/// Code of a line, and whether it is the last of its answer.
fn parse(line: &[u8]) -> Option<(u16, bool)> {
    let (digits, rest) = line.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match rest.first()? {
        b'-' => Some((code, false)),
        b' ' | b'\r' | b'\n' => Some((code, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_begins_with_a_code_that_says_whether_more_follows() {
        for (line, parsed) in [
            (&b"220 mx.example.org ESMTP\r\n"[..], Some((220, true))),
            (b"250-mx.example.org\r\n", Some((250, false))),
            (b"250\r\n", Some((250, true))),
            (b"250\n", Some((250, true))),
            (b"2500 x\r\n", None),
            (b"25 x\r\n", None),
            (b"+50 x\r\n", None),
            (b"SSH-2.0-OpenSSH_9.2\r\n", None),
            (b"\r\n", None),
            (b"\n", None),
            ("25\u{0660} x\r\n".as_bytes(), None),
        ] {
            assert_eq!(parse(line), parsed, "{}", excerpt(line));
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_strange(line in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Some((code, _)) = parse(&line) {
                let digits = format!("{code:03}");
                prop_assert!(line.starts_with(digits.as_bytes()));
            }
        }
    }
}
