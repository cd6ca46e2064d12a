#![forbid(unsafe_code)]
//! What parts read while they work, and how they tell what somebody's input has caused.

use super::{Context, Net};
use crate::engine::events::{Cause, Key, Site};
use crate::ids::{LinkIndex, address_block};
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
    /// Counts a refusal and tells the log of it. `link` is that of the client who caused it.
    pub fn refuse(&self, link: impl Into<LinkIndex>, refusal: impl Into<Refusal>) {
        let link = link.into();
        self.refuse_at(link, self.net.client(link).site(), refusal, None);
    }

    /// The same at `site`, with what there is to say of it.
    pub fn refuse_at(
        &self,
        link: impl Into<LinkIndex>,
        site: Site,
        refusal: impl Into<Refusal>,
        text: Option<&str>,
    ) {
        let block = address_block(self.net.client(link.into()).address);
        self.ctx.refuse_from(Some(block), site, refusal.into(), text);
    }

    /// Tells the log of what a client has caused, and which is counted elsewhere.
    pub fn note(&self, cause: Cause, link: LinkIndex) {
        let client = self.net.client(link);
        let (site, block) = (client.site(), Some(address_block(client.address)));
        self.ctx.tell(Key { cause, site, block }, None);
    }
}
