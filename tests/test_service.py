"""Chapter 17's service: what it refuses and in which words, how it ends, and that it holds out.

A start takes about a second, so most tests share one service. Each that ends badly is an error.
"""

import collections
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import service
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from service.limits import Limits
from service.load import PICTURE, SHARES, bad, good, idle, request, verdict
from service.model import Model, StartError

PICTURES = np.random.default_rng(0).integers(0, 256, (160, 28, 28), dtype="uint8")
HASTE = {"body_seconds": 1.0, "head_seconds": 1.0}


def write(path, inputs="pictures", outputs=10, external=False):
    """A convolutional network with random weights in an ONNX file, and its card."""
    draw = np.random.default_rng(1)
    shapes = {"k": (4, 1, 5, 5), "W": (4 * 12 * 12, outputs), "b": (outputs,)}
    weights = [
        numpy_helper.from_array(draw.normal(0, 0.1, shape).astype("float32"), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", [inputs, "k"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"]),
        helper.make_node("Gemm", ["f", "W", "b"], ["logits"]),
    ]
    x = helper.make_tensor_value_info(inputs, TensorProto.FLOAT, ["batch", 1, 28, 28])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])
    graph = helper.make_graph(nodes, "digits", [x], [y], weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, path, save_as_external_data=external, size_threshold=0)
    card = {"name": "digits", "version": "1.0.0", "sha256": digest(path)}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write(tmp_path_factory.mktemp("model") / "digits.onnx")


@pytest.fixture(scope="module")
def logits(model):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    x = PICTURES[:, None].astype("float32") / np.float32(255)
    found = session.run(["logits"], {"pictures": x})[0]
    assert len(set(found.argmax(1))) > 2  # they aren't all alike
    return found


@pytest.fixture(scope="module")
def collector():
    """A port to which telemetry would be sent, if any were."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        yield listening


@pytest.fixture(scope="module")
def web(model, collector):
    """The service that most tests share, told by the environment to send telemetry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
        port = collector.getsockname()[1]
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        with service.running(model, **HASTE) as web:
            yield web


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(condition, patience=20):
    end = time.monotonic() + patience
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


@contextlib.contextmanager
def connection(web, text=b""):
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as link:
        link.sendall(text)
        yield link


