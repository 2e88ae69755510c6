"""Batches, profiles and results as values: copied, pickled, sent to another process."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import frames
from overlay import STT, VXLAN, Batch, ConfigError, Status
from overlay.codec import Codec

LOCAL, REMOTE = "192.0.2.1", "192.0.2.2"
WAYS: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    lambda value: pickle.loads(pickle.dumps(value)),
]


@pytest.mark.parametrize("way", WAYS, ids=["copy", "deepcopy", "pickle"])
def test_a_copied_batch_is_a_batch_of_its_own(codec: Codec, way: Callable[[Any], Any]) -> None:
    tunnel = VXLAN(vni=5, local=LOCAL, remote=REMOTE)
    batch = Batch.from_frames([frames.ARP, frames.UDP4])
    batch.status[0] = Status.IP_FRAGMENT
    twin = way(batch)
    before = batch.data.tobytes()
    assert codec.encap_batch(twin, tunnel) == 1
    assert twin.to_list() == [codec.encap(tunnel, frames.UDP4)]
    assert (batch.data.tobytes(), batch.to_list()) == (before, [frames.UDP4])
    assert list(twin.status) == [Status.IP_FRAGMENT, Status.OK]


@pytest.mark.parametrize("way", WAYS, ids=["copy", "deepcopy", "pickle"])
def test_a_copied_output_goes_on_where_it_was(codec: Codec, way: Callable[[Any], Any]) -> None:
    tunnel = VXLAN(vni=5, local=LOCAL, remote=REMOTE)
    out = Batch.packed(1000, 4, gap=16)
    codec.encap_into(Batch.from_frames([frames.ARP]), out, tunnel)
    twin = way(out)
    codec.encap_into(Batch.from_frames([frames.UDP4]), twin, tunnel)
    assert twin.to_list() == [codec.encap(tunnel, f) for f in (frames.ARP, frames.UDP4)]
    assert (len(out), twin.gap) == (1, 16)


def test_a_result_is_pickled(codec: Codec) -> None:
    result = codec.decap(codec.encap(VXLAN(vni=5, local=LOCAL, remote=REMOTE), frames.ARP))
    twin = pickle.loads(pickle.dumps(result))
    assert twin == result
    assert twin.tunnel == result.tunnel


def test_data_cannot_be_resized_away() -> None:
    batch = Batch(4)
    with pytest.raises(ValueError, match=r"resize|own"):
        batch.data.resize((1,), refcheck=False)
    batch.data.shape = (2, -1)
    batch.append(frames.ARP)
    assert batch.to_list() == [frames.ARP]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("offset", {"offset": [0.5]}),
        ("offset", {"offset": [-1]}),
        ("length", {"length": [1, 2]}),
        ("length", {"length": [2**33]}),
        ("wire", {"wire": [[4]]}),
        ("base", {"base": []}),
        ("data", {"data": np.zeros(4, np.int32)}),
        ("data", {"data": [1, 2, 3]}),
        ("data", {"data": np.frombuffer(b"abcd", np.uint8)}),
    ],
)
def test_columns_from_the_caller_are_checked(field: str, values: dict[str, Any]) -> None:
    given = {"data": np.zeros(64, np.uint8), "offset": [0], "length": [4], **values}
    with pytest.raises(ConfigError) as error:
        Batch.from_array(**given)
    assert error.value.field == field


def test_no_frame_id_is_given_twice(codec: Codec) -> None:
    """STT-5: threads that segment at once count on different numbers."""
    tunnel = STT(context_id=5, local=LOCAL, remote=REMOTE)
    batches = [Batch.from_frames([frames.UDP4] * 50) for _ in range(4)]
    seen: list[list[bytes]] = [[] for _ in batches]

    def work(number: int) -> None:
        for _ in range(5):
            out = Batch.packed(50 * 400, 50)
            codec.encap_into(batches[number], out, tunnel, 1500)
            seen[number] += [packet[42:46] for packet in out.to_list()]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = [frame_id for ids in seen for frame_id in ids]
    assert len(every) == len(set(every)) == 1000
