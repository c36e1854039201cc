// SPDX-License-Identifier: Apache-2.0
/**
 * The offline verifier: one file, one script, which the page runs twice.
 *
 * In the page it builds what a person sees. The same text runs again as a worker, made from the page itself: nothing is
 * loaded from anywhere.
 */
import { begin } from "./page.js";
import { serve } from "./worker.js";

if (typeof document === "undefined") serve();
else begin(document.currentScript?.textContent ?? "");
