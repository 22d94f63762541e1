"""What an audit found, in numbers and in plain words."""

import math
from collections import Counter
from typing import Any, TypeAlias

import pandas as pd

from stroke_hub.audit.duplicates import ThresholdCalibration
from stroke_hub.data.records import Records, hash_records
from stroke_hub.errors import pluralise

__all__ = ["NAMES", "Finding", "add_findings", "select_leaks", "state", "summarise"]

Finding: TypeAlias = dict[str, Any]

VERSION = 1  # of audit.json
NAMES = {1: "stroke", 0: "normal"}
KINDS = ("file", "pixels", "near")
LEVELS = ("error", "warning", "note")  # worst first
SUSPECT_RATE = 0.01  # false alarms from which near-duplicates are only suspected
UNEVEN = 1.5  # ratio of two modalities' shares of stroke from which the modality itself is a hint


def summarise(
    records: Records,
    pairs: pd.DataFrame,
    closest: pd.DataFrame,
    scans: pd.DataFrame,
    calibration: ThresholdCalibration,
    compared: int,
) -> dict[str, Any]:
    """Return what audit.json holds, as `audit.write_audit` describes it.

    Parameters
    ----------
    pairs, closest, scans : as in `audit.Audit`.
    compared : how many pairs of pictures were compared.
    """
    table = records.table
    known = table["group"] != table["path"]
    leaks = select_leaks(pairs)
    groups = {split: set(part["group"]) for split, part in table[known].groupby(table["split"] == "test")}
    both = table[known & table["group"].isin(groups.get(True, set()) & groups.get(False, set()))]
    rate = calibration.false_alarm_rate
    summary: dict[str, Any] = {
        "version": VERSION,
        "dataset": {
            "sha256": hash_records(records),
            "slices": len(table),
            "groups": table["group"].nunique(),
            "without_patient": int((~known).sum()),
        },
        "counts": {str(split): _count_part(part) for split, part in table.groupby("split")},
        "calibration": {
            "slices": calibration.n,
            "compared_pairs": compared,
            "median": round(calibration.median, 4) if calibration.n else None,
            "highest_below": float(closest["similarity"].max()) if len(closest) else None,
            "threshold": calibration.threshold,
            "false_alarm_rate": None if math.isnan(rate) else float(f"{rate:.2g}"),
            "patients_known": bool(known.all()),
        },
        "duplicates": _count_pairs(pairs),
        "leaks": {
            "train_slices": leaks["path_a"].nunique(),
            "test_slices": leaks["path_b"].nunique(),
            "groups_on_both_sides": both["group"].nunique(),
            "their_train_slices": int((both["split"] != "test").sum()),
            "their_test_slices": int((both["split"] == "test").sum()),
        },
    }
    if len(scans):
        summary["scans"] = _count_scans(scans)
    found = [
        *_find_leaks(summary, leaks),
        *_find_repeats(summary),
        *_find_scans(summary),
        *_find_limits(summary),
        *_find_imbalance(table),
    ]
    return add_findings(summary | {"findings": []}, found)


def add_findings(summary: dict[str, Any], found: list[Finding]) -> dict[str, Any]:
    """Return a summary with further findings, the worst first; of equals, those that were there."""
    both = sorted([*summary["findings"], *found], key=lambda finding: LEVELS.index(finding["level"]))
    return summary | {"findings": both}


def _count_part(part: pd.DataFrame) -> dict[str, Any]:
    modality = part["modality"].fillna("unknown")
    cells = {
        str(name): {NAMES[label]: int((members["label"] == label).sum()) for label in sorted(NAMES)}
        for name, members in part.groupby(modality)
    }
    return {"slices": len(part), "groups": part["group"].nunique(), **cells}


def _count_pairs(pairs: pd.DataFrame) -> dict[str, dict[str, int]]:
    splits = pairs["split_a"] + "-" + pairs["split_b"]
    contradicting = pairs["label_a"] != pairs["label_b"]
    return {
        name: {kind: int((members["kind"] == kind).sum()) for kind in KINDS}
        | {"contradicting_labels": int(contradicting[members.index].sum())}
        for name, members in pairs.groupby(splits)
    }


def _count_scans(scans: pd.DataFrame) -> dict[str, int]:
    """Count scans by what is wrong with them; a pair of scans that are one counts once."""
    other = scans.set_index("scan")["split"].reindex(scans["same_as"]).to_numpy()
    twice = (scans["same_as"] != "").to_numpy()
    sides = twice & ((scans["split"] == "test").to_numpy() != (other == "test"))
    pairs = {tuple(sorted(pair)) for pair in scans.loc[twice, ["scan", "same_as"]].itertuples(index=False)}
    across = {tuple(sorted(pair)) for pair in scans.loc[sides, ["scan", "same_as"]].itertuples(index=False)}
    return {
        "scans": len(scans),
        "with_missing_slices": int((scans["missing"] > 0).sum()),
        "missing_slices": int(scans["missing"].sum()),
        "with_doubled_slices": int((scans["doubled"] > 0).sum()),
        "doubled_slices": int(scans["doubled"].sum()),
        "twice": len(pairs),
        "twice_on_both_sides": len(across),
    }


def state(level: str, sentence: str, **counts: int | float) -> Finding:
    """Make a finding of its level ("error", "warning", "note"), its sentence and its counts."""
    return {"level": level, "sentence": sentence, "counts": counts}


