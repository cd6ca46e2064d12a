#![forbid(unsafe_code)]
//! What parts read while they work, and how they tell what somebody's input has caused.

use super::{Context, Net};
use crate::engine::events::{Cause, Key, Site};
use crate::ids::{Slot, address_block};
use crate::metrics::Refusal;
use core::ops::Deref;

/// What parts read while they work: the context, and the connections.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Time, settings, counters.
    pub ctx: &'a Context,
    /// The connections.
    pub net: &'a Net,
}

impl Deref for View<'_> {
    type Target = Context;
    fn deref(&self) -> &Context {
        self.ctx
    }
}

impl View<'_> {
    /// Where in the configuration a connection is.
    fn site(&self, slot: Slot) -> Site {
        self.net.endpoint(slot).map_or(Site::None, Site::Endpoint)
    }

    /// Counts a refusal and tells the log of it. `slot` is that of the connection which caused it.
    pub fn refuse(&self, slot: Slot, refusal: impl Into<Refusal>) {
        self.refuse_at(slot, self.site(slot), refusal, None);
    }

    /// The same at `site`, with what there is to say of it.
    pub fn refuse_at(
        &self,
        slot: Slot,
        site: Site,
        refusal: impl Into<Refusal>,
        text: Option<&str>,
    ) {
        let block = address_block(self.net.address(slot));
        self.ctx.refuse_from(Some(block), site, refusal.into(), text);
    }

    /// Tells the log of what a connection has caused, and which is counted elsewhere.
    pub fn note(&self, cause: Cause, slot: Slot) {
        let block = Some(address_block(self.net.address(slot)));
        self.ctx.tell(Key { cause, site: self.site(slot), block }, None);
    }
}
