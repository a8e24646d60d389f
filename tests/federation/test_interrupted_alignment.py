"""Private set intersection goes on where it was interrupted."""

import pytest

from tff_tx.core.errors import UserError
from tff_tx.federation.alignment import EllipticCurve, Identifiers, Member, State, intersect


class Interrupted:
    """Two parties that keep their states, one of which is killed at a message; counts the points masked."""

    def __init__(self, directory, table):
        self.directory, self.table, self.masked = directory, table, 0

    def __call__(self, killed_at=None, tags=("", ""), torn=None):
        members, messages = {}, 0
        for (name, names), tag in zip(self.table.items(), tags):
            masks = EllipticCurve(1)
            mask = masks.mask
            masks.mask = lambda points, mask=mask: (setattr(self, "masked", self.masked + len(points)), mask(points))[1]
            points = Identifiers(((name, [name]) for name in names), masks.hash, "text").points
            members[name] = Member(name, points, masks, state=State(str(self.directory / name), tag))
        if torn is not None:
            with open(next((self.directory / torn).glob("*.points")), "ab") as file:
                file.write(b"torn")

        def ask(name, *asked):
            nonlocal messages
            messages += 1
            if messages == killed_at:
                raise KeyboardInterrupt
            return members[name].answer(*asked)

        intersect(ask, list(members), identifier="this one")
        return {name: [self.table[name][row] for row in member.order.rows] for name, member in members.items()}


def test_an_interrupted_intersection_goes_on_from_the_last_message(tmp_path, monkeypatch):
    """Wherever it is killed, no point is masked twice but those of a message; secrets do not outlive it."""
    monkeypatch.setattr("tff_tx.federation.alignment.intersection.CHUNK_POINTS", 4)
    run = Interrupted(tmp_path, {"a": [f"x{n}" for n in range(10)], "b": [f"x{n}" for n in range(14, 3, -1)]})
    for number in (4, 6, 9, 12, 15, 19):
        with pytest.raises(KeyboardInterrupt):
            run(number)
        if number == 4:
            assert (tmp_path / "a" / "state.json").stat().st_mode & 0o077 == 0
            with pytest.raises(KeyboardInterrupt):
                run(3, torn="a")
    found = run()
    assert found["a"] == found["b"]
    assert set(found["a"]) == {f"x{n}" for n in range(4, 10)}
    assert run.masked == 2 * (10 + 11)
    assert not list(tmp_path.iterdir())


def test_what_was_masked_before_a_party_began_anew_is_not_gone_on_with(tmp_path):
    run = Interrupted(tmp_path, {"a": ["x", "y"], "b": ["y", "z"]})
    with pytest.raises(KeyboardInterrupt):
        run(6)
    with pytest.raises(UserError, match="a has part of an intersection in which another party had another table or s"):
        run(tags=("", "another table"))
