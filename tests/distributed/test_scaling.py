"""The simulation of many GPUs, beside formulas for its limits."""

import pytest

from resnet_keras.distributed.scaling import (
    GPU_COUNTS,
    Machine,
    Workload,
    all_reduce_bytes,
    all_reduce_seconds,
    first_limit,
    scaling_table,
    simulate,
)

RESNET50 = Workload(parameters=25_557_032, images_per_second=665.0, variation=0.0)
FREE = Machine(storage_gigabytes=1e6, cores=10**6, network_gigabytes=1e6, gpu_gigabytes=1e6, network_microseconds=0.0)


@pytest.mark.parametrize("gpus", [1, 3, 8, 256])
def test_where_nothing_else_takes_time_the_gpus_are_busy(gpus: int) -> None:
    found = simulate(RESNET50, FREE, gpus)
    assert found.efficiency == pytest.approx(1.0, abs=1e-3)
    assert found.images_per_second == pytest.approx(665.0 * gpus, rel=1e-3)
    assert (found.machines, found.limit) == (-(-gpus // 8), "computing")


def test_the_slowest_of_many_gpus_is_as_late_as_the_expected_maximum() -> None:
    # The expected maximum of 256 normal numbers is 2.809 standard deviations; of 8, 1.424.
    for gpus, deviations in ((8, 1.424), (256, 2.809)):
        found = simulate(Workload(parameters=1, images_per_second=665.0, variation=0.03), FREE, gpus)
        late = found.seconds["stragglers"] / found.seconds["computing"]
        assert late == pytest.approx(0.03 * deviations, rel=0.05)
        assert found.efficiency == pytest.approx(1 / (1 + late), rel=0.01)


def test_a_ring_sends_all_gradients_twice_less_one_share() -> None:
    assert all_reduce_bytes(25_557_032, 1) == 0
    assert all_reduce_bytes(25_557_032, 2) == 4 * 25_557_032
    assert all_reduce_bytes(25_557_032, 4) == 1.5 * 4 * 25_557_032
    machine = Machine(network_microseconds=10.0)
    inside = 1.75 * 4 * 25_557_032 / 150e9
    between = 1.5 * 4 * 25_557_032 / 12.5e9
    assert all_reduce_seconds(RESNET50, machine, 8) == pytest.approx(inside)
    assert all_reduce_seconds(RESNET50, machine, 32) == pytest.approx(inside + between + 60e-6)


def test_the_slower_input_decides_and_is_named() -> None:
    decoded = simulate(RESNET50, Machine(cores=16), 8)
    assert decoded.images_per_second == pytest.approx(16 / 0.005, rel=1e-6)
    assert decoded.limit == "decoding"
    read = simulate(RESNET50, Machine(storage_gigabytes=0.2), 8)
    assert read.images_per_second == pytest.approx(0.2e9 / 112e3, rel=1e-6)
    assert read.limit == "reading"


def test_machines_that_read_all_images_share_the_speed_of_one() -> None:
    every = [simulate(RESNET50, Machine(reads_all=True), gpus) for gpus in GPU_COUNTS]
    own = [simulate(RESNET50, Machine(), gpus) for gpus in GPU_COUNTS]
    late = first_limit(every)
    assert late is not None and (late.limit, late.gpus) == ("reading", 32)
    assert every[-1].images_per_second == pytest.approx(2e9 / 112e3, rel=1e-6)
    assert own[-1].images_per_second > 9 * every[-1].images_per_second
    assert first_limit(own) is None


def test_a_small_batch_waits_for_the_sum_of_gradients() -> None:
    small = Workload(parameters=25_557_032, images_per_second=665.0, batch_size=16, variation=0.0)
    found = simulate(small, Machine(), 64)
    assert found.limit == "summing gradients"
    summing = found.seconds["summing gradients"]
    assert found.efficiency == pytest.approx(1 / (1 + summing * 665 / 16), rel=1e-3)


def test_variations_are_those_of_the_seed() -> None:
    varied = Workload(parameters=1, images_per_second=100.0)
    rates = [simulate(varied, FREE, 4, seed=seed).images_per_second for seed in (0, 0, 1)]
    assert rates[0] == rates[1] != rates[2]
    assert rates[0] == pytest.approx(rates[2], rel=0.01)


def test_the_table_says_what_feeds_a_machine() -> None:
    (row,) = scaling_table([simulate(RESNET50, Machine(), 8)], RESNET50).splitlines()[2:]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    # 8 GPUs: 5,320 images a second less the sum of gradients take 26.5 cores and 0.59 GB/s.
    assert cells[0] == "8" and cells[3] in ("26", "27") and cells[4] == "30%"
    assert cells[-2:] == ["computing", "nothing: the GPUs are busy"]


@pytest.mark.parametrize(("field", "value"), [("parameters", 0), ("images_per_second", 0.0), ("variation", -1.0)])
def test_what_is_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"Expected `{field}` to be .*Received: {value}"):
        Workload(**{"parameters": 1, "images_per_second": 1.0, field: value})  # type: ignore[arg-type]


def test_no_gpus_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected at least 1 GPU. Received: 0"):
        simulate(RESNET50, FREE, 0)
