"""`%%tff`: what a cell does in the second kernel comes back; nothing outlives the notebook."""

import os
import signal
import sys
import tempfile

import pytest

from tests.notebooks.hosts import FIRST_CELL, NEWEST, ROOT, Host, ends, is_running, text

IN_PLACE = {name: value for name, value in os.environ.items() if name != "TFF_PYTHON"}


@pytest.fixture(scope="module", params=[NEWEST, pytest.param(sys.executable, marks=pytest.mark.slow)])
def host(request):
    host = Host(request.param)
    first = host.text(FIRST_CELL)
    assert f"%%tff cells run on {sys.executable}" in first
    yield host
    host.close()


def test_the_cell_runs_on_the_other_python_and_keeps_its_variables(host):
    assert host.text("%%tff\nimport sys\nversion = sys.version_info[:2]") == ""
    assert host.text("%%tff\nversion") == str(sys.version_info[:2])
    assert "NameError" in host.text("version")


def test_a_cell_finds_tff_tx_and_programs_of_the_environment(host):
    found = host.text("%%tff\nimport tff_tx\n!command -v python\nprint(tff_tx.__file__)").splitlines()
    assert os.path.dirname(found[0]) == os.path.dirname(sys.executable)
    assert found[1] == str(ROOT / "tff_tx" / "__init__.py")


def test_output_comes_as_it_is_made(host, tmp_path):
    """The cell ends when its first output has come."""
    code = "%%tff\nimport os, sys, time\nprint('ä€😀', flush=True)\nwhile not os.path.exists(PATH): time.sleep(0.02)\n"
    code += "print('end', file=sys.stderr)"
    cell = host.start(code.replace("PATH", repr(str(tmp_path / "seen"))))
    (first,) = host.outputs(cell, until=lambda kind, content: kind == "stream")
    (tmp_path / "seen").touch()
    (last,) = host.outputs(cell)
    assert (first[1], last[1]) == ({"name": "stdout", "text": "ä€😀\n"}, {"name": "stderr", "text": "end\n"})


def test_rich_results_come_as_they_are(host):
    code = (
        "%%tff\nimport pandas as pd\nfrom IPython.display import clear_output, display\nclear_output(wait=True)\n"
        "shown = display({'text/plain': 'one'}, raw=True, display_id=True)\n"
        "shown.update({'text/plain': 'two'}, raw=True)\npd.DataFrame({'grüße': [1]})"
    )
    cleared, shown, updated, table = host.run(code)
    assert cleared[0] == "clear_output"
    assert shown[1]["transient"] == updated[1]["transient"]
    assert (updated[0], updated[1]["data"]) == ("update_display_data", {"text/plain": "two"})
    assert "<table" in table[1]["data"]["text/html"]
    assert "grüße" in table[1]["data"]["text/plain"]


def test_plots_come_as_pictures(host):
    (plot,) = host.run("%%tff\nfrom matplotlib import pyplot as plt\nplt.plot([1, 2]);")
    assert plot[1]["data"]["image/png"].startswith("iVBOR")


def test_an_error_has_its_own_name_and_traceback(host):
    host.run("%%tff\ndef divide(by):\n  return 1 / by")
    (error,) = host.run("%%tff\ndivide(0)")
    assert (error[1]["ename"], error[1]["evalue"]) == ("ZeroDivisionError", "division by zero")
    shown = text([error])
    assert "by" in shown
    assert "tff_cells" not in shown


@pytest.mark.slow
def test_a_run_shows_its_progress_and_nothing_of_its_libraries(host):
    code = (
        "%%tff\nimport os\nos.environ.pop('TRANSFORMERS_VERBOSITY', None)  # of the tests\n"
        "import tff_tx as ft\nsmall = {'hidden_size': 8, 'num_hidden_layers': 1, 'intermediate_size': 8}\n"
        "task = ft.load_task(data=ft.Data('digits', clients=ft.Iid(4), test=9), model=ft.Model(config=small))\n"
        "trainer = ft.Trainer(task, clients_per_round=2, max_examples=4, run_dir=RUN)\n"
        "trainer.fit(rounds=1)\n_ = trainer.evaluate('test')"
    )
    with tempfile.TemporaryDirectory() as directory:
        said = host.text(code.replace("RUN", repr(directory)), timeout=200)
    assert "round 1/1: 100%" in said
    assert "Report, metrics and model" in said
    assert [word for word in ("tensorflow", "TensorFlow", "PyTorch") if word in said] == []