def _find_leaks(summary: dict[str, Any], leaks: pd.DataFrame) -> list[Finding]:
    found, here = [], summary["leaks"]
    if slices := here["train_slices"]:
        kinds = Counter(leaks.sort_values("similarity", ascending=False).drop_duplicates("path_a")["kind"])
        equal = kinds["file"] + kinds["pixels"]
        words = f"Test shows {pluralise(slices, 'training image')} again, {equal:,} exactly and {kinds['near']:,} "
        words += "re-encoded, resized, mirrored, cropped or changed in brightness: leave these out (--drop-leaks)."
        found.append(state("error", words, train_slices=slices, exact=equal, near=kinds["near"]))
    if groups := here["groups_on_both_sides"]:
        train, test = here["their_train_slices"], here["their_test_slices"]
        words = (
            f"Train and test share {pluralise(groups, 'patient')}, with {pluralise(train, 'training slice')} and "
        )
        words += f"{pluralise(test, 'test slice')}: figures on these say nothing about new patients."
        found.append(state("error", words, groups=groups, train_slices=train, test_slices=test))
    return found


def _find_repeats(summary: dict[str, Any]) -> list[Finding]:
    found, pairs = [], summary["duplicates"]
    within = {
        "train-train": "they weigh double; training keeps them on one side of its validation split.",
        "test-test": "they count double in every figure, and intervals are narrower than they should be.",
    }
    for splits, consequence in within.items():
        if n := sum(pairs.get(splits, {}).get(kind, 0) for kind in KINDS):
            words = f"Among {splits.partition('-')[0]} images, {pluralise(n, 'pair')} of one picture: {consequence}"
            found.append(state("warning", words, pairs=n))
    if n := sum(counts["contradicting_labels"] for counts in pairs.values()):
        words = f"Both labels stand on one picture in {pluralise(n, 'pair')} of images: one of the two is wrong."
        found.append(state("error", words, pairs=n))
    return found


def _find_scans(summary: dict[str, Any]) -> list[Finding]:
    """What is wrong with whole scans."""
    found: list[Finding] = []
    here = summary.get("scans")
    if here is None:
        return found
    if across := here["twice_on_both_sides"]:
        words = f"{pluralise(across, 'scan')} of train {'stand' if across > 1 else 'stands'} in test too, under "
        words += "another name: figures on these say nothing about new scans."
        found.append(state("error", words, scans=across))
    if within := here["twice"] - across:
        words = f"{pluralise(within, 'scan')} {'stand' if within > 1 else 'stands'} twice under two names on one "
        words += "side: they weigh double, and intervals are narrower than they should be."
        found.append(state("warning", words, scans=within))
    if scans := here["with_missing_slices"]:
        words = f"{pluralise(here['missing_slices'], 'slice')} inside {pluralise(scans, 'scan')} "
        words += (
            f"{'are' if here['missing_slices'] > 1 else 'is'} missing: a scan is judged by its highest slices, "
        )
        words += "which may be among them."
        found.append(state("warning", words, scans=scans, slices=here["missing_slices"]))
    if scans := here["with_doubled_slices"]:
        words = f"{pluralise(here['doubled_slices'], 'slice')} of {pluralise(scans, 'scan')} "
        words += f"{'stand' if here['doubled_slices'] > 1 else 'stands'} there twice, by number or picture: a mean "
        words += "over a scan's highest slices counts them double."
        found.append(state("warning", words, scans=scans, slices=here["doubled_slices"]))
    return found


def _find_limits(summary: dict[str, Any]) -> list[Finding]:
    """How far the other findings can be believed."""
    found, here, dataset = [], summary["calibration"], summary["dataset"]
    if alone := dataset["without_patient"]:
        words = f"{alone:,} of {pluralise(dataset['slices'], 'image')} have no patient id: images of one picture "
        words += "stand in for patients in training, a proxy that misses slices of one patient that differ."
        found.append(state("warning", words, slices=alone))
    rate, threshold = here["false_alarm_rate"], here["threshold"]
    if rate is None:
        words = f"Too few slices resemble others to calibrate near-duplicates: {threshold:g} is taken as threshold."
        return [*found, state("note", words, slices=here["slices"], threshold=threshold)]
    basis = "slice of another patient" if here["patients_known"] else "other slice"
    words = f"Near-duplicates are pairs of similarity {threshold:g} or more; the most alike {basis} has "
    words += (
        f"{here['median']:.2f} (median of {here['slices']:,} slices), and {rate:.2%} of slices are expected to "
    )
    words += "be taken for a copy by mistake"
    words += "." if rate <= SUSPECT_RATE else ": slices resemble each other too much here, so look at the pictures."
    level = "note" if rate <= SUSPECT_RATE else "warning"
    found.append(state(level, words, slices=here["slices"], threshold=threshold, false_alarm_rate=rate))
    return found


def _find_imbalance(table: pd.DataFrame) -> list[Finding]:
    found = []
    for split, part in table.groupby("split"):
        share = float(part["label"].mean())
        most = max(share, 1 - share)
        words = f"{share:.1%} of the {split} slices are stroke: whoever always says "
        words += f"{NAMES[int(share >= 0.5)]} is right in {most:.1%}."
        found.append(state("note", words, stroke_share=round(share, 4)))
        shares = part.groupby(part["modality"].fillna("unknown"))["label"].mean()
        if len(shares) > 1 and float(shares.max()) > UNEVEN * float(shares.min()):
            words = f"Stroke is more common in {shares.idxmax()} ({shares.max():.1%}) than in {shares.idxmin()} "
            words += f"({shares.min():.1%}) {split} slices: telling the modalities apart pays, so judge each alone."
            counts = {f"stroke_share_{name}": round(float(value), 4) for name, value in shares.items()}
            found.append(state("warning", words, **counts))
    return found


def select_leaks(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of a training and a test image."""
    return pairs[(pairs["split_a"] != "test") & (pairs["split_b"] == "test")]
