//! A broadcast server on fastwebsockets: two tasks per client, one broadcast channel, one write per
//! message. One thread.

mod shared;

use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket, WebSocketError};
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast::{self, Sender, error::RecvError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = shared::address();
    let (_, mut sockets) = ringpush::ring::listen::bind(address, 1, Default::default())?;
    let socket = std::net::TcpListener::from(sockets.remove(0));
    socket.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(socket)?;
    shared::ready(address);
    let (sender, _) = broadcast::channel::<Arc<[u8]>>(1024);
    loop {
        let (stream, _) = listener.accept().await?;
        let sender = sender.clone();
        // A client that goes away ends its task, and nothing else.
        tokio::spawn(async move { _ = serve(stream, sender).await });
    }
}

async fn serve(mut stream: TcpStream, sender: Sender<Arc<[u8]>>) -> Result<(), WebSocketError> {
    let mut request = Vec::new();
    let greeting = loop {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
        if let Some(greeting) = shared::handshake(&request) {
            break greeting;
        }
    };
    let mut receiver = sender.subscribe();
    stream.write_all(&greeting).await?;
    let socket = WebSocket::after_handshake(stream, Role::Server);
    let (mut read, mut write) = socket.split(tokio::io::split);
    let writer = tokio::spawn(async move {
        loop {
            let text = match receiver.recv().await {
                Ok(text) => text,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            };
            if write.write_frame(Frame::text(Payload::Borrowed(&text))).await.is_err() {
                return;
            }
        }
    });
    loop {
        // Answers to pings are left out: the load generator sends none.
        let mut ignore = async |_: Frame<'_>| Ok::<(), Infallible>(());
        let frame = read.read_frame(&mut ignore).await;
        match frame {
            Ok(frame) if matches!(frame.opcode, OpCode::Text | OpCode::Binary) => {
                _ = sender.send(Arc::from(&*frame.payload));
            }
            Ok(frame) if frame.opcode != OpCode::Close => {}
            _ => break,
        }
    }
    writer.abort();
    Ok(())
}
