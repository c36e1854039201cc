// SPDX-License-Identifier: Apache-2.0
/**
 * Merkle trees of the two logs and of pre-key batches: roots, inclusion and consistency proofs.
 *
 * RFC 6962 section 2 (hashing), RFC 9162 sections 2.1.3 and 2.1.4 (verification). Signs nothing: signed heads are in
 * `checkpoint`. Positions go to 2^53 - 1, so they are halved by division: a bit operation would cut them to 32 bits.
 */
import { type Bytes, concat, equal } from "../base/bytes.js";
import { MAX_UINT } from "../base/encoding.js";
import { Malformed, Untrusted } from "../base/errors.js";
import { HASH_SIZE, sha256 } from "../crypto/hashing.js";

export { HASH_SIZE };
/** RFC 6962 section 2.1: the hash of an empty string. */
export const EMPTY_ROOT = sha256(new Uint8Array(0));
/** What the deterministic CBOR profile can name. */
export const MAX_SIZE = MAX_UINT;
/** A tree of MAX_SIZE leaves has 53 levels, so no honest proof is longer; the bound is on a liar's hashing. */
export const MAX_PROOF = 64;

const LEAF = Uint8Array.of(0), NODE = Uint8Array.of(1);

/** Hash one leaf to 32 bytes. RFC 6962 section 2.1: the 0x00 keeps leaves and nodes apart. */
export function leafHash(leaf: Uint8Array): Bytes {
  return sha256(concat(LEAF, leaf));
}

/** Hash two 32-byte children to 32 bytes. RFC 6962 section 2.1. */
export function nodeHash(left: Uint8Array, right: Uint8Array): Bytes {
  // Without the other prefix, an inner node's 64 bytes could be shown as a leaf: a second preimage of the same root.
  return sha256(concat(NODE, left, right));
}

const half = (position: number): number => Math.floor(position / 2);
const isRight = (position: number): boolean => position % 2 === 1;

/** The largest power of two below `width` (at least 2). */
function splitOf(width: number): number {
  let power = 1;
  while (2 * power < width) power *= 2;
  return power;
}

/** node(level, index): the hash of the perfect subtree over leaves [index * 2^level, (index + 1) * 2^level). */
export type Nodes = (level: number, index: number) => Bytes;

/** Return the 32-byte root over leaf hashes in order; of no leaves, SHA-256 of nothing. RFC 6962 section 2.1. */
export function root(hashes: readonly Bytes[]): Bytes {
  if (hashes.length === 0) return EMPTY_ROOT;
  let row: readonly Bytes[] = hashes;
  // An odd node at the end is carried up: RFC 6962 never doubles it, so no two lists share a root.
  while (row.length > 1) row = levelAbove(row, true);
  return row[0] as Bytes;
}

/**
 * Return the audit path of leaf `index`, from the leaf's sibling upwards. RFC 6962 section 2.1.1.
 *
 * Throws a RangeError when there is no such leaf (the caller's mistake).
 */
export function inclusionProof(hashes: readonly Bytes[], index: number): Bytes[] {
  return inclusionFrom(memoryNodes(hashes), index, hashes.length);
}

/** Return the audit path of every leaf, in order, as `inclusionProof` does; each node is hashed once. */
export function inclusionProofs(hashes: readonly Bytes[]): Bytes[][] {
  const paths: Bytes[][] = hashes.map(() => []);
  let row = [...hashes];
  for (let level = 0; row.length > 1; level++) {
    paths.forEach((path, index) => {
      const position = Math.floor(index / 2 ** level), sibling = row[isRight(position) ? position - 1 : position + 1];
      // A node at the ragged edge has no sibling here, and is carried up.
      if (sibling !== undefined) path.push(sibling);
    });
    row = levelAbove(row, true);
  }
  return paths;
}

/**
 * Return the proof that the tree of `oldSize` is a prefix of this one. RFC 6962 section 2.1.2.
 *
 * Throws a RangeError unless 1 <= oldSize <= the number of hashes (the caller's mistake).
 */
export function consistencyProof(hashes: readonly Bytes[], oldSize: number): Bytes[] {
  return consistencyFrom(memoryNodes(hashes), oldSize, hashes.length);
}

function levelAbove(row: readonly Bytes[], carriesUp: boolean): Bytes[] {
  const above: Bytes[] = [];
  for (let at = 0; at + 1 < row.length; at += 2) above.push(nodeHash(row[at] as Bytes, row[at + 1] as Bytes));
  if (carriesUp && isRight(row.length)) above.push(row.at(-1) as Bytes);
  return above;
}

