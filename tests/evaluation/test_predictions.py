import errno
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

from zellige.core.errors import InputError
from zellige.core.named import FoundBoxes, KindMap
from zellige.core.types import Sample
from zellige.evaluation.predictions import PredictionSet, PredictionWriter

MAP = np.arange(6, dtype=np.float32).reshape(2, 3)


def samples_of(folder, *ids):
    return [Sample(id=i, image_path=folder / "x.png", kind="good", group_id="g") for i in ids]


def write_all(out_dir, samples, scores, maps=None):
    with PredictionWriter(out_dir, "val", samples) as writer:
        for index, (sample, score) in enumerate(zip(samples, scores, strict=True)):
            writer.write(sample.id, score, MAP if maps is None else maps[index])
        return writer.close()


def test_reads_back_what_was_written_in_the_order_of_the_samples(tmp_path):
    samples = samples_of(tmp_path, "a/1", "b ü", "c\\3")
    rng = np.random.default_rng(0)
    maps = {s.id: rng.normal(size=(5, 7)).astype(np.float32) for s in samples}
    scores = {s.id: rng.normal() for s in samples}
    with PredictionWriter(tmp_path / "out", "val", samples) as writer:
        for sample in reversed(samples):
            writer.write(sample.id, scores[sample.id], maps[sample.id])
        writer.close()
    loaded = PredictionSet.load(tmp_path / "out", samples)
    assert (loaded.split, len(loaded), loaded.scores.dtype) == ("val", 3, np.float64)
    for sample, prediction, score in zip(samples, loaded, loaded.scores, strict=True):
        assert prediction.sample is sample
        assert prediction.score == score == scores[sample.id]
        assert prediction.anomaly_map.dtype == np.float32
        np.testing.assert_array_equal(prediction.anomaly_map, maps[sample.id])
    assert loaded[-1].sample is samples[-1]


