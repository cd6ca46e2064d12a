//! The binary as an operator runs it: started, asked, reloaded, ended, over real sockets.
//!
//! No test sleeps: each waits for a line, a frame, a request or an exit, at most
//! [`server::PATIENCE`].

mod client;
mod crowds;
mod deflates;
mod doors;
mod ends;
mod hook;
mod hooks;
mod peer;
mod pushes;
mod raws;
mod reloads;
mod server;
mod slow;
mod web;