def test_an_interrupt_ends_the_cell_alone(host):
    host.run("%%tff\nkept = 5")
    cell = host.start("%%tff\nimport time\nprint('begun')\ntime.sleep(60)")
    host.outputs(cell, until=lambda kind, content: kind == "stream")
    host.manager.interrupt_kernel()
    (error,) = host.outputs(cell, timeout=10)
    assert error[1]["ename"] == "KeyboardInterrupt"
    assert host.text("%%tff\nkept") == "5"


def test_a_cell_can_read_input(host):
    code = "%%tff\nfrom getpass import getpass\nprint(input('name? '), getpass('word? '))"
    assert host.text(code, answers=["Zoë", "geheim"]) == "Zoë geheim\n"
    assert "StdinNotImplementedError" in host.text("%%tff\ninput()")


def test_ten_megabytes_of_output_come_whole(host):
    assert len(host.text("%%tff\nfor _ in range(100_000): print('x' * 99)")) == 10_000_000


@pytest.mark.slow
def test_thousands_of_outputs_come_whole(host):
    outputs = host.run("%%tff\nfor i in range(3000): display(i)")
    assert text(outputs) == "".join(map(str, range(3000)))


def test_out_brings_a_variable_back(host):
    host.run("%%tff --out loss\nloss = 1 / 3")
    assert host.text("loss") == repr(1 / 3)
    assert "name 'nothing' is not defined" in host.text("%%tff --out nothing\npass")
    assert host.text("%%tff --out thing\nthing = object()").startswith("%%tff --out thing: object is not a number")
    for line in ("--out", "--out a b", "--out 1", "--in a"):
        assert "must be %%tff, or %%tff --out NAME" in host.text(f"%%tff {line}\npass")


@pytest.mark.skipif(sys.executable == NEWEST, reason="the environment of make notebooks is not there")
def test_out_brings_a_table_back_to_another_pandas(host):
    host.run("%%tff --out rows\nimport pandas as pd\nrows = pd.DataFrame({'when': pd.to_datetime(['2026-01-01'])})")
    assert host.text("str(rows.loc[0, 'when'].date())") == "'2026-01-01'"


def test_a_killed_kernel_is_said_and_followed_by_a_fresh_one(host):
    host.run("%%tff\nlost = 1")
    said = host.text("%%tff\nimport os; os.kill(os.getpid(), 9)")
    sentence = "The kernel of %%tff cells was killed by SIGKILL, perhaps for lack of memory: its variables are gone."
    assert said == f"{sentence} The next cell starts a fresh one."
    assert "NameError" in host.text("%%tff\nlost")
    between = host.inner_pid()
    os.kill(between, signal.SIGKILL)
    assert ends(between)
    assert host.text("%%tff\n1 + 1") == f"{sentence} A fresh one runs this cell.\n2"


@pytest.mark.parametrize(
    "how", ["kill", pytest.param("restart", marks=pytest.mark.slow), pytest.param("exit", marks=pytest.mark.slow)]
)
def test_no_process_outlives_the_host(how):
    host = Host()
    try:
        host.run(FIRST_CELL)
        host.run("%%tff\nimport subprocess\nchild = subprocess.Popen(['sleep', '1000'])")
        pids = [host.inner_pid(), int(host.text("%%tff\nchild.pid"))]
        assert all(map(is_running, pids))
        if how == "kill":
            os.kill(host.manager.provisioner.process.pid, signal.SIGKILL)
        elif how == "restart":
            host.manager.restart_kernel()
        else:
            host.manager.shutdown_kernel()
        assert all(map(ends, pids))
    finally:
        host.close()


@pytest.mark.slow
def test_in_place_the_same_cells_run_in_the_notebooks_own_kernel():
    host = Host(sys.executable, IN_PLACE)
    try:
        assert f"cells run in place, on Python {sys.version.split()[0]}" in host.text(FIRST_CELL)
        assert host.text("%%tff --out there\nimport os, tff_tx\nthere = os.getpid()") == ""
        assert host.text("there == os.getpid()") == "True"
        assert "must be %%tff, or" in host.text("%%tff --what\npass")
        host.run("%reload_ext tff_cells")
        assert host.text("%%tff\n3") == "3"
    finally:
        host.close()
