// What a client has received, in order, and a way to wait for the next message.

import assert from "node:assert/strict";
import { within } from "./server.mjs";

export class Inbox {
  constructor(name) {
    Object.assign(this, { name, items: [], waiting: [] });
  }

  put(item) {
    const next = this.waiting.shift();
    if (next) next(item);
    else this.items.push(item);
  }

  // The next item, in the order of arrival.
  take(ms = 5_000) {
    if (this.items.length) return Promise.resolve(this.items.shift());
    return within(ms, `message for ${this.name}`, new Promise((done) => this.waiting.push(done)));
  }

  async expect(wanted, ms) {
    assert.deepEqual(await this.take(ms), wanted, this.name);
  }

  empty() {
    assert.deepEqual(this.items, [], `${this.name} has received nothing`);
  }
}
