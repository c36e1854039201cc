// SPDX-License-Identifier: Apache-2.0
/** The published account chains and pre-key bundles: each prefix says what is published, each refusal is one. */
import { describe, expect, test } from "vitest";
import { hex } from "../src/core/base/bytes.js";
import { Forked } from "../src/core/base/errors.js";
import { type ChainPin, type ChainState, headOf, verifyChain } from "../src/core/identity/chain.js";
import { Entry } from "../src/core/identity/entries.js";
import { type OneTimePart, type PreKeyBundle, verifyBundle } from "../src/core/messages/bundle.js";
import { Sign1 } from "../src/core/signed/cose.js";
import { deviceFromPayload } from "../src/core/signed/statements.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const { tenant, user, chains } = vectors("chains");

async function verified(entries: string[], pinned?: ChainPin): Promise<ChainState> {
  const read = entries.map((entry) => Entry.parse(octets(entry)));
  return verifyChain(read, { tenant: octets(tenant), user: octets(user), pinned });
}

describe.each<[string, Json]>([["ed25519", chains[0]], ["p256", chains[1]]])("a chain of %s keys", (_, chain) => {
  test.each<Json>(chain.states)("says at entry $seq what is published", async (said) => {
    const state = await verified(chain.entries.slice(0, said.seq + 1));
    expect(hex(headOf(state))).toBe(said.head);
    expect(hex(state.aik.encoded)).toBe(said.aik);
    expect(state.recoveryKey ? hex(state.recoveryKey.encoded) : null).toBe(said.recovery_key);
    expect(Object.fromEntries([...state.devices].map(([id, hash]) => [id, hex(hash)]))).toEqual(said.devices);
    expect(state.generations.map((one) => one.generation)).toEqual(said.generations);
    expect(state.manifestHash ? hex(state.manifestHash) : null).toBe(said.manifest);
  });

  test.each<Json>(chain.refused)("refuses: $why", async (row) => {
    await refused(() => verified(row.entries));
  });

  test.each<Json>(chain.forks)("a fork holds by itself and is refused by who saw the other: $why", async (fork) => {
    await verified(fork.entries);
    const pinned = { seq: fork.pinned.seq, head: octets(fork.pinned.head) };
    expect(await refused(() => verified(fork.entries, pinned))).toBeInstanceOf(Forked);
  });
});

const { suites, now } = vectors("prekeys");

function bundleOf(row: Json): PreKeyBundle {
  const part = row.one_time_pre_key;
  const oneTime: OneTimePart | undefined = part
    ? { batch: Sign1.parse(octets(part.batch)), leaf: octets(part.leaf), index: part.index, proof: octets(part.proof) }
    : undefined;
  return {
    suite: row.suite,
    chainHead: octets(row.chain_head),
    deviceStatement: Sign1.parse(octets(row.device_statement)),
    signedPreKey: Sign1.parse(octets(row.signed_pre_key)),
    oneTime,
  };
}

describe.each<Json>(suites)("bundles of suite $suite", (of) => {
  const statement = Sign1.parse(octets(of.device_statement));
  const { header } = deviceFromPayload(statement.payload);
  const chain = {
    tenant: header.tenant,
    user: header.user,
    devices: new Map([[hex(header.device), statement.payloadHash]]),
  };
  const check = (row: Json): Promise<unknown> => verifyBundle(bundleOf(row), { chain, device: header.device, now });

  test.each<Json>(of.bundles)("verify", async (row) => {
    await check(row);
  });

  test.each<Json>(of.refused_bundles)("refuses: $why", async (row) => {
    const { why: _, ...changed } = row;
    await refused(() => check({ ...of.bundles[0], ...changed }));
  });
});
