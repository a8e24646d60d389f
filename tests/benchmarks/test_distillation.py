"""The table of distillation's benchmark."""

from benchmarks import distillation


def test_the_table_has_medians_with_ranges_by_group():
    def curve(large, small):
        return [{"round": 5, "accuracy": {"large": large, "small": small}}]

    lines = distillation.tell({"FedDF": [curve(0.5, 0.1), curve(0.7, 0.2), curve(0.6, 0.3)]}).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["contender", "model", "% right after 5 rounds"]
    assert cells[2:] == [["FedDF", "large", "60.0 (50.0-70.0)"], ["FedDF", "small", "20.0 (10.0-30.0)"]]
