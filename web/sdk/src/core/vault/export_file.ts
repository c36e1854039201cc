// SPDX-License-Identifier: Apache-2.0
/**
 * The export file: a vault and a password door to it, in one file that needs no server.
 *
 * docs/formats/export.md, and the statement `export`. Does not read or write files, and does not open anything: the doors
 * and `blob` do.
 */
import { type Bytes, concat, equal, utf8 } from "../base/bytes.js";
import { decode, type Encodable, encode, Fields, mapOf, MAX_BLOB, MAX_VAULT } from "../base/encoding.js";
import { Malformed, Untrusted } from "../base/errors.js";
import { sha256 } from "../crypto/hashing.js";
import type { PublicKey } from "../crypto/public_keys.js";
import { Sign1, sign, type Signer } from "../signed/cose.js";
import { type Header, readBack } from "../signed/payloads.js";
import { blobFromPayload, type BlobStatement, blobToPayload, syncFromPayload, SyncKind } from "../signed/statements.js";
import { readHeader, type VaultHeader } from "./blob.js";
import { type DoorOwner, MAX_DOOR } from "./door_blob.js";

/** Readable, so that whoever finds the file in twenty years knows what it is; the newline parts it from the bytes. */
export const MAGIC = "holdfast export 1\n";
/** Field 8 of the `export` statement. */
export const VAULT_EXPORT = 1;
const FIRST_LINE = utf8(MAGIC);
/** Bytes: the vault at its largest, and 64 KiB for a door of 1 KiB and two statements of at most 16 KiB. */
export const MAX_FILE = FIRST_LINE.length + MAX_VAULT + MAX_BLOB;
const VERSION = 1; // field 1; the magic line says it again, for people

/** What is in the file: the vault blob, its `sync` statement by the AIK, a password door, and who exported it. */
export class ExportFile {
  private constructor(
    readonly vault: Bytes,
    readonly sync: Sign1,
    readonly door: Bytes,
    readonly statement: Sign1,
  ) {}

  /** Put together a file, signed by the device of `header` with its signing key. */
  static async make(
    parts: { vault: Bytes; sync: Sign1; door: Bytes },
    by: { header: Header; key: Signer },
  ): Promise<ExportFile> {
    const { vault, sync, door } = parts;
    // Over vault, statement and door together: none of them can be exchanged for one of another day.
    const blobHash = sha256(encode(contentsOf(vault, sync, door)));
    const payload = blobToPayload({ purpose: "export", header: by.header, blobHash, kind: VAULT_EXPORT });
    return new ExportFile(vault, sync, door, await sign(payload, "export", by.key));
  }

  /** Return the file: the magic line, then dCBOR{1: 1, 2: vault, 3: sync, 4: door, 5: export statement}. */
  encode(): Bytes {
    const contents = contentsOf(this.vault, this.sync, this.door).set(5, this.statement.encode());
    return readBack(concat(FIRST_LINE, encode(contents)), (written) => ExportFile.parse(written));
  }

  /** Read a file; throws Malformed, also for one of a later version or whose parts name each other wrongly. */
  static parse(data: Uint8Array): ExportFile {
    if (!equal(data.subarray(0, FIRST_LINE.length), FIRST_LINE))
      throw new Malformed("export file: does not begin as one of version 1 does");
    const read = Fields.of(decode(data.subarray(FIRST_LINE.length), MAX_FILE), "export file", [1, 2, 3, 4, 5]);
    read.uint(1, { minimum: VERSION, maximum: VERSION });
    const file = new ExportFile(
      read.octets(2, undefined, { maximum: MAX_VAULT }),
      Sign1.parse(read.octets(3)),
      read.octets(4, undefined, { maximum: MAX_DOOR }),
      Sign1.parse(read.octets(5)),
    );
    const said = file.exportedBy, sync = syncFromPayload(file.sync.payload), vault = file.header;
    const digest = sha256(encode(contentsOf(file.vault, file.sync, file.door)));
    if (!equal(said.blobHash, digest) || said.kind !== VAULT_EXPORT)
      throw new Malformed("export file: the statement is about something else");
    // Both ways round: the statement names this blob, and the blob says of itself what the statement says. An old vault
    // under a newer statement, or another user's, stops here.
    const isNamed =
      equal(sync.header.tenant, vault.tenant) && equal(sync.header.user, vault.user) && sync.kind === SyncKind.VAULT &&
      equal(sync.blobHash, sha256(file.vault)) && sync.version === vault.version;
    if (!isNamed) throw new Malformed("export file: the vault is not the one that its statement names");
    return file;
  }

  /** What the vault says of itself: whose, which epoch and version. Opening it will tell. */
  get header(): VaultHeader {
    return readHeader(this.vault);
  }

  /** Whose door it must be. */
  get owner(): DoorOwner {
    const { tenant, user, epoch, section } = this.header;
    return { tenant, user, epoch, section };
  }

  /** Who exported it and when, as the file says. */
  get exportedBy(): BlobStatement {
    return blobFromPayload(this.statement.payload, "export");
  }

  /**
   * Check the vault's statement under the identity key, and the export's under the device's if that is known.
   *
   * Rejects with InvalidSignature, and Untrusted when vault and export name different people. With no chain at hand the
   * AIK is the one in the vault itself, which then proves no more than that the file is whole.
   */
  async verify(of: { aik: PublicKey; signingKey?: PublicKey }): Promise<void> {
    // The vault's own statement is what counts: the export is made by a device, which may be anybody's who had it.
    await this.sync.verify(of.aik, "sync");
    const said = this.exportedBy.header, { header } = this;
    // Not checked when parsing: whose the file is only means something under a key that is known.
    if (!equal(said.tenant, header.tenant) || !equal(said.user, header.user))
      throw new Untrusted("the export file holds somebody else's vault");
    if (of.signingKey !== undefined) await this.statement.verify(of.signingKey, "export");
  }
}

function contentsOf(vault: Bytes, sync: Sign1, door: Bytes): Map<number, Encodable> {
  return mapOf({ 1: VERSION, 2: vault, 3: sync.encode(), 4: door });
}
