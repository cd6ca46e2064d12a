//! A broadcast server on tokio-tungstenite: a task per client, one broadcast channel, up to 64
//! messages per flush. One thread.

mod shared;

use futures_util::{SinkExt, StreamExt};
use std::error::Error;
use tokio::net::TcpStream;
use tokio::sync::broadcast::{self, Sender, error::TryRecvError};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

const BATCH: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = shared::address();
    let (_, mut sockets) = ringpush::ring::listen::bind(address, 1, Default::default())?;
    let socket = std::net::TcpListener::from(sockets.remove(0));
    socket.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(socket)?;
    shared::ready(address);
    let (sender, _) = broadcast::channel::<Utf8Bytes>(1024);
    loop {
        let (stream, _) = listener.accept().await?;
        let sender = sender.clone();
        // A client that goes away ends its task, and nothing else.
        tokio::spawn(async move { _ = serve(stream, sender).await });
    }
}

async fn serve(
    stream: TcpStream,
    sender: Sender<Utf8Bytes>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut receiver = sender.subscribe();
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    loop {
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => _ = sender.send(text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => {}
            },
            text = receiver.recv() => {
                let Ok(text) = text else { continue };
                socket.feed(Message::Text(text)).await?;
                for _ in 1..BATCH {
                    match receiver.try_recv() {
                        Ok(text) => socket.feed(Message::Text(text)).await?,
                        Err(TryRecvError::Lagged(_)) => {}
                        Err(_) => break,
                    }
                }
                socket.flush().await?;
            }
        }
    }
}
