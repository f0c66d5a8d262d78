"""Every environment variable that is read: what the sources say, and what it means."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from docs.builder import MADE, ROOT, cell, code

SOURCES = (
    "src/tendon/**/*.py",
    "pipelines/**/*.py",
    "components/**/*.py",
    "docker/*.py",
    "docker/sims/*.py",
    "k8s/**/*.py",
)
USER, STORE, CLUSTER, PEERS, OURS = (
    "yours to set",
    "stores",
    "the cluster sets them",
    "other systems",
    "tendon sets them for its own processes",
)
MEANING = {
    "AWS_ACCESS_KEY_ID": (
        STORE,
        "key of the store; as every other setting of AWS it may come from a profile or a role instead",
    ),
    "AWS_SECRET_ACCESS_KEY": (STORE, "the secret that belongs to it"),
    "AWS_ENDPOINT_URL": (STORE, "a store that is not AWS: `https://minio.lab:9000`"),
    "AWS_ENDPOINT_URL_S3": (STORE, "the same for S3 alone; it counts before `AWS_ENDPOINT_URL`"),
    "AWS_CA_BUNDLE": (STORE, "certificates of the store"),
    "AWS_PROFILE": (STORE, "a profile of `~/.aws`; naming one is a choice, so the install's own keys are not used"),
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": (STORE, "credentials of a container, set by the cloud"),
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": (STORE, "the same"),
    "AWS_WEB_IDENTITY_TOKEN_FILE": (STORE, "credentials of a service account, set by the cloud"),
    "TENDON_STOCK_ACCESS_KEY": (CLUSTER, "key of the install's own store, from the secret `mlpipeline-minio-artifact`"),
    "TENDON_STOCK_SECRET_KEY": (CLUSTER, "the secret that belongs to it"),
    "TENDON_STORE_URI": (USER, "where names of runs, trials, datasets and champions are looked for"),
    "TENDON_WEIGHTS_CACHE": (
        USER,
        "where large base weights are kept on this machine; default `~/.cache/tendon/weights`",
    ),
    "XDG_CACHE_HOME": (USER, "where simulators, recorded demonstrations and cached steps are kept; default `~/.cache`"),
    "MUJOCO_GL": (USER, "how MuJoCo draws: `egl`, `osmesa` or `glfw`; default: the first that works"),
    "WANDB_API_KEY": (USER, "key of Weights & Biases; without one a run is written offline"),
    "WANDB_MODE": (USER, "`offline` or `disabled`, as Weights & Biases has it"),
    "NETRC": (USER, "where Weights & Biases looks for a key besides"),
    "NUMBA_CACHE_DIR": (USER, "in the sim image: where numba keeps what it compiled"),
    "PYTHONPATH": (USER, "of the steps: tendon itself is put before it"),
    "DISPLAY": (USER, "where there is one, `tendon submit open` opens a browser"),
    "WAYLAND_DISPLAY": (USER, "the same"),
    "BROWSER": (USER, "the same"),
    "KF_PIPELINES_ENDPOINT": (USER, "the Kubeflow that `tendon submit` and `tendon doctor` ask; `--host` says another"),
    "KF_PIPELINES_UI_ENDPOINT": (USER, "where its pages are, when that is elsewhere"),
    "KF_PIPELINES_TOKEN": (USER, "token for it"),
    "KF_PIPELINES_SA_TOKEN_PATH": (CLUSTER, "a file with a token"),
    "KF_PIPELINES_NAMESPACE": (USER, "where Kubeflow Pipelines is installed; default `kubeflow`"),
    "EXPERIMENT": (CLUSTER, "of the nightly CronJob: the experiment of its runs"),
    "NAMESPACE": (CLUSTER, "of the nightly CronJob: the namespace of its runs"),
    "SERVICE_ACCOUNT": (CLUSTER, "of the nightly CronJob: the service account of its runs"),
    "PIPELINE": (CLUSTER, "of the nightly CronJob: the published pipeline that it starts"),
    "TENDON_WEBHOOK_URL": (USER, "who is told how a run ended; in a cluster from the secret `tendon-notify`"),
    "TENDON_UI_ENDPOINT": (USER, "address of Kubeflow's pages, for the link in that message"),
    "PIP_CERT": (USER, "`make images`: certificates for pip"),
    "PIP_FIND_LINKS": (USER, "`make images`: a folder of wheels"),
    "PIP_INDEX_URL": (USER, "`make images`: another package index"),
    "PIP_EXTRA_INDEX_URL": (USER, "`make images`: one more"),
    "DATA_DIR": (PEERS, "`tendon lerobot train`: where datasets lie by their names, LeRobot's variable of 2024"),
    "HF_LEROBOT_HOME": (PEERS, "the same, LeRobot's variable of today"),
    "HF_HOME": (PEERS, "the hub's folder on this machine; read, nothing is fetched"),
    "HF_HUB_CACHE": (PEERS, "the hub's cache on this machine; read, nothing is fetched"),
    "HOSTNAME": (CLUSTER, "the pod or machine that made something, for its record"),
    "KFP_POD_NAME": (CLUSTER, "the same"),
    "KUBERNETES_SERVICE_HOST": (CLUSTER, "whether this is a pod, and where the API server is"),
    "KUBERNETES_SERVICE_PORT": (CLUSTER, "its port"),
    "SEAWEEDFS_SERVICE_HOST": (
        CLUSTER,
        "the install's own store; also `MINIO_SERVICE_SERVICE_HOST` and the ports beside them",
    ),
    "LOCAL_RANK": (CLUSTER, "torchrun's: which process of the node this is"),
    "RANK": (CLUSTER, "torchrun's: which of all processes"),
    "WORLD_SIZE": (CLUSTER, "torchrun's: how many processes there are"),
    "MASTER_ADDR": (CLUSTER, "torchrun's: where the first process is"),
    "MASTER_PORT": (CLUSTER, "torchrun's: its port"),
    "PET_NNODES": (CLUSTER, "Kubeflow Trainer's: how many nodes train"),
    "PET_NODE_RANK": (CLUSTER, "Kubeflow Trainer's: which one this is"),
    "PET_NPROC_PER_NODE": (CLUSTER, "Kubeflow Trainer's: processes of a node"),
    "PET_MASTER_ADDR": (CLUSTER, "Kubeflow Trainer's: where the first node is"),
    "PET_MASTER_PORT": (CLUSTER, "Kubeflow Trainer's: its port"),
    "CUDA_VISIBLE_DEVICES": (CLUSTER, "how many GPUs a step has, for what it took"),
    "NVIDIA_VISIBLE_DEVICES": (CLUSTER, "the same, where the other one is not set"),
    "TENDON_COMMIT": (OURS, "the git commit of what runs, for the record; the images set it"),
    "_ARGCOMPLETE": (OURS, "a shell sets it while it completes a command line"),
    "TENDON_IMAGE": (OURS, "which image a step runs in; it stands in every record"),
    "TENDON_LOG": (OURS, "where a step keeps its log, for the page of a run that failed"),
    "PYTHONUNBUFFERED": (OURS, "what a step or a simulator prints is written at once, also by one that is a fork"),
    "TENDON_FORK_SERVER": (OURS, "the folder of the servers that steps and simulators are forks of, while a run lasts"),
    "TENDON_PAUSE_AT_STEP": (OURS, "a training ends at this step, as a sweep that stops early asks"),
    "TENDON_PIPELINE_ROOT": (OURS, "where the artifacts of the run go"),
    "TENDON_TERMINATION_LOG": (OURS, "where a node of a training writes why it ended"),
    "TENDON_TORCHRUN": (OURS, "the launcher of a training on several nodes"),
    "TENDON_TRAIN_JOB": (OURS, "the folder in which processes of one training meet"),
    "TENDON_TRUST": (OURS, "sha256s of Python files that may run; `--trust` sets it"),
    "_KFP_RUNTIME": (OURS, "set while a component runs, as kfp's own runner does"),
}


def read_variables() -> dict[str, list[str]]:
    """Every name that the sources read from the environment, and the files that do; names that are computed are refused."""
    trees = {
        path: ast.parse(path.read_text(encoding="utf-8")) for pattern in SOURCES for path in sorted(ROOT.glob(pattern))
    }
    constants: dict[str, set[str]] = {}
    for tree in trees.values():
        for name, values in _constants(tree):
            constants.setdefault(name, set()).update(values)
    found: dict[str, list[str]] = {}
    for path, tree in trees.items():
        own = dict(_constants(tree))
        for key in _asked(tree):
            for name in _names(key, own, constants, parents_of(tree)):
                places = found.setdefault(name, [])
                place = path.relative_to(ROOT).as_posix()
                if place not in places:
                    places.append(place)
    return found


def parents_of(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    """Every node and the one that it is part of."""
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def _constants(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Module constants that hold texts."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = (
                    node.value.elts
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
                    else [node.value] * len(names)
                )
                for name, value in zip(names, values, strict=True):
                    texts = [
                        one.value
                        for one in ast.walk(value)
                        if isinstance(one, ast.Constant) and isinstance(one.value, str)
                    ]
                    is_text = isinstance(value, (ast.Constant, ast.Tuple, ast.List, ast.Dict))
                    if isinstance(name, ast.Name) and texts and is_text:
                        if isinstance(value, ast.Dict):
                            texts = [one.value for one in value.keys if isinstance(one, ast.Constant)]
                        yield name.id, texts


def _asked(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            of_environ = isinstance(node.func.value, ast.Attribute) and node.func.value.attr == "environ"
            if (of_environ and node.func.attr in ("get", "pop", "setdefault")) or node.func.attr == "getenv":
                yield node.args[0]
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "environ":
            yield node.slice
        elif isinstance(node, ast.Compare) and any(
            isinstance(one, ast.Attribute) and one.attr == "environ" for one in node.comparators
        ):
            yield node.left


def _names(
    key: ast.expr, own: dict[str, list[str]], constants: dict[str, set[str]], parents: dict[ast.AST, ast.AST]
) -> list[str]:
    if isinstance(key, ast.Constant):
        return [str(key.value)]
    if isinstance(key, ast.JoinedStr):  # Kubernetes' variables of a service: one entry stands for them
        return ["SEAWEEDFS_SERVICE_HOST"]
    if isinstance(key, ast.Name):
        if key.id in own or key.id in constants:
            return sorted(own.get(key.id) or constants[key.id])
        node: ast.AST = key
        while node in parents:  # outwards, to the comprehension or loop whose variable it is
            node = parents[node]
            for loop in node.generators if hasattr(node, "generators") else [node] if isinstance(node, ast.For) else []:
                target = loop.target.elts[0] if isinstance(loop.target, ast.Tuple) else loop.target
                if isinstance(target, ast.Name) and target.id == key.id:
                    parts = list(ast.walk(loop.iter))
                    texts = [one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                    return [
                        *texts,
                        *(text for one in parts if isinstance(one, ast.Name) for text in own.get(one.id, [])),
                    ]
    raise ValueError(f"{ast.unparse(key)}: which variable is this?")


def page() -> str:
    """docs/reference/environment.md."""
    lines = ["# Environment variables", "", MADE, ""]
    lines += [
        "Settings are keys of the configuration and flags; variables hold secrets, addresses and what a cluster tells."
    ]
    for group in dict.fromkeys(group for group, _ in MEANING.values()):
        lines += ["", f"## {group[0].upper()}{group[1:]}", "", "| variable | what it is |", "|---|---|"]
        lines += [f"| {code(name)} | {cell(about)} |" for name, (of, about) in sorted(MEANING.items()) if of == group]
    return "\n".join(lines) + "\n"
