"""Small marks on a canvas: scales, ticks, axes, markers, whiskers, written as inline SVG text.

plots.py says what is drawn; colours are CSS classes (style.py), so that light, dark and print share one drawing.
All lengths are px of the viewBox, which is shown at about its own size: text stays readable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

FONT_PX = 12
CHAR_PX = 6.6  # mean width of a character at FONT_PX
SERIES = 7  # colours s0..s6, each with its own dash and marker shape
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "1 2.5", "12 4")


@dataclass(frozen=True)
class Scale:
    """Values to px, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where ``value`` lies."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        at = math.log(value) if self.log else value
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, about: int) -> list[float]:
        """Round values inside the scale, about that many."""
        return _log_ticks(self.low, self.high, about) if self.log else nice_ticks(self.low, self.high, about)


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between ``low`` and ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * k for k in (1, 2, 5, 10) if power * k >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float, about: int) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{factor}e{power}") for power in powers for factor in factors]
        inside = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if len(inside) <= about + 1:
            break
    return inside[:: max(1, math.ceil(len(inside) / (about + 1)))]


def short(value: float) -> str:
    """A number for a tick or a label: 0.05, 1,200, 50k, 2e-05."""
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e7:
        return f"{value:.0e}"
    if size >= 10_000:
        return f"{value / 1000:,.4g}k"
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def whole(value: float, *, signed: bool = False) -> str:
    """A number without decimals; nothing is less than zero by nothing."""
    text = f"{value:+.0f}" if signed else f"{value:.0f}"
    return "0" if text in ("-0", "+0") else text


@dataclass
class Canvas:
    """An SVG under construction."""

    width: float
    height: float
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str, dash: str = "") -> None:
        """A straight line of CSS class ``kind``."""
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"{dashed}/>')

    def path(self, points: Sequence[tuple[float, float]], kind: str, dash: str = "") -> None:
        """A polyline through ``points``."""
        if len(points) < 2:
            return
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M{steps}" class="{kind}" fill="none"{dashed}/>')

    def area(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """A filled polygon."""
        steps = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path d="M{steps}Z" class="{kind}"/>')

    def rect(self, x: float, y: float, width: float, height: float, kind: str, hint: str = "") -> None:
        """A bar; ``hint`` shows when pointed at."""
        title = f"<title>{escape(hint)}</title>" if hint else ""
        size = f'width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}"'
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="{kind}">{title}</rect>')

    def text(self, x: float, y: float, words: str, kind: str = "t", anchor: str = "start") -> None:
        """Words with their baseline at ``y``."""
        side = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}"{side}>{escape(words)}</text>')

    def marker(self, x: float, y: float, shape: int, kind: str, size: float = 4.0, hint: str = "") -> None:
        """A mark: 0 disc, 1 square, 2 triangle, 3 diamond, 4 cross, 5 ring, 6 bar."""
        r = size
        outlines = {
            0: f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0Z",
            1: f"M{x - r:.1f} {y - r:.1f}h{2 * r}v{2 * r}h{-2 * r}Z",
            2: f"M{x:.1f} {y - 1.2 * r:.1f}l{1.15 * r:.2f} {2 * r:.2f}h{-2.3 * r:.2f}Z",
            3: f"M{x:.1f} {y - 1.3 * r:.1f}l{1.3 * r:.2f} {1.3 * r:.2f}l{-1.3 * r:.2f} {1.3 * r:.2f}"
            f"l{-1.3 * r:.2f} {-1.3 * r:.2f}Z",
            4: f"M{x - r:.1f} {y - r:.1f}l{2 * r} {2 * r}m0 {-2 * r}l{-2 * r} {2 * r}",
            5: f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0Z",
            6: f"M{x:.1f} {y - 1.4 * r:.1f}v{2.8 * r:.2f}",
        }
        drawn = " hollow" if shape in (4, 5, 6) else ""
        title = f"<title>{escape(hint)}</title>" if hint else ""
        self.parts.append(f'<path d="{outlines[shape % SERIES]}" class="m {kind}{drawn}">{title}</path>')

    def whisker(self, x: Scale, y: float, low: float, value: float, high: float, kind: str, shape: int = 0) -> None:
        """An interval with its estimate."""
        left, right = x(low), x(high)
        self.line(left, y, right, y, f"w {kind}")
        for end in (left, right):
            self.line(end, y - 4, end, y + 4, f"w {kind}")
        self.marker(x(value), y, shape, kind, 4.5)

    def x_axis(self, x: Scale, top: float, bottom: float, about: int = 5, unit: str = "") -> None:
        """Vertical grid lines with their values under them and ``unit`` at the right end below."""
        for tick in x.ticks(about):
            self.line(x(tick), top, x(tick), bottom, "g")
            self.text(x(tick), bottom + 15, short(tick), anchor="middle")
        self.line(x.start, bottom, x.end, bottom, "a")
        if unit:
            self.text(x.end, bottom + 31, unit, "t u", "end")

    def y_axis(self, y: Scale, left: float, right: float, about: int = 4) -> None:
        """Horizontal grid lines with their values at their left."""
        for tick in y.ticks(about):
            self.line(left, y(tick), right, y(tick), "g")
            self.text(left - 9, y(tick) + 4, short(tick), anchor="end")

    def svg(self, name: str, title: str, description: str) -> str:
        """The whole drawing, with what a screen reader says of it."""
        labels = f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(description)}</desc>'
        box = f'viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        return (
            f'<svg {box} role="img" aria-labelledby="{name}-t {name}-d" font-size="{FONT_PX}">'
            f"{labels}{''.join(self.parts)}</svg>"
        )


def clip_text(words: str, width_px: float) -> str:
    """Words cut to a width, the cut shown."""
    room = max(3, int(width_px / CHAR_PX))
    return words if len(words) <= room else words[: room - 1] + "\u2026"