/** Return a node reader over leaf hashes held in memory. */
export function memoryNodes(hashes: readonly Bytes[]): Nodes {
  const levels = [[...hashes]];
  // An odd node at the end stays out of the level above. RFC 6962 never doubles it, so no two lists share a root.
  for (let below = levels[0] as Bytes[]; below.length > 1; below = levels.at(-1) as Bytes[])
    levels.push(levelAbove(below, false));
  return (level, index) => {
    const found = levels[level]?.[index];
    if (found === undefined) throw new RangeError("no such node in a tree of this size");
    return found;
  };
}

/** Return the root of the first `size` leaves, reading at most log2(size) nodes. */
export function rootFrom(nodes: Nodes, size: number): Bytes {
  return size > 0 ? rangeHash(nodes, 0, size) : EMPTY_ROOT;
}

/** Return the inclusion proof of leaf `index` in the tree of `size`. RFC 6962 section 2.1.1. */
export function inclusionFrom(nodes: Nodes, index: number, size: number): Bytes[] {
  if (!(index >= 0 && index < size)) throw new RangeError("no such leaf in a tree of this size");
  const path: Bytes[] = [];
  let low = 0, high = size;
  // Down from the root to the leaf; the path is turned round at the end, since a verifier works upwards.
  while (high - low > 1) {
    const middle = low + splitOf(high - low);
    if (index < middle) {
      path.push(rangeHash(nodes, middle, high));
      high = middle;
    } else {
      path.push(rangeHash(nodes, low, middle));
      low = middle;
    }
  }
  return path.reverse();
}

/** Return the consistency proof from `oldSize` to `size`. RFC 6962 section 2.1.2. */
export function consistencyFrom(nodes: Nodes, oldSize: number, size: number): Bytes[] {
  if (!(oldSize >= 1 && oldSize <= size)) throw new RangeError("a consistency proof needs 1 <= old size <= size");
  const path: Bytes[] = [];
  let low = 0, high = size;
  // The same walk towards the edge of the old tree: each sibling on the way completes the old root, the new one, or both.
  while (oldSize !== high) {
    const middle = low + splitOf(high - low);
    if (oldSize <= middle) {
      path.push(rangeHash(nodes, middle, high));
      high = middle;
    } else {
      path.push(rangeHash(nodes, low, middle));
      low = middle;
    }
  }
  // What is left is the largest subtree that both trees share: the verifier knows it already when it is the whole old
  // tree, and must be told otherwise.
  if (low > 0) path.push(rangeHash(nodes, low, high));
  return path.reverse();
}

// Every range met here starts at a multiple of the power of two at or above its width, so it is a row of perfect subtrees,
// one for each 1-bit of the width, largest first.
function rangeHash(nodes: Nodes, low: number, high: number): Bytes {
  const parts: Bytes[] = [];
  for (let at = low; at < high; ) {
    // The largest perfect subtree that still fits; the caller's ranges are aligned, so it starts where one starts.
    let level = 0;
    while (2 ** (level + 1) <= high - at) level++;
    parts.push(nodes(level, at / 2 ** level));
    at += 2 ** level;
  }
  return parts.reduceRight((result, left) => nodeHash(left, result));
}

function checkHashes(hashes: readonly Uint8Array[]): void {
  if (hashes.length > MAX_PROOF + 3 || hashes.some((digest) => digest.length !== HASH_SIZE))
    throw new Untrusted("a proof is at most 64 hashes of 32 bytes");
}

/** What an inclusion proof is of. */
export interface Inclusion {
  readonly index: number;
  readonly size: number;
  readonly proof: readonly Bytes[];
  readonly expectedRoot: Bytes;
}

/**
 * Check that the leaf hash `leaf` stands at `index` in the tree of `size` under `expectedRoot`.
 *
 * Throws Untrusted for every failure: the prover, or whoever carried the proof, is wrong. RFC 9162 section 2.1.3.2.
 */
