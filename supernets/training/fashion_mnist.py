"""Fashion-MNIST (Xiao et al., 2017; MIT licence): where its files are, and how to get them when somebody asks for it."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

from supernets.atomic_file import write_whole

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # of Debian's package dataset-fashion-mnist
CLASS_NAMES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
URL = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141/data/fashion"
SHA256_UNPACKED = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read_url(url: str) -> bytes:
    """Return what an address holds.

    Raises:
        OSError: it cannot be reached.
    """
    import urllib.request

    with urllib.request.urlopen(url, timeout=60) as response:
        data: bytes = response.read()
    return data


def download(folder: Path, read: Callable[[str], bytes] = read_url) -> None:
    """Fetch the four files (30 MB) into the folder, for `open_images(str(folder))`; files already there stay.

    Raises:
        OSError: an address cannot be reached.
        ValueError: a file is not what it should be; it is not kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in SHA256_UNPACKED.items():
        path = folder / f"{name}.gz"
        if path.exists():
            continue
        data = read(f"{URL}/{name}.gz")
        found = hashlib.sha256(gzip.decompress(data)).hexdigest()
        if found != expected:
            raise ValueError(f"{URL}/{name}.gz holds data of SHA-256 {found}; expected {expected}, so it is not used")
        write_whole(path, data)
