# ruff: noqa: E402  (torch may be missing: the imports below it need it)
"""Folders of images decoded once: whole or not there, gone on with after a kill, and never held in memory."""

from __future__ import annotations

import errno
import io
import json
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL.Image")

from PIL import Image

from supernets.training import data as data_module
from supernets.training import image_cache, image_chunks
from supernets.training.data import ImageData, open_images
from supernets.training.image_cache import DamagedImageError, decode_once, is_image_cache
from supernets.training.image_chunks import DecodingProcessError

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parent.parent


def noise(size: tuple[int, int], seed: int) -> bytes:
    """Return a JPEG."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def photographs(folder: Path, each: int = 6, classes: int = 2, parts: tuple[str, ...] = ("train", "val"), different: int = 10**9) -> Path:
    """Make a folder of JPEGs of several sizes; `different` of each part's are, the others are copies."""
    kept: dict[int, bytes] = {}
    for p, part in enumerate(parts):
        for c in range(classes):
            (folder / part / f"class{c}").mkdir(parents=True)
            for i in range(each):
                seed = 10_000 * p + (c * each + i) % different
                kept[seed] = kept.get(seed) or noise((24 + 4 * (seed % 3), 20 + 3 * (seed % 5)), seed)
                (folder / part / f"class{c}" / f"{i:05}.jpg").write_bytes(kept[seed])
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photographs(tmp_path / "images")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "CHUNK_IMAGES", 4)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that the names of chunks are put into as they are decoded."""
    written, write = [], image_chunks.write_chunk
    monkeypatch.setattr(image_chunks, "write_chunk", lambda chunk: (written.append(chunk.name), write(chunk))[1])
    return written


def arrays_of(data: ImageData) -> list[np.ndarray]:
    return [getattr(data, f"{part}_{what}")[:] for part in ("train", "validation", "test") for what in ("images", "labels")]


# --- what is decoded --------------------------------------------------------------------------------------------------


def test_decoded_images_are_those_that_memory_would_hold(folder, tmp_path):
    held, kept = (open_images(str(folder), side=16, validation_images=3, cache=cache) for cache in (None, tmp_path / "kept"))
    assert all(np.array_equal(one, other) for one, other in zip(arrays_of(held), arrays_of(kept), strict=True))
    assert (kept.class_names, kept.side, kept.channels, len(kept.train_images)) == (held.class_names, 16, 3, 9)
    assert sorted(file.name for file in (tmp_path / "kept").iterdir()) == [
        ".lock", "images.json", "test_images.npy", "test_labels.npy", "train_images.npy", "train_labels.npy",
    ]  # fmt: skip
    assert np.array_equal(np.load(tmp_path / "kept" / "test_images.npy"), held.test_images)


def test_several_processes_write_the_files_of_one(folder, tmp_path, small_chunks):
    told = []
    decode_once(folder, tmp_path / "one", 16, processes=1)
    decode_once(folder, tmp_path / "two", 16, processes=2, progress=lambda done, total: told.append((done, total)))
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name
    assert [done for done, _ in told] == sorted(done for done, _ in told) and told[-1] == (24, 24)


def test_the_options_of_a_folder_ride_on_its_path_and_the_cache_is_a_path_itself(folder, tmp_path):
    kept = open_images(f"{folder}:side=16,cache={tmp_path / 'kept'}")
    assert (kept.side, kept.name) == (16, str(folder)) and is_image_cache(tmp_path / "kept")
    for file in folder.rglob("*.jpg"):
        file.unlink()
    assert open_images(str(tmp_path / "kept")).fingerprint == kept.fingerprint
    assert open_images(f"{photographs(tmp_path / 'grey')}:side=16,channels=1").channels == 1


@pytest.mark.parametrize("option", ["sides=3", "side=0", "side=x", "side=16,side=16", "cache="])
def test_options_that_are_none_are_refused(folder, option):
    with pytest.raises(ValueError, match="expected side=PIXELS, channels=1"):
        open_images(f"{folder}:{option}")


def test_options_of_what_is_no_folder_of_images_are_refused():
    with pytest.raises(ValueError, match="'side', which is for folders of image files"):
        open_images("fashion-mnist-subset:side=16")


def test_the_fingerprint_is_kept_and_tells_every_pixel_label_and_split(folder, tmp_path, monkeypatch):
    data = open_images(str(folder), side=16, cache=tmp_path / "kept")
    again, split = open_images(str(tmp_path / "kept")), open_images(str(tmp_path / "kept"), seed=1)
    assert data.fingerprint == again.fingerprint != split.fingerprint
    assert replace(data, test_labels=1 - data.test_labels).fingerprint != data.fingerprint
    (folder / "val" / "class1" / "00003.jpg").write_bytes(noise((24, 20), 77))
    assert open_images(str(folder), side=16, cache=tmp_path / "other").fingerprint != data.fingerprint


def test_rows_read_are_arrays_of_ones_own(folder, tmp_path):
    data = open_images(str(folder), side=16, cache=tmp_path / "kept")
    first, before = data.train_images[[2, 0]], data.train_images[0]
    first[:] = 0
    assert first.flags.writeable and first.shape == (2, 16, 16, 3) and before.shape == (16, 16, 3) and before.any()
    assert np.array_equal(data.train_images[0], before) and len(list(data.train_images)) == len(data.train_images) == 11
    assert np.array_equal(data.train_images[1:3, 0, 0, 0], data.train_images[:][1:3, 0, 0, 0])
    assert np.array_equal(data.calibration_images(4), data.train_images[:][data_module.drawn(11, 4, 0)])


def test_another_process_is_sent_the_name_of_a_file_and_not_its_pixels(folder, tmp_path):
    rows = data_module.picked(open_images(str(folder), side=16, cache=tmp_path / "kept").train_images, np.array([7, 2, 5]))
    sent = pickle.dumps(rows)
    assert str(tmp_path / "kept").encode() in sent and rows[1].tobytes() not in sent
    received = pickle.loads(sent)
    assert np.array_equal(received[:], rows[:]) and received.fingerprint == rows.fingerprint


# --- what stops it ----------------------------------------------------------------------------------------------------


def test_damaged_images_are_all_told_and_the_others_need_not_be_decoded_again(folder, tmp_path, small_chunks, monkeypatch):
    good = {}
    for name in (*(f"train/class0/{i:05}.jpg" for i in range(1, 5)), "val/class1/00002.jpg"):
        good[name] = (folder / name).read_bytes()
        (folder / name).write_bytes(good[name][:300])
    with pytest.raises(DamagedImageError, match=r"class0/00001\.jpg' cannot be read .*; 4 more cannot be used, .*damaged\.txt' names them all"):
        decode_once(folder, tmp_path / "kept", 16, processes=1)
    assert not is_image_cache(tmp_path / "kept")
    assert (tmp_path / "kept" / "damaged.txt").read_text().splitlines() == [str(folder / name) for name in good]
    for name, content in good.items():
        (folder / name).write_bytes(content)
    written = noted(monkeypatch)
    decode_once(folder, tmp_path / "kept", 16, processes=1)
    decode_once(folder, tmp_path / "whole", 16, processes=1)
    assert written[:3] == ["train 0", "train 1", "test 2"] and len(written) == 3 + 6
    assert (tmp_path / "kept" / "images.json").read_bytes() == (tmp_path / "whole" / "images.json").read_bytes()


def test_names_of_damaged_images_are_not_those_of_an_earlier_decoding(folder, tmp_path):
    damaged = folder / "train" / "class0" / "00001.jpg"
    damaged.write_bytes(b"")
    with pytest.raises(DamagedImageError):
        decode_once(folder, tmp_path / "kept", 16, processes=1)
    damaged.unlink()
    decode_once(folder, tmp_path / "kept", 16, processes=1)
    assert is_image_cache(tmp_path / "kept") and not (tmp_path / "kept" / "damaged.txt").exists()


def test_a_killed_process_is_told_in_one_sentence_and_the_same_call_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(image_cache, "CHUNK_IMAGES", 1)
    folder, kept = photographs(tmp_path / "images", each=100, different=4), tmp_path / "kept"

    def progress(done, total):
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(DecodingProcessError, match=r"^a process that decodes images was killed .*; what was decoded is kept, the same call goes on"):
        decode_once(folder, kept, 16, processes=2, progress=progress)
    assert not is_image_cache(kept) and len((kept / "decoding.txt").read_text().splitlines()) > 1
    written = noted(monkeypatch)
    decode_once(folder, kept, 16, processes=1)
    assert is_image_cache(kept) and 0 < len(written) < 400


def test_a_script_that_decodes_without_a_main_guard_is_told_so(folder, tmp_path):
    script = "import sys; from pathlib import Path; from supernets.training import image_cache; image_cache.CHUNK_IMAGES = 4\n"
    (tmp_path / "script.py").write_text(script + "image_cache.decode_once(Path(sys.argv[1]), Path(sys.argv[2]), 16, processes=2)\n")
    arguments = [sys.executable, str(tmp_path / "script.py"), str(folder), str(tmp_path / "kept")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1 and 'could not begin (a script that decodes does so under `if __name__ == "__main__":`)' in ended.stderr


def test_images_of_several_sizes_need_a_side(folder, tmp_path):
    with pytest.raises(ValueError, match="give the side to scale to, as in --images FOLDER:side=224"):
        open_images(str(folder), cache=tmp_path / "kept")
    assert not (tmp_path / "kept" / "images.json").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from supernets.training import image_cache
image_cache.CHUNK_IMAGES = 4
after = int(sys.argv[3])
def progress(done, total):
    if done >= after:
        os.kill(os.getpid(), signal.SIGKILL)
image_cache.decode_once(Path(sys.argv[1]), Path(sys.argv[2]), 16, processes=1, progress=progress)
"""


