// SPDX-License-Identifier: Apache-2.0
/** Trees and tiles of every size against a slow tree and other people's vectors, and whoever follows a log. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Bytes, concat, hex } from "../src/core/base/bytes.js";
import { Expired, Forked, HoldfastError, Malformed, Untrusted } from "../src/core/base/errors.js";
import { sha256 } from "../src/core/crypto/hashing.js";
import type { Checkpoint } from "../src/core/log/checkpoint.js";
import { Edited, LogFollower, MAX_AHEAD_SECONDS, requireFresh, requireNotAhead, RolledBack } from "../src/core/log/follower.js";
import * as merkle from "../src/core/log/merkle.js";
import * as tiles from "../src/core/log/tiles.js";
import { isRole, writers } from "../src/core/log/writers.js";
import { type Json, refused } from "./vectors.js";

const LIMIT = 300;
const leafOf = (number: number): Bytes => merkle.leafHash(Uint8Array.of(number >> 8, number & 255));
const LEAVES = Array.from({ length: LIMIT + 1 }, (_, at) => leafOf(at));
const ELSE = leafOf(999);

/** RFC 6962 section 2.1, written as its sentence reads. */
function slowRoot(hashes: readonly Bytes[]): Bytes {
  const [only] = hashes;
  if (only === undefined) return sha256(new Uint8Array(0));
  if (hashes.length === 1) return only;
  let k = 1;
  while (k * 2 < hashes.length) k *= 2;
  return sha256(concat(Uint8Array.of(1), slowRoot(hashes.slice(0, k)), slowRoot(hashes.slice(k))));
}

const ROOTS = Array.from({ length: LIMIT + 1 }, (_, size) => slowRoot(LEAVES.slice(0, size)));
const rootOf = (size: number): Bytes => ROOTS[size] as Bytes;
const sizes = (from: number): number[] => Array.from({ length: LIMIT + 1 - from }, (_, at) => from + at);

/** Every tile of the first `size` leaves, built level by level. */
function storedTiles(size: number): Map<string, Bytes> {
  const found = new Map<string, Bytes>(), nodes = merkle.memoryNodes(LEAVES.slice(0, size));
  for (let level = 0; size >> (8 * level) > 0; level++) {
    const row = Array.from({ length: size >> (8 * level) }, (_, at) => nodes(8 * level, at));
    for (let at = 0; at < row.length; at += 256) found.set(`${level}/${at / 256}`, concat(...row.slice(at, at + 256)));
  }
  return found;
}

function readerOf(stored: Map<string, Bytes>): tiles.TileReader {
  return (level, index) => {
    const found = stored.get(`${level}/${index}`);
    if (found === undefined) throw new Error("no such tile is stored");
    return found;
  };
}

const tlog: [string, Json][] = Object.entries(
  JSON.parse(
    readFileSync(new URL("../../../tests/vectors/tlog/transparency-dev-merkle-proof-testdata.json", import.meta.url), "utf8"),
  ),
);
const b64 = (text: string): Bytes => Uint8Array.from(Buffer.from(text, "base64"));

