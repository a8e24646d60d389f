"""What counts as reading, by a clock that is set by hand."""

from tff_tx.runtime.usage import Usage


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_reading_counts_as_far_as_no_computing_hides_it():
    clock = Clock()
    usage = Usage(2, clock)
    with usage.reading():
        clock.now = 1.0  # one reads, one is idle
        with usage.reading(), usage.reading():
            clock.now = 3.0  # three read, on two processors
            with usage.computing():
                clock.now = 6.0  # one computes, one reads
                with usage.computing():
                    clock.now = 10.0  # both compute
    clock.now = 20.0  # both are idle
    assert usage.take_read_seconds() == 1 * 1.0 + 2 * 2.0 + 1 * 3.0
    assert usage.take_read_seconds() == 0.0


def test_what_goes_on_is_taken_in_parts():
    clock = Clock()
    usage = Usage(1, clock)
    with usage.reading():
        clock.now = 2.0
        assert usage.take_read_seconds() == 2.0
        clock.now = 5.0
    assert usage.take_read_seconds() == 3.0


def test_what_fails_ends():
    clock = Clock()
    usage = Usage(1, clock)
    for block in (usage.reading, usage.computing):
        try:
            with block():
                raise OSError
        except OSError:
            pass
    clock.now = 4.0
    with usage.reading():
        clock.now = 5.0
    assert usage.take_read_seconds() == 1.0
