"""Colors of table cells, in light and in dark.

A cell has the class of its step ("d0" to "d10", "s0" to "s8"); the page's style gives every step
its color and a text color that can be read on it, once for light screens and paper and once for
dark screens, where a pale cell would glare.
"""

DIVERGING = [
    "#8e0b52",
    "#b3277a",
    "#d566a6",
    "#eeaed3",
    "#fbe6f1",
    "#f5f5f2",
    "#e3f1cf",
    "#b0dc82",
    "#7fb94c",
    "#55a033",
    "#28641e",
]
"""From never to always cooperating, in the colors of the joint outcomes."""
DIVERGING_DARK = [
    "#c93a8b",
    "#a52e73",
    "#81285c",
    "#5d2346",
    "#402436",
    "#2c333b",
    "#2c3d26",
    "#35562a",
    "#3f6f2f",
    "#4a8a36",
    "#57a53f",
]
SEQUENTIAL = [
    "#f1f5fa",
    "#dce8f3",
    "#c3d8ea",
    "#a3c4df",
    "#7eabd1",
    "#5a90bf",
    "#3d74a8",
    "#285989",
    "#173f68",
]
"""From the least to the greatest payoff."""
SEQUENTIAL_DARK = [
    "#1d2732",
    "#1f3042",
    "#213b54",
    "#244868",
    "#28567e",
    "#2e6696",
    "#3a79ae",
    "#5290c6",
    "#74aadb",
]
SCALES = {"d": (DIVERGING, DIVERGING_DARK), "s": (SEQUENTIAL, SEQUENTIAL_DARK)}
"""Letter of a scale's classes: its colors on light and on dark screens."""
DARK_INK, LIGHT_INK = "#0d1014", "#ffffff"


def step(value: float, low: float, high: float, scale: str) -> str:
    """The class of a cell: "d7" for a value at seven tenths of `low` to `high`."""
    last = len(SCALES[scale][0]) - 1
    place = (value - low) / (high - low) if high > low else 0.0
    return f"{scale}{round(min(max(place, 0.0), 1.0) * last)}"


def ink(color: str) -> str:
    """The text color that can be read on a color."""
    red, green, blue = (int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5))
    luminance = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    # The contrast with the dark ink is (L + 0.05) / 0.055, with white 1.05 / (L + 0.05).
    return DARK_INK if (luminance + 0.05) ** 2 > 0.055 * 1.05 else LIGHT_INK


def style() -> str:
    """CSS of all steps of all scales."""
    light = [_rule(scale, i, c) for scale, (colors, _) in SCALES.items() for i, c in _each(colors)]
    dark = [_rule(scale, i, c) for scale, (_, colors) in SCALES.items() for i, c in _each(colors)]
    return "\n".join(
        [
            *light,
            "@media screen and (prefers-color-scheme: dark) {",
            *(f":root:not([data-theme=light]) {rule}" for rule in dark),
            "}",
        ]
    )


def _each(colors: list[str]) -> list[tuple[int, str]]:
    return list(enumerate(colors))


def _rule(scale: str, number: int, color: str) -> str:
    return f".{scale}{number} {{ background-color: {color}; color: {ink(color)}; }}"