describe("trees", () => {
  test.each(tlog.filter(([name]) => name.startsWith("testdata/inclusion/")))("%s", async (_, row) => {
    const proof = (row.proof ?? []).map(b64), of = { index: row.leafIdx, size: row.treeSize, proof, expectedRoot: b64(row.root) };
    const verify = (): void => merkle.verifyInclusion(b64(row.leafHash), of);
    if (row.wantErr) expect(await refused(verify)).toBeInstanceOf(Untrusted);
    else verify();
  });

  test.each(tlog.filter(([name]) => name.startsWith("testdata/consistency/")))("%s", async (_, row) => {
    let [oldRoot, newRoot] = [b64(row.root1), b64(row.root2)];
    // One vector names a root of 12 bytes: any string will do there, ours are always 32 bytes.
    if (!row.wantErr && oldRoot.length !== 32) [oldRoot, newRoot] = [sha256(oldRoot), sha256(newRoot)];
    const of = { oldSize: row.size1, oldRoot, size: row.size2, newRoot, proof: (row.proof ?? []).map(b64) };
    if (row.wantErr) expect(await refused(() => merkle.verifyConsistency(of))).toBeInstanceOf(Untrusted);
    else merkle.verifyConsistency(of);
  });

  test("of every size have the root of the slow one", () => {
    let grown = new merkle.CompactRange();
    for (const size of sizes(0)) {
      expect([hex(merkle.root(LEAVES.slice(0, size))), hex(grown.root())]).toEqual([hex(rootOf(size)), hex(rootOf(size))]);
      grown = grown.append(LEAVES[size] as Bytes);
    }
    expect(merkle.CompactRange.over(LEAVES)).toEqual(grown);
  });

  test("prove every leaf, and every size before", () => {
    const nodes = merkle.memoryNodes(LEAVES);
    for (const size of [...sizes(1).slice(0, 70), 255, 256, 257, LIMIT]) {
      const each = merkle.inclusionProofs(LEAVES.slice(0, size));
      const checker = new merkle.InclusionChecker(size, rootOf(size));
      for (let index = 0; index < size; index++) {
        const proof = merkle.inclusionFrom(nodes, index, size), leaf = LEAVES[index] as Bytes;
        expect(each[index]?.map(hex)).toEqual(proof.map(hex));
        merkle.verifyInclusion(leaf, { index, size, proof, expectedRoot: rootOf(size) });
        checker.check(leaf, index, proof);
        const of = { oldSize: index + 1, oldRoot: rootOf(index + 1), size, newRoot: rootOf(size) };
        merkle.verifyConsistency({ ...of, proof: merkle.consistencyFrom(nodes, index + 1, size) });
      }
    }
    expect(merkle.consistencyProof(LEAVES, 7)).toEqual(merkle.consistencyFrom(nodes, 7, LEAVES.length));
    expect(hex(merkle.rootFrom(nodes, 77))).toBe(hex(rootOf(77)));
  });

  test("refuse to prove what they do not have", () => {
    expect(() => merkle.inclusionProof(LEAVES.slice(0, 3), 3)).toThrow(RangeError);
    expect(() => merkle.consistencyProof(LEAVES.slice(0, 3), 0)).toThrow(RangeError);
    expect(() => merkle.consistencyProof(LEAVES.slice(0, 3), 4)).toThrow(RangeError);
    expect(() => merkle.memoryNodes(LEAVES.slice(0, 3))(1, 1)).toThrow(RangeError);
  });
});

// What a liar does to a proof.
const TAMPERED: [string, (proof: Bytes[], at: number) => Bytes[]][] = [
  ["none", (proof) => proof],
  ["another hash", (proof, at) => proof.with(at, ELSE)],
  ["one fewer", (proof, at) => proof.toSpliced(at, 1)],
  ["one more", (proof, at) => proof.toSpliced(at, 0, ELSE)],
  ["one more at the end", (proof) => [...proof, ELSE]],
  ["turned round", (proof) => proof.toReversed()],
  ["cut", (proof, at) => proof.slice(0, at)],
  ["a short hash", (proof, at) => proof.with(at, ELSE.slice(0, 31))],
];

test.each(TAMPERED)("whoever checks many proofs believes what whoever checks one does: %s", (_, tamper) => {
  const isTaken = (check: () => void): boolean => {
    try {
      check();
      return true;
    } catch (error) {
      if (!(error instanceof HoldfastError)) throw error;
      return false;
    }
  };
  for (const size of [2, 3, 7, 8, 9, 33]) {
    const proofs = merkle.inclusionProofs(LEAVES.slice(0, size));
    for (const step of [1, size - 1, 5]) {
      const checker = new merkle.InclusionChecker(size, rootOf(size));
      for (let turn = 0; turn < size; turn++) {
        const index = (turn * step) % size, honest = proofs[index] as Bytes[], leaf = LEAVES[index] as Bytes;
        for (const [at, one] of [...honest.keys()].map((at): [number, Bytes] => [at, leaf]).concat([[0, ELSE]])) {
          const proof = tamper(honest, at);
          const alone = isTaken(() => merkle.verifyInclusion(one, { index, size, proof, expectedRoot: rootOf(size) }));
          expect(isTaken(() => checker.check(one, index, proof))).toBe(alone);
        }
        checker.check(leaf, index, honest);
      }
      for (const index of [-1, size])
        expect(() => checker.check(LEAVES[0] as Bytes, index, proofs[0] as Bytes[])).toThrow(Untrusted);
    }
  }
});