def test_a_killed_decoding_is_never_taken_for_whole_and_goes_on(folder, tmp_path, small_chunks, monkeypatch):
    kept = tmp_path / "kept"
    for after in (4, 16):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(kept), str(after)], cwd=ROOT, check=False)
        assert killed.returncode < 0 and not is_image_cache(kept)
        with pytest.raises(FileNotFoundError):
            open_images(str(kept))
    with (kept / "decoding.txt").open("a") as file:
        file.write("test 1 0123")  # what a kill in the middle of a line leaves
    written = noted(monkeypatch)
    decode_once(folder, kept, 16, processes=1)
    assert written == ["test 1", "test 2"]
    decode_once(folder, tmp_path / "whole", 16, processes=1)
    assert all((kept / file.name).read_bytes() == file.read_bytes() for file in (tmp_path / "whole").iterdir())


def test_a_decoding_of_other_images_begins_anew(folder, tmp_path, small_chunks):
    subprocess.run([sys.executable, "-c", KILLED, str(folder), str(tmp_path / "kept"), "8"], cwd=ROOT, check=False)
    (folder / "train" / "class0" / "more.jpg").write_bytes(noise((30, 30), 5))
    decode_once(folder, tmp_path / "kept", 16, processes=1)
    decode_once(folder, tmp_path / "whole", 16, processes=1)
    assert all((tmp_path / "kept" / file.name).read_bytes() == file.read_bytes() for file in (tmp_path / "whole").iterdir())


