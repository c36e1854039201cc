// SPDX-License-Identifier: Apache-2.0
/** What is written is read in the same step, by the reader of its own format. Does not know any format. */
import { HoldfastError } from "./errors.js";

/**
 * Return what was written once its own reader has taken it; throws a RangeError with the reader's reason otherwise.
 *
 * What no reader takes would be lost later, where nobody can mend it.
 */
export function readBack<W>(written: W, read: (written: W) => unknown): W {
  try {
    read(written);
  } catch (error) {
    if (error instanceof HoldfastError)
      throw new RangeError(`nobody could read this back: ${error.message}`, { cause: error });
    throw error;
  }
  return written;
}
