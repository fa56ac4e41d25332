"""Secrets of a command line and of URLs are not kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stepstream._masking import masked, masked_url

SECRET = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789._~!$", min_size=7, max_size=29).map(
    "Q{}".format
)
"""The capital Q stands in nothing else, so that no secret is a word of the address, such as `postgres`."""
NAMES = st.sampled_from(
    [
        "--api-key",
        "--wandb_token",
        "-password",
        "OPENAI_API_KEY",
        "--auth",
        "--hf-token",
        "db.password",
        "--keys",
    ]
)


@given(NAMES, SECRET, st.booleans())
def test_options_that_sound_secret_are_masked(name: str, secret: str, apart: bool) -> None:
    """A secret option is masked after `=`, as the next argument, and inside a shell's one argument."""
    if apart and name.startswith("-"):
        command = ["python", "train.py", name, secret, "--lr", "0.1"]
    else:
        command = ["python", "train.py", f"{name}={secret}", "--lr", "0.1"]
    assert not any(secret in argument for argument in masked(command))
    assert masked(command)[-2:] == ["--lr", "0.1"]
    assert secret not in masked(["sh", "-c", " ".join(command)])[2]


@given(SECRET)
def test_passwords_of_urls_are_masked_before_the_host_and_in_the_query(secret: str) -> None:
    """Passwords of URLs are masked, and the rest of the address stays readable."""
    for url in (
        f"postgresql://user:{secret}@host:5432/db?sslmode=verify-full",
        f"postgresql://host/db?user=u&password={secret}&sslmode=verify-full",
        f"rediss://:{secret}@host:6379/0",
        f"rediss://host/0?password={secret}",
        f"https://{'user'}:{secret}@registry/apis",
    ):
        shown = masked_url(url)
        assert secret not in shown
        assert "***" in shown
        assert "host" in shown or "registry" in shown
        assert "sslmode=verify-full" in shown or "sslmode" not in url


@pytest.mark.parametrize(
    "command",
    [
        ["python", "train.py", "--max-tokens", "512", "--keyboard", "us", "--author", "me", "--lr=0.1"],
        ["python", "-m", "train", "env=https://host/path?version=1", "--monkeypatch=x"],
        ["sh", "-c", "cd /data &&  python train.py"],
    ],
)
def test_all_else_is_kept_as_it_is(command: list[str]) -> None:
    """Arguments that are no secrets stay as they are, such as a number of tokens."""
    assert masked(command) == command


def test_a_setting_names_further_words() -> None:
    """A setting adds further words that mark an option as secret."""
    assert masked(["train", "--licence=abc123xyz"], "licence,pin code") == ["train", "--licence=***"]
