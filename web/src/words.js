// Sentences of the page that Python's demo has too (space/result.py): what counted, and how good the threshold is.

/** @typedef {{value: number | null, low?: number | null, high?: number | null}} Interval */

const MODALITIES = /** @type {Record<string, string>} */ ({ BT: "CT", MR: "MR" });
const percent = (/** @type {number} */ share, digits = 0) => `${(100 * share).toFixed(digits)} %`;

/** What a slice is compared with, in the words of a label. @param {string} name */
export function sayBaseline(name) {
  return name
    .replace("mean of the normal", "Average normal")
    .replace("mean of all", "Average")
    .replace("training slices", "slice")
    .replace("BT", "CT")
    .replace(/ of both modalities$/, "");
}

/** Sentences of parts that lack a capital or a full stop. @param {string[]} parts */
export function writeSentences(parts) {
  return [...new Set(parts)].map((part) => part[0].toUpperCase() + part.slice(1) + (part.endsWith(".") ? "" : "."));
}

/**
 * One sentence on how good the threshold is, and further ones on where that comes from.
 * @param {any} report of the model, or null @param {number} threshold @param {string | null} modality
 */
export function sayThreshold(report, threshold, modality) {
  const logOdds = Math.log(threshold / (1 - threshold));
  const rule = `A slice of ${percent(threshold, 1)} or more is called Stroke: a sum of ${logOdds >= 0 ? "+" : ""}${logOdds.toFixed(2)} log-odds.`;
  const tests = report?.test ?? {};
  const own = modality && tests[modality] ? modality : "overall";
  const part = tests[own];
  if (!part || Math.abs(part.threshold - threshold) > 1e-6) {
    return { point: "The model's report has no results for this threshold.", details: [rule] };
  }
  /** @type {Interval[]} */
  const [found, cleared] = [part.intervals.sensitivity, part.intervals.specificity];
  if (found.value === null || cleared.value === null) {
    return { point: "The model's report cannot say how good this threshold is.", details: [rule] };
  }
  const kind = own === "overall" ? "" : `${MODALITIES[own]} `;
  const note = report.data?.note ?? "";
  const simulated = note.includes("simulated") ? "simulated " : "";
  const point =
    `On ${simulated}${kind}test slices it found ${percent(found.value)} of the strokes and cleared ` +
    `${percent(cleared.value)} of the normal slices.`;
  const tell = (/** @type {string} */ name, /** @type {Interval} */ { value, low, high }) =>
    `${name} ${percent(/** @type {number} */ (value), 1)}` +
    (low === null || low === undefined || high === null || high === undefined ? "" : ` (95 % interval ${percent(low)} to ${percent(high)})`);
  const where = `On ${part.n} ${kind}test slices of ${part.groups} patients or groups${note ? ` (${note})` : ""}`;
  return { point, details: [rule, `${where}: ${tell("sensitivity", found)}, ${tell("specificity", cleared)}.`] };
}
