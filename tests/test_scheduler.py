"""The scheduler, played through without processes, or asked directly."""

import numpy as np
import pytest
from job_simulation import Play, bound

from cpxt_hpc.parallel.advice import COLLECT_S
from cpxt_hpc.parallel.scheduler import IN_FLIGHT, LONGEST_CHUNK_S, Assign, Release, Scheduler


@pytest.mark.parametrize(("seed", "median_s", "spread"), [(1, 0.02, 0.8), (3, 0.05, 1.5)])
def test_100000_regions_on_255_workers_end_near_the_lower_bound(seed, median_s, spread):
    rng = np.random.default_rng(seed)
    true_s = median_s * np.exp(spread * rng.normal(size=100_000))
    play = Play(true_s, true_s, 255).run()
    assert play.recorded.all()
    assert (play.count == 1).all()
    # The last round costs a shrinking chunk and a few latencies; 3 % leaves room for both.
    assert play.last_result < 1.03 * bound(true_s, 255)


def test_100000_regions_on_4095_workers_end_near_the_lower_bound():
    rng = np.random.default_rng(7)
    true_s = 0.1 + 0.1 * np.exp(0.5 * rng.normal(size=100_000))
    play = Play(true_s, true_s, 4095).run()
    assert (play.count == 1).all()
    # 24 regions a worker: the master's first and last rounds, 0.3 s each, are what is above the bound of 5 s.
    assert play.last_result < bound(true_s, 4095) + 0.7


def test_beyond_what_the_master_can_collect_more_workers_gain_nothing():
    true_s = np.full(100_000, 1e-4)
    times = {n: Play(true_s, true_s, n).run().last_result for n in (2, 40, 255)}
    assert times[2] == pytest.approx(bound(true_s, 2), rel=0.03)
    assert times[40] > COLLECT_S * len(true_s) > bound(true_s, 40)
    assert times[255] > 0.95 * times[40]


def test_workers_of_different_speed_end_together():
    rng = np.random.default_rng(8)
    true_s = 0.05 * np.exp(0.5 * rng.normal(size=20_000))
    slower = dict.fromkeys(range(1, 9), 5.0)
    play = Play(true_s, true_s, 64, slower=slower).run()
    rate = 56 + 8 / 5.0
    assert play.recorded.all()
    # Two chunks of a slow one may be left when the others have nothing more.
    assert play.last_result < true_s.sum() / rate + 5.0 * 2.0 * LONGEST_CHUNK_S


def test_thousands_of_workers_get_chunks_that_the_master_can_serve():
    true_s = np.full(200_000, 0.01)
    play = Play(true_s, true_s, 2000, collect_s=0.0).run()
    assert play.longest_chunk_s > LONGEST_CHUNK_S
    assert play.last_result < 1.2 * bound(true_s, 2000)


def test_estimates_that_are_wrong_by_factors_cost_little():
    rng = np.random.default_rng(4)
    true_s = 0.02 * np.exp(0.8 * rng.normal(size=100_000))
    estimated_s = 20.0 * true_s * np.exp(0.3 * rng.normal(size=true_s.size))
    play = Play(true_s, estimated_s, 255).run()
    assert play.recorded.all()
    assert play.last_result < 1.05 * bound(true_s, 255)


def test_one_giant_region_does_not_wait_for_the_others():
    true_s = np.full(20_000, 0.01)
    true_s[13_333] = 3.0
    play = Play(true_s, true_s, 100).run()
    assert play.last_result < 1.05 * bound(true_s, 100)


def test_chunks_stay_below_their_longest_time_and_two_are_in_flight():
    true_s = np.full(50_000, 2e-4)
    play = Play(true_s, 10.0 * true_s, 4).run()
    assert play.deepest == IN_FLIGHT
    # The estimate is ten times too long: chunks are too short at first, never too long.
    assert play.longest_chunk_s <= 1.01 * LONGEST_CHUNK_S


