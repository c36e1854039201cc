// SPDX-License-Identifier: Apache-2.0
/** Officers' standing, resolutions and keys: who says it, of whom, under which policy, and for how long. */
import { describe, expect, test } from "vitest";
import { EMPTY } from "../../../src/core/base/bytes.js";
import { decode, encode, type Encodable } from "../../../src/core/base/encoding.js";
import { Expired, InvalidSignature, Malformed, QuorumNotMet, Untrusted } from "../../../src/core/base/errors.js";
import { SigningKey } from "../../../src/core/crypto/keys.js";
import {
  acceptedLog, type AcceptLog, Act, MAX_AGE_SECONDS, MAX_REASON, officerStateFromPayload, officerStateToPayload,
  type OfficerState, readResolution, requireStateTold, type Resolution, type ResolutionAbout, resolutionFromPayload,
  resolutionToPayload, Standing, verifyOfficerState, verifyResolution,
} from "../../../src/core/identity/acts.js";
import { rotateKey } from "../../../src/core/identity/chain_author.js";
import { type ChainState, extend } from "../../../src/core/identity/chain.js";
import { Reason } from "../../../src/core/identity/entries.js";
import {
  officerFromPayload, type OfficerStatement, officerToPayload, verifyOfficerStatement,
} from "../../../src/core/identity/officers.js";
import { transcriptPayload, verifyTranscript } from "../../../src/core/identity/transcript.js";
import { encodeMany, parseMany, type Purpose, sign, Sign1 } from "../../../src/core/signed/cose.js";
import { closePayload, MAX_AHEAD_SECONDS } from "../../../src/core/signed/payloads.js";
import {
  ACME, AIK, ALICE, begin, CAROL, DAN, ERIN, hashOf, idOf, LAPTOP, MALLORY_TENANT, NOW, OFFICER_KEYS, OFFICERS, RITA, ROOT,
  SIGNED_POLICY, signedBy, TENANT, USER,
} from "../../cast/statements.js";
import { refusedAs } from "../../vectors.js";

const [CAROLS, DANS, ERINS] = OFFICER_KEYS;
const STRANGER = await SigningKey.generate();
const FOREIGN = { ...TENANT, tenant: MALLORY_TENANT };

function stated(key: SigningKey, person: typeof CAROL, standing: Standing, changes: Partial<OfficerState> = {}): Promise<Sign1> {
  const said = { header: TENANT, person, standing, reason: "as told", ...changes };
  // Not by its writer, which refuses what no reader takes.
  const payload = closePayload(said.header, { 7: said.person, 8: said.standing, 9: said.reason });
  return sign(payload, "officer-state", key);
}

describe("an officer's standing", () => {
  test.each([Standing.BACK, Standing.AWAY])("%i is their own word alone", async (standing) => {
    const [said, signer] = await verifyOfficerState(await stated(CAROLS, CAROL, standing), SIGNED_POLICY);
    expect([said.person, said.standing, signer.person]).toEqual([CAROL, standing, CAROL]);
    const others = await stated(DANS, CAROL, standing);
    await refusedAs(Untrusted, () => verifyOfficerState(others, SIGNED_POLICY), "own word");
  });

  test.each([Standing.SUSPENDED, Standing.REMOVED])("%i is another's word, with a reason", async (standing) => {
    const [said, signer] = await verifyOfficerState(await stated(DANS, CAROL, standing), SIGNED_POLICY);
    expect([said.person, said.reason, signer.person]).toEqual([CAROL, "as told", DAN]);
    const own = await stated(CAROLS, CAROL, standing);
    await refusedAs(Untrusted, () => verifyOfficerState(own, SIGNED_POLICY), "own word");
    for (const reason of ["", " \n", "x".repeat(MAX_REASON + 1)]) {
      const made = await stated(DANS, CAROL, standing, { reason });
      await refusedAs(Malformed, () => verifyOfficerState(made, SIGNED_POLICY), "field 9");
    }
    requireStateTold(said);
    await refusedAs(Malformed, () => requireStateTold({ ...said, reason: "\u200b" }), "says nothing");
  });

  test("is nobody else's word, and for no other purpose", async () => {
    const said: OfficerState = { header: TENANT, person: CAROL, standing: Standing.AWAY, reason: "" };
    expect(officerStateFromPayload(officerStateToPayload(said))).toEqual(said);
    const rows: [new (...given: never[]) => Error, string, Promise<Sign1>][] = [
      [Untrusted, "no officer", stated(STRANGER, CAROL, Standing.AWAY)],
      [Untrusted, "nobody of the roster", stated(CAROLS, RITA, Standing.SUSPENDED)],
      [Untrusted, "another tenant", stated(CAROLS, CAROL, Standing.AWAY, { header: FOREIGN })],
      [InvalidSignature, "", sign(officerStateToPayload(said), "resolution", CAROLS)],
    ];
    for (const [error, why, made] of rows) {
      const statement = await made;
      await refusedAs(error, () => verifyOfficerState(statement, SIGNED_POLICY), why);
    }
  });
});