def test_a_full_disk_is_told_by_the_files_name_before_anything_is_decoded(folder, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot be written, .* GB are needed: File too large") as caught:
            decode_once(folder, tmp_path / "kept", 16, processes=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "kept" / "train_images.npy") and not (tmp_path / "kept" / "train_images.npy").exists()
    decode_once(folder, tmp_path / "kept", 16, processes=1)


def test_a_disk_that_fills_while_images_are_written_is_told_by_the_files_name(folder, tmp_path, monkeypatch):
    def full(handle: int) -> None:
        if handle > 2 and os.readlink(f"/proc/self/fd/{handle}").endswith("train_images.npy"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="cannot be written: No space left on device") as caught:
        decode_once(folder, tmp_path / "kept", 16, processes=1)
    assert caught.value.filename == str(tmp_path / "kept" / "train_images.npy") and not is_image_cache(tmp_path / "kept")


def test_two_that_want_the_same_cache_decode_it_once(folder, tmp_path, small_chunks, monkeypatch):
    written = noted(monkeypatch)
    threads = [threading.Thread(target=decode_once, args=(folder, tmp_path / "kept", 16), kwargs={"processes": 1}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(written) == ["test 0", "test 1", "test 2", "train 0", "train 1", "train 2"]


# --- caches that are not what is asked for ----------------------------------------------------------------------------


def test_a_cache_of_other_images_or_another_size_is_refused(folder, tmp_path):
    open_images(str(folder), side=16, cache=tmp_path / "kept")
    with pytest.raises(ValueError, match="has images of side 16, not 20; remove it to decode anew"):
        open_images(str(folder), side=20, cache=tmp_path / "kept")
    with pytest.raises(ValueError, match="has images of channels 3, not 1"):
        open_images(str(folder), side=16, channels=1, cache=tmp_path / "kept")
    (folder / "train" / "class0" / "00000.jpg").rename(folder / "train" / "class0" / "moved.jpg")
    with pytest.raises(ValueError, match="was not decoded from the files that .* has now"):
        open_images(str(folder), side=16, cache=tmp_path / "kept")


def test_a_folder_with_other_files_is_no_place_for_a_cache(folder, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=r"has other files, such as 'a\.txt'; give an empty or a new folder"):
        open_images(str(folder), side=16, cache=tmp_path / "letters")
    with pytest.raises(OSError, match="cannot be written") as caught:
        open_images(str(folder), side=16, cache=tmp_path / "letters" / "a.txt")
    assert caught.value.filename == str(tmp_path / "letters" / "a.txt")


def test_a_cache_is_not_kept_where_folders_are_classes(folder, tmp_path):
    for place in (folder / "train" / "kept", folder / "test" / "deep" / "kept"):
        with pytest.raises(ValueError, match="is inside '.*', where folders are classes; keep decoded images elsewhere"):
            open_images(str(folder), side=16, cache=place)
        assert not place.exists()


def test_a_side_that_no_image_has_is_refused_before_one_is_decoded(folder, tmp_path):
    for cache in (None, tmp_path / "kept"):
        with pytest.raises(ValueError, match="are to be scaled to side 1000000; expected 1 to 4096 pixels"):
            open_images(str(folder), side=10**6, cache=cache)


def changed(field, value, content):
    return json.dumps({**json.loads(content), field: value}).encode()


@pytest.mark.parametrize(("name", "damage"), [
    ("images.json", lambda content: b"{"), ("images.json", lambda content: json.dumps({"kind": "letters"}).encode()),
    ("images.json", lambda content: content.replace(b'"train": 12', b'"train": 13')), ("train_images.npy", lambda content: content[:-5]),
    ("test_labels.npy", lambda content: content[:20]), ("test_images.npy", None),
    *(("images.json", partial(changed, field, value)) for field, value in (
        ("images", 5), ("images", {}), ("images", {"train": 12}), ("shape", 5), ("shape", ["16", "16", 3]), ("sha256", []), ("class_names", 5),
        ("class_names", [1]), ("source_sha256", None),
    )), ("train_images.npy", lambda content: content[:74] + b"\x0b" + content[75:]),
])  # fmt: skip
def test_damaged_caches_are_refused_by_the_files_name(folder, tmp_path, name, damage):
    open_images(str(folder), side=16, cache=tmp_path / "kept")
    path = tmp_path / "kept" / name
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"remove (its|the) folder to decode anew") as caught:
        open_images(str(tmp_path / "kept"))
    assert str(tmp_path / "kept") in str(caught.value)


# --- memory -----------------------------------------------------------------------------------------------------------


LIMITED = """
import resource, sys
import torch
from pathlib import Path
from supernets import spaces
from supernets.training.data import open_images
from supernets.training.phases import Phase, Recipe
from supernets.training.run import Run
torch.set_num_threads(1)
space = spaces.space("ofa-mobilenetv3-tiny:resolutions=32,classes=2,image_channels=3")
recipe = Recipe("crops", (Phase("full", 1, 0.05, {}, ("largest",)),), batch_size=16, crop_scale=0.08, brightness=0.1, saturation=0.5)
Run(space, open_images(sys.argv[1]), recipe, 0).advance()
held_kB = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1])
limit = held_kB * 1024 + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
images = open_images(sys.argv[2])
run = Run(space, images, recipe, 0)
for _ in range(8):
    run.advance()
print(len(images.train_images), images.fingerprint, len(images.calibration_images(64)))
"""


@pytest.mark.slow
def test_training_and_decoding_hold_a_small_part_of_the_images_in_memory(tmp_path):
    """Anonymous memory is limited to a fifth of what the images take: in memory they do not fit, in the cache they do."""
    folder, side = photographs(tmp_path / "images", each=1000, different=12), 224
    size = 4000 * side * side * 3
    photographs(tmp_path / "few", each=20)

    def limited(images: str) -> subprocess.CompletedProcess[str]:
        arguments = [f"{tmp_path / 'few'}:side={side},cache={tmp_path / 'few-kept'}", images, str(size // 5)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        return subprocess.run([sys.executable, "-c", LIMITED, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    held = limited(f"{folder}:side={side}")
    assert held.returncode != 0 and "MemoryError" in held.stderr
    kept = limited(f"{folder}:side={side},cache={tmp_path / 'kept'}")
    assert kept.returncode == 0, kept.stderr[-2000:]
    assert kept.stdout.split()[0] == "1800" and (tmp_path / "kept" / "train_images.npy").stat().st_size > size // 2


def test_images_too_many_for_memory_are_refused_with_the_way_out(folder, monkeypatch):
    monkeypatch.setattr("supernets.training.image_folder.MOST_IN_MEMORY", 1000)
    with pytest.raises(ValueError, match=r"too much for memory; name a folder to keep them in, as in --images .*images:side=16,cache=FOLDER"):
        open_images(str(folder), side=16)
