"""The record of cohorts: what a line says, what a kill leaves, and what clients missed."""

import json

import pytest

from tff_tx.cohorts.log import CohortLog
from tff_tx.core.errors import UserError


class TestCohortLog:
    """What a kill leaves, and what a resumed run finds."""

    @staticmethod
    def write(directory, rounds, resumed_round=0):
        with CohortLog(str(directory), resumed_round) as log:
            for r in rounds:
                log.append(r, 0, ["ä", "b", "c"], ["ä"], ["b"], (), {"c": "out of memory"}, seconds=0.1 * r)
        return (directory / "cohorts.jsonl").read_bytes()

    def test_a_line_says_all(self, tmp_path):
        self.write(tmp_path, [1])
        (line,) = (tmp_path / "cohorts.jsonl").read_text().splitlines()
        assert json.loads(line) == {
            **{"round_num": 1, "attempt": 0, "clients": ["ä", "b", "c"], "reported": ["ä"], "dropped": ["b"]},
            **{"stragglers": [], "failed": {"c": "out of memory"}, "seconds": 0.1},
        }

    def test_a_line_is_in_the_file_once_appended(self, tmp_path):
        log = CohortLog(str(tmp_path))
        for count in (1, 2):
            log.append(count, 0, ["a"], ["a"])
            assert (tmp_path / "cohorts.jsonl").read_text().count("\n") == count
        log.close()

    def test_killed_at_any_byte_a_resumed_log_is_the_undisturbed_one(self, tmp_path):
        whole = self.write(tmp_path, [1, 2, 3, 4])
        after_two = len(b"".join(whole.splitlines(keepends=True)[:2]))
        for size in (*range(after_two, len(whole), 7), len(whole) - 1, len(whole)):
            (tmp_path / "cohorts.jsonl").write_bytes(whole[:size])
            assert self.write(tmp_path, [3, 4], resumed_round=2) == whole

    def test_a_whole_line_that_lost_its_end_is_kept(self, tmp_path):
        whole = self.write(tmp_path, [1, 2])
        (tmp_path / "cohorts.jsonl").write_bytes(whole[:-1])
        assert self.write(tmp_path, [], resumed_round=2) == whole

    def test_a_new_run_starts_an_empty_log(self, tmp_path):
        self.write(tmp_path, [1, 2])
        assert self.write(tmp_path, []) == b""

    def test_time_goes_on_to_the_bit(self, tmp_path):
        with CohortLog(str(tmp_path)) as log:
            assert log.seconds == 0.0
            for r in range(1, 8):
                log.append(r, 0, [], [], seconds=0.1 * r)
            undisturbed = log.seconds
        with CohortLog(str(tmp_path), 4) as log:
            assert log.seconds == 0.1 * 1 + 0.1 * 2 + 0.1 * 3 + 0.1 * 4
            for r in range(5, 8):
                log.append(r, 0, [], [], seconds=0.1 * r)
            assert log.seconds == undisturbed

    def test_damage_before_the_last_line_is_told(self, tmp_path):
        whole = self.write(tmp_path, [1, 2, 3]).splitlines(keepends=True)
        (tmp_path / "cohorts.jsonl").write_bytes(whole[0] + b"{\n" + whole[2])
        with pytest.raises(UserError, match="cohorts.jsonl, line 2: not valid JSON"):
            CohortLog(str(tmp_path), 3)
        assert (tmp_path / "cohorts.jsonl").read_bytes() == whole[0] + b"{\n" + whole[2]


def test_the_ledger_counts_what_clients_have_missed(tmp_path):
    """By hand: changes of 10, 20, 30 and 5 bytes of a model of 50; also after the log was opened again."""
    asked, changes = ("ab", "b", "ac", "abc"), (10, 20, 30, 5)
    expected = (50.0, 20.0, 50.0, (5 + 35 + 5) / 3)
    for resumed in (0, 2):
        with CohortLog(str(tmp_path), resumed) as log:
            for i in range(resumed, 4):
                assert log.ledger.mean_bytes(list(asked[i]), changes[i], 50) == pytest.approx(expected[i])
                log.append(i + 1, 0, list(asked[i]), list(asked[i]), delta_bytes=changes[i])
