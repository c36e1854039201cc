// SPDX-License-Identifier: Apache-2.0
/**
 * A long exported log in parts, whose signatures are checked side by side: one for each entry is most of the work.
 *
 * WebCrypto has threads of its own, and takes as many signatures at once as it is given. Each part is checked as `entries`
 * checks it, or not at all: what is wrong with a part, and where first, is not said here.
 */
import { type Bytes, concat } from "../../core/base/bytes.js";
import { HoldfastError } from "../../core/base/errors.js";
import type { Roles } from "../../core/identity/roles.js";
import { ExportedEntry, type ExportHeader } from "../../core/log/log_export.js";
import { WIDTH } from "../../core/log/tiles.js";
import { Broken, type Lines, Proofs, putBackBy, type PutBack, requireWritten } from "./entries.js";

/** Entries whose signatures are under way at once: some 4 MiB of lines. */
export const PART = 16 * WIDTH;

/** What a part in order has. */
export interface Part {
  /** Of its leaves, 32 bytes each. */
  readonly hashes: Bytes;
  /** Of its entries that somebody wrote, in hex. */
  readonly ids: ReadonlySet<string>;
  readonly putBack: readonly PutBack[];
  readonly withheld: number;
}

/**
 * Give the parts in their order, and undefined for one with which something is wrong.
 *
 * The lines are read up to what follows the last entry, as long as nobody stops before. roles: what each entry's writer is
 * held to; undefined where nobody is.
 */
export async function* checked(
  lines: Lines,
  header: ExportHeader,
  of: { root: Bytes; roles: Roles | undefined; size?: number },
): AsyncGenerator<Part | undefined> {
  const size = of.size ?? PART;
  for (let first = 0; first < header.size; first += size) {
    const end = Math.min(first + size, header.size);
    yield await check(new Proofs(lines, header, of.root), first, end, of.roles);
  }
}

async function check(proofs: Proofs, first: number, end: number, roles: Roles | undefined): Promise<Part | undefined> {
  const hashes: Bytes[] = [], ids = new Set<string>(), checks: Promise<PutBack[]>[] = [];
  try {
    for (let index = first; index < end; index++) {
      const [entry] = await proofs.nextEntry(index);
      hashes.push(entry.leafHash);
      if (roles === undefined || !(entry instanceof ExportedEntry)) continue;
      const check = requireWritten(entry, roles, ids).then((said) => putBackBy(said, index));
      // `Promise.all` says it when all of this part is read; until then an engine would take it for heard by nobody.
      check.catch(() => undefined);
      checks.push(check);
    }
    const putBack = (await Promise.all(checks)).flat();
    return { hashes: concat(...hashes), ids, putBack, withheld: proofs.withheld };
  } catch (error) {
    // Those still under way end by themselves: nobody waits for what they say.
    await Promise.allSettled(checks);
    if (error instanceof Broken || error instanceof HoldfastError) return undefined;
    throw error;
  }
}
