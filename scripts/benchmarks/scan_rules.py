"""Rules from slices to a scan, in cross-validation over patients: pooling, neighbouring slices, attention.

Gated attention (Ilse et al., 2018, arXiv:1802.04712) and features averaged over neighbouring slices are measured
here and are not in the package, as they were not better.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.resampling import Floats, draw_weights, summarise, weigh
from numpy.typing import NDArray
from torch import Tensor, nn

from stroke_hub.metrics.highest_mean import MOST_SLICES, HighestMean

Fit = Callable[[NDArray[np.int64], NDArray[np.int64]], Floats]

USUAL = "the mean of the 3 highest slices"
RULES = {
    USUAL: HighestMean(highest=3),
    "the highest slice": HighestMean(highest=1),
    "the mean of the 8 highest slices": HighestMean(highest=8),
    "the mean of the 3 highest slices, each averaged with its neighbours": HighestMean(highest=3, width=3),
    f"the mean of the {MOST_SLICES} highest slices, which is that of all": HighestMean(highest=MOST_SLICES),
}
# chosen among seven by cross-validation over 62 training scans, of which it was the best
PROJECTED, WIDTH, EPOCHS, RATE, DECAY, DROPOUT = 128, 32, 150, 3e-3, 0.3, 0.3
SLICE_LOSS, SEEDS = 5.0, 3
FLOOR = 0.1  # of the branch's mean deviation, as the probe has it


class Series:
    """The slices of each scan, in the order of their numbers."""

    def __init__(self, group: NDArray[np.str_], number: Floats) -> None:
        names, codes = np.unique(group, return_inverse=True)
        self.rows = [np.flatnonzero(codes == code) for code in range(len(names))]
        self.rows = [rows[np.argsort(number[rows], kind="stable")] for rows in self.rows]
        self.of_row = codes
        self.place = np.zeros(len(group), np.float32)  # -1 at one end, 1 at the other
        for rows in self.rows:
            self.place[rows] = np.linspace(-1, 1, len(rows))

    def average(self, features: Tensor) -> Tensor:
        """Average the features (N, F) of each slice with those of both neighbours."""
        averaged = features.clone()
        for rows in self.rows:
            own = features[rows]
            total, count = own.clone(), torch.ones(len(rows), 1)
            for ahead, behind in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
                total[ahead] += own[behind]
                count[ahead] += 1
            averaged[rows] = total / count
        return averaged


class _Attention(nn.Module):
    """Weigh slices by gated attention; the log-odds of a scan are the weighted mean of those of its slices."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.content, self.gate = nn.Linear(features, WIDTH), nn.Linear(features, WIDTH)
        self.score, self.value = nn.Linear(WIDTH, 1, bias=False), nn.Linear(features, 1)
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.zeros_(self.score.weight)  # it starts as the mean

    def forward(self, x: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        x = self.dropout(x)
        score = self.score(self.content(x).tanh() * self.gate(x).sigmoid())[..., 0]
        value = self.value(x)[..., 0]
        return (score.masked_fill(~known, -torch.inf).softmax(1) * value).sum(1), value


def attend(features: Tensor, mirrored: Tensor, label: NDArray[np.int64], series: Series, *, split: int) -> Fit:
    """Give every slice the log-odds that attention gives its scan, learned of scans and, beside, of slices.

    Parameters
    ----------
    features, mirrored : (N, F), of slices as they are and mirrored. split : how many are the CNN's.
    """
    place = torch.from_numpy(np.stack([series.place, series.place**2], 1))

    def fit(known: NDArray[np.int64], asked: NDArray[np.int64]) -> Floats:
        project = _fit_projection(torch.cat([features[known], mirrored[known]]), split)
        own, other = (torch.cat([project(one), place], 1) for one in (features, mirrored))
        taught = [series.rows[code] for code in np.unique(series.of_row[known])]
        wanted = np.unique(series.of_row[asked])
        ask = [series.rows[code] for code in wanted]
        labels = torch.from_numpy(label).float()
        answers = np.zeros(len(ask))
        for seed in range(SEEDS):
            head = _train([_pad(own, taught), _pad(other, taught)], _pad(labels[:, None], taught)[0][..., 0], seed)
            with torch.no_grad():
                answers += head(*_pad(own, ask))[0].numpy() / SEEDS
        found = np.zeros(len(series.rows))
        found[wanted] = answers
        return np.asarray(found[series.of_row[asked]])

    return fit


def _fit_projection(taught: Tensor, split: int) -> Callable[[Tensor], Tensor]:
    """Fit a projection to whitened principal components."""
    values = taught.double()
    mean, deviation = values.mean(0), values.std(0)
    parts = (deviation[:split], deviation[split:])
    deviation = torch.cat([part.clamp_min(FLOOR * float(part.mean())) for part in parts])
    scaled = (values - mean) / deviation
    variance, axes = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
    axes = axes[:, -PROJECTED:] / variance[-PROJECTED:].sqrt()
    return lambda x: (((x.double() - mean) / deviation) @ axes).float()


def _pad(x: Tensor, scans: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, scans))
    padded, known = torch.zeros(len(scans), longest, x.shape[1]), torch.zeros(len(scans), longest, dtype=torch.bool)
    for scan, rows in enumerate(scans):
        padded[scan, : len(rows)], known[scan, : len(rows)] = x[rows], True
    return padded, known


