"""One module for each format of rollout files. The first in the table that claims a file reads it."""

from __future__ import annotations

from producers.rollouts.formats.areal import Areal
from producers.rollouts.formats.art import Art
from producers.rollouts.formats.atropos import Atropos
from producers.rollouts.formats.ms_swift import MsSwift
from producers.rollouts.formats.nemo_gym import NemoGym
from producers.rollouts.formats.nemo_rl import NemoRl
from producers.rollouts.formats.numbers import NumbersLog
from producers.rollouts.formats.open_instruct import OpenInstruct
from producers.rollouts.formats.prime_tokens import PrimeTokens
from producers.rollouts.formats.rllm import Rllm
from producers.rollouts.formats.skyrl import SkyRl
from producers.rollouts.formats.tinker import TinkerCapture, TinkerEval, TinkerSummaries
from producers.rollouts.formats.trackio import Trackio
from producers.rollouts.formats.trl import Trl
from producers.rollouts.formats.verifiers import PrimeRl, Verifiers
from producers.rollouts.formats.verifiers_legacy import VerifiersLegacy
from producers.rollouts.formats.verl import Verl
from producers.rollouts.model import Format

FORMATS: tuple[Format, ...] = (
    PrimeRl(),
    Verifiers(),
    VerifiersLegacy(),
    PrimeTokens(),
    NemoGym(),
    NemoRl(),
    SkyRl(),
    Verl(),
    MsSwift(),
    Trl(),
    OpenInstruct(),
    Areal(),
    Rllm(),
    Atropos(),
    Art(),
    TinkerSummaries(),
    TinkerEval(),
    TinkerCapture(),
    Trackio(),
    NumbersLog(),
)

LEFT_OUT = {
    "metadata.json": "facts about an evaluation, read with its results",
    "config.json": "settings of a run",
    "tokenizer.json": "a tokenizer, which turns the token ids beside it into text",
    "STABLE": "a mark that a step is whole",
    "timing_spans.jsonl": "times of the trainer's parts",
    "trace_events.jsonl": "times of the trainer's parts",
}
"""Files beside rollouts that hold none, by name: what they are."""
