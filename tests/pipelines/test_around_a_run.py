"""What surrounds a run: what is left when it ends, who is told, and whose champion stays."""

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import pytest

from tendon import steps
from tendon.errors import ConfigError, DataError
from tendon.evaluate.confidence import Outcomes
from tendon.evaluate.table import Evaluation
from tendon.registry import confirmation, promotion
from tendon.registry.champion import read_champion
from tendon.registry.gate import Contender, decide
from tendon.registry.protocol import protocol_of_run
from tendon.runs.plan import load_plan
from tendon.runs.planner import MOST_PER_POD
from tendon.runs.webhook import WEBHOOK
from tendon.storage import join, open_store
from tests.conftest import make_lift_like_hdf5
from tests.runs.test_endings import end_well

GIVEN = {"dataset_name": "demos", "champion": "best"}


def planned(source, store, job="j1", **more):
    arguments = {
        "source_uri": str(source),
        "store_uri": str(store),
        "config": "experiment=reach_bc" if "://" in str(source) else "policy=bc env=lift",
        "sweep": [],
        "episodes": 50,
        "confirm_episodes": 50,
        "promote": True,
        "job_id": job,
        **GIVEN,
        **more,
    }
    return steps.plan(**arguments)


def finish(store, state="FAILED", job="j1", **more):
    return steps.finish(job_id=job, store_uri=str(store), state=state, **more)


# --------------------------------------------------------------------------------------------------------------- the end


@pytest.fixture
def webhook(monkeypatch):
    got = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words):
            pass

        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{server.server_address[1]}/hush-hush")
    yield got
    server.shutdown()


def test_a_run_that_ended_early_leaves_a_page_and_tells_who_wants_to_know(tmp_path, webhook):
    run = planned("demo://reach?episodes=4&seed=1", tmp_path)
    ended = finish(tmp_path, error="task train failed: <b>", link="http://ui/run")
    page = open_store(str(tmp_path)).read("jobs/j1/report.html").decode()
    assert page == ended.html
    assert "The run was stopped" in page
    assert "&lt;b&gt;" in page
    (told,) = webhook
    assert told["text"] == "tendon: the run was stopped"
    assert (told["ending"], told["run"], told["link"]) == ("stopped", run.run_uri, "http://ui/run")
    assert told["report"] == ended.report_uri
    end_well(run.run_uri)
    finish(tmp_path)
    assert len(webhook) == 1, "nobody asked to be told of success"
    assert finish(tmp_path, notify_when="always").notified
    assert webhook[1]["ending"] == "succeeded"
    planned("demo://reach?episodes=4&seed=1", tmp_path, "j2")
    finish(tmp_path, job="j2")
    assert len(webhook) == 2, "nor that there was nothing to do"
    assert not finish(tmp_path, job="unknown", notify_when="never").notified


def test_the_page_of_a_failed_run_says_what_failed_where_its_log_is_and_what_to_do(tmp_path, webhook, monkeypatch):
    source, store = make_lift_like_hdf5(tmp_path / "demos.hdf5"), tmp_path / "store"
    with h5py.File(source, "r+") as file:
        file["data/demo_1/actions"][2, 3] = float("nan")
    run = planned(source, store)
    given = {"source_uri": str(source), "source_digest": run.source_digest, "store_uri": str(store)}
    for worker in ("0/2", "1/2"):
        monkeypatch.setenv("TENDON_LOG", f"/logs/{worker}.txt")
        with pytest.raises(DataError):
            steps.convert(**given, dataset_name="demos", worker=worker)
    page = finish(store, "FAILED", error="task convert failed").html
    assert "convert 0/2, convert 1/2" in page
    assert "failed at convert 0/2: action is not finite in demo_1" in page
    assert page.count('<pre class="error">error: ') == 1, "what both said is shown once"
    for words in ("where: ", "fix:", "/logs/0/2.txt", "tendon convert", "Repair or leave out the data"):
        assert words in page
    assert "Eight questions" not in page
    assert (webhook[0]["ending"], webhook[0]["error"][:7]) == ("failed", "error: ")
    later = planned(source, store, "j2")
    assert "No step left a message" in finish(store, job="j2").html, "what an earlier attempt said is over"
    assert later.run_uri == run.run_uri


