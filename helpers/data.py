"""MNIST from the first place that has it, verified by the digests of its arrays.

The places, in order: the folder that the environment variable BOOK_DATA names, the Keras cache,
a download, and scikit-learn's own handwritten digits, which need no network.
CIFAR-10 comes from the first two, or by Keras' own loader where the reader asks for its 170 MB.
"""

import gzip
import hashlib
import http.client
import io
import os
import pickle
import queue
import socket
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["DataError", "Digits", "load_cifar10", "load_mnist"]

_DIGESTS = {  # SHA-256 of each array's bytes, whatever file it comes in
    "x_train": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "y_train": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "x_test": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "y_test": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
_IDX = (  # the four original files, in the order of _DIGESTS
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_MIRRORS = (
    ("https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",),
    tuple(f"https://ossci-datasets.s3.amazonaws.com/mnist/{name}.gz" for name in _IDX),
)
_SIZE = 11_600_000  # bytes that a mirror sends, about
_PATIENCE = 4.0  # seconds that a server may stay silent
_SLOWEST = 50_000  # bytes a second that win this patience back
_QUEUE = 90.0  # seconds to wait for another kernel's download

_CIFAR = {  # MD5 of each pickled batch, as its makers publish them: five to train on, one to test
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
_CIFAR_HOME = "cifar-10-batches-py"

_NOTICE = """\
These digits are not MNIST. No copy of it was found and none could be downloaded, so here are the \
1,797 handwritten digits inside scikit-learn: real ones, of 8x8 pixels, scaled to 28x28. The first \
1,500 are for training and the last 297 for testing. Everything runs on them, but scores differ \
from those in the text. For the real MNIST, put mnist.npz in a folder, set the environment \
variable BOOK_DATA to that folder's path, and restart the kernel."""


class DataError(RuntimeError):
    """The data that the reader asked for can't be used. The message says what to do."""


class _Unsound(Exception):
    """A file whose content isn't MNIST. The message names it."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Handwritten digits, white on black, and where they come from.

    `x_train` (N, 28, 28) and `x_test` (M, 28, 28) are uint8 from 0 to 255.
    `y_train` (N,) and `y_test` (M,) are uint8 from 0 to 9.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    source: str

    @property
    def is_mnist(self) -> bool:
        """Whether these are MNIST (N = 60000, M = 10000), not the stand-in (N = 1500, M = 297)."""
        return self.source.startswith("MNIST")


def load_mnist() -> Digits:
    """Load MNIST from the first place that has it, and print which one that was.

    Raises DataError where BOOK_DATA is set but its folder holds no sound MNIST.
    """
    if folder := os.environ.get("BOOK_DATA"):
        digits = _from_folder(Path(os.path.expanduser(folder)).absolute())
    else:
        home = os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras")
        cache = Path(home, "datasets", "mnist.npz")
        digits = _from_cache(cache) or _from_network(cache) or _from_sklearn()
    print(digits.source)
    return digits


def load_cifar10() -> dict[str, np.ndarray] | None:
    """Load CIFAR-10 where it is at hand, and print what was found; None where it isn't.

    It is looked for in the folder BOOK_DATA, as cifar-10-python.tar.gz or unpacked, and in the
    Keras cache. Only if BOOK_CIFAR10 is "download" does Keras fetch it. `x_train` (N, 32, 32, 3)
    and `x_test` (M, 32, 32, 3) are uint8 from 0 to 255, `y_train` (N,) and `y_test` (M,) from 0 to
    9. Raises DataError where a file that is there isn't sound.
    """
    home = Path(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras"), "datasets")
    places = [home, home / "cifar-10-batches-py-target"]  # the second is where Keras unpacks it
    if folder := os.environ.get("BOOK_DATA"):
        places.insert(0, Path(os.path.expanduser(folder)))
    files = next(filter(None, map(_cifar_files, places)), None)
    if files is None and os.environ.get("BOOK_CIFAR10") == "download":
        files = _fetch_cifar(places)
    if files is None:
        print("CIFAR-10 is not here: put cifar-10-python.tar.gz into BOOK_DATA, if you like.")
        return None
    parts = {"train": ([], []), "test": ([], [])}
    for name, content in files.items():
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != _CIFAR[name]:
            raise DataError(f"CIFAR-10's {name} is damaged: put a sound copy there, or remove it.")
        batch = pickle.loads(content, encoding="bytes")  # only what has the right digest
        xs, ys = parts["test" if name.startswith("test") else "train"]
        xs.append(batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        ys.append(np.array(batch[b"labels"], np.uint8))
    print("CIFAR-10, from a file on this machine")
    arrays = {f"{a}_{part}": v for part, xy in parts.items() for a, v in zip("xy", xy, strict=True)}
    return {name: np.concatenate(values) for name, values in arrays.items()}


def _cifar_files(place: Path) -> dict[str, bytes] | None:
    """The contents of the six batches by name, or None where there are none at `place`."""
    archive, folder = place / "cifar-10-python.tar.gz", place / _CIFAR_HOME
    try:
        if archive.is_file():
            with tarfile.open(archive) as tar:
                return {n: tar.extractfile(f"{_CIFAR_HOME}/{n}").read() for n in _CIFAR}
        if folder.is_dir():
            return {name: (folder / name).read_bytes() for name in _CIFAR}
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, AttributeError) as error:
        what = str(error).partition("\n")[0]
        raise DataError(
            f"{place} holds no sound CIFAR-10 ({what}): remove or replace it."
        ) from None
    return None


def _fetch_cifar(places: list[Path]) -> dict[str, bytes] | None:
    """Let Keras download it, then look again. A server that is silent for seconds is given up."""
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        keras.datasets.cifar10.load_data()
    except Exception as error:  # Keras wraps whatever went wrong
        print(f"No CIFAR-10 from the network: {error}")
    finally:
        socket.setdefaulttimeout(before)
    return next(filter(None, map(_cifar_files, places)), None)


def _from_folder(folder: Path) -> Digits:
    """Read the reader's own folder. It is an explicit wish, so any fault is an error."""
    paths = [folder / "mnist.npz"]
    try:
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder: let BOOK_DATA name one, or unset it.")
        if not paths[0].is_file():
            gzipped = [folder / f"{name}.gz" for name in _IDX]
            paths = [p if p.is_file() else p.with_suffix("") for p in gzipped]
            if missing := [p.name for p in paths if not p.is_file()]:
                raise DataError(
                    f"{folder} holds neither mnist.npz nor all four idx files (no {missing[0]}): "
                    "put MNIST there, or unset BOOK_DATA."
                )
        arrays = _unpack([(str(path), path.read_bytes()) for path in paths])
    except (OSError, _Unsound) as error:
        raise DataError(f"{error}: put a sound copy there, or unset BOOK_DATA.") from error
    return Digits(**arrays, source="MNIST, from the folder in BOOK_DATA")


def _from_cache(path: Path, complain: bool = True) -> Digits | None:
    """Read the file that Keras may have left. A bad one is no obstacle, and stays."""
    try:
        arrays = _unpack([(str(path), path.read_bytes())])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, _Unsound) as error:
        if complain:
            print(f"{error}: looking elsewhere.")
        return None
    return Digits(**arrays, source="MNIST, from the Keras cache")


def _from_network(cache: Path) -> Digits | None:
    """Download from the first mirror that has MNIST, and store it where Keras looks too."""
    started = time.monotonic()
    with _locked(cache) as obstacle:
        if digits := _from_cache(cache, complain=False):  # another kernel was faster
            return digits
        # Whoever held the lock till now got nothing, so we don't wait as long again.
        patience = max(1.0, _PATIENCE - (time.monotonic() - started))
        for urls in _MIRRORS:
            host = urllib.parse.urlsplit(urls[0]).hostname
            try:
                files = _download(urls, patience)
                arrays = _unpack(files)
            except (OSError, http.client.HTTPException, _Unsound) as error:
                print(f"No MNIST from {host}: {getattr(error, 'reason', None) or error}.")
                continue
            try:
                if obstacle:
                    raise obstacle
                _store(cache, files, arrays)
            except (OSError, NotImplementedError) as error:
                print(f"MNIST is not stored, so the next run downloads it again: {error}.")
            return Digits(**arrays, source=f"MNIST, downloaded from {host}")
    return None


def _from_sklearn() -> Digits:
    """Bring scikit-learn's 8x8 digits to MNIST's geometry: 20x20 in the middle of 28x28.

    Bilinear, in whole numbers, so that every machine gets the same bytes. The order is that of
    the scans: the writers of the last 297 are mostly not those of the first 1,500.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    centres = (np.arange(20) + 0.5) * 8 / 20 - 0.5  # of the new pixels, counted in old ones
    tenths = np.stack([np.interp(centres, range(8), 10 * row) for row in np.eye(8)], axis=1)
    tenths = np.rint(tenths).astype(np.int64)  # (20, 8): exact, since all weights are tenths
    scaled = tenths @ bunch.images.astype(np.int64) @ tenths.T  # (1797, 20, 20), 0 to 1600
    x = np.pad((scaled * 255 + 800) // 1600, ((0, 0), (4, 4), (4, 4))).astype(np.uint8)
    y = bunch.target.astype(np.uint8)
    print(_NOTICE)
    source = "scikit-learn's digits, scaled to 28x28"
    return Digits(x[:-297], y[:-297], x[-297:], y[-297:], source)


def _unpack(files: list[tuple[str, bytes]]) -> dict[str, np.ndarray]:
    """Turn one .npz or four idx files, as pairs of name and content, into verified arrays."""
    if len(files) == 1:
        files = files * len(_DIGESTS)
    arrays = {}
    for (name, digest), (file, content) in zip(_DIGESTS.items(), files, strict=True):
        fault = _Unsound(f"{file} is truncated, damaged or not MNIST")
        try:
            array = _read_array(name, content)
        except Exception as error:  # on damaged bytes, NumPy and zipfile raise a dozen kinds
            raise fault from error
        if array.dtype != np.uint8 or hashlib.sha256(array.tobytes()).hexdigest() != digest:
            raise fault
        arrays[name] = array.reshape((-1, 28, 28) if name.startswith("x") else -1)
    return arrays


def _read_array(name: str, content: bytes) -> np.ndarray:
    """Read the array `name` from an .npz, or from its own idx file, gzipped or not."""
    if content.startswith(b"PK"):
        with np.load(io.BytesIO(content), allow_pickle=False) as npz:
            return npz[name]
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    header = 16 if name.startswith("x") else 8
    return np.frombuffer(bytearray(content), np.uint8, offset=header)


@contextmanager
def _locked(cache: Path) -> Iterator[Exception | None]:
    """Hold the lock beside `cache`. Yield None, or the error because of which we don't hold it."""
    from filelock import FileLock, Timeout

    lock, obstacle = FileLock(f"{cache}.lock"), None
    try:
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            print("Another kernel is downloading MNIST: waiting for it.")
            lock.acquire(timeout=_QUEUE)
    except (OSError, NotImplementedError) as error:
        obstacle = error
    try:
        yield obstacle
    finally:
        lock.release()


def _store(cache: Path, files: list[tuple[str, bytes]], arrays: dict[str, np.ndarray]) -> None:
    """Write `cache` as a whole or not at all. Only the holder of the lock calls this."""
    part = cache.with_name(f"{cache.name}.part")
    try:
        with part.open("wb") as file:
            if len(files) == 1:
                file.write(files[0][1])  # the .npz as it came: Keras knows its digest
            else:
                np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, cache)
    finally:
        part.unlink(missing_ok=True)


def _download(urls: tuple[str, ...], patience: float) -> list[tuple[str, bytes]]:
    """Fetch `urls`, showing progress. Return pairs of URL and content.

    A thread receives, since a name lookup or a dripping server outlasts any socket timeout. The
    patience drains while we wait and comes back with the bytes: a silent server gets `patience`
    seconds, and a slow one as long as it needs.
    """
    from tqdm import tqdm

    chunks, stop = queue.SimpleQueue(), threading.Event()
    threading.Thread(target=_receive, args=(urls, chunks, stop), daemon=True).start()
    files, content = [], bytearray()
    try:
        with tqdm(total=_SIZE, unit="B", unit_scale=True, leave=False, file=sys.stdout) as bar:
            while len(files) < len(urls):
                waiting = time.monotonic()
                try:
                    chunk = chunks.get(timeout=max(patience, 0.0))
                except queue.Empty:
                    raise TimeoutError("it is silent or far too slow") from None
                if isinstance(chunk, Exception):
                    raise chunk
                patience += len(chunk) / _SLOWEST - (time.monotonic() - waiting)
                patience = min(patience, _PATIENCE)
                bar.update(len(chunk))
                if bar.n > 2 * _SIZE:
                    raise OSError("it sends far more than MNIST")
                content += chunk
                if not chunk:  # the end of one file
                    files.append((urls[len(files)], bytes(content)))
                    content.clear()
    finally:
        stop.set()
    return files


def _receive(urls: tuple[str, ...], chunks: queue.SimpleQueue, stop: threading.Event) -> None:
    """Put what comes from `urls` into `chunks`: bytes, b"" after each file, or the error."""
    try:
        for url in urls:
            with urllib.request.urlopen(url, timeout=_PATIENCE) as response:
                while (chunk := response.read1(65536)) and not stop.is_set():
                    chunks.put(chunk)
            if stop.is_set():
                return
            chunks.put(b"")
    except Exception as error:  # raised again by _download
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        chunks.put(error)
