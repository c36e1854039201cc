// SPDX-License-Identifier: Apache-2.0
/**
 * A state in its store: one row for the account, and one for each contact, written only when it has changed.
 *
 * docs/formats/profile.md (`state`, `contact`). Does not know what a state means (`state`), nor when it is written: every
 * module that changes it says so.
 */
import { type Bytes, EMPTY, equal, hex, unhex } from "../../core/base/bytes.js";
import { Malformed } from "../../core/base/errors.js";
import { openRow, RowTooLong, sealRow } from "../../core/base/rows.js";
import { damaged, NotPossible, UpdateNeeded } from "../errors.js";
import { CONTACT_ROW, type Contact, State } from "./state.js";
import type { Store } from "./store.js";

/** The kind of the one row of the account; its key is empty. */
export const STATE = "state";
/** The kind of a contact's row; its key is the user's 16 bytes. */
export const CONTACT = "contact";

/**
 * Writes states into one store.
 *
 * A contact's chain grows by an entry whenever they replace a key, and there may be hundreds of contacts: in one row the
 * chains would outgrow it within a year, and be encrypted anew at every message.
 */
export class StateRows {
  readonly #store: Store;
  readonly #written = new Map<string, Contact>();
  #undone: number;

  constructor(store: Store) {
    this.#store = store;
    this.#undone = store.undone;
  }

  /** Write what has changed, all of it or nothing. Rejects with NotPossible for a state too long to be read again. */
  async save(state: State): Promise<void> {
    const secret = sealed(state);
    if (this.#undone !== this.#store.undone) {
      // What was written in a transaction that was undone is not there, though it is in memory.
      this.#written.clear();
      this.#undone = this.#store.undone;
    }
    await this.#store.transaction(async () => {
      for (const user of await this.#store.keys(CONTACT)) {
        if (state.contacts.has(hex(user))) continue;
        await this.#store.delete(CONTACT, user);
        this.#written.delete(hex(user));
      }
      for (const [user, contact] of state.contacts) await this.#saveContact(user, contact);
      await this.#store.put(STATE, EMPTY, secret);
    });
  }

  async #saveContact(user: string, contact: Contact): Promise<void> {
    const before = this.#written.get(user);
    if (before !== undefined && isSame(before, contact)) return;
    await this.#store.put(CONTACT, unhex(user), sealRow(CONTACT_ROW, contact));
    this.#written.set(user, snapshotOf(contact));
  }

  /** Read the state. Rejects with ProfileError when there is none, UpdateNeeded for a newer version's. */
  async load(): Promise<State> {
    const secret = await this.#store.get(STATE, EMPTY);
    if (secret === undefined) throw damaged("it has no state");
    this.#written.clear();
    try {
      const state = State.fromSecret(secret);
      for (const user of await this.#store.keys(CONTACT)) {
        const row = await this.#store.get(CONTACT, user);
        if (row === undefined) continue;
        const contact = openRow(CONTACT_ROW, row);
        state.contacts.set(hex(user), contact);
        this.#written.set(hex(user), snapshotOf(contact));
      }
      return state;
    } catch (error) {
      // Its encryption held, so nobody and no disk has changed it: this program does not know what it says.
      if (error instanceof Malformed) throw new UpdateNeeded(undefined, { cause: error });
      throw error;
    }
  }
}

function sealed(state: State) {
  try {
    return state.toSecret();
  } catch (error) {
    if (!(error instanceof RowTooLong)) throw error;
    throw new NotPossible("This profile is full: what your organisation signed has outgrown it.");
  }
}

function snapshotOf(contact: Contact): Contact {
  return { ...contact, entries: [...contact.entries], unconfirmed: [...contact.unconfirmed] };
}

function isSame(one: Contact, other: Contact): boolean {
  const areSame = (some: readonly Bytes[], others: readonly Bytes[]): boolean =>
    some.length === others.length && some.every((entry, index) => equal(entry, others[index] as Bytes));
  return (
    areSame(one.entries, other.entries) &&
    areSame(one.unconfirmed, other.unconfirmed) &&
    one.suite === other.suite &&
    equal(one.verified, other.verified)
  );
}
