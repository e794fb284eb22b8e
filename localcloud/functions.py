"""``python -m localcloud.functions``: the app's functions and triggers onto the local cloud.

Chalice's own deployer reads them from the app and puts them there, with two differences to
``chalice deploy``: the package holds the app alone, since MiniStack's workers find the libraries
in this environment, and the REST API is left out, since Chalice's local server serves that.
"""

import importlib.util
import json
import os
import py_compile
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import boto3
from botocore.session import Session
from chalice.awsclient import TypedAWSClient
from chalice.cli.factory import CLIFactory
from chalice.config import Config, DeployedResources
from chalice.deploy import models
from chalice.deploy.appgraph import ApplicationGraphBuilder, DependencyBuilder
from chalice.deploy.deployer import (
    BaseDeployStep,
    BuildStage,
    Deployer,
    InjectDefaults,
    ResultsRecorder,
)
from chalice.deploy.executor import Executor
from chalice.deploy.planner import PlanStage, RemoteState
from chalice.deploy.sweeper import ResourceSweeper
from chalice.utils import UI, OSUtils, serialize_to_json

from chalicelib.aws.queue import WorkQueue
from infrastructure.destinations import set_destinations
from infrastructure.stage import PROJECT, configure

STAGE = "local"
ACTIVE_TIMEOUT_S = 60


class LocalFactory(CLIFactory):
    """Loads the project with the stack's outputs in its local stage, as a deployed stage has."""

    def __init__(self, outputs: dict[str, str]) -> None:
        super().__init__(str(PROJECT), environ=os.environ)
        self._outputs = outputs

    def load_project_config(self) -> dict[str, Any]:
        return configure(super().load_project_config(), STAGE, self._outputs)


class TriggeredFunctions(ApplicationGraphBuilder):
    def build(self, config: Config, stage_name: str) -> models.Application:
        application = super().build(config, stage_name)
        application.resources = [
            resource
            for resource in application.resources
            if not isinstance(resource, models.RestAPI)
        ]
        return application


class AppOnlyPackage(BaseDeployStep):
    """Zips the app with its bytecode: compiling it anew would cost every worker a cold start."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def handle_deploymentpackage(self, _: Config, resource: models.DeploymentPackage) -> None:
        sources = [PROJECT / "app.py", *sorted((PROJECT / "chalicelib").rglob("*"))]
        with zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED) as package:
            for source in sources:
                if source.is_file() and "__pycache__" not in source.parts:
                    package.write(source, source.relative_to(PROJECT))
                if source.suffix == ".py":
                    self._add_bytecode(package, source)
        resource.filename = str(self._path)

    def _add_bytecode(self, package: zipfile.ZipFile, source: Path) -> None:
        cached = Path(importlib.util.cache_from_source(str(source.relative_to(PROJECT))))
        compiled = self._path.with_suffix(".pyc")
        # Unchecked, because unpacking gives every source a new time of modification.
        py_compile.compile(
            str(source),
            cfile=str(compiled),
            dfile=str(source.relative_to(PROJECT)),
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        package.write(compiled, cached)
        compiled.unlink()


class QuickClient(TypedAWSClient):
    """Waits for all functions together at the end, and not five seconds for each."""

    pending: set[str]

    def _wait_for_active(self, function_name: str) -> None:
        self.pending.add(function_name)

    def _wait_for_function_update(self, function_name: str) -> None:
        self.pending.add(function_name)

    def wait_for_all(self) -> None:
        deadline = time.monotonic() + ACTIVE_TIMEOUT_S
        while self.pending and time.monotonic() < deadline:
            for name in list(self.pending):
                state = self.get_function_configuration(name)
                if state["State"] == "Active" and state["LastUpdateStatus"] == "Successful":
                    self.pending.remove(name)
            time.sleep(0.02)


class Recorder(ResultsRecorder):
    """Keeps what is deployed beside the cloud's state, which a restart finds again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record_results(self, results: Any, *_: Any) -> None:
        self._path.write_text(serialize_to_json(results))

    def read(self) -> DeployedResources:
        recorded = json.loads(self._path.read_text()) if self._path.exists() else {"resources": []}
        return DeployedResources(recorded)


class Quiet(UI):
    def write(self, *_: Any) -> None:
        pass


def deploy(outputs: dict[str, str], state: Path) -> None:
    """Create or update every function and trigger that the app declares."""
    config = LocalFactory(outputs).create_config_obj(STAGE)
    client = QuickClient(Session())
    client.pending = set()
    recorder = Recorder(state / "deployed.json")
    osutils = OSUtils()
    Deployer(
        application_builder=TriggeredFunctions(),
        deps_builder=DependencyBuilder(),
        build_stage=BuildStage([InjectDefaults(), AppOnlyPackage(state / "functions.zip")]),
        plan_stage=PlanStage(osutils=osutils, remote_state=RemoteState(client, recorder.read())),
        sweeper=ResourceSweeper(),
        executor=Executor(client, Quiet()),
        recorder=recorder,
    ).deploy(config, STAGE)
    client.wait_for_all()
    set_destinations(config, WorkQueue(boto3.client("sqs"), outputs["WorkQueueUrl"]))


if __name__ == "__main__":
    state_folder = Path(sys.argv[1])
    deploy(json.loads((state_folder / "outputs.json").read_text()), state_folder)
