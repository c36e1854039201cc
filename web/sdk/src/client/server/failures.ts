// SPDX-License-Identifier: Apache-2.0
/**
 * Why no answer came, in a sentence for the person, as far as a browser tells a page.
 *
 * A page learns no more than that it failed: not whether the name, the port, the certificate or the server's permission
 * for this page (CORS) was it, so that no page can look around in somebody's network. Does not connect, and does not
 * decide what is tried again: `transport` does.
 */
import { Unreachable } from "../errors.js";
import { TooSlow } from "./pace.js";

const AGAIN = "Then try again.";
const NETWORK = `Check this machine's network. ${AGAIN}`;
const ADDRESS =
  `Check how the address is written, and this machine's network. ${AGAIN} If the browser warns when the address is ` +
  "opened in a page of its own, or if its console says that the server does not allow this page, tell your operator.";

/** What the connection threw. Every other error would be a fault of this program. */
export class Failed extends Error {}

/** Return the refusal for what the connection to `server` (its URL) threw. */
export function explain(server: string, { cause }: Failed): Unreachable {
  if (cause instanceof TooSlow || (cause instanceof Error && cause.name === "AbortError"))
    return new Unreachable(`${server} timed out: no whole answer came in time.`, { wayOut: NETWORK, cause });
  if (globalThis.navigator?.onLine === false)
    return new Unreachable(`${server} cannot be reached: this machine's network is down.`, { wayOut: NETWORK, cause });
  return new Unreachable(`${server} cannot be reached.`, { wayOut: ADDRESS, cause });
}