def test_few_regions_are_spread_over_all_workers():
    true_s = np.full(12, 0.1)
    play = Play(true_s, true_s, 12).run()
    assert play.last_result < 1.1 * 0.1


def test_the_regions_of_a_worker_that_never_answers_go_to_others():
    rng = np.random.default_rng(5)
    true_s = 0.02 * np.exp(0.5 * rng.normal(size=5000))
    play = Play(true_s, true_s, 8, dies_at={3: 0.0, 5: 2.0}).run()
    assert play.recorded.all()
    assert play.scheduler.complete
    assert play.scheduler.finished


def test_work_of_a_worker_lost_at_the_very_end_is_still_done():
    true_s = np.full(40, 0.1)
    play = Play(true_s, true_s, 2, dies_at={1: 1.95}).run()
    assert play.recorded.all()


def test_a_run_ends_unfinished_when_every_worker_is_lost():
    true_s = np.full(1000, 0.1)
    play = Play(true_s, true_s, 3, dies_at={1: 1.0, 2: 1.5, 3: 2.0}).run()
    assert play.scheduler.finished
    assert not play.scheduler.complete
    assert play.scheduler.n_done == play.recorded.sum() < 1000


def test_stop_on_request_hands_out_no_more_and_lets_everybody_leave():
    true_s = np.full(10_000, 0.01)
    play = Play(true_s, true_s, 4, stop_at=2.0).run()
    assert play.scheduler.finished
    assert not play.scheduler.complete
    assert 0 < play.recorded.sum() < 10_000
    assert play.now < 2.0 + (IN_FLIGHT + 1) * LONGEST_CHUNK_S


def test_a_result_that_comes_twice_counts_once():
    scheduler = Scheduler(np.ones(3), [1, 2])
    (first, *_) = scheduler.worker_ready(1)
    fresh, _ = scheduler.results(1, first.chunk, first.tasks, 1.0)
    assert fresh.all()
    fresh, _ = scheduler.results(1, first.chunk, first.tasks, 1.0)
    assert not fresh.any()
    assert scheduler.n_done == len(first.tasks)


def test_a_worker_given_up_that_answers_after_all_gets_work_again():
    scheduler = Scheduler(np.ones(20), [1, 2])
    held = scheduler.worker_ready(1)
    scheduler.worker_ready(2)
    scheduler.worker_lost(1)
    assert scheduler.workers == (2,)
    fresh, actions = scheduler.results(1, held[0].chunk, held[0].tasks, 1.0)
    assert fresh.all()
    assert {action.worker for action in actions} == {1}
    assert set(scheduler.workers) == {1, 2}
    others = {int(task) for action in actions for task in action.tasks}
    assert not others & set(held[0].tasks.tolist())


def test_parts_of_a_chunk_keep_it_open_until_all_of_it_is_there():
    scheduler = Scheduler(np.full(1000, 1e-3), [1])
    chunk, _ = scheduler.worker_ready(1)
    half = len(chunk.tasks) // 2
    _, actions = scheduler.results(1, chunk.chunk, chunk.tasks[:half], 0.1)
    assert actions == []
    _, actions = scheduler.results(1, chunk.chunk, chunk.tasks[half:], 0.1)
    assert [type(action) for action in actions] == [Assign]


def test_nothing_to_do_lets_the_workers_leave_at_once():
    scheduler = Scheduler(np.zeros(0), [1, 2])
    assert scheduler.worker_ready(1) == [Release(1), Release(2)]


def test_the_longest_regions_are_handed_out_first():
    scheduler = Scheduler(np.array([0.1, 5.0, 0.2, 3.0]), [1])
    order = []
    actions = scheduler.worker_ready(1)
    while isinstance(actions[0], Assign):
        action = actions.pop(0)
        order += action.tasks.tolist()
        actions += scheduler.results(1, action.chunk, action.tasks, 1.0)[1]
    assert order == [1, 3, 2, 0]
