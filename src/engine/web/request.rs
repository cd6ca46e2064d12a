#![forbid(unsafe_code)]
//! A request in flight: what its head asks for, its body so far, and the stage it is in.

use super::answer::RequestMeta;
use super::body::Bad;
use super::handshake::{AtEndpoint, Upgrade};
use super::push::{ResponseFormat, Work};
use crate::console::Asset;
use crate::engine::bus::mailbox::Query;
use crate::http::{self, Body};
use crate::ids::EndpointIndex;
use smallvec::SmallVec;

/// Where a connection is with its requests: which deadline it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Between two requests: nothing of the next one is there. Or it has been upgraded.
    Idle,
    /// Some bytes of a head are there.
    Head,
    /// A body is being received.
    Body,
    /// The request waits for an answer or for room.
    Parked,
}

/// A request that is not answered yet.
#[derive(Debug)]
pub enum Request {
    /// Some bytes of its head are there; the connection keeps them.
    Head,
    /// Its head is there, and some of its body.
    Body(Receiving),
    /// It is whole, and waits for an answer or for room.
    Parked {
        /// For its answer.
        meta: RequestMeta,
        /// What is being done about it.
        work: Work,
    },
}

impl Request {
    /// The stage of its connection.
    pub fn stage(&self) -> Stage {
        match self {
            Request::Head => Stage::Head,
            Request::Body(_) => Stage::Body,
            Request::Parked { .. } => Stage::Parked,
        }
    }

    /// Bytes that it keeps.
    pub fn held(&self) -> usize {
        match self {
            Request::Body(receiving) => receiving.asked.held() + receiving.body.len(),
            Request::Parked { work, .. } => work.held(),
            Request::Head => 0,
        }
    }
}

/// A request whose body is being received.
#[derive(Debug)]
pub struct Receiving {
    /// For its answer.
    pub meta: RequestMeta,
    /// What it asks for.
    pub asked: Asked,
    /// As much of the body as is there.
    pub body: Vec<u8>,
    decoder: Body,
}

impl Receiving {
    /// Nothing of the body is there.
    pub fn new(meta: RequestMeta, asked: Asked, decoder: Body) -> Receiving {
        Receiving { meta, asked, body: Vec::new(), decoder }
    }

    /// Takes some of the body out of `bytes`: how many were used, and whether it is whole now or
    /// what is wrong with it.
    pub fn take(&mut self, bytes: &[u8], body_max: u32) -> (usize, Result<bool, http::Refusal>) {
        let mut used = 0;
        loop {
            match self.decoder.next(&bytes[used..], body_max) {
                Ok((n, chunk, done)) => {
                    used += n;
                    self.body.extend_from_slice(chunk.unwrap_or(&[]));
                    if done || n == 0 {
                        return (used, Ok(done));
                    }
                }
                Err(refusal) => return (used, Err(refusal)),
            }
        }
    }
}

/// What a request asks for, as its head says. Nothing of the head is needed any more.
#[derive(Debug)]
pub enum Asked {
    /// What cannot be had, whatever its body says.
    Wrong(Bad),
    /// Something at or below an endpoint.
    Endpoint(EndpointIndex, AtEndpoint),
    /// `/sendMsToUser`, `/sendMsAll`
    SendTo(SendTo),
    /// `POST /api/publish`
    Publish,
    /// `POST /api/users/{user}/messages`: to whom, or what is wrong with the name. Of several
    /// mistakes those in the body are told first.
    Message(Result<String, Bad>),
    /// What every shard answers, and how that is shown.
    Question(Query, ResponseFormat),
    /// `/api/stats`
    Stats,
    /// A callback.
    Callback(Signed),
    /// The page's provider panel.
    Demo(Signed),
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Health,
    /// `/readyz`
    Ready,
    /// `/console.json`, with the origin of the endpoints where it is not the page's own.
    Console(Option<String>),
    /// A file of the page.
    Page(&'static Asset),
}

impl Asked {
    /// Bytes that it keeps.
    fn held(&self) -> usize {
        match self {
            Asked::Wrong(bad) | Asked::Message(Err(bad)) => bad.text.len(),
            Asked::Endpoint(_, what) => what.held(),
            Asked::SendTo(SendTo { user, destination, .. }) => {
                destination.len() + user.as_ref().map_or(0, String::len)
            }
            Asked::Message(Ok(user)) => user.len(),
            Asked::Question(Query::Sessions(user) | Query::KickUser(user), _) => user.len(),
            Asked::Callback(signed) | Asked::Demo(signed) => signed.held(),
            Asked::Console(origin) => origin.as_ref().map_or(0, String::len),
            Asked::Question(Query::Users | Query::KickSession(_), _)
            | Asked::Publish
            | Asked::Stats
            | Asked::Metrics
            | Asked::Health
            | Asked::Ready
            | Asked::Page(_) => 0,
        }
    }
}

/// A push as the original application had it.
#[derive(Debug)]
pub struct SendTo {
    /// To this user, or to all.
    pub user: Option<String>,
    /// Destination, without the user prefix.
    pub destination: String,
    /// The body is pushed; else what stands for one in a test.
    pub has_body: bool,
}

/// A header line: name and value.
type Line = (Box<str>, Box<[u8]>);

/// What of a callback's head its signature needs.
#[derive(Debug)]
pub struct Signed {
    /// The callback's path, which it keeps over a reload; its number may be another's by the time
    /// the body is there.
    pub path: Box<str>,
    /// Lines of its signature header: names and values.
    pub lines: SmallVec<[Line; 1]>,
}

impl Signed {
    fn held(&self) -> usize {
        let lines = self.lines.iter().map(|(name, value)| name.len() + value.len());
        self.path.len() + lines.sum::<usize>()
    }
}

/// What a whole request has come to.
#[derive(Debug)]
pub enum Outcome {
    /// It has its answer.
    Answered,
    /// It is parked until this is done.
    Park(Work),
    /// It is a good handshake.
    Upgrade(Box<Upgrade>),
}
