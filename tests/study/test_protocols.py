"""Predefined studies implement the protocols that they name."""

import pytest

from hf_wbc.config import AUGMENTATIONS
from hf_wbc.engine.resolve import check_config
from hf_wbc.study.grid import load_grid
from hf_wbc.study.protocols import STUDIES


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("inputs", ["images", "features"])
def test_every_run_of_a_predefined_study_is_valid(name: str, inputs: str) -> None:
    for config in load_grid(name, [f"inputs={inputs}"]):
        check_config(config)


@pytest.mark.parametrize("name", STUDIES)
def test_domain_has_one_role_in_a_run(name: str) -> None:
    for config in load_grid(name):
        parts = [*config.data.sources, *config.data.target, *config.data.held_out]
        assert len(set(parts)) == len(parts)
        assert config.eval.selection != "oracle" and not config.eval.oracle


def test_leave_one_out_covers_every_domain_and_uses_all_others() -> None:
    domains = {"build/a", "build/b", "build/c", "build/d"}
    runs = load_grid("leave_one_out", ["domains=a,b,c,d", "methods=source_only", "seeds=1"])
    assert {run.data.target for run in runs} == {(domain,) for domain in domains}
    assert all({*run.data.sources, *run.data.target, *run.data.held_out} == domains for run in runs)
    selecting = [run for run in runs if run.eval.selection == "held_out"]
    assert {(run.data.target, run.data.held_out) for run in selecting} == {
        ((target,), (other,)) for target in domains for other in domains - {target}
    }
    assert all(not run.data.held_out for run in runs if run.eval.selection == "source_val")
    assert len(runs) == 4 + 12


def test_toy_study_has_six_methods_two_directions_two_seeds() -> None:
    runs = load_grid("toy")
    assert len(runs) == len(set(map(str, runs))) == 24
    assert len({run.adapt.method for run in runs}) == 6
    assert len({(run.data.sources, run.data.target) for run in runs}) == 2
    assert {run.seed for run in runs} == {0, 1}


def test_methods_with_unmet_requirements_are_left_out() -> None:
    on_features = {run.adapt.method for run in load_grid("acevedo_to_matek", ["inputs=features"])}
    on_images = {run.adapt.method for run in load_grid("acevedo_to_matek")}
    assert "mixstyle" in on_images - on_features
    assert not {"group_dro", "irm"} & on_images
    assert "group_dro" in {run.adapt.method for run in load_grid("acevedo_matek_to_others")}
    assert {run.adapt.method for run in load_grid("ceilings")} == {"source_only"}


def test_every_row_leaves_out_each_laboratory() -> None:
    runs = load_grid("laboratories", ["labs=acevedo_20,tecom_jiangxi,matek_19", "seeds=1"])
    assert len(runs) == 3 * 3
    for run in runs:
        assert {*run.data.sources, *run.data.target} == {
            "build/acevedo_20", "build/tecom_jiangxi", "build/matek_19"
        }  # fmt: skip
        assert bool(run.eval.merge) == (run.data.target == ("build/tecom_jiangxi",))
        assert run.eval.selection == "last"
    plain, robust = ({run.data.augmentation for run in runs[start : start + 3]} for start in (0, 3))
    assert plain == {AUGMENTATIONS["light"]} and robust == {AUGMENTATIONS["robust"]}


def test_source_is_trained_once_and_scored_where_classes_match() -> None:
    labs = "labs=acevedo_20,bccd_crops,tecom_jiangxi,matek_19"
    runs = load_grid("laboratories", ["sources=acevedo_20", labs, "rows=robust", "seeds=2"])
    assert {run.data.sources for run in runs} == {("build/acevedo_20",)}
    assert [run.data.target for run in runs[::2]] == [
        ("build/bccd_crops", "build/tecom_jiangxi"), ("build/matek_19",)
    ]  # fmt: skip
    assert [len(run.eval.classes) for run in runs] == [4, 4, 0, 0]


def test_computed_heads_need_one_step_and_standardized_ones_a_run_for_each_target() -> None:
    rows = "rows=frozen_lda,frozen_lda_standardized"
    runs = load_grid("laboratories", ["sources=acevedo_20", rows, "seeds=1", "steps=600"])
    assert [len(run.data.target) for run in runs] == [3, 1, 1, 1]
    for run in runs:
        check_config(run)
        assert run.optim.steps == 1 and run.model.inputs == "features"


@pytest.mark.parametrize("changes", [["rows=robust_adabn"], ["rows=robust", "selection=im"]])
def test_each_target_dependent_run_has_its_own_laboratory(changes: list[str]) -> None:
    runs = load_grid("laboratories", ["sources=acevedo_20", "seeds=1", *changes])
    assert [len(run.data.target) for run in runs] == [1, 1, 1]


def test_laboratories_that_are_all_sources_are_refused() -> None:
    with pytest.raises(ValueError, match="a, b"):
        load_grid("laboratories", ["labs=a,b", "sources=b,a"])


def test_unknown_row_is_reported() -> None:
    with pytest.raises(ValueError, match="unknown row 'robst'; did you mean 'robust'"):
        load_grid("laboratories", ["rows=robst"])