def everything(link):
    """What comes until the service closes the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := link.recv(65536):
            found += part
    return found


# ---- good requests, and bad ones ----


@pytest.mark.parametrize("name", service.kinds("valid"))
def test_a_good_request_gets_the_references_answer(web, logits, name):
    answer = service.provoke(web, name, PICTURES[5])
    case = good(PICTURES[5][None], 0)[name]
    assert answer.status == 200 and answer.json["request"] == answer.headers["x-request-id"]
    assert answer.json["model"] == {"name": "digits", "version": "1.0.0"}
    assert answer.json["digits"] == [logits[5].argmax()] * len(case.rows)
    assert np.abs(np.array(answer.json["logits"]) - logits[5]).max() < 1e-5


REFUSED = [name for part in ("malformed", "oversized", "slow") for name in service.kinds(part)]


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_request_is_refused_in_words(web, name):
    answer, case = service.provoke(web, name, PICTURES[0]), bad(PICTURES[0], web.limits)[name]
    assert answer.status == case.status and set(answer.json) == {"status", "error", "request"}
    assert case.words in answer.json["error"] and answer.json["status"] == case.status
    assert 10 < len(answer.json["error"]) < 200 and answer.json["error"].endswith(".")
    assert answer.ms < 1000 * (web.limits.body_seconds + 5)


def test_what_no_one_answers_leaves_no_trace(web):
    for name in service.kinds("interrupted"):
        assert service.provoke(web, name) is None
    idle(web)
    wait_for(lambda: any(line.get("status") == 499 for line in web.log()))


def test_a_request_by_hand_gets_the_whole_answer_as_text(web):
    head = "POST /predict HTTP/1.1\nHost: digits\nContent-Type: application/json\n"
    said = service.talk(web, head + 'Content-Length: 16\nConnection: close\n\n{"pictures": []}')
    head, _, body = said.partition("\n\n")
    assert head.startswith("HTTP/1.1 422 ") and f"content-length: {len(body)}" in head
    assert json.loads(body)["error"].startswith("pictures: List should have at least 1 item")


def test_the_kinds_cover_every_status_and_every_group():
    cases = good(PICTURES, 0) | bad(PICTURES[0], Limits())
    statuses = {case.status for case in cases.values()}
    assert statuses == {None, 200, 400, 404, 405, 408, 413, 415, 422}  # 500, 503: faults, below
    assert list(cases) == service.kinds() and all(service.kinds(name) for name in SHARES)


def test_health_tells_the_model_and_405_the_methods(web, model):
    health = service.ask(web, "/health")
    about = {"name": "digits", "version": "1.0.0", "sha256": digest(model)}
    assert health.status == 200 and health.json == {"live": True, **about, "waiting": 0}
    assert service.ask(web, "/ready").json == {"ready": True}
    assert service.ask(web, "/predict", method="GET").headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/predict/", "//", "/%00"])
def test_nothing_else_is_there(web, path):
    assert service.ask(web, path).status == 404


def test_a_body_can_be_as_large_as_the_limit_and_no_larger(web):
    most = web.limits.body_bytes
    start = json.dumps({"pictures": PICTURES[:1].tolist()}).encode()  # 0 to 255: read, then refused
    for size, status in ((most, 422), (most + 1, 413)):
        assert service.ask(web, "/predict", start.ljust(size), "application/json").status == status


def test_a_continue_is_sent_only_for_a_body_that_will_be_read(web):
    head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
    head += "Expect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    for size, first in ((784, b"HTTP/1.1 100"), (10**9, b"HTTP/1.1 413")):
        with connection(web, (head % size).encode()) as link:
            assert link.recv(65536).startswith(first)


FUZZ = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS,
    lambda some: st.lists(some, max_size=4) | st.dictionaries(st.text(max_size=8), some),
)


@FUZZ
@given(value=VALUES, named=st.booleans())
def test_no_json_is_an_error_of_ours(web, value, named):
    body = json.dumps({"pictures": value} if named else value).encode()
    answer = service.ask(web, "/predict", body, "application/json")
    assert answer.status == 422 and answer.json["error"]


@FUZZ
@given(body=st.binary(max_size=2000), raw=st.booleans())
def test_no_bytes_are_an_error_of_ours(web, body, raw):
    answer = service.ask(web, "/predict", body, None if raw else "application/json")
    picture = raw and len(body) in (784, 1568)
    assert answer.status == 200 if picture else answer.status in (400, 422)


WIRE = b"""POST /predict HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 99999999999999999999999
Transfer-Encoding: chunked|Content-Type: application/json|Connection: upgrade|Upgrade: websocket
Expect: 100-continue|Connection: close|Content-Length: -1|Transfer-Encoding: gzip, chunked
GET /health HTTP/1.0|GET http://[ HTTP/1.1|OPTIONS * HTTP/1.1||5|hello|0|\0|\xff|zz"""
LINES = st.sampled_from(WIRE.replace(b"\n", b"|").split(b"|")) | st.binary(max_size=20)


@FUZZ
@given(lines=st.lists(LINES, max_size=8))
def test_nothing_on_the_wire_is_an_error_of_ours(web, lines):
    with connection(web, b"\r\n".join(lines) + b"\r\n\r\n") as link:
        link.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            found = everything(link)
            assert b" 500 " not in found and b"Traceback" not in found


def test_answers_are_not_mixed_up_between_clients(web, logits):
    def client(first):
        for row in range(first, len(PICTURES), 8):
            answer = service.ask(web, "/predict", PICTURES[row].tobytes())
            assert np.abs(np.array(answer.json["logits"][0]) - logits[row]).max() < 1e-5
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(client, range(8)))


