// SPDX-License-Identifier: Apache-2.0
/** The rules of what is sent again: to whom, how often, and what it counts as. */
import { expect, test } from "vitest";
import { type Bytes, hex } from "../src/core/base/bytes.js";
import * as repeats from "../src/core/messages/repeats.js";

const NOW = 1_790_000_000, DAY = 86_400;

test.each<[number[], boolean, boolean]>([
  [[], true, true],
  [[], false, true],
  [[NOW], true, true],
  [[NOW - 1], false, false],
  [[NOW - DAY + 1], false, false],
  [[NOW - DAY], false, true],
  [[NOW - 1, NOW], true, false],
  [[NOW - DAY, NOW], true, true],
  [[NOW - DAY, NOW - DAY], false, true],
  // By a clock that was ahead: for an hour it counts, from further off it blocks nothing.
  [[NOW + 3600, NOW + 3600], true, false],
  [[NOW + 40 * DAY, NOW + 40 * DAY], false, true],
])("sessions are begun anew twice a day, and the second after an answer: %j", (begun, isConfirmed, may) => {
  expect(repeats.mayBegin(begun, NOW, isConfirmed)).toBe(may);
});

test("greetings are answered four times a day", () => {
  const times: number[] = [], answered: number[] = [];
  for (let hour = 0; hour < 72; hour++) {
    if (!repeats.mayAnswer(times, NOW + hour * 3600)) continue;
    times.push(NOW + hour * 3600);
    answered.push(hour);
  }
  expect(answered).toEqual([0, 1, 2, 3, 24, 25, 26, 27, 48, 49, 50, 51]);
});

test.each([[0, 4096], [4096, 4096], [4097, 4097], [1_015_824, 1_015_824]])("%i bytes count as %i", (octets, counted) => {
  expect(repeats.counted(octets)).toBe(counted);
  expect(repeats.KEPT_OCTETS / repeats.LEAST_OCTETS).toBe(16_384);
});

test("a message waits for listed devices alone, and is never given up while nobody has it", () => {
  const devices: Bytes[] = [0, 1, 2, 3].map((octet) => new Uint8Array(16).fill(octet));
  const chosen = (bits: number): Bytes[] => devices.filter((_, at) => bits & (1 << at));
  for (let waits = 0; waits < 16; waits++)
    for (let lists = 0; lists < 16; lists++)
      for (const isAcknowledged of [false, true]) {
        const both = chosen(waits & lists), still = repeats.stillDue(chosen(waits), chosen(lists), isAcknowledged);
        // Whoever is still listed; all that are, where nobody of those is left and nobody has had it.
        const expected = both.length > 0 || isAcknowledged || waits === 0 ? both : chosen(lists);
        expect(still.map(hex)).toEqual(expected.map(hex));
        if (waits && lists && !isAcknowledged) expect(still.length).toBeGreaterThan(0);
      }
  expect(repeats.stillDue([devices[3] as Bytes, devices[1] as Bytes], devices, false).map(hex)).toEqual(
    [1, 3].map((octet) => hex(devices[octet] as Bytes)),
  );
});

test("a pause doubles to an end, and is never shorter than was asked", () => {
  const waits = Array.from({ length: 39 }, (_, at) => repeats.pauseSeconds(at + 1, 0));
  expect(waits.slice(0, 4)).toEqual([60, 120, 240, 480]);
  expect(new Set(waits.slice(9))).toEqual(new Set([6 * 3600]));
  expect(repeats.pauseSeconds(10 ** 6, 0)).toBe(6 * 3600);
  expect(repeats.pauseSeconds(1, 90.5)).toBe(91);
  expect(repeats.pauseSeconds(1, 10 ** 9)).toBe(repeats.MOST_PAUSED_SECONDS);
});
