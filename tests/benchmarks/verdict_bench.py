"""``make bench ROWS=verdict``: simulations of the gate, the anytime test, a year of nights and Wilson's interval."""

from __future__ import annotations

from tests.benchmarks.rows import row
from tests.evaluate.simulated import anytime, gate_error, ratio_to_exact, wilson_coverage, years

COMPARISONS = 10_000
YEARS = 2_000


def _errors() -> None:
    for n in (50, 100):
        for rate in (0.5, 0.8, 0.95):
            name = f"{n}-{rate:g}"

            @row("bench", f"verdict-error-fixed-{name}", f"share of {COMPARISONS} equal pairs promoted", "<= 0.05")
            def fixed(n: int = n, rate: float = rate) -> float:
                return gate_error(rate, n, COMPARISONS)

            @row("bench", f"verdict-error-anytime-{name}", "the same with a look after every pair", "<= 0.05")
            def looks(n: int = n, rate: float = rate) -> float:
                return sum(anytime(rate, rate, n, COMPARISONS)[:2])


def _costs() -> None:
    for rate, champion, bound in ((0.85, 0.70, 0.60), (0.85, 0.75, 0.70), (0.85, 0.55, 0.70)):
        gain = round(100 * (rate - champion))

        @row(
            "bench",
            f"verdict-episodes-gain-{gain}",
            f"expected episodes of {champion} to {rate} as a share of the exact test's, both of power 0.95",
            f"<= {bound}",
        )
        def cost(rate: float = rate, champion: float = champion) -> float:
            return ratio_to_exact(rate, champion)

    @row("bench", "verdict-episodes-gain-0", "expected episodes of 0.8 to 0.8, share of a budget of 211", "<= 1")
    def equal() -> float:
        return anytime(0.8, 0.8, 211, COMPARISONS)[2] / 211


def _years() -> None:
    for rate in (0.5, 0.8, 0.95):

        @row("bench", f"verdict-year-equal-{rate:g}", f"share of {YEARS} years with a wrong promotion", "<= 0.05")
        def equal(rate: float = rate) -> float:
            return years(rate, rate, 200, 0, YEARS)[0]

    cases = [(0.8, 0.9, 200, start, ">= 0.8") for start in (1, 180)]  # the others are shown, not demanded
    cases += [(c, r, n, start, ">= 0") for c, r, n in ((0.5, 0.6, 200), (0.8, 0.9, 50)) for start in (1, 180)]
    for champion, rate, n, start, bound in cases:

        @row(
            "bench",
            f"verdict-year-{champion:g}-{rate:g}-{n}-{start}",
            f"share of {YEARS} years in which {rate:g} from night {start} replaces {champion:g} in 14 nights of {n}",
            bound,
        )
        def found(champion: float = champion, rate: float = rate, n: int = n, start: int = start) -> float:
            return years(champion, rate, n, start, YEARS, nights=start + 13)[1]


def _wilson() -> None:
    for n in (50, 100, 200):
        for rate in (0.5, 0.8, 0.95):

            @row("bench", f"verdict-wilson-{n}-{rate:g}", "chance that the 95 % interval holds the rate", ">= 0.92")
            def covered(n: int = n, rate: float = rate) -> float:
                return wilson_coverage(rate, n)


_errors()
_costs()
_years()
_wilson()
