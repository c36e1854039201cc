// SPDX-License-Identifier: Apache-2.0
/** Others' text in a box and on one line, and the one form of an e-mail address. */
import { describe, expect, test } from "vitest";
import { addressKey, MAX_ADDRESS } from "../../../src/core/base/addresses.js";
import { Malformed } from "../../../src/core/base/errors.js";
import { boxed, fitted, isHidden, writtenOut } from "../../../src/core/base/text.js";
import { refusedAs } from "../../vectors.js";

describe("a box", () => {
  test("begins no line and ends no box, whatever the text says", () => {
    const told = "Good.\u2514 \u202eEscrow of your archive keys" + " x".repeat(100) + "y".repeat(100) + "\n\u250c Who: nobody\x1b[2J";
    const lines = boxed(told, "They say:"), inside = lines.slice(1, -1);
    expect([lines[0], lines.at(-1)]).toEqual(["\u250c They say:", "\u2514"]);
    expect(inside.every((line) => line.startsWith("\u2502 ") && line.length <= 62)).toBe(true);
    expect(inside.map((line) => line.slice(2)).join("").replaceAll(" ", "")).toBe(writtenOut(told).replaceAll(" ", ""));
  });

  test("has half as many signs on a line where they are wide", () => {
    expect(boxed("\u674e".repeat(100), "H").slice(1, -1).map((line) => line.length)).toEqual([32, 32, 32, 12]);
  });
});

test.each([
  ["a\n b\x85c", "a b c"],
  ["e\u0301".repeat(12), "e\u0301".repeat(5)],
  ["\u{1f1e9}\u{1f1ea}".repeat(9), "\u{1f1e9}\u{1f1ea}".repeat(5)],
  ["xxxxxxxxxx\u{1f44d}\u{1f3fd}", "xxxxxxxxxx"],
  ["\u{1f468}\u200d\u{1f469}\u200d\u{1f467}".repeat(3), "\u{1f468}\u200d\u{1f469}\u200d\u{1f467}".repeat(2)],
  ["\ud800bob", "\ufffdbob"],
  ["\u0301".repeat(20), "\u0301".repeat(11)],
  [" \t ", ""],
])("%j fits on a line of eleven as %j", (text, said) => {
  expect(fitted(text, 11)).toBe(said);
});

describe("an address", () => {
  test.each(["Bob@Acme.Test", " bob@acme.test\n", "\uff42ob@acme.test", "bob@\uff21cme.test", "BOB@ACME.TEST"])(
    "%j is one with the plain one",
    (typed) => {
      expect(addressKey(typed)).toBe("bob@acme.test");
    },
  );

  test.each([
    ["Stra\u1e9ee@a.b", "strasse@a.b"],
    ["stra\u00dfe@a.b", "strasse@a.b"],
    ["\u03a3\u03c2@a.b", "\u03c3\u03c3@a.b"],
    ["\uab70@a.b", "\u13a0@a.b"],
    ["\u0131@a.b", "\u0131@a.b"],
    ["\u0130@a.b", "i\u0307@a.b"],
  ])("%j folds as Unicode has it", (typed, key) => {
    expect(addressKey(typed)).toBe(key);
  });

  test.each([
    "", "@", "bob", "bob@", "@acme.test", "bob@acme..test", "a@b@c", "bob smith@acme.test", "bob@acme.test, x@y.z",
    "Bob <bob@acme.test>", "b\u200bob@acme.test", "b\u202eob@acme.test", "bob\x00@acme.test", `${"b".repeat(65)}@a.b`,
    `bob@${"a.".repeat(MAX_ADDRESS)}`, `${"\u0301".repeat(5000)}@acme.test`,
  ])("%j is none", async (typed) => {
    await refusedAs(Malformed, () => addressKey(typed));
  });

  test("holds no letter that looks like another for that one", () => {
    expect(addressKey("\u0430lice@acme.test")).not.toBe(addressKey("alice@acme.test"));
    expect(["\u200b", "\u3164", "\ud800", "\n"].every(isHidden)).toBe(true);
    expect(["a", "\u0301", " "].some(isHidden)).toBe(false);
  });
});