export function verifyInclusion(leaf: Bytes, { index, size, proof, expectedRoot }: Inclusion): void {
  // Lengths first: two hashes cut at another place would join to the same 64 bytes.
  checkHashes([leaf, ...proof, expectedRoot]);
  if (!(index >= 0 && index < size && size <= MAX_SIZE)) throw new Untrusted("inclusion proof is outside the tree");
  let position = index, last = size - 1, result = leaf;
  for (const sibling of proof) {
    // `last` is the index of the last node in this level; 0 means that the root is reached, and any more hashes would
    // lead to a root of another tree.
    if (last === 0) throw new Untrusted("inclusion proof is too long");
    // A right child, or the node at the ragged edge: in both cases the sibling stands to the left.
    if (isRight(position) || position === last) {
      result = nodeHash(sibling, result);
      // A node without a right sibling is carried up unhashed until it becomes a right child.
      while (!isRight(position) && position !== 0) [position, last] = [half(position), half(last)];
    } else {
      result = nodeHash(result, sibling);
    }
    [position, last] = [half(position), half(last)];
  }
  // `last` must have come to 0 as well: a shorter proof could otherwise end at an inner node that somebody calls a root.
  if (last !== 0 || !equal(result, expectedRoot)) throw new Untrusted("inclusion proof does not lead to the root");
}

/**
 * Checks inclusion proofs of many leaves of one tree, as `verifyInclusion` checks one.
 *
 * A node that a proof has led to the root is not hashed again for the leaf beside it: in their order, leaves cost two hashes
 * each, however large the tree. It keeps the newest path, no more.
 */
export class InclusionChecker {
  // By level: the left one of two nodes side by side, its position, the right one, and the path from their parent on. All of
  // it was led to the root.
  readonly #proven = new Map<number, Pair>();

  /** size: of the tree. root: 32 bytes, as its signed head says; throws Untrusted for another length. */
  constructor(
    private readonly size: number,
    private readonly root: Bytes,
  ) {
    checkHashes([root]);
  }

  /** Check that the leaf hash `leaf` stands at `index`. Throws Untrusted for every failure. */
  check(leaf: Bytes, index: number, proof: readonly Bytes[]): void {
    checkHashes([leaf, ...proof]);
    if (!(index >= 0 && index < this.size && this.size <= MAX_SIZE))
      throw new Untrusted("inclusion proof is outside the tree");
    let level = 0, position = index, last = this.size - 1, result = leaf;
    const seen = new Map<number, Pair>();
    let isProven = false;
    for (const [place, sibling] of proof.entries()) {
      // A node without a right sibling is carried up unhashed until it becomes a right child.
      while (position === last && !isRight(position) && position !== 0)
        [level, position, last] = [level + 1, half(position), half(last)];
      if (last === 0) throw new Untrusted("inclusion proof is too long");
      const [left, right] = isRight(position) ? [sibling, result] : [result, sibling];
      const pair = { position: 2 * half(position), left, right, above: proof.slice(place + 1) };
      isProven = isSamePair(pair, this.#proven.get(level));
      if (isProven) break;
      seen.set(level, pair);
      result = nodeHash(left, right);
      [level, position, last] = [level + 1, half(position), half(last)];
    }
    if (!isProven && (last !== 0 || !equal(result, this.root)))
      throw new Untrusted("inclusion proof does not lead to the root");
    for (const [at, pair] of seen) this.#proven.set(at, pair);
  }
}

interface Pair {
  readonly position: number;
  readonly left: Bytes;
  readonly right: Bytes;
  readonly above: readonly Bytes[];
}

function isSamePair(one: Pair, other: Pair | undefined): boolean {
  return (
    other !== undefined &&
    one.position === other.position &&
    equal(one.left, other.left) &&
    equal(one.right, other.right) &&
    one.above.length === other.above.length &&
    one.above.every((digest, at) => equal(digest, other.above[at] as Bytes))
  );
}

/** What a consistency proof connects. */
export interface Consistency {
  readonly oldSize: number;
  readonly oldRoot: Bytes;
  readonly size: number;
  readonly newRoot: Bytes;
  readonly proof: readonly Bytes[];
}

function isPowerOfTwo(size: number): boolean {
  let left = size;
  while (left > 1 && left % 2 === 0) left = half(left);
  return left === 1;
}

/**
 * Check that the tree (`size`, `newRoot`) extends the tree (`oldSize`, `oldRoot`).
 *
 * An old size of 0 is refused: every tree extends the empty one, so such a proof says nothing. Throws Untrusted for every
 * failure. RFC 9162 section 2.1.4.2.
 */
export function verifyConsistency({ oldSize, oldRoot, size, newRoot, proof }: Consistency): void {
  checkHashes([oldRoot, newRoot, ...proof]);
  if (!(oldSize >= 1 && oldSize <= size && size <= MAX_SIZE))
    throw new Untrusted("consistency proof is outside the tree");
  // The same tree twice needs no proof; RFC 9162 section 2.1.4.2 begins where the sizes differ.
  if (oldSize === size) {
    if (proof.length > 0 || !equal(oldRoot, newRoot)) throw new Untrusted("two different trees of one size");
    return;
  }
  // Where the old tree is one perfect subtree of the new, the proof leaves its root out.
  const path = isPowerOfTwo(oldSize) ? [oldRoot, ...proof] : [...proof];
  const [first, ...rest] = path;
  if (first === undefined) throw new Untrusted("consistency proof is too short");
  // Both roots are built from one list of hashes: an old root that comes out right shows that the hashes are the old
  // tree's own, and the new root that they stand unchanged in the new one.
  let position = oldSize - 1, last = size - 1;
  // Climbs to the largest subtree that ends where the old tree ends: the proof begins with its hash.
  while (isRight(position)) [position, last] = [half(position), half(last)];
  let old = first, made = first;
  for (const sibling of rest) {
    if (last === 0) throw new Untrusted("consistency proof is too long");
    // To the left of the path lies what both trees have; to the right only what is new. So only here both are hashed.
    if (isRight(position) || position === last) {
      [old, made] = [nodeHash(sibling, old), nodeHash(sibling, made)];
      while (!isRight(position) && position !== 0) [position, last] = [half(position), half(last)];
    } else {
      made = nodeHash(made, sibling);
    }
    [position, last] = [half(position), half(last)];
  }
  if (last !== 0 || !equal(old, oldRoot) || !equal(made, newRoot))
    throw new Untrusted("consistency proof does not connect the roots");
}

/**
 * The right edge of a tree: enough to append and to give the root, 32 bytes per 1-bit of the size.
 *
 * A follower keeps this instead of the leaves. Immutable: `append` returns the next one.
 */
export class CompactRange {
  constructor(
    readonly size: number = 0,
    /** Perfect subtrees, largest first. */
    readonly edge: readonly Bytes[] = [],
  ) {}