def _train(views: list[tuple[Tensor, Tensor]], slices: Tensor, seed: int) -> _Attention:
    torch.manual_seed(seed)
    head = _Attention(views[0][0].shape[2])
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=DECAY)
    scans = slices.amax(1)
    for _ in range(EPOCHS):
        loss = torch.zeros(())
        for x, known in views:
            answer, value = head(x, known)
            loss = loss + _cross_entropy(answer, scans)
            loss = loss + SLICE_LOSS * _cross_entropy(value[known], slices[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.eval()


def _cross_entropy(log_odds: Tensor, label: Tensor) -> Tensor:
    """The cross-entropy with balanced classes."""
    return F.binary_cross_entropy_with_logits(log_odds, label, pos_weight=(1 - label).sum() / label.sum())


def measure_scan_rules(
    scored: dict[str, Floats], beside: dict[str, str], label: NDArray[np.int64], series: Series
) -> dict[str, Any]:
    """Measure the AUROC of scans by each rule, averaged over repeats, with intervals over patients.

    Parameters
    ----------
    scored : by name, slices' log-odds (repeats, N). The first are judged by all rules, the others by the usual one.
    beside : by name, with which other of them it is compared.
    """
    first = next(iter(scored))
    judged = {f"{first}: {words}": (scored[first], rule, f"{first}: {USUAL}") for words, rule in RULES.items()}
    usual = f"{first}: {USUAL}"
    judged |= {
        name: (values, RULES[USUAL], usual if beside[name] == first else beside[name])
        for name, values in scored.items()
        if name != first
    }
    positive = np.array([label[rows].max() for rows in series.rows])
    weights = draw_weights(len(positive))
    found = {}
    for name, (values, rule, _) in judged.items():
        pooled = [np.array([rule.judge(one[rows]).log_odds for rows in series.rows]) for one in values]
        found[name] = np.mean([[weigh(positive, one, weight) for weight in weights] for one in pooled], axis=0)
    result: dict[str, Any] = {}
    for name, (_, _, other) in judged.items():
        result[name] = {"auroc": summarise(found[name])}
        if other != name:
            result[name]["difference"] = summarise(found[name] - found[other]) | {"other": other}
    return result


def write_scan_rules(measured: dict[str, Any]) -> str:
    """Write the table of the rules."""
    lines = ["", "| how a scan is judged | AUROC by scan | minus | of |", "|---|---|---|---|"]
    for name, one in measured.items():
        minus = one.get("difference")
        cells = ["", ""] if minus is None else [_write_interval(minus, "+"), minus["other"]]
        lines.append(f"| {name} | {' | '.join([_write_interval(one['auroc'], ''), *cells])} |")
    return "\n".join(lines) + "\n"


def _write_interval(one: dict[str, Any], sign: str) -> str:
    return f"{one['value']:{sign}.3f} [{one['low']:{sign}.3f}, {one['high']:{sign}.3f}]"