const WITHDRAWAL: ResolutionAbout = { act: Act.WITHDRAW_VERSION, version: 2, hash: hashOf("version 2") };

function resolution(about: ResolutionAbout = WITHDRAWAL, changes: object = {}): Resolution {
  return { ...about, header: TENANT, policyHash: SIGNED_POLICY.hash, nonce: idOf("act"), ...changes };
}

function passed(made: Resolution, keys: readonly SigningKey[], purpose: Purpose = "resolution"): Promise<Sign1[]> {
  return signedBy(keys, resolutionToPayload(made), purpose);
}

describe("a resolution", () => {
  const both: AcceptLog = { act: Act.ACCEPT_LOG, size: 9, hash: hashOf("root"), keyLog: [7, hashOf("key root")] };

  test.each<ResolutionAbout>([
    WITHDRAWAL,
    { act: Act.RETURN_OFFICER, person: DAN },
    { act: Act.ACKNOWLEDGE_LEAF, index: 7, hash: hashOf("leaf") },
    { ...both, keyLog: undefined },
    both,
    { act: Act.SUSPEND_DEVICE, person: DAN, device: idOf("phone") },
  ])("of act $act is passed by those whom it does not concern, and says its object", async (about) => {
    const made = resolution(about), isConcerned = "person" in about;
    expect(resolutionFromPayload(resolutionToPayload(made))).toEqual(made);
    expect(await verifyResolution(await passed(made, OFFICER_KEYS), SIGNED_POLICY, { at: NOW })).toEqual(made);
    const two = await passed(made, [CAROLS, DANS]), work = () => verifyResolution(two, SIGNED_POLICY, { at: NOW });
    if (isConcerned) await refusedAs(QuorumNotMet, work);
    else expect(await work()).toEqual(made);
    const [, counting] = await readResolution(await passed(made, [DANS, ERINS]), SIGNED_POLICY, { at: NOW });
    expect(counting.map((one) => one.person)).toEqual(isConcerned ? [ERIN] : [DAN, ERIN]);
  });

  test("says of each log what was accepted", () => {
    const made = { ...resolution(both), ...both }, hash = hashOf("it");
    expect(acceptedLog(made, hash, "audit")).toEqual({ size: 9, root: hashOf("root"), at: NOW, hash });
    expect(acceptedLog(made, hash, "keys")).toEqual({ size: 7, root: hashOf("key root"), at: NOW, hash });
    expect(acceptedLog({ ...made, keyLog: undefined }, hash, "keys")).toBeUndefined();
  });

  test("by too few is read and not passed", async () => {
    const one = await passed(resolution(), [CAROLS]);
    await refusedAs(QuorumNotMet, () => verifyResolution(one, SIGNED_POLICY, { at: NOW }), "1 of 2");
    expect((await readResolution(one, SIGNED_POLICY, { at: NOW }))[1].map((each) => each.person)).toEqual([CAROL]);
    await refusedAs(QuorumNotMet, () => verifyResolution([...one, ...one], SIGNED_POLICY, { at: NOW }));
  });

  test.each([
    [NOW - MAX_AHEAD_SECONDS, true],
    [NOW - MAX_AHEAD_SECONDS - 1, false],
    [NOW + MAX_AGE_SECONDS, true],
    [NOW + MAX_AGE_SECONDS + 1, false],
  ])("at %i holds: %s", async (at, holds) => {
    const signed = await passed(resolution(), [CAROLS, DANS]);
    if (holds) await verifyResolution(signed, SIGNED_POLICY, { at });
    else await refusedAs(Expired, () => verifyResolution(signed, SIGNED_POLICY, { at }));
  });

  const two = [CAROLS, DANS];
  test.each<[string, new (...given: never[]) => Error, () => Promise<Sign1[]>]>([
    ["another policy", Untrusted, () => passed(resolution(WITHDRAWAL, { policyHash: hashOf("another") }), two)],
    ["another tenant", Untrusted, () => passed(resolution(WITHDRAWAL, { header: FOREIGN }), two)],
    ["no officer", Untrusted, () => passed(resolution(), [CAROLS, STRANGER])],
    ["no signature", Malformed, () => Promise.resolve([])],
    ["differing payloads", Malformed, async () => [
      ...(await passed(resolution(), [CAROLS])),
      ...(await passed(resolution(WITHDRAWAL, { nonce: idOf("another act") }), [DANS])),
    ]],
    ["", InvalidSignature, () => passed(resolution(), two, "policy")],
  ])("is refused: %s", async (why, error, make) => {
    const made = await make();
    await refusedAs(error, () => verifyResolution(made, SIGNED_POLICY, { at: NOW }), why);
  });

  const octets = (size: number): Encodable => new Uint8Array(size);
  test.each<[Act, Encodable[]]>([
    [Act.WITHDRAW_VERSION, [2]],
    [Act.WITHDRAW_VERSION, [2, octets(31)]],
    [Act.RETURN_OFFICER, [octets(15)]],
    [Act.RETURN_OFFICER, [DAN, DAN]],
    [Act.ACKNOWLEDGE_LEAF, [octets(32), 7]],
    [Act.ACCEPT_LOG, [7, octets(32), 0]],
    [Act.ACCEPT_LOG, [7, octets(32), 0, octets(31)]],
    [Act.ACCEPT_LOG, [7, octets(32), octets(32), 0]],
    [Act.ACCEPT_LOG, [7, octets(32), 0, octets(32), 0]],
    [Act.SUSPEND_DEVICE, [DAN]],
    [Act.SUSPEND_DEVICE, [DAN, octets(32)]],
  ])("of act %i refuses another object", async (act, about) => {
    const payload = closePayload(TENANT, { 7: act, 8: about, 9: SIGNED_POLICY.hash, 10: idOf("act") });
    await refusedAs(Malformed, () => resolutionFromPayload(payload), "resolution object");
  });
});

