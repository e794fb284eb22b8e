"""From a stack's outputs to a Chalice stage."""

import json
from pathlib import Path
from typing import Any

import pytest

from chalicelib.errors import SettingsError
from infrastructure import stage as stages
from infrastructure.stage import (
    PROJECT,
    TEMPLATE,
    configure,
    services_of,
    stack_name,
    stage_config,
)

OUTPUTS = {
    "UploadsBucket": "originals",
    "WorkQueueUrl": "https://sqs.example/work",
    "WebhookQueueUrl": "https://sqs.example/webhooks",
    "RoleApiHandler": "arn:aws:iam::1:role/api",
    "RoleHandleUpload": "arn:aws:iam::1:role/upload",
}
CONFIG: dict[str, Any] = {
    "version": "2.0",
    "app_name": "image-pipeline",
    "lambda_functions": {"process_images": {"lambda_timeout": 60}},
    "stages": {
        "dev": {
            "api_gateway_stage": "v1",
            "environment_variables": {"MAX_SIDE": "5", "UPLOADS_BUCKET": "of last time"},
            "lambda_functions": {"api_handler": {"lambda_memory_size": 256}},
        },
        "prod": {"api_gateway_stage": "prod"},
    },
}


def test_outputs_become_variables_and_roles_by_their_names() -> None:
    """``WorkQueueUrl`` is WORK_QUEUE_URL of all, ``RoleApiHandler`` the role of api_handler."""
    assert stage_config(OUTPUTS) == {
        "environment_variables": {
            "UPLOADS_BUCKET": "originals",
            "WORK_QUEUE_URL": "https://sqs.example/work",
            "WEBHOOK_QUEUE_URL": "https://sqs.example/webhooks",
        },
        "lambda_functions": {
            "api_handler": {"iam_role_arn": "arn:aws:iam::1:role/api"},
            "handle_upload": {"iam_role_arn": "arn:aws:iam::1:role/upload"},
        },
    }


def test_outputs_that_are_no_settings_are_for_whoever_deploys() -> None:
    """Functions get no variable that nobody reads; Lambda takes 4 KB of them in all."""
    others = {"DeploymentsBucket": "state", "DashboardName": "pipeline"}

    assert stage_config(OUTPUTS | others) == stage_config(OUTPUTS)


def test_stage_keeps_what_it_says_of_itself() -> None:
    """Variables and memory set by hand stay; what the stack knows is as the stack has it now."""
    stage = configure(CONFIG, "dev", OUTPUTS)["stages"]["dev"]

    assert stage == {
        "api_gateway_stage": "v1",
        "tags": {"image-pipeline-stage": "dev"},
        "environment_variables": {
            "MAX_SIDE": "5",
            "UPLOADS_BUCKET": "originals",
            "WORK_QUEUE_URL": "https://sqs.example/work",
            "WEBHOOK_QUEUE_URL": "https://sqs.example/webhooks",
        },
        "lambda_functions": {
            "api_handler": {
                "lambda_memory_size": 256,
                "iam_role_arn": "arn:aws:iam::1:role/api",
            },
            "handle_upload": {"iam_role_arn": "arn:aws:iam::1:role/upload"},
        },
    }


def test_other_stages_and_the_input_are_left_alone() -> None:
    """Configuring one stage is no reason to touch another."""
    before = json.dumps(CONFIG)

    configured = configure(CONFIG, "dev", OUTPUTS)

    assert json.dumps(CONFIG) == before
    assert configured["stages"]["prod"] == CONFIG["stages"]["prod"]
    assert {name: value for name, value in configured.items() if name != "stages"} == {
        name: value for name, value in CONFIG.items() if name != "stages"
    }


def test_new_stage_needs_no_entry() -> None:
    """A stage that nobody has written down is made of the stack alone, its API under its name."""
    configured = configure({"version": "2.0"}, "mine", OUTPUTS)

    own = {"api_gateway_stage": "mine", "tags": {"image-pipeline-stage": "mine"}}
    assert configured["stages"] == {"mine": own | stage_config(OUTPUTS)}


def test_configuring_twice_changes_nothing_more() -> None:
    """The command may be run after every change of the stack."""
    once = configure(CONFIG, "dev", OUTPUTS)

    assert configure(once, "dev", OUTPUTS) == once


def test_pool_that_is_gone_is_forgotten() -> None:
    """The stack tells of one only while the API asks for its users."""
    pool = {"UserPoolArn": "arn:pool", "UserPoolClientId": "client"}
    asking = configure(CONFIG, "dev", OUTPUTS | pool)
    variables = asking["stages"]["dev"]["environment_variables"]
    assert (variables["USER_POOL_ARN"], variables["USER_POOL_CLIENT_ID"]) == ("arn:pool", "client")

    assert configure(asking, "dev", OUTPUTS) == configure(CONFIG, "dev", OUTPUTS)
    assert configure(asking, "dev", OUTPUTS | pool) == asking


def test_paths_and_names_are_those_of_the_project() -> None:
    """The template is where the deployment looks for it, and stacks are named by stage."""
    assert TEMPLATE.is_file()
    assert (PROJECT / ".chalice" / "config.json").is_file()
    assert stack_name("dev") == "image-pipeline-dev"


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project whose stage ``dev`` is configured with a few outputs."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps(configure(CONFIG, "dev", OUTPUTS)))
    monkeypatch.setattr(stages, "CONFIG", config)


@pytest.mark.usefixtures("configured")
def test_tools_work_with_the_services_of_a_stage() -> None:
    """What the stage says of itself goes before the environment, which has the rest."""
    settings = services_of("dev").settings

    assert settings.uploads_bucket == "originals"
    assert settings.work_queue_url == "https://sqs.example/work"
    assert settings.max_side == 5
    assert settings.renditions_bucket == "renditions"


@pytest.mark.usefixtures("configured")
def test_stage_that_is_not_configured_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of another stage is taken for it, and what is missing has a name."""
    monkeypatch.delenv("UPLOADS_BUCKET")
    monkeypatch.delenv("TOPIC_ARN")

    with pytest.raises(SettingsError, match=r"UPLOADS_BUCKET.*TOPIC_ARN"):
        services_of("prod")
    with pytest.raises(SettingsError, match="missing: TOPIC_ARN"):
        services_of("dev")
