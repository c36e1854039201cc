// SPDX-License-Identifier: Apache-2.0
/**
 * How a device signs a request: the covered parts, their digest and the one form of the header fields.
 *
 * The Holdfast profile of RFC 9421 (HTTP Message Signatures) and RFC 9530 (Content-Digest), docs/formats/requests.md.
 * Does not sign or verify: it says which bytes are signed; keys and clocks belong to the client.
 */
import { type Bytes, utf8 } from "../base/bytes.js";
import { b64u, unb64u } from "../base/encoding.js";
import { Malformed } from "../base/errors.js";
import { sha256 } from "../crypto/hashing.js";
import { SIGNATURE_SIZE } from "../crypto/public_keys.js";

/** RFC 9421 allows many signatures on one request. One label is taken. */
export const LABEL = "sig1";
/** RFC 9421 section 2.3: the application that the signature is for. */
export const TAG = "holdfast-v1";
/** A signature is taken this long before and after its `created`. */
export const WINDOW_SECONDS = 60;
/** Bytes: at random, no two alike; each is taken once. */
export const NONCE_SIZE = 16;
/** Whose turn it is; a request that has this field signs it, last. */
export const TURN = "holdfast-turn";

const BARE = ["@method", "@target-uri"];
const WITH_BODY = [...BARE, "content-digest"]; // RFC 9530; of an empty body too, so none can be added

// One order, one spelling: RFC 9421 allows many forms of one meaning, and a verifier that takes a single one has nothing
// to disagree about with a proxy in front of it.
const INPUT = new RegExp(
  '^sig1=(?<params>\\("[ -~]{1,80}"\\)' +
    ";created=(?<created>[1-9][0-9]{0,11})" +
    ';keyid="(?<keyid>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"' +
    ';nonce="(?<nonce>[A-Za-z0-9_-]{22})"' +
    ';tag="holdfast-v1")$',
);
const SIGNATURE = /^sig1=:([A-Za-z0-9+/]{86}==):$/; // 64 bytes in base64 are 86 signs and two of padding

function base64(data: Uint8Array): string {
  const text = b64u(data).replaceAll("-", "+").replaceAll("_", "/");
  return text + "=".repeat(-text.length & 3);
}

/** Return the parts that a request of `method` signs: the digest too, but for GET and HEAD, which have no body. */
export function components(method: string, hasTurn = false): string[] {
  const signed = method === "GET" || method === "HEAD" ? BARE : WITH_BODY;
  return hasTurn ? [...signed, TURN] : signed;
}

/** Return the Content-Digest field of a body, of an empty one as well. RFC 9530 section 2. */
export function contentDigest(body: Uint8Array): string {
  return `sha-256=:${base64(sha256(body))}:`;
}

/** What a signature says about itself. */
export class SignatureParameters {
  /**
   * created: UTC seconds. keyid: the credential, as a UUID's text. nonce: 16 fresh bytes, spent by the first request they
   * sign. turn: the field holdfast-turn, "" for a request without one.
   */
  constructor(
    readonly method: string,
    readonly created: number,
    readonly keyid: string,
    readonly nonce: Bytes,
    readonly turn: string = "",
  ) {}

  get #components(): string[] {
    return components(this.method, this.turn !== "");
  }

  /** The value of @signature-params: the covered parts, then the parameters. RFC 9421 section 2.3. */
  get text(): string {
    const covered = this.#components.map((name) => `"${name}"`).join(" ");
    return `(${covered});created=${this.created};keyid="${this.keyid}";nonce="${b64u(this.nonce)}";tag="${TAG}"`;
  }

  /**
   * Return the bytes to sign. `digest` is the Content-Digest field, "" for GET and HEAD. RFC 9421 section 2.5.
   *
   * Throws Malformed for a line break or a non-ASCII character in the address, the digest or the turn.
   */
  base(targetUri: string, digest: string): Bytes {
    const values = new Map([
      ["@method", this.method], ["@target-uri", targetUri], ["content-digest", digest], [TURN, this.turn],
    ]);
    const lines = this.#components.map((name) => `"${name}": ${String(values.get(name))}`);
    // A line break in the address would write a line of its own into the base: one signature, two readings.
    if (!lines.every((line) => /^[ -~]*$/.test(line)))
      throw new Malformed("request: a signed part is not one line of ASCII");
    return utf8([...lines, `"@signature-params": ${this.text}`].join("\n"));
  }

  /** Return the header fields that carry a 64-byte signature over `base`: two, and the turn where there is one. */
  fields(signature: Uint8Array): Record<string, string> {
    const turn = this.turn === "" ? {} : { "Holdfast-Turn": this.turn };
    return { "Signature-Input": `${LABEL}=${this.text}`, Signature: `${LABEL}=:${base64(signature)}:`, ...turn };
  }
}

/**
 * Read the header fields of a request; returns what they say and the 64-byte signature.
 *
 * Throws Malformed for every form but the one that SignatureParameters writes: another label, order, tag or parameter,
 * other covered parts, a second signature.
 */
export function parseSignature(
  method: string,
  signatureInput: string,
  signature: string,
  turn = "",
): [SignatureParameters, Bytes] {
  const head = INPUT.exec(signatureInput)?.groups, tail = SIGNATURE.exec(signature);
  if (head === undefined || tail === null)
    throw new Malformed("request: signature fields are not of the form of this protocol");
  const { params, created, keyid, nonce } = head as Record<"params" | "created" | "keyid" | "nonce", string>;
  const parameters = new SignatureParameters(method, Number(created), keyid, unb64u(nonce), turn);
  // Written again and compared: the covered parts must be those of this very method. A POST signed without its digest
  // would otherwise carry any body.
  if (parameters.text !== params) throw new Malformed("request: the signature covers other parts");
  const text = tail[1] as string;
  let octets: Bytes;
  try {
    octets = unb64u(text.slice(0, 86).replaceAll("+", "-").replaceAll("/", "_"), SIGNATURE_SIZE);
  } catch {
    // The last sign has four bits of no byte: one signature would have 16 spellings.
    throw new Malformed("request: signature has stray bits");
  }
  return [parameters, octets];
}