def test_the_log_has_a_line_for_each_request_and_no_pixel(web):
    answers = [
        service.ask(web, "/predict", {"pictures": [np.full((28, 28), 0.1234567).tolist()]}),
        service.ask(web, "/a%0A%7B%22forged%22%3A1%7D" + "x" * 300),
    ]
    ids = [answer.json["request"] for answer in answers]
    wait_for(lambda: {*ids} <= {line.get("request") for line in web.log()})
    first, second = (line for line in web.log() if line.get("request") in ids)
    assert first["request"] == answers[0].headers["x-request-id"] and first["status"] == 200
    assert first["path"] == "/predict" and first["method"] == "POST" and first["ms"] > 0
    assert second["status"] == 404 and second["path"].startswith('/a\n{"forged"')
    assert len(second["path"]) == 80 and "0.1234" not in web.file.read_text()


# ---- a start that fails ----


def test_it_refuses_to_start_with_what_it_cannot_trust(tmp_path):
    path = write(tmp_path / "digits.onnx")
    card = path.with_suffix(".json")
    Model(path)

    def refuses(words):
        with pytest.raises(StartError, match=words):
            Model(path)

    told = json.loads(card.read_text())
    path.write_bytes(path.read_bytes() + b"\0")
    refuses("digits.onnx has the digest .{12}…, its card says " + told["sha256"][:12])
    for text in ("[]", "{", '{"name": "a"}', '{"name": "a", "version": 1, "sha256": "b"}', "\0"):
        card.write_text(text)
        refuses("digits.json is no model card: it needs name, version and sha256")
    card.unlink()
    refuses("digits.json can't be read: No such file")
    path.write_bytes(b"no network")
    card.write_text(json.dumps(told | {"sha256": digest(path)}))
    refuses("digits.onnx is no network with 'pictures'")
    for wrong in ({"inputs": "x"}, {"outputs": 9}, {"external": True}):
        path.unlink()
        write(path, **wrong)
        refuses("digits.onnx is no network with 'pictures'")
    path.unlink()
    refuses("digits.onnx can't be read: No such file")


def test_a_start_that_fails_says_one_sentence(tmp_path, model):
    with (
        pytest.raises(service.ServiceError, match=r"^The service doesn't start\. none.onnx can't"),
        service.running(tmp_path / "none.onnx"),
    ):
        pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [sys.executable, "-m", "service", str(model)]
        words += ["--port", str(taken.getsockname()[1])]
        path = os.pathsep.join(["notebooks", os.environ.get("PYTHONPATH", "")])
        ended = subprocess.run(
            words, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}
        )
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert ended.stderr.startswith("The service doesn't start.") and "Traceback" not in ended.stderr
    for wrong in ({"waiting": 0}, {"body_seconds": -1}, {"body_seconds": float("nan")}):
        with pytest.raises(ValueError, match="give a positive number"):
            Limits(**wrong)


ROOT = Path(__file__).parent.parent


def test_importing_it_does_no_work():
    code = "import sys, service; print({'fastapi', 'uvicorn', 'onnxruntime'} & set(sys.modules))"
    words, where = [sys.executable, "-c", code], ROOT / "notebooks"
    ended = subprocess.run(words, capture_output=True, text=True, check=True, cwd=where)
    assert ended.stdout == "set()\n"


# ---- too many at once ----


def test_a_full_queue_refuses_and_says_when_to_come_back(model):
    with service.running(model, fault="slow", waiting=3) as web:
        answers = service.burst(web, PICTURES[0], 12)
        assert collections.Counter(a.status for a in answers) == {200: 3, 503: 9}
        refused = [answer for answer in answers if answer.status == 503]
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        assert all("try again" in answer.json["error"] for answer in refused)
        assert max(a.ms for a in refused) < min(a.ms for a in answers if a.status == 200)


def test_a_full_service_is_alive_and_not_ready(model):
    with service.running(model, fault="slower", waiting=1) as web, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(service.ask, web, "/predict", bytes(784))
        wait_for(lambda: service.ask(web).json["waiting"] == 1)
        ready = service.ask(web, "/ready")
        assert ready.status == 503 and ready.headers["retry-after"] == "1"
        assert service.ask(web, "/health").status == 200
        assert sent.result().status == 200 and service.ask(web, "/ready").status == 200