  /** Return the range over leaf hashes in order. */
  static over(hashes: Iterable<Bytes>): CompactRange {
    let built = new CompactRange();
    for (const digest of hashes) built = built.append(digest);
    return built;
  }

  /** Return the range with one more leaf hash of 32 bytes; a RangeError on another length. */
  append(leaf: Bytes): CompactRange {
    if (leaf.length !== HASH_SIZE) throw new RangeError("a leaf hash is 32 bytes");
    const edge = [...this.edge];
    let carried = leaf;
    // As carrying in a binary counter: each 1-bit is a perfect subtree that the new leaf, or what it became, completes.
    for (let size = this.size; isRight(size); size = half(size)) carried = nodeHash(edge.pop() as Bytes, carried);
    return new CompactRange(this.size + 1, [...edge, carried]);
  }

  /** Return the 32-byte root of all leaves appended so far. */
  root(): Bytes {
    if (this.edge.length === 0) return EMPTY_ROOT;
    // From the smallest up: RFC 6962 splits at the largest power of two, so the larger subtree is always to the left.
    return this.edge.reduceRight((result, left) => nodeHash(left, result));
  }

  /** Serialise: the size in 8 bytes, big-endian, then 32 bytes per subtree, largest first. */
  toBytes(): Bytes {
    const size = new Uint8Array(8);
    new DataView(size.buffer).setBigUint64(0, BigInt(this.size));
    return concat(size, ...this.edge);
  }

  /** Undo `toBytes`. Throws Malformed when the length does not follow from the size. */
  static fromBytes(octets: Uint8Array): CompactRange {
    const wrong = new Malformed("compact range has the wrong length for its size");
    if (octets.length < 8) throw wrong;
    const size = Number(new DataView(octets.buffer, octets.byteOffset).getBigUint64(0));
    let ones = 0;
    for (let left = size; left >= 1; left = half(left)) ones += left % 2;
    // The size fixes the number of subtrees. Anything else is not a range, and would give a root that nobody signed.
    if (size > MAX_SIZE || octets.length !== 8 + HASH_SIZE * ones) throw wrong;
    return new CompactRange(
      size,
      Array.from({ length: ones }, (_, at) => octets.slice(8 + HASH_SIZE * at, 8 + HASH_SIZE * (at + 1)) as Bytes),
    );
  }
}
