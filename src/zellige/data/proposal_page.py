"""The page of suggested images: what was counted, and a contact sheet with the proposed labels, in order."""

from collections.abc import Sequence
from html import escape

from zellige.data.annotations import AnnotatedImage
from zellige.data.label_sheet import SHEET_CSS, draw_in_order
from zellige.evaluation.html import html_page

MOST_SHOWN = 100
"""Images on the sheet; the page has them inside."""


def proposal_page(
    title: str,
    lines: Sequence[str],
    warnings: Sequence[str],
    images: Sequence[AnnotatedImage],
    kinds: Sequence[str],
    words: Sequence[str],
) -> str:
    """Write the page; it loads nothing and runs nothing.

    Args:
        title: of the page.
        lines: what was counted, in words.
        warnings: what to look at.
        images: in the order of their ranks.
        kinds: of all labels.
        words: of each image.

    Raises:
        InputError: an image that cannot be read any more.
    """
    cautions = "".join(f"<p>{escape(text)}</p>" for text in warnings)
    shown = min(len(images), MOST_SHOWN)
    part = f" The first {shown} of {len(images)}." if shown < len(images) else ""
    parts = [
        f"<style>{SHEET_CSS}</style>",
        f"<header><h1>{escape(title)}</h1></header>",
        "".join(f"<p>{escape(text)}</p>" for text in lines),
        f'<div class="note warn">{cautions}</div>' if cautions else "",
        f"<h2>Contact sheet</h2><p class='muted'>{_LEGEND}{part}</p>",
        draw_in_order(images[:shown], kinds, words[:shown]),
    ]
    return html_page(title, parts)


_LEGEND = (
    "Outlines are proposals of the detector, not labels: correct them, and delete those that are wrong. An image "
    "without an outline is proposed as good."
)
