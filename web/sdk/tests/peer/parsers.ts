// SPDX-License-Identifier: Apache-2.0
/**
 * Every parser of the core by the name that `tests/web/parsers.py` has for its twin, and what it makes of some bytes.
 *
 * What was read is written again where the format has a writer, and otherwise told field by field in dCBOR, so that
 * Python and TypeScript can be held to each other by bytes alone.
 */
import { type Bytes, concat, utf8 } from "../../src/core/base/bytes.js";
import { b64u, decode, type Encodable, encode, MAX_BLOB, unb64u, type Value } from "../../src/core/base/encoding.js";
import { unpad } from "../../src/core/base/padding.js";
import { SecretBytes } from "../../src/core/base/secret.js";
import { Phrase } from "../../src/core/crypto/phrase.js";
import { decodePublicKey } from "../../src/core/crypto/public_keys.js";
import { SealingKey } from "../../src/core/crypto/sealing.js";
import { Share } from "../../src/core/crypto/slip39.js";
import { Stretching } from "../../src/core/crypto/stretching.js";
import { Suite } from "../../src/core/crypto/suites.js";
import { readPrefix } from "../../src/core/escrow/archive.js";
import { custodyFromPayload, custodyToPayload, readManifest } from "../../src/core/escrow/custody.js";
import { Deposit, headerFromBytes, headerToBytes } from "../../src/core/escrow/deposit.js";
import { receiptFromPayload, receiptToPayload } from "../../src/core/escrow/receipt.js";
import {
  officerStateFromPayload, officerStateToPayload, resolutionFromPayload, resolutionToPayload,
} from "../../src/core/identity/acts.js";
import {
  approvalFromPayload, approvalToPayload, attestationFromPayload, attestationToPayload, caseFromPayload, caseToPayload,
  vetoFromPayload, vetoToPayload,
} from "../../src/core/identity/cases.js";
import { Entry } from "../../src/core/identity/entries.js";
import { officerFromPayload, officerToPayload } from "../../src/core/identity/officers.js";
import { policyFromPayload, policyToPayload } from "../../src/core/identity/policy.js";
import { checkLeaf, rolesFromPayload, rolesToPayload } from "../../src/core/identity/roles.js";
import { checkpointFromText, NoteVerifier } from "../../src/core/log/checkpoint.js";
import { entryFromLeaf, keyEntryFromLeaf } from "../../src/core/log/log_entry.js";
import {
  checkpointLine, ExportedEntry, headerFromLine, headerToLine, readCheckpointLine, readEntryLine, tileFromLine,
  tileToLine, withheldFromLine, withheldToLine,
} from "../../src/core/log/log_export.js";
import { CompactRange } from "../../src/core/log/merkle.js";
import { decodeContent, encodeContent } from "../../src/core/messages/content.js";
import {
  batchFromPayload, batchToPayload, fromLeaf, signedPreKeyFromPayload, signedPreKeyToPayload, toLeaf,
} from "../../src/core/messages/prekeys.js";
import { Session } from "../../src/core/messages/session.js";
import { SkippedKeys } from "../../src/core/messages/skipped.js";
import { encodeInitial, readMessage } from "../../src/core/messages/wire.js";
import { encodeMany, parseMany, Sign1 } from "../../src/core/signed/cose.js";
import { type SignatureParameters, parseSignature } from "../../src/core/signed/requests.js";
import {
  blobFromPayload, blobToPayload, consentFromPayload, consentToPayload, depositFromPayload, depositToPayload,
  deviceFromPayload, deviceToPayload, syncFromPayload, syncToPayload, tenantKeyFromPayload, tenantKeyToPayload,
} from "../../src/core/signed/statements.js";
import { parseAnswered } from "../../src/core/signed/turns.js";
import { readHeader, type VaultHeader } from "../../src/core/vault/blob.js";
import { ShareLetter, shareFromSecret, shareToSecret } from "../../src/core/vault/contact_shares.js";
import * as contactsDoor from "../../src/core/vault/contacts_door.js";
import { Door } from "../../src/core/vault/door_blob.js";
import { doorProofFromPayload, doorProofToPayload } from "../../src/core/vault/door_proof.js";
import { ExportFile } from "../../src/core/vault/export_file.js";
import {
  ExistingDevice, NewDevice, pairingRequestFromBytes, pairingRequestToBytes, pairingText, parsePairingText,
} from "../../src/core/vault/pairing.js";
import { readPasskeyDoor } from "../../src/core/vault/passkey_door.js";
import * as passwordDoor from "../../src/core/vault/password_door.js";
import { readPhraseDoor } from "../../src/core/vault/phrase_door.js";
import {
  manifestFromPayload, manifestToPayload, requestFromPayload, requestToPayload,
} from "../../src/core/vault/share_manifest.js";
import { deviceSyncFromSecret, deviceSyncToSecret, SyncLetter } from "../../src/core/vault/sync_letter.js";