def test_the_page_of_a_run_that_could_not_be_planned_has_the_four_lines(tmp_path, webhook):
    with pytest.raises(ConfigError):
        planned("demo://reach?episodes=4&seed=1", tmp_path, config="experiment=reach_bc training.learning_rate=1")
    ended = finish(tmp_path, "FAILED", error="plan failed")
    page = open_store(str(tmp_path)).read("jobs/j1/report.html").decode()
    assert (ended.html, ended.report_uri) == (page, str(tmp_path / "jobs/j1/report.html"))
    assert "before anything was planned" in page
    assert "training.learning_rate" in page
    assert "Change the parameters" in page


def test_a_trial_that_failed_is_on_the_page_of_a_run_that_never_selected(tmp_path):
    run = planned("demo://reach?episodes=4&seed=1", tmp_path, trial_retries=0)
    (group,) = run.groups
    (outcome,) = map(
        json.loads, steps.train_trials(run_uri=run.run_uri, trials=group, dataset_uri=str(tmp_path / "nothing"))
    )
    assert outcome["status"] == "failed"
    page = finish(tmp_path).html
    assert "The run was stopped." in page, "this trial stopped nobody"
    assert "No step left a message" in page
    assert f"<h3>train {group[0]}</h3>" in page
    assert "By hand" in page


def test_a_run_that_was_never_planned_has_a_page(tmp_path, webhook):
    assert "before anything was planned" in finish(tmp_path, job="unknown").html
    assert webhook[0]["ending"] == "never planned"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/hush-hush", "hush-hush", "http://[hush-hush"])
def test_a_webhook_that_does_not_answer_fails_nothing_and_is_in_no_log(tmp_path, monkeypatch, caplog, url):
    monkeypatch.setenv(WEBHOOK, url)
    ended = finish(tmp_path, job="unknown")
    assert not ended.notified
    assert "hush-hush" not in caplog.text + ended.html


def test_the_message_links_to_the_page_of_the_run(tmp_path, webhook, monkeypatch):
    finish(tmp_path, job="7f3a-1")
    monkeypatch.setenv("TENDON_UI_ENDPOINT", "https://kubeflow.lab/pipeline/")
    finish(tmp_path, job="7f3a-2")
    assert [message["link"] for message in webhook] == ["", "https://kubeflow.lab/pipeline/#/runs/details/7f3a-2"]


def test_a_job_id_cannot_leave_the_store(tmp_path):
    with pytest.raises(ConfigError):
        finish(tmp_path, job="../../x")


# -------------------------------------------------------------------------------------------------------- the challenger


def evaluation(digest, successes):
    rows = [{"seed": s, "status": "success" if s < successes else "failure", "steps": 9} for s in range(50)]
    summary = {"policy_digest": digest, "successes": successes, "n": 50, "crashed": 0, "block": "confirmation"}
    return Evaluation(f"/tables/{digest}", summary, tuple(rows), False)


def challenge(monkeypatch, run, store, digest, successes, champion=None):
    """Confirm and promote a run whose winner did ``successes`` of 50, beside what the champion did on the same seeds."""
    plan = load_plan(run.run_uri)
    own, other = evaluation(digest, successes), champion and evaluation(*champion)
    contender = lambda table: Contender(table.summary["policy_digest"], Outcomes.of(table.rows))  # noqa: E731
    found = confirmation.Confirmation(
        winner=plan.trials[0].name,
        winner_uri=own.uri,
        champion_uri=other.uri if other else "",
        champion_bundle_uri="",
        champion_etag=read_champion(open_store(str(store)), plan.champion, protocol_of_run(plan)).etag or "",
        champion_error="",
        verdict=decide(contender(own), contender(other) if other else None),
    )
    open_store(run.run_uri).write("confirmation.json", found.to_json().encode())
    monkeypatch.setattr(promotion, "load_evaluation", lambda uri: own)


