//! Peers that no real server is: garbage, silence, floods.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};

/// What a stream says: bytes, again and again if they are the last and `endless`.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    /// One each time that something was read, the first at once.
    pub(crate) says: &'static [&'static [u8]],
    /// The last is repeated for ever.
    pub(crate) endless: bool,
    /// It hangs up at the end, else it stays silent.
    pub(crate) closes: bool,
}

/// Takes connections as long as the test runs.
pub(crate) async fn stream(script: Script) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                for (at, said) in script.says.iter().enumerate() {
                    if at > 0 && stream.read(&mut [0; 512]).await.unwrap_or(0) == 0 {
                        return;
                    }
                    stream.write_all(said).await.ok();
                }
                if let (true, Some(last)) = (script.endless, script.says.last()) {
                    while stream.write_all(last).await.is_ok() {}
                }
                if !script.closes {
                    tokio::time::sleep(Duration::from_mins(2)).await;
                }
            });
        }
    });
    address
}

/// Answers each datagram by what `answer` makes of it.
pub(crate) async fn datagrams(answer: fn(&[u8]) -> Vec<Vec<u8>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            for reply in answer(&buffer[..length]) {
                socket.send_to(&reply, from).await.ok();
            }
        }
    });
    address
}