/** What a reader needs beside the bytes, as Python made it: hex by name. */
export type Given = ReadonlyMap<string, Bytes>;
export type Parser = (data: Bytes, given: Given) => Bytes | Promise<Bytes>;

const EMPTY = encode([]);

/** A reader and its writer. */
function bothWays<T>(read: (data: Bytes) => T, write: (read: T) => Bytes): Parser {
  return data => write(read(data));
}

/** A reader of text: the peer sends no bytes that are not UTF-8. */
function ofText<T>(read: (text: string) => T, write: (read: T) => Bytes): Parser {
  return data => write(read(textOf(data)));
}

function textOf(data: Bytes): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
}

function said(...fields: Encodable[]): Bytes {
  return encode(fields);
}

function optional(value: Encodable | undefined): Encodable {
  return value === undefined ? [] : [value];
}

function named(given: Given, name: string): Bytes {
  const found = given.get(name);
  if (found === undefined) throw new Error(`the peer did not give ${name}`);
  return found;
}

function headerOf({ tenant, user, epoch, version }: VaultHeader): Bytes {
  return said(tenant, user, epoch, version);
}

function doorOf({ epoch, method }: Door): Bytes {
  return said(epoch, method);
}

function fieldsOf([parameters, signature]: [SignatureParameters, Bytes]): Bytes {
  const fields = parameters.fields(signature);
  return utf8(`${fields["Signature-Input"]}\n${fields["Signature"]}`);
}

function logEntryOf(leaf: Bytes): Bytes {
  const entry = entryFromLeaf(leaf);
  const body = [...entry.body].map(([name, value]) => [name, value]);
  const { entryId, tag, actor, person, subject, time, kid, signature } = entry;
  return said(entryId, tag, actor, person, subject, time, body, kid, signature);
}

function keyEntryOf(leaf: Bytes): Bytes {
  const { type, subjectHash, seq, statementHash, time } = keyEntryFromLeaf(leaf);
  return said(type, subjectHash, seq, statementHash, time);
}

function checkpointOf(text: string): Bytes {
  const { origin, size, root, time } = checkpointFromText(text);
  return said(origin, size, root, optional(time));
}

async function* linesOf(data: Bytes): AsyncGenerator<Bytes> {
  let start = 0;
  for (let at = 0; at < data.length; at++) {
    if (data[at] !== 0x0a) continue;
    yield data.slice(start, at + 1);
    start = at + 1;
  }
  if (start < data.length) yield data.slice(start);
}

