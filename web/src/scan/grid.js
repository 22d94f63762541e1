// Frames of one series to slices from foot to head: the port of stroke_hub/scan/grid.py.

import { DERIVED_WORDS } from "../io/dicom.js";
import { pluralise } from "../io/errors.js";
import { cross, dot, findAxis, findView, isOblique, norm } from "../io/geometry.js";
import { roundEven } from "../io/pillow.js";

/** @typedef {import("./headers.js").Frame} Frame */
/**
 * The slices of a scan in their order; `positions` in mm, or null where nobody says.
 * @typedef {{frames: Frame[], positions: number[] | null, remarks: string[]}} Grid
 */

const EQUAL = 0.02;
const PARALLEL = 0.999;
const MOST = 0.8;
const MAX_SHEAR = 0.5;
const UNEVEN = 0.1;
const GAP = 1.5;
const FEW_GAPS = 3;
const USUAL_B = 1000;
const LEAST_B = 500;
const OTHER_PARTS = ["P", "R", "I", "PHASE", "PHASE MAP", "REAL", "IMAGINARY"];
const MAPS = [...DERIVED_WORDS.filter((word) => word !== "DERIVED" && word !== "TRACEW"), ...OTHER_PARTS];

/**
 * Sort the frames of a series along the normal of their planes, and take one at each position.
 * @param {Frame[]} frames @param {number | null} thickness
 * @returns {Grid}
 */
export function arrange(frames, thickness) {
  /** @type {string[]} */
  const remarks = [];
  let chosen = takeStack(dropCopies(frames, remarks), remarks);
  const normal = findNormal(chosen[0]);
  const isPlaced = normal !== null && chosen[0].corner.length > 0;
  chosen = takeSet(chosen, findPlaces(chosen, isPlaced ? normal : null), remarks);
  const view = findView(chosen[0].directions);
  if (view && (view.plane !== "axial" || isOblique(view))) {
    remarks.push(`The series is ${isOblique(view) ? "oblique" : view.plane}; models are trained on axial slices.`);
  }
  if (!normal || !isPlaced) {
    remarks.push(
      `Nothing says where the slices lie; they are in the order of their ${findOrder(chosen)}, and their positions are slice numbers.`,
    );
    return { frames: chosen, positions: null, remarks };
  }
  const corners = chosen.map((frame) => frame.corner);
  const positions = corners.map((corner) => dot(corner, normal));
  const isRegular = checkSteps(corners, positions, normal, thickness, remarks);
  if (isRegular && !chosen[0].spacing) remarks.push("The files do not say how large a pixel is.");
  return { frames: chosen, positions, remarks };
}

/** The b-value nearest to 1000 s/mm² of those in which diffusion shows, else the highest. @param {number[]} values */
export function chooseBValue(values) {
  const shown = values.filter((value) => value >= LEAST_B);
  if (!shown.length) return Math.max(...values);
  return shown.reduce((best, value) => (Math.abs(value - USUAL_B) < Math.abs(best - USUAL_B) ? value : best));
}

/** @param {Frame[]} frames @param {string[]} remarks */
function dropCopies(frames, remarks) {
  /** @type {Map<string, Frame>} */
  const kept = new Map();
  for (const frame of frames) {
    const key = frame.uid ? [frame.uid, frame.page, frame.corner, frame.instance] : [frame.file, frame.page];
    const text = JSON.stringify(key);
    if (!kept.has(text)) kept.set(text, frame);
  }
  const dropped = frames.length - kept.size;
  if (dropped) remarks.push(`${pluralise(dropped, "slice")} came twice, as a copy of the same instance; one was used.`);
  return [...kept.values()];
}

/** The largest number of frames that have one size and one direction. @param {Frame[]} frames @param {string[]} remarks */
function takeStack(frames, remarks) {
  /** @type {Frame[][]} */
  const stacks = [];
  for (const frame of frames) {
    const stack = stacks.find(([first]) => isAlike(first, frame));
    if (stack) stack.push(frame);
    else stacks.push([frame]);
  }
  const taken = stacks.reduce((best, stack) => (stack.length > best.length ? stack : best));
  const left = frames.length - taken.length;
  if (left) {
    remarks.push(
      `${pluralise(left, "slice")} of the series ${left === 1 ? "was" : "were"} left out: of another size or direction, ` +
        "or without a position.",
    );
  }
  return taken;
}

