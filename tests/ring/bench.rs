//! A ring with its pools, and what tests do with it.

use ringpush::ids::{BufferId, ConnId, ListenerId, PeerId};
use ringpush::mem::receive::ReceivePool;
use ringpush::mem::region::Owner;
use ringpush::ring::listen::{self, SendBound};
use ringpush::ring::{Done, Doorbells, Flavor, Op, Range, RecvEnd, Ring, Setup, Uring, Wait};
use ringpush::time::Millis;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};

/// How long a test waits for anything.
pub const PATIENCE: Millis = Millis::seconds(20);

/// The settings that differ between tests.
pub struct Shape {
    pub submission: u32,
    pub completion: u32,
    pub slots: u32,
    pub buffers: u32,
    pub buffer_size: u32,
    pub segments: u32,
    pub segment_size: u32,
    pub send_chunk: u32,
    pub address: &'static str,
    pub bound: SendBound,
    pub flavor: Option<Flavor>,
    pub doorbells: Option<(Doorbells, PeerId)>,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            submission: 64,
            completion: 512,
            slots: 64,
            buffers: 16,
            buffer_size: 256,
            segments: 4,
            segment_size: 1 << 21,
            send_chunk: 16,
            address: "127.0.0.1:0",
            bound: SendBound::Kernel,
            flavor: None,
            doorbells: None,
        }
    }
}

/// A ring and its surroundings.
pub struct Bench {
    pub ring: Uring,
    pub pool: ReceivePool,
    pub segments: Owner,
    segment_size: u32,
    pub address: SocketAddr,
    /// Completions that no test has asked for yet.
    pub unclaimed: VecDeque<Done>,
    generation: u32,
}

pub const LISTENER: ListenerId = ListenerId(0);

impl Shape {
    /// Starts a ring that listens, but does not accept yet.
    pub fn start(self) -> Bench {
        let pool = ReceivePool::new(self.buffers, self.buffer_size).expect("memory");
        let bytes = self.segments as usize * self.segment_size as usize;
        let segments = Owner::new(bytes).expect("memory");
        let address = self.address.parse().expect("an address");
        let (address, listeners) = listen::bind(address, 1, self.bound).expect("a free port");
        let (doorbells, peer) = self
            .doorbells
            .unwrap_or_else(|| (Doorbells::new(1).expect("an eventfd can be made"), PeerId(0)));
        let ring = ringpush::ring::start(Setup {
            submission_entries: self.submission,
            completion_entries: self.completion,
            slots: self.slots,
            receive: pool.lend(),
            receive_buffers: self.buffers,
            receive_bytes: self.buffer_size,
            segments: segments.lend(),
            segment_size: self.segment_size,
            listeners,
            send_chunk: self.send_chunk,
            doorbells,
            peer,
            flavor: self.flavor,
        })
        .expect("this kernel has io_uring");
        let (segment_size, unclaimed) = (self.segment_size, VecDeque::new());
        Bench { ring, pool, segments, segment_size, address, unclaimed, generation: 100 }
    }

    /// Starts a ring that accepts.
    pub fn accept(self) -> Bench {
        let mut bench = self.start();
        bench.ring.push(Op::Accept { listener: LISTENER });
        bench.ring.enter(Wait::No);
        bench
    }
}

impl Bench {
    /// The first completion, old or new, that `wanted` accepts; others are kept for later calls.
    pub fn wait_for<T>(&mut self, mut wanted: impl FnMut(&Done) -> Option<T>) -> T {
        for index in 0..self.unclaimed.len() {
            if let Some(found) = wanted(&self.unclaimed[index]) {
                self.unclaimed.remove(index);
                return found;
            }
        }
        self.ring.enter(Wait::No);
        let deadline = self.ring.now() + PATIENCE;
        loop {
            while let Some(done) = self.ring.pop() {
                if let Some(found) = wanted(&done) {
                    return found;
                }
                self.unclaimed.push_back(done);
            }
            let left = &self.unclaimed;
            assert!(self.ring.now() < deadline, "not seen in time; there were {left:?}");
            self.ring.enter(Wait::Until(deadline));
        }
    }