/** The payloads of statements, by the name of Python's class. */
const PAYLOADS: Readonly<Record<string, Parser>> = {
  ArchiveStatement: bothWays(data => blobFromPayload(data, "archive"), blobToPayload),
  Approval: bothWays(approvalFromPayload, approvalToPayload),
  Attestation: bothWays(attestationFromPayload, attestationToPayload),
  BatchStatement: bothWays(batchFromPayload, batchToPayload),
  Case: bothWays(caseFromPayload, caseToPayload),
  Consent: bothWays(consentFromPayload, consentToPayload),
  CustodyLine: bothWays(custodyFromPayload, custodyToPayload),
  DepositStatement: bothWays(depositFromPayload, depositToPayload),
  DeviceStatement: bothWays(deviceFromPayload, deviceToPayload),
  DoorProof: bothWays(doorProofFromPayload, doorProofToPayload),
  EscrowKey: bothWays(data => tenantKeyFromPayload(data, "escrow-key"), tenantKeyToPayload),
  ExportStatement: bothWays(data => blobFromPayload(data, "export"), blobToPayload),
  Manifest: bothWays(manifestFromPayload, manifestToPayload),
  OfficerState: bothWays(officerStateFromPayload, officerStateToPayload),
  OfficerStatement: bothWays(officerFromPayload, officerToPayload),
  OfflineKey: bothWays(data => tenantKeyFromPayload(data, "offline-key"), tenantKeyToPayload),
  Policy: bothWays(policyFromPayload, policyToPayload),
  Receipt: bothWays(receiptFromPayload, receiptToPayload),
  Resolution: bothWays(resolutionFromPayload, resolutionToPayload),
  Roles: bothWays(rolesFromPayload, rolesToPayload),
  ShareRequest: bothWays(requestFromPayload, requestToPayload),
  SignedPreKey: bothWays(signedPreKeyFromPayload, signedPreKeyToPayload),
  Sync: bothWays(syncFromPayload, syncToPayload),
  Veto: bothWays(vetoFromPayload, vetoToPayload),
};

