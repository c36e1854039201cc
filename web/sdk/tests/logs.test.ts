// SPDX-License-Identifier: Apache-2.0
/** The published logs: heads, leaves and proofs of both kinds of key, and each of them that is to be refused. */
import { describe, expect, test } from "vitest";
import { hex } from "../src/core/base/bytes.js";
import { type Checkpoint, NoteVerifier } from "../src/core/log/checkpoint.js";
import { keysVerifier, requireSameLog, verifyChainEntry } from "../src/core/log/key_log.js";
import { entryFromLeaf, keyEntryFromLeaf } from "../src/core/log/log_entry.js";
import { CompactRange, inclusionProof, leafHash, root, verifyInclusion } from "../src/core/log/merkle.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const { tenant, user, logs, audit } = vectors("log");

describe.each<[number, Json]>(logs.map((one: Json, at: number) => [at, one]))("log %i", (_, log) => {
  const verifier = NoteVerifier.fromText(log.verifier_key);
  const leaves = log.leaves.map((one: Json) => octets(one.leaf));
  const headOf = (size: number): Promise<Checkpoint> => verifier.openCheckpoint(log.checkpoints[size - 1]);

  test.each<number>(log.checkpoints.map((_note: string, at: number) => at + 1))("head of %i leaves", async (size) => {
    const head = await headOf(size), hashes = leaves.slice(0, size).map(leafHash);
    expect([head.size, hex(head.root)]).toEqual([size, hex(root(hashes))]);
    const range = hashes.reduce((grown: CompactRange, one: never) => grown.append(one), new CompactRange());
    expect(hex(range.root())).toBe(hex(head.root));
    expect(hex(CompactRange.fromBytes(range.toBytes()).root())).toBe(hex(head.root));
  });

  test.each<Json>(log.inclusion)("leaf $index is in the tree of $size", async (one) => {
    const proof = one.proof.map(octets), head = await headOf(one.size);
    const leaf = leaves[one.index], said = keyEntryFromLeaf(leaf);
    verifyInclusion(leafHash(leaf), { index: one.index, size: one.size, proof, expectedRoot: head.root });
    expect(inclusionProof(leaves.slice(0, one.size).map(leafHash), one.index).map(hex)).toEqual(one.proof);
    const shown = { index: one.index, leaf, hashes: proof, checkpoint: log.checkpoints[one.size - 1] };
    const pinned = keysVerifier([log.verifier_key], octets(tenant));
    if (pinned === undefined) throw new Error("not pinned");
    const of = { verifier: pinned, tenant: octets(tenant), user: octets(user), entryHash: said.statementHash };
    await verifyChainEntry(shown, { ...of, seq: said.seq });
    await refused(() => verifyChainEntry(shown, { ...of, seq: said.seq + 1 }));
  });

  test.each<Json>(log.consistency)("$size goes on from $old_size", async (one) => {
    const proof = one.proof.map(octets);
    requireSameLog(await headOf(one.old_size), await headOf(one.size), proof);
    const wrong = { ...(await headOf(one.old_size)), root: leafHash(octets("00")) };
    await refused(async () => requireSameLog(wrong, await headOf(one.size), proof));
  });

  test.each<Json>(log.refused_checkpoints)("refuses a head: $why", async (one) => {
    await refused(() => verifier.openCheckpoint(one.note));
  });

  test.each<Json>(log.refused_inclusion)("refuses a proof: $why", async (one) => {
    const head = await headOf(log.checkpoints.length), leaf = leaves[one.leaf];
    const of = { index: one.index, size: head.size, proof: one.proof.map(octets), expectedRoot: head.root };
    await refused(() => verifyInclusion(leafHash(leaf), of));
  });
});

describe("the audit log", () => {
  test.each<Json>(audit.leaves)("$name is read", (one) => {
    const entry = entryFromLeaf(octets(one.leaf));
    expect(entry.tag.length).toBeGreaterThan(0);
    expect(entry.kid.length === 0).toBe(entry.signature.length === 0);
  });

  test.each<Json>(audit.refused_leaves.filter((one: Json) => one.error === "form"))("refuses: $why", async (one) => {
    await refused(() => entryFromLeaf(octets(one.leaf)));
  });
});
