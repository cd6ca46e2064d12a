#![forbid(unsafe_code)]
//! Whose a connection is, and how many there may be, of all and of one address.
//!
//! A connection counts for its peer's address; behind a trusted proxy for the address that the
//! proxy names at the upgrade, and never for the proxy's own.

use super::conn::{Client, Conn, NOWHERE, Times};
use super::{Context, Net, View};
use crate::engine::events::Site;
use crate::http::{self, Head};
use crate::ids::{EndpointIndex, LinkIndex, Slot};
use crate::mem::shares::{Key, Kind, Place};
use crate::metrics::Refusal;
use core::net::{IpAddr, Ipv4Addr};

impl Client {
    /// Stands for no client.
    pub const NONE: Client = Client::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), NOWHERE, 0);

    /// One that comes now.
    pub const fn new(address: IpAddr, endpoint: EndpointIndex, ms: u32) -> Client {
        let times = Times { last_in: ms, last_out: ms, since: ms, send_since: 0 };
        Client { address, endpoint, times }
    }

    /// The endpoint that its session is at.
    pub fn endpoint(&self) -> Option<EndpointIndex> {
        Some(self.endpoint).filter(|endpoint| *endpoint != NOWHERE)
    }

    /// Where in the configuration that is.
    pub(super) fn site(&self) -> Site {
        self.endpoint().map_or(Site::None, Site::Endpoint)
    }

    /// Its address as shares know it; None for a trusted proxy's own.
    pub fn share_key(&self, ctx: &Context) -> Option<Key> {
        let is_proxy = ctx.shared.config.listen.trusts(self.address);
        (!is_proxy).then(|| ctx.shared.shares.key(self.address))
    }
}

impl Net {
    /// Where a connection is counted for its address.
    pub fn place(&self, slot: Slot) -> Place {
        self.places[slot.index()]
    }

    /// The client of a link, as it is known.
    pub fn client(&self, link: LinkIndex) -> Client {
        if let Some(at) = link.0.checked_sub(self.slots) {
            return self.clients[at as usize];
        }
        let Conn { address, endpoint, times, .. } = *self.at(Slot(link.0));
        Client { address, endpoint, times }
    }

    /// A session opens, or has ended, whose link has no connection of its own.
    pub fn set_client(&mut self, link: LinkIndex, client: Client) {
        let at = link.0.checked_sub(self.slots).expect("it has no connection of its own");
        if self.clients.len() <= at as usize {
            self.clients.resize(at as usize + 1, Client::NONE);
        }
        self.clients[at as usize] = client;
        self.wheel.cancel(link.0);
    }

    /// Counts a new connection. False if there are too many, of all or of its address.
    pub fn admit(&mut self, ctx: &Context, slot: Slot) -> bool {
        let most = match ctx.limits.connections {
            0 => u32::MAX,
            most => most,
        };
        // The hard bound of the table is never met: there the kernel drops connections silently.
        let is_full = self.open + ctx.reserve() > ctx.slots;
        if is_full || !ctx.shared.shares.connect(most) {
            View { ctx, net: self }.refuse(slot, Refusal::LimitConnections);
            return false;
        }
        self.at_mut(slot).is_counted = true;
        self.count_address(ctx, slot)
    }

    /// Counts a connection for its address, if that is counted. False if it has too many.
    fn count_address(&mut self, ctx: &Context, slot: Slot) -> bool {
        let Some(key) = self.client(slot.into()).share_key(ctx) else { return true };
        let shares = &ctx.shared.shares;
        let place = shares.take(key, Kind::Connections);
        let bound = ctx.limits.connections_per_address;
        // Those who found no place of their own are many addresses.
        let is_own = place != Place::REST;
        if bound > 0 && is_own && shares.held(key, Kind::Connections) > bound {
            shares.give_back(place, Kind::Connections);
            View { ctx, net: self }.refuse(slot, Refusal::LimitConnectionsPerAddress);
            return false;
        }
        self.places[slot.index()] = place;
        true
    }

    /// The client that a trusted proxy names in a request's head.
    pub fn client_of(&self, ctx: &Context, slot: Slot, head: &Head<'_, '_>) -> Option<IpAddr> {
        let listen = &ctx.shared.config.listen;
        let is_proxy = listen.trusts(self.address(slot));
        let elements = is_proxy.then(|| head.tokens("x-forwarded-for"))?;
        http::client_of(elements, |address| listen.trusts(address))
    }

    /// A connection through a trusted proxy becomes its client's. False if that has too many.
    pub fn settle_address(&mut self, ctx: &Context, slot: Slot, client: IpAddr) -> bool {
        self.at_mut(slot).address = client;
        self.count_address(ctx, slot)
    }

    /// A connection is gone: it is not counted any more.
    pub fn uncount(&mut self, ctx: &Context, slot: Slot) {
        let shares = &ctx.shared.shares;
        if self.at(slot).is_counted {
            shares.disconnect();
        }
        shares.give_back(self.place(slot), Kind::Connections);
    }
}
