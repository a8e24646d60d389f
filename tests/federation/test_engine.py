"""The engine of a federation beside the local one, with the same processes, clients and seeds."""

import contextlib
import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import tiny
from tests.federation import parties
from tests.runtime.test_engines import PROCESSES, run_open
from tff_tx import algorithms, tasks
from tff_tx.cohorts.buffered import build_cohort_fn
from tff_tx.config import RunConfig, resolve
from tff_tx.config.registries import ALGORITHMS
from tff_tx.core.errors import UserError
from tff_tx.federation import contents, operations
from tff_tx.federation.arrivals import Arrivals
from tff_tx.federation.buffered_engine import BufferedFederationEngine
from tff_tx.federation.engine import FORM, FederationEngine, client_of
from tff_tx.federation.worker import Worker
from tff_tx.run import assemble
from tff_tx.run.assemble.assembly import Assembly
from tff_tx.runtime import LocalEngine, Staleness, form_digest
from tff_tx.runtime.form import RoundForm

NAMES = ("north", "south", "west")
TINY = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}

pytestmark = pytest.mark.usefixtures("compiled_once")


@pytest.fixture(scope="module")
def kits(tmp_path_factory):
    return parties.make_kits(tmp_path_factory.mktemp("certs"), NAMES)


def answer(worker, header, payload):
    """What a participant answers, without a plan or a policy."""
    said, arrays = contents.unpack(payload)
    if header.phase == FORM:
        return contents.pack({"form": worker.digest})
    total, failures, waited = worker.train([client_of(plain) for plain in said["clients"]], arrays)
    told = {"failures": {str(k): v for k, v in failures.items()}, "data_seconds": waited}
    return contents.pack(told, contents.encode(total))


@contextlib.contextmanager
def federation(kits, task, process, **more):
    """An engine whose participants have each its own graphs of the process."""
    ids = task.train.client_ids
    owner = {c: NAMES[i % 3] for i, c in enumerate(ids)}
    with parties.hub(kits, NAMES) as hub, contextlib.ExitStack() as stack:
        for name in NAMES:
            worker = Worker(process, task.train_batches)
            stack.callback(worker.close)
            stack.enter_context(parties.serving(kits, name, hub.port, functools.partial(answer, worker)))
        hub.wait()
        engine = FederationEngine(process, hub, lambda client: owner[client["client_id"].decode()], {}, **more)
        engine.check_forms(NAMES)
        yield engine


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fed_avg", *(pytest.param(n, marks=pytest.mark.slow) for n in PROCESSES if n != "fed_avg")]
)
def test_a_federation_gives_the_state_and_metrics_of_one_machine(name, digits_task, kits):
    algorithm, options = PROCESSES[name]
    task = tiny.linear_digits_task(digits_task)
    process = algorithms.ALGORITHMS[algorithm].build(task.model, options)
    ids = task.train.client_ids[:5]  # of two participants two clients each, of the third one
    rounds = [tasks.client_arguments(ids, 1, r) for r in (1, 2)]
    with LocalEngine(task.process(process)) as local:
        weights, metrics, traffic = run_open(local, rounds)
    with federation(kits, task, process, compressed=True) as engine:
        ours = run_open(engine, rounds)
        assert engine.traffic() == traffic
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), ours[0], weights)
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours[1], metrics)


@pytest.mark.slow
def test_a_participant_with_another_computation_is_named(digits_task, kits):
    task = tiny.linear_digits_task(digits_task)
    made = {
        mu: algorithms.ALGORITHMS["fed_prox"].build(
            task.model, algorithms.Options(*_optimizers(), transforms=(algorithms.proximal(mu),))
        )
        for mu in (0.1, 0.2)
    }
    worker = Worker(made[0.2], task.train_batches)
    with (
        parties.hub(kits, ["north"]) as hub,
        parties.serving(kits, "north", hub.port, functools.partial(answer, worker)),
    ):
        hub.wait()
        with pytest.raises(UserError, match="north makes another computation of the plan"):
            FederationEngine(made[0.1], hub, lambda client: "north", {}).check_forms(["north"])
    worker.close()


def test_a_participant_compiles_its_process_once(digits_task, monkeypatch):
    task, made, of = tiny.linear_digits_task(digits_task), [], RoundForm.of
    process = algorithms.build_fed_avg(task.model, algorithms.Options(*_optimizers()))
    monkeypatch.setattr(RoundForm, "of", lambda process: made.append(process) or of(process))
    Worker(process, task.train_batches).close()
    assert len(made) == 1


