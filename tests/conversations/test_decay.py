"""Decay: weights are the true powers of two but for a few roundings, and the same on every machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beepgpt.conversations.decay import DAY, DIGIT_BITS, SPAN, Decay, _tables
from beepgpt.conversations.features import HALF_LIVES
from beepgpt.simulation.export import write_export
from beepgpt.simulation.workspace import Plan
from tests.support.cli import ROOT

DAYS = sorted({*HALF_LIVES})
HALF_ULP = Decimal(2) ** -53
TIMES = st.integers(1_100_000_000_000_000, 3_000_000_000_000_000)

WITHOUT = {
    "glibc without FMA": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2,-AVX512F"},
    "NumPy without AVX": {"NPY_DISABLE_CPU_FEATURES": "AVX2,FMA3"},
}
"""How programs are told to leave out what only some processors have."""
POWERS = "import hashlib, random; made = random.Random(1); print(hashlib.md5(repr([2.0 ** made.uniform(0, 512) for _ in range(50_000)]).encode()).hexdigest())"  # noqa: E501


def has_fma() -> bool:
    """Whether this machine says that its processor has it."""
    told = Path("/proc/cpuinfo")
    return told.is_file() and " fma " in told.read_text()


def exact_power(days: int, t: int) -> Decimal:
    """By decimal logarithms, to 50 digits: the oracle's own way."""
    with localcontext(prec=50):
        landmark = t // (SPAN * days * DAY) * SPAN * days * DAY
        return Decimal(2) ** (Decimal(t - landmark) / (days * DAY))


@pytest.mark.parametrize("days", DAYS)
def test_each_entry_of_a_table_is_the_nearest_double(days: int):
    """Of whole days, and of each digit of the microseconds of a day."""
    by_day, digits = _tables(days)

    with localcontext(prec=50):
        assert by_day == [float(Decimal(2) ** (Decimal(day) / days)) for day in range(days)]
        for place, table in zip((3, 2, 1, 0), digits, strict=True):
            unit = Decimal(1 << place * DIGIT_BITS) / (days * DAY)
            assert table[1:] == [float(Decimal(2) ** (unit * digit)) for digit in range(1, len(table))]
    assert [len(table) for table in digits] == [DAY // (1 << 3 * DIGIT_BITS) + 1, 512, 512, 512]


@given(TIMES)
def test_weights_are_powers_of_two(t: int):
    """Four products and five entries of a table: at most nine roundings."""
    weights = Decay(DAYS).weights(t)

    for days, weight in zip(DAYS, weights, strict=True):
        exact = exact_power(days, t)
        assert abs(Decimal(weight) - exact) <= 9 * HALF_ULP * exact


@given(TIMES, st.integers(0, 3 * DAY))
def test_weights_hang_on_the_time_alone(t: int, later: int):
    """Whatever was asked before; and whole half-lives are exact."""
    decay = Decay(DAYS)
    decay.weights(t)

    assert decay.weights(t + later) == Decay(DAYS).weights(t + later)
    whole = [t // (days * DAY) for days in DAYS]
    assert [Decay([days]).weights(count * days * DAY)[0] for days, count in zip(DAYS, whole, strict=True)] == [
        2.0 ** (count % SPAN) for count in whole
    ]


def said_by(*arguments: object, **environment: str) -> str:
    """What a Python prints that runs with these settings of the environment."""
    env = {**os.environ, **environment}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout


def digest_of(source: Path, made: Path, **environment: str) -> str:
    """The examples of a source, made under these settings: their sorted lines' digest."""
    said_by("-m", "beepgpt", "examples", source, "--to", made, "--no-progress", **environment)
    return hashlib.md5(b"".join(sorted(made.read_bytes().splitlines(keepends=True)))).hexdigest()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A simulated export of two years, and its examples' digest on this machine as it is."""
    folder = tmp_path_factory.mktemp("fma")
    write_export(Plan(seed=5, messages=1_500, channels=3, people=60, days=700), folder / "export.zip")
    return folder / "export.zip", digest_of(folder / "export.zip", folder / "made.jsonl")


@pytest.mark.parametrize("without", WITHOUT)
def test_examples_are_the_same_without_fma_and_avx(simulated: tuple[Path, str], tmp_path: Path, without: str):
    """Law 4 says so of every x86-64 with glibc."""
    export, digest = simulated

    assert digest_of(export, tmp_path / "made.jsonl", **WITHOUT[without]) == digest


@pytest.mark.skipif(not has_fma(), reason="this processor has no FMA to leave out, or doesn't say so")
def test_the_switch_is_one():
    """The C library's own powers do differ without FMA: so the test above can fail."""
    assert said_by("-c", POWERS) != said_by("-c", POWERS, **WITHOUT["glibc without FMA"])


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["dd2030.zip", "houstondatavis-scrubbed.zip"])
def test_real_data_is_the_same_without_fma_and_avx(shared: Path, tmp_path: Path, name: str):
    """Real sets, whole."""
    source = shared / "data" / name
    usual = digest_of(source, tmp_path / "made.jsonl")

    assert {digest_of(source, tmp_path / "made.jsonl", **each) for each in WITHOUT.values()} == {usual}