describe("tiles", () => {
  test("give the roots, proofs and edges of the tree", () => {
    const memory = merkle.memoryNodes(LEAVES), read = readerOf(storedTiles(LIMIT));
    for (const size of sizes(0).slice(0, -1)) {
      expect(hex(tiles.root(read, size))).toBe(hex(rootOf(size)));
      expect(tiles.compactRange(read, size)).toEqual(merkle.CompactRange.over(LEAVES.slice(0, size)));
    }
    for (const size of [1, 255, 256, 257, 299])
      for (let index = 0; index < size; index += 37) {
        expect(tiles.inclusionProof(read, index, size)).toEqual(merkle.inclusionFrom(memory, index, size));
        if (index > 0)
          expect(tiles.consistencyProof(read, index, size)).toEqual(merkle.consistencyFrom(memory, index, size));
      }
  });

  test.each([1, 2, 65, 255, 256, 257, 300])("prove all leaves of a tile, and the tile, among %i", (size) => {
    const read = readerOf(storedTiles(size)), nodes = tiles.tileNodes(read), each = merkle.inclusionProofs(LEAVES.slice(0, size));
    const count = Math.ceil(size / tiles.WIDTH), expectedRoot = rootOf(size);
    const found = Array.from({ length: count }, (_, at) => tiles.inclusionProofs(read, nodes, at, size)).flat();
    expect(found).toEqual(each);
    for (let index = 0; index < count; index++) {
      const over = merkle.root(LEAVES.slice(index * tiles.WIDTH, Math.min(size, (index + 1) * tiles.WIDTH)));
      merkle.verifyInclusion(over, { index, size: count, proof: tiles.tileProof(nodes, index, size), expectedRoot });
    }
  });

  test("are asked for once each, and few of them", () => {
    const asked: string[] = [], full = concat(...Array.from({ length: 256 }, () => ELSE));
    tiles.inclusionProof((level, index) => (asked.push(`${level}/${index}`), full), 12_345_678, 100_000_007);
    expect(new Set(asked).size).toBe(asked.length);
    expect(asked.length).toBeLessThanOrEqual(8);
  });

  test("that are too short, or none, are refused", () => {
    expect(() => tiles.root(() => new Uint8Array(0), 3)).toThrow(Malformed);
    const short = readerOf(new Map([["0/0", concat(...LEAVES.slice(0, 99))], ["0/1", new Uint8Array(0)]]));
    for (const [index, size, wrong] of [[0, 100, Malformed], [1, 257, Malformed], [1, 256, RangeError]] as const)
      expect(() => tiles.inclusionProofs(short, tiles.tileNodes(short), index, size)).toThrow(wrong);
    expect(() => tiles.tileProof(tiles.tileNodes(short), 1, 256)).toThrow(RangeError);
  });

  test("that growing changes are named, each with its path", () => {
    for (let old = 0; old < LIMIT; old += 17)
      for (let made = old; made < LIMIT; made += 29) {
        const before = storedTiles(old), after = storedTiles(made);
        const changed = [...after].filter(([place, row]) => before.get(place)?.length !== row.length);
        const named = tiles.tilesChanged(old, made).map((one) => [`${one.level}/${one.index}`, one.width]);
        expect(named.sort()).toEqual(changed.map(([place, row]) => [place, row.length / 32]).sort());
      }
    expect(tiles.tilePath(0, 1234067)).toBe("tile/0/x001/x234/067");
    expect(tiles.tilePath(1, 0, 17)).toBe("tile/1/000.p/17");
  });
});

