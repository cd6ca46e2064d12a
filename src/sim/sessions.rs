//! Sessions over HTTP as their owner has them, and what it does for their clients.

use super::client::Client;
use super::over_http::OverHttp;
use super::socket::SocketId;
use crate::ids::LinkIndex;
use crate::time::Instant;

/// What the owner of the sessions does. Requests that reach the engine by themselves can take the
/// place of it.
pub(super) trait Owner {
    /// Sees which clients have gone, and when their sessions are given up.
    fn look_after(&mut self);

    /// A connection that wants to receive and came to another shard moves to the session's, as
    /// often as not.
    fn bring(&mut self, client: usize);

    /// After a turn of a shard: what its sessions' clients have asked for.
    fn serve(&mut self, at: usize);

    /// The shards have ended: nobody knows a session any more.
    fn end_sessions(&mut self);
}

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: usize,
    pub(super) shard: usize,
    /// None: it is yet to be opened.
    pub(super) link: Option<LinkIndex>,
    /// Its client has gone: when it is given up.
    pub(super) abandoned: Option<Instant>,
    /// The connection that has received last.
    pub(super) last: Option<SocketId>,
}

/// All sessions, and which shards are to look at theirs.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) list: Vec<Session>,
    pub(super) asked: Vec<bool>,
    /// The server shuts down.
    pub(super) drains: bool,
}

impl Sessions {
    pub(super) fn new(shards: usize) -> Sessions {
        Sessions { asked: vec![false; shards], ..Sessions::default() }
    }

    /// A client has come that wants a session at a shard.
    pub(super) fn begin(&mut self, client: usize, shard: usize) {
        self.list.push(Session { client, shard, link: None, abandoned: None, last: None });
        self.asked[shard] = true;
    }

    /// Whether a shard is to have a turn because of them.
    pub(super) fn has_asked(&self, shard: usize) -> bool {
        self.asked[shard]
    }

    /// The turn has come.
    pub(super) fn is_heard(&mut self, shard: usize) {
        self.asked[shard] = false;
    }

    /// A client may want something of its shard.
    pub(super) fn ask(&mut self, over: &OverHttp) {
        self.asked[over.ring] |= over.wants();
    }

    /// Whether a session is there that its client has left.
    pub(super) fn has_abandoned(&self, clients: &[Client]) -> bool {
        let has_gone = |client: &Client| client.over || client.vanished;
        self.list.iter().any(|session| has_gone(&clients[session.client]))
    }
}
