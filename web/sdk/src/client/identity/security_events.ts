// SPDX-License-Identifier: Apache-2.0
/**
 * What happened that asks for new keys: noted where it is seen, answered by the next rotation of the identity.
 *
 * The trigger "security event" of docs/spec/protocol.md. Rotates nothing: `rotation` does, at the next maintenance. A fork
 * of the own chain is kept as `evidence` instead.
 */
import { utf8 } from "../../core/base/bytes.js";
import { layout, openRow, sealRow, text, uint } from "../../core/base/rows.js";
import type { Account } from "../profile/account.js";

const KIND = "security-event";
const MAX_NAME = 64; // bytes: a sentence's beginning tells it from every other of ours

/** What was noted, in a sentence. at: UTC seconds. */
interface Event {
  readonly at: number;
  readonly why: string;
}

const EVENT = layout<Event>("security event", { at: uint(), why: text() });

/** Note something, once, in a sentence for the person: a one-time key handed out twice, an officer's wish. */
export async function note(account: Account, why: string): Promise<void> {
  const name = utf8(why).slice(0, MAX_NAME);
  if ((await account.store.get(KIND, name)) === undefined)
    await account.store.put(KIND, name, sealRow(EVENT, { at: account.api.clock.now(), why }));
}

/** Return the sentences noted since the identity was last replaced, oldest first. */
export async function listEvents(account: Account): Promise<string[]> {
  const found: string[] = [];
  for (const name of await account.store.keys(KIND)) {
    const row = await account.store.get(KIND, name);
    if (row !== undefined) found.push(openRow(EVENT, row).why);
  }
  return found;
}

/** Strike everything out: the identity key is a new one. */
export async function clearEvents(account: Account): Promise<void> {
  await account.store.transaction(async () => {
    for (const name of await account.store.keys(KIND)) await account.store.delete(KIND, name);
  });
}
