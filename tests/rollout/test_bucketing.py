"""The buckets: the frontends' own vectors, the same answers from Python and JavaScript, and fair shares."""

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from itertools import combinations
from math import sqrt
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.bucketing import BUCKETS, bucket, fnv1a32, is_exposed
from tests.node import Oracle, running_oracle

VECTORS: list[tuple[str, int, int]] = json.loads(Path(__file__).with_name("vectors.json").read_text())
# Buckets are sticky: a change here moves people who are in a rollout out of it.
VECTORS_2 = [
    ("00000000-0000-0000-0000-000000000000", "USE_FUND_STORE", 5602),
    ("f47ac10b-58cc-4372-a567-0e02b2c3d479", "USE_FUND_STORE", 6318),
    ("d16cf91b-e7ac-4ca9-b50f-8ceead8f87d0", "USE_FUND_STORE", 8197),
    ("f47ac10b-58cc-4372-a567-0e02b2c3d479", "A", 3625),
    ("", "A", 9476),
]
TEXT = st.text(st.characters(exclude_categories=[]))  # with lone surrogates, as a JavaScript string may have
FEATURES = st.from_regex(r"[A-Z][A-Z0-9_]{0,30}", fullmatch=True)
# Names that differ in one letter are where version 1 is worst.
NAMES = ["USE_FUND_STORE", "NEW_REPORTS", "DARK_MODE", "STORE_A", "STORE_B"]


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    with running_oracle() as running:
        yield running


@pytest.mark.parametrize(("text", "hashed", "expected"), VECTORS)
def test_the_frontends_own_vectors_hold(text: str, hashed: int, expected: int) -> None:
    assert fnv1a32(text) == hashed
    assert bucket(text, "", hash_version=1) == expected


def test_the_frontends_own_vectors_hold_in_the_shipped_module(oracle: Oracle) -> None:
    assert oracle.ask("fnv1a32", [[text] for text, _, _ in VECTORS]) == [hashed for _, hashed, _ in VECTORS]
    assert oracle.ask("bucket", [[text, "", 1] for text, _, _ in VECTORS]) == [
        expected for _, _, expected in VECTORS
    ]


@pytest.mark.parametrize(("uuid", "feature", "expected"), VECTORS_2)
def test_nobody_changes_their_bucket_of_version_2(uuid: str, feature: str, expected: int) -> None:
    assert bucket(uuid, feature, hash_version=2) == expected


def test_nobody_changes_their_bucket_of_version_2_in_the_shipped_module(oracle: Oracle) -> None:
    assert oracle.ask("bucket", [[uuid, feature, 2] for uuid, feature, _ in VECTORS_2]) == [
        expected for _, _, expected in VECTORS_2
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXT, FEATURES), min_size=1, max_size=40))
def test_python_and_javascript_agree_on_any_text(oracle: Oracle, texts: list[tuple[str, str]]) -> None:
    assert oracle.ask("fnv1a32", [[text] for text, _ in texts]) == [fnv1a32(text) for text, _ in texts]
    for version in BUCKETS:
        assert oracle.ask("bucket", [[text, feature, version] for text, feature in texts]) == [
            bucket(text, feature, hash_version=version) for text, feature in texts
        ]


@pytest.mark.parametrize("version", [1, 2])
def test_python_and_javascript_agree_at_every_percentage(oracle: Oracle, version: int) -> None:
    """Floating point must not add browsers: 0.07 * 10,000 is more than 700 there."""
    texts = {bucket(str(number), "A", hash_version=version): str(number) for number in range(100_000)}
    cases = [
        (texts[edge], Decimal(hundredths) / 100)
        for hundredths in range(10_001)
        for edge in {hundredths * BUCKETS[version] // 10_000 + step for step in (-1, 0, 1)}
        if edge in texts
    ]
    assert len(cases) > 29_000
    assert oracle.ask("isExposed", [[text, "A", float(share), version] for text, share in cases]) == [
        is_exposed(text, "A", share, hash_version=version) for text, share in cases
    ]


@given(TEXT, FEATURES, st.integers(0, 10_000), st.integers(0, 10_000), st.sampled_from([1, 2]))
def test_a_growing_percentage_never_takes_anybody_out(
    uuid: str, feature: str, one: int, other: int, version: int
) -> None:
    smaller, larger = sorted([Decimal(one) / 100, Decimal(other) / 100])
    if is_exposed(uuid, feature, smaller, hash_version=version):
        assert is_exposed(uuid, feature, larger, hash_version=version)


@given(TEXT, FEATURES, st.sampled_from([1, 2]))
def test_nothing_is_nobody_and_a_hundred_is_everybody(uuid: str, feature: str, version: int) -> None:
    assert not is_exposed(uuid, feature, Decimal(0), hash_version=version)
    assert is_exposed(uuid, feature, Decimal(100), hash_version=version)


def test_a_version_of_another_release_gives_legacy_as_in_the_shipped_module(oracle: Oracle) -> None:
    assert not is_exposed("a", "A", Decimal(100), hash_version=3)
    assert oracle.ask("isExposed", [["a", "A", 100, 3]]) == [False]


def browsers(count: int = 20_000) -> list[str]:
    generator = random.Random(20250811)
    return [str(UUID(int=generator.getrandbits(128), version=4)) for _ in range(count)]


def surprise(counts: list[int], freedom: int) -> float:
    """Return how far counts are from equal, in standard deviations of a chi-square; chance stays under 5."""
    expected = sum(counts) / len(counts)
    chi_square = sum((count - expected) ** 2 / expected for count in counts)
    return (chi_square - freedom) / sqrt(2 * freedom)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("feature", NAMES)
def test_every_share_of_the_buckets_is_equally_full(feature: str, version: int) -> None:
    twentieths = [0] * 20
    for uuid in browsers():
        twentieths[bucket(uuid, feature, hash_version=version) * 20 // BUCKETS[version]] += 1
    assert abs(surprise(twentieths, 19)) < 5


def dependence(feature: str, other: str, *, version: int) -> float:
    """Return the dependence between a browser's twentieths of two features, in standard deviations."""
    cells = [0] * 400
    for uuid in browsers():
        row, column = (
            bucket(uuid, name, hash_version=version) * 20 // BUCKETS[version] for name in (feature, other)
        )
        cells[row * 20 + column] += 1
    return surprise(cells, 399)


@pytest.mark.parametrize(("feature", "other"), list(combinations(NAMES, 2)))
def test_version_2_draws_each_feature_s_canary_anew(feature: str, other: str) -> None:
    assert dependence(feature, other, version=2) < 5


def test_version_1_does_not_and_this_test_would_notice() -> None:
    """The reason for version 2: of two features whose names differ in the last letter, canaries never meet."""
    assert dependence("STORE_A", "STORE_B", version=1) > 1000
    both = [
        uuid
        for uuid in browsers()
        if all(is_exposed(uuid, name, Decimal(10), hash_version=1) for name in ("STORE_A", "STORE_B"))
    ]
    assert both == []
