"""Arbitrary arguments of the command line are accepted, or refused in one line."""

from __future__ import annotations

import contextlib
import io

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st

from auxgrad.config import compose
from auxgrad.config.entry import error_message, prepare, split_arguments
from auxgrad.config.groups import VALUE_GROUPS
from auxgrad.config.messages import check_values
from auxgrad.config.overrides import parse_overrides, parse_values, quote_values
from auxgrad.config.values import quote
from auxgrad.errors import ConfigError

EXPLAINED = (ConfigError, HydraException, OSError)

KEYS = """lam alpha overall seed mode data problem data.path problem.hidden problem.epochs tracking
    tracking.uri hydra.run.dir hydra.searchpath hydra experiment retries dry_run mode_rule
    problem._target_ names x problem. data.x.y lam@x a/b hydra/launcher"""
VALUES = r"""1 0.1 1e400 nan -1 true null range(3) range(0,1e9) range(1,2,0) range(a) glob(*) glob(
    sort(3,1) interval(0,1) choice(1,2) shuffle(1) [1,2] {a:1} 'a' 'a "b" \ '\' a'b ${x}
    ${oc.env:HOME} ${ } ~ ä× a,b 1,,2 , = a=b toy reviews aclimdb tag(a,1) int('a')
    json_str({}) 1_000 0x10 '' $ % #"""
FLAGS = "--multirun -m --cfg job --config-name config -x --resolve --mode=a --"
ODD = ["", " ", "\n", "\t", "\0", "\x1b[31m", "\ud800", "\u2028", "9" * 5000]

keys = st.sampled_from(KEYS.split())
values = st.sampled_from([*VALUES.split(), *ODD])
flags = st.sampled_from(FLAGS.split())
anything = st.text(st.characters(exclude_categories=()), max_size=12)
pairs = st.builds(
    "{}{}={}".format,
    st.sampled_from(["", "", "+", "++", "~"]),
    st.one_of(keys, anything),
    st.one_of(st.lists(values, min_size=1, max_size=3).map("".join), anything),
)
words = st.lists(st.one_of(pairs, pairs, pairs, anything, flags), min_size=1, max_size=3)


def refused_in_one_line(call, *others) -> bool:
    """Return whether a call succeeds, or raises an error whose message is one line."""
    try:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            call()
    except (*EXPLAINED, *others) as error:
        line = error_message(error)
        return len(line.splitlines()) == 1 and not said.getvalue()
    return True


@settings(max_examples=400, deadline=None)
@given(words)
def test_any_words_are_accepted_or_refused_in_one_line(given_words):
    assert refused_in_one_line(lambda: prepare(given_words))
    assert refused_in_one_line(lambda: parse_overrides(given_words))
    assert refused_in_one_line(lambda: parse_values(given_words), ValueError)
    for key in VALUE_GROUPS:
        assert refused_in_one_line(lambda key=key: check_values(key, given_words))


@settings(max_examples=150, deadline=None)
@given(st.lists(pairs, min_size=1, max_size=2))
def test_any_words_can_be_composed_or_are_refused(given_words):
    with contextlib.suppress(ConfigError):
        compose(given_words)


@settings(max_examples=200, deadline=None)
@given(words)
def test_quoting_twice_changes_nothing(given_words):
    with contextlib.suppress(ConfigError):
        quoted = quote_values(given_words)
        assert quote_values(quoted) == quoted


@given(anything)
def test_a_quoted_text_is_parsed_back(text):
    assert OverridesParser.create().parse_override(f"x={quote(text)}").value() == text


@pytest.mark.parametrize(
    "path", ["~/größe", "/tmp/größe Ä (1)/映画", "a=b", "a;b&c|d!", "C:\\größe\\", "#1", "a\u00a0b"]
)
def test_a_path_needs_no_quotes(path):
    """The shell removes the quotes that the shell needs."""
    override = parse_overrides([f"data.cache_dir={path}"])["data.cache_dir"]
    assert override.value() == path
    # The commands report and ui parse their arguments in this way.
    assert parse_values([f"data.cache_dir={path}"]) == {"data.cache_dir": [path]}
    assert split_arguments([f"tracking.experiment={path}"])[0].experiment == path


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("seed=range(1000000000)", "seed=range(1000000000): must be a range of at most 100,000 values"),
        (
            "problem.epochs=range(1,2,0)",
            "problem.epochs=range(1,2,0): must be a range of at most 100,000 v",
        ),
        ("lam=range(0,inf)", "lam=range(0,inf): must be a range of at most 100,000 values"),
        (
            "lam=sort(range(0,1,1e-9))",
            "lam=sort(range(0,1,1e-9)): must be a range of at most 100,000 va",
        ),
        ("lam=1\nseed=2", r"lam=1\nseed=2: has a line break or another control character; leave it out"),
        ("mode=\x1b[2J", r"mode=\x1b[2J: has a line break or another control character; leave it out"),
        ("problem.epochs=" + "9" * 5000, "problem.epochs=9"),
        (
            "--mode=SingleTask",
            "unrecognized arguments: --mode=SingleTask; --hydra-help lists the flags, and options are ",
        ),
        ("--cfg=x", "argument --cfg/-c: invalid choice: 'x' (choose from 'job', 'hydra', 'all')"),
        ("=1", "=1: must be key=value"),
        ("+=", "+=: must be key=value"),
        ("lam=~1", "lam=~1: must be a finite number >= 0"),
        ("seed=ä", "seed=ä: must be a whole number >= 0"),
    ],
    ids=lambda value: value[:30],
)
def test_messages(word, line):
    with pytest.raises(ConfigError) as caught:
        prepare([word])
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("tracking.uri=${x}", "Interpolation key 'x' not found full_key: tracking.uri"),
        ("tracking.uri=${tracking.uri}", "Recursive interpolation detected full_key: tracking.uri"),
        ("~lam", "~lam: every run has lam; it cannot be left out"),
        ("+lam@x=shuffle(1)", "+lam@x=shuffle(1): cannot be composed ("),
    ],
)
def test_messages_of_composing(word, line):
    with pytest.raises(ConfigError) as caught:
        compose([word])
    assert str(caught.value).startswith(line)
    assert len(str(caught.value).splitlines()) == 1


def test_flags_may_stand_anywhere():
    first = prepare(["--multirun", "--config-name=config", "mode=Multitask", "lam=1,3", "seed=0"])
    assert first[:2] == ["--multirun", "--config-name=config"]
    for words in (
        ["mode=Multitask", "lam=1,3", "seed=0", "-cn", "config", "--multirun"],
        ["mode=Multitask", "-m", "lam=1,3", "--config-name", "config", "seed=0"],
        ["-cn", "config", "mode=Multitask", "--multirun", "lam=1,3", "seed=0"],
    ):
        assert prepare(words) == first
    with pytest.raises(ConfigError, match=r"^-1: must be key=value$"):
        prepare(["--multirun", "seed=1", "-1"])


def test_an_unknown_problem_is_left_to_hydra():
    assert prepare(["problem=nothing", "data.path=a"])[-2:] == ["problem=nothing", "++data.path=a"]
