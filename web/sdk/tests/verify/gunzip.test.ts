// SPDX-License-Identifier: Apache-2.0
/** The verifier's own unpacking against zlib's packing: every kind of block, members in a row, and what is damaged. */
import { constants, gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { checkpointLine, headerToLine } from "../../src/core/log/log_export.js";
import { Damaged, Gunzip } from "../../../verify/gunzip.js";
import { opened } from "../../../verify/unpacked.js";

const { Z_DEFAULT_STRATEGY, Z_FIXED, Z_HUFFMAN_ONLY, Z_RLE } = constants;

/** The same bytes each time, some of which repeat what stood before. */
function bytes(length: number): Uint8Array<ArrayBuffer> {
  const made = new Uint8Array(length);
  for (let at = 0, state = length; at < length; at++) {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    const back = 1 + (state % 40_000);
    made[at] = at > back && at % 97 > 20 ? (made[at - back] as number) : state >>> 16;
  }
  return made;
}

async function unpacked(file: Blob): Promise<Buffer> {
  const gunzip = new Gunzip(file), pieces: Uint8Array[] = [];
  for (let piece = await gunzip.next(); piece !== undefined; piece = await gunzip.next()) pieces.push(piece.slice());
  return Buffer.concat(pieces);
}

const packed = (octets: Uint8Array, options = {}): Uint8Array<ArrayBuffer> => Uint8Array.from(gzipSync(octets, options));

/**
 * A member of one block by codes of its own (RFC 1951 section 3.2.7): two literals of one bit, of which the second ends the
 * block where it has an end, and so many distances of so many bits.
 */
function inOneBlock(hasEnd: boolean, distances: number, bits: number): Uint8Array<ArrayBuffer> {
  let text = "";
  const put = (value: number, count: number): void => {
    for (let at = 0; at < count; at++) text += (value >> at) & 1;
  };
  for (const [value, count] of [[1, 1], [2, 2], [0, 5], [distances - 1, 5], [14, 4]] as const) put(value, count);
  // The lengths 0, 1 and 2, and 18 for many zeros, are written in two bits each.
  for (const one of [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1]) put([18, 0, 2, 1].includes(one) ? 2 : 0, 3);
  const zeros = hasEnd ? 255 : 254;
  text += "11";
  put(138 - 11, 7);
  text += "11";
  put(zeros - 138 - 11, 7);
  text += `0101${hasEnd ? "" : "00"}${(bits === 1 ? "01" : "10").repeat(distances)}1${"0".repeat(64)}`;
  const octets = Uint8Array.from({ length: text.length >> 3 }, (_, at) =>
    Number.parseInt([...text.slice(at * 8, at * 8 + 8)].reverse().join(""), 2),
  );
  return Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, ...octets);
}

describe("what zlib packs", () => {
  test.each<[string, object]>([
    ["quickly", { level: 1 }],
    ["well", { level: 9 }],
    ["not at all", { level: 0 }],
    ["by the fixed codes", { strategy: Z_FIXED }],
    ["by codes alone", { strategy: Z_HUFFMAN_ONLY }],
    ["by runs", { strategy: Z_RLE }],
    ["in small blocks", { strategy: Z_DEFAULT_STRATEGY, memLevel: 1 }],
  ])("%s is unpacked", async (_, options) => {
    for (const length of [0, 1, 3, 300, 65_536, 65_537, 700_001]) {
      const octets = bytes(length);
      expect((await unpacked(new Blob([packed(octets, options)]))).equals(octets), `${length} bytes`).toBe(true);
    }
    const zeros = new Uint8Array(500_000);
    expect((await unpacked(new Blob([packed(zeros, options)]))).equals(zeros)).toBe(true);
  });

  test("in members is unpacked as one, whatever their headers have", async () => {
    const [one, two] = [bytes(90_000), bytes(1234)], plain = packed(two);
    const header = Uint8Array.of(0x1f, 0x8b, 8, 0x1e, 1, 2, 3, 4, 0, 3, 2, 0, 9, 9, 0x61, 0, 0x62, 0x63, 0, 5, 5);
    const file = new Blob([packed(one), packed(new Uint8Array(0)), header, plain.slice(10), packed(one)]);
    expect((await unpacked(file)).equals(Buffer.concat([one, two, one]))).toBe(true);
  });
});

