"""What chapter 17 ships: programs that say what is wrong, and cards that notice a changed file."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import shipping
from shipping import native, needs

PICTURES = np.zeros((3, 1, 28, 28), "float32")


def linear(path, pixels=784):
    """An ONNX file whose logits are M x + b of a picture's pixels; returns M and b."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    M, b = rng.normal(size=(pixels, 10)).astype("float32"), np.arange(10, dtype="float32")
    helper, numbers = onnx.helper, onnx.numpy_helper.from_array
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pictures"], ["flat"]),
            helper.make_node("Gemm", ["flat", "M", "b"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("pictures", kind, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", kind, ["batch", 10])],
        [numbers(M, "M"), numbers(b, "b")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return M, b


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program that needs OpenVINO alone, compiled once."""
    pytest.importorskip("openvino")
    job = shipping.Program("openvino_app", tmp_path_factory.mktemp("programs"))
    yield job
    job.close()


@pytest.mark.parametrize("n", [1, 500, 501])
def test_the_program_computes_what_the_file_says(program, tmp_path, n):
    M, b = linear(tmp_path / "linear.onnx")
    x = np.random.default_rng(1).random((n, 1, 28, 28), dtype="float32")
    exact = x.reshape(n, 784).astype("float64") @ M + b
    bound = 786 * 2.0**-24 * (x.reshape(n, 784) @ np.abs(M) + np.abs(b))
    assert (np.abs(program(tmp_path / "linear.onnx", x) - exact) <= bound).all()
    turned = np.asfortranarray(x)  # the same numbers, another order in memory
    assert (np.abs(program(tmp_path / "linear.onnx", turned) - exact) <= bound).all()


def test_what_a_program_cannot_do_it_says_in_a_sentence(program, tmp_path):
    linear(tmp_path / "small.onnx", pixels=7)
    (tmp_path / "text.onnx").write_text("no network")
    for name in ("missing.onnx", "text.onnx", "small.onnx"):
        with pytest.raises(shipping.ShippingError, match=r"^openvino_app failed: .{5,}") as error:
            program(tmp_path / name, PICTURES)
        assert "\n" not in str(error.value)
    for pictures in (PICTURES.astype("float64"), PICTURES[:, 0], PICTURES.reshape(3, 28, 28, 1)):
        with pytest.raises(shipping.ShippingError, match=r"give float32 \(N, 1, 28, 28\)"):
            program(tmp_path / "small.onnx", pictures)


def test_a_program_that_writes_too_little_is_noticed(program, tmp_path):
    silent = tmp_path / "silent"
    silent.write_text('#!/bin/sh\ntouch "$3"\n')
    silent.chmod(0o755)
    job = native.Job(["true"], silent)
    job.__class__ = shipping.Program
    with pytest.raises(shipping.ShippingError, match="silent gave 0 numbers for 3 pictures"):
        job("model.onnx", PICTURES)


def test_without_a_compiler_it_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    for act in (
        lambda: shipping.Program("openvino_app", tmp_path),
        lambda: shipping.compile_ahead(tmp_path / "a.pt2", tmp_path / "b.pt2"),
    ):
        with pytest.raises(shipping.ShippingError, match="There is no C"):
            act()


def test_source_that_does_not_compile_is_told_with_its_first_error(tmp_path, monkeypatch):
    (tmp_path / "broken.cpp").write_text("int main() { return nothing; }\n")
    monkeypatch.setattr(native, "HERE", tmp_path)
    monkeypatch.setitem(native.WORDS, "broken", ["-std=c++17"])
    job = shipping.Program("broken", tmp_path)
    with pytest.raises(shipping.ShippingError, match=r"broken can't be made: .*error: .nothing."):
        job.ready()


def test_a_job_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(native, "PATIENCE", 0.1)
    job = native.Job([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "file")
    with pytest.raises(shipping.ShippingError, match=r"file wasn't made after 0\.1 s"):
        job.ready()
    assert job._process.poll() is not None


def test_a_job_that_makes_nothing_has_failed(tmp_path):
    with pytest.raises(shipping.ShippingError, match="file can't be made: status 0"):
        native.Job([sys.executable, "-c", "pass"], tmp_path / "file").ready()


def test_what_is_exported_badly_is_not_compiled(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "text.pt2").write_text("no program")
    job = shipping.compile_ahead(tmp_path / "text.pt2", tmp_path / "package.pt2")
    with pytest.raises(shipping.ShippingError, match=r"package\.pt2 can't be made: "):
        job.ready()
    assert not (tmp_path / "package.pt2").exists()


def test_unknown_programs_and_missing_packages_are_named():
    with pytest.raises(shipping.ShippingError, match="no program 'app': choose from openvino_app"):
        shipping.command("app")
    with pytest.raises(shipping.ShippingError, match=r"needs nonesuch: run `pip install -e"):
        shipping.require("json", "nonesuch")
    assert shipping.require("json") is None and issubclass(needs.ShippingError, Exception)


def test_the_command_is_the_one_that_is_shown():
    words = shipping.command("aoti_app")
    assert words[0] == "g++" and words[-2:] == ["-o", "aoti_app"]
    assert words.index("aoti_app.cpp") < words.index("-ltorch")
    assert not [word for word in words if "/usr" in word or "site-packages" in word]


def test_quiet_drops_what_is_written_to_the_file_descriptor(capfd):
    os.write(2, b"before ")
    with shipping.quiet():
        os.write(2, b"within ")
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'child ')"], check=True)
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "digits.onnx"
    file.write_bytes(bytes(range(256)) * 4)
    return file


def test_a_card_tells_what_it_was_told_and_what_the_file_is(model):
    card = shipping.card(model, name="digits", version="1.0.0", numbers={"accuracy": 0.97})
    assert card == json.loads(model.with_suffix(".json").read_text()) == shipping.check(model)
    assert card["bytes"] == 1024 and card["sha256"] == shipping.digest(model.read_bytes())
    assert card["numbers"] == {"accuracy": 0.97} and card["file"] == "digits.onnx"


@pytest.mark.parametrize("place", [0, 511, 1023])
def test_one_bit_is_noticed_wherever_it_is(model, place):
    shipping.card(model, name="digits", version="1.0.0")
    content = bytearray(model.read_bytes())
    content[place] ^= 1
    model.write_bytes(content)
    with pytest.raises(shipping.ShippingError, match="it isn't the file that was described"):
        shipping.check(model)


def test_a_file_cut_short_swapped_or_gone_is_noticed(model):
    shipping.card(model, name="digits", version="1.0.0")
    whole = model.read_bytes()
    for content in (whole[:-1], whole + b"\0", b""):
        model.write_bytes(content)
        with pytest.raises(shipping.ShippingError, match=r"^digits\.onnx has the digest"):
            shipping.check(model)
    model.unlink()
    with pytest.raises(shipping.ShippingError, match=r"^digits\.onnx can't be read: No such file"):
        shipping.check(model)


def test_a_card_that_is_none_is_refused(model):
    path = model.with_suffix(".json")
    with pytest.raises(shipping.ShippingError, match=r"^digits\.json can't be read"):
        shipping.check(model)
    for text in ("", "{", "[]", "3", '{"name": "digits"}', '{"sha256": 5}'):
        path.write_text(text)
        with pytest.raises(shipping.ShippingError, match=r"^digits\.json is no model card"):
            shipping.check(model)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"name": " "}, "A card needs a name, as text"),
        ({"version": 1.0}, r"A card needs a version, as text, not 1\.0"),
        ({"sha256": "0"}, "'sha256' is taken from the file itself"),
        ({"accuracy": float("nan")}, "A card holds what JSON knows"),
        ({"weights": np.zeros(2)}, "A card holds what JSON knows"),
    ],
)
def test_what_cannot_stand_in_a_card_leaves_the_old_one(model, facts, message):
    old = shipping.card(model, name="digits", version="1.0.0")
    with pytest.raises(shipping.ShippingError, match=message):
        shipping.card(model, **{"name": "digits", "version": "2.0.0"} | facts)
    assert shipping.check(model) == old
    assert {path.name for path in model.parent.iterdir()} == {"digits.onnx", "digits.json"}


def test_a_card_is_never_its_own_model(model):
    path = model.with_suffix(".json")
    shutil.copy(model, path)
    for act in (shipping.check, lambda file: shipping.card(file, name="a", version="1")):
        with pytest.raises(shipping.ShippingError, match="would be its own card"):
            act(path)


def test_digests_are_of_bytes_of_text_and_of_numbers():
    x = np.arange(6, dtype="uint8")
    assert shipping.digest(x) == shipping.digest(x.reshape(2, 3)) == shipping.digest(x.tobytes())
    assert shipping.digest("é") == shipping.digest("é".encode()) != shipping.digest("e")