describe("whoever follows a log", () => {
  const NOW = 1_800_000_000;
  const READ = Array.from({ length: 40 }, (_, at) => Uint8Array.of(108, at));
  const headOf = (leaves: readonly Bytes[], time: number | undefined = NOW): Checkpoint => {
    const grown = merkle.CompactRange.over(leaves.map(merkle.leafHash));
    return { origin: "holdfast/x/audit", size: grown.size, root: grown.root(), time };
  };
  const standingAt = (size: number): Promise<LogFollower> =>
    new LogFollower().advance(READ.slice(0, size), headOf(READ.slice(0, size)));

  test("goes with any growth", async () => {
    let follower = new LogFollower();
    for (const size of [0, 0, 1, 5, 5, 17, 40]) {
      follower = await follower.advance(READ.slice(follower.size, size), headOf(READ.slice(0, size)));
      expect([follower.size, hex(follower.root)]).toEqual([size, hex(headOf(READ.slice(0, size)).root)]);
    }
  });

  test("refuses a log that was put back, whatever its date, and takes the same with an earlier one", async () => {
    const follower = await standingAt(10);
    expect(await refused(() => follower.advance([], headOf(READ.slice(0, 9), NOW + 9)))).toBeInstanceOf(RolledBack);
    expect((await follower.advance([], headOf(READ.slice(0, 10), NOW - 7200))).size).toBe(10);
  });

  test("refuses a second head of one size, and a fork behind what it has read", async () => {
    const other = await refused(async () => (await standingAt(10)).advance([], headOf([...READ.slice(0, 9), ELSE])));
    expect(other).toBeInstanceOf(Forked);
    expect(other).not.toBeInstanceOf(Edited);
    const forged = [ELSE, ...READ.slice(1, 20)];
    expect(await refused(async () => (await standingAt(10)).advance(forged.slice(10), headOf(forged)))).toBeInstanceOf(Edited);
  });

  test.each<[string, Bytes[]]>([
    ["edited", READ.slice(10, 20).with(4, ELSE)],
    ["one fewer", READ.slice(10, 20).toSpliced(4, 1)],
    ["inserted", READ.slice(10, 20).toSpliced(5, 0, ELSE)],
    ["appended", [...READ.slice(10, 20), ELSE]],
    ["changed about", READ.slice(10, 20).toReversed()],
    ["cut", READ.slice(10, 19)],
    ["none", []],
  ])("refuses entries that do not lead to the head: %s", async (_, served) => {
    const follower = await standingAt(10);
    expect(await refused(() => follower.advance(served, headOf(READ.slice(0, 20))))).toBeInstanceOf(Edited);
    expect((await follower.advance(READ.slice(10, 20), headOf(READ.slice(0, 20)))).size).toBe(20);
  });

  test("reads no further than one leaf beyond the head", async () => {
    let taken = 0;
    const endless = function* (): Generator<Bytes> {
      for (;;) yield (taken++, READ[0] as Bytes);
    };
    await refused(async () => (await standingAt(1)).advance(endless(), headOf(READ.slice(0, 5))));
    expect(taken).toBe(5);
  });

  test("believes no head from outside its time", () => {
    const undated = { ...headOf(READ), time: undefined };
    for (const head of [headOf(READ, NOW - 121), headOf(READ, NOW + MAX_AHEAD_SECONDS + 1), undated])
      expect(() => requireFresh(head, NOW)).toThrow(Expired);
    for (const time of [NOW - 120, NOW, NOW + MAX_AHEAD_SECONDS]) requireFresh(headOf(READ, time), NOW);
    requireFresh(headOf(READ, NOW - 900), NOW, 900);
    requireNotAhead(headOf(READ, NOW - 10 ** 6), NOW);
    for (const head of [headOf(READ, NOW + MAX_AHEAD_SECONDS + 1), undated])
      expect(() => requireNotAhead(head, NOW)).toThrow(Expired);
  });
});

test("who may write what is the table of Python", () => {
  const python = readFileSync(new URL("../../../holdfast/core/log/writers.py", import.meta.url), "utf8");
  const rows = (/_WRITERS: Final = """\n([^"]*)"""/.exec(python)?.[1] ?? "").trim().split("\n");
  const lines = [...writers()].map(([tag, roles]) => [tag, ...roles].join(" "));
  expect(lines).toEqual(rows.map((row) => row.split(/ +/).join(" ")));
  expect([...writers().values()].flat().every(isRole)).toBe(true);
});
