"""The queue on disk: an order, one server, and nothing lost."""

import json
import threading

import pytest

from dreamfusion_pl.app.ledger import QUEUE, Entry, Ledger, opened
from dreamfusion_pl.batch.jobs import Request, jobs_of

OPEN = threading.Event()


def test_jobs_are_those_of_batch(tmp_path):
    ledger = Ledger(tmp_path)
    keys = ledger.add("a red chair", ["--config=draft.yaml"], [0, 1])
    jobs = [ledger.job(ledger.entry(key)) for key in keys]
    assert jobs == jobs_of([Request("a red chair", ("--config=draft.yaml",))], 2, tmp_path)


def test_the_order_and_the_states_outlive_the_server(tmp_path):
    with opened(tmp_path) as ledger:
        chair, ball, cup = (ledger.add(prompt, [], [0])[0] for prompt in ("a chair", "a ball", "a cup"))
        assert ledger.next_waiting(OPEN).prompt == "a chair"
        ledger.put(ball, "stopped")
        ledger.put(cup, "failed", "no memory")
    with opened(tmp_path) as ledger:
        assert [(one.prompt, one.state, one.reason) for one in ledger.entries()] == [
            ("a chair", "waiting", ""),  # it ran when the server ended
            ("a ball", "stopped", ""),
            ("a cup", "failed", "no memory"),
        ]
        assert ledger.entry(chair).key == chair


def test_what_a_killed_server_left_is_cleared(tmp_path):
    (tmp_path / ".running-0123").touch()
    with opened(tmp_path):
        assert not list(tmp_path.glob(".running-*"))


def test_a_job_is_not_doubled(tmp_path):
    ledger = Ledger(tmp_path)
    (key,) = ledger.add("a chair", [], [3])
    ledger.put(key, "finished")
    assert ledger.add("a chair", [], [3]) == [key]
    assert [one.state for one in ledger.entries()] == ["finished"]


def test_a_state_changes_only_from_what_is_expected(tmp_path):
    ledger = Ledger(tmp_path)
    (key,) = ledger.add("a chair", [], [0])
    assert not ledger.exchange(key, ["stopped"], "waiting")
    assert ledger.exchange(key, ["waiting"], "stopped")
    assert ledger.entry(key).state == "stopped"
    assert not ledger.exchange("nothing/seed_0", ["waiting"], "stopped")


def test_a_second_server_is_refused(tmp_path):
    with opened(tmp_path), pytest.raises(ValueError, match="another page works in"), opened(tmp_path):
        pass
    with opened(tmp_path):  # the first has ended
        pass


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"jobs": [{"prompt": 3, "options": [], "seed": 0}]}', '{"jobs": [{}]}']
    + [json.dumps({"jobs": [Entry("a", (), 0, "asleep")._asdict()]})],
)
def test_a_queue_that_cannot_be_read_is_said_and_kept(tmp_path, text):
    (tmp_path / QUEUE).write_text(text)
    with pytest.raises(ValueError, match="move it away"):
        Ledger(tmp_path)
    assert (tmp_path / QUEUE).read_text() == text


def test_a_full_disk_is_told_and_ends_nothing(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)

    def full(path):
        raise OSError("no space left")

    monkeypatch.setattr("dreamfusion_pl.app.ledger.replacing", full)
    (key,) = ledger.add("a chair", [], [0])
    assert "no space left" in ledger.trouble and ledger.entry(key).state == "waiting"
    monkeypatch.undo()
    ledger.put(key, "stopped")
    assert not ledger.trouble and Ledger(tmp_path).entry(key).state == "stopped"


def test_who_waits_for_a_job_is_woken(tmp_path):
    ledger, closing, found = Ledger(tmp_path), threading.Event(), []
    thread = threading.Thread(target=lambda: found.append(ledger.next_waiting(closing)))
    thread.start()
    ledger.add("a chair", [], [0])
    thread.join(5.0)
    assert found[0].prompt == "a chair" and found[0].state == "running"
    thread = threading.Thread(target=lambda: found.append(ledger.next_waiting(closing)))
    thread.start()
    closing.set()
    ledger.wake()
    thread.join(5.0)
    assert found[1:] == [None]