/** @param {Frame} one @param {Frame} other */
function isAlike(one, other) {
  if (one.rows !== other.rows || one.columns !== other.columns) return false;
  if (!one.corner.length !== !other.corner.length || one.directions.length !== other.directions.length) return false;
  const [mine, theirs] = [one.spacing, other.spacing];
  if ((mine === null) !== (theirs === null)) return false;
  if (mine && theirs && mine.some((side, at) => Math.abs(side - theirs[at]) > 1e-8 + 1e-3 * Math.abs(theirs[at]))) return false;
  if (!one.directions.length) return true;
  return [0, 3].every((at) => {
    const [a, b] = [one.directions.slice(at, at + 3), other.directions.slice(at, at + 3)];
    return dot(a, b) >= PARALLEL * norm(a) * norm(b);
  });
}

/** The normal of a slice that leads rather to the head, the front and the right. @param {Frame} frame */
function findNormal(frame) {
  if (!findView(frame.directions)) return null;
  const normal = cross(frame.directions.slice(0, 3), frame.directions.slice(3));
  const length = norm(normal);
  const unit = normal.map((one) => one / length);
  const towards = [-unit[0], -unit[1], unit[2]];
  const sign = Math.sign(towards[findAxis(towards)]);
  return unit.map((one) => one * sign);
}

/** What frames without a position are sorted by. @param {Frame[]} frames */
function findOrder(frames) {
  if (frames.some((frame) => frame.page)) return "frames";
  const numbers = new Set(frames.map((frame) => frame.instance));
  return !numbers.has(null) && numbers.size === frames.length ? "instance numbers" : "file names";
}

/** @param {Frame[]} frames @param {number[] | null} normal */
function findPlaces(frames, normal) {
  if (normal) return frames.map((frame) => dot(normal, frame.corner));
  const order = findOrder(frames);
  if (order === "frames") return frames.map((frame) => frame.page);
  return frames.map((frame) => (order === "instance numbers" ? (frame.instance ?? 0) : frame.file));
}

/** One frame at each place, in their order. @param {Frame[]} frames @param {number[]} places @param {string[]} remarks */
function takeSet(frames, places, remarks) {
  const order = frames.map((_, at) => at).sort((a, b) => places[a] - places[b] || a - b);
  /** @type {Map<Frame, number>} */
  const placeOf = new Map();
  let [number, last] = [-1, -Infinity];
  for (const at of order) {
    if (places[at] - last > EQUAL) [number, last] = [number + 1, places[at]];
    placeOf.set(frames[at], number);
  }
  const place = (/** @type {Frame} */ frame) => /** @type {number} */ (placeOf.get(frame));
  for (const attribute of ATTRIBUTES) {
    if (new Set(frames.map(place)).size < frames.length) frames = takeValue(frames, place, attribute, remarks);
  }
  /** @type {Map<number, Frame[]>} */
  const at = new Map();
  for (const frame of frames) at.set(place(frame), [...(at.get(place(frame)) ?? []), frame]);
  const found = [...at.entries()].sort(([a], [b]) => a - b).map(([, own]) => own);
  const doubled = found.filter((own) => own.length > 1).length;
  const isRepeated = doubled < found.length / 2;
  if (doubled && isRepeated) {
    remarks.push(`${pluralise(doubled, "position")} had more than one slice; the last of them was taken.`);
  } else if (doubled) {
    const most = Math.max(...found.map((own) => own.length));
    remarks.push(`The series holds ${most} slices at each position, and no header tells them apart; the first was taken.`);
  }
  return found.map((own) => {
    const sorted = own.sort((a, b) => (a.instance ?? 0) - (b.instance ?? 0) || a.file - b.file || a.page - b.page);
    return sorted[isRepeated ? sorted.length - 1 : 0];
  });
}

/**
 * The frames of one value of an attribute, if its values make sets of about all positions.
 * @param {Frame[]} frames @param {(frame: Frame) => number} place @param {Attribute} attribute @param {string[]} remarks
 */
function takeValue(frames, place, attribute, remarks) {
  /** @type {Map<any, Frame[]>} */
  const byValue = new Map();
  for (const frame of frames) {
    const value = attribute.read(frame);
    byValue.set(value, [...(byValue.get(value) ?? []), frame]);
  }
  const all = new Set(frames.map(place)).size;
  const whole = [...byValue]
    .filter(([value, found]) => value !== null && new Set(found.map(place)).size >= MOST * all)
    .map(([value]) => value);
  if (byValue.size < 2 || !whole.length) return frames;
  const value = attribute.choose(whole);
  remarks.push(attribute.say([...byValue.keys()].filter((one) => one !== null), value));
  return byValue.get(value) ?? frames;
}

