"""Which LaTeX is drawn: plain mathematics alone, of a small size; all else stays its source."""

from __future__ import annotations

import pytest
from dash import dcc, html
from hypothesis import given
from hypothesis import strategies as st

from dashboard.formulas import DEEPEST, ENVIRONMENTS, LONGEST, Formulas, tex


@pytest.mark.parametrize(
    ("source", "body", "display"),
    [
        ("$x$", "x", False),
        ("\\(\\frac{1}{2}\\)", "\\frac{1}{2}", False),
        ("$$\na\n\n= b\n$$", "a = b", True),
        ("\\[ a \\]", "a", True),
        ("\\boxed{18}", "\\boxed{18}", False),
        (
            "\\begin{align*}a &= b \\\\[2pt] c\\end{align*}",
            "\\begin{align*}a &= b \\\\[2pt] c\\end{align*}",
            True,
        ),
        ("$9 \\times \\$2 = \\$18\\%$", "9 \\times \\$2 = \\$18\\%", False),
        (
            "$\\left\\{ x \\;\\middle|\\; x < 1 \\right\\}$",
            "\\left\\{ x \\;\\middle|\\; x < 1 \\right\\}",
            False,
        ),
        ("$" + "a + " * 50 + "b$", "a + " * 50 + "b", True),
    ],
)
def test_plain_mathematics_is_drawn(source: str, body: str, display: bool) -> None:
    """The delimiters go, white space becomes one space, and a long formula has a line of its own."""
    assert tex(source) == (body, display)


@pytest.mark.parametrize(
    "body",
    [
        r"\href{javascript:alert(1)}{x}", r"\class{a}{x}", r"\style{color:red}{x}", r"\cssId{a}{x}",
        r"\data{a=b}{x}", r"\require{html}", r"\def\x{\x\x}\x", r"\newcommand{\x}{\x}\x", r"\let\x=\y",
        r"\unicode{65}", r"\mmlToken{mi}{x}", r"\color{red}{x}", r"\bbox[red]{x}", r"\rule{99em}{99em}",
        r"\hspace{999em}", r"\kern9em", r"\raise9em{x}", r"\begin{html}x\end{html}", r"\begin{array}x",
        r"\ref{a}", r"\label{a}", r"\hat\notamacro x", r"\begin array", r"\text{a \(x\)}", r"a\]b", "a\\",
        "a % b", "#1", "a $ b", "{a", "a}", "}{", r"\left( x", r"\right) \left(", r"a \\[99em] b",
        r"a \\ [9999pt] b", "\u202ea", "a\x1b[31m", "", " ", "a" * (LONGEST + 1),
        "{" * (DEEPEST + 1) + "}" * (DEEPEST + 1), r"\sqrt{" * 500 + "}" * 500,
    ],
)  # fmt: skip
def test_anything_else_stays_its_source(body: str) -> None:
    """Links, styles, macros, far moves, deep groups, hidden signs and what is not closed are not drawn."""
    for begin, end in (("$", "$"), ("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]")):
        assert tex(begin + body + end) is None


@given(st.text(alphabet="\\$[](){}<>`*_!&#%ab12 \n^|", max_size=40))
def test_markdown_reads_one_formula(text: str) -> None:
    """Whatever is drawn is one line, with no dollar that is not escaped, and ends no formula early."""
    found = tex(f"${text}$")
    if found is None:
        return
    body = found[0]
    assert "\n" not in body
    assert "$" not in body.replace("\\\\", "").replace("\\$", "")
    assert not body.replace("\\\\", "").endswith("\\")
    assert not {"\\(", "\\)", "\\[", "\\]"} & {
        body.replace("\\\\", "  ")[i : i + 2] for i in range(len(body))
    }


def test_a_page_draws_so_many() -> None:
    """After so many formulas the rest is text; each drawn one has its source beside it."""
    formulas = Formulas()
    drawn = [formulas.draw("$x$", 100) for _ in range(1000)]
    assert isinstance(drawn[0], html.Span)
    source, picture = drawn[0].children
    assert (source.children, picture.children, picture.mathjax) == (["$x$"], "$x$", True)
    assert isinstance(picture, dcc.Markdown)
    assert 50 < sum(one is not None for one in drawn) < 200
    assert isinstance(Formulas().draw("$\\href{a}{b}$", 0), html.Code)
    assert Formulas().draw("$x$", 10_000_000) is not None


def test_environments_have_no_argument_that_repeats() -> None:
    """`alignat` and its like make as many columns as they are told to."""
    assert not any("alignat" in name or "alignedat" in name for name in ENVIRONMENTS)
