"""A seed has one shape, and the shapes of many seeds reach every path."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.service.settings import IngressSettings, ProcessorSettings, load_settings
from tools.chaos.shape import BATCH_SIZE_LEAST, BATCH_SIZE_MOST, Given, HttpPath, draw_shape

_URLS = {
    "DATABASE_URL": "postgresql://localhost/x",
    "AMQP_URL": "amqp://localhost/",
    "REDIS_URL": "redis://localhost/0",
}
_SEEDS = range(200)


def test_the_same_seed_has_the_same_shape() -> None:
    assert [draw_shape(seed) for seed in _SEEDS] == [draw_shape(seed) for seed in _SEEDS]


def test_a_campaign_s_seeds_reach_both_http_paths_both_partitionings_and_every_batch_size() -> None:
    shapes = [draw_shape(seed) for seed in _SEEDS]
    sizes = sorted(shape.batch_size for shape in shapes)

    assert len({(shape.http, shape.partitions) for shape in shapes}) == 4
    assert sizes[0] < 2 * BATCH_SIZE_LEAST
    assert sizes[-1] > BATCH_SIZE_MOST / 2
    assert sum(size < 64 for size in sizes) > len(sizes) / 3


@given(st.integers(0, 1_000_000), st.sampled_from(HttpPath), st.integers(1, 1000))
def test_what_is_given_replaces_what_was_drawn_and_nothing_else(
    seed: int, http: HttpPath, batch_size: int
) -> None:
    drawn = draw_shape(seed)
    shape = draw_shape(seed, Given(http=http, batch_size=batch_size))

    assert (shape.http, shape.batch_size) == (http, batch_size)
    assert (shape.partitions, shape.group_size, shape.rate_per_s) == (
        drawn.partitions,
        drawn.group_size,
        drawn.rate_per_s,
    )


@given(st.integers(0, 1_000_000))
def test_processes_take_the_settings_of_every_shape(seed: int) -> None:
    shape = draw_shape(seed)
    environment = {**_URLS, **shape.settings}

    ingress = load_settings(IngressSettings, environment)
    processor = load_settings(ProcessorSettings, environment)

    assert ingress.fast_path == (shape.http is HttpPath.FAST)
    assert processor.batch_size == shape.batch_size
    assert processor.partitions == ingress.partitions == shape.partitions


@given(st.integers(0, 1_000_000))
def test_a_burst_fills_more_than_two_batches(seed: int) -> None:
    shape = draw_shape(seed)

    assert shape.pressure.burst > 2 * shape.batch_size
