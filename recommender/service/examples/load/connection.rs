//! One keep-alive HTTP/1.1 connection, as small as it can be, so that the generator's share of the
//! CPU stays small.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What the generator needs of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) degraded: bool,
    pub(crate) dim: usize,
}

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(16 << 10) })
    }

    /// Sends a whole request and reads its whole answer.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(body_at) = find(&self.buffer, b"\r\n\r\n").map(|at| at + 4) {
                let length = number_after(&self.buffer[..body_at], b"content-length: ").unwrap_or(0);
                if self.buffer.len() >= body_at + length {
                    return Ok(read(&self.buffer, body_at));
                }
            }
        }
    }
}

/// A POST of JSON as bytes.
pub(crate) fn post(address: SocketAddr, path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn read(buffer: &[u8], body_at: usize) -> Answer {
    let (head, body) = buffer.split_at(body_at);
    Answer {
        status: number_after(head, b"HTTP/1.1 ").unwrap_or(0) as u16,
        degraded: find(body, b"\"degraded\":true").is_some(),
        dim: number_after(body, b"\"dim\":").unwrap_or(0),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn number_after(text: &[u8], label: &[u8]) -> Option<usize> {
    let rest = &text[find(text, label)? + label.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}
