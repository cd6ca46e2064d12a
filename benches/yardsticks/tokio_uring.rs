//! A broadcast server on tokio-uring: two tasks per client, one broadcast channel of shared bytes;
//! everything that waits for a client is sent in one write. One thread.

mod shared;

use bytes::{Bytes, BytesMut};
use std::io;
use std::rc::Rc;
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};
use tokio_uring::net::{TcpListener, TcpStream};

const BATCH: usize = 64;

fn main() -> io::Result<()> {
    let address = shared::address();
    let (_, mut sockets) = ringpush::ring::listen::bind(address, 1, Default::default())?;
    let listener = TcpListener::from_std(sockets.remove(0).into());
    tokio_uring::builder().entries(1024).start(async move {
        shared::ready(address);
        let (sender, _) = broadcast::channel::<Bytes>(1024);
        loop {
            let (stream, _) = listener.accept().await?;
            let sender = sender.clone();
            // A client that goes away ends its tasks, and nothing else.
            tokio_uring::spawn(async move { _ = serve(Rc::new(stream), sender).await });
        }
    })
}

async fn serve(stream: Rc<TcpStream>, sender: Sender<Bytes>) -> io::Result<()> {
    let (mut pending, mut buffer, mut is_open) = (Vec::new(), vec![0; 2048], false);
    loop {
        let (result, back) = stream.read(buffer).await;
        buffer = back;
        let count = result?;
        if count == 0 {
            return Ok(());
        }
        pending.extend_from_slice(&buffer[..count]);
        if is_open {
            let mut out = Vec::new();
            let Some(done) = shared::reframe(&mut pending, &mut out) else { return Ok(()) };
            pending.drain(..done);
            _ = sender.send(Bytes::from(out));
        } else if let Some(greeting) = shared::handshake(&pending) {
            pending.clear();
            is_open = true;
            let receiver = sender.subscribe();
            stream.write_all(greeting).await.0?;
            let stream = Rc::clone(&stream);
            tokio_uring::spawn(async move { _ = write(stream, receiver).await });
        }
    }
}

async fn write(stream: Rc<TcpStream>, mut receiver: Receiver<Bytes>) -> io::Result<()> {
    loop {
        let first = match receiver.recv().await {
            Ok(bytes) => bytes,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return Ok(()),
        };
        let bytes = if receiver.is_empty() { first } else { joined(&first, &mut receiver) };
        stream.write_all(bytes).await.0?;
    }
}

/// Everything that waits, in one buffer.
fn joined(first: &[u8], receiver: &mut Receiver<Bytes>) -> Bytes {
    let mut all = BytesMut::from(first);
    for _ in 1..BATCH {
        let Ok(more) = receiver.try_recv() else { break };
        all.extend_from_slice(&more);
    }
    all.freeze()
}
