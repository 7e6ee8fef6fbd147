from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from predictors import accuracy, folder, latency
from predictors.folder import PredictorFileError
from supernets.space import Choice
from supernets.spaces import UnknownSpaceError
from supernets.spaces import space as space_of_name

TINY = space_of_name("ofa-mobilenetv3-tiny")


@pytest.fixture
def saved(tmp_path):
    population = TINY.sample_population(10, np.random.default_rng(0))
    latency.create("flops_line", TINY).fit(population, np.linspace(1, 2, 10)).save(tmp_path / "line")
    return tmp_path / "line"


def change(path, **values):
    description = json.loads((path / "predictor.json").read_text())
    (path / "predictor.json").write_text(json.dumps({**description, **values}))


def test_saving_again_replaces_and_leaves_nothing_else(saved):
    population = TINY.sample_population(10, np.random.default_rng(1))
    second = latency.create("flops_line", TINY).fit(population, np.linspace(3, 4, 10))
    second.save(saved)
    assert np.array_equal(latency.load(saved).predict(population), second.predict(population))
    assert sorted(path.name for path in saved.iterdir()) == ["arrays.npz", "predictor.json"]


def test_folders_without_a_predictor_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no predictor: there is no predictor.json in it; `profiler fit latency` writes one"):
        latency.load(tmp_path / "nothing")


def test_a_predictor_of_the_other_family_is_refused(saved):
    with pytest.raises(PredictorFileError, match="holds a predictor of latency, not of accuracy; give a folder that `profiler fit accuracy` wrote"):
        accuracy.load(saved)


def test_versions_damage_and_unknown_fields_are_refused(saved):
    change(saved, format_version=2)
    with pytest.raises(PredictorFileError, match="format version 2; this version reads 1"):
        latency.load(saved)
    change(saved, format_version=1, surprise=0)
    with pytest.raises(PredictorFileError, match="surprise"):
        latency.load(saved)
    (saved / "predictor.json").write_text("{")
    with pytest.raises(PredictorFileError, match="is not JSON"):
        latency.load(saved)


def test_settings_that_are_absent_are_damage(saved):
    change(saved, settings={"intercept_ms": 1.0})
    with pytest.raises(PredictorFileError, match="damaged .*ms_per_mac"):
        latency.load(saved)


def test_a_damaged_space_is_refused(saved):
    change(saved, space={"name": TINY.name})
    with pytest.raises(PredictorFileError, match="the space in predictor.json is damaged"):
        latency.load(saved)
    change(saved, space={"name": TINY.name, "choices": [{"name": "resolution"}]})
    with pytest.raises(PredictorFileError, match="a choice in predictor.json is damaged"):
        latency.load(saved)


def test_a_file_of_another_saving_is_refused(saved):
    (saved / "arrays.npz").write_bytes(folder.packed_arrays({"other": np.ones(3)}))
    with pytest.raises(PredictorFileError, match="is not the file that predictor.json was saved with"):
        latency.load(saved)
    (saved / "arrays.npz").unlink()
    with pytest.raises(PredictorFileError, match="lacks the file arrays.npz"):
        latency.load(saved)


def test_objects_in_arrays_are_never_unpickled():
    buffer = io.BytesIO()
    np.savez(buffer, trap=np.array([print], dtype=object))
    with pytest.raises(PredictorFileError, match="cannot be read"):
        folder.unpacked_arrays(buffer.getvalue())
    with pytest.raises(PredictorFileError, match="cannot be read"):
        folder.unpacked_arrays(b"no archive")


def test_choices_that_mean_something_else_now_are_refused(saved):
    changed = replace(TINY, choices=(Choice("resolution", (20, 24, 28, 36)), *TINY.choices[1:]))
    with pytest.raises(PredictorFileError, match="choice 'resolution' of space 'ofa-mobilenetv3-tiny' is not what"):
        latency.load(saved, changed)
    with pytest.raises(PredictorFileError, match=r"has \d+ choices, but the predictor was fitted for \d+"):
        latency.load(saved, replace(TINY, choices=TINY.choices[:-1]))


def test_a_space_without_registered_name_must_be_given(tmp_path):
    own = replace(TINY, name="own")
    population = own.sample_population(10, np.random.default_rng(0))
    fitted = latency.create("flops_line", own).fit(population, np.linspace(1, 2, 10))
    fitted.save(tmp_path)
    with pytest.raises(UnknownSpaceError, match="unknown space 'own'"):
        latency.load(tmp_path)
    assert np.array_equal(latency.load(tmp_path, own).predict(population), fitted.predict(population))


def test_settings_from_numpy_are_saved_as_numbers(tmp_path):
    pytest.importorskip("sklearn")
    population = TINY.sample_population(10, np.random.default_rng(0))
    accuracy.create("ridge", TINY.name, alphas=np.logspace(-1, 1, 3)).fit(population, np.linspace(0.4, 0.6, 10)).save(tmp_path)
    assert accuracy.load(tmp_path).alphas == [0.1, 1.0, 10.0]


def test_a_space_with_options_comes_back_by_its_name():
    space = space_of_name("ofa-mobilenetv3-tiny:resolutions=28/32,image_channels=3,classes=37").restrict({"depth": [2, 4]})
    restored = folder.restored_space(json.loads(json.dumps(folder.space_to_dict(space))))
    assert (restored.name, restored.choices) == (space.name, space.choices)
