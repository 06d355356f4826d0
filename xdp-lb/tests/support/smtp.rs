//! Debian's python3-aiosmtpd: a real SMTP server on the loopback interface.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Answers each mail with the next of its arguments, with 250 after the last; prints its port, then
/// of each mail the envelope and its lines.
const SERVER: &str = r#"
import asyncio, sys
from aiosmtpd.smtp import SMTP
class Handler:
    answers = sys.argv[1:]
    async def handle_DATA(self, server, session, envelope):
        print("envelope", session.host_name, envelope.mail_from, ",".join(envelope.rcpt_tos))
        print(envelope.original_content.decode(), end="")
        print("end", flush=True)
        return self.answers.pop(0) if self.answers else "250 OK"
async def serve():
    handler = Handler()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, loop=loop), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.wait_for(server.serve_forever(), 120)
asyncio.run(serve())
"#;

/// Debian's own interpreter: it is the one that finds Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

pub(crate) struct Server {
    process: Child,
    output: BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Server {
    /// `None` where there is none; in CI that is a failure.
    pub(crate) fn start(answers: &[&str]) -> Option<Self> {
        let probe = Command::new(PYTHON)
            .args(["-c", "import aiosmtpd"])
            .output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            assert!(
                std::env::var_os("CI").is_none(),
                "python3-aiosmtpd is missing"
            );
            eprintln!("SKIPPED: this test needs Debian's python3-aiosmtpd");
            return None;
        }
        let mut process = Command::new(PYTHON)
            .args(["-c", SERVER])
            .args(answers)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        output.read_line(&mut port).unwrap();
        Some(Self {
            process,
            output,
            port: port.trim().parse().unwrap(),
        })
    }

    /// The next mail: its envelope, then its lines.
    pub(crate) fn mail(&mut self) -> Vec<String> {
        let lines = (&mut self.output).lines();
        let lines = lines.map(|line| line.unwrap().trim_end().to_owned());
        lines.take_while(|line| line != "end").collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
