"""A study file is read as written, and every error in it is reported."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.config import TrainConfig
from hf_wbc.study.grid import load_grid

Write = Callable[[str], str]
HEAD = "from hf_wbc.config import TrainConfig\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str) -> str:
        path = tmp_path / "my_study.py"
        path.write_text(text)
        return str(path)

    return written


def test_parameters_take_type_of_their_default(write: Write) -> None:
    path = write(
        HEAD + "def study(data='build', seeds=1, rate=1.0, scratch=False, names=('a',)):\n"
        "    return [TrainConfig((f'{data}/{n}',), learning_rate=rate, from_scratch=scratch,\n"
        "                        seed=s)\n"
        "            for n in names for s in range(seeds)]\n"
    )
    found = load_grid(path, ["data=here", "seeds=2", "rate=.5", "scratch=true", "names=x,y"])
    assert [(run.data.sources, run.seed) for run in found] == [
        (("here/x",), 0), (("here/x",), 1), (("here/y",), 0), (("here/y",), 1)
    ]  # fmt: skip
    assert all(run.optim.learning_rate == 0.5 and run.model.from_scratch for run in found)


def test_study_with_kwargs_accepts_any_config_field(write: Write) -> None:
    path = write(HEAD + "def study(**fields):\n    return [TrainConfig(('a',), **fields)]\n")
    (run,) = load_grid(
        path, ["steps=7", "adapt_learning_rate=.25", "image_size=32", "inputs=features"]
    )
    assert run == TrainConfig(
        ("a",), steps=7, adapt_learning_rate=0.25, image_size=32, inputs="features"
    )


def test_duplicate_configurations_are_one_run(write: Write) -> None:
    path = write(HEAD + "def study():\n    a = TrainConfig(('a',))\n    return [a, a]\n")
    assert len(load_grid(path)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nif x\n", r"my_study.py, line 2: expected ':'"),
        ("\n\nimport nowhere_to_be_found\n", r"line 3: ModuleNotFoundError"),
        (HEAD + "def study():\n\n    return [1 / 0]\n", r"line 4: ZeroDivisionError"),
        (HEAD + "def study():\n    return [TrainConfig(())]\n", r"line 3: no sources"),
        (HEAD + "def study():\n    return [TrainConfig(('a',), inputs='x')]", "line 3: inputs is"),
        ("def other():\n    return []\n", r"has no function study\(\)"),
        ("def study(data):\n    return []\n", r"no default for 'data'"),
        ("def study():\n    return [3]\n", r"a list with int"),
        ("def study():\n    return 3\n", r"returned a int"),
        ("def study():\n    return []\n", r"returned no runs"),
    ],
)
def test_study_error_is_reported_with_its_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_grid(write(text))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("toi", [], "unknown study 'toi'; did you mean 'toy'"),
        ("nope.py", [], "no such file"),
        ("toy", ["sed=1"], "no parameter 'sed'; did you mean 'seeds'"),
        ("toy", ["seeds=x"], "'x' is not a valid int"),
        ("toy", ["swad=1"], "'1' is not a valid bool"),
        ("toy", ["seeds"], "NAME=VALUE"),
        ("leave_one_out", ["domains=a,b"], "selection held_out needs"),
    ],
)
def test_unknown_name_or_setting_suggests_valid_ones(
    name: str, settings: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_grid(name, settings)
