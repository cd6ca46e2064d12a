#![forbid(unsafe_code)]
//! Whose a connection is, and how many there may be, of all and of one address.
//!
//! A connection counts for its peer's address; behind a trusted proxy for the address that the
//! proxy names at the upgrade, and never for the proxy's own.

use super::{Context, Net, View};
use crate::http::{self, Head};
use crate::ids::Slot;
use crate::mem::shares::{Key, Kind, Place};
use crate::metrics::Refusal;
use core::net::IpAddr;

impl Net {
    /// Where a connection is counted for its address.
    pub fn place(&self, slot: Slot) -> Place {
        self.places[slot.index()]
    }

    /// The address of a connection as shares know it; None for a trusted proxy's own.
    pub fn share_key(&self, ctx: &Context, slot: Slot) -> Option<Key> {
        let address = self.address(slot);
        let is_proxy = ctx.shared.config.listen.trusts(address);
        (!is_proxy).then(|| ctx.shared.shares.key(address))
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
        let Some(key) = self.share_key(ctx, slot) else { return true };
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
