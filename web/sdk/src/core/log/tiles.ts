// SPDX-License-Identifier: Apache-2.0
/**
 * Roots and proofs of a large log out of tiles of 256 hashes, reading O(log n) tiles.
 *
 * C2SP tlog-tiles (tile height 8) on top of RFC 6962 as in `merkle`: https://c2sp.org/tlog-tiles "Merkle Tree". Does no I/O:
 * the caller's reader has the tiles.
 */
import type { Bytes } from "../base/bytes.js";
import { Malformed } from "../base/errors.js";
import * as merkle from "./merkle.js";

/** Levels in a tile: fixed by C2SP tlog-tiles, "Merkle Tree". */
export const HEIGHT = 8;
/** Hashes in a full tile: 8 KiB, immutable once full, so that caches may keep it for ever. */
export const WIDTH = 256;

/**
 * tile(level, index): up to 256 hashes of 32 bytes, one after another; hash j of it stands at tree level 8 * level, position
 * 256 * index + j. A partial tile may be longer than the size asked about.
 */
export type TileReader = (level: number, index: number) => Bytes;

function hashesOf(octets: Bytes): Bytes[] {
  return Array.from({ length: octets.length / merkle.HASH_SIZE }, (_, at) =>
    octets.slice(at * merkle.HASH_SIZE, (at + 1) * merkle.HASH_SIZE),
  );
}

function bitLength(value: number): number {
  let length = 0;
  for (let left = value; left >= 1; left = Math.floor(left / 2)) length++;
  return length;
}

/**
 * Return a node reader that fetches each tile once. The reader throws Malformed when a tile is too short.
 *
 * Tiles are not trusted: every proof made from them is checked by whoever receives it.
 */
export function tileNodes(tile: TileReader): merkle.Nodes {
  const fetched = new Map<string, Bytes>();
  return (level, index) => {
    // Only every eighth level is stored. A level between two is hashed anew from the stored one below it.
    const tileLevel = Math.floor(level / HEIGHT), width = 2 ** (level % HEIGHT), first = index * width;
    const tileIndex = Math.floor(first / WIDTH), start = first % WIDTH, place = `${tileLevel}/${tileIndex}`;
    const octets = fetched.get(place) ?? tile(tileLevel, tileIndex);
    fetched.set(place, octets);
    const hashes = octets.slice(start * merkle.HASH_SIZE, (start + width) * merkle.HASH_SIZE);
    // A short tile must not give a root of fewer leaves: that would be a valid hash of the wrong subtree.
    if (hashes.length !== width * merkle.HASH_SIZE) throw new Malformed("tile is too short for the tree size");
    // `merkle.root` over stored nodes is sound because the row is a full power of two: no node is carried up.
    return merkle.root(hashesOf(hashes));
  };
}

/** Return the 32-byte root of the first `size` leaves. */
export function root(tile: TileReader, size: number): Bytes {
  return merkle.rootFrom(tileNodes(tile), size);
}

/** Return the inclusion proof of leaf `index` in the tree of `size`; a RangeError outside it. */
export function inclusionProof(tile: TileReader, index: number, size: number): Bytes[] {
  return merkle.inclusionFrom(tileNodes(tile), index, size);
}

/**
 * Return the inclusion proofs of all leaves of the lowest tile `index` in the tree of `size`, in their order.
 *
 * nodes: what `tileNodes` makes of the same reader. What leads from the tile to the root is computed once for all of them,
 * and every node in the tile once. Throws Malformed when a tile is too short, a RangeError outside the tree.
 */
export function inclusionProofs(tile: TileReader, nodes: merkle.Nodes, index: number, size: number): Bytes[][] {
  const first = index * WIDTH, width = Math.min(WIDTH, size - first);
  if (width <= 0) throw new RangeError("no such tile in a tree of this size");
  const octets = tile(0, index).slice(0, width * merkle.HASH_SIZE);
  if (octets.length !== width * merkle.HASH_SIZE) throw new Malformed("tile is too short for the tree size");
  // The leaves of a tile are one subtree of the tree, also at its ragged edge: RFC 6962 splits at powers of two.
  const below = merkle.inclusionProofs(hashesOf(octets));
  const above = merkle.inclusionFrom(nodes, first, size).slice((below[0] as Bytes[]).length);
  return below.map((path) => [...path, ...above]);
}

/**
 * Return what leads from the root of the lowest tile `index` to the root of the tree of `size`.
 *
 * nodes: what `tileNodes` makes of a reader. Tiles are the leaves of the tree above them, as RFC 6962 splits at powers of
 * two. Throws Malformed when a tile is too short, a RangeError outside the tree.
 */
export function tileProof(nodes: merkle.Nodes, index: number, size: number): Bytes[] {
  const first = index * WIDTH, width = Math.min(WIDTH, size - first);
  if (width <= 0) throw new RangeError("no such tile in a tree of this size");
  // As many hashes lead from the tile's first leaf to the tile's root.
  return merkle.inclusionFrom(nodes, first, size).slice(bitLength(width - 1));
}

/** Return the consistency proof between two sizes; a RangeError unless 1 <= oldSize <= size. */
export function consistencyProof(tile: TileReader, oldSize: number, size: number): Bytes[] {
  return merkle.consistencyFrom(tileNodes(tile), oldSize, size);
}

/** Return the right edge of the tree of `size`, with which a follower goes on. */
export function compactRange(tile: TileReader, size: number): merkle.CompactRange {
  const nodes = tileNodes(tile), edge: Bytes[] = [];
  for (let at = 0; at < size; ) {
    const level = bitLength(size - at) - 1;
    edge.push(nodes(level, at / 2 ** level));
    at += 2 ** level;
  }
  return new merkle.CompactRange(size, edge);
}

/** A tile that growing creates or extends. width: number of hashes in it then, 1..256. */
export interface ChangedTile {
  readonly level: number;
  readonly index: number;
  readonly width: number;
}

/** Return every tile that growing from `oldSize` to `size` creates or extends. */
export function tilesChanged(oldSize: number, size: number): ChangedTile[] {
  const changed: ChangedTile[] = [];
  // Up the levels until one has no full tile below it: only full tiles give a hash to the level above.
  for (let level = 0, oldCount = oldSize, count = size; count > 0; level++) {
    if (count > oldCount)
      for (let index = Math.floor(oldCount / WIDTH); index * WIDTH < count; index++)
        changed.push({ level, index, width: Math.min(WIDTH, count - index * WIDTH) });
    [oldCount, count] = [Math.floor(oldCount / WIDTH), Math.floor(count / WIDTH)];
  }
  return changed;
}

/** Return the resource path `tile/<L>/<N>[.p/<W>]`. C2SP tlog-tiles, "Merkle Tree". */
export function tilePath(level: number, index: number, width: number = WIDTH): string {
  // Groups of three digits, all but the last marked `x`: no directory of a static copy gets over a thousand names.
  const group = (of: number): string => String(of % 1000).padStart(3, "0");
  const parts = [group(index)];
  for (let left = Math.floor(index / 1000); left > 0; left = Math.floor(left / 1000)) parts.unshift(`x${group(left)}`);
  return `tile/${level}/${parts.join("/")}${width === WIDTH ? "" : `.p/${width}`}`;
}