def test_fingerprint_changes_with_any_score_map_or_id_and_with_nothing_else(tmp_path):
    samples = samples_of(tmp_path, "a", "b")
    base = write_all(tmp_path / "1", samples, [0.1, 0.2]).fingerprint
    assert write_all(tmp_path / "2", samples, [0.1, 0.2]).fingerprint == base
    others = [
        write_all(tmp_path / "3", samples, [0.1, np.nextafter(0.2, 1)]),
        write_all(tmp_path / "4", samples, [0.1, 0.2], [MAP, MAP + np.float32(1e-6)]),
        write_all(tmp_path / "5", samples, [0.1, 0.2], [MAP, MAP.reshape(3, 2)]),
        write_all(tmp_path / "6", samples_of(tmp_path, "a", "c"), [0.1, 0.2]),
    ]
    assert len({base, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize(
    ("sample_id", "score", "anomaly_map", "message"),
    [
        ("z", 0.0, MAP, "unknown"),
        ("a", 0.0, MAP, "twice"),
        ("b", float("nan"), MAP, "finite"),
        ("b", 0.0, np.full((2, 2), np.inf, np.float32), "finite"),
        ("b", 0.0, MAP.astype(np.float64), "float32"),
        ("b", 0.0, MAP[None], "float32 map"),
        ("b", 0.0, MAP[:0], "float32 map"),
    ],
)
def test_refuses_bad_prediction_and_leaves_nothing(tmp_path, sample_id, score, anomaly_map, message):
    writer = PredictionWriter(tmp_path / "out", "val", samples_of(tmp_path, "a", "b"))
    writer.write("a", 0.0, MAP)
    with pytest.raises(InputError, match=message):
        writer.write(sample_id, score, anomaly_map)
    assert list(tmp_path.iterdir()) == []


def test_refuses_to_close_with_samples_missing(tmp_path):
    writer = PredictionWriter(tmp_path / "out", "test", samples_of(tmp_path, "a", "b"))
    writer.write("a", 0.0, MAP)
    with pytest.raises(InputError, match="1 without a prediction, first b"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_interrupt_leaves_nothing(tmp_path):
    def write_half():
        with PredictionWriter(tmp_path / "out", "val", samples_of(tmp_path, "a", "b")) as writer:
            writer.write("a", 0.0, MAP)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = PredictionWriter(tmp_path / "out", "val", samples_of(tmp_path, "a"))
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match="No space left on device"):
        writer.write("a", 0.0, MAP)
    assert list(tmp_path.iterdir()) == []


def test_refuses_existing_folder_repeated_ids_unknown_split_and_no_samples(tmp_path):
    samples = samples_of(tmp_path, "a")
    write_all(tmp_path / "out", samples, [0.5])
    with pytest.raises(InputError, match="it exists"):
        PredictionWriter(tmp_path / "out", "val", samples)
    with pytest.raises(InputError, match="1 repeated"):
        PredictionWriter(tmp_path / "new", "val", samples * 2)
    with pytest.raises(InputError, match="val or test"):
        PredictionWriter(tmp_path / "new", "train", samples)
    with pytest.raises(InputError, match="got none"):
        PredictionWriter(tmp_path / "new", "val", [])
    assert PredictionSet.load(tmp_path / "out", samples).scores.tolist() == [0.5]


def test_load_refuses_other_samples_and_damage(tmp_path):
    samples = samples_of(tmp_path, "a", "b")
    folder = write_all(tmp_path / "out", samples, [0.5, 0.6]).folder
    with pytest.raises(InputError, match="another order"):
        PredictionSet.load(folder, samples[::-1])
    with pytest.raises(InputError, match="2 ids differ"):
        PredictionSet.load(folder, [samples[0], replace(samples[1], id="c")])
    with pytest.raises(InputError, match="got none"):
        PredictionSet.load(tmp_path / "nowhere", samples)
    content = json.loads((folder / "scores.json").read_text())
    for damage in (
        {"schema": 2},
        {"kinds": ["hole"]},
        {"scores": [0.5]},
        {"scores": [0.5, "x"]},
        {"split": "train"},
        {"extra": 1},
    ):
        (folder / "scores.json").write_text(json.dumps(content | damage))
        with pytest.raises(InputError, match="expected"):
            PredictionSet.load(folder, samples)
    (folder / "scores.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        PredictionSet.load(folder, samples)


def test_damaged_or_pickled_map_is_refused(tmp_path):
    predictions = write_all(tmp_path / "out", samples_of(tmp_path, "a", "b"), [0.5, 0.6])
    path = next(iter(sorted(predictions.folder.glob("maps/*.npy"))))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"prediction a: map .* is damaged"):
        predictions[0]
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="damaged"):
        predictions[0]


def test_dropped_maps_free_the_disk_and_keep_the_scores(tmp_path):
    samples = samples_of(tmp_path, "a")
    predictions = write_all(tmp_path / "out", samples, [0.5])
    predictions.drop_maps()
    assert [p.name for p in predictions.folder.rglob("*")] == ["scores.json"]
    again = PredictionSet.load(predictions.folder, samples)
    assert (again.scores.tolist(), again.fingerprint) == ([0.5], predictions.fingerprint)
    with pytest.raises(InputError, match="dropped"):
        again[0]


KINDS = ("dust", "hole")


def named_of(form: str, seed: int) -> KindMap | FoundBoxes:
    rng = np.random.default_rng(seed)
    if form == "map":
        return KindMap(numbers=rng.integers(0, 3, MAP.shape).astype(np.uint8), kinds=KINDS)
    boxes = rng.random((seed % 3, 6)).astype(np.float32)
    boxes[:, 5] = 1 + seed % 2
    return FoundBoxes(boxes=boxes, kinds=KINDS)


def write_named_set(out_dir, samples, form, *, seeds, kinds=KINDS):
    with PredictionWriter(out_dir, "val", samples, kinds=kinds) as writer:
        for sample, seed in zip(samples, seeds, strict=True):
            writer.write(sample.id, 0.5, MAP, named_of(form, seed))
        return writer.close()


@pytest.mark.parametrize("form", ["map", "boxes"])
def test_what_is_named_is_read_back_and_part_of_the_fingerprint(tmp_path, form):
    samples = samples_of(tmp_path, "a", "b", "c")
    stored = write_named_set(tmp_path / "1", samples, form, seeds=(4, 5, 6))
    assert stored.kinds == KINDS
    for prediction, seed in zip(PredictionSet.load(tmp_path / "1", samples), (4, 5, 6), strict=True):
        expected = named_of(form, seed)
        assert type(prediction.named) is type(expected)
        assert prediction.named.kinds == KINDS
        field = "numbers" if form == "map" else "boxes"
        np.testing.assert_array_equal(getattr(prediction.named, field), getattr(expected, field))
    again = write_named_set(tmp_path / "2", samples, form, seeds=(4, 5, 6))
    other = write_named_set(tmp_path / "3", samples, form, seeds=(4, 5, 7))
    without = write_all(tmp_path / "4", samples, [0.5] * 3)
    assert again.fingerprint == stored.fingerprint
    assert len({stored.fingerprint, other.fingerprint, without.fingerprint}) == 3
    stored.drop_maps()
    with pytest.raises(InputError, match="dropped"):
        stored[0]


def test_a_set_without_kinds_has_the_fingerprint_that_it_always_had(tmp_path):
    """By hand: sha256 over the split's name and one JSON row of id, score and the map's hash per sample."""
    samples = samples_of(tmp_path, "a", "b")
    of_map = hashlib.sha256(repr((2, 3)).encode() + MAP.tobytes()).hexdigest()
    rows = json.dumps(["a", 0.25, of_map]) + json.dumps(["b", 0.5, of_map])
    stored = write_all(tmp_path / "1", samples, [0.25, 0.5])
    assert stored.fingerprint == hashlib.sha256(b"val" + rows.encode()).hexdigest()
    assert sorted(json.loads((tmp_path / "1" / "scores.json").read_text())) == [
        "ids",
        "map_hashes",
        "schema",
        "scores",
        "split",
    ]
    assert not (tmp_path / "1" / "named").exists()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (None, "expected the kinds"),
        (KindMap(numbers=np.zeros((2, 3), np.uint8), kinds=("hole",)), "expected the kinds"),
        (KindMap(numbers=np.zeros((3, 2), np.uint8), kinds=KINDS), "kind map of the map's size"),
        (FoundBoxes(boxes=np.full((1, 6), np.nan, np.float32), kinds=KINDS), "finite boxes"),
    ],
)
def test_refuses_what_does_not_fit_its_kinds(tmp_path, named, message):
    writer = PredictionWriter(tmp_path / "out", "val", samples_of(tmp_path, "a"), kinds=KINDS)
    with pytest.raises(InputError, match=message):
        writer.write("a", 0.5, MAP, named)
    assert list(tmp_path.iterdir()) == []