    /// Takes all completions that are there without waiting.
    pub fn collect(&mut self) -> Vec<Done> {
        self.ring.enter(Wait::No);
        while let Some(done) = self.ring.pop() {
            self.unclaimed.push_back(done);
        }
        self.unclaimed.drain(..).collect()
    }

    /// The next accepted connection, and its peer.
    pub fn accepted(&mut self) -> (ConnId, SocketAddr) {
        self.generation += 1;
        let generation = self.generation;
        self.wait_for(|done| match *done {
            Done::Accepted { listener: LISTENER, slot, peer } => {
                Some((ConnId { slot, generation }, peer))
            }
            _ => None,
        })
    }

    /// Connects a client and accepts it.
    pub fn pair(&mut self) -> (TcpStream, ConnId) {
        let client = self.connect();
        let (conn, peer) = self.accepted();
        assert_eq!(peer, client.local_addr().expect("connected"));
        (client, conn)
    }

    /// Connects a client.
    pub fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("the ring listens");
        patient(client)
    }

    /// Connects a client with a small receive buffer.
    pub fn narrow_pair(&mut self) -> (TcpStream, ConnId) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("TCP");
        socket.set_recv_buffer_size(16_384).expect("a size is valid");
        socket.connect(&self.address.into()).expect("the ring listens");
        (patient(socket.into()), self.accepted().0)
    }

    /// Puts bytes into a segment, before any send of them.
    #[expect(unsafe_code, reason = "the test is the pool, which has lent nothing yet")]
    pub fn fill(&mut self, segment: u32, bytes: &[u8]) -> Range {
        let start = segment as usize * self.segment_size as usize;
        // SAFETY: no operation on these bytes is in flight, and nothing makes slices of them.
        unsafe { self.segments.lend().kernel_write(start, bytes) };
        Range { segment, offset: 0, len: bytes.len() as u32 }
    }

    /// The result of a connection's send.
    pub fn sent(&mut self, conn: ConnId) -> Result<u32, i32> {
        self.wait_for(|done| match *done {
            Done::Sent { conn: of, result } if of == conn => Some(result),
            _ => None,
        })
    }

    /// The bytes of a connection's next `Received`, whose buffer is given back, and `more`.
    pub fn received(&mut self, conn: ConnId) -> (Vec<u8>, bool) {
        let (buffer, len, more) = self.received_buffer(conn);
        (self.take(buffer, len), more)
    }

    /// A connection's next `Received`.
    pub fn received_buffer(&mut self, conn: ConnId) -> (BufferId, u32, bool) {
        self.wait_for(|done| match *done {
            Done::Received { conn: of, buffer, len, more } if of == conn => {
                Some((buffer, len, more))
            }
            _ => None,
        })
    }

    /// Takes bytes out of a buffer and gives it back.
    pub fn take(&mut self, buffer: BufferId, len: u32) -> Vec<u8> {
        self.pool.on_received(buffer);
        let bytes = self.pool.bytes(buffer, len).to_vec();
        self.pool.give_back(buffer);
        self.ring.push(Op::GiveBack { buffer });
        bytes
    }

    /// Why a connection's receive has ended.
    pub fn recv_ended(&mut self, conn: ConnId) -> RecvEnd {
        self.wait_for(|done| match *done {
            Done::RecvEnded { conn: of, end } if of == conn => Some(end),
            _ => None,
        })
    }

    /// Pushes an operation and waits for an answer.
    pub fn ask(&mut self, op: Op, answer: Done) {
        self.ring.push(op);
        self.wait_for(|done| (*done == answer).then_some(()));
    }
}

/// A client with a read timeout.
fn patient(client: TcpStream) -> TcpStream {
    let patience = std::time::Duration::from_millis(PATIENCE.0.into());
    client.set_read_timeout(Some(patience)).expect("a timeout is valid");
    client
}
