//! A loop of send(2) over all sockets, with epoll: the simplest broadcast server.
//!
//! A message of any client goes to all clients; messages from one call of epoll_wait are sent
//! together.

mod shared;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};

const LISTENER: Token = Token(usize::MAX);

struct Client {
    stream: TcpStream,
    is_open: bool,
    pending: Vec<u8>,
    /// Bytes that the kernel has not taken.
    backlog: Vec<u8>,
}

fn main() {
    let address = shared::address();
    let mut poll = Poll::new().expect("epoll");
    let (_, mut sockets) =
        ringpush::ring::listen::bind(address, 1, Default::default()).expect("listen");
    let socket = std::net::TcpListener::from(sockets.remove(0));
    socket.set_nonblocking(true).expect("a socket");
    let mut listener = TcpListener::from_std(socket);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("epoll");
    shared::ready(address);

    let mut events = Events::with_capacity(1024);
    let mut clients: Vec<Option<Client>> = Vec::new();
    let mut buffer = vec![0; 65_536];
    let mut outbox = Vec::new();
    loop {
        poll.poll(&mut events, None).expect("epoll");
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut clients);
                continue;
            }
            let place = &mut clients[event.token().0];
            let Some(client) = place else { continue };
            if !hear(client, &mut buffer, &mut outbox) {
                *place = None;
            }
        }
        if outbox.is_empty() {
            continue;
        }
        for client in clients.iter_mut().flatten().filter(|client| client.is_open) {
            send(client, &outbox);
        }
        outbox.clear();
    }
}

fn accept(listener: &TcpListener, poll: &Poll, clients: &mut Vec<Option<Client>>) {
    while let Ok((mut stream, _)) = listener.accept() {
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(clients.len()), interest).expect("epoll");
        let (pending, backlog) = (Vec::new(), Vec::new());
        clients.push(Some(Client { stream, is_open: false, pending, backlog }));
    }
}

/// Handles what a client has sent, and sends what waits for it. Returns whether it stays.
fn hear(client: &mut Client, buffer: &mut [u8], outbox: &mut Vec<u8>) -> bool {
    let backlog = std::mem::take(&mut client.backlog);
    send(client, &backlog);
    loop {
        match client.stream.read(buffer) {
            Ok(0) => return false,
            Ok(count) => client.pending.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    if client.is_open {
        let Some(done) = shared::reframe(&mut client.pending, outbox) else { return false };
        client.pending.drain(..done);
    } else if let Some(greeting) = shared::handshake(&client.pending) {
        client.pending.clear();
        client.is_open = true;
        send(client, &greeting);
    }
    true
}

fn send(client: &mut Client, bytes: &[u8]) {
    let mut rest = bytes;
    while client.backlog.is_empty() && !rest.is_empty() {
        match client.stream.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // The next read finds that it is gone.
            Err(_) => return,
        }
    }
    client.backlog.extend_from_slice(rest);
}