def test_a_worse_challenger_is_not_promoted_and_a_better_one_is(tmp_path, monkeypatch):
    store = tmp_path / "store"
    first = planned("demo://reach?episodes=4&seed=1", store)
    challenge(monkeypatch, first, store, "aaaa", 40)
    assert steps.promote(run_uri=first.run_uri).promoted
    worse = planned("demo://reach?episodes=5&seed=1", store, "j2")
    challenge(monkeypatch, worse, store, "bbbb", 20, ("aaaa", 40))
    refused = steps.promote(run_uri=worse.run_uri)
    assert not refused.promoted
    task = protocol_of_run(load_plan(first.run_uri))
    assert read_champion(open_store(str(store)), "best", task).champion.policy_digest == "aaaa"
    better = planned("demo://reach?episodes=6&seed=1", store, "j3")
    challenge(monkeypatch, better, store, "cccc", 50, ("aaaa", 40))
    assert steps.promote(run_uri=better.run_uri).promoted
    now = read_champion(open_store(str(store)), "best", task).champion
    assert (now.policy_digest, now.history[0].policy_digest) == ("cccc", "aaaa")


def test_of_two_promotions_at_once_one_wins_and_nothing_is_lost(tmp_path, monkeypatch):
    store = tmp_path / "store"
    runs = [planned(f"demo://reach?episodes={n}&seed=1", store, f"j{n}") for n in (4, 5)]
    tables = {}
    for run, digest in zip(runs, ("aaaa", "bbbb"), strict=True):
        challenge(monkeypatch, run, store, digest, 45)
        tables[f"/tables/{digest}"] = evaluation(digest, 45)
    monkeypatch.setattr(promotion, "load_evaluation", tables.__getitem__)
    together, results = threading.Barrier(2), {}

    def promote(run):
        together.wait()
        results[run.run_uri] = steps.promote(run_uri=run.run_uri)

    threads = [threading.Thread(target=promote, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.promoted for result in results.values()) == [False, True]
    (lost,) = [result for result in results.values() if not result.promoted]
    assert "no longer the one it was compared with" in lost.reason
    champion = read_champion(open_store(str(store)), "best", protocol_of_run(load_plan(runs[0].run_uri))).champion
    assert results[champion.run_uri].promoted
    for run in runs:
        assert load_plan(run.run_uri)
        assert open_store(run.run_uri).head("confirmation.json")


# -------------------------------------------------------------------------------------------------------- between pods


def test_the_outcomes_of_the_largest_group_fit_into_one_argument():
    """The executor input is one word of a command line, 128 KiB at most; strings in it are escaped once more."""
    store = "s3://a-bucket-with-a-long-name/teams/manipulation/tendon"
    trial = steps.TrialOutcome(
        trial="policy_net_gmm_lr_0.000123456_seq_10_hidden_1024x1024_seed_3",
        run_key="0123456789abcdef",
        checkpoint_uri=join(store, "trials/0123456789abcdef/checkpoints/100000"),
        bundle_uri=join(store, "trials/0123456789abcdef/bundle"),
        evaluation_uri=join(store, "trials/0123456789abcdef/evaluations/selection-0123456789abcdef"),
        metrics={
            name: 0.1234567890123 for name in ("loss", "valid_loss", "success_rate", "episodes", "successes", "crashed")
        },
    )
    failed = replace(trial, status="failed", failed_step="evaluate", error='error: "x"\nwhere: y\n' * 200)
    for outcome in (trial, failed):
        words = json.dumps({"inputs": {"parameterValues": {"outcomes": [outcome.to_json()] * MOST_PER_POD}}})
        assert len(words) < 131_072, len(words) / MOST_PER_POD
        back = steps.TrialOutcome.from_json(outcome.to_json())
        assert back.metrics["loss"] == 0.123457
        assert back.trial == trial.trial
    assert back.error.startswith('error: "x"')
    assert len(back.error) > 100
