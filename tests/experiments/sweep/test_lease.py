"""Leases: a trial belongs to one living process, and to another once that is lost."""

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mappo.experiments.sweep.lease import LeaseLostError, Leases


def leases(folder: Path, lost_after: float = 60.0) -> Leases:
    return Leases(folder, lost_after)


def test_a_leased_trial_is_free_again_after_its_holder(tmp_path: Path):
    with leases(tmp_path).claim(3) as lease:
        assert lease is not None
        with leases(tmp_path).claim(3) as other, leases(tmp_path).claim(4) as another:
            assert other is None
            assert another is not None
        with lease.beating():
            assert lease.begin(100) == 0
    with leases(tmp_path).claim(3) as lease:
        assert lease is not None
        assert lease.begin(100) == 0  # a returned lease is no loss


def test_losses_at_the_same_step_are_counted(tmp_path: Path):
    def lose(step: int) -> int:
        with leases(tmp_path).claim(0) as lease:
            assert lease is not None
            lost = lease.begin(step)
            with suppress(RuntimeError), lease.beating():
                raise RuntimeError
        return lost

    assert [lose(step) for step in (0, 0, 0, 50, 50)] == [0, 1, 2, 0, 1]


def test_a_holder_on_another_machine_is_lost_once_its_heartbeat_stops(tmp_path: Path):
    file = tmp_path / "0000.json"
    file.write_text(json.dumps({"host": "another machine", "pid": 1, "step": 0, "lost": 0}))
    watcher = leases(tmp_path, 0.3)

    def is_free() -> bool:
        with watcher.claim(0) as lease:
            return lease is not None

    os.utime(file, (0, 0))  # the clock of the other machine may be wrong by years
    for beat in range(3):
        assert not is_free()
        time.sleep(0.2)
        os.utime(file, (beat, beat))
    assert not is_free()
    time.sleep(0.35)
    assert is_free()


def test_a_trial_of_another_machine_is_left_to_all_watchers(tmp_path: Path):
    file = tmp_path / "0000.json"
    file.write_text(json.dumps({"host": "another machine", "pid": 1, "step": 0, "lost": 0}))
    watcher = leases(tmp_path, 0.1)
    with watcher.claim(0):
        pass
    with leases(tmp_path).claim(0) as busy:  # its process goes on to another trial meanwhile
        assert busy is None
        time.sleep(0.15)
        with watcher.claim(0) as lease:
            assert lease is not None


def test_an_error_of_the_holder_passes_through_its_lease(tmp_path: Path):
    with pytest.raises(BlockingIOError, match="a full pipe"), leases(tmp_path).claim(0):
        raise BlockingIOError("a full pipe")


def test_heartbeats_reach_other_machines(tmp_path: Path):
    with leases(tmp_path, 0.3).claim(0) as lease:
        assert lease is not None
        lease.begin(0)
        os.utime(tmp_path / "0000.json", (0, 0))
        with lease.beating():
            time.sleep(0.2)
            assert (tmp_path / "0000.json").stat().st_mtime > 0


def test_a_process_that_stood_still_gives_its_trial_up(tmp_path: Path):
    with leases(tmp_path, 0.2).claim(0) as lease:
        assert lease is not None
        lease.begin(0)
        time.sleep(0.15)
        lease.check()  # late, and nobody else has come
        (tmp_path / "0000.json").write_text('{"host": "another machine"}')
        time.sleep(0.15)
        with pytest.raises(LeaseLostError):
            lease.check()
        taken = (tmp_path / "0000.json").read_text()
        with lease.beating():
            pass
        assert (tmp_path / "0000.json").read_text() == taken  # the lease of another is not returned


def test_the_heartbeat_that_wakes_first_hides_no_loss(tmp_path: Path):
    with leases(tmp_path, 0.12).claim(0) as lease:
        assert lease is not None
        lease.begin(0)
        with lease.beating():
            (tmp_path / "0000.json").write_text("{}")
            time.sleep(0.1)
            assert threading.active_count() > 1
            with pytest.raises(LeaseLostError):
                lease.check()


def test_a_disk_out_of_reach_is_borne_until_another_process_may_take_the_trial(tmp_path: Path):
    with leases(tmp_path, 0.4).claim(0) as lease:
        assert lease is not None
        lease.begin(0)
        file, hidden = tmp_path / "0000.json", tmp_path / "hidden"
        for _ in range(2):
            file.rename(hidden)
            time.sleep(0.25)
            lease.check()  # late, in vain
            hidden.rename(file)
            lease.check()
        file.rename(hidden)
        time.sleep(0.45)
        with pytest.raises(LeaseLostError, match=r"no heartbeat could be written for 0 s: .*0000\.json"):
            lease.check()
        with lease.beating():  # nor does the end of the trial fail
            pass
