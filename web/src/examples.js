// The examples, named by the rule of space/examples.py: what the model makes of each, misses too.

/** @typedef {{probability: number, isStroke: boolean, isCalled: boolean}} Asked */

export const EXAMPLE = /^examples\/(normal|stroke)(BT|MR)\/([^/]+)$/;

/**
 * Pick the slice of each kind; a kind that does not occur is absent.
 * @param {Asked[]} asked
 * @returns {[string, number][]} kinds and numbers of slices
 */
export function pickKinds(asked) {
  const ranked = asked.map((_, at) => at).sort((a, b) => asked[a].probability - asked[b].probability || a - b);
  const rank = (/** @type {boolean} */ isStroke, /** @type {boolean} */ isCalled) =>
    ranked.filter((at) => asked[at].isStroke === isStroke && asked[at].isCalled === isCalled);
  const middle = (/** @type {number[]} */ numbers) => numbers[numbers.length >> 1];
  const [found, missed, alarms, cleared] = [rank(true, true), rank(true, false), rank(false, true), rank(false, false)];
  /** @type {[string, number | undefined][]} */
  const kinds = [
    ["clear hit", middle(found)],
    ["subtle stroke", found.length > 1 ? found[0] : undefined],
    ["miss", middle(missed)],
    ["false alarm", alarms[alarms.length - 1]],
    ["normal", middle(cleared)],
  ];
  return /** @type {[string, number][]} */ (kinds.filter(([, at]) => at !== undefined));
}
