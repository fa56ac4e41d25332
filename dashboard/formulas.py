"""LaTeX of models, as far as it may be drawn: plain mathematics of a small size. Pure.

MathJax has commands that make links, styles and macros without end. So a formula is drawn only if each of its
commands is one of these; any other formula stays its source.
"""

from __future__ import annotations

import re

from dash import dcc, html
from dash.development.base_component import Component

from dashboard.panel import attrs
from dashboard.visible import has_hidden, pieces

LONGEST = 2_000
"""Characters of one formula."""
DEEPEST = 12
"""Groups within groups: the time that MathJax takes grows with them."""
MOST, EACH = 15_000, 100
"""What a page's formulas may cost: their characters, so many more for each, and a share of their text."""
INLINE = 120
"""A longer formula has a line of its own, which scrolls."""

_COMMANDS = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa varkappa lambda mu nu xi
omicron pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi
Pi Sigma Upsilon Phi Psi Omega digamma aleph beth hbar hslash ell wp Re Im imath jmath partial nabla infty
emptyset varnothing complement forall exists nexists neg lnot land lor wedge vee top bot vdash dashv models
prime backprime angle measuredangle sphericalangle triangle square blacksquare Box Diamond diamond star
bigstar bullet circ bigcirc checkmark dagger ddagger clubsuit diamondsuit heartsuit spadesuit sharp flat
natural surd eth circledR yen S sum prod coprod int iint iiint oint bigcup bigcap bigvee bigwedge bigoplus
bigotimes bigodot biguplus bigsqcup pm mp times div cdot ast oplus ominus otimes oslash odot cup cap uplus
sqcup sqcap setminus smallsetminus wr amalg ltimes rtimes boxplus boxminus boxtimes le leq leqslant leqq ge
geq geqslant geqq ne neq ll gg lll ggg lt gt equiv approx approxeq sim simeq cong propto asymp doteq
triangleq prec preceq succ succeq subset subseteq subsetneq supset supseteq supsetneq in notin ni owns mid
nmid parallel nparallel perp not nless ngtr nleq ngeq nsim ncong nsubseteq lesssim gtrsim vDash Vdash
between trianglelefteq vartriangle bowtie smile frown therefore because to gets rightarrow leftarrow
leftrightarrow Rightarrow Leftarrow Leftrightarrow longrightarrow longleftarrow longleftrightarrow
Longrightarrow Longleftarrow Longleftrightarrow mapsto longmapsto hookrightarrow hookleftarrow uparrow
downarrow updownarrow Uparrow Downarrow Updownarrow nearrow searrow swarrow nwarrow iff implies impliedby
rightharpoonup leftharpoonup rightleftharpoons rightleftarrows twoheadrightarrow nrightarrow nRightarrow
leadsto xrightarrow xleftarrow dots ldots cdots vdots ddots dotsb dotsc dotsi dotsm dotso colon backslash
lbrace rbrace lbrack rbrack lceil rceil lfloor rfloor langle rangle vert Vert lvert rvert lVert rVert left
right middle big Big bigg Bigg bigl Bigl biggl Biggl bigr Bigr biggr Biggr bigm Bigm biggm Biggm frac dfrac
tfrac cfrac binom dbinom tbinom sqrt root of over choose atop stackrel overset underset substack boxed fbox
hat widehat bar overline underline vec dot ddot dddot tilde widetilde acute grave check breve mathring
overbrace underbrace overrightarrow overleftarrow overleftrightarrow sin cos tan cot sec csc arcsin arccos
arctan sinh cosh tanh coth log ln lg exp lim limsup liminf max min sup inf arg deg det dim gcd hom ker Pr
bmod pmod mod pod operatorname limits nolimits mathrm mathbf mathit mathsf mathtt mathcal mathbb mathfrak
mathscr rm bf it cal mathop mathrel mathbin mathord mathopen mathclose mathpunct mathinner text textbf
textit textrm textsf texttt mbox displaystyle textstyle scriptstyle scriptscriptstyle quad qquad enspace
thinspace negthinspace phantom hphantom vphantom begin end hline tag notag nonumber
"""
COMMANDS = frozenset(_COMMANDS.split())
_ENVIRONMENTS = """
align align* aligned array bmatrix Bmatrix cases eqnarray eqnarray* equation equation* gather gather*
gathered matrix multline multline* pmatrix smallmatrix split vmatrix Vmatrix
"""
ENVIRONMENTS = frozenset(_ENVIRONMENTS.split())
_SIGNS = frozenset("\\,;:!>{}%$#&_| ")
"""What may follow a backslash beside a name. `(` and `[` would begin a formula within the formula."""
_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))
_TOKEN = re.compile(r"\\([a-zA-Z]+)|\\(.|\Z)|([{}%#$])")
_ENVIRONMENT = re.compile(r"\s*\{([a-zA-Z]+\*?)\}")
_FAR = re.compile(r"\\\\\s*\[(?!\s*\d?\d?(\.\d+)?(pt|px|mm|ex)\s*\]|\s*\d?(\.\d+)?(em|cm)\s*\])")
"""A new line far below, or what is no distance."""
_DEPTH = {"{": 1, "left": 1, "begin": 1, "}": -1, "right": -1, "end": -1}


def tex(source: str) -> tuple[str, bool] | None:
    """What MathJax may draw of a formula, in one line, and whether it is displayed; None: nothing.

    Args:
        source: with its delimiters; a `\\boxed{}` or an environment needs none.
    """
    body, display = _undelimited(source.strip())
    body = " ".join(body.split())
    if not body or len(body) > LONGEST or has_hidden(source) or not _is_plain(body):
        return None
    return body, display or len(body) > INLINE


class Formulas:
    """Draws the formulas of one page, until they are many: a browser takes 10 ms for each or more."""

    def __init__(self) -> None:
        self._left = MOST

    def draw(self, source: str, within: int) -> Component | None:
        """A formula, or its source set apart; None: the page has so many that the rest is text.

        Args:
            source: with its delimiters.
            within: length of the text in which it stands, which a browser lays out anew for each formula.
        """
        if self._left < len(source):
            return None
        self._left -= len(source) + EACH + within // 200
        apart = list(pieces(source))
        if (found := tex(source)) is None:
            return html.Code(apart, className="math")
        body, display = found
        # What Markdown reads is one formula: `tex` lets no `$` in that ends it.
        drawn = dcc.Markdown(f"$$\n{body}\n$$" if display else f"${body}$", mathjax=True)
        # The source is there for whoever copies it; and it is shown where MathJax finds a fault.
        return html.Span(
            [html.Code(apart, className="math"), drawn],
            className="formula",
            **attrs(data_display="" if display else None),
        )


def _undelimited(source: str) -> tuple[str, bool]:
    for begin, end in _DELIMITERS:
        if source.startswith(begin) and source.endswith(end) and len(source) > len(begin) + len(end):
            return source[len(begin) : -len(end)], begin in ("$$", "\\[")
    return source, source.startswith("\\begin")


def _is_plain(body: str) -> bool:
    """Every command is one that only draws, and groups are closed and few deep."""
    depth = 0
    for token in _TOKEN.finditer(body):
        name, sign, bare = token.groups()
        known = name in COMMANDS if name else sign is None or sign in _SIGNS
        if not known or bare in ("%", "#", "$"):
            return False
        if name in ("begin", "end"):
            environment = _ENVIRONMENT.match(body, token.end())
            if environment is None or environment[1] not in ENVIRONMENTS:
                return False
        depth += _DEPTH.get(name or bare or "", 0)
        if not 0 <= depth <= DEEPEST:
            return False
    return depth == 0 and not _FAR.search(body)
