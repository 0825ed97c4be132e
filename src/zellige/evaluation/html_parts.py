"""Parts that the pages of reports are put together from."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any


def card(what: str, number: str, words: str) -> str:
    """One number with what it is and what it says.

    Example:
        >>> card("Escapes", "2 %", "1 of 50").startswith('<div class="card"><div class="what">Escapes</div>')
        True
    """
    return (
        f'<div class="card"><div class="what">{escape(what)}</div><div class="number">{escape(number)}</div>'
        f'<div class="words">{escape(words).replace(" %", "&nbsp;%")}</div></div>'
    )


def right_words(rate: Mapping[str, Any]) -> str:
    """Say how many images are right, with the exact interval; nothing where there are none.

    Example:
        >>> right_words({"value": 0.5, "low": 0.1, "high": 0.9, "n": 4})
        '2 of 4 images: between 10 % and 90 %'
    """
    if not rate["n"]:
        return ""
    right = round(rate["value"] * rate["n"])
    return f"{right} of {rate['n']} images: between {percent(rate['low'])} and {percent(rate['high'])}"


def accuracy_card(what: str, rate: Mapping[str, Any], more: str = "") -> str:
    """Show the share of images that are right; `more` follows the words, and stands alone where n is 0.

    Args:
        rate: value, low, high and n.

    Example:
        >>> words = accuracy_card("Kinds", {"value": 0.5, "low": 0.1, "high": 0.9, "n": 4})
        >>> "2 of 4 images: between 10&nbsp;% and 90&nbsp;%" in words
        True
    """
    return card(what, percent(rate["value"]), right_words(rate) + more)


def figures(folder: Path, captions: dict[str, str]) -> str:
    """Embed those of the named PNG files that are in the folder, each with its caption.

    Raises:
        OSError: a picture cannot be read.
    """
    parts = []
    for name, caption in captions.items():
        path = folder / f"{name}.png"
        if not path.is_file():
            continue
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{content}">'
        parts.append(f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>")
    return "".join(parts)


def percent(share: float | None) -> str:
    """Say a share of 1 with one digit, or two next to 0 and 100.

    Example:
        >>> percent(0.0381), percent(1.0), percent(0.0004), percent(None)
        ('3.8 %', '100 %', '0.04 %', '–')
    """
    if share is None:
        return "–"
    value = 100 * share
    digits = 2 if 0 < value < 0.1 or 99.9 < value < 100 else 1
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.')} %"
