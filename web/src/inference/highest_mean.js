// From the slices of a scan to one answer: the port of stroke_hub/metrics/highest_mean.py.

/** @typedef {{highest: number, width: number, scale: number, shift: number, threshold: number}} Rule */

/** @type {Rule} */
export const DEFAULT = { highest: 3, width: 1, scale: 1, shift: 0, threshold: 0.5 };

/** What a scan's log-odds are, to follow "a scan is judged by". @param {Rule} rule */
export function describeRule(rule) {
  const highest = rule.highest === 1 ? "the highest slice" : `the mean of the ${rule.highest} highest slices`;
  return highest + (rule.width > 1 ? ", each averaged with its neighbours" : "");
}

/**
 * Judge a scan by the calibrated log-odds of its slices.
 * @param {Rule} rule @param {number[]} logOdds
 */
export function judge(rule, logOdds) {
  const count = logOdds.length;
  const reach = Math.floor(rule.width / 2);
  const neighbours = logOdds.map((_, at) => {
    const [first, last] = [Math.max(0, at - reach), Math.min(count, at + reach + 1)];
    return Array.from({ length: last - first }, (_, k) => first + k);
  });
  const smoothed = neighbours.map((rows) => rows.reduce((sum, row) => sum + logOdds[row] / rows.length, 0));
  const chosen = rank(smoothed).slice(0, rule.highest);
  const weights = new Array(count).fill(0);
  for (const at of chosen) for (const row of neighbours[at]) weights[row] += 1 / neighbours[at].length / chosen.length;
  const mean = weights.reduce((sum, weight, at) => sum + weight * logOdds[at], 0);
  return { logOdds: rule.scale * mean + rule.shift, weights };
}

/** Numbers of the values from the highest down; of equals the first comes first. @param {number[]} values */
export function rank(values) {
  return values.map((_, at) => at).sort((a, b) => values[b] - values[a] || a - b);
}
