// SPDX-License-Identifier: Apache-2.0
/** The published phrases in every language, what is typed for them, their doors and the keys they sign with. */
import { describe, expect, test } from "vitest";
import { hex } from "../src/core/base/bytes.js";
import { SecretBytes } from "../src/core/base/secret.js";
import { type Language, Phrase, PhraseError } from "../src/core/crypto/phrase.js";
import type { Section } from "../src/core/vault/blob.js";
import type { DoorOwner } from "../src/core/vault/door_blob.js";
import { openPhraseDoor, readPhraseDoor, recoveryKey, sealPhraseDoor } from "../src/core/vault/phrase_door.js";
import { type Json, octets, refused, vectors } from "./vectors.js";

const { phrases, refused: wrong, recovery_keys: keys } = vectors("phrases");
const doors = vectors("doors");
const secret = (text: string): SecretBytes => new SecretBytes(octets(text));

test.each<Json>(phrases)("a phrase in $language", async (one) => {
  const phrase = new Phrase(secret(one.entropy), one.language as Language);
  expect(await phrase.text()).toBe(one.text);
  for (const typed of [one.text, ...one.typed])
    expect(hex((await Phrase.parse(typed, one.language)).entropy.reveal())).toBe(one.entropy);
  const words = await phrase.words();
  await phrase.confirm(new Map([[1, words[0] as string], [24, words[23] as string]]));
  await refused(() => phrase.confirm(new Map([[1, words[1] as string]])));
});

test.each<Json>(wrong)("refuses: $why", async (one) => {
  const error = await refused(() => Phrase.parse(one.text));
  expect(error instanceof PhraseError || error.name === "Mistyped").toBe(true);
});

test.each<Json>(keys)("recovery key of kind $type_byte", async (one) => {
  const of = { tenant: octets(one.tenant), user: octets(one.user), kind: one.type_byte };
  const key = await recoveryKey(new Phrase(secret(one.entropy)), { ...of, passphrase: one.passphrase ?? undefined });
  expect([hex(key.seed().reveal()), hex(key.public.encoded)]).toEqual([one.seed, one.public]);
});

describe("phrase doors", () => {
  const { tenant, user, epoch } = doors.owner;
  const owner = (section: Section): DoorOwner => ({ tenant: octets(tenant), user: octets(user), epoch, section });

  test.each<Json>(doors.doors.filter((one: Json) => one.name.startsWith("phrase")))("the $name door opens", async (one) => {
    const section: Section = one.name.includes("officers") ? "officers" : "vault";
    const phrase = new Phrase(secret(one.entropy ?? one.phrase));
    const opened = await openPhraseDoor(octets(one.blob), phrase, owner(section), one.passphrase ?? undefined);
    expect(hex(opened.reveal())).toBe(doors.vault_key);
    expect(readPhraseDoor(octets(one.blob), section).hasPassphrase).toBe(Boolean(one.passphrase));
  });

  test("what is sealed here opens here, and by no other phrase", async () => {
    const phrase = Phrase.generate(), blob = await sealPhraseDoor(secret(doors.vault_key), phrase, owner("vault"));
    expect(hex((await openPhraseDoor(blob, phrase, owner("vault"))).reveal())).toBe(doors.vault_key);
    await refused(() => openPhraseDoor(blob, Phrase.generate(), owner("vault")));
  });
});
