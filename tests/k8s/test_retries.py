"""The retry rule, evaluated over nodes as Argo recorded them: a lost pod is tried again, a step that said no is not."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.k8s.rendering import K8S, load

NODES = json.loads(Path(__file__).with_name("recorded_argo_nodes.json").read_text(encoding="utf-8"))["nodes"]
PODS = [node for node in NODES if node["type"] == "Pod"]
WORDS = re.compile(r'\s*("[^"]*"|\|\||&&|==|!=|[()\[\],]|matches\b|contains\b|in\b|lastRetry\.\w+)')


class Rule:
    """The part of Argo's expression language that rules here use; anything else is an error."""

    def __init__(self, text):
        self.words, at = [], 0
        while at < len(text.rstrip()):
            word = WORDS.match(text, at)
            assert word, f"teach this file about {text[at:]!r}"
            self.words.append(word[1])
            at = word.end()

    def holds(self, node):
        """Whether a node with this outcome is tried again."""
        self.rest = list(self.words)
        self.known = {
            "lastRetry.status": node["phase"],
            "lastRetry.message": node["message"],
            "lastRetry.exitCode": node["exitCode"] or "-1",  # as Argo fills it in without one
        }
        value = self._either()
        assert not self.rest, self.rest
        return value

    def _either(self):
        value = self._both()
        while self.rest and self.rest[0] == "||":
            self.rest.pop(0)
            value = self._both() or value
        return value

    def _both(self):
        value = self._comparison()
        while self.rest and self.rest[0] == "&&":
            self.rest.pop(0)
            value = self._comparison() and value
        return value

    def _comparison(self):
        if self.rest[0] == "(":
            self.rest.pop(0)
            value = self._either()
            assert self.rest.pop(0) == ")"
            return value
        left, operator = self._text(), self.rest.pop(0)
        if operator == "in":
            return left in self._list()
        right = self._text()
        return {
            "==": left == right,
            "!=": left != right,
            "contains": right in left,
            "matches": operator == "matches" and bool(re.search(right, left)),
        }[operator]

    def _list(self):
        assert self.rest.pop(0) == "["
        values = [self._text()]
        while self.rest.pop(0) == ",":
            values.append(self._text())
        return values

    def _text(self):
        word = self.rest.pop(0)
        return word[1:-1] if word.startswith('"') else self.known[word]


def strategy():
    (made,) = load(K8S / "retries" / "workflow-controller.yaml")
    return yaml.safe_load(made["data"]["workflowDefaults"])["spec"]["templateDefaults"]["retryStrategy"]


def recorded(message):
    (node,) = [node for node in PODS if node["message"] == message]
    return node


AGAIN = ("pod deleted", "main: Error (exit code 143)")
NEVER = (
    "main: Error (exit code 1)",  # a typo, broken data, and 75 alike
    "main: OOMKilled (exit code 1)",
    "Pod was active on the node longer than the specified deadline",  # its exit code is 143 too
    "Step exceeded its deadline",
)


def test_the_rule_is_asked_about_every_end():
    assert strategy()["retryPolicy"] == "Always"
    assert set(AGAIN + NEVER) == {node["message"] for node in PODS}, "each recorded end of a pod is decided here"


@pytest.mark.parametrize("message", AGAIN)
def test_a_lost_or_stopped_pod_is_tried_again(message):
    assert Rule(strategy()["expression"]).holds(recorded(message))


@pytest.mark.parametrize("message", NEVER)
def test_what_would_repeat_itself_is_not(message):
    assert not Rule(strategy()["expression"]).holds(recorded(message))


@pytest.mark.parametrize(
    ("message", "again"),
    [
        ("The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. ", True),
        ("Pod was terminated in response to imminent node shutdown.", True),
        ("Pod was rejected as the node is shutting down.", True),
        ("Preempted in order to admit critical pod", True),
        ('Usage of EmptyDir volume "shared-memory" exceeds the limit "8Gi". ', False),
        ("main: OOMKilled (exit code 137)", False),
    ],
)
def test_pods_that_the_node_ended(message, again):
    """Read in the sources of the kubelet, whose message Argo takes over; not recorded."""
    node = {"phase": "Failed", "message": message, "exitCode": "137"}
    assert Rule(strategy()["expression"]).holds(node) is again


def test_a_rule_on_exit_codes_never_held():
    """What stood here before: of all recorded nodes it saw only the lost pod, which the stock settings retry, and the stopped ones."""
    before = Rule('lastRetry.status == "Error" || lastRetry.exitCode in ["75", "137", "143", "4"]')
    assert {node["message"] for node in PODS if before.holds(node)} == {
        "pod deleted",
        "main: Error (exit code 143)",
        "Pod was active on the node longer than the specified deadline",
    }


def test_the_evaluator_knows_its_language():
    node = {"phase": "Failed", "message": "a (b)", "exitCode": None}
    for text, holds in {
        'lastRetry.message contains "(b" && lastRetry.status != "Error"': True,
        '(lastRetry.status == "Error" || lastRetry.exitCode in ["-1"]) && lastRetry.message matches "^a"': True,
        'lastRetry.status == "Error" || lastRetry.message matches "^b"': False,
    }.items():
        assert Rule(text).holds(node) is holds
    with pytest.raises(AssertionError, match="teach"):
        Rule("lastRetry.status < 1")