describe("an officer's keys", async () => {
  const { state } = await begin();
  const SAID: OfficerStatement = {
    header: USER,
    person: ALICE,
    signingKey: STRANGER.public,
    sealingKey: OFFICERS[0].sealingKey,
    predecessor: EMPTY,
  };
  const signed = (said = SAID, key = AIK, purpose: Purpose = "officer"): Promise<Sign1> =>
    sign(officerToPayload(said), purpose, key);
  const verified = (statement: Sign1, of: ChainState = state): Promise<OfficerStatement> =>
    verifyOfficerStatement(statement, of);

  test("are what the account says", async () => {
    expect(await verified(await signed())).toEqual(SAID);
    const again = { ...SAID, predecessor: hashOf("first") };
    expect(await verified(await signed(again))).toEqual(again);
  });

  test("are nobody else's word", async () => {
    for (const wrong of [await signed(SAID, STRANGER), await signed(SAID, AIK, "consent")])
      await refusedAs(InvalidSignature, () => verified(wrong));
    for (const header of [{ ...USER, user: CAROL }, { ...USER, tenant: MALLORY_TENANT }]) {
      const wrong = await signed({ ...SAID, header, person: header.user });
      await refusedAs(Untrusted, () => verified(wrong), "another person or tenant");
    }
  });

  test("are no word of an identity key that was rotated away", async () => {
    // A thief of a device that was revoked holds the former key: they would name keys of their own.
    const newAik = await SigningKey.generate(), by = { device: LAPTOP, issuedAt: NOW, key: AIK };
    const rotated = await extend(state, [await rotateKey(state, { by, newAik, reason: Reason.SCHEDULE })]);
    const [old, made] = [await signed(), await signed(SAID, newAik)];
    await refusedAs(InvalidSignature, () => verified(old, rotated));
    expect(await verified(made, rotated)).toEqual(SAID);
  });

  test.each<[string, Record<number, Encodable>]>([
    ["other person", { 7: CAROL }],
    ["no person", { 7: EMPTY }],
    ["sealing for signing", { 8: SAID.sealingKey.encoded }],
    ["signing for sealing", { 9: SAID.signingKey.encoded }],
    ["empty hash", { 10: EMPTY }],
    ["header", { 3: EMPTY }],
    ["unknown", { 11: 1 }],
  ])("refuse what is outside the format: %s", async (_, wrong) => {
    const plain = decode(officerToPayload(SAID)) as Map<number, Encodable>;
    for (const [key, value] of Object.entries(wrong)) plain.set(Number(key), value);
    await refusedAs(Malformed, () => officerFromPayload(encode(plain)));
  });
});