def test_connections_are_bounded_too(model):
    with service.running(model, connections=3) as web, contextlib.ExitStack() as stack:
        hello = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
        links = [stack.enter_context(connection(web, hello)) for _ in range(3)]
        assert all(link.recv(65536).startswith(b"HTTP/1.1 200") for link in links)
        extra = [stack.enter_context(connection(web, hello)) for _ in range(3)]
        answers = [link.recv(65536) for link in extra]
        assert all(a.startswith(b"HTTP/1.1 503") and b"retry-after: 1" in a for a in answers)
        with connection(web) as link:  # the seventh of at most six
            assert everything(link) == b""
        for link in links + extra:
            link.close()
        wait_for(lambda: service.ask(web).status == 200)


def test_no_client_holds_a_connection_by_doing_nothing(web):
    with connection(web) as link:
        assert everything(link) == b""
    with connection(web, b"GET /health HT") as link:
        assert everything(link).startswith(b"HTTP/1.1 408")
    with connection(web, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n") as link:
        assert everything(link).startswith(b"HTTP/1.1 200")  # and then it ends the connection


def test_a_refused_client_may_finish_sending_and_read_why_but_not_for_ever(web):
    """To close while bytes come would make the system take the answer back."""
    with connection(web, b"GET /" + b"a" * 5_000_000) as link:
        assert everything(link).startswith(b"HTTP/1.1 400")
    start = time.monotonic()
    with connection(web, request(length=10**12)) as link, pytest.raises(ConnectionError):
        assert link.recv(65536).startswith(b"HTTP/1.1 413")
        while True:
            link.sendall(bytes(8192))
            time.sleep(0.02)
    assert time.monotonic() - start < web.limits.head_seconds + 5


def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_head(web):
    """Where Nagle's algorithm isn't switched off, each takes 40 ms."""
    took, hello = [], b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    with connection(web) as link:
        for _ in range(40):
            start, found = time.perf_counter(), b""
            link.sendall(hello)
            while b"}" not in found:
                found += link.recv(65536)
            took.append(time.perf_counter() - start)
    assert sorted(took)[10] < 0.035


def test_requests_sent_ahead_of_their_turn_are_not_kept_without_bound(web):
    """uvicorn alone takes all 60 MB of these, and keeps them in memory."""
    eight, before = good(PICTURES, 0)["eight, raw"].pieces[0], web.memory()
    with connection(web, 15 * eight) as link:  # some are: HTTP/1.1 allows it
        assert everything(link).count(b"HTTP/1.1 200") == 15
    with connection(web) as link, pytest.raises(ConnectionError):
        for _ in range(10_000):
            link.sendall(eight)
    idle(web)
    assert before is None or web.memory() - before < 10 * 2**20


# ---- the end ----


def test_a_request_in_flight_is_finished_though_told_twice(model, logits):
    with service.running(model, fault="slower") as web, ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(service.ask, web, "/predict", PICTURES[i].tobytes()) for i in range(2)]
        wait_for(lambda: service.ask(web).json["waiting"] == 2)
        web.process.send_signal(signal.SIGTERM)
        time.sleep(0.15)
        web.process.send_signal(signal.SIGTERM)
        with pytest.raises(OSError):
            service.ask(web)  # a new one is refused
        assert [answer.result().status for answer in sent] == [200, 200]
        assert sent[1].result().json["digits"] == [logits[1].argmax()]
        assert web.process.wait(10) == 0
        assert web.log()[-1]["event"] == "ended"
        with pytest.raises(service.ServiceError, match=r"The service is gone: status 0\."):
            idle(web)


def test_the_end_does_not_wait_for_ever(model):
    with service.running(model, body_seconds=60, head_seconds=60, end_seconds=1) as web:
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        head += b"Content-Length: 9\r\n\r\n{"
        with connection(web, head) as link, connection(web) as idler:
            time.sleep(0.2)
            start = time.monotonic()
            assert web.end() == 0 and time.monotonic() - start < 8
            found = everything(link)
            assert found.startswith(b"HTTP/1.1 503") and b"The service ends" in found
            assert everything(idler) == b""


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_however_the_block_is_left_no_process_is(model, error):
    with pytest.raises(error), service.running(model) as web:
        raise error
    assert gone(web.process.pid) and web.log()[-1]["event"] == "ended"


