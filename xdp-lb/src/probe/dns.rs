//! `DNS_CHECK`: a name server answers a question without an error.
//!
//! As keepalived does it: one query by UDP, and the answer's response code decides; that there is no
//! such record is no failure. Replies to other questions are passed over, for a source port that is
//! used again may get what was meant for the check before.

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, header_buffer,
};
use socket2::Type;

use super::exchange::{Exchange, LONGEST};
use super::{Context, failed, random};
use crate::config::model::{DnsProbe, RecordType};
use crate::health::Outcome;

/// Bytes of the header of a message (RFC 1035, section 4.1.1); the question follows.
const HEADER: usize = 12;
/// Replies that are passed over: whoever sends more than that is no name server.
const STRANGERS: usize = 16;

/// Asks once.
pub async fn run(probe: &DnsProbe, context: &Context) -> Outcome {
    match check(probe, context).await {
        Ok(()) => Outcome::Passed,
        Err(outcome) => outcome,
    }
}

async fn check(probe: &DnsProbe, context: &Context) -> Result<(), Outcome> {
    let [high, low, ..] = random();
    let query = query(probe, u16::from_be_bytes([high, low]))
        .map_err(|error| failed(format!("DNS: {} cannot be asked for: {error}", probe.name)))?;
    let exchange = Exchange::open(&probe.connection, context, Type::DGRAM, None)?;
    exchange.send(&query).await?;
    let mut buffer = vec![0; LONGEST];
    let mut odd = "";
    for _ in 0..STRANGERS {
        let Some(length) = exchange.receive(&mut buffer).await? else {
            return Err(exchange.silence(&format!("DNS reply{odd}")));
        };
        match judge(&query, buffer.get(..length).unwrap_or_default()) {
            Verdict::Good => return Ok(()),
            Verdict::Error(code) => return Err(failed(told(probe, code))),
            Verdict::Other(why) => odd = why,
        }
    }
    Err(failed(format!("DNS: {STRANGERS} replies{odd}")))
}

fn query(probe: &DnsProbe, id: u16) -> simple_dns::Result<Vec<u8>> {
    let record = match probe.record {
        RecordType::A => TYPE::A,
        RecordType::Ns => TYPE::NS,
        RecordType::Cname => TYPE::CNAME,
        RecordType::Soa => TYPE::SOA,
        RecordType::Mx => TYPE::MX,
        RecordType::Txt => TYPE::TXT,
        RecordType::Aaaa => TYPE::AAAA,
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(&probe.name)?,
        QTYPE::TYPE(record),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec()
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// The server says that it cannot answer.
    Error(RCODE),
    /// It is no answer to this query: why, to be said behind "reply".
    Other(&'static str),
}

fn judge(query: &[u8], reply: &[u8]) -> Verdict {
    let header = (
        header_buffer::id(reply),
        header_buffer::has_flags(reply, PacketFlag::RESPONSE),
        header_buffer::rcode(reply),
        header_buffer::questions(reply),
    );
    let (Ok(id), Ok(is_response), Ok(code), Ok(questions)) = header else {
        return Verdict::Other(" (one came that is too short)");
    };
    if header_buffer::id(query).ok() != Some(id) {
        return Verdict::Other(" (one came with another id)");
    }
    if !is_response {
        return Verdict::Other(" (a query came)");
    }
    // Whoever understood nothing need not repeat the question.
    if questions == 0 && code != RCODE::NoError {
        return Verdict::Error(code);
    }
    // It stands at the same place and uncompressed, for there is nothing before it to point to; letters
    // may change case.
    let asked = query.get(HEADER..).unwrap_or_default();
    let repeated = reply.get(HEADER..HEADER + asked.len()).unwrap_or_default();
    if questions != 1 || !repeated.eq_ignore_ascii_case(asked) {
        return Verdict::Other(" (one came to another question)");
    }
    if code == RCODE::NoError {
        Verdict::Good
    } else {
        Verdict::Error(code)
    }
}

fn told(probe: &DnsProbe, code: RCODE) -> String {
    let name = match code {
        RCODE::NoError => "NOERROR",
        RCODE::FormatError => "FORMERR",
        RCODE::ServerFailure => "SERVFAIL",
        RCODE::NameError => "NXDOMAIN",
        RCODE::NotImplemented => "NOTIMP",
        RCODE::Refused => "REFUSED",
        RCODE::YXDOMAIN => "YXDOMAIN",
        RCODE::YXRRSET => "YXRRSET",
        RCODE::NXRRSET => "NXRRSET",
        RCODE::NOTAUTH => "NOTAUTH",
        RCODE::NOTZONE => "NOTZONE",
        RCODE::BADVERS | RCODE::Reserved => "an unknown error",
    };
    format!("DNS: {name} for {} {}", probe.name, probe.record.name())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::model::Connection;

    fn probe(name: &str) -> DnsProbe {
        let target = "127.0.0.1:53".parse().unwrap();
        DnsProbe {
            connection: Connection::to(target, Duration::from_secs(1)),
            record: RecordType::Soa,
            name: name.to_owned(),
        }
    }

    fn asked() -> Vec<u8> {
        query(&probe("example.com."), 0x1234).unwrap()
    }

    fn reply(code: RCODE) -> Vec<u8> {
        let query = asked();
        let mut reply = Packet::parse(&query).unwrap().into_reply();
        *reply.rcode_mut() = code;
        reply.build_bytes_vec().unwrap()
    }

    #[test]
    fn a_query_asks_for_the_name_and_recursion() {
        let query = asked();
        assert_eq!(query[..6], [0x12, 0x34, 1, 0, 0, 1]);
        assert_eq!(query[HEADER..], *b"\x07example\x03com\0\0\x06\0\x01");
        let root = super::query(&probe("."), 1).unwrap();
        assert_eq!(root[HEADER..], [0, 0, 6, 0, 1]);
        let long = format!("a\\.{}", "b".repeat(62));
        assert!(super::query(&probe(&long), 1).is_err());
    }

    #[test]
    fn the_response_code_decides() {
        assert_eq!(judge(&asked(), &reply(RCODE::NoError)), Verdict::Good);
        let gone = judge(&asked(), &reply(RCODE::NameError));
        assert_eq!(gone, Verdict::Error(RCODE::NameError));
        let said = told(&probe("example.com"), RCODE::NameError);
        assert_eq!(said, "DNS: NXDOMAIN for example.com SOA");
    }

    #[test]
    fn only_an_answer_to_the_question_counts() {
        let good = reply(RCODE::NoError);
        let other = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut changed = good.clone();
            change(&mut changed);
            matches!(judge(&asked(), &changed), Verdict::Other(_))
        };
        assert!(other(&|reply| reply[1] ^= 1), "another id");
        assert!(other(&|reply| reply[2] &= 0x7f), "a query");
        assert!(other(&|reply| reply[14] ^= 1), "another name");
        assert!(other(&|reply| reply.truncate(11)), "no header");
        assert!(other(&|reply| reply.truncate(HEADER)), "no question");
        assert!(!other(&|reply| reply[13] = b'E'), "case does not count");
        let mut unread = good[..HEADER].to_vec();
        (unread[3], unread[5]) = (1, 0);
        let verdict = judge(&asked(), &unread);
        assert_eq!(verdict, Verdict::Error(RCODE::FormatError));
    }

    proptest! {
        #[test]
        fn no_reply_is_too_strange(
            start in prop::sample::select(vec![0, 2, 4, HEADER, 20]),
            end in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut bytes = reply(RCODE::NoError);
            bytes.truncate(start);
            bytes.extend(end);
            judge(&asked(), &bytes);
        }
    }
}
