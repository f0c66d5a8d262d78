"""Run every installed simulator once while the image is built, so that what it compiles is compiled. Run by sim.Dockerfile."""

from pathlib import Path

from tendon.evaluate import sims
from tendon.evaluate.adapters import find_adapter
from tendon.evaluate.guest import check

for sim in sims.list_sims():
    requirements = find_adapter(sim.name).requirements
    if sim.installed and requirements.exists():
        lines = requirements.read_text(encoding="utf-8").splitlines()
        task = next(line.partition(":")[2].strip() for line in lines if line.startswith("# check:"))
        check(sim.name, task, Path(sim.interpreter))
