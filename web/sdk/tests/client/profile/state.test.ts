// SPDX-License-Identifier: Apache-2.0
/** The state: the same bytes as every other client's, in one row and one for each contact, all of it or nothing. */
import "fake-indexeddb/auto";
import { describe, expect, test } from "vitest";
import { hex, unhex, utf8 } from "../../../src/core/base/bytes.js";
import { decode, encode } from "../../../src/core/base/encoding.js";
import { Malformed } from "../../../src/core/base/errors.js";
import { openRow, sealRow } from "../../../src/core/base/rows.js";
import { SecretBytes } from "../../../src/core/base/secret.js";
import { NotPossible, ProfileError, UpdateNeeded } from "../../../src/client/errors.js";
import { CONTACT_ROW, newContact, State } from "../../../src/client/profile/state.js";
import { CONTACT, STATE, StateRows } from "../../../src/client/profile/state_rows.js";
import { MemoryStore } from "../../../src/client/profile/store.js";
import { standing } from "../../../src/client/profile/turns.js";
import { type Json, vectors } from "../../vectors.js";

const PUBLISHED = vectors("profile");
const EMPTY = new Uint8Array(0), USER = new Uint8Array(16).fill(2), OTHER = new Uint8Array(16).fill(3);
const secretOf = (text: string): SecretBytes => new SecretBytes(unhex(text));
const memory = (): MemoryStore => new MemoryStore({ tenant: new Uint8Array(16).fill(1), user: USER });

describe("published rows", () => {
  test("of a profile that was kept from before are read, and written with the same bytes", () => {
    const kept = (PUBLISHED.kept as [string, string, string][]).filter(([kind]) => kind === "state" || kind === "contact");
    expect(kept).toHaveLength(3);
    for (const [kind, , value] of kept) {
      const written = kind === "state" ? State.fromSecret(secretOf(value)).toSecret() : sealRow(CONTACT_ROW, openRow(CONTACT_ROW, secretOf(value)));
      expect(hex(written.reveal())).toBe(value);
    }
  });

  test("with all that a state can hold are read, and written with the same bytes", () => {
    const state = State.fromSecret(secretOf(PUBLISHED.state));
    expect(hex(state.toSecret().reveal())).toBe(PUBLISHED.state);
    expect([state.server, state.trust.checkpoints.get("a"), state.generation(2)?.isExposed, state.officersSection?.keys.length]).toEqual(
      ["https://holdfast.example", "first", true, 1],
    );
    expect(hex(sealRow(CONTACT_ROW, openRow(CONTACT_ROW, secretOf(PUBLISHED.contact))).reveal())).toBe(PUBLISHED.contact);
  });

  test("of a turn are read", async () => {
    const store = memory();
    await store.put("turn", USER, secretOf(PUBLISHED.turn));
    expect(await standing(store, USER)).toEqual({ mark: utf8("mmmmmmmm"), next: utf8("nnnnnnnn"), breaks: 2, brokenAt: 1_792_000_000 });
  });

  test.each(PUBLISHED.refused as Json[])("to refuse are refused: $why", ({ octets }) => {
    expect(() => State.fromSecret(secretOf(octets))).toThrow(Malformed);
  });
});

describe("a state in its store", () => {
  const saved = async (): Promise<[MemoryStore, StateRows, State]> => {
    const store = memory(), rows = new StateRows(store), state = new State();
    state.contacts.set(hex(OTHER), newContact(OTHER, [utf8("genesis")]));
    state.contacts.set(hex(USER), newContact(USER, [utf8("mine")]));
    await rows.save(state);
    return [store, rows, state];
  };

  test("is what is loaded again, contacts and all", async () => {
    const [store, , state] = await saved(), loaded = await new StateRows(store).load();
    expect(loaded.toSecret().equals(state.toSecret())).toBe(true);
    expect([...loaded.contacts].sort()).toEqual([...state.contacts].sort());
  });

  test("writes a contact only when it has changed, and destroys one that is gone", async () => {
    const [store, rows, state] = await saved(), written: string[] = [], put = store.put.bind(store);
    store.put = async (kind, key, value) => {
      written.push(`${kind} ${hex(key).slice(0, 2)}`);
      await put(kind, key, value);
    };
    await rows.save(state);
    (state.contacts.get(hex(OTHER)) as { entries: Uint8Array[] }).entries.push(utf8("next"));
    await rows.save(state);
    state.contacts.delete(hex(USER));
    await rows.save(state);
    expect(written).toEqual([`${STATE} `, `${CONTACT} 03`, `${STATE} `, `${STATE} `]);
    expect((await store.keys(CONTACT)).map(hex)).toEqual([hex(OTHER)]);
  });

  test("writes anew what a transaction wrote that was undone", async () => {
    const [store, rows, state] = await saved();
    (state.contacts.get(hex(OTHER)) as { suite: number }).suite = 2;
    await expect(
      store.transaction(async () => {
        await rows.save(state);
        throw new Error("undone");
      }),
    ).rejects.toThrow("undone");
    await rows.save(state);
    expect((await new StateRows(store).load()).contacts.get(hex(OTHER))?.suite).toBe(2);
  });

  test("that has outgrown its row is refused, and what was kept stays", async () => {
    const [store, rows, state] = await saved();
    state.trust.policies = Array.from({ length: 40 }, () => new Uint8Array(64 * 1024));
    await expect(rows.save(state)).rejects.toThrow(NotPossible);
    expect((await new StateRows(store).load()).trust.policies).toEqual([]);
  });

  test("is none, or a newer program's, or damaged, and says which", async () => {
    await expect(new StateRows(memory()).load()).rejects.toThrow(ProfileError);
    const [store, , state] = await saved(), fields = decode(state.toSecret().reveal()) as Map<number, number>;
    await store.put(STATE, EMPTY, new SecretBytes(encode(new Map([...fields, [1, 2]]))));
    await expect(new StateRows(store).load()).rejects.toThrow(UpdateNeeded);
  });
});