describe("what is damaged", () => {
  const octets = bytes(3000), whole = packed(octets);

  test("by its end missing is refused", async () => {
    for (let end = 1; end < whole.length; end += end < 40 || end > whole.length - 20 ? 1 : 37)
      await expect(unpacked(new Blob([whole.slice(0, end)]))).rejects.toBeInstanceOf(Damaged);
  });

  test("by any changed bit is refused, or unpacked as it was where nobody reads the bit", async () => {
    let unread = 0, tried = 0;
    for (let bit = 0; bit < 8 * whole.length; bit += bit < 240 || bit > 8 * whole.length - 80 ? 1 : 61) {
      const spoilt = whole.slice(), at = bit >> 3;
      tried++;
      spoilt[at] = (spoilt[at] as number) ^ (1 << (bit & 7));
      try {
        expect((await unpacked(new Blob([spoilt]))).equals(octets), `bit ${bit}`).toBe(true);
        unread++;
      } catch (error) {
        if (!(error instanceof Damaged)) throw error;
      }
    }
    // When and where it was packed, the flag that it is text, and what fills the last byte before the CRC.
    expect(unread).toBeLessThan(70);
    expect(tried - unread).toBeGreaterThan(400);
  });

  test.each<[string, BlobPart[]]>([
    ["something behind it", [whole, "more"]],
    ["zeros behind it", [whole, new Uint8Array(512)]],
    ["a name without an end", [Uint8Array.of(0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3), "x".repeat(200_000)]],
    ["another way of packing", [Uint8Array.of(0x1f, 0x8b, 7, 0, 0, 0, 0, 0, 0, 3, 0, 0)]],
    ["a block of no kind", [Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 7, 0)]],
    ["a copy of what is not there", [Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0)]],
    ["a copy of the member before", [whole, Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0)]],
  ])("with %s is refused", async (_, parts) => {
    await expect(unpacked(new Blob(parts))).rejects.toBeInstanceOf(Damaged);
  });
});

test.each<[string, boolean, number, number, string]>([
  ["distances of too few codes", true, 2, 2, "a code of it is not whole"],
  ["no end of the block", false, 1, 1, "a block of it has no end"],
])("with %s: refused as zlib does", async (_, hasEnd, distances, bits, why) => {
  const octets = inOneBlock(hasEnd, distances, bits);
  await expect(unpacked(new Blob([octets]))).rejects.toThrow(why);
  expect(() => gunzipSync(octets)).toThrow();
});

test("one distance of one bit is a code, as for zlib", async () => {
  const octets = inOneBlock(true, 1, 1);
  expect([(await unpacked(new Blob([octets]))).length, gunzipSync(octets).length]).toEqual([0, 0]);
});

describe("a packed log", () => {
  const header = headerToLine({
    origin: "holdfast/x/audit", vkey: "", size: 3, withheld: 0, roles: new Uint8Array(0), hasTiles: false,
  });
  const line = '{"index":0,"leaf":""}\n';

  test("is read from any byte, by several readers", async () => {
    const entry = Buffer.from(`{"index":0,"leaf":"${"A".repeat(90_000)}"}\n`);
    const text = Buffer.concat([header, entry, entry, entry, checkpointLine("a note, and its signature")]);
    const half = text.length >> 1, file = new Blob([packed(text.subarray(0, half)), packed(text.subarray(half))]);
    const { file: one, again, isCut } = await opened(file, () => undefined), other = again();
    expect([one.size, isCut]).toEqual([text.length, false]);
    for (const start of [0, 100, 99, 200_000, 199_000, text.length - 5, 0])
      for (const reader of [one, other]) {
        const read = Buffer.from(await reader.slice(start, start + 70_000).arrayBuffer());
        expect(read.equals(text.subarray(start, start + 70_000)), `from ${start}`).toBe(true);
      }
  });

  test.each<[string, Uint8Array, string]>([
    ["zeros in the place of a log", new Uint8Array(0), "\0".repeat(65_536)],
    ["one line without an end", header, "x".repeat(65_536)],
    ["more lines than it says", header, line.repeat(3000)],
    ["empty lines", header, "\n".repeat(65_536)],
  ])("that unpacks to %s is read no further than shows it", async (_, first, part) => {
    const more = packed(Buffer.from(part)), parts = Array<Uint8Array<ArrayBuffer>>(20_000).fill(more);
    const file = new Blob([packed(first), ...parts]);
    let read = 0;
    const { file: found, isCut } = await opened(file, (octets) => void (read = octets));
    expect(isCut).toBe(true);
    expect(read).toBeLessThan(file.size / 2);
    expect(found.size).toBeLessThan(first.length + 200_000);
  });
});