describe("a transcript", async () => {
  const TEXT = new TextEncoder().encode("Ceremonies of Holdfast\n   1  make its root key\n");
  const [LOG, OLD_LOG] = [await SigningKey.generate(), await SigningKey.generate()];
  const signed = async (keys: readonly SigningKey[], header = TENANT, purpose: Purpose = "transcript") =>
    encodeMany(await signedBy(keys, transcriptPayload(header, TEXT), purpose));
  const sound = { tenant: ACME, rootKey: ROOT.public, logKeys: [LOG.public] as SigningKey["public"][] | undefined };
  const verified = (octets: Uint8Array, given: Partial<typeof sound> = {}, text: Uint8Array = TEXT) =>
    verifyTranscript(octets, text, { ...sound, ...given });

  test("holds by the root and any key that the log has or had", async () => {
    for (const key of [LOG, OLD_LOG]) {
      const found = await verified(await signed([ROOT, key]), { logKeys: [OLD_LOG.public, LOG.public] });
      expect(found).toEqual({ issuedAt: NOW, isByLog: true });
    }
    expect((await verified(await signed([ROOT, LOG]), { logKeys: undefined })).isByLog).toBe(false);
  });

  test.each<[string, new (...given: never[]) => Error, () => Promise<unknown>]>([
    ["another text", Untrusted, async () => verified(await signed([ROOT, LOG]), {}, TEXT.slice(1))],
    ["another tenant", Untrusted, async () => verified(await signed([ROOT, LOG]), { tenant: MALLORY_TENANT })],
    ["another root", InvalidSignature, async () => verified(await signed([OLD_LOG, LOG]))],
    ["another root, no log", InvalidSignature, async () => verified(await signed([OLD_LOG, LOG]), { logKeys: undefined })],
    ["another log key", InvalidSignature, async () => verified(await signed([ROOT, OLD_LOG]))],
    ["no log key", InvalidSignature, async () => verified(await signed([ROOT, LOG]), { logKeys: [] })],
    ["one key for both", InvalidSignature, async () => verified(await signed([ROOT, LOG]), { logKeys: [ROOT.public] })],
    ["another purpose", InvalidSignature, async () => verified(await signed([ROOT, LOG], TENANT, "roles"))],
    ["the root alone", Malformed, async () => verified(await signed([ROOT]))],
    ["three signers", Malformed, async () => verified(await signed([ROOT, LOG, OLD_LOG]))],
    ["about a person", Malformed, async () => verified(await signed([ROOT, LOG], { ...TENANT, user: ALICE }))],
    ["no statement", Malformed, () => verified(Uint8Array.of(0x80))],
  ])("is refused: %s", async (_, error, work) => {
    await refusedAs(error, work);
  });

  test.each([0, 1])("is refused with a bit of signature %i changed", async (which) => {
    const statements = parseMany(await signed([ROOT, LOG])), one = statements[which] as Sign1;
    const signature = one.signature.slice();
    signature[63] = (signature[63] as number) ^ 1;
    statements[which] = new Sign1(one.header, one.payload, signature);
    await refusedAs(InvalidSignature, () => verified(encodeMany(statements)));
  });
});
