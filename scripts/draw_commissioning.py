"""Draw the pictures of docs/guide/commissioning.md from the synthetic web: flat field, edges, target.

The camera and its light are made up; estimate, correction and edges are those of the station.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from zellige.core.flat_field import apply_flat_field, prepare
from zellige.core.flat_field_estimate import estimate_flat_field
from zellige.core.profile_drift import column_profile
from zellige.core.types import Color, Pixels
from zellige.core.web import Background, EdgeRule, find_web
from zellige.data.synthetic_camera import SyntheticWeb, lines
from zellige.data.synthetic_edges import edge_shift_px, on_background
from zellige.data.synthetic_materials import Material

WEB = SyntheticWeb(material=Material.FABRIC, color=Color.GRAY)
WIDTH = WEB.width
TARGET_DN = 180
BLUE, RED, GRAY = "#1f5f8b", "#c0392b", "#8a8a8a"


def camera(level_dn: np.ndarray, seed: int) -> Pixels:
    """See gray levels (H, W) by a camera with a dim right half, uneven columns and an offset."""
    columns = np.arange(WIDTH)
    lamp = 1 - 0.45 * ((columns - 0.3 * WIDTH) / WIDTH) ** 2 - 0.12 / (1 + np.exp((0.7 * WIDTH - columns) / 8))
    uneven = np.random.default_rng(0).normal(1, 0.007, WIDTH)
    noise = np.random.default_rng(seed).normal(0, 1.5, level_dn.shape)
    return np.clip(np.rint(6 + level_dn * lamp * uneven + noise), 0, 255).astype(np.uint8)


def show(axis: Axes, image: Pixels, title: str) -> None:
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto")
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_xticks([]), axis.set_yticks([])


def draw_flat_field(path: Path) -> None:
    dark, bright = camera(np.zeros((256, WIDTH)), 1), camera(np.full((256, WIDTH), 140.0), 2)
    flat_field = estimate_flat_field(dark, bright, target_dn=TARGET_DN)
    raw = camera(lines(WEB, 0, 0, 200).astype(float) * 0.8, 3)
    corrected = apply_flat_field(raw, prepare(flat_field))
    fig, axes = plt.subplots(3, 1, figsize=(8, 5.4), height_ratios=(1, 1, 1.1), layout="constrained")
    show(axes[0], raw, "as grabbed: dim on the right, each column a little different")
    show(axes[1], corrected, "corrected: what the station and data.rolls.flat_field hand on")
    for lines_of, color, name in ((raw, GRAY, "as grabbed"), (corrected, BLUE, "corrected")):
        axes[2].plot(column_profile(lines_of), color=color, label=f"good material, {name}", linewidth=1)
    white = column_profile(apply_flat_field(bright, prepare(flat_field)))
    axes[2].plot(white, color=RED, label=f"white target, corrected: {TARGET_DN} DN", linewidth=1)
    axes[2].set(xlim=(0, WIDTH - 1), ylim=(0, 255), xlabel="column", ylabel="mean, DN")
    axes[2].legend(fontsize=8, loc="lower left", ncols=3)
    fig.savefig(path, dpi=90)


def draw_edges(path: Path) -> None:
    rule = EdgeRule(background=Background.DARK, threshold_dn=40, width_px=float(WIDTH))
    shift = np.concatenate([edge_shift_px(WEB, 0, k * WEB.height) for k in range(3)])
    seen = on_background(lines(WEB, 0, 0, 3 * WEB.height), shift, 60)
    blocks = find_web(seen, rule)
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), width_ratios=(1.2, 1), layout="constrained")
    show(left, seen, "the view, and the edges that were found")
    along = [block.center_line for block in blocks]
    for side in ("left_px", "right_px"):
        left.plot([getattr(block, side) for block in blocks], along, color=RED, linewidth=1.5)
    line = seen[10].astype(float)
    right.plot(line, color=BLUE, linewidth=0.8)
    right.axhline(rule.threshold_dn, color=RED, linewidth=1.2)
    right.text(len(line) / 2, rule.threshold_dn + 4, "threshold_dn", color=RED, ha="center", fontsize=9)
    right.set(xlim=(0, len(line)), ylim=(0, 255), xlabel="column", ylabel="DN")
    right.set_title("one line of it", fontsize=10, loc="left")
    fig.savefig(path, dpi=90)


def draw_target(path: Path) -> None:
    """A target of 100 x 100 mm at 0.25 mm: at full speed every sixth trigger is missed."""
    slow = np.full((480, 480), 215, np.uint8)
    for at in (40, 440):
        slow[at - 2 : at + 2, 20:460] = 30
        slow[20:460, at - 2 : at + 2] = 30
    kept = np.flatnonzero(np.arange(480) % 6 != 5)
    fast = np.full_like(slow, 215)
    fast[: len(kept)] = slow[kept]
    fig, axes = plt.subplots(1, 2, figsize=(7, 3.7), layout="constrained")
    for axis, image, words in ((axes[0], slow, "slow"), (axes[1], fast, "full speed: triggers are missed")):
        show(axis, image, words)
        rows = np.flatnonzero(image[:, 300] < 100)
        first, last = (float(part.mean()) for part in (rows[rows < 200], rows[rows > 200]))
        length = round(last - first)
        arrows = (((40, 230), (440, 230), 400, (320, 214), 0), ((230, first), (230, last), length, (246, 140), 90))
        for start, stop, length, place, angle in arrows:
            arrow = {"arrowstyle": "<->", "color": RED if length != 400 else BLUE, "linewidth": 1.6}
            axis.annotate("", xy=stop, xytext=start, arrowprops=arrow)
            axis.text(
                *place, f"{length} px", color=arrow["color"], rotation=angle, ha="center", va="center", fontsize=10
            )
        axis.set_aspect("equal")
    fig.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder; gets commissioning_*.png")
    out: Path = parser.parse_args().out
    draw_flat_field(out / "commissioning_flat_field.png")
    draw_edges(out / "commissioning_edges.png")
    draw_target(out / "commissioning_target.png")


if __name__ == "__main__":
    main()
