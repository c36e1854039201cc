// SPDX-License-Identifier: Apache-2.0
/** The published sessions: each message beside the state that meets it and the state after. */
import { describe, expect, test } from "vitest";
import { hex } from "../src/core/base/bytes.js";
import { pad, paddedSize, unpad } from "../src/core/base/padding.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { deriveRoot, deriveStep } from "../src/core/messages/ratchet.js";
import { Session } from "../src/core/messages/session.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const { now, root_step: root, chain_step: chain, padding, sessions } = vectors("ratchet");

test("the key derivations", () => {
  expect(deriveRoot(octets(root.root), octets(root.dh)).map(hex)).toEqual([root.next_root, root.chain, root.next_header_key]);
  expect(deriveStep(octets(chain.chain)).map(hex)).toEqual([chain.message_key, chain.next_chain]);
});

test("padding has one form for each plaintext", () => {
  for (const one of padding) {
    expect(hex(pad(octets(one.plaintext)))).toBe(one.padded);
    expect(hex(unpad(octets(one.padded)))).toBe(one.plaintext);
  }
  for (let size = 1; size < 70_000; size += 7) expect(paddedSize(paddedSize(size))).toBe(paddedSize(size));
});

function restored(event: Json): Session {
  const session = Session.fromSecret(new SecretBytes(octets(event.state)));
  session.restoreSkipped(new SecretBytes(octets(event.skipped)));
  expect(hex(session.toSecret().reveal())).toBe(event.state);
  expect(hex(session.skippedToSecret().reveal())).toBe(event.skipped);
  return session;
}

const events: [number, number, Json][] = sessions.flatMap((one: Json) =>
  one.events.map((event: Json, at: number) => [one.suite, at, event]),
);

describe.each(events)("suite %i, event %i", (_suite, _at, event) => {
  test("is opened or refused as the vector says", async () => {
    const session = restored(event);
    if (event.plaintext === null) {
      await refused(() => session.decrypt(octets(event.message), now));
      expect(hex(session.toSecret().reveal())).toBe(event.state);
      return;
    }
    expect(hex(await session.decrypt(octets(event.message), now))).toBe(event.plaintext);
    // A step makes a fresh key, so that not every state after it can be told beforehand.
    if (event.after !== undefined) {
      expect(hex(session.toSecret().reveal())).toBe(event.after);
      expect(hex(session.skippedToSecret().reveal())).toBe(event.skipped_after);
    }
  });
});