def test_sums_that_are_none_leave_their_clients_out(digits_task, kits):
    """Other shapes, infinities, no word on the clients, an error: the others' clients count."""
    task = tiny.linear_digits_task(digits_task)
    process = algorithms.build_fed_avg(task.model, algorithms.Options(*_optimizers()))
    clients = tasks.client_arguments(task.train.client_ids[:2], 1, 1)
    worker = Worker(process, task.train_batches)

    def spoil(how, header, payload):
        said, arrays = contents.unpack(b"".join(answer(worker, header, payload)))
        if how == "shape":
            arrays = [np.zeros([2, 2], np.float32), *arrays[1:]]
        elif how == "infinite":
            arrays = [np.full_like(a, np.inf) if a.dtype.kind == "f" else a for a in arrays]
        elif how == "silent":
            said = {"failures": {"7": "there is none"}, "data_seconds": 0.0}
        elif how == "error":
            raise UserError("no.")
        return contents.pack(said, contents.encode(arrays))

    owner = dict(zip((c["client_id"] for c in clients), NAMES))
    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(parties.hub(kits, NAMES[:2]))
        kinds = iter(("shape", "infinite", "silent", "error"))
        stack.enter_context(parties.serving(kits, "north", hub.port, functools.partial(answer, worker)))
        stack.enter_context(parties.serving(kits, "south", hub.port, lambda h, p: spoil(next(kinds), h, p)))
        hub.wait()
        engine = FederationEngine(process, hub, lambda client: owner[client["client_id"]], {})
        for words in ("other arrays", "not finite", "does not say what became", "south: no"):
            output = engine.run_round(engine.initialize(), clients)
            assert list(output.failures) == [1]
            assert words in output.failures[1]
            assert output.metrics["client_work"]["train"]["num_examples"] > 0
    worker.close()


def test_updates_that_are_none_take_no_place_in_a_buffer(digits_task, kits):
    """Other shapes, infinities, a client that failed; and its participant rests until the next version."""
    task = tiny.linear_digits_task(digits_task)
    process = algorithms.build_fed_avg(task.model, algorithms.Options(*_optimizers()))
    ids = task.train.client_ids[:3]
    owner = dict(zip(ids, ("north", "north", "south")))
    worker, kinds = Worker(process, task.train_batches), ["shape", "infinite", "failed"]

    def spoil(header, payload):
        said, arrays = contents.unpack(b"".join(answer(worker, header, payload)))
        how = kinds.pop()
        if how == "shape":
            arrays = [np.zeros([2, 2], np.float32), *arrays[1:]]
        elif how == "infinite":
            arrays = [np.full_like(a, np.inf) if a.dtype.kind == "f" else a for a in arrays]
        else:
            said = {"failures": {"0": "it has failed"}, "data_seconds": 0.0}
        return contents.pack(said, contents.encode(arrays))

    def wait(header, payload):
        parties.wait_until(lambda: arrivals._errors["south"] == 3)
        return answer(worker, header, payload)

    with contextlib.ExitStack() as stack:
        hub = stack.enter_context(parties.hub(kits, NAMES[:2]))
        stack.enter_context(parties.serving(kits, "north", hub.port, wait))
        stack.enter_context(parties.serving(kits, "south", hub.port, spoil))
        hub.wait()
        sizes = {"concurrency": 2, "buffer_size": 2, "max_staleness": 3}
        arguments = lambda ids, number: tasks.client_arguments(ids, 1, number)  # noqa: E731
        arrivals = Arrivals(hub, owner.get, lambda number: ids, arguments, **sizes)
        engine = BufferedFederationEngine(
            process,
            hub,
            lambda client: owner[client["client_id"].decode()],
            {},
            arrivals=arrivals,
            staleness=Staleness(3),
        )
        state = engine.initialize()
        engine.offer(state, 1)
        cohort = build_cohort_fn(arrivals, arguments)(1)
        assert sorted(cohort.reported) == sorted(ids[:2])
        assert cohort.dropped == [ids[2]] * 3
        assert engine.run_round(state, cohort.arguments, min_clients=2).failures == {}
    worker.close()


def _optimizers():
    return (lambda rate: algorithms.build_optimizer("sgd", rate), algorithms.build_optimizer("sgd", 1.0))


@pytest.mark.slow
def test_a_digest_is_of_what_is_computed_not_of_its_names():
    def found(momentum):
        process = algorithms.build_fed_avg(
            tiny.linear_model(),
            algorithms.Options(
                client_optimizer_fn=lambda rate: algorithms.build_optimizer("sgd", rate, momentum=momentum),
                server_optimizer=algorithms.build_optimizer("sgd", 1.0),
            ),
        )
        return form_digest.digest(RoundForm.of(process))

    assert found(0.9) == found(0.9) != found(0.8)


@pytest.mark.slow
def test_participants_run_the_ops_of_every_algorithm(cache_dir):
    tasks_of = {}
    for name, record in ALGORITHMS.items():
        values = {"data.dataset": "digits", "data.cache_dir": cache_dir, "model.config": TINY, "algorithm.name": name}
        if record.adds_adapters:
            values["model.trainable"] = "lora"
        elif name in ("fed_rep", "fed_babu", "fed_recon"):
            values |= {"model.personal": "head", "data.split": "within_client"}
        elif name == "fed_ex":
            values["algorithm.client_choices"] = {"client_learning_rate": [0.1, 0.2]}
        config = resolve(RunConfig.of(values))
        kind = config.model.trainable, config.model.personal
        if kind not in tasks_of:
            tasks_of[kind] = assemble.load_task(config, progress=False)
        task = tasks_of[kind]
        if kind == ("all", None) and name != "fed_avg":  # the Transformer's ops are the same with all of these
            task = tiny.linear_digits_task(task)
        process = Assembly.of_participant(config, task, 100).process
        assert form_digest.operations(RoundForm.of(process)) <= operations.KNOWN, name