const least = (/** @type {any[]} */ values) => values.reduce((best, one) => (one < best ? one : best));
const most = (/** @type {any[]} */ values) => values.reduce((best, one) => (one > best ? one : best));
const list = (/** @type {number[]} */ values) =>
  [...values].sort((a, b) => a - b).slice(0, 5).map((value) => Number(value.toPrecision(4)).toLocaleString("en-US")).join(", ") +
  (values.length > 5 ? " and others" : "");

/** @typedef {{read: (frame: Frame) => any, choose: (values: any[]) => any, say: (all: any[], one: any) => string}} Attribute */
/** In this order. At the first point in time no contrast agent has arrived; the longest echo is weighted by T2. @type {Attribute[]} */
const ATTRIBUTES = [
  {
    read: (frame) => MAPS.some((word) => frame.words.has(word)),
    choose: least,
    say: () => "The series also holds maps or phases; they were left out.",
  },
  {
    read: (frame) => frame.bValue,
    choose: chooseBValue,
    say: (all, one) =>
      `The series holds the b-values ${list(all)} s/mm²; the slices of ${roundEven(one).toLocaleString("en-US")} were taken.`,
  },
  {
    read: (frame) => frame.direction === "ISOTROPIC" || frame.words.has("TRACEW"),
    choose: most,
    say: () => "The series holds single directions of diffusion; the slices of all directions were taken.",
  },
  {
    read: (frame) => frame.echo,
    choose: most,
    say: (all) => `The series holds the echo times ${list(all)} ms; the longest was taken.`,
  },
  {
    read: (frame) => frame.time,
    choose: least,
    say: (all) => `The series holds ${all.length} points in time; the first was taken.`,
  },
  {
    read: (frame) => frame.acquisition,
    choose: least,
    say: (all) => `The series holds ${all.length} acquisitions; the first was taken.`,
  },
];

/**
 * Say what is odd about where the slices lie; whether they are one regular grid.
 * @param {number[][]} corners @param {number[]} positions @param {number[]} normal
 * @param {number | null} thickness @param {string[]} remarks
 */
function checkSteps(corners, positions, normal, thickness, remarks) {
  const count = corners.length;
  if (count === 1) {
    if (thickness !== null && thickness > 0 && thickness < Infinity) return true;
    remarks.push("The file does not say how thick its only slice is.");
    return false;
  }
  const steps = positions.slice(1).map((position, at) => position - positions[at]);
  const sorted = [...steps].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const usual = sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  const gaps = steps.map((_, at) => at).filter((at) => steps[at] > GAP * usual);
  const step = corners[count - 1].map((one, axis) => (one - corners[0][axis]) / (count - 1));
  const along = dot(step, normal);
  const shear = (Math.acos(Math.min(1, along / norm(step))) * 180) / Math.PI;
  const isEven = positions.every((position, at) => Math.abs(position - positions[0] - at * along) <= UNEVEN * usual);
  if (gaps.length > 0 && gaps.length <= FEW_GAPS) {
    for (const at of gaps) {
      const missing = Math.max(1, roundEven(steps[at] / usual) - 1);
      remarks.push(
        `${pluralise(missing, "slice")} ${missing === 1 ? "seems" : "seem"} to be missing between ` +
          `${positions[at].toFixed(1)} and ${positions[at + 1].toFixed(1)} mm.`,
      );
    }
  } else if (!isEven) {
    remarks.push(`The slices lie ${sorted[0].toFixed(1)} to ${sorted[sorted.length - 1].toFixed(1)} mm apart, not evenly.`);
  }
  if (shear > MAX_SHEAR) {
    remarks.push(
      `The slices are sheared by ${shear.toFixed(0)}°, as of a tilted gantry: each is shifted against the one below.`,
    );
    return false;
  }
  const off = corners.map((corner, at) => {
    const away = corner.map((one, axis) => one - corners[0][axis] - at * step[axis]);
    const height = dot(away, normal);
    return norm(away.map((one, axis) => one - height * normal[axis]));
  });
  if (isEven && Math.max(...off) > UNEVEN * usual) {
    remarks.push("The slices are shifted against each other in their planes.");
    return false;
  }
  return isEven;
}