def test_it_ends_with_whoever_started_it(model, tmp_path):
    code = "import service, sys, time\nwith service.running(sys.argv[1]) as web:\n"
    code += "    print(web.process.pid, flush=True)\n    time.sleep(60)"
    words = [sys.executable, "-c", code, str(model)]
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # it is killed: its folder stays behind
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, cwd=ROOT / "notebooks", env=environment
    ) as starter:
        pid = int(starter.stdout.readline())
        assert not gone(pid)
        starter.kill()
    wait_for(lambda: gone(pid))


def test_one_that_dies_is_noticed(model):
    with (
        pytest.raises(service.ServiceError, match="ended with status -9"),
        service.running(model) as web,
    ):
        web.process.kill()
        web.process.wait()


# ---- the load, and that it finds what it looks for ----


def test_it_survives_a_load_of_all_kinds(web, logits, record_property):
    found = service.load(web, PICTURES, logits, requests=3600, tolerance=1e-5)
    record_property("figures", str(found))
    assert not found.wrong, found.wrong[:5]
    assert sum(found.counts.values()) == 3600 and found.counts["valid", 200] == 2520
    assert len(found.ms) == 2520 and 0 < found.percentile(50) <= found.percentile(99)
    if found.growth is not None:  # half a picture: twice that is the smallest leak
        assert found.growth < PICTURE / 2
        assert found.memory[-1] - found.memory[1] < 1680 * PICTURE / 2  # nor in one step
    if found.files[0] is not None:
        assert found.files[-1] <= found.files[1] + 2


def test_the_load_finds_a_leak_of_one_picture_a_request(model, logits):
    with service.running(model, fault="leak", **HASTE) as web:
        found = service.load(web, PICTURES, logits, requests=1800, tolerance=1e-5)
    assert not found.wrong and (found.growth is None or found.growth > PICTURE / 2)


def test_the_load_finds_answers_that_are_mixed_up(model, logits):
    with service.running(model, fault="swap", **HASTE) as web:
        found = service.load(web, PICTURES, logits, requests=600, tolerance=1e-5)
    assert len(found.wrong) >= 6 and all("another prediction" in words for words in found.wrong)


def test_the_load_finds_a_service_that_crashes(model, logits):
    with (
        pytest.raises(service.ServiceError, match="The service is gone: status 139"),
        service.running(model, fault="crash", **HASTE) as web,
    ):
        service.load(web, PICTURES, logits, requests=600)


def test_what_fails_in_the_model_is_told_to_the_log_alone(model, logits):
    with service.running(model, fault="fail", **HASTE) as web:
        answer = service.ask(web, "/predict", bytes(784))
        assert answer.status == 500 and answer.json["request"] == answer.headers["x-request-id"]
        assert set(answer.json) == {"status", "error", "request"} and "secret" not in str(answer)
        assert service.ask(web).json["waiting"] == 0
    failed = [line for line in web.log() if line.get("event") == "failed"]
    assert failed[0]["request"] == answer.json["request"] and "a secret" in failed[0]["trace"]


def test_a_wrong_answer_is_called_wrong(logits):
    case = good(PICTURES, 0)["one, raw"]

    def said(status=200, **json):
        fields = {"digits": [int(logits[0].argmax())], "logits": [logits[0].tolist()]} | json
        answer = service.Answer(status, fields, {"x-request-id": "1"}, 1.0)
        return verdict("it", case, answer, logits, 1e-5)

    assert said() == ""
    assert "another" in said(digits=[(int(logits[0].argmax()) + 1) % 10])
    assert "another" in said(logits=[(logits[0] + 1e-4).tolist()])
    assert "another" in said(logits=[[float("nan")] * 10]) and "another" in said(logits=[])
    assert "404 for 200" in said(status=404)


def test_nothing_failed_and_nothing_was_told_to_others(web, collector):
    """The last test: it speaks of all requests that were sent to the service that most share."""
    lines = web.log()
    assert {line["level"] for line in lines} == {"info"}
    assert not {500, 503} & {line.get("status") for line in lines}
    with pytest.raises(TimeoutError):
        collector.accept()
