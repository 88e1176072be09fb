"""`tidewaiter advise`."""

import json

import pytest

from tidewaiter.cli import app


def test_words_and_options_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON document is the same, and has the documented fields."""
    assert app.run(["advise", "--format", "json", "GPU training, TF 2.15, driver 525"]) == 0
    words = json.loads(capsys.readouterr().out)
    options = ["--task", "training", "--gpu", "yes", "--tensorflow", "2.15", "--driver", "525"]
    assert app.run(["advise", *options, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == words
    assert set(words) == {"possible", "image", "production", "why", "lines", "nearest"}


def test_text_shows_the_lines_to_write(capsys: pytest.CaptureFixture[str]) -> None:
    """File by file, indented; the project file names a base that is shipped."""
    assert app.run(["advise", "--gpu", "T4", "training", "TF", "2.16"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("tensorflow/tensorflow:2.16.2-gpu\n")
    assert "    FROM tensorflow/tensorflow:2.16.2-gpu\n" in shown
    assert 'use = "debian12-python3.11"' in shown


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """1 when it cannot work, 2 when too little was said."""
    assert app.run(["advise", "GPU training, TF 2.15, driver 470"]) == 1
    assert "The nearest that works: TensorFlow 2.14" in capsys.readouterr().out
    assert app.run(["advise", "training"]) == 2
    assert "GPU or CPU" in capsys.readouterr().err