export const PARSERS: Readonly<Record<string, Parser>> = {
  ...Object.fromEntries(Object.entries(PAYLOADS).map(([name, parser]) => [`payload-${name}`, parser])),
  "cbor": bothWays(data => decode(data, MAX_BLOB), value => encode(value as Value)),
  "base64url": ofText(text => unb64u(text), octets => utf8(b64u(octets))),
  "public-key": bothWays(data => decodePublicKey(data), key => key.encoded),
  "sign1": bothWays(data => Sign1.parse(data), statement => statement.encode()),
  "many-signers": bothWays(data => parseMany(data), encodeMany),
  "chain-entry": bothWays(data => Entry.parse(data), entry => entry.encode()),
  "hybrid-leaf": bothWays(data => fromLeaf(data, Suite.HYBRID), toLeaf),
  "classical-leaf": bothWays(data => fromLeaf(data, Suite.CLASSICAL_P256), toLeaf),
  "message": data => {
    const incoming = readMessage(data);
    const initial = incoming.initial === undefined ? [] : [encodeInitial(incoming.initial)];
    return said(incoming.suite, incoming.initialBytes, incoming.sealed, initial);
  },
  "content": bothWays(decodeContent, encodeContent),
  "padding": bothWays(unpad, octets => octets),
  "vault": bothWays(data => readHeader(data), headerOf),
  "officers-section": bothWays(data => readHeader(data, "officers"), headerOf),
  "password-door": data => {
    const door = Door.parse(data, passwordDoor.KIND);
    const { cost, salt } = Stretching.fromMap(door.method, "door");
    return said(door.epoch, cost.memoryKib, cost.passes, cost.lanes, salt);
  },
  "phrase-door": bothWays(data => readPhraseDoor(data), door => said(door.language, Number(door.hasPassphrase))),
  "passkey-door": bothWays(data => readPasskeyDoor(data, "officers"), door => said(door.credentialId, door.salt)),
  "officers-door": bothWays(data => Door.parse(data, "officers-password"), doorOf),
  "contacts-door": bothWays(data => Door.parse(data, contactsDoor.KIND), doorOf),
  "contact-share": bothWays(data => shareFromSecret(new SecretBytes(data)), share => shareToSecret(share).reveal()),
  "share-letter": bothWays(
    data => ShareLetter.parse(data),
    letter => said(letter.statement.encode(), manifestToPayload(letter.manifest)),
  ),
  "slip39": ofText(text => Share.parse(text), share => concat(share.toBytes().reveal(), utf8(share.mnemonic()))),
  "slip39-bytes": bothWays(data => Share.fromBytes(new SecretBytes(data)), share => share.toBytes().reveal()),
  "phrase": async data => {
    const phrase = await Phrase.parse(textOf(data));
    return said(phrase.language, phrase.entropy.reveal(), await phrase.text());
  },
  "pairing-text": ofText(parsePairingText, request => utf8(pairingText(request))),
  "pairing-request": bothWays(pairingRequestFromBytes, pairingRequestToBytes),
  "pairing-commitment": (data, given) => {
    new ExistingDevice(deviceFromPayload(named(given, "device"))).receiveCommitment(data);
    return EMPTY;
  },
  "pairing-answer": (data, given) => {
    new NewDevice(pairingRequestFromBytes(named(given, "pairing"))).answer(data);
    return EMPTY;
  },
  "pairing-reveal": (data, given) => {
    const waiting = new ExistingDevice(deviceFromPayload(named(given, "device")));
    waiting.receiveCommitment(named(given, "commitment"));
    waiting.receiveReveal(data);
    return EMPTY;
  },
  "sync-letter": async (data, given) => {
    const key = await SealingKey.fromSeed(new SecretBytes(named(given, "letter key")));
    const letter = await SyncLetter.open(data, { key, requestHash: named(given, "pairing hash") });
    const { tenant, user, device, issuedAt, expiresAt } = letter.header;
    return said(letter.head, tenant, user, device, issuedAt, expiresAt);
  },
  "device-sync": bothWays(data => deviceSyncFromSecret(new SecretBytes(data)), sync => deviceSyncToSecret(sync).reveal()),
  "export-file": bothWays(data => ExportFile.parse(data), file => file.encode()),
  "deposit-header": bothWays(headerFromBytes, headerToBytes),
  "deposit-record": bothWays(data => Deposit.fromRecord(data), deposit => deposit.toRecord()),
  "custody-manifest": async data => concat(...(await readManifest(linesOf(data))).toLines()),
  "archive-prefix": data => {
    const [{ tenant, user, generation, salt }, commit] = readPrefix(data);
    return said(tenant, user, generation, salt, commit);
  },
  "checkpoint": ofText(checkpointOf, octets => octets),
  "note": async (data, given) => {
    const verifier = NoteVerifier.fromText(textOf(named(given, "log")));
    return utf8(await verifier.open(textOf(data)));
  },
  "verifier-key": ofText(text => NoteVerifier.fromText(text), verifier => utf8(verifier.toText())),
  "log-header": bothWays(headerFromLine, headerToLine),
  "log-checkpoint-line": bothWays(readCheckpointLine, checkpointLine),
  "log-entry-line": bothWays(data => ExportedEntry.fromLine(data), entry => entry.toLine()),
  "log-withheld-line": bothWays(withheldFromLine, withheldToLine),
  "log-tile-line": bothWays(tileFromLine, tileToLine),
  "log-any-line": data => {
    const entry = readEntryLine(data);
    return entry instanceof ExportedEntry ? entry.toLine() : withheldToLine(entry);
  },
  "log-claimed": data => {
    const { id, tag } = ExportedEntry.claimed(data);
    return said(optional(id), optional(tag));
  },
  "log-leaf": logEntryOf,
  "key-leaf": keyEntryOf,
  "checked-leaf": async (data, given) => {
    await checkLeaf(data, { index: 0, roles: rolesFromPayload(named(given, "roles")) });
    return EMPTY;
  },
  "compact-range": bothWays(data => CompactRange.fromBytes(data), range => range.toBytes()),
  "signature-fields": data => {
    const text = textOf(data), [head = ""] = text.split("\n", 1);
    return fieldsOf(parseSignature("POST", head, text.slice(head.length + 1)));
  },
  "turn-answer": ofText(parseAnswered, answered => said(answered.mark, answered.breaks)),
  "session": bothWays(data => Session.fromSecret(new SecretBytes(data)), session => session.toSecret().reveal()),
  "skipped-keys": bothWays(data => SkippedKeys.fromSecret(new SecretBytes(data)), kept => kept.toSecret().reveal()),
};
