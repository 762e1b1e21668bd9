"""Lines, dots and texts on white, drawn by Pillow or written as SVG: in a tenth of the time that matplotlib takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Pixels in one, along each side, that lines are drawn in; dots, which are few, are drawn finer.
_FINE, _FINER = 3, 8
_WIDTH = (
    2 / _FINE
)  # of a line: Pillow goes there and back in the time that it takes for a tenth of a wider one


@dataclass(frozen=True, slots=True)
class Lines:
    """Straight lines of one strength; ends ``[L, 4]`` are x and y of both in pixels, colours ``[L, 3]`` in [0, 1].

    Attributes:
        ends: See above.
        colours: See above.
        alpha: How far each covers what is below it, in [0, 1].
    """

    ends: np.ndarray
    colours: np.ndarray
    alpha: float


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text: the middle of its left end, in pixels from the upper left corner, and its height."""

    x: float
    y: float
    text: str
    size: float
    grey: float = 0.0


@dataclass(frozen=True, slots=True)
class Drawing:
    """A square of so many pixels, and what is on it from below to above; y points down.

    Attributes:
        side: Of the square.
        lines: Two thirds of a pixel wide.
        places: Of dots, ``[n, 2]``.
        colours: Of the dots, ``[n, 3]`` in [0, 1].
        radius: Of the dots, which have a white rim.
        texts: Above all.
    """

    side: int
    lines: Sequence[Lines]
    places: np.ndarray
    colours: np.ndarray
    radius: float
    texts: Sequence[Text]

    def image(self) -> np.ndarray:
        """``[H, W, 3]`` uint8. Cost: O(lines + dots + pixels), some 30 ms for 3,000 lines."""
        fine = Image.new("RGB", (_FINE * self.side, _FINE * self.side), "white")
        draw = ImageDraw.Draw(fine, "RGBA")  # so that a line mixes with what is below it
        for lines in self.lines:
            inks = _inks(lines.colours, lines.alpha)
            ends = _FINE * lines.ends
            there_and_back = np.hstack([ends, (ends + _across(ends))[:, [2, 3, 0, 1]]])
            for line, ink in zip(there_and_back.tolist(), inks, strict=True):
                draw.line(line, fill=ink)
        image = fine.reduce(_FINE)
        dots: dict[tuple[int, ...], Image.Image] = {}
        for (x, y), ink in zip(self.places.tolist(), _inks(self.colours), strict=True):
            dot = dots.get(ink) or dots.setdefault(ink, _dot(self.radius, ink))
            image.paste(dot, (round(x - dot.width / 2), round(y - dot.height / 2)), dot)
        draw = ImageDraw.Draw(image)
        for text in self.texts:
            font = ImageFont.load_default(text.size)
            draw.text((text.x, text.y), text.text, fill=(round(255 * text.grey),) * 3, font=font, anchor="lm")
        return np.asarray(image)

    def svg(self) -> str:
        """The same as a file of text."""
        side = self.side
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" viewBox="0 0 {side} {side}">',
            '<rect width="100%" height="100%" fill="white"/>',
        ]
        for lines in self.lines:
            parts.append(f'<g stroke-width="{_WIDTH:.2f}" stroke-opacity="{lines.alpha:.3f}">')
            for ends, ink in zip(lines.ends.tolist(), _inks(lines.colours), strict=True):
                path = "M{:.1f} {:.1f}L{:.1f} {:.1f}".format(*ends)
                parts.append(f'<path d="{path}" stroke="#{bytes(ink).hex()}"/>')
            parts.append("</g>")
        parts.append(f'<g stroke="white" stroke-width="{_rim(self.radius):.2f}">')
        for (x, y), ink in zip(self.places.tolist(), _inks(self.colours), strict=True):
            fill = bytes(ink).hex()
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{self.radius:.2f}" fill="#{fill}"/>')
        parts.append('</g><g font-family="sans-serif" dominant-baseline="central">')
        for text in self.texts:
            grey = bytes([round(255 * text.grey)] * 3).hex()
            place = f'x="{text.x:g}" y="{text.y:g}" font-size="{text.size:g}" fill="#{grey}"'
            parts.append(f"<text {place}>{escape(text.text)}</text>")
        return "\n".join([*parts, "</g>", "</svg>", ""])


def _inks(colours: np.ndarray, *alpha: float) -> list[tuple[int, ...]]:
    """Integers up to 255, with that of an alpha at the end where there is one."""
    channels = [*colours.T, *(np.full(len(colours), a) for a in alpha)]
    return [tuple(ink) for ink in np.rint(255 * np.stack(channels, axis=1)).astype(int).tolist()]


def _across(ends: np.ndarray) -> np.ndarray:
    """A pixel across the longer axis of each line, ``[L, 4]``."""
    x, y = np.abs(ends[:, 2:] - ends[:, :2]).T
    return np.tile(np.stack([y > x, y <= x], axis=1), 2)


def _rim(radius: float) -> float:
    return min(1.2, 0.25 * radius)


def _dot(radius: float, ink: tuple[int, ...]) -> Image.Image:
    """A dot with its rim on nothing, to be pasted."""
    outer = radius + _rim(radius) / 2
    side = 2 * (int(outer) + 1)
    fine = Image.new("RGBA", (_FINER * side, _FINER * side), (255, 255, 255, 0))
    draw, middle = ImageDraw.Draw(fine), _FINER * side / 2
    for r, fill in ((outer, (255, 255, 255, 255)), (outer - _rim(radius), (*ink, 255))):
        ends = middle - _FINER * r, middle + _FINER * r - 1
        draw.ellipse((ends[0], ends[0], ends[1], ends[1]), fill=fill)
    return fine.reduce(_FINER)
